//! What people write, when that is by the wall's clock, and a second opinion minute by minute.

use jiff::{SignedDuration, Timestamp, civil::DateTime, tz::TimeZone};
use proptest::prelude::*;

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn spec(action: Action, starts: &str, zone: &str, hours: u64) -> WindowSpec {
    let is_rule = starts.contains('=');
    WindowSpec {
        name: None,
        action,
        schedule: (!is_rule).then(|| starts.to_owned()),
        recurrence: is_rule.then(|| starts.to_owned()),
        time_zone: zone.to_owned(),
        duration: Duration::from_hours(hours),
    }
}

fn window(action: Action, starts: &str, zone: &str, hours: u64) -> Window {
    Window::parse(&spec(action, starts, zone, hours)).unwrap_or_else(|error| panic!("{starts}: {error}"))
}

/// The first starts after an instant, by the clock of the zone.
fn starts(text: &str, zone: &str, after: &str, number: usize) -> Vec<String> {
    let window = window(Action::Allow, text, zone, 1);
    let mut from = at(after);
    let far = from + SignedDuration::from_hours(24 * 366 * 6);
    let mut found = Vec::new();
    while found.len() < number {
        let Some(start) = window.pattern.next(&window.zone, from, far) else { break };
        found.push(window.zone.to_datetime(start).strftime("%Y-%m-%d %H:%M").to_string());
        from = start;
    }
    found
}

