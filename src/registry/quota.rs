//! `RateLimit-*`: how many requests a registry still allows, before it has to say 429.
//!
//! Docker Hub writes `RateLimit-Limit: 100;w=21600` and `RateLimit-Remaining: 76;w=21600`. The drafts of the IETF have
//! `RateLimit-Reset: 50` beside them, then one header `RateLimit: limit=100, remaining=50, reset=50`, then
//! `RateLimit: "default";r=50;t=30` with `RateLimit-Policy: "default";q=100;w=60`. GitLab's reset is a moment in seconds
//! since 1970.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::HeaderMap;

/// Longest rest that follows from a quota alone: it may be for other requests than ours, and it may be raised.
const MAX_REST: Duration = Duration::from_mins(15);
/// From here on a number of seconds is a moment. As a time to wait it would be thirty years.
const MOMENTS: u64 = 1_000_000_000;
/// What counts as little where the limit is not known.
const FEW: u64 = 10;

/// What is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Quota {
    remaining: u64,
    limit: Option<u64>,
    /// The time in which the limit holds.
    window: Option<Duration>,
    /// Until there is as much as the limit again.
    reset: Option<Duration>,
}

impl Quota {
    /// The scarcest of what the headers tell; None when they tell nothing.
    pub(super) fn of(headers: &HeaderMap, now: Timestamp) -> Option<Self> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let wait = |seconds: u64| until(seconds, now);
        if let Some(combined) = text("ratelimit") {
            if let Some(remaining) = parameter(combined, "remaining") {
                let (limit, reset) = (parameter(combined, "limit"), parameter(combined, "reset").map(wait));
                return Some(Self { remaining, limit, window: None, reset });
            }
            let policies = text("ratelimit-policy").unwrap_or_default();
            let quotas = combined.split(',').filter_map(|item| {
                let policy = policies.split(',').find(|policy| name(policy) == name(item)).unwrap_or_default();
                Some(Self {
                    remaining: parameter(item, "r")?,
                    limit: parameter(policy, "q"),
                    window: parameter(policy, "w").map(Duration::from_secs),
                    reset: parameter(item, "t").map(wait),
                })
            });
            return quotas.min_by_key(|quota| quota.remaining);
        }
        let (remaining, limit) = (text("ratelimit-remaining")?, text("ratelimit-limit").unwrap_or_default());
        Some(Self {
            remaining: name(remaining).parse().ok()?,
            limit: name(limit).parse().ok(),
            window: parameter(remaining, "w").or_else(|| parameter(limit, "w")).map(Duration::from_secs),
            reset: text("ratelimit-reset").and_then(|text| text.trim().parse().ok()).map(wait),
        })
    }

    /// How long not to ask. Nothing is left: until there will be something. Little is left: for its share of the time
    /// until then. Otherwise not at all.
    pub(super) fn rest(self) -> Option<Duration> {
        let scarce = match self.limit {
            Some(limit) => self.remaining.saturating_mul(10) < limit,
            None => self.remaining < FEW,
        };
        if !scarce {
            return None;
        }
        let shares = u32::try_from(self.remaining.saturating_add(1)).unwrap_or(u32::MAX);
        // In a window that slides, requests come back one by one.
        let in_window = || {
            let limit = u32::try_from(self.limit?.max(1)).unwrap_or(u32::MAX);
            Some(self.window? / limit)
        };
        let rest = self.reset.map(|reset| reset / shares).or_else(in_window)?;
        Some(rest.min(MAX_REST)).filter(|rest| !rest.is_zero())
    }
}

/// What stands before the parameters of an item: `76` of `76;w=21600`. Of a list, that of its first item.
fn name(item: &str) -> &str {
    item.split([';', ',']).next().unwrap_or_default().trim()
}

/// A number among `key=number`, however they are separated.
fn parameter(text: &str, key: &str) -> Option<u64> {
    text.split([';', ','])
        .filter_map(|part| part.split_once('='))
        .find(|(name, _)| name.trim() == key)?
        .1
        .trim()
        .parse()
        .ok()
}

