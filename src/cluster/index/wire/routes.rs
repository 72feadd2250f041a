//! Services, Ingresses and HTTP routes.

use serde::Deserialize;

use super::{AnyView, Head, Labels, Wire, WireCondition, ip};
use crate::cluster::index::view::{RouteView, ServiceView};

/// `v1` Service.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(in crate::cluster::index) struct Service {
    metadata: Head,
    spec: ServiceSpec,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ServiceSpec {
    selector: Option<Labels>,
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<Box<str>>,
    ports: Option<Vec<ServicePort>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct ServicePort {
    name: Option<Box<str>>,
    port: u16,
}

impl Wire for Service {
    fn head(&self) -> &Head {
        &self.metadata
    }

    fn view(self) -> AnyView {
        let ports = self.spec.ports.unwrap_or_default();
        AnyView::Service(ServiceView {
            meta: self.metadata.meta(),
            selects: self.spec.selector.and_then(|s| s.instance),
            cluster_ip: ip(self.spec.cluster_ip.as_deref()),
            ports: ports.into_iter().map(|p| (p.name.unwrap_or_default(), p.port)).collect(),
        })
    }
}

/// `networking.k8s.io/v1` Ingress.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(in crate::cluster::index) struct Ingress {
    metadata: Head,
    status: Option<IngressStatus>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct IngressStatus {
    load_balancer: Option<LoadBalancer>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct LoadBalancer {
    ingress: Option<Vec<serde::de::IgnoredAny>>,
}

impl Wire for Ingress {
    fn head(&self) -> &Head {
        &self.metadata
    }

    fn view(self) -> AnyView {
        let addresses = self.status.and_then(|s| s.load_balancer).and_then(|lb| lb.ingress);
        AnyView::Ingress(RouteView {
            meta: self.metadata.meta(),
            accepted: addresses.is_some_and(|a| !a.is_empty()),
            problem: None,
        })
    }
}

/// `gateway.networking.k8s.io/v1` `HTTPRoute`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(in crate::cluster::index) struct HttpRoute {
    metadata: Head,
    spec: HttpRouteSpec,
    status: Option<HttpRouteStatus>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct HttpRouteSpec {
    parent_refs: Option<Vec<serde::de::IgnoredAny>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct HttpRouteStatus {
    parents: Option<Vec<RouteParent>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct RouteParent {
    conditions: Option<Vec<WireCondition>>,
}

impl RouteParent {
    /// `Accepted` and `ResolvedRefs`, as far as they are about the newest spec.
    fn verdicts(&self, generation: i64) -> impl Iterator<Item = &WireCondition> {
        self.conditions
            .iter()
            .flatten()
            .filter(|c| matches!(&*c.r#type, "Accepted" | "ResolvedRefs"))
            .filter(move |c| c.observed_generation.is_none_or(|seen| seen >= generation))
    }
}

impl Wire for HttpRoute {
    fn head(&self) -> &Head {
        &self.metadata
    }

    fn view(self) -> AnyView {
        let generation = self.metadata.generation();
        let asked = self.spec.parent_refs.map_or(0, |refs| refs.len());
        let parents = self.status.and_then(|s| s.parents).unwrap_or_default();
        let accepting = parents
            .iter()
            .filter(|p| {
                p.verdicts(generation).any(|c| &*c.r#type == "Accepted")
                    && p.verdicts(generation).all(WireCondition::holds)
            })
            .count();
        let refusal = parents.iter().flat_map(|p| p.verdicts(generation)).find(|c| !c.holds());
        AnyView::HttpRoute(RouteView {
            meta: self.metadata.meta(),
            accepted: accepting > 0 && accepting >= asked,
            problem: refusal.map(|c| Box::new(c.because())),
        })
    }
}
