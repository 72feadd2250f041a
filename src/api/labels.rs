//! Labels, annotations and names that mark what Stagekeeper made, and what people may ask of it.

/// Prefix of every label and annotation of ours.
pub const PREFIX: &str = "stagekeeper.dev/";

/// Field manager of every server-side apply.
pub const FIELD_MANAGER: &str = "stagekeeper";

/// Finalizer on Project and Stage: held until their children are gone.
pub const FINALIZER: &str = "stagekeeper.dev/cleanup";

/// Label: name of the Project that an object belongs to.
pub const PROJECT: &str = "stagekeeper.dev/project";
/// Label: name of the Stage that an object belongs to.
pub const STAGE: &str = "stagekeeper.dev/stage";
/// Label: name of the project's service that a workload, Service or claim belongs to.
pub const SERVICE: &str = "stagekeeper.dev/service";
/// Label: name of the instance; absent on objects that all instances of a stage share.
pub const INSTANCE: &str = "stagekeeper.dev/instance";
/// Label: content hash of the release that a workload runs.
pub const RELEASE: &str = "stagekeeper.dev/release";
/// Label of hooks' Jobs, annotation of everything else: id of the deploy that made or last changed an object.
pub const DEPLOY: &str = "stagekeeper.dev/deploy";
/// Label: hash of the snapshot that an object was rendered from.
pub const SNAPSHOT: &str = "stagekeeper.dev/snapshot";
/// Label: whether a workload exists once per instance or once per stage, see [`SCOPE_INSTANCE`].
pub const SCOPE: &str = "stagekeeper.dev/scope";
/// Label: the moment of a deploy that a hook's Job runs at, such as `before-start`.
pub const HOOK: &str = "stagekeeper.dev/hook";
/// Label: name of the hook that a Job runs.
pub const HOOK_NAME: &str = "stagekeeper.dev/hook-name";

/// Value of [`SCOPE`] on objects that come and go with one instance.
pub const SCOPE_INSTANCE: &str = "instance";
/// Value of [`SCOPE`] on objects that all instances of a stage share.
pub const SCOPE_STAGE: &str = "stage";

/// The usual label that names the tool in charge of an object; its value is [`FIELD_MANAGER`].
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Selects what we made for any stage, and nothing that merely carries a label of ours.
pub const OURS: &str = "stagekeeper.dev/stage,app.kubernetes.io/managed-by=stagekeeper";
/// The usual label that names the application; its value is the project's name.
pub const PART_OF: &str = "app.kubernetes.io/part-of";
/// The usual label that names one part of an application; its value is the service's name.
pub const NAME: &str = "app.kubernetes.io/name";

/// Label of a `RoleBinding`: the role of `spec.access` that it is for.
pub const ACCESS: &str = "stagekeeper.dev/access";

/// Label of a Service, and so of its endpoints: the built-in proxy leads to it. Its value is `true`.
pub const EDGE: &str = "stagekeeper.dev/edge";
/// Annotation of a Service with [`EDGE`]: the hosts that lead to it, separated by commas.
pub const EDGE_HOSTS: &str = "stagekeeper.dev/edge-hosts";
/// Annotation of a Service with [`EDGE`]: the name of the port that requests go to.
pub const EDGE_PORT: &str = "stagekeeper.dev/edge-port";
/// Label of a namespace that was made for an Environment: the namespace of that Environment.
pub const HOME: &str = "stagekeeper.dev/home";
/// Label of a namespace that was made for an Environment: its name.
pub const ENVIRONMENT: &str = "stagekeeper.dev/environment";

/// Label of an Environment that was made for a pull request: its number.
pub const PULL_REQUEST: &str = "stagekeeper.dev/pull-request";

/// Annotation: hash of the manifest that was last applied; while it is what would be applied again, nothing is.
pub const RENDERED: &str = "stagekeeper.dev/rendered";

/// Annotation on a Stage: asks to try the failed or vetoed release once more. Any new value is one request;
/// it is echoed in `status.lastHandledRetry` when it has been acted on.
pub const RETRY: &str = "stagekeeper.dev/retry";

/// Annotation on a Stage: asks for one action, by its word, such as `rollback`.
pub const REQUEST: &str = "stagekeeper.dev/request";
/// Annotation on a Stage: tells the request from the one before; acted on once, and echoed when it was.
pub const REQUEST_NONCE: &str = "stagekeeper.dev/request-nonce";
/// Annotation on a Stage: why it is asked.
pub const REQUEST_REASON: &str = "stagekeeper.dev/request-reason";
/// Annotation on a Stage: the fields of the action, as a JSON object.
pub const REQUEST_ARGUMENTS: &str = "stagekeeper.dev/request-arguments";
/// Annotation on a Stage: who asks, written by the cluster's admission.
pub const REQUEST_USER: &str = "stagekeeper.dev/request-user";
/// Annotation on a Stage: the groups of who asks, one a line, written by the cluster's admission.
pub const REQUEST_GROUPS: &str = "stagekeeper.dev/request-groups";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ours_is_selected_by_stage_and_tool() {
        assert_eq!(OURS, format!("{STAGE},{MANAGED_BY}={FIELD_MANAGER}"));
    }

    #[test]
    fn our_keys_carry_our_prefix_and_fit_the_limits_of_a_label_key() {
        let keys = [
            FINALIZER,
            PROJECT,
            STAGE,
            SERVICE,
            INSTANCE,
            RELEASE,
            DEPLOY,
            SNAPSHOT,
            SCOPE,
            HOOK,
            HOOK_NAME,
            ACCESS,
            EDGE,
            EDGE_HOSTS,
            EDGE_PORT,
            HOME,
            ENVIRONMENT,
            PULL_REQUEST,
            RETRY,
            REQUEST,
            REQUEST_NONCE,
            REQUEST_REASON,
            REQUEST_ARGUMENTS,
            REQUEST_USER,
            REQUEST_GROUPS,
            RENDERED,
        ];
        for key in keys {
            let name = key.strip_prefix(PREFIX).unwrap_or_else(|| panic!("{key}: prefix"));
            assert!(!name.is_empty() && name.len() <= 63, "{key}: length");
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{key}: characters");
        }
        let distinct: std::collections::BTreeSet<_> = keys.into_iter().collect();
        assert_eq!(distinct.len(), keys.len(), "each key has one meaning");
    }
}
