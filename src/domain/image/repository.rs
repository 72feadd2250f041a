//! Where an image lives: registry host and path.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use super::error::{ImageError, excerpt};

const DEFAULT_REGISTRY: &str = "docker.io";
const DEFAULT_NAMESPACE: &str = "library/";
const MAX_HOST_LENGTH: usize = 253;
const MAX_PATH_LENGTH: usize = 255;

/// A repository of a registry, in canonical form: `host[:port]/path`.
///
/// `nginx` is `docker.io/library/nginx`; hosts are lower case; `index.docker.io` and `registry-1.docker.io` are `docker.io`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository {
    registry: String,
    path: String,
}

impl Repository {
    /// The registry as named in the reference: `host` or `host:port`. An IPv6 address keeps its brackets.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path below the registry, for example `library/nginx`.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl FromStr for Repository {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<Self, ImageError> {
        if text.is_empty() {
            return Err(ImageError::Empty);
        }
        if let Some((scheme, _)) = text.split_once("://") {
            return Err(ImageError::Scheme { scheme: excerpt(scheme) });
        }
        if let Some((repository, _)) = text.split_once('@') {
            return Err(ImageError::NotOnlyARepository { repository: without_secret(repository), part: "digest" });
        }
        let (registry, path) = match text.split_once('/') {
            Some((first, rest)) if first == "localhost" || first.contains(['.', ':', '[']) => (registry(first)?, rest),
            _ => (DEFAULT_REGISTRY.to_owned(), text),
        };
        if let Some((name, _)) = path.split_once(':') {
            return Err(ImageError::NotOnlyARepository { repository: excerpt(name), part: "tag" });
        }
        let path = if registry == DEFAULT_REGISTRY && !path.contains('/') && !path.is_empty() {
            format!("{DEFAULT_NAMESPACE}{path}")
        } else {
            path.to_owned()
        };
        check_path(&path)?;
        Ok(Self { registry, path })
    }
}

/// `user:secret@host` can be mistaken for a name: what stands before `@` is repeated only without a colon.
fn without_secret(text: &str) -> String {
    excerpt(text.split(':').next().unwrap_or_default())
}

/// Checks and normalises `host[:port]`.
fn registry(text: &str) -> Result<String, ImageError> {
    let wrong = |why| ImageError::Host { host: excerpt(text), why };
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (address, after) = rest.split_once(']').ok_or_else(|| wrong("the IPv6 address lacks its `]`"))?;
        let address: Ipv6Addr = address.parse().map_err(|_| wrong("between `[` and `]` must stand an IPv6 address"))?;
        let port = match after {
            "" => None,
            _ => Some(after.strip_prefix(':').ok_or_else(|| wrong("after `]` may stand only `:port`"))?),
        };
        (format!("[{address}]"), port)
    } else {
        let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
        if host.len() > MAX_HOST_LENGTH {
            return Err(wrong("a host has at most 253 characters"));
        }
        if !host.split('.').all(is_label) {
            return Err(wrong(
                "letters, digits, `-` and `.` are allowed, and each part starts and ends with a letter or digit",
            ));
        }
        (host.to_ascii_lowercase(), port)
    };
    let host = match host.as_str() {
        "index.docker.io" | "registry-1.docker.io" if port.is_none() => DEFAULT_REGISTRY.to_owned(),
        _ => host,
    };
    let Some(port) = port else { return Ok(host) };
    match port.parse::<u16>() {
        Ok(number) if number > 0 && port.bytes().all(|b| b.is_ascii_digit()) => Ok(format!("{host}:{number}")),
        _ => Err(wrong("the port must be a number from 1 to 65535")),
    }
}

