//! Recurrence rules of RFC 5545.
//!
//! `FREQ` from `HOURLY` to `YEARLY`, with `INTERVAL`, `COUNT`, `UNTIL`, `WKST`, `BYMONTH`, `BYMONTHDAY`, `BYDAY`, `BYHOUR`
//! and `BYMINUTE`. What counts from a beginning needs a `DTSTART` line; without one, hours and minutes that are not named
//! are 0. Everything else that the standard has is refused by its name. One rule differs: a start that the clock skips
//! counts later instead of not at all, because a deny window that vanishes is worse than one that is late.

use jiff::{
    Timestamp,
    civil::{Date, DateTime},
    tz::TimeZone,
};

use super::pattern::{Days, Every, MonthDays, Pattern, Unit, Weekdays, end_of, weekday};

const WEEKDAYS: [&str; 7] = ["SU", "MO", "TU", "WE", "TH", "FR", "SA"];

/// Most starts that `COUNT` may name.
const MAX_COUNT: usize = 10_000;
/// How far the last of them is searched for, in days.
const COUNTED: usize = 50 * 366;
/// As for schedules: 28 years hold every meeting of a date and a day of the week.
const CYCLE: usize = 28 * 366;

/// The parts of a rule as they are read.
#[derive(Debug, Default)]
struct Parts {
    freq: Option<Freq>,
    interval: Option<i64>,
    count: Option<usize>,
    until: Option<DateTime>,
    week_start: Option<u8>,
    months: Option<u16>,
    month_days: Option<MonthDays>,
    weekdays: Option<Weekdays>,
    hours: Option<u32>,
    minutes: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Freq {
    Yearly,
    Monthly,
    Weekly,
    Daily,
    Hourly,
}

/// Reads a rule, alone or after a `DTSTART` line.
///
/// # Errors
/// Names the part and what is wrong with it.
pub(super) fn parse(text: &str, zone_name: &str, zone: &TimeZone) -> Result<Pattern, String> {
    let (mut start, mut rule) = (None, None);
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let name = line.split([':', ';', '=']).next().unwrap_or_default().to_ascii_uppercase();
        let twice = match name.as_str() {
            "DTSTART" => start.replace(begin(line, zone_name, zone)?).is_some(),
            "RRULE" => rule.replace(line.get(6..).unwrap_or_default()).is_some(),
            "EXDATE" | "RDATE" | "EXRULE" | "DTEND" | "DURATION" => {
                return Err(format!("{name} is not supported: write another window, to allow or to deny"));
            }
            _ => rule.replace(line).is_some(),
        };
        if twice {
            return Err("there must be one rule, after one DTSTART at most".to_owned());
        }
    }
    let rule = rule.ok_or("there is no rule: write one such as FREQ=WEEKLY;BYDAY=MO,TU;BYHOUR=9")?;
    let mut parts = Parts::default();
    let mut seen: Vec<String> = Vec::new();
    for part in rule.trim_start_matches(':').split(';').filter(|part| !part.is_empty()) {
        let (name, value) =
            part.split_once('=').ok_or_else(|| format!("`{part}` is no part of a rule: parts are NAME=VALUE"))?;
        let name = name.trim().to_ascii_uppercase();
        if seen.contains(&name) {
            return Err(format!("{name} is given twice"));
        }
        parts.read(&name, value.trim(), zone).map_err(|why| format!("{name}: {why}"))?;
        seen.push(name);
    }
    parts.pattern(start)
}

impl Parts {
    fn read(&mut self, name: &str, value: &str, zone: &TimeZone) -> Result<(), String> {
        match name {
            "FREQ" => self.freq = Some(freq(value)?),
            "INTERVAL" => self.interval = Some(number(value, 1, 1_000)?),
            "COUNT" => {
                let most = i64::try_from(MAX_COUNT).unwrap_or(i64::MAX);
                self.count = usize::try_from(number(value, 1, most)?).ok();
            }
            "UNTIL" => self.until = Some(until(value, zone)?),
            "WKST" => self.week_start = Some(day(value)?),
            "BYMONTH" => self.months = Some(each(value, |text| Ok(1_u16 << number(text, 1, 12)?))?),
            "BYMONTHDAY" => {
                let mut days = MonthDays::default();
                for text in value.split(',') {
                    match number(text, -31, 31)? {
                        0 => return Err("days are counted from 1, and from the end of the month from -1".to_owned()),
                        first if first > 0 => days.first |= 1 << first,
                        last => days.last |= 1 << -last,
                    }
                }
                self.month_days = Some(days);
            }
            "BYDAY" => self.weekdays = Some(weekdays(value)?),
            "BYHOUR" => self.hours = Some(each(value, |text| Ok(1_u32 << number(text, 0, 23)?))?),
            "BYMINUTE" => self.minutes = Some(each(value, |text| Ok(1_u64 << number(text, 0, 59)?))?),
            "BYSECOND" if value == "0" => {}
            "BYSECOND" => return Err("windows begin at whole minutes: leave it out".to_owned()),
            "BYSETPOS" | "BYWEEKNO" | "BYYEARDAY" | "BYEASTER" | "RSCALE" | "SKIP" => {
                return Err("it is not supported: say it with BYMONTH, BYMONTHDAY and BYDAY".to_owned());
            }
            _ => return Err("there is no such part".to_owned()),
        }
        Ok(())
    }

