//! Lists in JSON that hold no more than they may: a small body can describe a large memory.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// At most `N` elements; more are an error. A `null` is an empty list.
#[derive(Debug)]
pub(super) struct AtMost<T, const N: usize>(pub(super) Vec<T>);

/// How the error begins that says so.
const TOO_MANY: &str = "more elements than are accepted";

/// Whether this is why a document was not read.
pub(super) fn too_many(error: &serde_json::Error) -> bool {
    error.to_string().starts_with(TOO_MANY)
}

struct Elements<T, const N: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for Elements<T, N> {
    type Value = AtMost<T, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list or null")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(AtMost(Vec::new()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = seq.next_element()? {
            if elements.len() == N {
                return Err(A::Error::custom(TOO_MANY));
            }
            elements.push(element);
        }
        Ok(AtMost(elements))
    }
}

impl<'de, T: Deserialize<'de>, const N: usize> Deserialize<'de> for AtMost<T, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Elements(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_holds_what_it_may_and_more_is_an_error() {
        let read = |text: &str| serde_json::from_str::<AtMost<u8, 3>>(text).map(|list| list.0);
        assert_eq!(read("[1,2,3]").unwrap(), [1, 2, 3]);
        assert_eq!(read("null").unwrap(), Vec::<u8>::new());
        assert!(too_many(&read("[1,2,3,4]").unwrap_err()));
        for text in ["{}", "1", "[1,2", r#"["a"]"#] {
            assert!(!too_many(&read(text).unwrap_err()), "{text}");
        }
    }
}
