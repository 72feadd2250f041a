//! The children of one stage.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::view::{JobView, Kind, PodView, RouteView, SecretView, ServiceView, View, WorkloadView};
use super::wire::AnyView;

/// The children of a stage as they were at one instant.
#[derive(Debug, Clone, Default)]
pub struct StageChildren {
    workloads: Set<WorkloadView>,
    pods: Set<PodView>,
    services: Set<ServiceView>,
    jobs: Set<JobView>,
    ingresses: Set<RouteView>,
    http_routes: Set<RouteView>,
    secrets: Set<SecretView>,
}

impl StageChildren {
    /// Deployments, by name.
    pub fn workloads(&self) -> impl Iterator<Item = &WorkloadView> {
        self.workloads.iter()
    }

    /// Pods, by name, those of hook Jobs among them.
    pub fn pods(&self) -> impl Iterator<Item = &PodView> {
        self.pods.iter()
    }

    /// Services, by name.
    pub fn services(&self) -> impl Iterator<Item = &ServiceView> {
        self.services.iter()
    }

    /// Jobs, by name.
    pub fn jobs(&self) -> impl Iterator<Item = &JobView> {
        self.jobs.iter()
    }

    /// Ingresses, by name.
    pub fn ingresses(&self) -> impl Iterator<Item = &RouteView> {
        self.ingresses.iter()
    }

    /// `HTTPRoute`s, by name.
    pub fn http_routes(&self) -> impl Iterator<Item = &RouteView> {
        self.http_routes.iter()
    }

    /// Secrets, by name.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretView> {
        self.secrets.iter()
    }

    /// The Deployment of this name.
    pub fn workload(&self, name: &str) -> Option<&WorkloadView> {
        self.workloads.get(name)
    }

    /// The Service of this name.
    pub fn service(&self, name: &str) -> Option<&ServiceView> {
        self.services.get(name)
    }

    /// The Job of this name.
    pub fn job(&self, name: &str) -> Option<&JobView> {
        self.jobs.get(name)
    }

    /// The Ingress of this name.
    pub fn ingress(&self, name: &str) -> Option<&RouteView> {
        self.ingresses.get(name)
    }

    /// The `HTTPRoute` of this name.
    pub fn http_route(&self, name: &str) -> Option<&RouteView> {
        self.http_routes.get(name)
    }

    /// The Secret of this name.
    pub fn secret(&self, name: &str) -> Option<&SecretView> {
        self.secrets.get(name)
    }

    /// The children of one instance.
    pub fn instance<'a>(&'a self, name: &'a str) -> InstanceChildren<'a> {
        InstanceChildren { stage: self, name }
    }

    /// The instances that any child names.
    pub fn instances(&self) -> BTreeSet<&str> {
        let mut names = BTreeSet::new();
        names.extend(self.workloads().filter_map(|v| v.meta.instance.as_deref()));
        names.extend(self.pods().filter_map(|v| v.meta.instance.as_deref()));
        names.extend(self.services().filter_map(|v| v.meta.instance.as_deref()));
        names.extend(self.jobs().filter_map(|v| v.meta.instance.as_deref()));
        names.extend(self.ingresses().filter_map(|v| v.meta.instance.as_deref()));
        names.extend(self.http_routes().filter_map(|v| v.meta.instance.as_deref()));
        names.extend(self.secrets().filter_map(|v| v.meta.instance.as_deref()));
        names
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        Kind::ALL.into_iter().all(|kind| self.len(kind) == 0)
    }

    /// How many there are of a kind.
    pub fn len(&self, kind: Kind) -> usize {
        match kind {
            Kind::Deployment => self.workloads.0.len(),
            Kind::Service => self.services.0.len(),
            Kind::Pod => self.pods.0.len(),
            Kind::Job => self.jobs.0.len(),
            Kind::Ingress => self.ingresses.0.len(),
            Kind::HttpRoute => self.http_routes.0.len(),
            Kind::Secret => self.secrets.0.len(),
        }
    }

    /// The resource version at which an object was seen last.
    pub(super) fn version(&self, kind: Kind, name: &str) -> Option<u64> {
        match kind {
            Kind::Deployment => self.workloads.version(name),
            Kind::Service => self.services.version(name),
            Kind::Pod => self.pods.version(name),
            Kind::Job => self.jobs.version(name),
            Kind::Ingress => self.ingresses.version(name),
            Kind::HttpRoute => self.http_routes.version(name),
            Kind::Secret => self.secrets.version(name),
        }
    }

    pub(super) fn uid(&self, kind: Kind, name: &str) -> Option<&str> {
        let meta = match kind {
            Kind::Deployment => self.workload(name).map(View::meta),
            Kind::Service => self.service(name).map(View::meta),
            Kind::Pod => self.pods.get(name).map(View::meta),
            Kind::Job => self.job(name).map(View::meta),
            Kind::Ingress => self.ingress(name).map(View::meta),
            Kind::HttpRoute => self.http_route(name).map(View::meta),
            Kind::Secret => self.secret(name).map(View::meta),
        };
        meta.map(|meta| &*meta.uid)
    }

    /// Whether putting it in would change what readers see.
    pub(super) fn differs(&self, view: &AnyView) -> bool {
        let name = &*view.meta().name;
        match view {
            AnyView::Workload(v) => self.workload(name) != Some(v),
            AnyView::Pod(v) => self.pods.get(name) != Some(v),
            AnyView::Service(v) => self.service(name) != Some(v),
            AnyView::Job(v) => self.job(name) != Some(v),
            AnyView::Ingress(v) => self.ingress(name) != Some(v),
            AnyView::HttpRoute(v) => self.http_route(name) != Some(v),
            AnyView::Secret(v) => self.secret(name) != Some(v),
        }
    }

    pub(super) fn put(&mut self, view: AnyView, version: u64) {
        match view {
            AnyView::Workload(v) => self.workloads.put(v, version),
            AnyView::Pod(v) => self.pods.put(v, version),
            AnyView::Service(v) => self.services.put(v, version),
            AnyView::Job(v) => self.jobs.put(v, version),
            AnyView::Ingress(v) => self.ingresses.put(v, version),
            AnyView::HttpRoute(v) => self.http_routes.put(v, version),
            AnyView::Secret(v) => self.secrets.put(v, version),
        }
    }

    pub(super) fn take_out(&mut self, kind: Kind, name: &str) {
        match kind {
            Kind::Deployment => self.workloads.take_out(name),
            Kind::Service => self.services.take_out(name),
            Kind::Pod => self.pods.take_out(name),
            Kind::Job => self.jobs.take_out(name),
            Kind::Ingress => self.ingresses.take_out(name),
            Kind::HttpRoute => self.http_routes.take_out(name),
            Kind::Secret => self.secrets.take_out(name),
        }
    }

    /// Puts in an object as the API server would show it: for tests of whoever reads children.
    #[cfg(test)]
    pub(crate) fn see(&mut self, kind: Kind, object: &serde_json::Value) {
        let seen = super::wire::read(kind, &object.to_string()).ok().flatten();
        let seen = seen.unwrap_or_else(|| panic!("not an object of a stage: {object}"));
        self.put(seen.view, seen.version);
    }

    /// Names of a kind's objects that were last seen at or before a version.
    pub(super) fn not_after(&self, kind: Kind, version: u64) -> Vec<Box<str>> {
        match kind {
            Kind::Deployment => self.workloads.not_after(version),
            Kind::Service => self.services.not_after(version),
            Kind::Pod => self.pods.not_after(version),
            Kind::Job => self.jobs.not_after(version),
            Kind::Ingress => self.ingresses.not_after(version),
            Kind::HttpRoute => self.http_routes.not_after(version),
            Kind::Secret => self.secrets.not_after(version),
        }
    }
}

