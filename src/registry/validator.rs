//! What tells a registry which listing we have, so that it can answer that nothing has changed.

use std::fmt;
use std::str::FromStr;

/// Longest `ETag` that is kept, in bytes.
const MAX_LENGTH: usize = 256;

/// The `ETag` of a listing of one page, with the size of page that was asked for: it is good for no other request.
/// To be kept as text, and handed back to the same repository as the same user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validator {
    asked: Option<usize>,
    etag: String,
}

/// The text is not a validator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a validator of a listing: expected the size of a page or `-`, a space and an ETag")]
pub struct NotAValidator;

impl Validator {
    /// None when the header is not one that can be sent back.
    pub(super) fn new(asked: Option<usize>, etag: &str) -> Option<Self> {
        let opaque = etag.strip_prefix("W/").unwrap_or(etag);
        let quoted = opaque.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        let legal = |b: u8| b.is_ascii_graphic() && b != b'"';
        (etag.len() <= MAX_LENGTH && quoted.is_some_and(|text| text.bytes().all(legal)))
            .then(|| Self { asked, etag: etag.to_owned() })
    }

    /// The `ETag`, if it is of this request.
    pub(super) fn of(&self, asked: Option<usize>) -> Option<&str> {
        (self.asked == asked).then_some(self.etag.as_str())
    }
}

impl fmt::Display for Validator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.asked {
            Some(asked) => write!(f, "{asked} {}", self.etag),
            None => write!(f, "- {}", self.etag),
        }
    }
}

impl FromStr for Validator {
    type Err = NotAValidator;

    fn from_str(text: &str) -> Result<Self, NotAValidator> {
        let (asked, etag) = text.split_once(' ').ok_or(NotAValidator)?;
        let asked = match asked {
            "-" => None,
            number => Some(number.parse().map_err(|_| NotAValidator)?),
        };
        Self::new(asked, etag).ok_or(NotAValidator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_kept_as_text_and_good_for_its_own_request_only() {
        for (asked, etag) in [(Some(1000), r#""a""#), (None, r#"W/"a:b""#), (Some(10), r#""""#)] {
            let validator = Validator::new(asked, etag).unwrap();
            assert_eq!(validator.to_string().parse(), Ok(validator.clone()));
            assert_eq!(validator.of(asked), Some(etag));
            assert_eq!(validator.of(Some(7)), None);
        }
    }

    #[test]
    fn what_cannot_be_sent_back_is_not_kept() {
        let long = format!(r#""{}""#, "a".repeat(300));
        for etag in ["", "a", r#""a"#, "\"a\nb\"", r#""a b""#, r#""a"b""#, "\"ä\"", &long] {
            assert_eq!(Validator::new(None, etag), None, "{etag:?}");
        }
        for text in ["", r#""a""#, r#"x "a""#, r#"-1 "a""#, "10 a"] {
            assert_eq!(text.parse::<Validator>(), Err(NotAValidator), "{text:?}");
        }
    }
}
