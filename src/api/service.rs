//! A service of a project: one workload with one image.

use k8s_openapi::api::core::v1::{EnvVar, ResourceRequirements};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::health::Health;
use super::image::{Image, ImageSource};
use super::rules;
use super::volume::Volume;

/// Fields of a Kubernetes object that are passed on as they are.
pub type FreeObject = serde_json::Map<String, serde_json::Value>;

/// One workload: an image with its command, environment, ports, volumes and health.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.health) || has(self.ports) && self.ports.size() > 0")
        .message("health needs a port to probe: add one to ports, or remove health"),
    validation = Rule::new("!has(self.health) || !has(self.health.http) || !has(self.health.http.port) || has(self.ports) && self.ports.exists(p, p.name == self.health.http.port)")
        .message("health.http.port must be the name of one of the service's ports"),
    validation = Rule::new("!has(self.health) || !has(self.health.tcp) || !has(self.health.tcp.port) || has(self.ports) && self.ports.exists(p, p.name == self.health.tcp.port)")
        .message("health.tcp.port must be the name of one of the service's ports"),
    validation = Rule::new("!has(self.volumes) || !self.volumes.exists(v, has(v.perInstanceClaim)) || (has(self.scope) ? self.scope == 'Instance' : has(self.image.policy) && !self.volumes.exists(v, has(v.sharedClaim)))")
        .message("volumes[].perInstanceClaim needs a service of scope Instance, and this one is of scope Stage: set scope to Instance, or use sharedClaim")
)]
pub struct Service {
    /// Name of the service, unique in its project.
    #[schemars(length(min = 1, max = 40))]
    #[x_kube(validation = rules::name("name"))]
    pub name: String,
    /// Where its image comes from.
    pub image: Image,
    /// Entrypoint; replaces the image's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 8192)))]
    pub command: Vec<String>,
    /// Arguments; replace the image's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 8192)))]
    pub args: Vec<String>,
    /// Ports that it listens on. The first is the one that health and route use unless they name another.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(
        merge_strategy = ListMerge::Map(vec!["name".into()]),
        validation = Rule::new("self.all(p, self.exists_one(q, q.port == p.port))")
            .message("ports must have different numbers: remove the one that is there twice")
    )]
    pub ports: Vec<Port>,
    /// Environment variables, as in a Kubernetes container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub env: Vec<EnvVar>,
    /// What is mounted into it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(
        merge_strategy = ListMerge::Map(vec!["name".into()]),
        validation = Rule::new("self.all(v, self.exists_one(w, w.mountPath == v.mountPath))")
            .message("volumes must have different values of mountPath: move one of them")
    )]
    pub volumes: Vec<Volume>,
    /// Number of pods.
    #[serde(default = "default_replicas")]
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: i32,
    /// Resources of the container, as in Kubernetes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Services that must be ready before this one starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 40)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub depends_on: Vec<String>,
    /// Whether it exists once per instance or once per stage; see [`Scope`], whose description is the schema's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// How the operator finds out that it is healthy. Left out, the readiness of its pods has to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// A Kubernetes pod template that is merged over what is rendered: the way to every field that has no
    /// counterpart here. The service's container has the service's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::free_object")]
    pub pod_template: Option<FreeObject>,
}

/// A port that a service listens on.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    /// Name of the port, unique in its service.
    #[schemars(length(min = 1, max = 15))]
    #[x_kube(validation = rules::name("name"))]
    pub name: String,
    /// Number of the port, for TCP.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
}

/// `Instance`: one copy per instance, which comes and goes with its release. `Stage`: one copy that all instances
/// share, updated in place. Left out, `Stage` for a service with a `sharedClaim` or a fixed image (`tag`, `digest`),
/// and `Instance` for a watched image (`policy`).
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One copy per instance: it comes and goes with its release.
    Instance,
    /// One copy that all instances share; it is updated in place.
    Stage,
}

impl Service {
    /// The scope as declared, or else as `scope` promises for a service that declares none.
    pub fn effective_scope(&self) -> Scope {
        let shares_a_claim = self.volumes.iter().any(|volume| volume.shared_claim.is_some());
        match (self.scope, self.image.source()) {
            (Some(scope), _) => scope,
            (None, Some(ImageSource::Policy(_))) if !shares_a_claim => Scope::Instance,
            (None, _) => Scope::Stage,
        }
    }

    /// The port with this name, or the first one if no name is given.
    pub fn port(&self, name: Option<&str>) -> Option<&Port> {
        match name {
            Some(name) => self.ports.iter().find(|port| port.name == name),
            None => self.ports.first(),
        }
    }
}

fn default_replicas() -> i32 {
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(fields: &str) -> Service {
        let fixed = "name: web, image: {repository: shop, tag: '1'}";
        let watched = "name: web, image: {repository: shop, policy: {semver: '*'}}";
        let yaml = fields.replace("FIXED", fixed).replace("WATCHED", watched);
        serde_yaml::from_str(&format!("{{{yaml}}}")).unwrap_or_else(|e| panic!("{yaml}: {e}"))
    }

    #[test]
    fn scope_follows_image_and_volumes_unless_declared() {
        let shared = "volumes: [{name: a, mountPath: /a, sharedClaim: {size: 1Gi}}]";
        let own = "volumes: [{name: a, mountPath: /a, perInstanceClaim: {size: 1Gi}}]";
        let cases = [
            ("WATCHED".to_owned(), Scope::Instance),
            ("FIXED".to_owned(), Scope::Stage),
            (format!("WATCHED, {own}"), Scope::Instance),
            (format!("WATCHED, {shared}"), Scope::Stage),
            (format!("FIXED, {shared}"), Scope::Stage),
            ("FIXED, scope: Instance".to_owned(), Scope::Instance),
            ("WATCHED, scope: Stage".to_owned(), Scope::Stage),
            (format!("WATCHED, scope: Instance, {shared}"), Scope::Instance),
        ];
        for (fields, wanted) in cases {
            assert_eq!(service(&fields).effective_scope(), wanted, "{fields}");
        }
    }

    #[test]
    fn ports_are_found_by_name_or_place() {
        let service = service("FIXED, ports: [{name: http, port: 80}, {name: grpc, port: 81}]");
        assert_eq!(service.port(None).map(|port| port.port), Some(80));
        assert_eq!(service.port(Some("grpc")).map(|port| port.port), Some(81));
        assert_eq!(service.port(Some("web")), None);
    }
}
