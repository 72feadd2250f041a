//! The HTTP clients that every request to a registry or token service leaves through: one for all, and one for each
//! private authority that only some registries have.

use reqwest::Client;

use super::endpoint::host_name;
use super::{RegistryError, RegistryOptions};
use crate::outbound::guard::{Reach, Refused};
use crate::outbound::{self, Deadlines};

/// A client that trusts these authorities beside those of the options and of the system,
/// and asks addresses within this reach.
pub(super) fn build(options: &RegistryOptions, own_ca: Option<&[u8]>, reach: Reach) -> Result<Client, RegistryError> {
    let deadlines = Deadlines { connect: options.connect_timeout, request: options.request_timeout };
    let authorities: Vec<&[u8]> = [options.ca_pem.as_deref(), own_ca].into_iter().flatten().collect();
    outbound::client(deadlines, &authorities, reach).map_err(|why| RegistryError::Options { why })
}

/// Why a request found no answer, in words without its URL.
pub(super) fn unreachable(place: String, error: &reqwest::Error) -> RegistryError {
    if let Some(Refused(why)) = outbound::refused(error) {
        return RegistryError::AddressRefused { place, host: error.url().map(host_name).unwrap_or_default(), why };
    }
    let why = outbound::why(error, "a registry that speaks plain HTTP needs `insecure: true`");
    RegistryError::Unreachable { place, why }
}
