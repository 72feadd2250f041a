//! The route objects that a target should have.

use std::fmt;

use crate::{
    api,
    cluster::index::{RouteView, StageChildren},
    controllers::{context::Context, error::Error},
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

/// The target's own route, and one for each of `instances` where instances have a host of their own.
pub fn wanted(
    route: Option<&api::Route>,
    snapshot: &Snapshot,
    instances: &[&str],
    at: &render::Context,
) -> Vec<Wanted> {
    let Some(route) = route.filter(|route| route.type_ != api::RouteType::None) else {
        return Vec::new();
    };
    let own = render::stage_route(snapshot, route, at);
    let theirs = instances.iter().filter_map(|instance| render::instance_route(snapshot, route, instance, at));
    own.into_iter().chain(theirs).map(Wanted).collect()
}
