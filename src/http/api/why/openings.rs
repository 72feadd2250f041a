//! What would open the way, for each thing that can stand in it.

use super::facts::{DeployFact, Facts};
use crate::domain::deploy::State;

/// What a person can do, the most certain first. Empty when nothing stands in the way.
pub fn openings(facts: &Facts) -> Vec<String> {
    let Facts { namespace, stage, .. } = facts;
    let mut opens = Vec::new();
    if facts.unobserved {
        opens.push(
            "the operator has not seen the latest spec: is it running, and does it lead? `stagekeeper doctor` checks \
             what it needs"
                .into(),
        );
    }
    let project = facts.project.as_deref().unwrap_or_default();
    if facts.project_missing && !project.is_empty() {
        opens.push(format!(
            "create Project {project} in namespace {namespace}, or make a Stage whose spec.project names one that is there"
        ));
    }
    for what in &facts.suspended {
        let name = if what == "stage" { stage } else { project };
        opens.push(format!(
            "kubectl patch {what} {name} -n {namespace} --type merge -p '{{\"spec\":{{\"suspend\":false}}}}'"
        ));
    }
    if let Some(running) = running(facts) {
        opens.push(format!(
            "deploy {} ends by itself, at the latest at its deadline; watch it: stagekeeper logs -f {}",
            running.id, running.id
        ));
    }
    if let Some(why) = &facts.images_stale {
        opens.push(format!("a registry does not answer, so newer images are not seen: {why}"));
    }
    if !facts.held.is_empty() {
        opens.push(format!("policies go on with: stagekeeper resume {stage} -n {namespace}"));
    }
    if !facts.vetoed.is_empty() && facts.open.is_empty() {
        opens.push(format!(
            "push a newer image, or try the release that failed once more: kubectl annotate stage {stage} -n {namespace} \
             --overwrite stagekeeper.dev/retry=\"$(date +%s)\""
        ));
    }
    if let Some(failed) = facts.last_failure.as_ref().filter(|_| facts.open.is_empty()) {
        opens.push(format!("what was seen then: stagekeeper logs {}", failed.id));
    }
    for (service, to) in &facts.pinned {
        opens.push(format!(
            "{service} stays at {to} until spec.pin.{service} changes or goes: newer images do not matter before"
        ));
    }
    opens
}

/// The deploy that has the stage's one place, or is being rolled back.
fn running(facts: &Facts) -> Option<&DeployFact> {
    facts.open.iter().find(|deploy| deploy.state != State::Pending)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::http::api::why::facts::VetoFact;

    fn deploy(id: &str, state: State) -> DeployFact {
        DeployFact {
            id: id.into(),
            state,
            since: Timestamp::UNIX_EPOCH,
            summary: "web 2.0.0".into(),
            why: "because".into(),
        }
    }

    fn veto() -> VetoFact {
        VetoFact {
            release: "r".into(),
            summary: "web 2.0.0".into(),
            deploy: Some("d1".into()),
            reason: "it answered 500".into(),
            at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn each_obstacle_has_a_way_out() {
        type Obstruct = fn(&mut Facts);
        let cases: &[(&str, Obstruct, &[&str])] = &[
            ("nothing", |_| {}, &[]),
            ("operator away", |f| f.unobserved = true, &["stagekeeper doctor"]),
            ("no project", |f| f.project_missing = true, &["create Project shop in namespace ns"]),
            (
                "suspended stage",
                |f| f.suspended = vec!["stage".into()],
                &[r#"kubectl patch stage prod -n ns --type merge -p '{"spec":{"suspend":false}}'"#],
            ),
            ("suspended project", |f| f.suspended = vec!["project".into()], &["kubectl patch project shop -n ns"]),
            (
                "earlier deploy",
                |f| f.open = vec![deploy("d1", State::Starting), deploy("d2", State::Pending)],
                &["stagekeeper logs -f d1"],
            ),
            ("only pending", |f| f.open = vec![deploy("d2", State::Pending)], &[]),
            ("registry away", |f| f.images_stale = Some("timeout".into()), &["timeout"]),
            ("veto", |f| f.vetoed = vec![veto()], &["stagekeeper.dev/retry="]),
            (
                "veto, but another is under way",
                |f| {
                    f.vetoed = vec![veto()];
                    f.open = vec![deploy("d2", State::Pending)];
                },
                &[],
            ),
            ("failure", |f| f.last_failure = Some(deploy("d1", State::Failed)), &["stagekeeper logs d1"]),
            ("pin", |f| f.pinned = [("web".to_owned(), "1.0.0".to_owned())].into(), &["spec.pin.web"]),
        ];
        for (name, obstruct, expected) in cases {
            let mut facts = Facts::new("ns", "prod");
            facts.project = Some("shop".into());
            obstruct(&mut facts);
            let found = openings(&facts);
            assert_eq!(found.len(), expected.len(), "{name}: {found:?}");
            for (found, expected) in found.iter().zip(*expected) {
                assert!(found.contains(expected), "{name}: {found}");
            }
        }
    }
}
