//! Pure: what happens to headers on their way through.
//!
//! Headers of one hop end here, as does what only the edge may say: who asked, how, and for which environment. A header of that
//! kind that came from outside is removed, also in spellings that some servers take for the same name.

use std::{fmt::Write as _, net::IpAddr};

use http::{
    HeaderMap, HeaderName, HeaderValue, Version,
    header::{
        CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, FORWARDED, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
        TRANSFER_ENCODING, UPGRADE,
    },
};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_ROBOTS_TAG: HeaderName = HeaderName::from_static("x-robots-tag");
/// Tells an upstream which environment, or stage, a request is for.
pub const X_ENVIRONMENT: HeaderName = HeaderName::from_static("x-stagekeeper-environment");
/// Tells an upstream which project a request is for.
pub const X_PROJECT: HeaderName = HeaderName::from_static("x-stagekeeper-project");
/// Tells an upstream which pull request a request is for.
pub const X_PULL_REQUEST: HeaderName = HeaderName::from_static("x-stagekeeper-pull-request");

/// What a request's connection and target say about it.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Who is at the other end.
    pub peer: IpAddr,
    /// The same, as the value of a header.
    pub peer_text: &'a HeaderValue,
    /// Whether it came over TLS.
    pub secure: bool,
    /// The host that it is for, as in the table.
    pub host: &'a str,
    /// The port that it named.
    pub port: Option<u16>,
    /// The version in which it came.
    pub version: Version,
}

/// Why a request is not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Odd {
    /// The body is coded in a way that is of this hop alone, and not known here.
    Coding,
    /// Its length is told in two ways.
    TwoLengths,
}

/// Refuses a body whose length two readers could read differently.
///
/// # Errors
/// Its framing is not plain.
pub fn framing(headers: &HeaderMap) -> Result<(), Odd> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    // HTTP/2 has frames of its own, and no such header.
    let Some(first) = codings.next() else { return Ok(()) };
    if codings.next().is_some() || !first.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return Err(Odd::Coding);
    }
    if headers.contains_key(CONTENT_LENGTH) { Err(Odd::TwoLengths) } else { Ok(()) }
}

/// Makes a request's headers those that an upstream gets, over HTTP/1.1.
pub fn inward(headers: &mut HeaderMap, facts: &Facts<'_>, marks: &[(HeaderName, HeaderValue)]) {
    let upgrade = upgrade(headers);
    let trailers = tokens(headers, &TE).any(|token| token.eq_ignore_ascii_case("trailers"));
    end_of_hop(headers);
    headers.remove(EXPECT);
    remove_claims(headers);
    if facts.version == Version::HTTP_2 {
        join_cookies(headers);
    }
    if let Some(upgrade) = upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, upgrade);
    } else if trailers {
        headers.insert(CONNECTION, HeaderValue::from_static("te"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    let scheme = if facts.secure { "https" } else { "http" };
    let port = facts.port.unwrap_or(if facts.secure { 443 } else { 80 });
    // The host is the one that was routed by, whatever form it came in: nobody after us chooses by another.
    let host = match facts.port {
        None => HeaderValue::from_str(facts.host),
        Some(port) => HeaderValue::try_from(format!("{}:{port}", facts.host)),
    };
    if let Ok(host) = host {
        headers.insert(X_FORWARDED_HOST, host.clone());
        headers.insert(HOST, host);
    }
    headers.insert(X_FORWARDED_FOR, facts.peer_text.clone());
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(scheme));
    headers.insert(X_FORWARDED_PORT, port.into());
    if let Ok(forwarded) = HeaderValue::try_from(forwarded(facts, scheme)) {
        headers.insert(FORWARDED, forwarded);
    }
    for (name, value) in marks {
        headers.insert(name, value.clone());
    }
}

/// Makes an answer's headers those that the caller gets. An answer that changes the protocol keeps what says so.
pub fn outward(headers: &mut HeaderMap, upgraded: bool, noindex: bool) {
    let upgrade = headers.get(UPGRADE).filter(|_| upgraded).cloned();
    end_of_hop(headers);
    if let Some(upgrade) = upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, upgrade);
    }
    if noindex {
        keep_out_of_indexes(headers);
    }
}

