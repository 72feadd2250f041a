//! Looking after previews for pull requests during a term.

use std::sync::Arc;

use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{Process, RunError};
use crate::{
    api::{Environment, Project},
    cluster::{apply::Writer, lease::Mandate},
    controllers::{
        previews::{Bell, Ground, PreviewBook, Previews, Watched},
        trigger::Triggers,
        vault::{ProjectName, Vault},
    },
    domain::share::Share,
    forge::Forge,
    store::Store,
};

/// What watches and webhooks tell those who look after previews, and what these tell passes over projects.
pub(super) struct Watching {
    pub(super) bell: Bell,
    pub(super) book: Arc<PreviewBook>,
    pub(super) environments: Vec<Watched<Environment>>,
    rung: mpsc::UnboundedReceiver<ProjectName>,
}

impl Watching {
    pub(super) fn new() -> Self {
        let (bell, rung) = Bell::new();
        Self { bell, book: Arc::default(), environments: Vec::new(), rung }
    }

    /// Begins to look after previews, and to tell pull requests of them.
    pub(super) fn begin(
        self,
        process: &Process,
        (leader, share): (&Mandate, &Arc<Share>),
        (store, triggers): (&Store, &Triggers),
        vault: &Arc<Vault>,
        projects: &[Watched<Project>],
        (tasks, stop): (&mut JoinSet<()>, &CancellationToken),
    ) -> Result<(), RunError> {
        let previews = Previews::new(Ground {
            client: process.client.clone(),
            writer: Writer::new(process.client.clone(), process.index.clone()).while_leading(leader.clone()),
            store: store.clone(),
            clock: process.clock.clone(),
            ids: process.ids.clone(),
            leader: leader.clone(),
            share: share.clone(),
            projects: projects.to_vec(),
            environments: self.environments,
            book: self.book,
            triggers: triggers.clone(),
            telemetry: process.telemetry.clone(),
            bell: self.bell,
            vault: vault.clone(),
            safe: process.safe.as_ref().map(|safe| safe.over(store.clone())),
            forge: Forge::new(process.clock.clone()).map_err(|error| RunError::Failed(error.to_string()))?,
        });
        tasks.spawn(previews.clone().send(stop.clone()));
        tasks.spawn(previews.run(self.rung, stop.clone()));
        Ok(())
    }
}