    /// The pattern that a whole rule describes. Where the standard takes from `DTSTART` what a rule leaves out, and there is
    /// none, days are asked for and times are 0.
    fn pattern(self, start: Option<DateTime>) -> Result<Pattern, String> {
        let freq = self.freq.ok_or("FREQ is missing: YEARLY, MONTHLY, WEEKLY, DAILY or HOURLY")?;
        let interval = self.interval.unwrap_or(1);
        let counting = [("INTERVAL above 1", interval > 1), ("COUNT", self.count.is_some())];
        if let (None, Some((what, _))) = (start, counting.iter().find(|(_, given)| *given)) {
            return Err(format!(
                "{what} counts from DTSTART: put a line such as DTSTART:20260105T090000 before the rule"
            ));
        }
        if self.count.is_some() && self.until.is_some() {
            return Err("COUNT and UNTIL exclude each other: keep one of them".to_owned());
        }
        let days = self.days(freq, start)?;
        let minutes = self.minutes.unwrap_or_else(|| 1 << start.map_or(0, |start| start.minute()));
        let hours = match (self.hours, freq) {
            (Some(hours), _) => hours,
            (None, Freq::Hourly) => 0xff_ffff,
            (None, _) => 1 << start.map_or(0, |start| start.hour()),
        };
        let times = (0..24_u16).filter(|hour| hours & (1 << hour) != 0);
        let times =
            times.flat_map(|hour| (0..60).filter(|minute| minutes & (1 << minute) != 0).map(move |m| hour * 60 + m));
        let every = start.filter(|_| interval > 1).map(|anchor| Every {
            unit: freq.unit(),
            interval,
            anchor,
            week_start: self.week_start.unwrap_or(1).into(),
        });
        let mut pattern = Pattern {
            days,
            times: times.collect(),
            every_hour: freq == Freq::Hourly && hours == 0xff_ffff,
            every,
            from: start,
            until: self.until,
        };
        if let (Some(count), Some(start)) = (self.count, start) {
            // Fewer than that in so many years: nobody will see the last.
            let last = pattern.walk(start.date(), COUNTED).nth(count - 1);
            pattern.until = last;
        } else if pattern.every.is_none() && pattern.until.is_none() {
            let from = start.map_or(Date::constant(2024, 1, 1), DateTime::date);
            if pattern.walk(from, CYCLE).next().is_none() {
                return Err("its parts name a day that no year has".to_owned());
            }
        }
        Ok(pattern)
    }

    fn days(&self, freq: Freq, start: Option<DateTime>) -> Result<Days, String> {
        let mut days =
            Days { months: self.months, of_month: self.month_days, weekdays: self.weekdays.clone(), either: false };
        let ordinals = self.weekdays.as_ref().is_some_and(|weekdays| !weekdays.nth.is_empty());
        let in_month = freq == Freq::Monthly || freq == Freq::Yearly && self.months.is_some();
        if ordinals && !in_month {
            return Err("BYDAY: an nth day such as 1MO needs FREQ=MONTHLY, or FREQ=YEARLY with BYMONTH".to_owned());
        }
        if freq == Freq::Weekly && self.month_days.is_some() {
            return Err("BYMONTHDAY does not go with FREQ=WEEKLY: write FREQ=MONTHLY or FREQ=DAILY".to_owned());
        }
        let named = self.month_days.is_some() || self.weekdays.is_some();
        let missing = |what: &str| format!("{what}, or a DTSTART line that says when it begins");
        match (freq, start) {
            (Freq::Daily | Freq::Hourly, _) => {}
            _ if named => {}
            (Freq::Weekly, Some(start)) => {
                days.weekdays = Some(Weekdays { each: 1 << weekday(start.date()), nth: Vec::new() });
            }
            (Freq::Weekly, None) => return Err(missing("FREQ=WEEKLY needs BYDAY")),
            (Freq::Monthly, Some(start)) => days.of_month = Some(MonthDays { first: 1 << start.day(), last: 0 }),
            (Freq::Monthly, None) => return Err(missing("FREQ=MONTHLY needs BYMONTHDAY or BYDAY")),
            (Freq::Yearly, Some(start)) => {
                days.of_month = Some(MonthDays { first: 1 << start.day(), last: 0 });
                days.months = days.months.or(Some(1 << start.month()));
            }
            (Freq::Yearly, None) => return Err(missing("FREQ=YEARLY needs BYMONTH with BYMONTHDAY or BYDAY")),
        }
        Ok(days)
    }
}

impl Freq {
    fn unit(self) -> Unit {
        match self {
            Self::Yearly => Unit::Year,
            Self::Monthly => Unit::Month,
            Self::Weekly => Unit::Week,
            Self::Daily => Unit::Day,
            Self::Hourly => Unit::Hour,
        }
    }
}

