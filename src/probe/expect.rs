//! Which status codes a healthy answer may have.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// Status codes and ranges of them, written `200-399` or `200,204`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expect(Vec<RangeInclusive<u16>>);

/// Not a list of status codes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a list of status codes: write codes from 100 to 599 and ranges, such as 200-399 or 200,204")]
pub struct BadExpectation(String);

impl Expect {
    /// Whether a code is among them.
    pub fn contains(&self, code: u16) -> bool {
        self.0.iter().any(|range| range.contains(&code))
    }
}

impl FromStr for Expect {
    type Err = BadExpectation;

    fn from_str(text: &str) -> Result<Self, BadExpectation> {
        let code = |text: &str| {
            let three_digits = text.len() == 3 && text.bytes().all(|b| b.is_ascii_digit());
            text.parse::<u16>().ok().filter(|code| three_digits && (100..=599).contains(code))
        };
        let range = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some(code(first)?..=code(last)?).filter(|range| !range.is_empty())
        };
        let ranges: Option<Vec<_>> = text.split(',').map(range).collect();
        ranges.map(Self).ok_or_else(|| BadExpectation(text.chars().take(64).collect()))
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, range) in self.0.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            if range.start() == range.end() {
                write!(f, "{comma}{}", range.start())?;
            } else {
                write!(f, "{comma}{}-{}", range.start(), range.end())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_ranges() {
        let codes: Expect = "200-299,304,401".parse().unwrap();
        for (code, want) in
            [(199, false), (200, true), (299, true), (300, false), (304, true), (401, true), (402, false)]
        {
            assert_eq!(codes.contains(code), want, "{code}");
        }
        assert_eq!(codes.to_string(), "200-299,304,401");
    }

    #[test]
    fn what_is_no_list_of_codes_is_refused() {
        for text in ["", "ok", "200-", "-299", "299-200", "200,,204", "99", "600", "0200", "+20", "200 - 299", "2xx"] {
            let err = text.parse::<Expect>().unwrap_err();
            assert!(err.to_string().contains("200-399"), "{text}: {err}");
        }
    }
}
