//! Files and secrets of releases that are gone.
//!
//! A service's files are a `ConfigMap` named by its content, so that pods keep the files they started with; its secrets are
//! a Secret named by their versions. Where a release takes the place of the one before, in the same instance or in what
//! all instances share, the old ones stay behind; they go once the new release serves. Those of a whole instance go with
//! it.

use k8s_openapi::api::core::v1::{ConfigMap, Secret};

use super::{Target, apply, plan::Planned};
use crate::{
    api::labels,
    cluster::index::{Meta, StageChildren},
    controllers::{context::Context, error::Error},
    render::{Scope, Snapshot, snapshot::VolumeSource},
};

/// What to delete: whatever meets the demands, except these names.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stale {
    demands: Vec<String>,
    except: Vec<String>,
}

/// Whether a release of this snapshot leaves files or secrets behind when another takes its place.
pub fn leaves_any(snapshot: &Snapshot) -> bool {
    let stays = |scope: Scope| scope == Scope::Stage || snapshot.strategy.is_in_place();
    let has_any = |service: &crate::render::ServiceSpec| {
        let files = service.volumes.iter().any(|volume| matches!(volume.source, VolumeSource::Files(_)));
        files || !service.secrets.is_empty() || service.pull_credential.is_some()
    };
    snapshot.services.iter().any(|service| stays(service.scope) && has_any(service))
}

/// Deletes the files and secrets that no pod of the serving instance has, and that no other instance has as its own. To be
/// called while nothing else is being deployed.
pub async fn prune(
    ctx: &Context,
    target: &Target<'_>,
    serving: &Planned,
    snapshot: &Snapshot,
    children: &StageChildren,
) -> Result<(), Error> {
    apply::delete::<Secret>(ctx, &target.place, stale_secrets(serving, snapshot, children)).await?;
    for Stale { demands, except } in stale(&target.place.name, serving, snapshot) {
        let except: Vec<&str> = except.iter().map(String::as_str).collect();
        ctx.writer.delete_labelled::<ConfigMap>(&target.place.namespace, &demands, &except).await?;
    }
    Ok(())
}

fn stale_secrets<'a>(serving: &Planned, snapshot: &Snapshot, children: &'a StageChildren) -> Vec<&'a Meta> {
    let is_had = |name: &str| serving.manifests.secrets().any(|one| one.name() == name);
    let replaced = |meta: &&Meta| match meta.instance.as_deref() {
        None => true,
        Some(instance) => snapshot.strategy.is_in_place() && instance == serving.manifests.instance,
    };
    apply::metas(children.secrets()).into_iter().filter(replaced).filter(|meta| !is_had(&meta.name)).collect()
}

