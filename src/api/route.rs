//! How traffic from outside the cluster reaches a stage.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rules;

/// The stage's route, and the pattern of its instances' routes.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.type == 'None' || has(self.host)")
        .message("route.host is needed: give a host name, or set route.type to None"),
    validation = rules::route_gateway(),
    validation = rules::route_no_gateway(),
    validation = rules::route_ingress(),
    validation = Rule::new("!has(self.port) || has(self.service)")
        .message("route.port is the name of a port of route.service: name the service too")
)]
pub struct Route {
    /// Host name of the stage, such as `shop.example.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::host())]
    pub host: Option<String>,
    /// Host name of each instance, such as `{instance}.shop.example.com`; `{instance}` stands for the instance's
    /// name. Left out, instances have no route of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200))]
    #[x_kube(
        validation = Rule::new("self.matches('^([a-z0-9][-a-z0-9]*-)?[{]instance[}](-[-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)+$')")
            .message("instanceHost must be a host name whose first part holds {instance}, such as {instance}.shop.example.com")
    )]
    pub instance_host: Option<String>,
    /// The kind of object that makes the route: a Kubernetes Ingress, a Gateway API `HTTPRoute`, `Edge` for the built-in
    /// proxy, or `None` for Services only.
    #[serde(default, rename = "type")]
    pub type_: RouteType,
    /// Name of the service that gets the traffic. Left out, the first service of scope Instance that has a port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 40))]
    pub service: Option<String>,
    /// Name of the service's port. Left out, its first port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 15))]
    pub port: Option<String>,
    /// Class of the Ingress. Left out, the cluster's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub class_name: Option<String>,
    /// Name of a Secret of type `kubernetes.io/tls` for `host` and `instanceHost`. With it, URLs are `https`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub tls_secret: Option<String>,
    /// Annotations of the Ingress or `HTTPRoute`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub annotations: BTreeMap<String, String>,
    /// The Gateways (or their listeners) that an `HTTPRoute` attaches to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub parent_refs: Vec<ParentRef>,
}

/// The kind of object that makes a route.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RouteType {
    /// A Kubernetes Ingress.
    #[default]
    Ingress,
    /// A Gateway API `HTTPRoute`.
    #[serde(rename = "HTTPRoute")]
    HttpRoute,
    /// The built-in proxy, `stagekeeper edge`.
    Edge,
    /// No object: only Services.
    None,
}

/// A Gateway that an `HTTPRoute` attaches to.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ParentRef {
    /// Name of the Gateway.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its namespace. Left out, the Stage's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
    /// Name of one of its listeners. Left out, all that accept the route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub section_name: Option<String>,
}
