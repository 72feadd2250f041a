//! Starts by the clock on the wall, and the instants that they are.

use std::borrow::Cow;

use jiff::{
    SignedDuration, Timestamp,
    civil::{Date, DateTime, Time},
    tz::{Disambiguation, TimeZone},
};

/// Minutes of a day.
const DAY: u16 = 24 * 60;

/// Days and times at which something begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    /// Which days.
    pub days: Days,
    /// Minutes of the day, ascending and without repetition; at least one.
    pub times: Vec<u16>,
    /// It begins in every hour, so an hour that comes twice counts twice.
    pub every_hour: bool,
    /// Only each so many, counted from an anchor.
    pub every: Option<Every>,
    /// Not before.
    pub from: Option<DateTime>,
    /// Not after.
    pub until: Option<DateTime>,
}

/// Which days of a year.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Days {
    /// Bit 1 is January; none means every month.
    pub months: Option<u16>,
    /// Which days of the month; none means every day.
    pub of_month: Option<MonthDays>,
    /// Which days of the week; none means every day.
    pub weekdays: Option<Weekdays>,
    /// One of `of_month` and `weekdays` is enough.
    pub either: bool,
}

/// Days of a month, counted from its beginning or its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct MonthDays {
    /// Bit 1 is the first.
    pub first: u32,
    /// Bit 1 is the last.
    pub last: u32,
}

/// Days of a week, each or only the nth of a month.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Weekdays {
    /// Bit 0 is Sunday.
    pub each: u8,
    /// The nth Sunday (0) to Saturday (6) of a month, from its end when negative.
    pub nth: Vec<(i8, u8)>,
}

/// Only each so many of a unit, counted from that of the anchor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Every {
    /// The unit.
    pub unit: Unit,
    /// How many, at least 2.
    pub interval: i64,
    /// Where counting begins.
    pub anchor: DateTime,
    /// The day on which a week begins; 0 is Sunday.
    pub week_start: i64,
}

/// What an interval counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Year,
    Month,
    Week,
    Day,
    Hour,
}

impl Pattern {
    /// The last start at or before an instant, and after another.
    pub(super) fn latest(&self, zone: &TimeZone, at: Timestamp, after: Timestamp) -> Option<Timestamp> {
        let mut day = zone.to_datetime(at).date();
        // Where a clock jumps at midnight, a start of the evening may be an instant of the next day.
        let first = zone.to_datetime(after).date().yesterday().ok()?;
        while day >= first {
            if let Some(start) = self.instants(zone, day, |starts| last_at_or_before(starts, at)) {
                return Some(start).filter(|start| *start > after);
            }
            day = day.yesterday().ok()?;
        }
        None
    }

    /// The first start after an instant, and not after another.
    pub(super) fn next(&self, zone: &TimeZone, after: Timestamp, before: Timestamp) -> Option<Timestamp> {
        let mut day = zone.to_datetime(after).date();
        let last = zone.to_datetime(before).date();
        while day <= last {
            if let Some(start) = self.instants(zone, day, |starts| first_after(starts, after)) {
                return Some(start).filter(|start| *start <= before);
            }
            day = day.tomorrow().ok()?;
        }
        None
    }

    /// The starts of one day, handed to whoever picks one of them.
    fn instants(
        &self,
        zone: &TimeZone,
        day: Date,
        pick: impl Fn(&Starts<'_>) -> Option<Timestamp>,
    ) -> Option<Timestamp> {
        if !self.is_on(day) {
            return None;
        }
        let times = self.times_of(day);
        if times.is_empty() {
            return None;
        }
        let midnight = zone.to_timestamp(day.into()).ok()?;
        let next = zone.to_timestamp(day.tomorrow().ok()?.into()).ok()?;
        if next.duration_since(midnight) == SignedDuration::from_hours(24) {
            return pick(&Starts::Regular(midnight, &times));
        }
        let mut starts: Vec<Timestamp> = Vec::new();
        for minute in times.iter() {
            let ambiguous = zone.to_ambiguous_timestamp(clock(day, *minute));
            let fold = ambiguous.is_ambiguous();
            starts.extend(ambiguous.disambiguate(Disambiguation::Compatible).ok());
            if fold && self.every_hour {
                starts.extend(ambiguous.disambiguate(Disambiguation::Later).ok());
            }
        }
        starts.sort_unstable();
        starts.dedup();
        pick(&Starts::Listed(&starts))
    }

    /// The times of a day that are within the bounds.
    fn times_of(&self, day: Date) -> Cow<'_, [u16]> {
        let within = |minute: &u16| {
            let at = clock(day, *minute);
            self.from.is_none_or(|from| from <= at)
                && self.until.is_none_or(|until| at <= until)
                && self.every.is_none_or(|every| every.counts_hour(at))
        };
        let whole = self.from.is_none_or(|from| from.date() < day)
            && self.until.is_none_or(|until| day < until.date())
            && self.every.is_none_or(|every| every.unit != Unit::Hour);
        if whole { Cow::Borrowed(&self.times) } else { self.times.iter().copied().filter(within).collect() }
    }

    /// Whether anything begins on a day.
    fn is_on(&self, day: Date) -> bool {
        self.from.is_none_or(|from| from.date() <= day)
            && self.until.is_none_or(|until| day <= until.date())
            && self.days.hold(day)
            && self.every.is_none_or(|every| every.counts_day(day))
    }

