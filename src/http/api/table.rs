//! The table of endpoints: the router and the `OpenAPI` document are made of it, so that there is no route without an entry.

use axum::routing::{MethodRouter, on};
use schemars::{JsonSchema as _, Schema, SchemaGenerator};

use super::{
    Api,
    operation::{Content as _, Operation, Spec},
    serve::serve,
    verbs::Short,
};
use super::{
    audit, credentials, deploys, environments, groups, holds, logs, projects, rehearsal, releases, requests, secrets,
    served, stages, stats, tags, updates, users, verbs, why,
};

/// An entry.
pub struct Endpoint {
    /// What it says of its operation.
    pub spec: Spec,
    /// What goes in and comes out.
    pub(super) schemas: fn(&mut SchemaGenerator) -> Schemas,
    route: fn() -> MethodRouter<Api>,
}

/// What goes into an operation and comes out.
pub(super) struct Schemas {
    pub(super) content: Option<Schema>,
    pub(super) answer: Schema,
}

/// Every operation.
pub static TABLE: &[Endpoint] = &[
    endpoint::<projects::List>(),
    endpoint::<projects::Get>(),
    endpoint::<stages::List>(),
    endpoint::<stages::Get>(),
    endpoint::<environments::List>(),
    endpoint::<environments::Get>(),
    endpoint::<environments::Ask>(),
    endpoint::<environments::Beat>(),
    endpoint::<why::Why>(),
    endpoint::<rehearsal::Suppose>(),
    endpoint::<deploys::List<true>>(),
    endpoint::<deploys::List<false>>(),
    endpoint::<served::At<true>>(),
    endpoint::<served::At<false>>(),
    endpoint::<served::Ran<true>>(),
    endpoint::<served::Ran<false>>(),
    endpoint::<stats::Get<true>>(),
    endpoint::<stats::Get<false>>(),
    endpoint::<deploys::OfStage>(),
    endpoint::<deploys::Get>(),
    endpoint::<deploys::Transitions>(),
    endpoint::<logs::Read>(),
    endpoint::<logs::search::Search>(),
    endpoint::<releases::Get>(),
    endpoint::<releases::Diff>(),
    endpoint::<requests::Ask>(),
    endpoint::<Short<verbs::Promote>>(),
    endpoint::<Short<verbs::Rollback>>(),
    endpoint::<Short<verbs::Approve>>(),
    endpoint::<Short<verbs::Abort>>(),
    endpoint::<Short<verbs::Retry>>(),
    endpoint::<Short<verbs::Hold>>(),
    endpoint::<Short<verbs::Resume>>(),
    endpoint::<Short<verbs::Veto>>(),
    endpoint::<Short<verbs::Unveto>>(),
    endpoint::<requests::List>(),
    endpoint::<requests::Get>(),
    endpoint::<groups::Ask>(),
    endpoint::<groups::List>(),
    endpoint::<groups::Get>(),
    endpoint::<holds::List>(),
    endpoint::<holds::Approvals>(),
    endpoint::<audit::List<true>>(),
    endpoint::<audit::List<false>>(),
    endpoint::<users::List>(),
    endpoint::<updates::List<true>>(),
    endpoint::<updates::Acknowledge<true, true>>(),
    endpoint::<updates::Acknowledge<true, false>>(),
    endpoint::<tags::Assign<true, true>>(),
    endpoint::<tags::Assign<true, false>>(),
    endpoint::<updates::List<false>>(),
    endpoint::<updates::Acknowledge<false, true>>(),
    endpoint::<updates::Acknowledge<false, false>>(),
    endpoint::<tags::List>(),
    endpoint::<tags::Put>(),
    endpoint::<tags::Rename>(),
    endpoint::<tags::Delete>(),
    endpoint::<tags::Assign<false, true>>(),
    endpoint::<tags::Assign<false, false>>(),
    endpoint::<credentials::List>(),
    endpoint::<credentials::Get>(),
    endpoint::<credentials::Put>(),
    endpoint::<credentials::Delete>(),
    endpoint::<secrets::List>(),
    endpoint::<secrets::Get>(),
    endpoint::<secrets::Put>(),
    endpoint::<secrets::Delete>(),
];

impl Endpoint {
    /// As the router has it.
    pub(super) fn route(&self) -> MethodRouter<Api> {
        (self.route)()
    }
}

const fn endpoint<O: Operation>() -> Endpoint {
    Endpoint { spec: O::SPEC, schemas: schemas::<O>, route: route::<O> }
}

fn schemas<O: Operation>(generator: &mut SchemaGenerator) -> Schemas {
    let answer = if O::Answer::inline_schema() {
        O::Answer::json_schema(generator)
    } else {
        generator.subschema_for::<O::Answer>()
    };
    Schemas { content: O::Content::schema(generator), answer }
}

fn route<O: Operation>() -> MethodRouter<Api> {
    on(O::SPEC.method.filter(), serve::<O>)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::http::api::input::Place;

    #[test]
    fn every_entry_is_whole_and_stands_once() {
        let mut ids = BTreeSet::new();
        let mut places = BTreeSet::new();
        for Endpoint { spec, .. } in TABLE {
            let id = spec.id;
            assert!(ids.insert(id), "{id} stands twice");
            assert!(places.insert((spec.path, spec.method)), "{id}: two on one path");
            assert!(!spec.access.is_empty(), "{id} takes no rights");
            assert!(spec.summary.ends_with('.'), "{id}");
            let declared: BTreeSet<&str> =
                spec.parameters.iter().filter(|one| one.place == Place::Path).map(|one| one.name).collect();
            let written: BTreeSet<&str> =
                spec.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
            assert_eq!(declared, written, "{id}");
        }
    }
}