fn stale(stage: &str, serving: &Planned, snapshot: &Snapshot) -> Vec<Stale> {
    let mounted = |scope: Scope| {
        let services = serving.manifests.services().filter(move |service| service.scope == scope);
        services.filter_map(|service| service.config.as_ref()?.metadata.name.clone()).collect()
    };
    let stage = format!("{}={stage}", labels::STAGE);
    let shared =
        Stale { demands: vec![stage.clone(), format!("!{}", labels::INSTANCE)], except: mounted(Scope::Stage) };
    let in_place = snapshot.strategy.is_in_place().then(|| Stale {
        demands: vec![stage, format!("{}={}", labels::INSTANCE, serving.manifests.instance)],
        except: mounted(Scope::Instance),
    });
    std::iter::once(shared).chain(in_place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        controllers::fixture::{Cluster, SHOP, entry, private_shop, snapshot, snapshot_with},
        domain::{
            deploy::State,
            secret::{SecretId, SecretVersions},
        },
    };

    fn rolling(text: &str) -> String {
        text.replace("project: shop\n", "project: shop\n  strategy: {type: Rolling}\n")
    }

    fn planned(text: &str) -> (Planned, Snapshot) {
        let entry = entry(snapshot(text, 0), 1, State::Success);
        (Cluster::default().planned(&entry), (*entry.snapshot).clone())
    }

    #[test]
    fn only_files_of_what_is_changed_in_place_are_left_behind() {
        let shared = SHOP.replace(
            "sql, port: 5432}]",
            "sql, port: 5432}]\n    volumes: [{name: conf, mountPath: /etc/db, files: {db.conf: 'a = 1'}}]",
        );
        assert!(!leaves_any(&snapshot(SHOP, 0)), "they go with their instance");
        assert!(leaves_any(&snapshot(&rolling(SHOP), 0)));
        assert!(leaves_any(&snapshot(&shared, 0)));
        assert!(!leaves_any(&snapshot(&rolling(&SHOP.replace("files: {shop.conf: 'a = 1'}", "emptyDir: {}")), 0)));
    }

    #[test]
    fn what_the_serving_release_mounts_stays_and_so_does_what_belongs_to_other_instances() {
        let (serving, snapshot) = planned(&rolling(SHOP));
        let config = serving.manifests.service("web").and_then(|web| web.config.clone()).expect("files");
        let found = stale("dev", &serving, &snapshot);
        let stage = "stagekeeper.dev/stage=dev".to_owned();
        let want = [
            Stale { demands: vec![stage.clone(), "!stagekeeper.dev/instance".into()], except: vec![] },
            Stale {
                demands: vec![stage, "stagekeeper.dev/instance=main".into()],
                except: vec![config.metadata.name.clone().expect("a name")],
            },
        ];
        assert_eq!(found, want);
        // The demands fit the labels of what they are about.
        let labels = config.metadata.labels.expect("labels");
        assert_eq!(labels.get(labels::INSTANCE).map(String::as_str), Some("main"));
        assert_eq!(labels.get(labels::STAGE).map(String::as_str), Some("dev"));
        assert_eq!(labels.get(labels::MANAGED_BY).map(String::as_str), Some(labels::FIELD_MANAGER));

        let (serving, snapshot) = planned(SHOP);
        assert_eq!(stale("dev", &serving, &snapshot), want[..1], "other instances have files of their own");
    }

    #[test]
    fn secrets_that_another_release_had_go_and_those_of_other_instances_stay() {
        let versions = |key: i64| {
            SecretVersions::from([(SecretId::for_all("KEY"), key), (SecretId::for_service("tls", "web"), 1)])
        };
        let made = |text: &str, key: i64| {
            let entry = entry(snapshot_with(text, 0, &versions(key)), 1, State::Success);
            (Cluster::default().planned(&entry), (*entry.snapshot).clone())
        };
        for (text, gone) in [(rolling(&private_shop()), true), (private_shop(), false)] {
            let (before, _) = made(&text, 1);
            let (serving, snapshot) = made(&text, 2);
            assert!(leaves_any(&snapshot));
            let mut cluster = Cluster::default();
            for one in before.manifests.secrets().chain(serving.manifests.secrets()) {
                cluster.apply(&one.with_values(std::collections::BTreeMap::new()));
            }
            let children = cluster.children();
            let found: Vec<&str> =
                stale_secrets(&serving, &snapshot, &children).into_iter().map(|meta| &*meta.name).collect();
            let of = |planned: &Planned, name: &str| {
                let service = planned.manifests.service(name).and_then(|it| it.secret.as_ref());
                service.map(|it| it.name().to_owned()).expect("a Secret")
            };
            // The database is shared by all instances: what it had before goes either way.
            let mut want = vec![of(&before, "db")];
            want.extend(gone.then(|| of(&before, "web")));
            want.sort();
            assert_eq!(found, want);
        }
    }

    #[test]
    fn other_content_has_another_name() {
        let name = |text: &str| {
            let (serving, _) = planned(&rolling(text));
            serving.manifests.service("web").and_then(|web| web.config.as_ref()?.metadata.name.clone())
        };
        assert_ne!(name(SHOP), name(&SHOP.replace("a = 1", "a = 2")));
    }
}
