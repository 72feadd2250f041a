//! Previews: an Environment for each pull request that the project asks for. What webhooks and the provider tell is stored
//! (`heard`, `asked`); what follows is decided by [`crate::domain::pull_request::plan`]; a pass (`pass`) makes it so.
//!
//! A pass over a project is due when a webhook told something, when its spec or one of its environments changed, and at
//! intervals. What an environment does once it exists is not decided here.

mod agenda;
mod asked;
mod bell;
mod heard;
mod pass;
mod report;
mod told;
mod wanted;

use std::{
    collections::{HashMap, HashSet},
    ops::Deref,
    sync::Arc,
    time::Duration,
};

use kube::{
    ResourceExt as _,
    runtime::reflector::{ObjectRef, Store as Reflected},
};
use tokio::{
    sync::{Mutex, Notify, mpsc, watch},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use self::agenda::Agenda;
pub use self::{
    bell::Bell,
    heard::{Heard, hear},
    report::{PREVIEWS_READY, PreviewBook, Standing},
};
use super::{
    backoff::Backoff,
    error::{Class, Error},
    project::verdict::Trouble,
    trigger::Triggers,
    vault::{ProjectName, Vault},
};
use crate::{
    api::{Environment, Project},
    cluster::{apply::Writer, lease::Mandate},
    domain::{
        clock::{Clock, Ids},
        share::Share,
    },
    forge::Forge,
    safe::Safe,
    store::Store,
    telemetry::Telemetry,
};

/// Passes that run at once: they wait for providers.
const AT_ONCE: usize = 8;

/// How long a project rests that only a person can mend.
const STALLED_REST: Duration = Duration::from_mins(1);

/// A watch's memory, and whether everything was listed once.
pub type Watched<K> = (Reflected<K>, watch::Receiver<bool>);

/// What a term of looking after previews begins with.
pub struct Ground {
    /// Looks past the watches.
    pub client: kube::Client,
    /// The one way to write to the cluster.
    pub writer: Writer,
    /// The database, as the leader writes it.
    pub store: Store,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Identities.
    pub ids: Arc<dyn Ids>,
    /// Whether the term still lasts.
    pub leader: Mandate,
    /// The namespaces that they are looked after in.
    pub share: Arc<Share>,
    /// Projects, as watched.
    pub projects: Vec<Watched<Project>>,
    /// Environments, as watched.
    pub environments: Vec<Watched<Environment>>,
    /// What is told to passes over projects.
    pub book: Arc<PreviewBook>,
    /// Asks for passes over projects.
    pub triggers: Triggers,
    /// Metrics.
    pub telemetry: Telemetry,
    /// Asks for passes over pull requests.
    pub bell: Bell,
    /// What projects have in the safe, without values.
    pub vault: Arc<Vault>,
    /// The safe; none without keys.
    pub safe: Option<Safe>,
    /// The client of git providers.
    pub forge: Forge,
}

/// What passes over pull requests share.
pub struct Previews {
    ground: Ground,
    /// Projects that have previews, or had some that are not all gone yet.
    engaged: Mutex<HashSet<ProjectName>>,
    /// What is remembered of asking providers.
    inquiries: Mutex<HashMap<ProjectName, asked::Shared>>,
    /// When environments were made, by namespace and name: only of late.
    made: Mutex<HashMap<(String, String), Instant>>,
    /// UIDs of environments that were deleted, and when: only of late.
    doomed: Mutex<HashMap<String, Instant>>,
    /// What was put into the outbox last, by what it is about.
    posted: Mutex<HashMap<(&'static str, String), serde_json::Value>>,
    /// Why the last message of a project did not arrive.
    refusals: Mutex<HashMap<ProjectName, Trouble>>,
    /// Told when there is something to send.
    outbox: Notify,
    backoff: Backoff,
}

impl Deref for Previews {
    type Target = Ground;

    fn deref(&self) -> &Ground {
        &self.ground
    }
}

impl Previews {
    /// Nothing is known yet.
    pub fn new(ground: Ground) -> Arc<Self> {
        Arc::new(Self {
            ground,
            engaged: Mutex::default(),
            inquiries: Mutex::default(),
            made: Mutex::default(),
            doomed: Mutex::default(),
            posted: Mutex::default(),
            refusals: Mutex::default(),
            outbox: Notify::new(),
            backoff: Backoff::default(),
        })
    }

    /// Looks after the pull requests of all projects until `stop`. `heard` is the other end of the [`Bell`].
    pub async fn run(self: Arc<Self>, mut heard: mpsc::UnboundedReceiver<ProjectName>, stop: CancellationToken) {
        let mut agenda = Agenda::default();
        let begun = tokio::select! {
            () = stop.cancelled() => return,
            begun = self.begin() => begun,
        };
        for project in begun {
            agenda.ring(project, Instant::now());
        }
        let mut passes = JoinSet::new();
        loop {
            while passes.len() < AT_ONCE
                && let Some(project) = agenda.take(Instant::now())
            {
                let all = self.clone();
                passes.spawn(async move {
                    let next = all.look(&project).await;
                    (project, next)
                });
            }
            let next = agenda.next().filter(|_| passes.len() < AT_ONCE);
            let due = async {
                match next {
                    Some(next) => tokio::time::sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                Some(project) = heard.recv() => agenda.ring(project, Instant::now()),
                Some(ended) = passes.join_next(), if !passes.is_empty() => match ended {
                    Ok((project, next)) => agenda.done(project, next.map(|rest| Instant::now() + rest)),
                    // The next leader begins anew.
                    Err(error) => return tracing::error!(%error, "a pass over pull requests died"),
                },
                () = due => {}
            }
        }
    }

    /// Waits until everything was listed: what is there seems not to be before that.
    async fn listed(&self) {
        for (_, listed) in &self.projects {
            _ = listed.clone().wait_for(|listed| *listed).await;
        }
        for (_, listed) in &self.environments {
            _ = listed.clone().wait_for(|listed| *listed).await;
        }
    }

    /// Waits until everything was listed, and says which projects have something to be looked after.
    async fn begin(&self) -> Vec<ProjectName> {
        self.listed().await;
        let mut failures = 0;
        let known = loop {
            match self.store.pull_requests_projects(&self.share).await {
                Ok(known) => break known,
                Err(error) => {
                    failures += 1;
                    tracing::warn!(%error, "what is known of pull requests cannot be read; trying again");
                    tokio::time::sleep(super::backoff::delay("pull requests", failures)).await;
                }
            }
        };
        self.engaged.lock().await.extend(known.iter().cloned());
        // Those that the bell rang for before anybody heard are in its queue.
        known
    }

    /// One pass; says when the next one is due, if one is.
    async fn look(&self, project: &ProjectName) -> Option<Duration> {
        let key = format!("previews of {}/{}", project.0, project.1);
        match pass::pass(self, project).await {
            Ok(rest) => {
                self.backoff.reset(&key);
                rest
            }
            Err(error) => {
                tracing::warn!(namespace = project.0, project = project.1, %error, "a pass over pull requests failed");
                Some(match error.class() {
                    Class::Conflict => Duration::from_millis(200),
                    Class::Stalled => STALLED_REST,
                    Class::StoreAway | Class::Transient => self.backoff.next(&key),
                })
            }
        }
    }

    fn project(&self, (namespace, name): &ProjectName) -> Option<Arc<Project>> {
        let of = ObjectRef::new(name).within(namespace);
        self.projects.iter().find_map(|(projects, _)| projects.get(&of))
    }

    fn environments_of(&self, (namespace, name): &ProjectName) -> Vec<Arc<Environment>> {
        let all = self.environments.iter().flat_map(|(environments, _)| environments.state());
        all.filter(|one| one.spec.project == *name && one.namespace().as_deref() == Some(namespace)).collect()
    }

    /// Tells how a project's previews stand; none if it has none.
    fn tell(&self, project: &ProjectName, standing: Option<Standing>) {
        if self.book.learn(project, standing) {
            let metrics = &self.telemetry.metrics;
            metrics.set_preview_orphans(self.book.orphans());
            self.triggers.project(project);
        }
    }

    fn deposed(&self) -> Result<(), Error> {
        if self.leader.is_leader() { Ok(()) } else { Err(Error::Deposed) }
    }
}
