//! What the environment of a pull request is called.

use crate::domain::image::Digest;

/// Longest name of an Environment.
const MAX: usize = 40;

/// Characters of a hash in a name.
const HASH: usize = 8;

/// Name of the environment of a project's pull request: the same each time, and no two have one. Where project and number
/// are too long together, the project is cut and a hash of both stands at the end.
pub fn environment_name(project: &str, number: i64) -> String {
    let plain = format!("{project}-pr-{number}");
    if plain.len() <= MAX {
        return plain;
    }
    let hash = Digest::of(format!("{project}/{number}").as_bytes()).hex()[..HASH].to_owned();
    let end = format!("-pr-{number}-{hash}");
    let front: String = project.chars().take(MAX.saturating_sub(end.len())).collect();
    format!("{}{end}", front.trim_end_matches('-'))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_short_and_say_whose_they_are() {
        assert_eq!(environment_name("shop", 42), "shop-pr-42");
        let long = environment_name(&"a".repeat(40), 42);
        assert!(long.starts_with("aaaaaaaaaa") && long.contains("-pr-42-"), "{long}");
        assert_eq!(long.len(), MAX);
        assert!(environment_name(&"a".repeat(40), i64::MAX).len() <= MAX);
        let cut = environment_name(&format!("{}-{}", "a".repeat(24), "b".repeat(10)), 42);
        assert!(!cut.contains("--"), "{cut}");
    }

    proptest! {
        #[test]
        fn no_two_pull_requests_have_one_name(
            pairs in prop::collection::vec(("[a-z]([-a-z0-9]{0,38}[a-z0-9])?(-pr-[0-9])?", 1_i64..2_000), 1..20)
        ) {
            let mut names = BTreeMap::new();
            for (project, number) in pairs {
                let name = environment_name(&project, number);
                prop_assert!(name.len() <= MAX, "{name}");
                prop_assert!(name.starts_with(|c: char| c.is_ascii_lowercase()), "{name}");
                prop_assert!(name.ends_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()), "{name}");
                prop_assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'), "{name}");
                let before = names.insert(name.clone(), (project.clone(), number));
                prop_assert!(before.is_none_or(|before| before == (project, number)), "{name}");
            }
        }
    }
}
