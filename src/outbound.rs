//! HTTP to registries and git providers: the clients that every such request leaves through, which addresses they ask
//! (`guard`), and how much they take.
//!
//! What must hold for all outbound requests is set here and nowhere else: deadlines, no redirects that nobody judged, no proxy
//! from the environment, no decompression, our certificates.

pub mod guard;

use std::{sync::Arc, time::Duration};

use jiff::{Timestamp, fmt::rfc2822};
use reqwest::{
    Certificate, Client, Response,
    header::{HeaderMap, RETRY_AFTER},
    redirect::Policy,
};

use self::guard::{Guarded, Reach, Refused};
use crate::domain::excerpt::excerpt;

const USER_AGENT: &str = concat!("stagekeeper/", env!("CARGO_PKG_VERSION"));

/// Connections to one host that are kept open while nothing is asked, and for how long.
const MAX_IDLE: usize = 16;
const IDLE: Duration = Duration::from_mins(1);

/// Longest rest that anybody can ask for. Docker Hub counts in windows of six hours.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(6);

/// How long requests may take.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// Longest time to connect.
    pub connect: Duration,
    /// Longest time for one request with its answer.
    pub request: Duration,
}

/// A client that trusts these authorities, in PEM, beside those of the system, and asks addresses within this reach.
///
/// # Errors
/// What is wrong with the certificates, or with TLS.
pub fn client(deadlines: Deadlines, authorities: &[&[u8]], reach: Reach) -> Result<Client, String> {
    let wrong = |why| move |error: reqwest::Error| format!("{why}: {}", root(&error));
    let mut builder = Client::builder()
        .user_agent(USER_AGENT)
        .connect_timeout(deadlines.connect)
        .timeout(deadlines.request)
        .dns_resolver(Arc::new(Guarded(reach)))
        .pool_max_idle_per_host(MAX_IDLE)
        .pool_idle_timeout(IDLE)
        .redirect(Policy::none())
        .referer(false)
        .no_proxy()
        .no_gzip()
        .no_brotli()
        .no_zstd()
        .no_deflate();
    for pem in authorities {
        let certificates = Certificate::from_pem_bundle(pem).map_err(wrong("the CA certificates are not valid PEM"))?;
        if certificates.is_empty() {
            return Err("the CA holds no certificate".into());
        }
        builder = builder.tls_certs_merge(certificates);
    }
    builder.build().map_err(wrong("TLS"))
}

/// Why the address was not asked, if that is the cause.
pub fn refused(error: &reqwest::Error) -> Option<Refused> {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(inner) = cause {
        if let Some(refused) = inner.downcast_ref::<Refused>() {
            return Some(*refused);
        }
        cause = inner.source();
    }
    None
}

/// How a connection ends that the other side gives up, in the words of the kernel and of the HTTP client.
const BROKEN_OFF: [&str; 3] = ["connection closed before message completed", "onnection reset", "roken pipe"];

/// Why a request found no answer, in words without its URL. `plain` says what is to be done where TLS is not spoken.
pub fn why(error: &reqwest::Error, plain: &str) -> String {
    let cause = root(error);
    if error.is_timeout() {
        "it did not answer in time".into()
    } else if error.is_dns() {
        "its host name cannot be resolved".into()
    } else if cause.contains("InvalidContentType") {
        format!("it does not speak TLS ({plain})")
    } else if error.is_connect() {
        cause
    } else if BROKEN_OFF.iter().any(|how| cause.contains(how)) {
        // Which of these it is differs from one time to the next: a status that told it would never come to rest.
        "it broke the connection off before it answered".into()
    } else {
        format!("the connection broke off ({cause})")
    }
}

/// The innermost cause: the outer layers only repeat that a request failed, and its URL.
fn root(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    excerpt(&cause.to_string(), 100)
}

/// Why a body was not read.
pub enum BodyError {
    /// It is larger than it may be.
    TooLarge,
    /// It broke off.
    Broken(reqwest::Error),
}

/// The whole body, if it is not larger than `limit` bytes.
///
/// # Errors
/// Why not.
pub async fn bounded(mut response: Response, limit: usize) -> Result<Vec<u8>, BodyError> {
    let announced = response.content_length().unwrap_or_default();
    if usize::try_from(announced).map_or(true, |announced| announced > limit) {
        return Err(BodyError::TooLarge);
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(BodyError::Broken)? {
        if body.len() + chunk.len() > limit {
            return Err(BodyError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// `Retry-After`, in seconds or as a date.
pub fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if let Ok(seconds) = text.parse() {
        Duration::from_secs(seconds)
    } else {
        let at = rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
        Duration::try_from(at.duration_since(now)).unwrap_or_default()
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date_and_has_a_bound() {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let cases = [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Fri, 02 Jan 2026 03:05:05 GMT", Some(60)),
            ("Fri, 02 Jan 2026 03:00:00 GMT", Some(0)),
            ("999999999999", Some(6 * 3600)),
            ("-5", None),
            ("soon", None),
        ];
        for (text, want) in cases {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
            assert_eq!(retry_after(&headers, now), want.map(Duration::from_secs), "{text}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
