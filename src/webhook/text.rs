//! Fields of bodies: missing, null, or of a type that nobody expected.

use std::{fmt, marker::PhantomData};

use jiff::Timestamp;
use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::Malformed;
use crate::domain::image::{Digest, Reference, Repository, is_tag};

/// Images that one delivery may name.
pub(super) const MAX_IMAGES: usize = 1_000;

/// Longest address of a page that is kept, in bytes.
const MAX_LINK: usize = 1_024;

/// Longest name of a host or provider that is kept, in bytes.
const MAX_WORD: usize = 253;

/// A text, or nothing: for null, for the empty text, and for whatever is no text.
#[derive(Debug, Default)]
pub(super) struct Text(pub(super) Option<String>);

impl Text {
    pub(super) fn get(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// It, for what makes no sense without it.
    pub(super) fn required(&self, field: &str) -> Result<&str, Malformed> {
        self.get().ok_or_else(|| Malformed::missing(field))
    }

    /// A tag, unless it is none: some senders let the digest stand in its place.
    pub(super) fn tag(&self) -> Option<String> {
        self.get().filter(|text| is_tag(text)).map(str::to_owned)
    }

    pub(super) fn digest(&self) -> Option<Digest> {
        self.get()?.parse().ok()
    }

    /// An instant, unless it is that of a program that does not know it.
    pub(super) fn instant(&self) -> Option<Timestamp> {
        self.get()?.parse().ok().filter(|at| *at > Timestamp::UNIX_EPOCH)
    }

    /// The address of a page.
    pub(super) fn link(&self) -> Option<String> {
        let is_web = |text: &&str| ["http://", "https://"].iter().any(|scheme| text.starts_with(scheme));
        let plain = |text: &&str| text.len() <= MAX_LINK && text.bytes().all(|byte| byte.is_ascii_graphic());
        self.get().filter(is_web).filter(plain).map(str::to_owned)
    }

    /// The name of a host or provider.
    pub(super) fn word(&self) -> Option<String> {
        let plain = |text: &&str| text.len() <= MAX_WORD && !text.chars().any(char::is_control);
        self.get().filter(plain).map(str::to_owned)
    }
}

/// A repository below a registry, or below the one that is named in its place.
pub(super) fn repository(
    registry: Option<&str>,
    host: Option<&str>,
    path: &str,
    field: &str,
) -> Result<Repository, Malformed> {
    let host = registry.or(host).map(bare_host);
    let name = match host {
        Some(host) => format!("{host}/{path}"),
        None => path.to_owned(),
    };
    name.parse().map_err(|why| Malformed::field(field, why))
}

/// `https://registry.example.com/v2` is `registry.example.com`.
pub(super) fn bare_host(text: &str) -> &str {
    let text = text.split_once("://").map_or(text, |(_, rest)| rest);
    text.split('/').next().unwrap_or_default()
}

/// A whole name, with its registry replaced if another one is named in its place.
pub(super) fn named(registry: Option<&str>, repository: &Repository, field: &str) -> Result<Repository, Malformed> {
    match registry {
        None => Ok(repository.clone()),
        Some(_) => self::repository(registry, None, repository.path(), field),
    }
}

/// A full reference in which a digest may stand for the tag: `host/path:sha256:…` is one of a digest.
pub(super) fn reference(text: &str) -> Result<Reference, crate::domain::image::ImageError> {
    match text.rsplit_once(":sha256:") {
        Some((name, digest)) => format!("{name}@sha256:{digest}").parse(),
        None => text.parse(),
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }

            fn visit_str<E>(self, text: &str) -> Result<Text, E> {
                Ok(Text((!text.is_empty()).then(|| text.to_owned())))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Text, E> {
                Ok(Text(None))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Text, E> {
                Ok(Text(None))
            }

            fn visit_u64<E>(self, _: u64) -> Result<Text, E> {
                Ok(Text(None))
            }

            fn visit_f64<E>(self, _: f64) -> Result<Text, E> {
                Ok(Text(None))
            }

            fn visit_unit<E>(self) -> Result<Text, E> {
                Ok(Text(None))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Text, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Text(None))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Text, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Text(None))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// A list of at most [`MAX_IMAGES`] things: none for null, the keys of an object.
#[derive(Debug)]
pub(super) struct Few<T>(pub(super) Vec<T>);

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Few<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bounded<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Bounded<T> {
            type Value = Few<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of at most {MAX_IMAGES}")
            }

            fn visit_unit<E>(self) -> Result<Few<T>, E> {
                Ok(Few::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Few<T>, A::Error> {
                let mut all = Vec::new();
                while let Some(one) = seq.next_element()? {
                    if all.len() == MAX_IMAGES {
                        return Err(de::Error::invalid_length(all.len() + 1, &self));
                    }
                    all.push(one);
                }
                Ok(Few(all))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Few<T>, A::Error> {
                let mut all = Vec::new();
                while let Some((one, IgnoredAny)) = map.next_entry()? {
                    if all.len() == MAX_IMAGES {
                        return Err(de::Error::invalid_length(all.len() + 1, &self));
                    }
                    all.push(one);
                }
                Ok(Few(all))
            }
        }
        deserializer.deserialize_any(Bounded(PhantomData))
    }
}

/// An object that may be null or missing.
pub(super) fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
