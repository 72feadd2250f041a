//! The share of an installation that one leader works on: some namespaces, or all, of which only certain parts are its own.

use std::collections::BTreeSet;

use sha2::{Digest as _, Sha256};

/// Which namespaces somebody works on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    names: Option<Vec<String>>,
    shards: Vec<i32>,
    of: i32,
}

impl Share {
    /// Every namespace.
    pub const fn all() -> Self {
        Self { names: None, shards: Vec::new(), of: 1 }
    }

    /// These namespaces, or (none) every one.
    pub fn of(names: Option<Vec<String>>) -> Self {
        Self { names, ..Self::all() }
    }

    /// Of this share, one namespace.
    #[must_use]
    pub fn only(&self, namespace: &str) -> Self {
        Self { names: Some(vec![namespace.to_owned()]), ..self.clone() }
    }

    /// What all shards are together.
    #[must_use]
    pub fn whole(&self) -> Self {
        Self { shards: Vec::new(), of: 1, ..self.clone() }
    }

    /// Of these namespaces only those of `shards`, of which there are `of`. With one shard, that is all of them.
    #[must_use]
    pub fn sharded(self, shards: &BTreeSet<u16>, of: u16) -> Self {
        Self { shards: shards.iter().map(|shard| i32::from(*shard)).collect(), of: i32::from(of.max(1)), ..self }
    }

    /// Whether a namespace is among them.
    pub fn covers(&self, namespace: &str) -> bool {
        self.names.as_ref().is_none_or(|names| names.iter().any(|name| name == namespace))
            && (self.of == 1 || self.shards.contains(&shard_of(namespace, self.of)))
    }

    /// The names of the namespaces; none when there is no list, and the shards alone decide.
    pub fn names(&self) -> Option<Vec<String>> {
        let names = self.names.as_ref()?;
        Some(names.iter().filter(|name| self.covers(name)).cloned().collect())
    }

    /// The list of namespaces that the shards are parts of; none when there is no list.
    pub fn listed(&self) -> Option<&[String]> {
        self.names.as_deref()
    }

    /// The shards that are meant, of [`Share::count`].
    pub fn shards(&self) -> &[i32] {
        &self.shards
    }

    /// How many shards there are.
    pub const fn count(&self) -> i32 {
        self.of
    }

    /// Whether what is done once for the whole installation is done here.
    pub fn keeps_house(&self) -> bool {
        self.of == 1 || self.shards.contains(&0)
    }
}

/// The shard of a namespace among so many: the first four bytes of its SHA-256, as a number, modulo their count. `shard_of` in
/// the database counts the same way.
fn shard_of(namespace: &str, of: i32) -> i32 {
    let [a, b, c, d, ..] = <[u8; 32]>::from(Sha256::digest(namespace));
    let of = u32::try_from(of).unwrap_or(1).max(1);
    i32::try_from(u32::from_be_bytes([a, b, c, d]) % of).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shards(shards: &[u16], of: u16) -> Share {
        Share::all().sharded(&shards.iter().copied().collect(), of)
    }

    #[test]
    fn without_shards_every_namespace_is_covered() {
        for share in [Share::all(), shards(&[0], 1), shards(&[], 0)] {
            assert!(share.covers("acme") && share.keeps_house(), "{share:?}");
            assert_eq!(share.names(), None);
        }
    }

    #[test]
    fn each_namespace_has_one_shard() {
        for number in 0..300 {
            let namespace = format!("team-{number}");
            let of_it: Vec<u16> = (0..3).filter(|shard| shards(&[*shard], 3).covers(&namespace)).collect();
            assert_eq!(of_it.len(), 1, "{namespace}: {of_it:?}");
            assert!(shards(&[0, 1, 2], 3).covers(&namespace));
        }
    }

    #[test]
    fn shards_are_about_equal() {
        let names: Vec<String> = (0..3000).map(|number| format!("team-{number}")).collect();
        for shard in 0..3 {
            let count = names.iter().filter(|name| shards(&[shard], 3).covers(name)).count();
            assert!((900..1100).contains(&count), "shard {shard}: {count}");
        }
    }

    #[test]
    fn a_namespace_keeps_its_shard_for_ever() {
        // By the definition, computed elsewhere: what is stored by one version is found by the next.
        for (namespace, of_three, of_sixteen) in [("acme", 1, 13), ("shop", 2, 3), ("default", 0, 1)] {
            assert_eq!((shard_of(namespace, 3), shard_of(namespace, 16)), (of_three, of_sixteen), "{namespace}");
        }
    }

    #[test]
    fn a_list_of_namespaces_is_shared_too() {
        let names = || (0..40).map(|number| format!("team-{number}")).collect::<Vec<_>>();
        let parts: Vec<Share> =
            (0..2).map(|shard| Share::of(Some(names())).sharded(&BTreeSet::from([shard]), 2)).collect();
        let mut listed: Vec<String> = parts.iter().flat_map(|part| part.names().unwrap()).collect();
        listed.sort();
        let mut all = names();
        all.sort();
        assert_eq!(listed, all);
        assert!(!parts.iter().any(|part| part.covers("elsewhere")));
    }

    #[test]
    fn the_house_is_kept_by_one() {
        assert!(shards(&[0, 2], 3).keeps_house());
        assert!(!shards(&[1], 3).keeps_house() && !shards(&[], 3).keeps_house());
    }
}
