//! Spans of time as people write them: `30s`, `5m`, `1h30m`, `730d`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration as Span;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Units from the largest to the smallest, with their length in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// A span of time that is a string in JSON and YAML: whole numbers with the units `d`, `h`, `m`, `s` and `ms`,
/// added up. Kubernetes' own duration type knows no days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Duration {
    millis: u64,
}

/// Why a text is not a [`Duration`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a duration: write numbers with the units d, h, m, s or ms, such as 30s, 5m or 1h30m")]
pub struct DurationError(String);

impl Duration {
    /// A span of whole milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self { millis }
    }

    /// A span of whole seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self::from_millis(seconds.saturating_mul(1_000))
    }

    /// A span of whole minutes.
    pub const fn from_mins(minutes: u64) -> Self {
        Self::from_secs(minutes.saturating_mul(60))
    }

    /// A span of whole days of 24 hours.
    pub const fn from_days(days: u64) -> Self {
        Self::from_secs(days.saturating_mul(86_400))
    }

    /// The same span as the standard library's type.
    pub const fn as_std(self) -> Span {
        Span::from_millis(self.millis)
    }
}

impl From<Duration> for Span {
    fn from(duration: Duration) -> Self {
        duration.as_std()
    }
}

impl FromStr for Duration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).map(Self::from_millis).ok_or_else(|| DurationError(text.chars().take(40).collect()))
    }
}

/// The sum of the parts of `text` in milliseconds; `None` if a part is not understood or the sum is too large.
fn parse(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut sum = 0_u64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at(digits);
        let unit = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let (_, millis) = UNITS.iter().find(|(name, _)| *name == unit)?;
        sum = sum.checked_add(number.parse::<u64>().ok()?.checked_mul(*millis)?)?;
        rest = tail;
    }
    (!text.is_empty()).then_some(sum)
}

impl fmt::Display for Duration {
    /// Writes hours as the largest unit: the schema's rules know no days.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.millis == 0 {
            return f.write_str("0s");
        }
        let mut rest = self.millis;
        for (unit, millis) in &UNITS[1..] {
            let count = rest / millis;
            rest %= millis;
            if count > 0 {
                write!(f, "{count}{unit}")?;
            }
        }
        Ok(())
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl JsonSchema for Duration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    /// The pattern is in each field's rule, whose message also names the limits of that field.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "maxLength": 24})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_spans_agree() {
        let cases = [
            ("0s", 0, "0s"),
            ("500ms", 500, "500ms"),
            ("30s", 30_000, "30s"),
            ("90s", 90_000, "1m30s"),
            ("5m", 300_000, "5m"),
            ("1h30m", 5_400_000, "1h30m"),
            ("24h", 86_400_000, "24h"),
            ("1d", 86_400_000, "24h"),
            ("36h", 129_600_000, "36h"),
            ("730d", 730 * 86_400_000, "17520h"),
            ("1h1m1s1ms", 3_661_001, "1h1m1s1ms"),
        ];
        for (text, millis, shown) in cases {
            let parsed: Duration = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(parsed, Duration::from_millis(millis), "{text}");
            assert_eq!(parsed.to_string(), shown, "{text}");
            assert_eq!(shown.parse::<Duration>().unwrap(), parsed, "{text}: shown form parses back");
        }
    }

    #[test]
    fn what_is_not_a_duration_is_refused_with_an_example() {
        for text in ["", "5", "m", "5 m", "-5m", "1.5h", "5w", "5M", "99999999999999999999s", "9999999999999999d"] {
            let error = text.parse::<Duration>().expect_err(text).to_string();
            assert!(error.contains("such as 30s, 5m or 1h30m"), "{text}: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_span_survives_its_text(millis in 0_u64..(400 * 365 * 86_400_000)) {
            let span = Duration::from_millis(millis);
            proptest::prop_assert_eq!(span.to_string().parse::<Duration>().unwrap(), span);
        }
    }
}