    /// The starts by the clock on the wall from a day on, for as many days.
    pub(super) fn walk(&self, from: Date, days: usize) -> impl Iterator<Item = DateTime> {
        let all = std::iter::successors(Some(from), |day| day.tomorrow().ok()).take(days);
        all.filter(|day| self.is_on(*day)).flat_map(|day| {
            let times = self.times_of(day).into_owned();
            times.into_iter().map(move |minute| clock(day, minute))
        })
    }
}

/// The starts of one day as instants, ascending.
enum Starts<'t> {
    /// Midnight, and minutes after it.
    Regular(Timestamp, &'t [u16]),
    /// Of a day on which the clock is changed.
    Listed(&'t [Timestamp]),
}

fn last_at_or_before(starts: &Starts<'_>, at: Timestamp) -> Option<Timestamp> {
    match starts {
        Starts::Listed(starts) => starts[..starts.partition_point(|start| *start <= at)].last().copied(),
        Starts::Regular(midnight, times) => {
            let minutes = at.duration_since(*midnight).as_secs().div_euclid(60);
            let passed = times.partition_point(|time| i64::from(*time) <= minutes);
            Some(instant(*midnight, *times[..passed].last()?))
        }
    }
}

fn first_after(starts: &Starts<'_>, after: Timestamp) -> Option<Timestamp> {
    match starts {
        Starts::Listed(starts) => starts.get(starts.partition_point(|start| *start <= after)).copied(),
        Starts::Regular(midnight, times) => {
            let passed = times.partition_point(|time| instant(*midnight, *time) <= after);
            Some(instant(*midnight, *times.get(passed)?))
        }
    }
}

fn instant(midnight: Timestamp, minute: u16) -> Timestamp {
    midnight.saturating_add(SignedDuration::from_mins(minute.into())).unwrap_or(Timestamp::MAX)
}

/// A minute of a day on the wall's clock.
fn clock(day: Date, minute: u16) -> DateTime {
    let minute = minute.min(DAY - 1);
    let (hour, minute) = (i8::try_from(minute / 60), i8::try_from(minute % 60));
    let time = Time::new(hour.unwrap_or_default(), minute.unwrap_or_default(), 0, 0);
    day.to_datetime(time.unwrap_or(Time::midnight()))
}

impl Days {
    fn hold(&self, day: Date) -> bool {
        let month = self.months.is_none_or(|months| months & (1 << day.month()) != 0);
        month
            && match (&self.of_month, &self.weekdays) {
                (None, None) => true,
                (Some(month_days), None) => month_days.hold(day),
                (None, Some(weekdays)) => weekdays.hold(day),
                (Some(month_days), Some(weekdays)) if self.either => month_days.hold(day) || weekdays.hold(day),
                (Some(month_days), Some(weekdays)) => month_days.hold(day) && weekdays.hold(day),
            }
    }
}

impl MonthDays {
    fn hold(self, day: Date) -> bool {
        let from_end = day.days_in_month() - day.day() + 1;
        self.first & (1 << day.day()) != 0 || self.last & (1 << from_end) != 0
    }
}

impl Weekdays {
    fn hold(&self, day: Date) -> bool {
        let weekday = weekday(day);
        let nth = (day.day() - 1) / 7 + 1;
        let nth_last = -((day.days_in_month() - day.day()) / 7 + 1);
        self.each & (1 << weekday) != 0
            || self.nth.iter().any(|(wanted, on)| *on == weekday && (*wanted == nth || *wanted == nth_last))
    }
}

impl Every {
    /// Whether the year, month, week or day of a day is among those that count.
    fn counts_day(self, day: Date) -> bool {
        let anchor = self.anchor.date();
        let passed = match self.unit {
            Unit::Year => i64::from(day.year()) - i64::from(anchor.year()),
            Unit::Month => months(day) - months(anchor),
            Unit::Week => self.week(day) - self.week(anchor),
            Unit::Day => days_between(anchor, day),
            Unit::Hour => return true,
        };
        passed.rem_euclid(self.interval) == 0
    }

    /// Whether an hour is among those that count.
    fn counts_hour(self, at: DateTime) -> bool {
        let hours = |at: DateTime| days_between(self.anchor.date(), at.date()) * 24 + i64::from(at.hour());
        self.unit != Unit::Hour || (hours(at) - hours(self.anchor)).rem_euclid(self.interval) == 0
    }

    /// The number of a week.
    fn week(self, day: Date) -> i64 {
        // The first day of the first year was a Monday.
        let since = days_between(Date::constant(1, 1, 1), day) + 1 - self.week_start;
        since.div_euclid(7)
    }
}

fn months(day: Date) -> i64 {
    i64::from(day.year()) * 12 + i64::from(day.month())
}

fn days_between(from: Date, to: Date) -> i64 {
    to.duration_since(from).as_hours() / 24
}

/// The day of the week; 0 is Sunday.
pub(super) fn weekday(day: Date) -> u8 {
    day.weekday().to_sunday_zero_offset().unsigned_abs()
}

/// The last minute of a day.
pub(super) fn end_of(day: Date) -> DateTime {
    day.to_datetime(Time::constant(23, 59, 59, 0))
}
