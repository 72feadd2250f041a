//! Schedules in the five fields of cron.
//!
//! As POSIX and the common cron have them: lists, ranges, steps after a range or `*`, names of months and of days of the
//! week in English, Sunday as 0 or 7. When both the day of the month and the day of the week are given, and neither begins
//! with `*`, either is enough. What other programs add (`L`, `W`, `#`, `?`, seconds, years, `@daily`) is refused.

use super::pattern::{Days, MonthDays, Pattern, Weekdays};

/// One of the five fields.
struct Field {
    name: &'static str,
    lowest: u8,
    highest: u8,
    /// Names of its values from the first of them on.
    names: &'static [&'static str],
    first_name: u8,
}

const MONTHS: [&str; 12] = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

const FIELDS: [Field; 5] = [
    Field { name: "minute", lowest: 0, highest: 59, names: &[], first_name: 0 },
    Field { name: "hour", lowest: 0, highest: 23, names: &[], first_name: 0 },
    Field { name: "day of month", lowest: 1, highest: 31, names: &[], first_name: 0 },
    Field { name: "month", lowest: 1, highest: 12, names: &MONTHS, first_name: 1 },
    Field { name: "day of week", lowest: 0, highest: 7, names: &WEEKDAYS, first_name: 0 },
];

/// Days of 28 years, which hold every meeting of a date and a day of the week.
const CYCLE: usize = 28 * 366;

/// Reads a schedule.
///
/// # Errors
/// Names the field and what is wrong with it.
pub(super) fn parse(text: &str) -> Result<Pattern, String> {
    if text.trim_start().starts_with('@') {
        return Err(format!("`{}` is not supported: write five fields, such as 0 9 * * MON-FRI", text.trim()));
    }
    let words: Vec<&str> = text.split_whitespace().collect();
    let &[minute, hour, month_day, month, weekday] = words.as_slice() else {
        return Err(format!(
            "{} fields where there must be five: minute, hour, day of month, month, day of week, such as 0 9 * * MON-FRI",
            words.len()
        ));
    };
    let words = [minute, hour, month_day, month, weekday];
    let mut sets = [0_u64; 5];
    for ((set, field), word) in sets.iter_mut().zip(&FIELDS).zip(words) {
        *set = field.read(word)?;
    }
    let [minutes, hours, month_days, months, weekdays] = sets;
    let times = bits(hours).flat_map(|hour| bits(minutes).map(move |minute| hour * 60 + minute)).collect();
    let weekdays = u8::try_from((weekdays | weekdays >> 7) & 0x7f).unwrap_or_default();
    let pattern = Pattern {
        days: Days {
            months: (month != "*").then(|| u16::try_from(months).unwrap_or_default()),
            of_month: (month_day != "*")
                .then(|| MonthDays { first: u32::try_from(month_days).unwrap_or_default(), last: 0 }),
            weekdays: (weekday != "*").then(|| Weekdays { each: weekdays, nth: Vec::new() }),
            either: !month_day.starts_with('*') && !weekday.starts_with('*'),
        },
        times,
        every_hour: hours == 0xff_ffff,
        every: None,
        from: None,
        until: None,
    };
    let any_leap_year = jiff::civil::Date::constant(2024, 1, 1);
    if pattern.walk(any_leap_year, CYCLE).next().is_none() {
        return Err(format!("`{month_day} {month}` is a day that no year has"));
    }
    Ok(pattern)
}

fn bits(set: u64) -> impl Iterator<Item = u16> {
    (0..64).filter(move |bit| set & (1 << bit) != 0)
}

impl Field {
    /// The values of a field as a set of bits.
    fn read(&self, text: &str) -> Result<u64, String> {
        text.split(',')
            .try_fold(0, |set, part| Ok(set | self.part(part)?))
            .map_err(|why: String| format!("{}: {why}", self.name))
    }

    fn part(&self, text: &str) -> Result<u64, String> {
        let (range, step) = match text.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (text, None),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (self.lowest, self.highest.min(if self.names.len() == 7 { 6 } else { u8::MAX })),
            Some((from, to)) => (self.value(from)?, self.value(to)?),
            None if step.is_some() => {
                return Err(format!(
                    "a step needs a range or *: write {range}-{}/{}",
                    self.highest,
                    step.unwrap_or("")
                ));
            }
            None => {
                let value = self.value(range)?;
                (value, value)
            }
        };
        // A week that ends on Sunday.
        let to = if self.names.len() == 7 && to == 0 && from > 0 { 7 } else { to };
        if from > to {
            return Err(format!("{range} runs backwards: write {from}-{},{}-{to}", self.highest, self.lowest));
        }
        let step = match step.map(str::parse::<u8>) {
            None => 1,
            Some(Ok(step)) if step > 0 && step <= self.highest => step,
            Some(_) => return Err(format!("`{text}`: a step is a number from 1 to {}", self.highest)),
        };
        Ok((from..=to).step_by(step.into()).fold(0, |set, value| set | 1 << value))
    }

    fn value(&self, text: &str) -> Result<u8, String> {
        let named = self.names.iter().position(|name| name.eq_ignore_ascii_case(text));
        if let Some(named) = named.and_then(|place| u8::try_from(place).ok()) {
            return Ok(named + self.first_name);
        }
        let digits = !text.is_empty() && text.len() <= 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        let value = digits.then(|| text.parse::<u8>().ok()).flatten();
        value.filter(|value| (self.lowest..=self.highest).contains(value)).ok_or_else(|| {
            let names = match self.names {
                [first, .., last] => format!(", or a name from {first} to {last}"),
                _ => String::new(),
            };
            format!("`{text}` is not a number from {} to {}{names}", self.lowest, self.highest)
        })
    }
}
