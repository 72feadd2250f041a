//! What the operator may do, asked of the API server verb by verb for whoever runs `doctor`.

use futures::{StreamExt as _, stream};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::{Api, Client, api::PostParams};

use super::{Place, report::Report};
use crate::{api::Role, cluster::error::chain};

const CHECK: &str = "permission";
/// Questions at once.
const AT_ONCE: usize = 8;

/// Something that the operator does to a kind.
#[derive(Debug)]
pub struct Grant {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Plural name, with the subresource if there is one.
    pub resource: &'static str,
    /// The verbs.
    pub verbs: &'static [&'static str],
    /// The only objects that it is for; none: all of them.
    pub names: &'static [&'static str],
    /// Where.
    pub place: Where,
}

/// Where a grant is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Where {
    /// In every namespace that is watched.
    Watched,
    /// In the namespace of the Lease.
    Lease,
    /// In the cluster as a whole: the kind has no namespaces.
    Cluster,
    /// In the cluster as a whole, where all namespaces are watched: environments have some of their own.
    Environments,
}

const fn watched(group: &'static str, resource: &'static str, verbs: &'static [&'static str]) -> Grant {
    Grant { group, resource, verbs, names: &[], place: Where::Watched }
}

const fn environments(group: &'static str, resource: &'static str, verbs: &'static [&'static str]) -> Grant {
    Grant { group, resource, verbs, names: &[], place: Where::Environments }
}

const fn cluster(group: &'static str, resource: &'static str, verbs: &'static [&'static str]) -> Grant {
    Grant { group, resource, verbs, names: &[], place: Where::Cluster }
}

/// What is done to objects that the operator makes and watches: server-side apply needs `create` and `patch`, and `get`
/// tells whether somebody else has the name.
const OWNED: &[&str] = &["get", "list", "watch", "create", "patch", "delete"];

/// What is done to objects that the operator makes and does not watch: they are deleted by their labels.
const STORED: &[&str] = &["get", "create", "patch", "deletecollection"];

/// Everything that the operator does in a cluster; its Role has to say the same.
pub const GRANTS: &[Grant] = &[
    watched("stagekeeper.dev", "projects", &["list", "watch"]),
    watched("stagekeeper.dev", "projects/status", &["patch"]),
    watched("stagekeeper.dev", "stages", &["list", "watch", "patch"]),
    watched("stagekeeper.dev", "stages/status", &["patch"]),
    // Where owner references are checked, children that hold back their owner's deletion need this.
    watched("stagekeeper.dev", "stages/finalizers", &["update"]),
    watched("stagekeeper.dev", "environments", OWNED),
    watched("stagekeeper.dev", "environments/status", &["patch"]),
    watched("stagekeeper.dev", "environments/finalizers", &["update"]),
    // The namespaces of environments, and what isolates them. Single namespaces can do without.
    environments("", "namespaces", OWNED),
    environments("", "resourcequotas", &["get", "create", "patch"]),
    environments("", "limitranges", &["get", "create", "patch"]),
    environments("networking.k8s.io", "networkpolicies", &["get", "create", "patch"]),
    watched("apps", "deployments", OWNED),
    watched("batch", "jobs", OWNED),
    watched("networking.k8s.io", "ingresses", OWNED),
    watched("gateway.networking.k8s.io", "httproutes", OWNED),
    watched("", "services", OWNED),
    watched("", "secrets", OWNED),
    watched("", "configmaps", STORED),
    watched("", "persistentvolumeclaims", STORED),
    // What `spec.access` of Projects gives: these roles and no others.
    watched("rbac.authorization.k8s.io", "rolebindings", &["get", "list", "create", "patch", "delete"]),
    Grant {
        group: "rbac.authorization.k8s.io",
        resource: "clusterroles",
        verbs: &["bind"],
        names: &[
            Role::Owner.cluster_role(),
            Role::Admin.cluster_role(),
            Role::Member.cluster_role(),
            Role::Viewer.cluster_role(),
        ],
        place: Where::Watched,
    },
    watched("", "pods", &["list", "watch"]),
    watched("", "pods/log", &["get"]),
    watched("", "events", &["list"]),
    watched("events.k8s.io", "events", &["create", "patch"]),
    Grant {
        group: "coordination.k8s.io",
        resource: "leases",
        verbs: &["get", "create", "update"],
        names: &[],
        place: Where::Lease,
    },
    // Who calls the API, and what they may do: asked about them, never done for them.
    cluster("authentication.k8s.io", "tokenreviews", &["create"]),
    cluster("authorization.k8s.io", "subjectaccessreviews", &["create"]),
];

impl Grant {
    /// As RBAC messages name it: `deployments.apps`, `pods/log`.
    fn name(&self) -> String {
        if self.group.is_empty() {
            return self.resource.into();
        }
        let (kind, subresource) = self.parts();
        match subresource {
            None => format!("{kind}.{}", self.group),
            Some(subresource) => format!("{kind}.{}/{subresource}", self.group),
        }
    }

    fn parts(&self) -> (&'static str, Option<&'static str>) {
        match self.resource.split_once('/') {
            Some((kind, subresource)) => (kind, Some(subresource)),
            None => (self.resource, None),
        }
    }

