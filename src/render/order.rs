//! The order of services: what must be ready before what.

use std::collections::BTreeSet;

use super::{problem::Problem, snapshot::ServiceSpec};

/// Services that may start together, wave after wave, each in the order in which they are declared. Dependencies on
/// services that do not exist are passed over; they are reported where the snapshot is built.
///
/// # Errors
/// The services of one circle, in its order, when there is one.
pub fn waves(services: &[ServiceSpec]) -> Result<Vec<Vec<&ServiceSpec>>, Vec<String>> {
    let known: BTreeSet<&str> = services.iter().map(|s| s.name.as_str()).collect();
    let mut done: BTreeSet<&str> = BTreeSet::new();
    let mut waves = Vec::new();
    while done.len() < known.len() {
        let wave: Vec<&ServiceSpec> = services
            .iter()
            .filter(|service| !done.contains(service.name.as_str()))
            .filter(|service| {
                let mut needs = service.depends_on.iter().map(String::as_str);
                needs.all(|need| done.contains(need) || !known.contains(need))
            })
            .collect();
        if wave.is_empty() {
            return Err(circle(services, &done));
        }
        done.extend(wave.iter().map(|service| service.name.as_str()));
        waves.push(wave);
    }
    Ok(waves)
}

/// A circle as something to put right.
pub fn problem(circle: &[String]) -> Problem {
    let way: Vec<&str> = circle.iter().chain(circle.first()).map(String::as_str).collect();
    Problem::new(
        format!("Project spec.services[{}].dependsOn", way.first().unwrap_or(&"")),
        format!("services depend on each other in a circle: {}", way.join(" → ")),
        "remove one of these dependencies",
    )
}

/// Follows dependencies among what is not done until a service comes twice: every such service has one.
fn circle(services: &[ServiceSpec], done: &BTreeSet<&str>) -> Vec<String> {
    let open = |name: &str| {
        let found = services.iter().find(|service| service.name == name);
        found.filter(|service| !done.contains(service.name.as_str()))
    };
    let mut path: Vec<&str> = Vec::new();
    let mut next = services.iter().find(|service| !done.contains(service.name.as_str()));
    while let Some(service) = next {
        if let Some(at) = path.iter().position(|name| *name == service.name) {
            path.drain(..at);
            break;
        }
        path.push(&service.name);
        next = service.depends_on.iter().find_map(|name| open(name));
    }
    path.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::render::Scope;

    fn bare(name: String, depends_on: Vec<String>) -> ServiceSpec {
        ServiceSpec {
            name,
            scope: Scope::Instance,
            command: vec![],
            args: vec![],
            ports: vec![],
            env: vec![],
            volumes: vec![],
            replicas: 1,
            resources: None,
            depends_on,
            health: None,
            pod_template: vec![],
            secrets: vec![],
            pull_credential: None,
        }
    }

    proptest! {
        #[test]
        fn waves_hold_every_service_after_what_it_needs(edges in prop::collection::vec((0..8_usize, 0..8_usize), 0..16)) {
            let services: Vec<ServiceSpec> = (0..8)
                .map(|at| {
                    let needs = edges.iter().filter(|(from, _)| *from == at);
                    bare(format!("s{at}"), needs.map(|(_, to)| format!("s{to}")).collect())
                })
                .collect();
            match waves(&services) {
                Ok(waves) => {
                    let mut done = BTreeSet::new();
                    for wave in waves {
                        prop_assert!(!wave.is_empty());
                        for service in &wave {
                            prop_assert!(service.depends_on.iter().all(|need| done.contains(need)));
                        }
                        done.extend(wave.iter().map(|service| service.name.clone()));
                    }
                    prop_assert_eq!(done.len(), services.len());
                }
                Err(circle) => {
                    prop_assert!(!circle.is_empty());
                    for (at, name) in circle.iter().enumerate() {
                        let next = &circle[(at + 1) % circle.len()];
                        let service = services.iter().find(|service| service.name == *name);
                        prop_assert!(service.expect("known").depends_on.contains(next), "{:?}", circle);
                    }
                }
            }
        }
    }
}
