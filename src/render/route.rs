//! The stage's stable Services, and how traffic from outside reaches the stage and each instance.

use std::collections::BTreeMap;

use k8s_openapi::api::{
    core::v1::{Service, ServicePort, ServiceSpec as K8sServiceSpec},
    networking::v1::{
        HTTPIngressPath, HTTPIngressRuleValue, Ingress, IngressBackend, IngressRule, IngressServiceBackend,
        IngressSpec, IngressTLS, ServiceBackendPort,
    },
};

use super::{
    gateway::{BackendReference, HttpRoute, HttpRouteRule, HttpRouteSpec, ParentReference},
    meta::{self, Context, Copy, Fallback, Published},
    names,
    snapshot::{Port, Scope, ServiceSpec, Snapshot},
    workload,
};
use crate::api::{Route, RouteType, labels};

/// The object that makes a route.
#[derive(Debug, Clone, PartialEq)]
pub enum RouteObject {
    /// A Kubernetes Ingress.
    Ingress(Box<Ingress>),
    /// A Gateway API route.
    HttpRoute(Box<HttpRoute>),
}

/// What stands for `{instance}` in the pattern of instances' hosts.
const INSTANCE: &str = "{instance}";

/// The stage's stable Services: one for each service with ports that instances have their own of; see
/// [`stage_service`].
pub fn stage_services(snapshot: &Snapshot, active: Option<&str>, ctx: &Context) -> Vec<Service> {
    let services = snapshot.services.iter();
    let services = services.filter_map(|service| stage_service(snapshot, service, active, ctx));
    services.collect()
}

/// The stage's stable Service for `service`. Its selector names `active`, the instance that has the traffic; changing
/// it is the switch. Without one it leads nowhere, so that a route has something to point at. None for a service
/// without ports, and for one that exists once per stage: its own Service is stable already.
pub fn stage_service(
    snapshot: &Snapshot,
    service: &ServiceSpec,
    active: Option<&str>,
    ctx: &Context,
) -> Option<Service> {
    if service.scope == Scope::Stage {
        return None;
    }
    let stage = &snapshot.identity.stage;
    let mut all = meta::shared_labels(snapshot);
    all.insert(labels::NAME.into(), service.name.clone());
    all.insert(labels::SERVICE.into(), service.name.clone());
    all.insert(labels::SCOPE.into(), labels::SCOPE_STAGE.into());
    let name = names::stage_service(stage, &service.name);
    let mut metadata = meta::meta(snapshot, name, all, ctx);
    if let Some(published) = ctx.edge.get(&service.name) {
        published.mark(&mut metadata);
    }
    let instance = active.unwrap_or(names::NOWHERE);
    let selector = meta::selector(stage, &service.name, Some(instance));
    workload::cluster_ip(metadata, &service.ports, selector, ctx)
}

/// The service and port that routes lead to: the named ones, or else the first port of the first service that instances
/// have their own of.
pub fn backend<'a>(snapshot: &'a Snapshot, route: Option<&Route>) -> Option<(&'a ServiceSpec, &'a Port)> {
    let service = match route.and_then(|route| route.service.as_ref()) {
        Some(name) => snapshot.service(name)?,
        None => {
            snapshot.services.iter().find(|service| service.scope == Scope::Instance && !service.ports.is_empty())?
        }
    };
    let port = match route.and_then(|route| route.port.as_ref()) {
        Some(name) => service.ports.iter().find(|port| port.name == *name)?,
        None => service.ports.first()?,
    };
    Some((service, port))
}

/// What the built-in proxy leads to: the route's service at its host, and others at theirs, by name of the service. Only
/// services that instances have their own of. `behind`: the proxy answers for other routes while nothing else does.
pub fn published(
    snapshot: &Snapshot,
    route: Option<&Route>,
    others: &[(String, String)],
    behind: bool,
) -> BTreeMap<String, Published> {
    let mut all = BTreeMap::new();
    let Some(route) = route.filter(|route| behind || route.type_ == RouteType::Edge) else {
        return all;
    };
    let mut lead = |host: &str, service: &ServiceSpec, port: &Port| {
        if service.scope == Scope::Instance {
            let to: &mut Published = all.entry(service.name.clone()).or_default();
            to.hosts.push(host.to_owned());
            to.port.clone_from(&port.name);
        }
    };
    if let (Some(host), Some((service, port))) = (&route.host, backend(snapshot, Some(route))) {
        lead(host, service, port);
    }
    for (name, host) in others {
        if let Some((service, port)) =
            snapshot.service(name).and_then(|service| Some((service, service.ports.first()?)))
        {
            lead(host, service, port);
        }
    }
    all
}

