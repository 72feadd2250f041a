//! The rests that providers ask for, by host and token.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use reqwest::{StatusCode, header::HeaderMap};
use sha2::{Digest as _, Sha256};

use super::Token;
use crate::outbound::retry_after;

/// How long somebody is left alone who limits the rate of requests and does not say for how long.
const DEFAULT: Duration = Duration::from_mins(1);

/// Longest rest that is kept to.
const LONGEST: Duration = Duration::from_hours(6);

/// How much is left of a limit when nothing more is asked of it.
const RESERVE: u64 = 5;

/// Whom a rest concerns: limits are those of tokens.
type Key = [u8; 32];

/// Until when nobody is asked.
#[derive(Default)]
pub(super) struct Rests(Mutex<HashMap<Key, Timestamp>>);

impl Rests {
    pub(super) fn key(host: &str, token: &Token) -> Key {
        let mut hash = Sha256::new();
        hash.update(host.as_bytes());
        hash.update([0]);
        hash.update(token.0.as_bytes());
        hash.finalize().into()
    }

    /// How long a rest still lasts, if there is one.
    pub(super) fn left(&self, key: &Key, now: Timestamp) -> Option<Duration> {
        let mut rests = self.lock();
        rests.retain(|_, until| *until > now);
        let until = rests.get(key)?;
        Duration::try_from(until.duration_since(now)).ok()
    }

    /// Takes in what an answer says; how long to rest, if it was refused for that.
    pub(super) fn hear(&self, key: Key, status: StatusCode, headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
        let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
        let either =
            |name: &str| number(&format!("x-ratelimit-{name}")).or_else(|| number(&format!("ratelimit-{name}")));
        let (remaining, reset) = (either("remaining"), either("reset"));
        let until_reset = reset.and_then(|at| {
            let at = Timestamp::from_second(i64::try_from(at).ok()?).ok()?;
            Duration::try_from(at.duration_since(now)).ok()
        });
        let named = retry_after(headers, now);
        // GitHub answers 403 as well when a limit is reached.
        let refused = status == StatusCode::TOO_MANY_REQUESTS
            || (status == StatusCode::FORBIDDEN && (named.is_some() || remaining == Some(0)));
        let rest = if refused {
            Some(named.or(until_reset.filter(|_| remaining == Some(0))).unwrap_or(DEFAULT))
        } else {
            until_reset.filter(|_| remaining.is_some_and(|remaining| remaining <= RESERVE))
        };
        let rest = rest?.clamp(Duration::from_secs(1), LONGEST);
        let until = SignedDuration::try_from(rest).ok().and_then(|rest| now.checked_add(rest).ok());
        self.lock().insert(key, until.unwrap_or(now));
        refused.then_some(rest)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Timestamp>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderName, HeaderValue};

    use super::*;

    fn heard(status: u16, headers: &[(&'static str, &str)]) -> (Option<u64>, Option<u64>) {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let rests = Rests::default();
        let key = Rests::key("git.test", &Token::new(b"one").unwrap());
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .collect();
        let refused = rests.hear(key, StatusCode::from_u16(status).unwrap(), &headers, now);
        (refused.map(|rest| rest.as_secs()), rests.left(&key, now).map(|rest| rest.as_secs()))
    }

    #[test]
    fn rests_are_read_from_whatever_says_them() {
        for (status, headers, refused, left) in [
            (200, &[][..], None, None),
            (200, &[("x-ratelimit-remaining", "4000"), ("x-ratelimit-reset", "1000900")], None, None),
            (200, &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1000900")], None, Some(900)),
            (200, &[("ratelimit-remaining", "2"), ("ratelimit-reset", "1000030")], None, Some(30)),
            (429, &[], Some(60), Some(60)),
            (429, &[("retry-after", "7")], Some(7), Some(7)),
            (429, &[("retry-after", "0")], Some(1), Some(1)),
            (403, &[], None, None),
            (403, &[("retry-after", "120")], Some(120), Some(120)),
            (403, &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1000900")], Some(900), Some(900)),
            (403, &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "99999999999")], Some(21_600), Some(21_600)),
            (403, &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "5")], Some(60), Some(60)),
        ] {
            assert_eq!(heard(status, headers), (refused, left), "{status} {headers:?}");
        }
    }

    #[test]
    fn a_rest_is_one_tokens_at_one_host() {
        let token = |text: &str| Token::new(text.as_bytes()).unwrap();
        let keys = [Rests::key("a", &token("one")), Rests::key("a", &token("two")), Rests::key("b", &token("one"))];
        assert!(keys[0] != keys[1] && keys[0] != keys[2] && keys[1] != keys[2]);
    }
}
