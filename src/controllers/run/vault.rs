//! The leader's memory of what projects have in the safe: read whole at the beginning of a term, then kept up as the
//! database tells of changes.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::{sync::Notify, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{Process, stop::until_stopped, term::patiently};
use crate::{
    cluster::originals::Originals,
    controllers::{
        backoff,
        environment::known::Lives,
        images::{ImageBook, PROJECT},
        scan::{self, Registries},
        trigger::Triggers,
        vault::{ProjectName, Vault},
    },
    domain::{image::Repository, share::Share},
    store::{StoredRegistry, VaultChange, VaultChanges, VaultProject},
};

/// How often it is counted what each key wraps.
const COUNT: Duration = Duration::from_mins(1);

/// Longest pause before listening to a database that was lost.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was read at the beginning of a term, and where changes of it are heard.
pub(super) struct Held {
    share: Arc<Share>,
    epoch: i64,
    changes: VaultChanges,
    projects: Vec<VaultProject>,
    registries: Vec<StoredRegistry>,
}

/// What passes have of it.
pub(super) struct Followed {
    pub(super) book: Arc<Vault>,
    pub(super) originals: Arc<Originals>,
    pub(super) told: Arc<dyn Fn(&ProjectName) + Send + Sync>,
    /// Told when a webhook was received.
    pub(super) inbox: Arc<Notify>,
    /// Told when somebody asked something of a stage.
    pub(super) requests: Arc<Notify>,
}

impl Held {
    /// Begins to listen, and then reads everything: what changes in between is read twice.
    pub(super) async fn read(process: &Process, share: Arc<Share>, epoch: i64) -> Self {
        let store = &process.store;
        Self {
            changes: patiently("changes of secrets", || store.vault_changes()).await,
            projects: patiently("secrets", || store.vault_load(&share)).await,
            registries: patiently("registries", || store.registries_list()).await,
            share,
            epoch,
        }
    }

    /// Keeps it up from now on.
    pub(super) fn follow(
        self,
        process: &Process,
        triggers: &Triggers,
        images: &Arc<ImageBook>,
        registries: Arc<Registries>,
        tasks: &mut JoinSet<()>,
        stop: &CancellationToken,
    ) -> Followed {
        let book = Arc::new(Vault::default());
        book.learn_all(self.projects);
        configure(&registries, self.registries);
        let told: Arc<dyn Fn(&ProjectName) + Send + Sync> = {
            let (triggers, images, registries) = (triggers.clone(), images.clone(), registries.clone());
            Arc::new(move |(namespace, project): &ProjectName| {
                registries.forget(namespace, project);
                images.ask_again(namespace, project);
                triggers.subscriber(&(namespace.clone(), format!("{PROJECT}{project}")));
            })
        };
        let originals = {
            let triggers = triggers.clone();
            let changed = move |namespace: &str, project: &str| {
                triggers.subscriber(&(namespace.to_owned(), format!("{PROJECT}{project}")));
            };
            Arc::new(Originals::new(process.client.clone(), Box::new(changed)))
        };
        let (watched, namespaces, until) = (originals.clone(), self.share.names(), stop.clone());
        tasks.spawn(async move { watched.follow(namespaces.as_deref(), until).await });
        let (inbox, requests) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let follower = Follower {
            process: process.clone(),
            share: self.share,
            epoch: self.epoch,
            begun: Instant::now(),
            early: HashSet::new(),
            book: book.clone(),
            told: told.clone(),
            registries,
            images: images.clone(),
            inbox: inbox.clone(),
            requests: requests.clone(),
            lives: triggers.lives().clone(),
            triggers: triggers.clone(),
        };
        tasks.spawn(follower.follow(self.changes, stop.clone()));
        Followed { book, originals, told, inbox, requests }
    }
}

