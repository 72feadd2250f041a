//! Whether the registries of the projects answer.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt as _, stream};
use kube::{Api, Client, ResourceExt as _, api::ListParams};

use super::{
    Place,
    logins::{Logins, Unable, Whose},
    report::Report,
};
use crate::{
    api::Project,
    cli::cluster::unread,
    controllers::scan::masked,
    domain::{clock::SystemClock, image::Repository},
    registry::{Access, Credential, Registry, RegistryError, RegistryOptions},
};

const CHECK: &str = "registry";
/// Registries that are asked at once.
const AT_ONCE: usize = 4;

/// Asks every registry that a project names, as whoever it says.
pub async fn check(report: &mut Report, client: &Client, place: &Place, logins: &Logins) {
    let mut projects = Vec::new();
    for namespace in &place.namespaces {
        let api = namespace
            .as_ref()
            .map_or_else(|| Api::<Project>::all(client.clone()), |name| Api::namespaced(client.clone(), name));
        match api.list(&ListParams::default()).await {
            Ok(list) => projects.extend(list.items),
            Err(error) => {
                let why = unread::<Project>("list", namespace.as_deref(), "", &error);
                report.failed(CHECK, why.summary(), "run doctor again when the cluster answers");
                return;
            }
        }
    }
    if projects.is_empty() {
        report.skipped(CHECK, "there is no project that names one");
        return;
    }
    let options = RegistryOptions {
        request_timeout: Duration::from_secs(10),
        total_timeout: Duration::from_secs(15),
        ..RegistryOptions::default()
    };
    let registry = match Registry::new(options, Arc::new(SystemClock)) {
        Ok(registry) => registry,
        Err(error) => {
            report.failed(CHECK, error.to_string(), "");
            return;
        }
    };
    for (_, error) in registry.configure(logins.settings().await) {
        report.failed(CHECK, error.to_string(), "");
    }
    let (registries, unreadable) = registries(&projects);
    for what in unreadable {
        report.failed(CHECK, what, "correct it in the Project");
    }
    let answers: Vec<_> = stream::iter(&registries)
        .map(async |(door, repositories)| (door, repositories, ask(&registry, door, repositories, logins).await))
        .buffered(AT_ONCE)
        .collect()
        .await;
    for (door, repositories, answer) in answers {
        let number = match repositories.len() {
            1 => "1 repository".to_owned(),
            many => format!("{many} repositories"),
        };
        match answer {
            Answer::Open => report.passed(CHECK, format!("{} answers, for {number}", door.host)),
            Answer::LoggedIn(user) => {
                report.passed(CHECK, format!("{} answers, for {number}, and accepts {user}", door.host));
            }
            Answer::Unknown(what, next) => report.warned(CHECK, what, next),
            Answer::Closed(why, next) => report.failed(CHECK, why, next),
        }
    }
}

/// A registry, and how it is spoken to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Door {
    host: String,
    insecure: bool,
    login: Option<Whose>,
}

/// What came of asking.
enum Answer {
    /// It answers whoever asks.
    Open,
    /// It accepts this user.
    LoggedIn(String),
    /// Not all could be found out; and what to do.
    Unknown(String, String),
    /// It does not answer, or lets nobody in; and what to do.
    Closed(String, String),
}

type Registries = BTreeMap<Door, BTreeSet<String>>;

/// The repositories of all projects by registry, and those that are none.
fn registries(projects: &[Project]) -> (Registries, Vec<String>) {
    let mut registries = Registries::new();
    let mut unreadable = Vec::new();
    for project in projects {
        for service in &project.spec.services {
            let image = &service.image;
            match image.repository.parse::<Repository>() {
                Ok(repository) => {
                    let login = image.credential.as_ref().map(|credential| Whose {
                        namespace: project.namespace().unwrap_or_default(),
                        project: project.name_any(),
                        credential: credential.clone(),
                    });
                    let door = Door { host: repository.registry().to_owned(), insecure: image.insecure, login };
                    let known = registries.entry(door).or_default();
                    known.insert(image.repository.clone());
                }
                Err(error) => {
                    unreadable.push(format!("service {} of Project {}: {error}", service.name, project.name_any()));
                }
            }
        }
    }
    (registries, unreadable)
}

async fn ask(registry: &Registry, door: &Door, repositories: &BTreeSet<String>, logins: &Logins) -> Answer {
    // One stands for all: the door is the same.
    let Some(Ok(repository)) = repositories.first().map(|repository| repository.parse::<Repository>()) else {
        return Answer::Open;
    };
    let nobody = Access { insecure: door.insecure, ..Access::default() };
    let Some(whose) = &door.login else {
        return match registry.ping(&repository, &nobody).await {
            Ok(()) => Answer::Open,
            Err(error) => Answer::Closed(error.to_string(), String::new()),
        };
    };
    match logins.get(whose, &door.host).await {
        Ok(login) => {
            let user = login.user.clone();
            let credential = Credential::Basic { user: login.user, secret: login.secret };
            let access = Access { credential, insecure: door.insecure };
            match registry.ping(&repository, &access).await {
                Ok(()) => Answer::LoggedIn(user),
                Err(error) => Answer::Closed(masked(&error.to_string(), &access.credential), String::new()),
            }
        }
        Err(Unable::Closed { why, next }) => match registry.ping(&repository, &nobody).await {
            Ok(()) | Err(RegistryError::Denied { .. }) => {
                Answer::Unknown(format!("{} answers, but {whose} was not tried: {why}", door.host), next)
            }
            Err(error) => Answer::Closed(error.to_string(), String::new()),
        },
        Err(Unable::Wrong { why, next }) => Answer::Closed(why, next),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_of_one_registry_are_one_question() {
        let project = |repositories: &[(&str, bool)]| -> Project {
            let services: Vec<_> = repositories
                .iter()
                .map(|(repository, insecure)| {
                    let image = serde_json::json!({"repository": repository, "tag": "1", "insecure": insecure});
                    serde_json::json!({"name": "web", "image": image})
                })
                .collect();
            serde_json::from_value(serde_json::json!({
                "apiVersion": "stagekeeper.dev/v1alpha1",
                "kind": "Project",
                "metadata": {"name": "shop"},
                "spec": {"services": services},
            }))
            .expect("a project")
        };
        let (found, unreadable) = registries(&[
            project(&[("ghcr.io/acme/a", false), ("ghcr.io/acme/b", false)]),
            project(&[("ghcr.io/acme/b", false), ("localhost:5000/c", true), ("UPPER/x", false)]),
        ]);
        let found: Vec<(&str, bool, usize)> =
            found.iter().map(|(door, names)| (door.host.as_str(), door.insecure, names.len())).collect();
        assert_eq!(found, [("ghcr.io", false, 2), ("localhost:5000", true, 1)]);
        assert_eq!(unreadable.len(), 1, "{unreadable:?}");
        assert!(unreadable[0].starts_with("service web of Project shop: "));
    }
}
