//! Which header proves who sent a delivery, and how.
//!
//! Every secret is tried and every comparison takes the same time, whatever it compares.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

use super::{Headers, Source};

/// How far the signed time of a delivery may be from now.
const TOLERANCE: SignedDuration = SignedDuration::from_mins(5);

/// How many signatures of one delivery are looked at.
const MAX_SIGNATURES: usize = 8;

/// Whether the delivery was signed with one of these secrets, or carries it.
pub(super) fn is_by_any(source: Source, headers: &Headers, body: &[u8], secrets: &[&[u8]], now: Timestamp) -> bool {
    let mut proven = Choice::from(0);
    for secret in secrets {
        // Files end with a line break, headers and the forms in which secrets are typed do not.
        let secret = secret.trim_ascii_end();
        if !secret.is_empty() {
            proven |= is_by(source, headers, body, secret, now);
        }
    }
    proven.into()
}

fn is_by(source: Source, headers: &Headers, body: &[u8], secret: &[u8], now: Timestamp) -> Choice {
    let same = |name| same(headers.get(name), secret);
    match source {
        Source::GitHub => signed(headers.get("x-hub-signature-256"), secret, body, true),
        Source::Generic => {
            signed(headers.get("x-signature"), secret, body, true) | standard(headers, secret, body, now)
        }
        Source::Harbor => same("authorization"),
        Source::GitLab => same("x-gitlab-token"),
        Source::Gitea => signed(headers.get("x-gitea-signature"), secret, body, false),
        Source::JFrog => {
            let event = headers.get("x-jfrog-event-auth");
            same("x-jfrog-event-auth") | signed(event, secret, body, false) | configured(headers, secret)
        }
        Source::Diun | Source::DockerHub | Source::Quay | Source::Distribution | Source::Acr | Source::CloudEvents => {
            configured(headers, secret)
        }
    }
}

/// A header that people set where the sender is configured: `Authorization`, as it is or after `Bearer`, or
/// `X-Webhook-Secret`.
fn configured(headers: &Headers, secret: &[u8]) -> Choice {
    let authorization = headers.get("authorization");
    let scheme = authorization.and_then(|value| value.split_once(' '));
    let bearer =
        scheme.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim_start());
    same(authorization, secret) | same(bearer, secret) | same(headers.get("x-webhook-secret"), secret)
}

/// Digests are compared, so that the time tells nothing of the length either.
fn same(given: Option<&str>, secret: &[u8]) -> Choice {
    let equal = Sha256::digest(given.unwrap_or_default().as_bytes()).ct_eq(&Sha256::digest(secret));
    equal & Choice::from(u8::from(given.is_some()))
}

/// `sha256=` and the HMAC of the body in hexadecimal digits.
fn signed(given: Option<&str>, secret: &[u8], body: &[u8], prefixed: bool) -> Choice {
    let digits = given.and_then(|value| match value.strip_prefix("sha256=") {
        None if !prefixed => Some(value),
        digits => digits,
    });
    let mut claimed = [0; 32];
    let Some(Ok(())) = digits.map(|digits| hex::decode_to_slice(digits, &mut claimed)) else {
        return Choice::from(0);
    };
    hmac(secret, &[body]).ct_eq(&claimed)
}

/// Standard Webhooks: id, time and body are signed together, and the time has to be now.
fn standard(headers: &Headers, secret: &[u8], body: &[u8], now: Timestamp) -> Choice {
    let no = Choice::from(0);
    let (Some(id), Some(at), Some(signatures)) =
        (headers.get("webhook-id"), headers.get("webhook-timestamp"), headers.get("webhook-signature"))
    else {
        return no;
    };
    let then = at.parse().ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    if then.is_none_or(|then| then.duration_since(now).abs() > TOLERANCE) {
        return no;
    }
    let key = match secret.strip_prefix(b"whsec_") {
        None => Some(secret.to_vec()),
        Some(encoded) => STANDARD.decode(encoded).ok(),
    };
    let Some(key) = key else { return no };
    let expected = hmac(&key, &[id.as_bytes(), b".", at.as_bytes(), b".", body]);
    let mut proven = no;
    for claimed in signatures.split(' ').filter_map(|one| one.strip_prefix("v1,")).take(MAX_SIGNATURES) {
        if let Ok(claimed) = STANDARD.decode(claimed) {
            proven |= expected.ct_eq(claimed.as_slice());
        }
    }
    proven
}

fn hmac(secret: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    // A key of any length will do: this cannot fail.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else { return [0; 32] };
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// Signs as senders do.
#[cfg(test)]
pub(super) fn sign(secret: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    hmac(secret, parts)
}
