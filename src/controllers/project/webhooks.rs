//! A project's webhooks: each that it declares has a path, and its status shows it.

use std::collections::HashSet;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;

use super::credentials::{again, holdings};
use crate::{
    api::{Project, WebhookStatus},
    controllers::{context::Context, error::Error, vault::ProjectName},
    domain::{actor::Actor, share::Share},
    safe,
    store::{DeclaredReceiver, NewReceiver, VaultReceiver},
};

/// What begins the path of every receiver.
const PATH: &str = "/hooks/";

/// What is to be shown, and until when.
pub struct Shown {
    /// Where each webhook is to be sent.
    pub status: Vec<WebhookStatus>,
    /// When this changes by itself.
    pub wake: Option<Timestamp>,
}

/// Gives each declared webhook a path, takes those away that are not declared any more, and says where they are.
pub async fn keep(ctx: &Context, project: &Project) -> Result<Shown, Error> {
    let (namespace, name) = (project.namespace().unwrap_or_default(), project.name_any());
    let mut held = holdings(ctx, &namespace, &name).await?;
    let declared = declared(project);
    if !held.receivers.iter().map(|known| &known.declared).eq(&declared) {
        let mut new = Vec::with_capacity(declared.len());
        for declared in declared {
            let token =
                safe::token().map_err(|error| Error::Sealed { reason: "NoRandomBytes", message: error.to_string() })?;
            new.push(NewReceiver { id: ctx.ids.next(), token, declared });
        }
        ctx.store.receivers_declare(held.project, &new, &Actor::Controller, ctx.clock.now()).await?;
        held = again(ctx, &held, &namespace, &name).await?;
    }
    Ok(shown(&held.receivers, ctx.public_url.as_deref(), ctx.clock.now()))
}

/// As the database has them: by name, with the names of credentials in order.
fn declared(project: &Project) -> Vec<DeclaredReceiver> {
    let declared = project.spec.webhooks.iter().map(|webhook| {
        let mut credentials = webhook.credentials.clone();
        credentials.sort_unstable();
        credentials.dedup();
        DeclaredReceiver {
            name: webhook.name.clone(),
            source: webhook.source.word().to_owned(),
            credentials,
            registry: webhook.registry.clone(),
        }
    });
    let mut declared: Vec<_> = declared.collect();
    declared.sort();
    declared
}

fn shown(receivers: &[VaultReceiver], public_url: Option<&str>, now: Timestamp) -> Shown {
    let status = receivers.iter().map(|receiver| {
        let path = format!("{PATH}{}", receiver.token);
        WebhookStatus {
            name: receiver.declared.name.clone(),
            source: receiver.declared.source.clone(),
            url: public_url.map(|base| format!("{}{path}", base.trim_end_matches('/'))),
            path,
            old_path_until: until(receiver, now).map(|at| Time(Timestamp::from_second(at.as_second()).unwrap_or(at))),
        }
    });
    Shown { status: status.collect(), wake: receivers.iter().filter_map(|one| until(one, now)).min() }
}

fn until(receiver: &VaultReceiver, now: Timestamp) -> Option<Timestamp> {
    receiver.old_token_until.filter(|at| *at > now)
}

/// A project was deleted: nothing is received for it any more.
pub async fn close(ctx: &Context, (namespace, name): &ProjectName) {
    let Some(held) = ctx.vault.of(namespace, name).filter(|held| !held.receivers.is_empty()) else { return };
    let closed = async {
        ctx.store.receivers_declare(held.project, &[], &Actor::Controller, ctx.clock.now()).await?;
        again(ctx, &held, namespace, name).await
    };
    if let Err(error) = closed.await {
        tracing::warn!(namespace, project = name, %error, "the webhooks of a deleted project could not be closed");
    }
}

/// The same for projects of a share that were deleted while nobody looked.
pub async fn close_orphans(ctx: &Context, share: &Share) {
    let receiving = ctx.vault.receiving();
    if receiving.is_empty() {
        return;
    }
    let name = |project: &Project| (project.namespace().unwrap_or_default(), project.name_any());
    let there: HashSet<ProjectName> = ctx.projects.state().iter().map(|project| name(project)).collect();
    for project in receiving {
        if share.covers(&project.0) && !there.contains(&project) {
            close(ctx, &project).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receiver(name: &str, until: Option<&str>) -> VaultReceiver {
        VaultReceiver {
            declared: DeclaredReceiver {
                name: name.into(),
                source: "diun".into(),
                credentials: Vec::new(),
                registry: None,
            },
            token: format!("token-of-{name}"),
            old_token_until: until.map(|at| at.parse().expect("an instant")),
        }
    }

    #[test]
    fn the_status_has_the_path_and_the_address_where_that_is_known() {
        let now = "2026-03-01T12:00:00Z".parse().expect("an instant");
        let (old, over) = ("2026-03-02T12:00:00Z", "2026-03-01T11:00:00Z");
        let receivers = [receiver("diun", Some(old)), receiver("hub", Some(over))];
        let bare = shown(&receivers, None, now);
        assert_eq!((bare.status[0].path.as_str(), &bare.status[0].url), ("/hooks/token-of-diun", &None));
        assert_eq!(bare.status[0].old_path_until.as_ref().map(|at| at.0.to_string()).as_deref(), Some(old));
        assert_eq!(bare.status[1].old_path_until, None);
        assert_eq!(bare.wake.map(|at| at.to_string()).as_deref(), Some(old));
        let whole = shown(&receivers, Some("https://stagekeeper.example.com/base/"), now);
        assert_eq!(whole.status[1].url.as_deref(), Some("https://stagekeeper.example.com/base/hooks/token-of-hub"));
    }

    #[test]
    fn a_declaration_is_what_the_database_has_in_whatever_order_it_is_written() {
        let project = |webhooks: &str| -> Project {
            serde_yaml::from_str(&format!(
                "{{apiVersion: stagekeeper.dev/v1alpha1, kind: Project, metadata: {{name: shop}}, \
                  spec: {{services: [], webhooks: {webhooks}}}}}"
            ))
            .expect("a project")
        };
        let one = declared(&project("[{name: b, source: diun}, {name: a, source: github, credentials: [y, x]}]"));
        let other = declared(&project("[{name: a, source: github, credentials: [x, y]}, {name: b, source: diun}]"));
        assert_eq!(one, other);
        assert_eq!((one[0].name.as_str(), one[0].credentials.len()), ("a", 2));
    }
}
