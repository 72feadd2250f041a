//! Whether the cluster guards who a request by annotation says it is from.

use std::fmt::Debug;

use kube::{
    Api, Resource, ResourceExt as _,
    api::{Patch, PatchParams},
    core::NamespaceResourceScope,
};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::{
    apply::Writer,
    error::{ApiError, Class, Target},
};
use crate::api::labels;

/// A user that nobody is: no name has a line break.
const NOBODY: &str = "nobody\nat all";

/// How the API server begins to name our policy when that refuses something.
const POLICY: &str = "ValidatingAdmissionPolicy 'stagekeeper-requests";

impl Writer {
    /// Asks the API server, without storing anything, whether it lets us say that somebody else made a request of a Stage or an
    /// Environment: where the
    /// admission policy of `examples/operator/policies.yaml` is in force it does not, and the name in
    /// `stagekeeper.dev/request-user` can be believed.
    ///
    /// # Errors
    /// When the API server cannot be reached, or refuses for another reason.
    pub async fn requests_are_guarded<K>(&self, namespace: &str, name: &str) -> Result<bool, ApiError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let target = Target {
            verbs: "patch",
            group: crate::api::GROUP.into(),
            resource: K::plural(&()).into_owned(),
            namespace: Some(namespace.into()),
            name: name.into(),
        };
        let params =
            PatchParams { dry_run: true, field_manager: Some(labels::FIELD_MANAGER.into()), ..PatchParams::default() };
        let patch = json!({"metadata": {"annotations": {(labels::REQUEST_USER): NOBODY}}});
        let api: Api<K> = Api::namespaced(self.client().clone(), namespace);
        match api.patch(name, &params, &Patch::Merge(&patch)).await {
            // Where names are stamped, ours stands there now.
            Ok(told) => Ok(told.annotations().get(labels::REQUEST_USER).is_some_and(|user| user != NOBODY)),
            Err(error) => {
                let error = ApiError::new(&target, &error);
                // Another policy may refuse the same, and would prove nothing.
                let by_ours = error.to_string().contains(POLICY);
                match error.class() {
                    Class::Denied | Class::Forbidden | Class::Invalid if by_ours => Ok(true),
                    Class::Denied => Ok(false),
                    _ => Err(error),
                }
            }
        }
    }
}
