//! Pure: which host a request is for.
//!
//! Two answers to that question in one request are how requests are smuggled past whoever asks only one of them, so such a
//! request is not served.

use std::borrow::Cow;

use http::{Request, header::HOST};

/// A host as the table knows it, and the port that was named with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// In lower case, without port and final dot.
    pub host: String,
    /// The port, if one was named.
    pub port: Option<u16>,
}

/// Why nobody knows which host a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unclear {
    /// None is named.
    Missing,
    /// Several are named.
    Several,
    /// What is named is no host.
    Malformed,
}

impl Unclear {
    /// In words, for the answer.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Missing => "the request names no host",
            Self::Several => "the request names more than one host",
            Self::Malformed => "the host that the request names is not one",
        }
    }
}

/// The longest name that DNS knows.
const LONGEST: usize = 253;

/// Which host a request is for: by its target if that has one, by its `Host` otherwise; both have to agree.
///
/// # Errors
/// There is none, more than one, or none that could exist.
pub fn asked<B>(request: &Request<B>) -> Result<Asked, Unclear> {
    let mut named = request.headers().get_all(HOST).iter();
    let (first, second) = (named.next(), named.next());
    if second.is_some() {
        return Err(Unclear::Several);
    }
    let by_header = first
        .map(|value| value.to_str().map_err(|_| Unclear::Malformed).and_then(read))
        // An absolute target may come with an empty `Host`.
        .filter(|read| !(request.uri().authority().is_some() && matches!(read, Err(Unclear::Missing))))
        .transpose()?;
    let by_target = request.uri().authority().map(|authority| read(authority.as_str())).transpose()?;
    match (by_target, by_header) {
        (None, None) => Err(Unclear::Missing),
        (Some(one), None) | (None, Some(one)) => Ok(one),
        (Some(target), Some(header)) if target.host == header.host && ports_agree(target.port, header.port) => {
            Ok(target)
        }
        (Some(_), Some(_)) => Err(Unclear::Several),
    }
}

fn ports_agree(one: Option<u16>, other: Option<u16>) -> bool {
    one == other || one.is_none() || other.is_none()
}

/// `Host:8080.` and the like, taken apart.
fn read(authority: &str) -> Result<Asked, Unclear> {
    if authority.is_empty() {
        return Err(Unclear::Missing);
    }
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.find(']')) {
        // The closing bracket is one further in the whole than in the rest.
        Some(end) => authority.split_at(end + 2),
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => None,
        None => return Err(Unclear::Malformed),
        Some("") => None,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(digits.parse().map_err(|_| Unclear::Malformed)?)
        }
        Some(_) => return Err(Unclear::Malformed),
    };
    let host = normal(host).ok_or(Unclear::Malformed)?;
    Ok(Asked { host: host.into_owned(), port })
}

/// A host in lower case and without final dot; nothing if it cannot be one.
pub fn normal(host: &str) -> Option<Cow<'_, str>> {
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.is_empty() || host.len() > LONGEST {
        return None;
    }
    if let Some(inside) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        inside.parse::<std::net::Ipv6Addr>().ok()?;
        return Some(Cow::Owned(host.to_ascii_lowercase()));
    }
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if !host.bytes().all(fits) || host.starts_with('.') || host.contains("..") {
        return None;
    }
    let lower = !host.bytes().any(|byte| byte.is_ascii_uppercase());
    Some(if lower { Cow::Borrowed(host) } else { Cow::Owned(host.to_ascii_lowercase()) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(target: &str, hosts: &[&str]) -> Request<()> {
        let builder = hosts.iter().fold(Request::get(target), |request, host| request.header(HOST, *host));
        builder.body(()).unwrap()
    }

    #[test]
    fn the_host_is_found_or_refused() {
        use Unclear::{Malformed, Missing, Several};
        type Found = Result<(&'static str, Option<u16>), Unclear>;
        let cases: &[(&str, &[&str], Found)] = &[
            ("/", &["shop.test"], Ok(("shop.test", None))),
            ("/", &["Shop.TEST.:8080"], Ok(("shop.test", Some(8080)))),
            ("/", &["shop.test:"], Ok(("shop.test", None))),
            ("/", &["[::1]:80"], Ok(("[::1]", Some(80)))),
            ("/", &["[::1"], Err(Malformed)),
            ("/", &["[::1]x"], Err(Malformed)),
            ("/", &[], Err(Missing)),
            ("/", &[""], Err(Missing)),
            ("/", &["a.test", "a.test"], Err(Several)),
            ("/", &["a.test", "b.test"], Err(Several)),
            ("/", &["a.test, b.test"], Err(Malformed)),
            ("/", &["user@a.test"], Err(Malformed)),
            ("/", &["a.test/x"], Err(Malformed)),
            ("/", &["a..test"], Err(Malformed)),
            ("/", &["a.test:http"], Err(Malformed)),
            ("/", &["a.test:99999"], Err(Malformed)),
            ("/", &["a.test:+80"], Err(Malformed)),
            ("http://a.test/x", &["a.test"], Ok(("a.test", None))),
            ("http://A.test:80/x", &["a.test"], Ok(("a.test", Some(80)))),
            ("http://a.test/x", &[], Ok(("a.test", None))),
            ("http://a.test/x", &[""], Ok(("a.test", None))),
            ("http://a.test/x", &["b.test"], Err(Several)),
            ("http://a.test:81/x", &["a.test:80"], Err(Several)),
            ("http://u:p@a.test/x", &["a.test"], Err(Malformed)),
        ];
        for (target, hosts, expected) in cases {
            let found = asked(&request(target, hosts));
            let expected = expected.map(|(host, port)| Asked { host: host.into(), port });
            assert_eq!(found, expected, "{target} {hosts:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_odd_is_taken_for_a_host(text in "\\PC{0,40}") {
            if let Ok(read) = read(&text) {
                prop_assert!(!read.host.bytes().any(|byte| byte.is_ascii_uppercase() || b" ,/@\\\"'".contains(&byte)));
                // What was taken once is taken again, as it is.
                let again = normal(&read.host).map(Cow::into_owned);
                prop_assert_eq!(again.as_ref(), Some(&read.host));
            }
        }
    }
}