fn freq(text: &str) -> Result<Freq, String> {
    match text.to_ascii_uppercase().as_str() {
        "YEARLY" => Ok(Freq::Yearly),
        "MONTHLY" => Ok(Freq::Monthly),
        "WEEKLY" => Ok(Freq::Weekly),
        "DAILY" => Ok(Freq::Daily),
        "HOURLY" => Ok(Freq::Hourly),
        _ => Err(format!("`{text}` is not supported: write YEARLY, MONTHLY, WEEKLY, DAILY or HOURLY")),
    }
}

/// The bits of each value of a list.
fn each<T: Default + std::ops::BitOrAssign>(text: &str, bit: impl Fn(&str) -> Result<T, String>) -> Result<T, String> {
    let mut all = T::default();
    for part in text.split(',') {
        all |= bit(part)?;
    }
    Ok(all)
}

fn number(text: &str, lowest: i64, highest: i64) -> Result<i64, String> {
    let digits = text.trim_start_matches(['+', '-']);
    let is_number = (1..=6).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    let value = text.parse().ok().filter(|value| is_number && (lowest..=highest).contains(value));
    value.ok_or_else(|| format!("`{text}` is not a number from {lowest} to {highest}"))
}

/// The day of the week; 0 is Sunday.
fn day(text: &str) -> Result<u8, String> {
    let place = WEEKDAYS.iter().position(|name| name.eq_ignore_ascii_case(text));
    place
        .and_then(|place| u8::try_from(place).ok())
        .ok_or_else(|| format!("`{text}` is no day of the week: write one of {}", WEEKDAYS.join(", ")))
}

fn weekdays(text: &str) -> Result<Weekdays, String> {
    let mut days = Weekdays::default();
    for part in text.split(',') {
        let letters = part.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(part.len());
        let (ordinal, name) = part.split_at(letters);
        let day = day(name)?;
        match ordinal {
            "" => days.each |= 1 << day,
            ordinal => match i8::try_from(number(ordinal, -5, 5)?) {
                Ok(nth) if nth != 0 => days.nth.push((nth, day)),
                _ => return Err(format!("`{part}`: the first is 1, and the last is -1")),
            },
        }
    }
    Ok(days)
}

/// `DTSTART:20260105T090000`, by the clock of the window's time zone.
fn begin(line: &str, zone_name: &str, zone: &TimeZone) -> Result<DateTime, String> {
    let (head, value) = line.split_once(':').ok_or("DTSTART: write a line such as DTSTART:20260105T090000")?;
    for parameter in head.split(';').skip(1) {
        match parameter.split_once('=') {
            Some((name, given)) if name.eq_ignore_ascii_case("TZID") && given == zone_name => {}
            Some((name, given)) if name.eq_ignore_ascii_case("TZID") => {
                return Err(format!("DTSTART is in {given} and timeZone is {zone_name}: write the same in both"));
            }
            Some((name, "DATE" | "DATE-TIME")) if name.eq_ignore_ascii_case("VALUE") => {}
            _ => return Err(format!("DTSTART: `{parameter}` is not supported")),
        }
    }
    let at = match moment(value).map_err(|why| format!("DTSTART: {why}"))? {
        Moment::Day(day) => day.into(),
        Moment::Clock(at) => at,
        Moment::Instant(at) => zone.to_datetime(at),
    };
    if at.second() != 0 {
        return Err("DTSTART: windows begin at whole minutes".to_owned());
    }
    Ok(at)
}

fn until(value: &str, zone: &TimeZone) -> Result<DateTime, String> {
    Ok(match moment(value)? {
        Moment::Day(day) => end_of(day),
        Moment::Clock(at) => at,
        Moment::Instant(at) => zone.to_datetime(at),
    })
}

/// A day, a time on the wall's clock, or an instant.
enum Moment {
    Day(Date),
    Clock(DateTime),
    Instant(Timestamp),
}

fn moment(text: &str) -> Result<Moment, String> {
    let wrong = || format!("`{text}` is no time: write 20260105, 20260105T090000 or 20260105T080000Z");
    let number = |from: usize, to: usize| {
        let digits = text.get(from..to).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
        digits.parse::<i16>().ok()
    };
    let small = |from: usize| number(from, from + 2).and_then(|value| i8::try_from(value).ok());
    let day = || Date::new(number(0, 4)?, small(4)?, small(6)?).ok();
    let clock = || {
        let time = jiff::civil::Time::new(small(9)?, small(11)?, small(13)?, 0).ok()?;
        Some(day()?.to_datetime(time))
    };
    let read = match (text.len(), text.get(8..9), text.get(15..)) {
        (8, ..) => day().map(Moment::Day),
        (15, Some("T"), _) => clock().map(Moment::Clock),
        (16, Some("T"), Some("Z")) => clock().and_then(|at| TimeZone::UTC.to_timestamp(at).ok()).map(Moment::Instant),
        _ => None,
    };
    read.ok_or_else(wrong)
}
