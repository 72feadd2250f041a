//! What differs between two snapshots: images in full, everything else by name. No value of a variable, a file or a field gets
//! into an answer, whatever it is.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::views::{Image, images};
use crate::domain::release::Release;

/// Paths that are told at most.
const PATHS: usize = 500;

/// What differs between two deploys.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, JsonSchema)]
pub struct Difference {
    /// The deploy that is compared with; left out when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Uuid>,
    /// The deploy.
    pub to: Uuid,
    /// Images that differ, by service.
    pub images: BTreeMap<String, ImageChange>,
    /// Environment variables that differ, by service.
    pub env: BTreeMap<String, EnvChange>,
    /// Everything else that differs, by its path in what the deploy is rendered from: `services.web.replicas`. At most 500.
    pub configuration: BTreeSet<String>,
}

/// An image that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ImageChange {
    /// Before; left out for a new service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Image>,
    /// After; left out for a service that is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Image>,
}

/// Names of environment variables that differ.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, JsonSchema)]
pub struct EnvChange {
    /// There are now.
    pub added: BTreeSet<String>,
    /// Are no more.
    pub removed: BTreeSet<String>,
    /// Have another value.
    pub changed: BTreeSet<String>,
}

/// What differs from one release and snapshot to the other.
pub(super) fn difference(releases: (Option<&Release>, &Release), before: &Value, after: &Value) -> Difference {
    let (env_before, env_after) = (env(before), env(after));
    let env = keys(&env_before, &env_after).into_iter().filter_map(|service| {
        let (old, new) = (env_before.get(service), env_after.get(service));
        let change = env_change(old.unwrap_or(&BTreeMap::new()), new.unwrap_or(&BTreeMap::new()));
        (change != EnvChange::default()).then(|| (service.to_owned(), change))
    });
    let (old, new) = (leaves(before), leaves(after));
    let changed = keys(&old, &new).into_iter().filter(|path| old.get(*path) != new.get(*path));
    let before = releases.0.map(images).unwrap_or_default();
    let after = images(releases.1);
    let images = keys(&before, &after).into_iter().filter_map(|service| {
        let (from, to) = (before.get(service), after.get(service));
        let is_same =
            from.map(|image| (&image.repository, &image.digest)) == to.map(|image| (&image.repository, &image.digest));
        (!is_same).then(|| (service.to_owned(), ImageChange { from: from.cloned(), to: to.cloned() }))
    });
    Difference {
        from: None,
        to: Uuid::nil(),
        images: images.collect(),
        env: env.collect(),
        configuration: changed.take(PATHS).map(str::to_owned).collect(),
    }
}

fn keys<'a, A, B>(one: &'a BTreeMap<String, A>, other: &'a BTreeMap<String, B>) -> BTreeSet<&'a str> {
    one.keys().chain(other.keys()).map(String::as_str).collect()
}

/// Variables by service.
fn env(snapshot: &Value) -> BTreeMap<String, BTreeMap<String, &Value>> {
    let services = snapshot["services"].as_array().into_iter().flatten();
    let named = services.filter_map(|service| Some((service["name"].as_str()?.to_owned(), &service["env"])));
    named
        .map(|(service, env)| {
            let all = env.as_array().into_iter().flatten();
            (service, all.filter_map(|one| Some((one["name"].as_str()?.to_owned(), one))).collect())
        })
        .collect()
}

fn env_change(before: &BTreeMap<String, &Value>, after: &BTreeMap<String, &Value>) -> EnvChange {
    let mut change = EnvChange::default();
    for name in keys(before, after) {
        let into = match (before.get(name), after.get(name)) {
            (None, _) => &mut change.added,
            (_, None) => &mut change.removed,
            (old, new) if old != new => &mut change.changed,
            _ => continue,
        };
        into.insert(name.to_owned());
    }
    change
}

/// Everything in a snapshot but images, variables and names, by its path. Lists of named things are told by their names, other
/// lists are one thing.
fn leaves(snapshot: &Value) -> BTreeMap<String, &Value> {
    let mut found = BTreeMap::new();
    for (key, value) in snapshot.as_object().into_iter().flatten() {
        // The identity is where it runs, and the release is told as images.
        if !matches!(key.as_str(), "version" | "namespace" | "project" | "stage" | "release") {
            collect(key.clone(), value, &mut found);
        }
    }
    found
}