/// One part of a DNS name.
fn is_label(label: &str) -> bool {
    !label.is_empty()
        && label.len() <= 63
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

fn check_path(path: &str) -> Result<(), ImageError> {
    let wrong = |why| Err(ImageError::Path { path: excerpt(path), why });
    if path.is_empty() {
        return wrong("it is empty");
    }
    if path.len() > MAX_PATH_LENGTH {
        return wrong("it has more than 255 characters");
    }
    if path.bytes().any(|b| b.is_ascii_uppercase()) {
        return wrong("upper-case letters are not allowed");
    }
    if !path.split('/').all(is_component) {
        return wrong(
            "each part between `/` consists of lower-case letters and digits, separated by `.`, `_`, `__` or any number of `-`",
        );
    }
    Ok(())
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(part: &str) -> bool {
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = part.as_bytes();
    let framed = bytes.first().is_some_and(alphanumeric) && bytes.last().is_some_and(alphanumeric);
    framed
        && bytes
            .split(alphanumeric)
            .all(|separator| matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-'))
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.path)
    }
}

super::serde_as_string!(Repository);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_normalised() {
        let cases = [
            ("nginx", "docker.io/library/nginx"),
            ("acme/shop", "docker.io/acme/shop"),
            ("docker.io/nginx", "docker.io/library/nginx"),
            ("docker.io/acme/shop", "docker.io/acme/shop"),
            ("index.docker.io/nginx", "docker.io/library/nginx"),
            ("registry-1.docker.io/acme/shop", "docker.io/acme/shop"),
            ("localhost/shop", "localhost/shop"),
            ("localhost:5000/shop", "localhost:5000/shop"),
            ("127.0.0.1:05000/a/b", "127.0.0.1:5000/a/b"),
            ("GHCR.io/acme/shop", "ghcr.io/acme/shop"),
            ("[::1]:5000/shop", "[::1]:5000/shop"),
            ("[2001:DB8:0::1]/shop", "[2001:db8::1]/shop"),
            ("quay.io/a__b/c", "quay.io/a__b/c"),
            ("quay.io/a---b/c.d_e", "quay.io/a---b/c.d_e"),
            ("registry/shop", "docker.io/registry/shop"),
        ];
        for (text, want) in cases {
            assert_eq!(text.parse::<Repository>().unwrap().to_string(), want, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let long = format!("ghcr.io/{}", "a".repeat(256));
        let cases = [
            ("", "is empty"),
            ("https://ghcr.io/acme/shop", "no `https://`"),
            ("ghcr.io/acme/shop:1.0", "followed by a tag"),
            ("nginx:1.0", "followed by a tag"),
            ("ghcr.io/acme/shop@sha256:abc", "followed by a digest"),
            ("ghcr.io/", "it is empty"),
            ("ghcr.io/Acme/shop", "upper-case"),
            ("Acme/shop", "upper-case"),
            ("ghcr.io/acme//shop", "each part"),
            ("ghcr.io/acme/shop/", "each part"),
            ("ghcr.io/a___b", "each part"),
            ("ghcr.io/-a", "each part"),
            ("ghcr.io/a.", "each part"),
            ("ghcr.io/../etc", "each part"),
            ("ghcr.io/a b", "each part"),
            ("ghcr.io/a%2fb", "each part"),
            (" nginx", "each part"),
            ("ghcr..io/a", "letters, digits"),
            ("-ghcr.io/a", "letters, digits"),
            ("ghcr.io:0/a", "port"),
            ("ghcr.io:65536/a", "port"),
            ("ghcr.io:+80/a", "port"),
            ("ghcr.io:/a", "port"),
            ("[::1/a", "lacks its"),
            ("[::g]/a", "IPv6 address"),
            ("[::1]5000/a", "only `:port`"),
            (long.as_str(), "255"),
        ];
        for (text, want) in cases {
            let error = text.parse::<Repository>().unwrap_err().to_string();
            assert!(error.contains(want), "{text}: {error}");
        }
    }

    #[test]
    fn a_password_in_the_name_is_not_repeated() {
        for text in ["https://bob:hunter2@ghcr.io/a", "bob:hunter2@ghcr.io/a", "bob:hunter2@ghcr.io/a:1"] {
            let error = text.parse::<Repository>().unwrap_err();
            assert!(!error.to_string().contains("hunter2") && !format!("{error:?}").contains("hunter2"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(
            host in "([a-z][a-z0-9]{0,8}\\.[a-z]{2,3}(:[1-9][0-9]{0,3})?/)?",
            path in "[a-z0-9]{1,6}(/[a-z0-9]{1,6}([._-][a-z0-9]{1,6}){0,2}){0,3}",
        ) {
            let repository: Repository = format!("{host}{path}").parse().unwrap();
            let canonical = repository.to_string();
            prop_assert_eq!(&canonical.parse::<Repository>().unwrap(), &repository);
            prop_assert!(canonical.ends_with(repository.path()) && canonical.starts_with(repository.registry()));
            let json = serde_json::to_string(&repository).unwrap();
            prop_assert_eq!(serde_json::from_str::<Repository>(&json).unwrap(), repository);
        }

        #[test]
        fn any_text_is_answered(text in ".*") {
            if let Ok(repository) = text.parse::<Repository>() {
                prop_assert_eq!(repository.to_string().parse::<Repository>().unwrap(), repository);
            }
        }
    }
}
