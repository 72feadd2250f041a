//! The part of the Gateway API's `HTTPRoute` that is rendered and observed.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use serde::{Deserialize, Serialize};

/// Which requests go where.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "gateway.networking.k8s.io",
    version = "v1",
    kind = "HTTPRoute",
    root = "HttpRoute",
    namespaced,
    schema = "disabled",
    status = "HttpRouteStatus",
    derive = "PartialEq",
    doc = "A route of the Gateway API."
)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteSpec {
    /// The Gateways that it attaches to.
    #[serde(default)]
    pub parent_refs: Vec<ParentReference>,
    /// The hosts that it answers for.
    #[serde(default)]
    pub hostnames: Vec<String>,
    /// The rules, of which there is one here.
    #[serde(default)]
    pub rules: Vec<HttpRouteRule>,
}

/// A Gateway, or one of its listeners.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ParentReference {
    /// Name of the Gateway.
    pub name: String,
    /// Its namespace; none for the route's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name of the listener; none for all that accept the route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
}

/// What happens to matching requests; without a match, to all.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteRule {
    /// Where they go.
    #[serde(default)]
    pub backend_refs: Vec<BackendReference>,
}

/// A Service.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct BackendReference {
    /// Name of the Service.
    pub name: String,
    /// Its namespace; none for the route's. Another one takes a `ReferenceGrant` there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Number of its port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
}

/// What the Gateways say about a route.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct HttpRouteStatus {
    /// By Gateway.
    #[serde(default)]
    pub parents: Vec<ParentStatus>,
}

/// What one Gateway says about a route.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ParentStatus {
    /// The Gateway.
    #[serde(default)]
    pub parent_ref: ParentReference,
    /// `Accepted` and `ResolvedRefs` among others.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}