/// The time until a reset, which is named as a time from now or as a moment.
fn until(reset: u64, now: Timestamp) -> Duration {
    if reset < MOMENTS {
        return Duration::from_secs(reset);
    }
    let now = u64::try_from(now.as_second()).unwrap_or_default();
    Duration::from_secs(reset.saturating_sub(now))
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn what_is_left_says_how_long_to_rest() {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let soon = (now.as_second() + 40).to_string();
        let policy = r#""burst";q=100;w=60,"daily";q=1000;w=86400"#;
        #[rustfmt::skip]
        let cases: [(&str, &[(&'static str, &str)], Option<u64>); 19] = [
            ("Docker Hub, plenty", &[("ratelimit-limit", "100;w=21600"), ("ratelimit-remaining", "76;w=21600")], None),
            ("Docker Hub, little", &[("ratelimit-limit", "100;w=21600"), ("ratelimit-remaining", "9;w=21600")], Some(216)),
            ("Docker Hub, nothing", &[("ratelimit-limit", "100;w=21600"), ("ratelimit-remaining", "0;w=21600")], Some(216)),
            ("the window beside the limit alone", &[("ratelimit-limit", "10;w=20"), ("ratelimit-remaining", "0")], Some(2)),
            ("first draft, nothing", &[("ratelimit-limit", "100"), ("ratelimit-remaining", "0"), ("ratelimit-reset", "50")], Some(50)),
            ("first draft, little: a share", &[("ratelimit-limit", "100"), ("ratelimit-remaining", "4"), ("ratelimit-reset", "50")], Some(10)),
            ("first draft, plenty", &[("ratelimit-limit", "100"), ("ratelimit-remaining", "10"), ("ratelimit-reset", "50")], None),
            ("limit with its policies", &[("ratelimit-limit", "100, 100;w=60"), ("ratelimit-remaining", "0"), ("ratelimit-reset", "7")], Some(7)),
            ("a moment", &[("ratelimit-limit", "100"), ("ratelimit-remaining", "0"), ("ratelimit-reset", &soon)], Some(40)),
            ("a moment that has passed", &[("ratelimit-limit", "100"), ("ratelimit-remaining", "0"), ("ratelimit-reset", "1000000000")], None),
            ("one header", &[("ratelimit", "limit=100, remaining=0, reset=30")], Some(30)),
            ("one header, plenty", &[("ratelimit", "limit=100, remaining=60, reset=30")], None),
            ("structured", &[("ratelimit", r#""burst";r=0;t=12"#), ("ratelimit-policy", policy)], Some(12)),
            ("structured, the scarcest", &[("ratelimit", r#""daily";r=900;t=9,"burst";r=1;t=12"#), ("ratelimit-policy", policy)], Some(6)),
            ("structured, without a reset", &[("ratelimit", r#""burst";r=0"#), ("ratelimit-policy", r#""burst";q=6;w=60"#)], Some(10)),
            ("no limit is known, and few are left", &[("ratelimit-remaining", "0"), ("ratelimit-reset", "5")], Some(5)),
            ("a reset in a year", &[("ratelimit-remaining", "0"), ("ratelimit-reset", "31536000")], Some(900)),
            ("nothing left, and no word of when", &[("ratelimit-limit", "100"), ("ratelimit-remaining", "0")], None),
            ("not numbers", &[("ratelimit-limit", "many"), ("ratelimit-remaining", "-1;w=x"), ("ratelimit", "soon")], None),
        ];
        for (name, headers, want) in cases {
            let headers = headers
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()));
            let rest = Quota::of(&headers.collect(), now).and_then(Quota::rest);
            assert_eq!(rest, want.map(Duration::from_secs), "{name}");
        }
        assert_eq!(Quota::of(&HeaderMap::new(), now), None);
    }

    proptest::proptest! {
        #[test]
        fn any_header_is_answered(remaining in "[ -~]{0,30}", combined in "(limit|remaining|reset|r|t|=|;|,|[0-9]{1,20}|\"){0,20}") {
            for (name, value) in [("ratelimit-remaining", &remaining), ("ratelimit", &combined)] {
                let headers = HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())]);
                let _read = Quota::of(&headers, Timestamp::UNIX_EPOCH).and_then(Quota::rest);
            }
        }
    }
}