    fn review(&self, verb: &str, name: Option<&str>, namespace: Option<&str>) -> SelfSubjectAccessReview {
        let (kind, subresource) = self.parts();
        SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(ResourceAttributes {
                    group: Some(self.group.into()),
                    resource: Some(kind.into()),
                    subresource: subresource.map(Into::into),
                    verb: Some(verb.into()),
                    name: name.map(Into::into),
                    namespace: namespace.map(Into::into),
                    ..ResourceAttributes::default()
                }),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        }
    }
}

/// Asks for every grant, in every namespace where it is needed.
pub(super) async fn check(report: &mut Report, client: &Client, place: &Place) {
    let lease = [Some(place.lease.clone().unwrap_or_else(|| client.default_namespace().to_owned()))];
    let everywhere = [None];
    let questions = GRANTS.iter().flat_map(|grant| {
        let namespaces = match grant.place {
            Where::Watched => place.namespaces.as_slice(),
            Where::Lease => lease.as_slice(),
            Where::Cluster => everywhere.as_slice(),
            Where::Environments if place.namespaces.contains(&None) => everywhere.as_slice(),
            Where::Environments => &[],
        };
        namespaces.iter().map(move |namespace| (grant, namespace.as_deref()))
    });
    let answers: Vec<_> = stream::iter(questions)
        .map(async |(grant, namespace)| (grant, namespace, missing(client, grant, namespace).await))
        .buffered(AT_ONCE)
        .collect()
        .await;
    for (grant, namespace, answer) in answers {
        report.found(CHECK, judge(grant, namespace, answer));
    }
}

/// The verbs that are not allowed.
async fn missing(client: &Client, grant: &Grant, namespace: Option<&str>) -> kube::Result<Vec<&'static str>> {
    let reviews = Api::<SelfSubjectAccessReview>::all(client.clone());
    let mut missing = Vec::new();
    let names: Vec<Option<&str>> =
        if grant.names.is_empty() { vec![None] } else { grant.names.iter().copied().map(Some).collect() };
    for verb in grant.verbs {
        for name in &names {
            let answer = reviews.create(&PostParams::default(), &grant.review(verb, *name, namespace)).await?;
            if !answer.status.is_some_and(|status| status.allowed) && !missing.contains(verb) {
                missing.push(*verb);
            }
        }
    }
    Ok(missing)
}

fn judge(
    grant: &Grant,
    namespace: Option<&str>,
    answer: kube::Result<Vec<&'static str>>,
) -> Result<String, (String, String)> {
    let name = grant.name();
    let place = match (namespace, grant.place) {
        (Some(name), _) => format!("in namespace {name}"),
        (None, Where::Cluster) => "in the cluster".to_owned(),
        (None, _) => "in all namespaces".to_owned(),
    };
    match answer {
        Ok(missing) if missing.is_empty() => Ok(format!("may {} {name} {place}", grant.verbs.join(", "))),
        Ok(missing) => {
            let group = match grant.group {
                "" => "the core group",
                group => group,
            };
            let kind = match (namespace, grant.place) {
                (Some(_), _) => "a Role there",
                (None, Where::Cluster) => "a ClusterRole: the API knows nobody without it",
                (None, Where::Environments) => "a ClusterRole, or have Environments with isolation: Project only",
                (None, _) => "a ClusterRole, or watch single namespaces with STAGEKEEPER_NAMESPACES",
            };
            Err((
                format!("may not {} {name} {place}", missing.join(", ")),
                format!("allow {} on {} of {group} in {kind}", missing.join(", "), grant.resource),
            ))
        }
        Err(error) => Err((
            format!("whether {name} may be used {place} is not known: {}", chain(&error)),
            "run doctor again when the cluster answers".into(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::index::Kind;

    #[test]
    fn every_watched_kind_is_in_the_table() {
        for kind in Kind::ALL {
            let grant = GRANTS
                .iter()
                .find(|grant| grant.group == kind.group() && grant.resource == kind.plural())
                .unwrap_or_else(|| panic!("{} has no grant", kind.name()));
            for verb in ["list", "watch"] {
                assert!(grant.verbs.contains(&verb), "{}: {verb}", kind.name());
            }
        }
    }

    #[test]
    fn no_grant_is_a_wildcard_or_stands_twice() {
        let mut names: Vec<_> = GRANTS.iter().map(|g| (g.group, g.resource)).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), GRANTS.len());
        for grant in GRANTS {
            let words = [grant.group, grant.resource];
            let mut all = words.iter().chain(grant.verbs);
            assert!(!all.any(|word| word.contains('*')), "{grant:?}");
        }
    }

    #[test]
    fn a_missing_verb_is_named_with_the_way_out() {
        let grant =
            GRANTS.iter().find(|grant| grant.resource == "stages/status").expect("a grant for the status of stages");
        assert_eq!(
            judge(grant, Some("shop"), Ok(Vec::new())),
            Ok("may patch stages.stagekeeper.dev/status in namespace shop".into())
        );
        assert_eq!(
            judge(grant, None, Ok(vec!["patch"])),
            Err((
                "may not patch stages.stagekeeper.dev/status in all namespaces".into(),
                "allow patch on stages/status of stagekeeper.dev in a ClusterRole, or watch single \
                 namespaces with STAGEKEEPER_NAMESPACES"
                    .into()
            ))
        );
    }
}
