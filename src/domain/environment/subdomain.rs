//! Hosts of environments: a readable part, and one that nobody can guess.

/// Characters that nobody can guess: 36¹² is more than 62 bits.
pub const SECRET: usize = 12;

/// Longest part of a host between two dots (RFC 1035).
const LABEL: usize = 63;

/// Longest readable part.
const READABLE: usize = 24;

/// What stands between the name of a service and the subdomain of its environment.
const BETWEEN: &str = "--";

const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// The readable part: the pull request, or else the environment's name, as a host may hold it.
pub fn prefix(pull_request: Option<i64>, name: &str) -> String {
    if let Some(number) = pull_request {
        return format!("pr-{number}");
    }
    let mut readable = String::new();
    for c in name.chars().map(|c| c.to_ascii_lowercase()) {
        let c = if c.is_ascii_alphanumeric() { c } else { '-' };
        // Two dashes divide a service from its environment.
        if c != '-' || !readable.ends_with('-') {
            readable.push(c);
        }
    }
    let readable: String =
        readable.trim_start_matches(|c: char| !c.is_ascii_alphabetic()).chars().take(READABLE).collect();
    let readable = readable.trim_end_matches('-');
    if readable.is_empty() { "env".to_owned() } else { readable.to_owned() }
}

/// A subdomain from random bytes: `prefix-secret`. Bytes that would make some characters likelier than others are passed over;
/// none where too few are left.
pub fn subdomain(prefix: &str, random: &[u8]) -> Option<String> {
    let fair = random.iter().filter(|byte| usize::from(**byte) < 256 / ALPHABET.len() * ALPHABET.len());
    let secret: String =
        fair.map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()])).take(SECRET).collect();
    (secret.len() == SECRET).then(|| format!("{prefix}-{secret}"))
}

/// The host of a service: the plain subdomain for the first one that is public, `service--subdomain` for the others. A name
/// that would be too long loses its end.
pub fn host(subdomain: &str, service: Option<&str>, domain: &str) -> String {
    match service {
        None => format!("{subdomain}.{domain}"),
        Some(service) => {
            let room = LABEL.saturating_sub(subdomain.len() + BETWEEN.len());
            let service: String = service.chars().take(room).collect();
            format!("{}{BETWEEN}{subdomain}.{domain}", service.trim_end_matches('-'))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_readable_part_is_the_pull_request_or_the_name() {
        let cases = [
            (Some(42), "anything", "pr-42"),
            (None, "demo", "demo"),
            (None, "a--b", "a-b"),
            (None, "7up", "up"),
            (None, "42", "env"),
            (None, "an-environment-with-a-very-long-name", "an-environment-with-a-ve"),
            (None, "abcdefghijklmnopqrstuvw-yz", "abcdefghijklmnopqrstuvw"),
        ];
        for (number, name, want) in cases {
            assert_eq!(prefix(number, name), want, "{number:?} {name}");
        }
    }

    #[test]
    fn every_character_is_as_likely_as_every_other() {
        let all: Vec<u8> = (0..=255).collect();
        let mut counts = std::collections::BTreeMap::new();
        for chunk in all.chunks(SECRET) {
            // Each byte once; what is passed over leaves a chunk short.
            for byte in chunk {
                if let Some(one) = subdomain("x", &[*byte; SECRET]) {
                    *counts.entry(one).or_insert(0) += 1;
                }
            }
        }
        assert_eq!(counts.len(), 36);
        assert!(counts.values().all(|count| *count == 7), "{counts:?}");
        assert_eq!(subdomain("x", &[255; 64]), None, "no byte of these is fair");
    }

    proptest! {
        #[test]
        fn a_host_is_one_that_the_world_takes(
            name in "[a-z]([-a-z0-9]{0,38}[a-z0-9])?",
            service in "[a-z]([-a-z0-9]{0,38}[a-z0-9])?",
            number in proptest::option::of(1_i64..1_000_000_000_000),
            random in proptest::collection::vec(0_u8..252, SECRET..40),
        ) {
            let subdomain = subdomain(&prefix(number, &name), &random).expect("enough bytes");
            for host in [host(&subdomain, None, "preview.example.com"), host(&subdomain, Some(&service), "preview.example.com")] {
                let label = host.split('.').next().expect("a label");
                prop_assert!(label.len() <= LABEL, "{label}");
                prop_assert!(label.starts_with(|c: char| c.is_ascii_lowercase()), "{label}");
                prop_assert!(label.ends_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()), "{label}");
                prop_assert!(label.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'), "{label}");
            }
            prop_assert!(!subdomain.contains(BETWEEN), "a service's host cannot be taken for a plain one: {subdomain}");
        }
    }
}
