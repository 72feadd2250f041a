//! `spec.access` of a project as `RoleBinding`s: one for each role that somebody has.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::rbac::v1::{RoleBinding, RoleRef, Subject},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::{Resource as _, ResourceExt as _};

use super::names;
use crate::api::{Access, Project, Role, labels};

const RBAC: &str = "rbac.authorization.k8s.io";

/// The bindings that a project asks for.
pub fn bindings(project: &Project) -> Vec<RoleBinding> {
    let namespace = project.namespace().unwrap_or_default();
    let binding = |role: Role| {
        let subjects: BTreeSet<(String, String, Option<String>)> = (project.spec.access.iter())
            .filter(|access| access.role == role)
            .filter_map(|access| subject(access, &namespace))
            .collect();
        let subject = |(kind, name, namespace): (String, String, Option<String>)| Subject {
            api_group: namespace.is_none().then(|| RBAC.to_owned()),
            kind,
            name,
            namespace,
        };
        (!subjects.is_empty()).then(|| RoleBinding {
            metadata: meta(project, &namespace, role),
            role_ref: RoleRef {
                api_group: RBAC.to_owned(),
                kind: "ClusterRole".to_owned(),
                name: role.cluster_role().to_owned(),
            },
            subjects: Some(subjects.into_iter().map(subject).collect()),
        })
    };
    Role::ALL.into_iter().filter_map(binding).collect()
}

/// Kind, name and, of a service account, namespace.
fn subject(access: &Access, namespace: &str) -> Option<(String, String, Option<String>)> {
    if let Some(user) = &access.user {
        return Some(("User".into(), user.clone(), None));
    }
    if let Some(group) = &access.group {
        return Some(("Group".into(), group.clone(), None));
    }
    let account = access.service_account.as_ref()?;
    let place = account.namespace.clone().unwrap_or_else(|| namespace.to_owned());
    Some(("ServiceAccount".into(), account.name.clone(), Some(place)))
}

fn meta(project: &Project, namespace: &str, role: Role) -> ObjectMeta {
    let name = project.name_any();
    ObjectMeta {
        name: Some(names::binding(&name, role.word())),
        namespace: Some(namespace.to_owned()),
        labels: Some(BTreeMap::from([
            (labels::MANAGED_BY.into(), labels::FIELD_MANAGER.into()),
            (labels::PART_OF.into(), name.clone()),
            (labels::PROJECT.into(), name),
            (labels::ACCESS.into(), role.word().into()),
        ])),
        // It does not hold its owner back, which would need a right of its own where that is checked.
        owner_references: project
            .controller_owner_ref(&())
            .map(|owner| vec![OwnerReference { block_owner_deletion: None, ..owner }]),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(access: &str) -> Project {
        let text = format!(
            "{{apiVersion: stagekeeper.dev/v1alpha1, kind: Project, metadata: {{name: shop, namespace: acme, uid: u-1}}, \
              spec: {{services: [], access: {access}}}}}"
        );
        serde_yaml::from_str(&text).expect("a project")
    }

    #[test]
    fn each_role_is_one_binding_whatever_the_order() {
        let one = bindings(&project(
            "[{role: admin, group: shop-admins}, {role: viewer, user: joe}, {role: admin, user: jane}, \
              {role: admin, serviceAccount: {name: ci}}, {role: admin, user: jane}]",
        ));
        let other = bindings(&project(
            "[{role: admin, serviceAccount: {name: ci, namespace: acme}}, {role: admin, user: jane}, \
              {role: admin, group: shop-admins}, {role: viewer, user: joe}]",
        ));
        assert_eq!(one, other);
        let roles: Vec<&str> = one.iter().map(|binding| binding.role_ref.name.as_str()).collect();
        assert_eq!(roles, ["stagekeeper-admin", "stagekeeper-viewer"]);
        let subjects = one[0].subjects.as_deref().unwrap_or_default();
        let told: Vec<_> =
            subjects.iter().map(|it| (it.kind.as_str(), it.name.as_str(), it.namespace.as_deref())).collect();
        assert_eq!(
            told,
            [("Group", "shop-admins", None), ("ServiceAccount", "ci", Some("acme")), ("User", "jane", None)]
        );
        assert!(
            one[0].owner_references().iter().all(|owner| owner.uid == "u-1" && owner.block_owner_deletion.is_none())
        );
        assert_ne!(one[0].name_any(), one[1].name_any());
    }

    #[test]
    fn no_access_is_no_binding() {
        assert!(bindings(&project("[]")).is_empty());
    }
}