#[test]
fn windows_begin_when_they_say() {
    #[rustfmt::skip]
    let cases: [(&str, &[&str]); 36] = [
        // Cron; the first of January 2026 is a Thursday.
        ("0 9 * * MON-FRI", &["2026-01-01 09:00", "2026-01-02 09:00", "2026-01-05 09:00"]),
        ("30 8,20 * * *", &["2026-01-01 08:30", "2026-01-01 20:30", "2026-01-02 08:30"]),
        ("*/20 0-1 * * *", &["2026-01-01 00:20", "2026-01-01 00:40", "2026-01-01 01:00"]),
        ("0 0 13 * 5", &["2026-01-02 00:00", "2026-01-09 00:00", "2026-01-13 00:00"]),
        ("0 0 */2 * MON", &["2026-01-05 00:00", "2026-01-19 00:00", "2026-02-09 00:00"]),
        ("0 0 * jan sat-sun", &["2026-01-03 00:00", "2026-01-04 00:00", "2026-01-10 00:00"]),
        ("0 0 * * 7", &["2026-01-04 00:00", "2026-01-11 00:00"]),
        ("0 0 * * 0", &["2026-01-04 00:00", "2026-01-11 00:00"]),
        ("0 0 31 * *", &["2026-01-31 00:00", "2026-03-31 00:00", "2026-05-31 00:00"]),
        ("0 0 29 2 *", &["2028-02-29 00:00"]),
        ("0 12 1 1-12/6 *", &["2026-01-01 12:00", "2026-07-01 12:00"]),
        ("5-59/25 23 31 12 *", &["2026-12-31 23:05", "2026-12-31 23:30", "2026-12-31 23:55", "2027-12-31 23:05"]),
        // Recurrence.
        ("FREQ=DAILY", &["2026-01-02 00:00", "2026-01-03 00:00"]),
        ("RRULE:FREQ=DAILY;BYHOUR=9,21;BYMINUTE=30", &["2026-01-01 09:30", "2026-01-01 21:30"]),
        ("FREQ=WEEKLY;BYDAY=MO,TU;BYHOUR=9", &["2026-01-05 09:00", "2026-01-06 09:00", "2026-01-12 09:00"]),
        ("FREQ=HOURLY;BYMINUTE=15;BYDAY=FR", &["2026-01-02 00:15", "2026-01-02 01:15"]),
        ("FREQ=HOURLY;BYHOUR=9,10", &["2026-01-01 09:00", "2026-01-01 10:00", "2026-01-02 09:00"]),
        ("FREQ=MONTHLY;BYMONTHDAY=-1", &["2026-01-31 00:00", "2026-02-28 00:00", "2026-03-31 00:00"]),
        ("FREQ=MONTHLY;BYDAY=1MO,-1FR;BYHOUR=6", &["2026-01-05 06:00", "2026-01-30 06:00", "2026-02-02 06:00"]),
        ("FREQ=MONTHLY;BYDAY=5SA", &["2026-01-31 00:00", "2026-05-30 00:00"]),
        ("FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13", &["2026-02-13 00:00", "2026-03-13 00:00", "2026-11-13 00:00"]),
        ("FREQ=YEARLY;BYMONTH=11;BYDAY=4TH", &["2026-11-26 00:00", "2027-11-25 00:00"]),
        ("FREQ=YEARLY;BYMONTH=12;BYMONTHDAY=24", &["2026-12-24 00:00", "2027-12-24 00:00"]),
        ("FREQ=DAILY;BYMONTH=2;BYMONTHDAY=29", &["2028-02-29 00:00"]),
        ("DTSTART:20260107T083000\nRRULE:FREQ=WEEKLY", &["2026-01-07 08:30", "2026-01-14 08:30"]),
        ("DTSTART:20260107T083000\nFREQ=WEEKLY;INTERVAL=2;BYDAY=MO,WE", &["2026-01-07 08:30", "2026-01-19 08:30", "2026-01-21 08:30"]),
        ("DTSTART:20260104\nFREQ=WEEKLY;INTERVAL=2;BYDAY=SU,MO;WKST=MO", &["2026-01-04 00:00", "2026-01-12 00:00", "2026-01-18 00:00"]),
        ("DTSTART:20260104\nFREQ=WEEKLY;INTERVAL=2;BYDAY=SU,MO;WKST=SU", &["2026-01-04 00:00", "2026-01-05 00:00", "2026-01-18 00:00"]),
        ("DTSTART:20251231T220000\nFREQ=DAILY;INTERVAL=3", &["2026-01-03 22:00", "2026-01-06 22:00"]),
        ("DTSTART:20260101T230000\nFREQ=HOURLY;INTERVAL=5", &["2026-01-01 23:00", "2026-01-02 04:00", "2026-01-02 09:00"]),
        ("DTSTART:20260131\nFREQ=MONTHLY;INTERVAL=2", &["2026-01-31 00:00", "2026-03-31 00:00", "2026-05-31 00:00"]),
        ("DTSTART:20240229T120000\nFREQ=YEARLY;INTERVAL=4", &["2028-02-29 12:00"]),
        ("DTSTART:20260102\nFREQ=DAILY;COUNT=3;BYDAY=MO,FR", &["2026-01-02 00:00", "2026-01-05 00:00", "2026-01-09 00:00"]),
        ("FREQ=DAILY;UNTIL=20260103", &["2026-01-02 00:00", "2026-01-03 00:00"]),
        ("FREQ=DAILY;UNTIL=20260103T000000", &["2026-01-02 00:00", "2026-01-03 00:00"]),
        ("FREQ=DAILY;UNTIL=20260102T235959Z", &["2026-01-02 00:00"]),
    ];
    for (text, want) in cases {
        // One more than wanted, where no more may come.
        let bounded = ["COUNT", "UNTIL"].iter().any(|word| text.contains(word));
        let found = starts(text, "UTC", "2026-01-01T00:00:00Z", want.len() + usize::from(bounded));
        assert_eq!(found, want, "{text}");
    }
}

