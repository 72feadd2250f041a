//! What an environment of a pull request is to look like, as the project says. Pure.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource as _, ResourceExt as _, core::ObjectMeta};

use crate::{
    api::{
        Environment, EnvironmentSource, EnvironmentSpec, EnvironmentTemplate, GitProvider, Previews, Project,
        SecretAccess, labels, preview,
    },
    controllers::project::verdict::Trouble,
    domain::{
        image::Digest,
        pull_request::{Forks, Gate, Known, Object, Provider, TagPattern},
    },
};

/// Most services of a project, and so of what an environment says of them.
const MAX_SERVICES: usize = 32;

/// The provider that a project names.
pub fn provider(previews: &Previews) -> Provider {
    match previews.provider {
        GitProvider::GitHub => Provider::GitHub,
        GitProvider::GitLab => Provider::GitLab,
        GitProvider::Gitea => Provider::Gitea,
    }
}

/// Which pull requests get an environment.
pub fn gate(previews: &Previews) -> Gate {
    let label = previews.fork_label.clone().filter(|_| previews.forks == preview::Forks::Label);
    Gate {
        provider: provider(previews),
        label: previews.label.clone(),
        branches: previews.branches.clone(),
        forks: label.map_or(Forks::Never, Forks::Label),
    }
}

/// The environment of a pull request.
///
/// # Errors
/// What a person has to mend.
pub fn environment(project: &Project, previews: &Previews, of: &Known, name: &str) -> Result<Environment, Trouble> {
    let facts = &of.facts;
    let invalid = |message: String| Trouble { reason: "InvalidPreviews", message };
    let tag = TagPattern::parse(&previews.tag).and_then(|pattern| pattern.fill(facts)).map_err(|error| {
        invalid(format!(
            "spec.previews.tag makes no tag for pull request {}: {error}; use another pattern",
            facts.number
        ))
    })?;
    let mut template: EnvironmentTemplate = previews.template.clone();
    for service in built(project, previews)? {
        let change = template.services.entry(service).or_default();
        change.tag = Some(tag.clone());
        change.policy = None;
        change.digest = None;
    }
    if template.services.len() > MAX_SERVICES {
        return Err(invalid(format!(
            "spec.previews names more than {MAX_SERVICES} services: take some out of template.services"
        )));
    }
    let spec = EnvironmentSpec {
        project: project.name_any(),
        source: Some(EnvironmentSource {
            provider: Some(previews.provider),
            repository: Some(previews.repository.clone()),
            pull_request: Some(facts.number),
            branch: Some(facts.branch.clone()),
            commit: Some(facts.head.clone()),
            author: Some(facts.author.clone()).filter(|author| !author.is_empty()),
            fork: facts.fork,
        }),
        template,
        pinned: false,
        secrets: if facts.fork { SecretAccess::None } else { SecretAccess::Project },
        suspend: false,
    };
    let mut object = Environment::new(name, spec);
    object.metadata = ObjectMeta {
        name: Some(name.to_owned()),
        namespace: project.namespace(),
        labels: Some(BTreeMap::from([
            (labels::MANAGED_BY.to_owned(), labels::FIELD_MANAGER.to_owned()),
            (labels::PROJECT.to_owned(), project.name_any()),
            (labels::PULL_REQUEST.to_owned(), facts.number.to_string()),
        ])),
        owner_references: owner(project).map(|owner| vec![owner]),
        ..ObjectMeta::default()
    };
    let hash = rendered(&object);
    object.annotations_mut().insert(labels::RENDERED.to_owned(), hash);
    Ok(object)
}

