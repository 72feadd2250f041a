//! The `RoleBinding`s of a project: made, mended and taken away. They are few and rarely change, so they are not watched
//! but looked at with each pass.

use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::{
    Api, ResourceExt as _,
    api::{ListParams, ObjectList},
};

use super::{
    apply::{Doomed, Writer},
    error::{ApiError, Target},
};
use crate::api::labels;

impl Writer {
    /// Makes the bindings of a project exactly these, and says how many had to be written or deleted. Bindings that we did
    /// not make are not looked at.
    ///
    /// # Errors
    /// When the API server refuses or cannot be reached.
    pub async fn settle_bindings(
        &self,
        namespace: &str,
        project: &str,
        wanted: &[RoleBinding],
    ) -> Result<usize, ApiError> {
        let mut changed = 0;
        let found = self.bindings_of(namespace, project).await?;
        // What is not wanted any more goes first: rights are taken away before others are given.
        for old in &found {
            let still = wanted.iter().find(|new| new.name_any() == old.name_any());
            // The role of a binding cannot be changed.
            if still.is_none_or(|new| new.role_ref != old.role_ref) {
                let name = old.name_any();
                self.delete::<RoleBinding>(Doomed { namespace, name: &name, uid: old.metadata.uid.as_deref() }).await?;
                changed += 1;
            }
        }
        for new in wanted {
            if !found.iter().any(|old| is_same(old, new)) {
                self.apply(new).await?;
                changed += 1;
            }
        }
        Ok(changed)
    }

    async fn bindings_of(&self, namespace: &str, project: &str) -> Result<Vec<RoleBinding>, ApiError> {
        let target = Target {
            verbs: "list",
            group: "rbac.authorization.k8s.io".into(),
            resource: "rolebindings".into(),
            namespace: Some(namespace.into()),
            name: String::new(),
        };
        let selector = format!(
            "{}={},{}={project},{}",
            labels::MANAGED_BY,
            labels::FIELD_MANAGER,
            labels::PROJECT,
            labels::ACCESS
        );
        let api: Api<RoleBinding> = Api::namespaced(self.client().clone(), namespace);
        let listed: ObjectList<RoleBinding> =
            api.list(&ListParams::default().labels(&selector)).await.map_err(|error| ApiError::new(&target, &error))?;
        Ok(listed.items)
    }
}

/// Whether nothing has to be written.
fn is_same(old: &RoleBinding, new: &RoleBinding) -> bool {
    let has = |(key, value): (&String, &String)| old.labels().get(key) == Some(value);
    old.name_any() == new.name_any()
        && old.role_ref == new.role_ref
        && old.subjects == new.subjects
        && old.owner_references() == new.owner_references()
        && new.labels().iter().all(has)
}
