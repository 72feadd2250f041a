//! One function per kind of value. An error is the detail that what is expected does not say; often empty.

use std::{
    collections::BTreeSet,
    num::{NonZeroU16, NonZeroUsize},
    path::PathBuf,
    time::Duration,
};

use reqwest::Url;
use tracing_subscriber::filter::{LevelFilter, Targets};

use super::{EdgeService, LogFormat};
use crate::crypto::Keyring;

pub(super) fn port(text: &str) -> Result<NonZeroU16, String> {
    text.parse().map_err(|_| String::new())
}

pub(super) fn up_to<const MAX: usize>(text: &str) -> Result<NonZeroUsize, String> {
    match text.parse::<NonZeroUsize>() {
        Ok(number) if number.get() <= MAX => Ok(number),
        _ => Err(String::new()),
    }
}

/// More would be more Leases to renew than anybody gains from.
pub(super) fn shards(text: &str) -> Result<NonZeroU16, String> {
    let number = up_to::<16>(text)?;
    NonZeroU16::try_from(number).map_err(|error| error.to_string())
}

/// A while in whole seconds.
pub(super) fn seconds<const MIN: u64, const MAX: u64>(text: &str) -> Result<Duration, String> {
    match text.parse::<u64>() {
        Ok(number) if (MIN..=MAX).contains(&number) => Ok(Duration::from_secs(number)),
        _ => Err(String::new()),
    }
}

/// A number that may be nothing.
pub(super) fn number_up_to<const MAX: u32>(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(number) if number <= MAX => Ok(number),
        _ => Err(String::new()),
    }
}

pub(super) fn switch(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| String::new())
}

/// A file that can be read now; its content is read by who needs it.
pub(super) fn readable(path: &str) -> Result<PathBuf, String> {
    std::fs::File::open(path).map_err(|error| format!("which cannot be read: {error}"))?;
    Ok(path.into())
}

/// The one value that is elsewhere: a key does not belong into the environment of a process that others can look at.
pub(super) fn keyring_file(path: &str) -> Result<Keyring, String> {
    let text = std::fs::read_to_string(path).map(zeroize::Zeroizing::new);
    keyring(&text.map_err(|error| format!("which cannot be read: {error}"))?)
}

pub(super) fn keyring(text: &str) -> Result<Keyring, String> {
    Keyring::parse(text).map_err(|error| error.to_string())
}

pub(super) fn filter(text: &str) -> Result<Targets, String> {
    // `Targets` takes a misspelt level for the name of a target and then logs all of it,
    // and the empty word for `error`.
    for word in text.split(',').map(str::trim) {
        let level = word.split_once('=').map_or(word, |(_, level)| level.trim());
        if level.is_empty() || level.parse::<LevelFilter>().is_err() {
            return Err(format!("`{level}` is not a level"));
        }
    }
    text.parse().map_err(|_| String::new())
}

pub(super) fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "json" => Ok(LogFormat::Json),
        "pretty" => Ok(LogFormat::Pretty),
        _ => Err(String::new()),
    }
}

pub(super) fn public_url(text: &str) -> Result<Url, String> {
    let mut url = Url::parse(text).map_err(|error| error.to_string())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("its scheme is neither http nor https".into());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it carries credentials".into());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("it carries a query or a fragment".into());
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok(url)
}

/// An address whose host can have names under it.
pub(super) fn preview_url(text: &str) -> Result<Url, String> {
    let url = public_url(text)?;
    if !url.path().trim_matches('/').is_empty() {
        return Err("it has a path".into());
    }
    match url.domain() {
        Some(domain)
            if domain
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte)) =>
        {
            Ok(url)
        }
        _ => Err("its host is no domain name".into()),
    }
}

/// `NAMESPACE/NAME:PORT`.
pub(super) fn edge_service(text: &str) -> Result<EdgeService, String> {
    let parts = text.split_once('/').and_then(|(namespace, rest)| Some((namespace, rest.split_once(':')?)));
    let Some((namespace, (name, port))) = parts else {
        return Err("it is not of the form NAMESPACE/NAME:PORT".into());
    };
    for (what, name) in [("namespace", namespace), ("name", name)] {
        let is_label = (1..=63).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !name.starts_with('-')
            && !name.ends_with('-');
        if !is_label {
            return Err(format!("its {what} is none that Kubernetes takes"));
        }
    }
    let port = port.parse().ok().filter(|port| *port > 0).ok_or("its port is no number from 1 to 65535")?;
    Ok(EdgeService { namespace: namespace.into(), name: name.into(), port })
}

/// Without TLS only on this machine: whoever could change what the issuer says could be anybody.
pub(super) fn issuer(text: &str) -> Result<String, String> {
    let url = public_url(text)?;
    if url.scheme() != "https" && !matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]")) {
        return Err("its scheme is not https".into());
    }
    Ok(text.to_owned())
}

pub(super) fn namespaces(text: &str) -> Result<BTreeSet<String>, String> {
    let name = |part| namespace_name(part).map_err(|_| format!("`{part}` is not one"));
    text.split(',').map(str::trim).map(name).collect()
}

/// A DNS label (RFC 1123): what Kubernetes accepts as the name of a namespace.
pub(super) fn namespace_name(text: &str) -> Result<String, String> {
    let inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let fits =
        (1..=63).contains(&text.len()) && text.bytes().all(inside) && !text.starts_with('-') && !text.ends_with('-');
    keep_if(fits, text)
}

/// A DNS subdomain (RFC 1123): labels separated by dots.
pub(super) fn object_name(text: &str) -> Result<String, String> {
    let labels = || text.split('.').all(|label| namespace_name(label).is_ok());
    keep_if(text.len() <= 253 && labels(), text)
}

/// Printable ASCII without spaces.
pub(super) fn word(text: &str) -> Result<String, String> {
    let fits = text.len() <= 253 && text.bytes().all(|byte| byte.is_ascii_graphic());
    keep_if(fits, text)
}

fn keep_if(fits: bool, text: &str) -> Result<String, String> {
    if fits { Ok(text.to_owned()) } else { Err(String::new()) }
}