fn collect<'a>(path: String, value: &'a Value, found: &mut BTreeMap<String, &'a Value>) {
    let named: Option<Vec<(&str, &Value)>> =
        value.as_array().and_then(|items| items.iter().map(|item| Some((item["name"].as_str()?, item))).collect());
    match (value, named) {
        (Value::Object(fields), _) if !fields.is_empty() => {
            for (key, value) in fields {
                let is_service = path.matches('.').count() == 1 && path.starts_with("services.");
                if !(key == "name" || is_service && key == "env") {
                    collect(format!("{path}.{key}"), value, found);
                }
            }
        }
        (Value::Array(items), Some(named)) if !items.is_empty() => {
            for (name, item) in named {
                collect(format!("{path}.{name}"), item, found);
            }
        }
        _ => {
            found.insert(path, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::release::ReleaseImage;

    fn release(parts: &[(&str, &str)]) -> Release {
        let image = |(service, digest): &(&str, &str)| {
            let image =
                ReleaseImage { repository: "r/shop".into(), tag: Some("1".into()), digest: (*digest).to_owned() };
            ((*service).to_owned(), image)
        };
        Release(parts.iter().map(image).collect())
    }

    #[test]
    fn names_are_told_and_values_are_not() {
        let before = json!({
            "version": 1, "stage": "dev", "strategy": "BlueGreen",
            "services": [{
                "name": "web", "replicas": 1,
                "env": [{"name": "GONE", "value": "hunter1"}, {"name": "MOVED", "value": "hunter2"}, {"name": "SAME", "value": "x"}],
                "secrets": [{"name": "KEY", "version": 1}],
                "volumes": [{"name": "conf", "source": {"files": {"a.conf": "hunter3"}}}],
            }],
            "hooks": {"verify": [{"name": "smoke", "env": [{"name": "TOKEN", "value": "hunter7"}]}]},
        });
        let after = json!({
            "version": 1, "stage": "prod", "strategy": "BlueGreen",
            "services": [{
                "name": "web", "replicas": 2,
                "env": [{"name": "NEW", "value": "hunter4"}, {"name": "MOVED", "value": "hunter5"}, {"name": "SAME", "value": "x"}],
                "secrets": [{"name": "KEY", "version": 2}],
                "volumes": [{"name": "conf", "source": {"files": {"a.conf": "hunter6"}}}],
            }],
            "hooks": {"verify": [{"name": "smoke", "env": [{"name": "TOKEN", "value": "hunter8"}]}]},
        });
        let old = release(&[("web", "sha256:a"), ("db", "sha256:c")]);
        let found = difference((Some(&old), &release(&[("web", "sha256:b"), ("db", "sha256:c")])), &before, &after);
        let said = serde_json::to_value(&found).unwrap();
        assert!(!said.to_string().contains("hunter"), "{said}");
        assert_eq!(said["env"], json!({"web": {"added": ["NEW"], "removed": ["GONE"], "changed": ["MOVED"]}}));
        let paths = json!([
            "hooks.verify.smoke.env.TOKEN.value",
            "services.web.replicas",
            "services.web.secrets.KEY.version",
            "services.web.volumes.conf.source.files.a.conf"
        ]);
        assert_eq!(said["configuration"], paths);
        assert_eq!(said["images"].as_object().unwrap().keys().collect::<Vec<_>>(), ["web"]);
        assert_eq!(said["images"]["web"]["from"]["digest"], "sha256:a");
    }

    #[test]
    fn without_a_deploy_before_everything_is_new() {
        let after = json!({"services": [{"name": "web", "replicas": 1, "env": [{"name": "A", "value": "b"}]}]});
        let found = difference((None, &release(&[("web", "sha256:b")])), &Value::Null, &after);
        assert_eq!(found.env["web"].added, ["A".to_owned()].into());
        assert_eq!(found.configuration, ["services.web.replicas".to_owned()].into());
        assert_eq!(found.images["web"].from, None);
    }
}
