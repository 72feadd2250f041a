//! What differs between what serves and what is wanted, and who is behind it. Pure.

use std::collections::BTreeMap;

use super::{sources::Source, wanted};
use crate::{
    controllers::vault::Holdings,
    domain::{actor::Actor, secret::SecretId},
    render::Snapshot,
};

/// Why a new deploy is made, in one sentence: images first, then secrets, never a value.
pub fn cause(before: Option<&Snapshot>, after: &Snapshot, sources: &[Source]) -> String {
    let images = wanted::cause(before.map(|before| &before.release), &after.release, sources);
    let Some(before) = before else { return images };
    let mut said = Vec::new();
    if before.release != after.release && images != wanted::CONFIGURATION {
        said.push(images);
    }
    let secrets = changes(before, after);
    for how in [Change::Changed, Change::Added, Change::Removed] {
        let ids: Vec<String> =
            secrets.iter().filter(|(_, change)| *change == how).map(|(id, _)| id.to_string()).collect();
        match &ids[..] {
            [] => {}
            [one] => said.push(format!("secret {one} {}", how.word())),
            several => said.push(format!("secrets {} {}", several.join(", "), how.word())),
        }
    }
    if said.is_empty() { wanted::CONFIGURATION.into() } else { said.join(", ") }
}

/// Who stored the value because of which there is a new deploy; none where more than values has changed.
pub fn keeper(before: Option<&Snapshot>, after: &Snapshot, held: &Holdings) -> Option<Actor> {
    let before = before?;
    if before.release != after.release {
        return None;
    }
    let mut last = None;
    for (id, change) in changes(before, after) {
        match (change, held.secrets.get(&id)) {
            (Change::Changed, Some(secret)) => last = Some(secret),
            _ => return None,
        }
    }
    last?.updated_by.parse().ok()
}

/// What became of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Changed,
    Added,
    Removed,
}

impl Change {
    const fn word(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Added => "added",
            Self::Removed => "removed",
        }
    }
}

/// The secrets of which another value is got now, or one for the first time, or none any more.
fn changes(before: &Snapshot, after: &Snapshot) -> Vec<(SecretId, Change)> {
    let of = |snapshot: &Snapshot| -> BTreeMap<SecretId, i64> {
        let all = snapshot.services.iter().flat_map(|service| &service.secrets);
        all.map(|one| (SecretId { name: one.name.clone(), service: one.service.clone() }, one.version)).collect()
    };
    let (before, after) = (of(before), of(after));
    let now = after.iter().filter_map(|(id, version)| match before.get(id) {
        None => Some((id.clone(), Change::Added)),
        Some(old) if old != version => Some((id.clone(), Change::Changed)),
        Some(_) => None,
    });
    let gone = before.keys().filter(|id| !after.contains_key(*id)).map(|id| (id.clone(), Change::Removed));
    now.chain(gone).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        controllers::fixture::{private_shop, snapshot_with},
        domain::{credential::CredentialKind, secret::SecretVersions},
        store::{VaultCredential, VaultProject, VaultSecret},
    };

    fn versions(all: i64, web: Option<i64>) -> SecretVersions {
        let tls = (SecretId::for_service("tls", "web"), 1);
        let own = web.map(|version| (SecretId::for_service("KEY", "web"), version));
        [(SecretId::for_all("KEY"), all), tls].into_iter().chain(own).collect()
    }

    fn shop(minor: u8, versions: &SecretVersions) -> Snapshot {
        snapshot_with(&private_shop(), minor, versions)
    }

    fn holdings(who: &str) -> Holdings {
        let secret = |secret, updated_by: &str| VaultSecret {
            secret,
            stamp: 2,
            origin: "command line".into(),
            updated_by: updated_by.into(),
        };
        let credential = VaultCredential {
            name: "ghcr".into(),
            id: uuid::Uuid::nil(),
            stamp: 4,
            kind: CredentialKind::Registry,
            hosts: vec!["ghcr.io".into()],
            expires_at: None,
            origin: "command line".into(),
            updated_by: "user:eve".into(),
        };
        Holdings::from(VaultProject {
            id: uuid::Uuid::nil(),
            namespace: "acme".into(),
            name: "shop".into(),
            credentials: vec![credential],
            secrets: vec![secret(SecretId::for_all("KEY"), who), secret(SecretId::for_service("KEY", "web"), who)],
            receivers: Vec::new(),
        })
    }

    #[test]
    fn the_cause_names_images_and_secrets_and_never_a_value() {
        let before = shop(0, &versions(1, None));
        let cases = [
            (None, shop(0, &versions(1, None)), "first deploy: db 1.0.0, web 1.0.0"),
            (Some(&before), shop(0, &versions(2, None)), "secret KEY changed"),
            (Some(&before), shop(0, &versions(1, Some(1))), "secret KEY of service web added"),
            (Some(&before), shop(1, &versions(2, None)), "db 1.0.0 → 1.1.0, web 1.0.0 → 1.1.0, secret KEY changed"),
            (Some(&before), shop(0, &versions(1, None)), "configuration changed"),
        ];
        for (before, after, want) in cases {
            assert_eq!(cause(before, &after, &[]), want);
        }
        let with_own = shop(0, &versions(1, Some(1)));
        assert_eq!(cause(Some(&with_own), &before, &[]), "secret KEY of service web removed");
    }

    #[test]
    fn whoever_stored_the_value_asked_for_the_deploy() {
        let before = shop(0, &versions(1, None));
        let jane = Some(Actor::User("jane".into()));
        assert_eq!(keeper(Some(&before), &shop(0, &versions(2, None)), &holdings("user:jane")), jane);
        let others = [shop(1, &versions(2, None)), shop(0, &versions(1, Some(1))), shop(0, &versions(1, None))];
        for after in others {
            assert_eq!(keeper(Some(&before), &after, &holdings("user:jane")), None, "more than a value has changed");
        }
        assert_eq!(keeper(None, &before, &holdings("user:jane")), None);
    }
}
