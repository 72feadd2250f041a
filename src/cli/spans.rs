//! Time as people write and read it: `--since 7d`, `3m12s`.

use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};

/// The instant that `--since` means: a time ago (`90m`, `7d`, `1w2d`) or an instant (`2026-11-21T08:00:00Z`).
///
/// # Errors
/// It is neither, or it lies before the first instant there is.
pub fn since(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Ok(instant);
    }
    let expected = || {
        format!(
            "`{text}` is no time: expected a time ago such as 90m, 24h or 7d, or an instant such as 2026-11-21T08:00:00Z"
        )
    };
    now.checked_sub(length(text).ok_or_else(expected)?).map_err(|_| expected())
}

/// The instant that `--expires` means: a time ahead (`24h`, `90d`) or an instant.
///
/// # Errors
/// It is neither, or it lies behind the last instant there is.
pub fn until(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Ok(instant);
    }
    let expected = || {
        format!(
            "`{text}` is no time: expected a time ahead such as 24h or 90d, or an instant such as 2027-01-31T00:00:00Z"
        )
    };
    now.checked_add(length(text).ok_or_else(expected)?).map_err(|_| expected())
}

fn length(text: &str) -> Option<SignedDuration> {
    let span: Span = text.parse().ok()?;
    span.to_duration(SpanRelativeTo::days_are_24_hours()).ok().filter(|length| !length.is_negative())
}

/// A duration in at most two units: `840ms`, `12s`, `3m12s`, `5h`, `2d4h`.
pub fn short(duration: SignedDuration) -> String {
    let seconds = duration.as_secs().max(0);
    if seconds < 1 {
        return format!("{}ms", duration.as_millis().max(0));
    }
    let units = [(seconds / 86_400, "d"), (seconds / 3600 % 24, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let shown: Vec<String> = units
        .iter()
        .skip_while(|(number, _)| *number == 0)
        .take(2)
        .filter(|(number, _)| *number > 0)
        .map(|(number, unit)| format!("{number}{unit}"))
        .collect();
    shown.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_takes_times_ago_and_instants() {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().expect("an instant");
        for (text, expected) in [
            ("90s", "2026-11-21T11:58:30Z"),
            ("90m", "2026-11-21T10:30:00Z"),
            ("24h", "2026-11-20T12:00:00Z"),
            ("7d", "2026-11-14T12:00:00Z"),
            ("1w2d3h", "2026-11-12T09:00:00Z"),
            ("2026-01-02T03:04:05+01:00", "2026-01-02T02:04:05Z"),
        ] {
            let expected: Timestamp = expected.parse().expect("an instant");
            assert_eq!(since(text, now), Ok(expected), "{text}");
        }
        for text in ["", "7", "yesterday", "-7d", "1mo", "90000y", "9999999999h"] {
            let error = since(text, now).expect_err(text);
            assert!(error.contains("expected a time ago"), "{error}");
        }
    }

    #[test]
    fn durations_have_two_units() {
        for (millis, expected) in [
            (-5, "0ms"),
            (0, "0ms"),
            (840, "840ms"),
            (1_000, "1s"),
            (12_900, "12s"),
            (60_000, "1m"),
            (192_000, "3m12s"),
            (5 * 3_600_000, "5h"),
            (5 * 3_600_000 + 59_000, "5h"),
            (52 * 3_600_000, "2d4h"),
            (900 * 86_400_000, "900d"),
        ] {
            let duration = SignedDuration::from_millis(millis);
            assert_eq!(short(duration), expected, "{millis} ms");
        }
    }
}
