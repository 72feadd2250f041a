//! Names of what is rendered: a function of identity, at most 63 characters, valid as DNS labels (RFC 1035).
//!
//! Two different identities never share a name, by construction:
//! - A *tag* is eight characters of which the first is a digit; the names of services, hooks and volumes start with
//!   a letter. What follows the last `-` of a name therefore tells whether the name ends in a tag.
//! - A name without a tag is `stage-part` where the part holds no `-`, so that its last `-` splits it uniquely.
//! - A name with a tag is told apart by the tag: 39 bits of a hash over the whole identity, whose parts cannot
//!   slide into each other because no part holds a `/`. The readable text before it may be cut.

use sha2::{Digest as _, Sha256};

/// Longest name: the limit of a DNS label, which holds for Services, and of a label's value.
pub const MAX: usize = 63;

/// Characters of a tag: the first digit, then base 36.
const TAG: usize = 8;

/// Name of the one instance of a stage whose strategy changes it in place.
pub const IN_PLACE: &str = "main";

/// Instance of a stable Service that sends its traffic nowhere yet. No instance has this name: it is neither
/// [`IN_PLACE`] nor does it begin with a digit.
pub const NOWHERE: &str = "none";

/// Eight characters that stand for `input`: a digit, then seven of `0-9a-z`.
pub fn tag8(input: &str) -> String {
    let digest = Sha256::digest(input.as_bytes());
    let mut number = digest.iter().take(8).fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    let mut tag = [b'0'; TAG];
    tag[0] += u8::try_from(number % 10).unwrap_or_default();
    number /= 10;
    for place in &mut tag[1..] {
        let digit = u8::try_from(number % 36).unwrap_or_default();
        *place = if digit < 10 { b'0' + digit } else { b'a' + digit - 10 };
        number /= 36;
    }
    tag.iter().map(|byte| char::from(*byte)).collect()
}

/// `head-tag`, the head cut so that the whole fits.
fn tagged(head: &str, identity: &str) -> String {
    let cut: String = head.chars().take(MAX - 1 - TAG).collect();
    format!("{}-{}", cut.trim_end_matches('-'), tag8(identity))
}

/// `stage-part` where that is short and can be split again; else with a tag.
fn plain(stage: &str, part: &str, identity: &str) -> String {
    let name = format!("{stage}-{part}");
    if part.contains('-') || name.len() > MAX { tagged(&name, identity) } else { name }
}

/// The stage's own Service for a service, whatever instance it points at; also the workload and the Service of a
/// service that exists once per stage.
pub fn stage_service(stage: &str, service: &str) -> String {
    plain(stage, service, &format!("{stage}/{service}"))
}

/// Workload and Service of a service in one instance.
pub fn instance_service(stage: &str, service: &str, instance: &str) -> String {
    tagged(&format!("{stage}-{service}"), &format!("{stage}/{service}/{instance}"))
}

/// Binding of one of a project's roles.
pub fn binding(project: &str, role: &str) -> String {
    tagged(&format!("{project}-{role}"), &format!("access/{project}/{role}"))
}

/// Claim that outlives instances.
pub fn shared_claim(stage: &str, service: &str, volume: &str) -> String {
    tagged(&format!("{stage}-{service}-{volume}"), &format!("shared/{stage}/{service}/{volume}"))
}

/// Claim that goes with its instance.
pub fn instance_claim(stage: &str, service: &str, volume: &str, instance: &str) -> String {
    tagged(&format!("{stage}-{service}-{volume}"), &format!("own/{stage}/{service}/{volume}/{instance}"))
}

/// Files of a service, by their content: pods that still run with the files before keep theirs.
pub fn config(stage: &str, service: &str, content_hash: &str) -> String {
    tagged(&format!("{stage}-{service}"), &format!("files/{stage}/{service}/{content_hash}"))
}

/// Values of a service's secrets, by which secrets at which versions: pods that still run with the values before keep
/// theirs.
pub fn secret(stage: &str, service: &str, content_hash: &str) -> String {
    tagged(&format!("{stage}-{service}"), &format!("secret/{stage}/{service}/{content_hash}"))
}

/// Logins with which nodes pull the images of one instance, or of the services that a stage's instances share.
pub fn pull_secret(stage: &str, instance: Option<&str>) -> String {
    tagged(&format!("{stage}-pull"), &format!("pull/{stage}/{}", instance.unwrap_or_default()))
}

/// Job of a hook; another deploy runs another Job.
pub fn job(stage: &str, hook: &str, phase: &str, deploy: &str) -> String {
    tagged(&format!("{stage}-{hook}"), &format!("{deploy}/{phase}/{hook}"))
}

/// The stage's route.
pub fn stage_route(stage: &str) -> String {
    plain(stage, "route", &format!("route/{stage}"))
}

/// Route of a service that has a host of its own besides the stage's.
pub fn service_route(stage: &str, service: &str) -> String {
    tagged(&format!("{stage}-{service}"), &format!("route/{stage}//{service}"))
}

/// The Service that stands for the built-in proxy where a stage's routes are.
pub fn fallback_service(stage: &str) -> String {
    tagged(&format!("{stage}-edge"), &format!("fallback/{stage}"))
}

