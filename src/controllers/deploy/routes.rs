//! The route objects that a target should have.

use std::fmt;

use k8s_openapi::api::core::v1::Service;

use super::{Target, settle};
use crate::{
    api,
    cluster::index::{RouteView, StageChildren},
    controllers::{context::Context, environment::sleep, error::Error},
    render::{self, RouteObject, Snapshot},
};

/// One route object that should exist.
#[derive(Debug, Clone)]
pub struct Wanted(RouteObject);

impl Wanted {
    /// As it is to be applied.
    pub fn object(&self) -> &RouteObject {
        &self.0
    }

    /// What is seen of it.
    pub fn view<'a>(&self, children: &'a StageChildren) -> Option<&'a RouteView> {
        match &self.0 {
            RouteObject::Ingress(_) => children.ingress(self.name()),
            RouteObject::HttpRoute(_) => children.http_route(self.name()),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        let meta = match &self.0 {
            RouteObject::Ingress(object) => &object.metadata,
            RouteObject::HttpRoute(object) => &object.metadata,
        };
        meta.name.as_deref().unwrap_or_default()
    }

    /// Hash of it as rendered.
    pub fn rendered(&self) -> Option<&str> {
        match &self.0 {
            RouteObject::Ingress(object) => render::rendered(&**object),
            RouteObject::HttpRoute(object) => render::rendered(&**object),
        }
    }

    /// Whether it exists as rendered.
    pub fn holds(&self, children: &StageChildren) -> bool {
        self.view(children).is_some_and(|view| view.meta.rendered.as_deref() == self.rendered())
    }

    /// Makes it so.
    pub async fn apply(&self, ctx: &Context) -> Result<(), Error> {
        match &self.0 {
            RouteObject::Ingress(object) => ctx.writer.apply(&**object).await?,
            RouteObject::HttpRoute(object) => ctx.writer.apply(&**object).await?,
        };
        Ok(())
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.0 {
            RouteObject::Ingress(_) => "Ingress",
            RouteObject::HttpRoute(_) => "HTTPRoute",
        };
        write!(f, "{kind} {}", self.name())
    }
}

/// The target's own routes, and one for each of `instances` where instances have a host of their own.
pub fn wanted(target: &Target<'_>, snapshot: &Snapshot, instances: &[&str], at: &render::Context) -> Vec<Wanted> {
    let Some(route) = target.route.filter(|route| route.type_ != api::RouteType::None) else {
        return Vec::new();
    };
    let own = render::stage_route(snapshot, route, at);
    let others = render::other_routes(snapshot, route, target.hosts, at);
    let theirs = instances.iter().filter_map(|instance| render::instance_route(snapshot, route, instance, at));
    own.into_iter().chain(others).chain(theirs).map(Wanted).collect()
}

/// The Service that Ingresses of the target lead to while nothing of it answers; none where they never do.
pub fn fallback_service(target: &Target<'_>, snapshot: &Snapshot, at: &render::Context) -> Option<Service> {
    target.route.filter(|route| route.type_ == api::RouteType::Ingress)?;
    Some(render::fallback_service(snapshot, target.fallback?, at))
}

/// Whether the instance that has the traffic has a pod that is ready, of each service that has pods at all. What is asleep
/// has none.
pub fn answers(children: &StageChildren) -> bool {
    let Some(active) = settle::serving(children).next() else {
        return false;
    };
    let instance = children.instance(active);
    let mut workloads = instance.workloads().peekable();
    workloads.peek().is_some()
        && workloads
            .all(|view| view.ready > 0 && !view.meta.deleting && view.meta.rendered.as_deref() != Some(sleep::ASLEEP))
}
