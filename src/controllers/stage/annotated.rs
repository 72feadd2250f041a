//! What the annotations of a Stage, or of an Environment as the stage that it runs as, ask for.

use kube::ResourceExt as _;

use crate::{
    api::{Stage, labels},
    domain::annotation::{Annotated, Of, Written},
};

/// The request in the annotations of a stage, if there is one; or what is wrong with it.
pub fn annotated(stage: &Stage, of: Of) -> Option<Result<Annotated, String>> {
    let annotation = |key: &str| stage.annotations().get(key).map(String::as_str);
    let written = Written {
        of,
        word: annotation(labels::REQUEST)?,
        nonce: annotation(labels::REQUEST_NONCE),
        reason: annotation(labels::REQUEST_REASON),
        arguments: annotation(labels::REQUEST_ARGUMENTS),
        user: annotation(labels::REQUEST_USER),
        groups: annotation(labels::REQUEST_GROUPS),
    };
    Some(written.read().map(|request| Annotated { manager: manager(stage), ..request }))
}

/// What tells the request of a stage from the one before, also of one that cannot be read.
pub fn nonce(stage: &Stage) -> Option<&str> {
    stage.annotations().get(labels::REQUEST_NONCE).map(|nonce| nonce.trim())
}

/// Who changed the object last, other than the operator: the name that a tool gives itself.
fn manager(stage: &Stage) -> Option<String> {
    let edits = stage.metadata.managed_fields.iter().flatten();
    let others =
        edits.filter(|edit| edit.subresource.is_none() && edit.manager.as_deref() != Some(labels::FIELD_MANAGER));
    others.max_by_key(|edit| edit.time.as_ref().map(|time| time.0)).and_then(|edit| edit.manager.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::request::{Action, Destination};

    fn stage(annotations: &str) -> Stage {
        let text = format!(
            "{{apiVersion: stagekeeper.dev/v1alpha1, kind: Stage, metadata: {{name: prod, annotations: {{{annotations}}}, \
              managedFields: [{{manager: kubectl-annotate, time: '2026-03-01T12:00:02Z'}}, \
                              {{manager: stagekeeper, time: '2026-03-01T12:00:03Z'}}, \
                              {{manager: argocd, time: '2026-03-01T12:00:01Z'}}]}}, spec: {{project: shop}}}}"
        );
        serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    #[test]
    fn a_stage_without_the_word_asks_for_nothing() {
        assert_eq!(annotated(&stage("stagekeeper.dev/request-nonce: '1'"), Of::Stage), None);
    }

    #[test]
    fn a_request_is_read_with_its_manager() {
        let asked = stage(
            "stagekeeper.dev/request: rollback, stagekeeper.dev/request-nonce: ' 17 ', stagekeeper.dev/request-user: jane, \
             stagekeeper.dev/request-reason: checkout is down",
        );
        let request = annotated(&asked, Of::Stage).expect("a request").expect("a sound one");
        assert_eq!(request.action, Action::Rollback { to: Destination::Previous });
        assert_eq!((request.user.as_deref(), request.manager.as_deref()), (Some("jane"), Some("kubectl-annotate")));
        assert_eq!((request.nonce.as_str(), nonce(&asked)), ("17", Some("17")));
        assert!(annotated(&stage("stagekeeper.dev/request: rollback"), Of::Stage).is_some_and(|read| read.is_err()));
    }
}
