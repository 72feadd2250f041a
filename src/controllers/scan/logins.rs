//! Opened logins, kept in memory: a registry is asked every minute, and opening is recorded every time.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::{SignedDuration, Timestamp};

use crate::{
    controllers::images::{LoginRef, Refusal},
    domain::clock::Clock,
    registry::Credential,
};

/// How long an opened login is used.
const KEPT: SignedDuration = SignedDuration::from_hours(1);

/// A credential, and the registry that its login is for.
type Key = (LoginRef, String);

/// One login. Whoever needs it first opens it, and the others wait for that.
type Slot = Arc<tokio::sync::Mutex<Option<Kept>>>;

/// Has no `Debug`, and neither has anything that holds it.
struct Kept {
    credential: Credential,
    until: Timestamp,
}

/// The logins that were opened, each for an hour at most.
pub(super) struct Logins {
    slots: Mutex<HashMap<Key, Slot>>,
    clock: Arc<dyn Clock>,
}

impl Logins {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { slots: Mutex::default(), clock }
    }

    /// The login of a credential for a registry: the one that is kept, or what `open` gives.
    ///
    /// # Errors
    /// Those of `open`; nothing is kept then.
    pub(super) async fn get(
        &self,
        of: &LoginRef,
        host: &str,
        open: impl Future<Output = Result<Credential, Refusal>>,
    ) -> Result<Credential, Refusal> {
        let slot = self.lock().entry((of.clone(), host.to_owned())).or_default().clone();
        // What is forgotten while it is being opened is no longer among the slots: nobody comes upon it later.
        let mut kept = slot.lock().await;
        if let Some(kept) = kept.as_ref().filter(|kept| self.clock.now() < kept.until) {
            return Ok(kept.credential.clone());
        }
        *kept = None;
        self.sweep();
        let credential = open.await?;
        let until = self.clock.now().saturating_add(KEPT).unwrap_or(Timestamp::MAX);
        *kept = Some(Kept { credential: credential.clone(), until });
        Ok(credential)
    }

    /// Drops a login, unless it is another one by now.
    pub(super) fn drop_if(&self, of: &LoginRef, host: &str, refused: &Credential) {
        if let Entry::Occupied(entry) = self.lock().entry((of.clone(), host.to_owned())) {
            // Whoever holds it is opening it anew.
            let same = entry.get().try_lock().is_ok_and(|kept| kept.as_ref().is_some_and(|k| k.credential == *refused));
            if same {
                entry.remove();
            }
        }
    }

    /// Drops all logins of a project.
    pub(super) fn forget(&self, namespace: &str, project: &str) {
        self.lock().retain(|(of, _), _| of.namespace != namespace || of.project != project);
    }

    /// Drops what is too old and not being asked for: what belongs to nobody any more does not stay.
    fn sweep(&self) {
        let now = self.clock.now();
        self.lock()
            .retain(|_, slot| slot.try_lock().map_or(true, |kept| kept.as_ref().is_some_and(|kept| now < kept.until)));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Hand(Mutex<Timestamp>);

    impl Clock for Hand {
        fn now(&self) -> Timestamp {
            *self.0.lock().unwrap()
        }
    }

    struct Bench {
        logins: Logins,
        hand: Arc<Hand>,
        opened: Mutex<u32>,
    }

    fn of(project: &str) -> LoginRef {
        LoginRef { namespace: "acme".into(), project: project.into(), credential: "ghcr".into() }
    }

    fn bob(secret: &str) -> Credential {
        Credential::Basic { user: "bob".into(), secret: secret.to_owned().into() }
    }

    impl Bench {
        fn new() -> Self {
            let hand = Arc::new(Hand(Mutex::new("2026-01-02T03:04:05Z".parse().unwrap())));
            Self { logins: Logins::new(hand.clone()), hand, opened: Mutex::new(0) }
        }

        /// The login, which is `one` when it is opened the first time, and so on.
        async fn get(&self, project: &str, host: &str) -> Credential {
            let open = async {
                let mut opened = self.opened.lock().unwrap();
                *opened += 1;
                Ok(bob(&format!("{opened}")))
            };
            self.logins.get(&of(project), host, open).await.unwrap()
        }

        fn pass(&self, minutes: i64) {
            *self.hand.0.lock().unwrap() += SignedDuration::from_mins(minutes);
        }
    }

    #[tokio::test]
    async fn a_login_is_opened_once_an_hour_for_each_registry() {
        let bench = Bench::new();
        for _ in 0..3 {
            assert!(bench.get("shop", "ghcr.io").await == bob("1"));
        }
        assert!(bench.get("shop", "quay.io").await == bob("2"));
        bench.pass(59);
        assert!(bench.get("shop", "ghcr.io").await == bob("1"));
        bench.pass(1);
        assert!(bench.get("shop", "ghcr.io").await == bob("3"), "an hour, however often it was used");
        assert_eq!(bench.logins.lock().len(), 1, "the other one was too old");
    }

    #[tokio::test]
    async fn a_project_that_is_forgotten_is_opened_anew_and_no_other() {
        let bench = Bench::new();
        bench.get("shop", "ghcr.io").await;
        bench.get("blog", "ghcr.io").await;
        bench.logins.forget("acme", "shop");
        bench.logins.forget("other", "blog");
        assert!(bench.get("shop", "ghcr.io").await == bob("3"));
        assert!(bench.get("blog", "ghcr.io").await == bob("2"));
    }

    #[tokio::test]
    async fn what_is_forgotten_while_it_is_opened_is_not_kept() {
        let bench = Bench::new();
        let open = async {
            bench.logins.forget("acme", "shop");
            Ok(bob("old"))
        };
        assert!(bench.logins.get(&of("shop"), "ghcr.io", open).await.unwrap() == bob("old"));
        assert!(bench.get("shop", "ghcr.io").await == bob("1"));
    }

    #[tokio::test]
    async fn a_refused_login_is_dropped_unless_it_is_another_one_by_now() {
        let bench = Bench::new();
        let first = bench.get("shop", "ghcr.io").await;
        bench.logins.drop_if(&of("shop"), "ghcr.io", &first);
        let second = bench.get("shop", "ghcr.io").await;
        assert!(second == bob("2"));
        bench.logins.drop_if(&of("shop"), "ghcr.io", &first);
        assert!(bench.get("shop", "ghcr.io").await == bob("2"));
    }

    #[tokio::test]
    async fn what_did_not_open_is_tried_again() {
        let bench = Bench::new();
        let refusal = Refusal { reason: "Away", message: String::new(), transient: true, retry_after: None };
        let failed = bench.logins.get(&of("shop"), "ghcr.io", async { Err(refusal) }).await;
        assert!(failed.is_err());
        assert!(bench.get("shop", "ghcr.io").await == bob("1"));
    }
}
