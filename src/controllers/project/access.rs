//! Who may do what with a project: its `spec.access` as `RoleBinding`s, and how that stands.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt as _;

use super::verdict::Trouble;
use crate::{
    api::{
        Project,
        conditions::{self, Outcome},
    },
    controllers::{context::Context, error::Error},
    render,
};

/// Type of the condition.
pub const ACCESS_READY: &str = "AccessReady";

/// How often bindings are looked at: what somebody changed is mended this much later at the most.
const INTERVAL: Duration = Duration::from_mins(5);

/// How access stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// Roles that somebody has.
    roles: usize,
    /// The other projects of the namespace, for which they hold too.
    shared_with: Vec<String>,
    /// What a person has to mend.
    trouble: Option<Trouble>,
    /// When to look again.
    pub wake: Option<Timestamp>,
}

/// Makes the bindings what the project says. A project that says nothing, and did not before, costs nothing.
pub async fn keep(ctx: &Context, project: &Project) -> Result<Standing, Error> {
    let (namespace, name) = (project.namespace().unwrap_or_default(), project.name_any());
    let wanted = render::bindings(project);
    let before = project.status.as_ref().and_then(|status| conditions::get(&status.conditions, ACCESS_READY));
    if wanted.is_empty() && before.is_none() {
        return Ok(Standing::default());
    }
    let mut standing = Standing { roles: wanted.len(), ..Standing::default() };
    match ctx.writer.settle_bindings(&namespace, &name, &wanted).await.map_err(Error::from) {
        Ok(0) => {}
        Ok(changed) => {
            tracing::info!(namespace, project = name, changed, "role bindings were brought to what spec.access says")
        }
        Err(error) => {
            let refused = error.refusal().ok_or(error)?;
            standing.trouble = Some(Trouble { reason: word(&refused.reason), message: told(&refused.message) });
        }
    }
    if !wanted.is_empty() || standing.trouble.is_some() {
        standing.wake = ctx.clock.now().saturating_add(INTERVAL).ok();
    }
    let others = ctx.projects.state();
    standing.shared_with = (others.iter())
        .filter(|other| other.namespace().as_deref() == Some(&namespace) && other.name_any() != name)
        .map(|other| other.name_any())
        .collect();
    standing.shared_with.sort_unstable();
    Ok(standing)
}

/// The words that refusals have.
fn word(reason: &str) -> &'static str {
    match reason {
        "NameTaken" => "NameTaken",
        "AdmissionDenied" => "AdmissionDenied",
        "Invalid" => "Invalid",
        _ => "Forbidden",
    }
}

fn told(why: &str) -> String {
    format!(
        "spec.access is not in force: {why}; give the operator the rules about rolebindings and clusterroles of \
         examples/operator/rbac.yaml, and apply examples/operator/roles.yaml"
    )
}

impl Standing {
    /// What is to be said about the project as a whole, where this is what is to be said about the rest.
    pub fn over(&self, rest: Outcome) -> Outcome {
        match (&self.trouble, &rest) {
            (Some(trouble), Outcome::Ready { .. }) => Outcome::stalled(trouble.reason, trouble.message.clone()),
            _ => rest,
        }
    }

    /// The project's conditions with this one among them, if anybody has a role.
    pub fn among(&self, mut conditions: Vec<Condition>, generation: i64, now: Timestamp) -> Vec<Condition> {
        match self.condition(generation, now) {
            Some(condition) => conditions::set(&mut conditions, condition),
            None => conditions.retain(|one| one.type_ != ACCESS_READY),
        }
        conditions
    }

    fn condition(&self, generation: i64, now: Timestamp) -> Option<Condition> {
        let (status, reason, message) = match &self.trouble {
            Some(trouble) => ("False", trouble.reason, trouble.message.clone()),
            None if self.roles == 0 => return None,
            None => ("True", "Bound", self.bound()),
        };
        Some(Condition {
            type_: ACCESS_READY.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message,
            observed_generation: Some(generation),
            last_transition_time: Time(now),
        })
    }

    fn bound(&self) -> String {
        let mut text = "the roles of spec.access are bound, in this namespace".to_owned();
        if !self.shared_with.is_empty() {
            text.push_str(", so that they hold for its other projects too: ");
            text.push_str(&self.shared_with.join(", "));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-03-01T12:00:00Z".parse().expect("an instant")
    }

    #[test]
    fn a_refusal_is_told_and_keeps_the_project_from_being_ready() {
        let trouble = Some(Trouble { reason: "Forbidden", message: told("may not create") });
        let standing = Standing { trouble, ..Standing::default() };
        let condition = standing.condition(3, now()).expect("a condition");
        assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("False", "Forbidden"));
        assert!(condition.message.contains("examples/operator/roles.yaml"), "{}", condition.message);
        assert!(matches!(standing.over(Outcome::ready("Fine", "fine")), Outcome::Stalled { reason: "Forbidden", .. }));
        let worse = Outcome::stalled("InvalidSpec", "no");
        assert_eq!(standing.over(worse.clone()), worse);
    }

    #[test]
    fn whoever_shares_the_namespace_is_named() {
        let standing = Standing { roles: 1, shared_with: vec!["blog".into()], ..Standing::default() };
        let condition = standing.condition(3, now()).expect("a condition");
        assert!(condition.message.ends_with("its other projects too: blog"), "{}", condition.message);
        let nobody = Standing::default();
        assert!(nobody.among(vec![condition], 4, now()).is_empty(), "without roles there is nothing to say");
    }
}