/// The services whose images are built for pull requests.
fn built(project: &Project, previews: &Previews) -> Result<Vec<String>, Trouble> {
    if previews.services.is_empty() {
        let services = project.spec.services.iter();
        let built = services.filter(|service| service.image.tag.is_none() && service.image.digest.is_none());
        return Ok(built.map(|service| service.name.clone()).collect());
    }
    let unknown: Vec<&str> =
        (previews.services.iter()).filter(|name| project.spec.service(name).is_none()).map(String::as_str).collect();
    if unknown.is_empty() {
        return Ok(previews.services.clone());
    }
    let message = format!(
        "spec.previews.services names services that the project has not: {}; correct the names",
        unknown.join(", ")
    );
    Err(Trouble { reason: "InvalidPreviews", message })
}

/// With the project goes the environment, also when nobody is there to end it.
fn owner(project: &Project) -> Option<OwnerReference> {
    Some(OwnerReference {
        api_version: Project::api_version(&()).into_owned(),
        kind: Project::kind(&()).into_owned(),
        name: project.name_any(),
        uid: project.uid()?,
        controller: Some(true),
        block_owner_deletion: None,
    })
}

/// Hash of what is applied.
fn rendered(object: &Environment) -> String {
    let text = serde_json::to_vec(&(&object.metadata, &object.spec)).unwrap_or_default();
    Digest::of(&text).hex()
}

/// The same object, brought to what the one in the cluster is: its identity, so that no other of its name is changed, and
/// what people may say of it themselves.
pub fn over(mut wanted: Environment, known: &Environment) -> Environment {
    wanted.metadata.uid = known.uid();
    wanted.spec.pinned = known.spec.pinned;
    wanted.spec.suspend = known.spec.suspend;
    wanted
}

/// Whether what is in the cluster is what would be applied.
pub fn is_current(wanted: &Environment, known: &Environment) -> bool {
    known.annotations().get(labels::RENDERED) == wanted.annotations().get(labels::RENDERED)
}