struct Follower {
    process: Process,
    share: Arc<Share>,
    epoch: i64,
    begun: Instant,
    /// What other shards said when not everybody here had told yet which repositories matter to them. It is said once more.
    early: HashSet<Repository>,
    book: Arc<Vault>,
    told: Arc<dyn Fn(&ProjectName) + Send + Sync>,
    registries: Arc<Registries>,
    inbox: Arc<Notify>,
    requests: Arc<Notify>,
    images: Arc<ImageBook>,
    lives: Arc<Lives>,
    triggers: Triggers,
}

impl Follower {
    async fn follow(mut self, mut changes: VaultChanges, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(COUNT);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.count_dates();
        let mut failures = 0;
        loop {
            let change = tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {
                    if self.begun.elapsed() >= COUNT {
                        for repository in self.early.drain() {
                            self.images.hint(&repository);
                        }
                    }
                    until_stopped(&stop, self.count_keys()).await;
                    continue;
                }
                change = changes.next() => change,
            };
            let work = async {
                match change {
                    Ok(change) => {
                        failures = 0;
                        self.learn(change).await;
                    }
                    Err(error) => {
                        failures += 1;
                        tracing::warn!(%error, "changes of secrets are not heard; trying again");
                        tokio::time::sleep(backoff::delay("changes of secrets", failures).min(PATIENCE)).await;
                    }
                }
            };
            if until_stopped(&stop, work).await.is_none() {
                return;
            }
        }
    }

    async fn learn(&mut self, change: VaultChange) {
        let store = &self.process.store;
        let news: Vec<ProjectName> = match change {
            VaultChange::Registries => {
                configure(&self.registries, patiently("registries", || store.registries_list()).await);
                return;
            }
            VaultChange::Requests => {
                self.requests.notify_one();
                return;
            }
            VaultChange::Inbox => {
                self.inbox.notify_one();
                return;
            }
            VaultChange::Environment(id) => {
                if let Some(key) = self.lives.changed(id) {
                    self.triggers.stage(&key);
                }
                return;
            }
            VaultChange::Hint { epoch, repository } => {
                if let Some(repository) = repository.parse().ok().filter(|_| epoch != self.epoch) {
                    self.images.hint(&repository);
                    if self.begun.elapsed() < COUNT {
                        self.early.insert(repository);
                    }
                }
                return;
            }
            VaultChange::Accepted(key) => {
                self.accept(vec![key]).await;
                return;
            }
            VaultChange::Project(id) => {
                let watched = |namespace: &str| self.share.covers(namespace);
                patiently("secrets", || self.book.reread(store, id, watched)).await.into_iter().collect()
            }
            VaultChange::Unheard => {
                self.requests.notify_one();
                self.inbox.notify_one();
                for key in self.lives.all_changed() {
                    self.triggers.stage(&key);
                }
                self.accept(self.images.frozen_keys()).await;
                configure(&self.registries, patiently("registries", || store.registries_list()).await);
                patiently("secrets", || self.book.reread_all(store, &self.share)).await
            }
        };
        self.count_dates();
        for project in &news {
            (self.told)(project);
        }
    }

    /// Takes over which listings people accepted.
    async fn accept(&self, keys: Vec<String>) {
        if keys.is_empty() {
            return;
        }
        let store = &self.process.store;
        for scan in patiently("accepted listings", || store.image_scans_get(&keys)).await {
            self.images.accept(&scan);
        }
    }

    fn count_dates(&self) {
        let dates = self.book.expiries().into_iter();
        let dates = dates.map(|(namespace, project, name, at)| (namespace, project, name, at.as_second()));
        self.process.telemetry.metrics.set_credential_expiries(dates.collect());
    }

    async fn count_keys(&self) {
        // Not worth a word: that the database is away is told elsewhere.
        if let Ok(keys) = self.process.store.encryption_keys_list().await {
            let counts = keys.into_iter().map(|key| (key.id.to_string(), key.rows)).collect();
            self.process.telemetry.metrics.set_credentials_by_key(counts);
        }
    }
}

fn configure(registries: &Registries, stored: Vec<StoredRegistry>) {
    for (host, error) in registries.configure(scan::settings(stored)) {
        tracing::error!(registry = host, %error, "the settings of a registry cannot be used: nothing is asked of it");
    }
}
