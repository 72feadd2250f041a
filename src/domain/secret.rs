//! Secrets: named values that a project's workloads get. Nothing here holds a value.

use std::{collections::BTreeMap, fmt};

/// Longest name of a secret, in bytes.
pub const MAX_NAME: usize = 128;

/// Which of a project's secrets: by its name, and by the service whose it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretId {
    /// Its name: that of the variable, or of the file's key.
    pub name: String,
    /// The one service that it is for; none when it is for all of them.
    pub service: Option<String>,
}

/// Which value each secret of a project has, of those that have one: a [`stamp`].
pub type SecretVersions = BTreeMap<SecretId, i64>;

/// Bits of a stamp that tell values of one number apart.
const SALT_BITS: u32 = 20;

/// Which value a version is: its number, and a few bits of what only this value has. After a restore of an older database a
/// number may come twice, with another value; what the cluster has of the first one must not be taken for the second.
pub const fn stamp(version: i64, salt: u64) -> i64 {
    (version << SALT_BITS) | (salt & ((1 << SALT_BITS) - 1)).cast_signed()
}

/// The number of the version that a stamp is of: how many times the secret was written then.
pub const fn number(stamp: i64) -> i64 {
    stamp >> SALT_BITS
}

impl SecretId {
    /// A secret for every service.
    pub fn for_all(name: impl Into<String>) -> Self {
        Self { name: name.into(), service: None }
    }

    /// A secret for one service.
    pub fn for_service(name: impl Into<String>, service: impl Into<String>) -> Self {
        Self { name: name.into(), service: Some(service.into()) }
    }
}

impl fmt::Display for SecretId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.service {
            None => f.write_str(&self.name),
            Some(service) => write!(f, "{} of service {service}", self.name),
        }
    }
}

/// The value that a service gets under a name: its own if there is one, else the one for all services.
pub fn effective(name: &str, service: &str, known: &SecretVersions) -> Option<(SecretId, i64)> {
    let candidates = [SecretId::for_service(name, service), SecretId::for_all(name)];
    candidates.into_iter().find_map(|id| known.get(&id).copied().map(|version| (id, version)))
}

/// A secret's name, as people may give it: 1 to 128 letters, digits, `_`, `-` and `.`, not a digit first.
///
/// # Errors
/// What a name is, in words.
pub fn name(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    if first && text.len() <= MAX_NAME && text.bytes().all(plain) {
        Ok(text.to_owned())
    } else {
        Err("a secret's name has 1 to 128 letters, digits, _, - and ., and begins with a letter or _".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_gets_its_own_value_before_the_one_for_all() {
        let known = SecretVersions::from([
            (SecretId::for_all("KEY"), 3),
            (SecretId::for_service("KEY", "web"), 7),
            (SecretId::for_service("OTHER", "web"), 1),
        ]);
        assert_eq!(effective("KEY", "web", &known), Some((SecretId::for_service("KEY", "web"), 7)));
        assert_eq!(effective("KEY", "db", &known), Some((SecretId::for_all("KEY"), 3)));
        assert_eq!(effective("OTHER", "db", &known), None);
    }

    #[test]
    fn stamps_tell_values_of_one_number_apart() {
        assert_eq!(number(stamp(7, u64::MAX)), 7);
        assert_ne!(stamp(7, 1), stamp(7, 2));
        assert!(stamp(8, 0) > stamp(7, u64::MAX));
    }

    #[test]
    fn names_are_those_of_variables_and_files() {
        for good in ["STRIPE_KEY", "_x", "tls.key", "a-b", &"a".repeat(128)] {
            assert_eq!(name(good).as_deref(), Ok(good));
        }
        for bad in ["", "1A", ".env", "-a", "A B", "A=B", "A/B", "ä", &"a".repeat(129)] {
            assert!(name(bad).is_err(), "{bad:?}");
        }
    }
}