/// The stage's route, to its stable Service; none where the stage has no route, or the snapshot no such service.
pub fn stage_route(snapshot: &Snapshot, route: &Route, ctx: &Context) -> Option<RouteObject> {
    let (service, port) = backend(snapshot, Some(route))?;
    let stage = &snapshot.identity.stage;
    let target = Target {
        name: names::stage_route(stage),
        host: route.host.as_deref()?,
        service: names::stage_service(stage, &service.name),
        port: port.port,
        instance: None,
    };
    object(snapshot, route, &target, ctx)
}

/// The routes of services that have a host of their own besides the stage's, by name of the service, to their stable
/// Services.
pub fn other_routes(
    snapshot: &Snapshot,
    route: &Route,
    others: &[(String, String)],
    ctx: &Context,
) -> Vec<RouteObject> {
    let stage = &snapshot.identity.stage;
    let made = others.iter().filter_map(|(name, host)| {
        let service = snapshot.service(name)?;
        let target = Target {
            name: names::service_route(stage, name),
            host,
            service: names::stage_service(stage, name),
            port: service.ports.first()?.port,
            instance: None,
        };
        object(snapshot, route, &target, ctx)
    });
    made.collect()
}

/// What an Ingress leads to while nothing of the stage can answer: Ingresses know no Services of other namespaces.
pub fn fallback_service(snapshot: &Snapshot, fallback: &Fallback, ctx: &Context) -> Service {
    let stage = &snapshot.identity.stage;
    let mut all = meta::shared_labels(snapshot);
    all.insert(labels::SCOPE.into(), labels::SCOPE_STAGE.into());
    let metadata = meta::meta(snapshot, names::fallback_service(stage), all, ctx);
    let spec = K8sServiceSpec {
        type_: Some("ExternalName".into()),
        external_name: Some(format!("{}.{}.svc.cluster.local", fallback.name, fallback.namespace)),
        ports: Some(vec![ServicePort {
            name: Some("http".into()),
            port: fallback.port.into(),
            protocol: Some("TCP".into()),
            ..ServicePort::default()
        }]),
        ..K8sServiceSpec::default()
    };
    meta::marked(Service { metadata, spec: Some(spec), status: None }, ctx)
}

/// The route of one instance, to its own Service; none where instances have no host of their own.
pub fn instance_route(snapshot: &Snapshot, route: &Route, instance: &str, ctx: &Context) -> Option<RouteObject> {
    let (service, port) = backend(snapshot, Some(route))?;
    let target = Target {
        name: names::instance_route(&snapshot.identity.stage, instance),
        host: &instance_host(route, instance)?,
        service: Copy::new(snapshot, service, instance).name(),
        port: port.port,
        instance: Some(instance),
    };
    object(snapshot, route, &target, ctx)
}

/// Where people reach the stage: its host, or else its stable Service's address inside the cluster. None when no
/// service has a port.
pub fn stage_url(snapshot: &Snapshot, route: Option<&Route>) -> Option<String> {
    let (service, port) = backend(snapshot, route)?;
    let object = names::stage_service(&snapshot.identity.stage, &service.name);
    let host = outside(route).and_then(|route| route.host.clone());
    Some(url(snapshot, route, host, &object, port))
}

/// Where people reach one instance: its own host, or else its own Service's address inside the cluster.
pub fn instance_url(snapshot: &Snapshot, route: Option<&Route>, instance: &str) -> Option<String> {
    let (service, port) = backend(snapshot, route)?;
    let object = Copy::new(snapshot, service, instance).name();
    let host = outside(route).and_then(|route| instance_host(route, instance));
    Some(url(snapshot, route, host, &object, port))
}

fn outside(route: Option<&Route>) -> Option<&Route> {
    route.filter(|route| route.type_ != RouteType::None)
}

