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

/// A tag in the order in which people read it: cut into numbers and words. The separators between them do not count, nor
/// does a `v` before a number.
///
/// `build-9` < `build-10`; `1.2-rc1` < `1.2` < `1.2-alpine` < `1.2.1`.
///
/// Nothing is kept but the text: a listing has many tags, and most of them are compared once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Natural<'t>(&'t str);

/// The order of the variants is the order of the tokens. Every tag ends with `End`, so that a longer tag stands
/// after its beginning, unless what follows announces a release that is still to come.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Token<'t> {
    PreRelease(usize),
    End,
    Word(&'t str),
    Number(Digits<'t>),
}

/// Words that announce a release, from early to late.
const PRE_RELEASES: [&str; 7] = ["dev", "snapshot", "alpha", "beta", "pre", "preview", "rc"];

/// What the bytes of a token have in common.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Digit,
    /// A letter, or a part of a character outside ASCII, which no legal tag has.
    Letter,
    Separator,
}

impl Class {
    fn of(byte: u8) -> Self {
        match byte {
            b'0'..=b'9' => Self::Digit,
            b'a'..=b'z' | b'A'..=b'Z' | 0x80.. => Self::Letter,
            _ => Self::Separator,
        }
    }
}

impl<'t> Natural<'t> {
    pub(super) fn of(tag: &'t str) -> Self {
        let versioned = tag.strip_prefix(['v', 'V']).filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        Self(versioned.unwrap_or(tag))
    }

    fn tokens(self) -> Tokens<'t> {
        Tokens { rest: Some(self.0) }
    }
}

impl Ord for Natural<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.tokens().cmp(other.tokens())
    }
}

impl PartialOrd for Natural<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Natural<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Natural<'_> {}

/// What is left of a tag; None after its end.
struct Tokens<'t> {
    rest: Option<&'t str>,
}

impl<'t> Iterator for Tokens<'t> {
    type Item = Token<'t>;

    fn next(&mut self) -> Option<Token<'t>> {
        loop {
            let rest = self.rest?;
            let Some(first) = rest.bytes().next() else {
                self.rest = None;
                return Some(Token::End);
            };
            let class = Class::of(first);
            let end = rest.bytes().position(|byte| Class::of(byte) != class).unwrap_or(rest.len());
            // All bytes of a character outside ASCII are of one class, so that this is never within one.
            let (run, after) = rest.split_at(end);
            self.rest = Some(after);
            match class {
                Class::Separator => {}
                Class::Digit => return Digits::parse(run.into()).map(Token::Number),
                Class::Letter => {
                    let announced = PRE_RELEASES.iter().position(|word| run.eq_ignore_ascii_case(word));
                    return Some(announced.map_or(Token::Word(run), Token::PreRelease));
                }
            }
        }
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