#[test]
fn what_is_not_supported_is_refused_by_its_name() {
    #[rustfmt::skip]
    let cases = [
        ("0 9 * *", "schedule", "4 fields where there must be five"),
        ("0 0 9 * * MON", "schedule", "6 fields where there must be five"),
        ("@daily", "schedule", "`@daily` is not supported"),
        ("60 9 * * *", "schedule", "minute: `60` is not a number from 0 to 59"),
        ("0 24 * * *", "schedule", "hour: `24`"),
        ("0 9 0 * *", "schedule", "day of month: `0` is not a number from 1 to 31"),
        ("0 9 L * *", "schedule", "day of month: `L`"),
        ("0 9 15W * *", "schedule", "day of month: `15W`"),
        ("0 9 ? * MON", "schedule", "day of month: `?`"),
        ("0 9 * 13 *", "schedule", "month: `13` is not a number from 1 to 12, or a name from JAN to DEC"),
        ("0 9 * MAI *", "schedule", "month: `MAI`"),
        ("0 9 * * 8", "schedule", "day of week: `8` is not a number from 0 to 7, or a name from SUN to SAT"),
        ("0 9 * * MON#1", "schedule", "day of week: `MON#1`"),
        ("0 22-2 * * *", "schedule", "hour: 22-2 runs backwards: write 22-23,0-2"),
        ("5/15 * * * *", "schedule", "minute: a step needs a range or *: write 5-59/15"),
        ("*/0 * * * *", "schedule", "minute: `*/0`: a step is a number from 1 to 59"),
        ("*/x * * * *", "schedule", "minute: `*/x`: a step"),
        ("1,,2 * * * *", "schedule", "minute: `` is not a number"),
        ("-1 9 * * *", "schedule", "minute: `` is not a number"),
        ("+1 9 * * *", "schedule", "minute: `+1` is not a number"),
        ("0 9 31 2 *", "schedule", "`31 2` is a day that no year has"),
        ("COUNT=3", "recurrence", "FREQ is missing"),
        ("FREQ=MINUTELY", "recurrence", "FREQ: `MINUTELY` is not supported"),
        ("FREQ=DAILY;FREQ=DAILY", "recurrence", "FREQ is given twice"),
        ("FREQ=DAILY;BYSETPOS=1", "recurrence", "BYSETPOS: it is not supported"),
        ("FREQ=YEARLY;BYWEEKNO=1", "recurrence", "BYWEEKNO: it is not supported"),
        ("FREQ=DAILY;BYSECOND=30", "recurrence", "BYSECOND: windows begin at whole minutes"),
        ("FREQ=DAILY;X-MINE=1", "recurrence", "X-MINE: there is no such part"),
        ("FREQ=DAILY;BYHOUR", "recurrence", "`BYHOUR` is no part of a rule"),
        ("FREQ=DAILY;BYHOUR=24", "recurrence", "BYHOUR: `24` is not a number from 0 to 23"),
        ("FREQ=DAILY;BYHOUR=", "recurrence", "BYHOUR: ``"),
        ("FREQ=DAILY;INTERVAL=2", "recurrence", "INTERVAL above 1 counts from DTSTART"),
        ("FREQ=DAILY;COUNT=2", "recurrence", "COUNT counts from DTSTART"),
        ("DTSTART:20260101\nFREQ=DAILY;COUNT=2;UNTIL=20260105", "recurrence", "COUNT and UNTIL exclude each other"),
        ("FREQ=DAILY;UNTIL=tomorrow", "recurrence", "UNTIL: `tomorrow` is no time"),
        ("FREQ=DAILY;UNTIL=20260230", "recurrence", "UNTIL: `20260230` is no time"),
        ("FREQ=WEEKLY;BYHOUR=9", "recurrence", "FREQ=WEEKLY needs BYDAY"),
        ("FREQ=WEEKLY;BYDAY=1MO", "recurrence", "BYDAY: an nth day such as 1MO needs FREQ=MONTHLY"),
        ("FREQ=YEARLY;BYDAY=1MO", "recurrence", "BYDAY: an nth day such as 1MO needs FREQ=MONTHLY"),
        ("FREQ=WEEKLY;BYMONTHDAY=1;BYDAY=MO", "recurrence", "BYMONTHDAY does not go with FREQ=WEEKLY"),
        ("FREQ=WEEKLY;BYDAY=MON", "recurrence", "BYDAY: `MON` is no day of the week"),
        ("FREQ=MONTHLY;BYDAY=0MO", "recurrence", "BYDAY: `0MO`"),
        ("FREQ=MONTHLY", "recurrence", "FREQ=MONTHLY needs BYMONTHDAY or BYDAY"),
        ("FREQ=MONTHLY;BYMONTHDAY=0", "recurrence", "BYMONTHDAY: days are counted from 1"),
        ("FREQ=YEARLY;BYMONTH=1", "recurrence", "FREQ=YEARLY needs"),
        ("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", "recurrence", "a day that no year has"),
        ("DTSTART:20260101T090030\nFREQ=DAILY", "recurrence", "DTSTART: windows begin at whole minutes"),
        ("DTSTART;TZID=Europe/Paris:20260101T090000\nFREQ=DAILY", "recurrence", "DTSTART is in Europe/Paris and timeZone is UTC"),
        ("DTSTART=20260101\nFREQ=DAILY", "recurrence", "DTSTART: write a line such as"),
        ("FREQ=DAILY\nEXDATE:20260101T090000", "recurrence", "EXDATE is not supported"),
        ("FREQ=DAILY\nFREQ=DAILY", "recurrence", "there must be one rule"),
        ("DTSTART=", "recurrence", "DTSTART: write a line"),
        ("DTSTART:20260101\n=", "recurrence", ""),
    ];
    for (text, field, says) in cases {
        let error = Window::parse(&spec(Action::Allow, text, "UTC", 1)).expect_err(text);
        assert_eq!(error.field, field, "{text}: {error}");
        assert!(error.why.contains(says), "{text}: {error}");
    }
}