/// The children of one instance.
#[derive(Debug, Clone, Copy)]
pub struct InstanceChildren<'a> {
    stage: &'a StageChildren,
    name: &'a str,
}

impl<'a> InstanceChildren<'a> {
    fn of<V: View + 'a>(self, set: &'a Set<V>) -> impl Iterator<Item = &'a V> {
        set.iter().filter(move |v| v.meta().instance.as_deref() == Some(self.name))
    }

    /// Its Deployments.
    pub fn workloads(self) -> impl Iterator<Item = &'a WorkloadView> {
        self.of(&self.stage.workloads)
    }

    /// Its pods.
    pub fn pods(self) -> impl Iterator<Item = &'a PodView> {
        self.of(&self.stage.pods)
    }

    /// Its Services.
    pub fn services(self) -> impl Iterator<Item = &'a ServiceView> {
        self.of(&self.stage.services)
    }

    /// Its Jobs.
    pub fn jobs(self) -> impl Iterator<Item = &'a JobView> {
        self.of(&self.stage.jobs)
    }

    /// Its Ingresses.
    pub fn ingresses(self) -> impl Iterator<Item = &'a RouteView> {
        self.of(&self.stage.ingresses)
    }

    /// Its `HTTPRoute`s.
    pub fn http_routes(self) -> impl Iterator<Item = &'a RouteView> {
        self.of(&self.stage.http_routes)
    }

    /// Its Secrets.
    pub fn secrets(self) -> impl Iterator<Item = &'a SecretView> {
        self.of(&self.stage.secrets)
    }

    /// It has none.
    pub fn is_empty(self) -> bool {
        self.workloads().next().is_none()
            && self.pods().next().is_none()
            && self.services().next().is_none()
            && self.jobs().next().is_none()
            && self.ingresses().next().is_none()
            && self.http_routes().next().is_none()
            && self.secrets().next().is_none()
    }
}

/// Views sorted by name. A stage has few children of a kind, so a sorted list is both smaller and faster than a map.
/// The views are shared, so that a reader's copy of the whole is cheap.
#[derive(Debug, Clone)]
struct Set<V>(Vec<Entry<V>>);

#[derive(Debug, Clone)]
struct Entry<V> {
    version: u64,
    view: Arc<V>,
}

impl<V> Default for Set<V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<V: View> Set<V> {
    fn iter(&self) -> impl Iterator<Item = &V> {
        self.0.iter().map(|entry| &*entry.view)
    }

    fn find(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|entry| (*entry.view.meta().name).cmp(name))
    }

    fn get(&self, name: &str) -> Option<&V> {
        self.find(name).ok().map(|at| &*self.0[at].view)
    }

    fn version(&self, name: &str) -> Option<u64> {
        self.find(name).ok().map(|at| self.0[at].version)
    }

    fn put(&mut self, view: V, version: u64) {
        match self.find(&view.meta().name) {
            Ok(at) => {
                self.0[at].version = version;
                if *self.0[at].view != view {
                    self.0[at].view = Arc::new(view);
                }
            }
            Err(at) => {
                self.0.reserve_exact(1);
                self.0.insert(at, Entry { version, view: Arc::new(view) });
            }
        }
    }

    fn take_out(&mut self, name: &str) {
        if let Ok(at) = self.find(name) {
            self.0.remove(at);
        }
    }

    fn not_after(&self, version: u64) -> Vec<Box<str>> {
        self.0.iter().filter(|e| e.version <= version).map(|e| e.view.meta().name.clone()).collect()
    }
}
