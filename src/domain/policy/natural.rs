//! Numbers of any length, and the natural order of tags: numbers by value, words by letter.

use std::borrow::Cow;
use std::cmp::Ordering;

/// A whole number without sign and without bound: its digits, without leading zeros.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Digits<'t>(Cow<'t, str>);

impl<'t> Digits<'t> {
    /// None unless the text consists of decimal digits.
    pub(super) fn parse(text: Cow<'t, str>) -> Option<Self> {
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        Some(Self(match text {
            Cow::Borrowed(digits) => Cow::Borrowed(digits.trim_start_matches('0')),
            Cow::Owned(digits) => Cow::Owned(digits.trim_start_matches('0').to_owned()),
        }))
    }
}

impl Ord for Digits<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.0.len(), &self.0).cmp(&(other.0.len(), &other.0))
    }
}

impl PartialOrd for Digits<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A tag cut into numbers and words; the separators between them do not count, nor does a `v` before a number.
///
/// `build-9` < `build-10`; `1.2-rc1` < `1.2` < `1.2-alpine` < `1.2.1`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Natural<'t>(Vec<Token<'t>>);

/// The order of the variants is the order of the tokens. Every tag ends with `End`, so that a longer tag stands
/// after its beginning, unless what follows announces a release that is still to come.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Token<'t> {
    PreRelease(usize),
    End,
    Word(&'t str),
    Number(Digits<'t>),
}

/// Words that announce a release, from early to late.
const PRE_RELEASES: [&str; 7] = ["dev", "snapshot", "alpha", "beta", "pre", "preview", "rc"];

impl<'t> Natural<'t> {
    pub(super) fn of(tag: &'t str) -> Self {
        let versioned = tag.strip_prefix(['v', 'V']).filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        let mut rest = versioned.unwrap_or(tag);
        let mut tokens = Vec::with_capacity(8);
        while let Some(first) = rest.chars().next() {
            let same: fn(char) -> bool = match first {
                c if c.is_ascii_digit() => |c| c.is_ascii_digit(),
                c if c.is_alphabetic() => char::is_alphabetic,
                _ => |c| !c.is_alphabetic() && !c.is_ascii_digit(),
            };
            let (run, after) = rest.split_at(rest.find(|c| !same(c)).unwrap_or(rest.len()));
            rest = after;
            if let Some(number) = Digits::parse(run.into()) {
                tokens.push(Token::Number(number));
            } else if first.is_alphabetic() {
                let announced = PRE_RELEASES.iter().position(|word| run.eq_ignore_ascii_case(word));
                tokens.push(announced.map_or(Token::Word(run), Token::PreRelease));
            }
        }
        tokens.push(Token::End);
        Self(tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn natural_order_is_what_people_expect() {
        let ascending = [
            "latest",
            "main-9",
            "main-10",
            "main-10-2",
            "1.2-dev",
            "1.2-alpha",
            "1.2-alpha2",
            "1.2-beta1",
            "1.2-rc1",
            "1.2-rc2",
            "v1.2",
            "1.2-alpine",
            "1.2.0",
            "1.2.1",
            "1.10",
            "2024-01-31",
            "2024-02-01",
            "99999999999999999999999999999999999999999",
            "100000000000000000000000000000000000000000",
        ];
        for pair in ascending.windows(2) {
            assert!(Natural::of(pair[0]) < Natural::of(pair[1]), "{} < {}", pair[0], pair[1]);
        }
        for (left, right) in [("1.2", "v1-2"), ("1.2", "01_02"), ("1.2-RC1", "1.2rc1")] {
            assert_eq!(Natural::of(left), Natural::of(right), "{left} = {right}");
        }
    }

    #[test]
    fn numbers_have_no_bound() {
        let number = |text: &'static str| Digits::parse(text.into());
        assert!(number("18446744073709551616") > number("18446744073709551615"));
        assert_eq!(number("007"), number("7"));
        assert!(number("0") < number("1"));
        for text in ["", "-1", "1.0", "1e3", "٣"] {
            assert_eq!(number(text), None, "{text}");
        }
    }
}