#[test]
fn a_window_needs_a_zone_a_time_and_one_way_to_begin() {
    let good = spec(Action::Allow, "0 9 * * *", "Europe/Berlin", 8);
    assert!(Window::parse(&good).is_ok());
    let wrong = |spec: WindowSpec| Window::parse(&spec).unwrap_err().field;
    assert_eq!(wrong(WindowSpec { time_zone: "CEST+1".into(), ..good.clone() }), "timeZone");
    assert_eq!(wrong(WindowSpec { time_zone: "../../etc/passwd".into(), ..good.clone() }), "timeZone");
    assert_eq!(wrong(WindowSpec { time_zone: String::new(), ..good.clone() }), "timeZone");
    assert_eq!(wrong(WindowSpec { duration: Duration::ZERO, ..good.clone() }), "duration");
    assert_eq!(wrong(WindowSpec { duration: Duration::from_hours(745), ..good.clone() }), "duration");
    assert_eq!(wrong(WindowSpec { recurrence: Some("FREQ=DAILY".into()), ..good.clone() }), "schedule");
    assert_eq!(wrong(WindowSpec { schedule: None, ..good }), "schedule");
}

/// In Berlin, 2026-03-29 has no time from two to three, and 2026-10-25 has it twice.
#[test]
fn clocks_that_jump_neither_lose_nor_double_a_start() {
    #[rustfmt::skip]
    let cases: [(&str, &str, &str, &[&str]); 8] = [
        ("the skipped start comes as much later", "30 2 * * *", "2026-03-28T12:00:00Z", &["2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"]),
        ("the start before", "30 1 * * *", "2026-03-28T12:00:00Z", &["2026-03-29T00:30:00Z", "2026-03-29T23:30:00Z"]),
        ("and the one after keep the wall's time", "30 3 * * *", "2026-03-28T12:00:00Z", &["2026-03-29T01:30:00Z", "2026-03-30T01:30:00Z"]),
        ("every hour skips none of the clock's own", "0 * * * *", "2026-03-28T23:30:00Z", &["2026-03-29T00:00:00Z", "2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z"]),
        ("what comes twice counts the first time", "30 2 * * *", "2026-10-24T12:00:00Z", &["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]),
        ("every hour counts both", "0 * * * *", "2026-10-24T23:30:00Z", &["2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z"]),
        ("so does FREQ=HOURLY", "FREQ=HOURLY", "2026-10-24T23:30:00Z", &["2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z"]),
        ("and a rule follows the wall's clock", "FREQ=DAILY;BYHOUR=9", "2026-10-24T12:00:00Z", &["2026-10-25T08:00:00Z", "2026-10-26T08:00:00Z"]),
    ];
    for (name, text, after, want) in cases {
        let window = window(Action::Allow, text, "Europe/Berlin", 1);
        let mut from = at(after);
        for want in want {
            let start = window.pattern.next(&window.zone, from, from + SignedDuration::from_hours(72)).unwrap();
            assert_eq!(start, at(want), "{name}");
            from = start;
        }
    }
    // Eight hours are eight hours, whatever the clock does meanwhile.
    let night = [window(Action::Allow, "0 22 * * *", "Europe/Berlin", 8)];
    let closes = |now: &str| match opening(&night, at(now)) {
        Opening::Open { until, .. } => until.unwrap(),
        other => panic!("{now}: {other:?}"),
    };
    assert_eq!(closes("2026-03-28T21:00:00Z"), at("2026-03-29T05:00:00Z"), "seven by the clock");
    assert_eq!(closes("2026-10-24T20:00:00Z"), at("2026-10-25T04:00:00Z"), "five by the clock");
}

#[test]
fn deny_wins_and_without_allow_the_rest_is_allowed() {
    let office = || window(Action::Allow, "0 9 * * MON-FRI", "UTC", 8);
    let lunch = || window(Action::Deny, "0 12 * * *", "UTC", 1);
    let freeze = || window(Action::Deny, "0 0 20 12 *", "UTC", 14 * 24);
    #[rustfmt::skip]
    let cases: [(&str, Vec<Window>, &str, Option<&str>); 11] = [
        ("nothing is declared", vec![], "2026-01-05T03:00:00Z", None),
        ("in the office", vec![office()], "2026-01-05T09:00:00Z", None),
        ("before it", vec![office()], "2026-01-05T03:00:00Z", Some("2026-01-05T09:00:00Z")),
        ("its end is closed", vec![office()], "2026-01-05T17:00:00Z", Some("2026-01-06T09:00:00Z")),
        ("a week-end", vec![office()], "2026-01-09T17:00:00Z", Some("2026-01-12T09:00:00Z")),
        ("lunch wins", vec![office(), lunch()], "2026-01-05T12:30:00Z", Some("2026-01-05T13:00:00Z")),
        ("lunch on a Sunday", vec![office(), lunch()], "2026-01-04T12:30:00Z", Some("2026-01-05T09:00:00Z")),
        ("lunch alone", vec![lunch()], "2026-01-04T12:30:00Z", Some("2026-01-04T13:00:00Z")),
        ("before lunch alone", vec![lunch()], "2026-01-04T11:59:59Z", None),
        ("a freeze over the year's end", vec![office(), lunch(), freeze()], "2026-12-21T10:00:00Z", Some("2027-01-04T09:00:00Z")),
        ("two of one time", vec![office(), office(), lunch(), lunch()], "2026-01-05T12:00:00Z", Some("2026-01-05T13:00:00Z")),
    ];
    for (name, windows, now, want) in cases {
        let found = opening(&windows, at(now));
        match want {
            None => assert!(matches!(found, Opening::Open { .. }), "{name}: {found:?}"),
            Some(want) => {
                assert!(matches!(found, Opening::Closed { opens, .. } if opens == at(want)), "{name}: {found:?}");
            }
        }
    }
}

#[test]
fn what_never_opens_is_said_so() {
    let always = |action, text: &str| window(action, text, "UTC", 24);
    let never = |windows: &[Window]| {
        let now = at("2026-01-05T12:30:00Z");
        match opening(windows, now) {
            Opening::Never { searched } => searched.duration_since(now).as_hours() / 24,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(never(&[always(Action::Deny, "0 0 * * *")]), 366, "denied on every day");
    assert_eq!(never(&[always(Action::Allow, "FREQ=DAILY;UNTIL=20251231")]), 366, "its last day was long ago");
    let both = [always(Action::Allow, "0 9 * * *"), always(Action::Deny, "0 9 * * *")];
    assert_eq!(never(&both), 366, "denied whenever it is allowed");
    // A window of a minute in each minute: the search ends, and says how far it came.
    let minutes = WindowSpec { duration: Duration::from_mins(1), ..spec(Action::Deny, "* * * * *", "UTC", 1) };
    assert!((1..366).contains(&never(&[Window::parse(&minutes).unwrap()])));
    // The leap day of 2028 is more than a year away.
    assert_eq!(never(&[always(Action::Allow, "0 0 29 2 *")]), 366);
}

#[test]
fn an_open_window_says_when_it_closes() {
    let until = |windows: &[Window], now: &str| match opening(windows, at(now)) {
        Opening::Open { until, by } => (until, by.map(ToString::to_string)),
        other => panic!("{now}: {other:?}"),
    };
    let office = || window(Action::Allow, "0 9 * * MON-FRI", "UTC", 8);
    let evening = || window(Action::Allow, "0 16 * * *", "UTC", 4);
    let lunch = || window(Action::Deny, "0 12 * * *", "UTC", 1);
    let monday = "2026-01-05T10:00:00Z";
    let by_office = Some("allow window 0 9 * * MON-FRI (UTC)".to_owned());
    assert_eq!(until(&[office()], monday), (Some(at("2026-01-05T17:00:00Z")), by_office.clone()));
    assert_eq!(until(&[office(), evening()], monday).0, Some(at("2026-01-05T20:00:00Z")), "one after the other");
    assert_eq!(until(&[office(), lunch()], monday), (Some(at("2026-01-05T12:00:00Z")), by_office));
    assert_eq!(until(&[lunch()], monday), (Some(at("2026-01-05T12:00:00Z")), None));
    assert_eq!(until(&[], monday), (None, None));
    let always = window(Action::Allow, "0 0 * * *", "UTC", 24);
    assert_eq!(until(&[always], monday).0, None, "it does not close for as far as is looked");
}

/// What begins, told from the wall's clock of each minute alone.
#[derive(Debug)]
struct Wall {
    minutes: Vec<u8>,
    hours: Vec<u8>,
    weekdays: Vec<u8>,
    every_hour: bool,
    zone: TimeZone,
    duration: Duration,
}

impl Wall {
    fn shows(&self, clock: DateTime) -> bool {
        let weekday = clock.date().weekday().to_sunday_zero_offset().unsigned_abs();
        let part = |value: i8| value.unsigned_abs();
        self.minutes.contains(&part(clock.minute()))
            && self.hours.contains(&part(clock.hour()))
            && self.weekdays.contains(&weekday)
    }

    fn begins(&self, at: Timestamp) -> bool {
        let clock = |at: Timestamp| self.zone.to_datetime(at);
        let before = |minutes: i64| clock(at - SignedDuration::from_mins(minutes));
        let now = clock(at);
        if now.duration_since(before(180)) == SignedDuration::from_mins(180) {
            return self.shows(now);
        }
        // The clock was changed in the last three hours.
        let again = || (1..=180).any(|minutes| before(minutes) == now);
        if self.shows(now) && (self.every_hour || !again()) {
            return true;
        }
        // A time that the clock skipped less than a jump ago, moved by the jump.
        (0..180).any(|minutes| {
            let (landed, left) = (before(minutes), before(minutes + 1));
            let jump = landed.duration_since(left) - SignedDuration::from_mins(1);
            jump > SignedDuration::from_mins(minutes) && self.shows(now - jump)
        })
    }

    fn is_open(&self, at: Timestamp) -> bool {
        let minutes = i64::try_from(self.duration.as_secs() / 60).unwrap();
        (0..minutes).any(|ago| self.begins(at - SignedDuration::from_mins(ago)))
    }
}

prop_compose! {
    fn windows()(
        deny: bool,
        minutes in prop::sample::subsequence((0..60_u8).collect::<Vec<_>>(), 1..3),
        hours in prop_oneof![
            3 => prop::sample::subsequence((0..24_u8).collect::<Vec<_>>(), 1..4),
            1 => Just((0..24_u8).collect::<Vec<_>>()),
        ],
        weekdays in prop::sample::subsequence((0..7_u8).collect::<Vec<_>>(), 1..7),
        // Lord Howe Island changes its clocks by half an hour, Kathmandu is off by 5:45, Santiago jumps at midnight.
        zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "America/Santiago"]),
        length in prop_oneof![Just(1_u64), 5..90_u64, 90..600_u64],
    ) -> (Window, Wall, bool) {
        let list = |values: &[u8]| values.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let schedule = format!("{} {} * * {}", list(&minutes), list(&hours), list(&weekdays));
        let action = if deny { Action::Deny } else { Action::Allow };
        let duration = Duration::from_mins(length);
        let window = Window::parse(&WindowSpec { duration, ..spec(action, &schedule, zone, 1) }).unwrap();
        let every_hour = hours.len() == 24;
        let zone = super::zone(zone).unwrap();
        (window, Wall { minutes, hours, weekdays, every_hour, zone, duration }, deny)
    }
}

/// Instants around which some clock is changed, and others.
fn instants() -> impl Strategy<Value = Timestamp> {
    let changes = [
        "2026-03-29T01:00:00Z",
        "2026-10-25T01:00:00Z",
        "2026-03-08T07:00:00Z",
        "2026-11-01T06:00:00Z",
        "2026-04-04T15:00:00Z",
        "2026-10-03T15:30:00Z",
        "2026-04-05T03:00:00Z",
        "2026-09-06T04:00:00Z",
        "2026-06-15T12:00:00Z",
        "2024-02-29T00:00:00Z",
        "2026-12-31T23:00:00Z",
    ];
    (prop::sample::select(changes.to_vec()), -1_500..1_500_i64)
        .prop_map(|(change, minutes)| at(change) + SignedDuration::from_mins(minutes))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Windows open when a scan of the wall's clock, minute by minute, says so; and not a minute earlier or later.
    #[test]
    fn a_scan_of_each_minute_agrees(all in prop::collection::vec(windows(), 1..4), now in instants()) {
        let allowed = |at: Timestamp| {
            let open = |deny: bool| all.iter().any(|(_, wall, denies)| *denies == deny && wall.is_open(at));
            let any_allow = all.iter().any(|(_, _, denies)| !denies);
            !open(true) && (!any_allow || open(false))
        };
        let windows: Vec<Window> = all.iter().map(|(window, ..)| window.clone()).collect();
        // Further than two hours a scan takes too long; a window that opens later stays closed until then.
        let span = SignedDuration::from_hours(2);
        let minutes = |until: Timestamp| {
            (0..).map(|minute| now + SignedDuration::from_mins(minute)).take_while(move |at| *at < until)
        };
        match opening(&windows, now) {
            Opening::Open { until, by } => {
                prop_assert!(allowed(now));
                prop_assert_eq!(by.is_some(), all.iter().any(|(_, _, denies)| !denies));
                for at in minutes(until.unwrap_or(now + span).min(now + span)) {
                    prop_assert!(allowed(at), "closed at {at}, before {until:?}");
                }
                if let Some(until) = until {
                    prop_assert!(!allowed(until), "still open at {until}");
                }
            }
            Opening::Closed { opens, .. } => {
                prop_assert!(opens > now);
                prop_assert!(allowed(opens), "closed at {opens}");
                for at in minutes(opens.min(now + span)) {
                    prop_assert!(!allowed(at), "open at {at}, before {opens}");
                }
                prop_assert!(!allowed(opens - SignedDuration::from_mins(1)), "open the minute before {opens}");
            }
            Opening::Never { .. } => prop_assert!(!allowed(now)),
        }
    }

    /// Nothing that anybody writes stops the reader.
    #[test]
    fn any_text_is_read_or_refused(text in "[0-9*/,A-Za-z=;:+T \n-]{0,60}") {
        for starts in [Some(text.clone()), None] {
            let recurrence = starts.is_none().then(|| text.clone());
            let spec = WindowSpec { schedule: starts, recurrence, ..spec(Action::Deny, "x", "UTC", 1) };
            if let Err(error) = Window::parse(&spec) {
                prop_assert!(!error.why.is_empty());
            }
        }
    }
}