fn instance_host(route: &Route, instance: &str) -> Option<String> {
    let pattern = route.instance_host.as_ref()?;
    Some(pattern.replace(INSTANCE, instance))
}

/// Only an Ingress knows here whether it is encrypted; the listener of a Gateway decides for itself.
fn url(snapshot: &Snapshot, route: Option<&Route>, host: Option<String>, object: &str, port: &Port) -> String {
    let encrypted = route.is_some_and(|route| route.tls_secret.is_some());
    match host {
        Some(host) if encrypted => format!("https://{host}"),
        Some(host) => format!("http://{host}"),
        None => {
            let namespace = &snapshot.identity.namespace;
            format!("http://{object}.{namespace}.svc:{}", port.port)
        }
    }
}

/// Which host leads to which Service.
struct Target<'a> {
    name: String,
    host: &'a str,
    service: String,
    port: i32,
    instance: Option<&'a str>,
}

fn object(snapshot: &Snapshot, route: &Route, target: &Target<'_>, ctx: &Context) -> Option<RouteObject> {
    let mut all = meta::shared_labels(snapshot);
    let scope = match target.instance {
        Some(instance) => {
            all.insert(labels::INSTANCE.into(), instance.to_owned());
            labels::SCOPE_INSTANCE
        }
        None => labels::SCOPE_STAGE,
    };
    all.insert(labels::SCOPE.into(), scope.into());
    let mut metadata = meta::meta(snapshot, target.name.clone(), all, ctx);
    let own = Backend { name: target.service.clone(), namespace: None, port: target.port };
    let backend = match (&ctx.fallback, route.type_) {
        (Some(fallback), RouteType::Ingress) => {
            let name = names::fallback_service(&snapshot.identity.stage);
            Backend { name, namespace: None, port: fallback.port.into() }
        }
        (Some(fallback), _) => {
            let Fallback { namespace, name, port } = fallback.clone();
            Backend { name, namespace: Some(namespace), port: port.into() }
        }
        (None, _) => own,
    };
    metadata.annotations = (!route.annotations.is_empty()).then(|| route.annotations.clone());
    match route.type_ {
        RouteType::Ingress => {
            let rendered = Ingress { metadata, spec: Some(ingress(route, target.host, backend)), status: None };
            Some(RouteObject::Ingress(Box::new(meta::marked(rendered, ctx))))
        }
        RouteType::HttpRoute => {
            let rendered = HttpRoute { metadata, spec: http_route(route, target.host, backend), status: None };
            Some(RouteObject::HttpRoute(Box::new(meta::marked(rendered, ctx))))
        }
        RouteType::Edge | RouteType::None => None,
    }
}

/// Where a route leads.
struct Backend {
    name: String,
    namespace: Option<String>,
    port: i32,
}

fn ingress(route: &Route, host: &str, to: Backend) -> IngressSpec {
    let backend = IngressBackend {
        service: Some(IngressServiceBackend {
            name: to.name,
            port: Some(ServiceBackendPort { number: Some(to.port), name: None }),
        }),
        resource: None,
    };
    let tls = route
        .tls_secret
        .as_ref()
        .map(|secret| IngressTLS { hosts: Some(vec![host.to_owned()]), secret_name: Some(secret.clone()) });
    IngressSpec {
        ingress_class_name: route.class_name.clone(),
        rules: Some(vec![IngressRule {
            host: Some(host.to_owned()),
            http: Some(HTTPIngressRuleValue {
                paths: vec![HTTPIngressPath { path: Some("/".into()), path_type: "Prefix".into(), backend }],
            }),
        }]),
        tls: tls.map(|tls| vec![tls]),
        default_backend: None,
    }
}

fn http_route(route: &Route, host: &str, to: Backend) -> HttpRouteSpec {
    let parents = route.parent_refs.iter().map(|parent| ParentReference {
        name: parent.name.clone(),
        namespace: parent.namespace.clone(),
        section_name: parent.section_name.clone(),
    });
    HttpRouteSpec {
        parent_refs: parents.collect(),
        hostnames: vec![host.to_owned()],
        rules: vec![HttpRouteRule {
            backend_refs: vec![BackendReference { name: to.name, namespace: to.namespace, port: Some(to.port) }],
        }],
    }
}
