//! The HTTP clients that every request to a registry or token service leaves through: one for all, and one for each
//! private authority that only some registries have.
//!
//! What must hold for all outbound requests is set here and nowhere else: deadlines, no redirects that we did not
//! judge, no proxy from the environment, no decompression, our certificates, and which addresses are asked (`guard`).

use std::sync::Arc;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Certificate, Client};

use super::endpoint::host_name;
use super::guard::{Guarded, Reach, Refused};
use super::{RegistryError, RegistryOptions};

const USER_AGENT: &str = concat!("stagekeeper/", env!("CARGO_PKG_VERSION"));

/// Connections to one host that are kept open while nothing is asked, and for how long.
const MAX_IDLE: usize = 16;
const IDLE: Duration = Duration::from_secs(60);

/// A client that trusts these authorities beside those of the options and of the system,
/// and asks addresses within this reach.
pub(super) fn build(options: &RegistryOptions, own_ca: Option<&[u8]>, reach: Reach) -> Result<Client, RegistryError> {
    let wrong = |why| move |error: reqwest::Error| RegistryError::Options { why: format!("{why}: {}", root(&error)) };
    let mut builder = Client::builder()
        .user_agent(USER_AGENT)
        .connect_timeout(options.connect_timeout)
        .timeout(options.request_timeout)
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
    for pem in [options.ca_pem.as_deref(), own_ca].into_iter().flatten() {
        let certificates = Certificate::from_pem_bundle(pem).map_err(wrong("the CA certificates are not valid PEM"))?;
        if certificates.is_empty() {
            return Err(RegistryError::Options { why: "the CA holds no certificate".into() });
        }
        builder = builder.tls_certs_merge(certificates);
    }
    builder.build().map_err(wrong("TLS"))
}

/// How a connection ends that the other side gives up, in the words of the kernel and of the HTTP client.
const BROKEN_OFF: [&str; 3] = ["connection closed before message completed", "onnection reset", "roken pipe"];

/// Why a request found no answer, in words without its URL.
pub(super) fn unreachable(place: String, error: &reqwest::Error) -> RegistryError {
    if let Some(Refused(why)) = refused(error) {
        return RegistryError::AddressRefused { place, host: error.url().map(host_name).unwrap_or_default(), why };
    }
    let cause = root(error);
    let why = if error.is_timeout() {
        "it did not answer in time".into()
    } else if error.is_dns() {
        "its host name cannot be resolved".into()
    } else if cause.contains("InvalidContentType") {
        "it does not speak TLS (a registry that speaks plain HTTP needs `insecure: true`)".into()
    } else if error.is_connect() {
        cause
    } else if BROKEN_OFF.iter().any(|how| cause.contains(how)) {
        // Which of these it is differs from one time to the next: a status that told it would never come to rest.
        "it broke the connection off before it answered".into()
    } else {
        format!("the connection broke off ({cause})")
    };
    RegistryError::Unreachable { place, why }
}

/// Why the address was not asked, if that is the cause.
fn refused(error: &reqwest::Error) -> Option<Refused> {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(inner) = cause {
        if let Some(refused) = inner.downcast_ref::<Refused>() {
            return Some(*refused);
        }
        cause = inner.source();
    }
    None
}

/// The innermost cause: the outer layers only repeat that a request failed, and its URL.
fn root(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    super::error::excerpt(&cause.to_string())
}