/// An environment of this project, as it is planned with.
pub fn object(project: &str, known: &Environment) -> Object {
    let label = |key: &str| known.labels().get(key).map(String::as_str);
    let ours = label(labels::MANAGED_BY) == Some(labels::FIELD_MANAGER) && label(labels::PROJECT) == Some(project);
    let number = label(labels::PULL_REQUEST).filter(|_| ours).and_then(|number| number.parse().ok());
    Object {
        name: known.name_any(),
        uid: known.uid().unwrap_or_default(),
        number,
        ending: known.metadata.deletion_timestamp.is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        controllers::fixture,
        domain::pull_request::{PullRequest, PullState},
    };

    fn project(previews: &str) -> Project {
        let text = fixture::SHOP.replace("spec:\n  services:", &format!("spec:\n  previews: {previews}\n  services:"));
        fixture::read(&text).0
    }

    fn pull(number: i64) -> Known {
        let facts = PullRequest {
            number,
            title: "Add a cart".into(),
            author: "jane".into(),
            branch: "feat/cart".into(),
            target: "main".into(),
            head: "0123456789abcdef0123456789abcdef01234567".into(),
            head_repository: "acme/shop".into(),
            fork: false,
            labels: ["preview".to_owned()].into(),
            vouched: std::collections::BTreeSet::new(),
            state: PullState::Open,
            updated_at: fixture::at(1),
        };
        Known::new(Provider::GitHub, "acme/shop", facts)
    }

    fn made(previews: &str, of: &Known) -> Environment {
        let project = project(previews);
        let previews = project.spec.previews.as_ref().expect("previews");
        environment(&project, previews, of, "shop-pr-42").expect("an environment")
    }

    #[test]
    fn the_template_is_filled_with_what_the_pull_request_is() {
        let previews = "{provider: github, repository: acme/shop, template: {ttl: 5h, services: {web: {replicas: 1, \
                        policy: {semver: '1'}}}}}";
        let object = made(previews, &pull(42));
        assert_eq!(object.annotations().keys().collect::<Vec<_>>(), [labels::RENDERED]);
        let written = serde_json::to_value(&object).expect("JSON");
        assert_eq!(
            written["metadata"]["labels"],
            serde_json::json!({
                "app.kubernetes.io/managed-by": "stagekeeper", "stagekeeper.dev/project": "shop",
                "stagekeeper.dev/pull-request": "42",
            })
        );
        assert_eq!(
            written["spec"],
            serde_json::json!({
                "project": "shop", "pinned": false, "suspend": false, "secrets": "Project", "isolation": "Automatic",
                "ttl": "5h", "strategy": {"type": "Rolling"},
                "services": {"web": {"tag": "pr-42", "replicas": 1}},
                "source": {
                    "provider": "github", "repository": "acme/shop", "pullRequest": 42, "branch": "feat/cart",
                    "commit": "0123456789abcdef0123456789abcdef01234567", "author": "jane", "fork": false,
                },
            })
        );
    }

    #[test]
    fn a_forks_environment_has_no_secrets() {
        let mut fork = pull(42);
        fork.facts.fork = true;
        let previews = "{provider: github, repository: acme/shop, forks: Label, forkLabel: safe}";
        let object = made(previews, &fork);
        assert_eq!(object.spec.secrets, SecretAccess::None);
        assert!(object.spec.source.expect("a source").fork);
        assert_eq!(made(previews, &pull(42)).spec.secrets, SecretAccess::Project);
    }

    #[test]
    fn only_the_services_that_are_built_get_the_tag() {
        let object = made("{provider: github, repository: acme/shop, tag: '{branch}'}", &pull(42));
        let tags: Vec<_> = object.spec.template.services.iter().map(|(name, one)| (name.as_str(), &one.tag)).collect();
        assert_eq!(tags, [("web", &Some("feat-cart".to_owned()))]);
        let object = made("{provider: github, repository: acme/shop, services: [db]}", &pull(42));
        assert_eq!(object.spec.template.services.keys().collect::<Vec<_>>(), ["db"]);
        let project = project("{provider: github, repository: acme/shop, services: [api]}");
        let previews = project.spec.previews.as_ref().expect("previews");
        let trouble = environment(&project, previews, &pull(42), "shop-pr-42").expect_err("there is no such service");
        assert!(trouble.message.contains("api"), "{}", trouble.message);
    }

    #[test]
    fn a_new_commit_is_another_object_and_the_same_facts_are_not() {
        let previews = "{provider: github, repository: acme/shop}";
        let (one, again) = (made(previews, &pull(42)), made(previews, &pull(42)));
        assert!(is_current(&one, &again));
        let mut later = pull(42);
        later.facts.head = "f".repeat(40);
        assert!(!is_current(&made(previews, &later), &one));
        // Its title and labels are told to nobody.
        let mut renamed = pull(42);
        renamed.facts.title = "Add two carts".into();
        assert!(is_current(&made(previews, &renamed), &one));
    }

    #[test]
    fn what_people_say_of_it_stays() {
        let wanted = made("{provider: github, repository: acme/shop}", &pull(42));
        let mut known = wanted.clone();
        known.metadata.uid = Some("uid".into());
        known.spec.pinned = true;
        let over = over(wanted.clone(), &known);
        assert!(over.spec.pinned && over.metadata.uid.as_deref() == Some("uid"));
        assert!(is_current(&wanted, &known));
    }

    #[test]
    fn only_all_of_our_marks_make_it_ours() {
        let ours = made("{provider: github, repository: acme/shop}", &pull(42));
        assert_eq!(object("shop", &ours).number, Some(42));
        assert_eq!(object("cart", &ours).number, None);
        for mark in [labels::MANAGED_BY, labels::PROJECT, labels::PULL_REQUEST] {
            let mut other = ours.clone();
            other.labels_mut().remove(mark);
            assert_eq!(object("shop", &other).number, None, "{mark}");
        }
        let mut helm = ours;
        helm.labels_mut().insert(labels::MANAGED_BY.into(), "Helm".into());
        assert_eq!(object("shop", &helm).number, None);
    }
}