/// Route of one instance.
pub fn instance_route(stage: &str, instance: &str) -> String {
    tagged(stage, &format!("route/{stage}/{instance}"))
}

/// Value of the label that tags a pod with the revision it runs: the beginning of a hash.
pub fn revision(hash: &str) -> String {
    hash.chars().take(40).collect()
}

/// Name of a service's file in its `ConfigMap`, whose keys may hold no `/`.
pub fn file_key(volume: &str, path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    let key = if file == path { format!("{volume}.{file}") } else { format!("{volume}.{}.{file}", tag8(path)) };
    if key.len() > 253 { format!("{volume}.{}", tag8(path)) } else { key }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn is_dns_1035(name: &str) -> bool {
        name.len() <= MAX
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.ends_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    }

    /// Names as the schema admits them; few letters, so that near-collisions are frequent.
    fn name() -> impl Strategy<Value = String> {
        prop_oneof!["[ab]([-ab0]{0,3}[ab0])?", "[a-z]([-a-z0-9]{0,38}[a-z0-9])?"]
    }

    #[test]
    fn names_stay_what_they_are() {
        assert_eq!(tag8("shop/web/0abc"), "9b6twgaf");
        assert_eq!(stage_service("production", "web"), "production-web");
        assert_eq!(stage_service("production", "web-api"), "production-web-api-08441pm9");
        assert_eq!(stage_route("production"), "production-route");
    }

    #[test]
    fn a_stage_that_ends_like_a_service_is_told_apart() {
        assert_ne!(stage_service("a", "b-c"), stage_service("a-b", "c"));
        assert_ne!(stage_route("a"), stage_route("a-route"));
    }

    proptest! {
        #[test]
        fn a_tag_is_a_digit_and_seven_of_base_36(input in ".*") {
            let tag = tag8(&input);
            prop_assert_eq!(tag.len(), 8);
            prop_assert!(tag.starts_with(|c: char| c.is_ascii_digit()));
            prop_assert!(tag.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()));
            prop_assert_eq!(tag, tag8(&input));
        }

        #[test]
        fn every_name_is_a_dns_label(stage in name(), part in name(), other in name(), hash in "[0-9a-f]{64}") {
            for name in [
                stage_service(&stage, &part),
                instance_service(&stage, &part, &tag8(&hash)),
                shared_claim(&stage, &part, &other),
                instance_claim(&stage, &part, &other, IN_PLACE),
                config(&stage, &part, &hash),
                secret(&stage, &part, &hash),
                pull_secret(&stage, None),
                pull_secret(&stage, Some(&tag8(&hash))),
                job(&stage, &part, "beforeStart", &hash),
                stage_route(&stage),
                instance_route(&stage, &tag8(&hash)),
            ] {
                prop_assert!(is_dns_1035(&name), "{}", name);
            }
        }

        #[test]
        fn services_of_different_identity_have_different_names(
            identities in prop::collection::btree_set((name(), name(), prop::option::of(0..4_u8)), 2..40)
        ) {
            let mut seen = BTreeMap::new();
            for identity in identities {
                let (stage, service, instance) = &identity;
                let name = match instance {
                    None => stage_service(stage, service),
                    Some(instance) => instance_service(stage, service, &tag8(&instance.to_string())),
                };
                if let Some(other) = seen.insert(name.clone(), identity.clone()) {
                    prop_assert!(false, "{} names {:?} and {:?}", name, other, identity);
                }
            }
        }

        #[test]
        fn secrets_of_different_identity_have_different_names(
            identities in prop::collection::btree_set(
                prop_oneof![
                    (name(), name().prop_map(Some), (0..4_u8).prop_map(Some)),
                    (name(), Just(None), prop::option::of(0..4_u8)),
                ],
                2..40,
            )
        ) {
            let mut seen = BTreeMap::new();
            for identity in identities {
                let (stage, service, number) = &identity;
                let tag = number.map(|number| tag8(&number.to_string()));
                let name = match service {
                    Some(service) => secret(stage, service, &tag.unwrap_or_default()),
                    None => pull_secret(stage, tag.as_deref()),
                };
                if let Some(other) = seen.insert(name.clone(), identity.clone()) {
                    prop_assert!(false, "{} names {:?} and {:?}", name, other, identity);
                }
            }
        }

        #[test]
        fn what_follows_the_last_dash_tells_plain_names_from_tagged_ones(stage in name(), service in name()) {
            let name = stage_service(&stage, &service);
            let (head, last) = name.rsplit_once('-').expect("a dash");
            if last.starts_with(|c: char| c.is_ascii_digit()) {
                prop_assert!(service.contains('-') || stage.len() + 1 + service.len() > MAX);
                prop_assert_eq!(last, tag8(&format!("{stage}/{service}")));
            } else {
                prop_assert_eq!((head, last), (stage.as_str(), service.as_str()));
            }
        }

        #[test]
        fn files_have_different_valid_keys(paths in prop::collection::btree_set("[a-c.]{1,2}(/[a-c.]{1,2}){0,2}", 2..20)) {
            let keys: std::collections::BTreeSet<_> = paths.iter().map(|path| file_key("conf", path)).collect();
            prop_assert_eq!(keys.len(), paths.len());
            for key in keys {
                prop_assert!(key.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) && key.len() <= 253);
            }
        }
    }
}
