//! Whether the cluster has our kinds, as this version knows them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionVersion,
};
use kube::{Api, Client, ResourceExt as _};

use super::report::Report;
use crate::{api, cluster::error::chain};

const CHECK: &str = "crd";
const APPLY: &str = "stagekeeper crds | kubectl apply --server-side -f -";

/// Compares every definition of ours with the cluster's.
pub async fn check(report: &mut Report, client: &Client) {
    let definitions = Api::<CustomResourceDefinition>::all(client.clone());
    for ours in api::crds() {
        let name = ours.name_any();
        match definitions.get_opt(&name).await {
            Ok(Some(theirs)) => report.found(CHECK, compare(&name, &ours, &theirs)),
            Ok(None) => report.failed(CHECK, format!("{name} is not installed"), APPLY),
            Err(kube::Error::Api(status)) if status.is_forbidden() => {
                report.found(CHECK, served(client, &ours).await);
            }
            Err(error) => {
                let next = "run doctor again when the cluster answers";
                report.failed(CHECK, format!("{name} cannot be read: {}", chain(&error)), next);
            }
        }
    }
}

/// What was found, or what is wrong with the way out.
fn compare(
    name: &str,
    ours: &CustomResourceDefinition,
    theirs: &CustomResourceDefinition,
) -> Result<String, (String, String)> {
    let wrong = |what: String| Err((what, APPLY.to_owned()));
    let Some(our_version) = version_of(ours) else {
        return wrong(format!("{name} has no version {} here", api::VERSION));
    };
    let Some(their_version) = version_of(theirs).filter(|version| version.served) else {
        return wrong(format!("{name} does not serve {}", api::VERSION));
    };
    if our_version.schema != their_version.schema {
        return wrong(format!("{name} has the schema of another release"));
    }
    let established = theirs.status.as_ref().is_some_and(|status| {
        let mut conditions = status.conditions.iter().flatten();
        conditions.any(|condition| condition.type_ == "Established" && condition.status == "True")
    });
    if !established {
        return Err((
            format!("{name} is not established"),
            format!("see `kubectl describe crd {name}`: its names may be taken"),
        ));
    }
    Ok(format!("{name} {} as in this release", api::VERSION))
}

fn version_of(crd: &CustomResourceDefinition) -> Option<&CustomResourceDefinitionVersion> {
    let mut versions = crd.spec.versions.iter();
    versions.find(|version| version.name == api::VERSION)
}

/// For those who may not read definitions: whether the kind is served at all.
async fn served(client: &Client, ours: &CustomResourceDefinition) -> Result<String, (String, String)> {
    let plural = &ours.spec.names.plural;
    let name = ours.name_any();
    let served = client
        .list_api_group_resources(&format!("{}/{}", api::GROUP, api::VERSION))
        .await
        .is_ok_and(|list| list.resources.iter().any(|found| found.name == *plural));
    if served {
        Ok(format!("{name} serves {}; its schema could not be compared, reading it is not allowed to us", api::VERSION))
    } else {
        Err((format!("{name} is not served in {}", api::VERSION), APPLY.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
        CustomResourceDefinitionCondition, CustomResourceDefinitionStatus,
    };

    use super::*;

    fn installed() -> CustomResourceDefinition {
        let mut crd = api::crds().remove(0);
        crd.status = Some(CustomResourceDefinitionStatus {
            conditions: Some(vec![CustomResourceDefinitionCondition {
                type_: "Established".into(),
                status: "True".into(),
                ..CustomResourceDefinitionCondition::default()
            }]),
            ..CustomResourceDefinitionStatus::default()
        });
        crd
    }

    #[test]
    fn a_definition_is_ours_only_with_version_schema_and_name() {
        type Change = fn(&mut CustomResourceDefinition);
        let cases: &[(&str, Change, &str)] = &[
            ("as it is", |_| {}, ""),
            ("other version", |crd| crd.spec.versions[0].name = "v1beta1".into(), "does not serve v1alpha1"),
            ("not served", |crd| crd.spec.versions[0].served = false, "does not serve v1alpha1"),
            ("other schema", |crd| crd.spec.versions[0].schema = None, "has the schema of another release"),
            ("name taken", |crd| crd.status = None, "is not established"),
        ];
        let ours = &api::crds()[0];
        for (name, change, expected) in cases {
            let mut theirs = installed();
            change(&mut theirs);
            match compare("projects", ours, &theirs) {
                Ok(_) => assert_eq!(*expected, "", "{name}"),
                Err((what, next)) => {
                    assert_eq!(what, format!("projects {expected}"), "{name}");
                    assert!(!next.is_empty(), "{name}");
                }
            }
        }
    }
}