/// No search engine keeps a preview.
pub fn keep_out_of_indexes(headers: &mut HeaderMap) {
    headers.insert(X_ROBOTS_TAG, HeaderValue::from_static("noindex"));
}

/// The protocol that a request asks to go on with, if it does so properly. Not another HTTP: who would speak it after us
/// would be out of our sight, with all our rules.
pub fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let asked = headers.get(UPGRADE)?;
    if !tokens(headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade")) {
        return None;
    }
    let is_http = |protocol: &str| {
        let protocol = protocol.trim().to_ascii_lowercase();
        ["h2", "http", "tls"].iter().any(|word| protocol.starts_with(word))
    };
    let text = asked.to_str().ok()?;
    let one = headers.get_all(UPGRADE).iter().count() == 1;
    (one && !text.split(',').any(is_http)).then(|| asked.clone())
}

fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(',').map(str::trim))
}

/// Removes what is between two neighbours only: the usual names, and those that `Connection` lists.
fn end_of_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let listed: Vec<HeaderName> = tokens(headers, &CONNECTION)
            .filter(|token| !token.is_empty())
            .filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok())
            // Whoever lists these wants to confuse whoever reads them next.
            .filter(|name| *name != HOST && *name != CONTENT_LENGTH)
            .collect();
        for name in listed {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    for name in [KEEP_ALIVE, PROXY_CONNECTION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE]
    {
        headers.remove(name);
    }
}

/// Whether only the edge may say this. Servers that hand headers on as variables take `_` for `-`.
fn is_claim(name: &str) -> bool {
    const WHOLE: [&str; 3] = ["forwarded", "x-real-ip", "x-client-ip"];
    const BEGINNINGS: [&str; 2] = ["x-forwarded", "x-stagekeeper-"];
    let same = |one: &str, other: &str| {
        one.len() == other.len() && one.bytes().zip(other.bytes()).all(|(a, b)| a == b || (a == b'_' && b == b'-'))
    };
    matches!(name.as_bytes().first(), Some(b'x' | b'f'))
        && (WHOLE.iter().any(|word| same(name, word))
            || BEGINNINGS.iter().any(|word| name.get(..word.len()).is_some_and(|start| same(start, word))))
}

fn remove_claims(headers: &mut HeaderMap) {
    let claims: Vec<HeaderName> = headers.keys().filter(|name| is_claim(name.as_str())).cloned().collect();
    for name in claims {
        headers.remove(name);
    }
}

/// HTTP/2 may split cookies over several headers; HTTP/1.1 knows one (RFC 9113, 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut all = headers.get_all(COOKIE).iter();
    let (Some(first), Some(second)) = (all.next(), all.next()) else { return };
    let mut joined = first.as_bytes().to_vec();
    for cookie in std::iter::once(second).chain(all) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(cookie.as_bytes());
    }
    if let Ok(joined) = HeaderValue::from_bytes(&joined) {
        headers.insert(COOKIE, joined);
    }
}

/// RFC 7239. A host has no character that would end the quotes.
fn forwarded(facts: &Facts<'_>, scheme: &str) -> String {
    let mut text = String::with_capacity(96);
    let written = match facts.peer {
        IpAddr::V4(peer) => write!(text, "for={peer}"),
        IpAddr::V6(peer) => write!(text, "for=\"[{peer}]\""),
    }
    .and_then(|()| match facts.port {
        None if !facts.host.starts_with('[') => write!(text, ";host={};proto={scheme}", facts.host),
        None => write!(text, ";host=\"{}\";proto={scheme}", facts.host),
        Some(port) => write!(text, ";host=\"{}:{port}\";proto={scheme}", facts.host),
    });
    debug_assert!(written.is_ok(), "a text takes everything");
    text
}

#[cfg(test)]
mod tests;
