//! Leadership among replicas, on a Lease.
//!
//! The rules, and why our own: every change carries the resource version that it was decided on, so of two candidates
//! at most one succeeds; another's record counts as expired when it has not changed for its duration *as measured
//! here*, so clocks need not agree; and a leader stops being one by its own monotonic time, well before anybody else
//! may begin, whether or not the API server answers.
//!
//! Leadership is for efficiency. Safety is the epoch: it grows with every change of leadership, is written on each
//! row of the journal, and the journal refuses whoever comes with an older one.
//!
//! An installation that is parted into shards has a Lease for each: see [`Seats`].

mod board;
mod handle;
mod record;
mod seats;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

pub use handle::{Leadership, LeaseHandle};
pub use seats::{Mandate, Seats};

use board::Board;
use record::{Note, Observed, Record};

/// Where the wall clock comes from. Only people read what it says.
pub type WallClock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// How long a release may hold up the end of the process.
const RELEASE: Duration = Duration::from_secs(2);

/// Which Lease, and who we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseConfig {
    /// The Lease's namespace.
    pub namespace: String,
    /// The Lease's name.
    pub name: String,
    /// Who we are, unique among living processes: the pod's name does. A record with our own identity is that of our
    /// predecessor, which is dead, and is taken over at once.
    pub identity: String,
    /// How long things take.
    pub timing: Timing,
}

/// How long things take. Each is longer than the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How long a record must stay unchanged before another may take over.
    pub duration: Duration,
    /// How long after its last renewal a leader is still one.
    pub renew_deadline: Duration,
    /// Between renewals, and between looks at another's record.
    pub retry_period: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            // Seen at most one period late, and acted on when it is over: a leader that died is replaced within 15 s.
            duration: Duration::from_secs(12),
            // A renewal whose answer is lost for five seconds can be made once more.
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }
}

/// Takes part in the election.
pub struct Candidate {
    api: Api<Lease>,
    config: LeaseConfig,
    wall_clock: WallClock,
    handle: LeaseHandle,
    observed: Option<Observed>,
    held: Option<Held>,
    /// The greatest epoch that was ever seen from here: the Lease forgets when it is deleted, we do not.
    seen_epoch: u64,
    rounds: u64,
    /// Which of the installation's Leases it is, and what is known of all of them.
    shard: u16,
    board: Arc<Board>,
}

/// The Lease while it is ours.
struct Held {
    lease: Lease,
    epoch: u64,
    /// When the last successful renewal was sent: nobody can have seen it earlier.
    renewed: Instant,
    /// Until then others may act who count other shards.
    settles: Option<Instant>,
}

impl std::fmt::Debug for Candidate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Candidate").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Candidate {
    /// A candidate and the handle by which others learn whether it leads. Use the lease's own client
    /// ([`super::client::Clients::lease`]): a shared one may be busy when a renewal is due.
    pub fn new(client: Client, config: LeaseConfig, wall_clock: WallClock) -> (Self, LeaseHandle) {
        let board = Board::new(&config.identity, 1);
        Self::seated(client, config, wall_clock, (0, board))
    }

    /// The candidate for the Lease of one shard.
    fn seated(
        client: Client,
        config: LeaseConfig,
        wall_clock: WallClock,
        (shard, board): (u16, Arc<Board>),
    ) -> (Self, LeaseHandle) {
        let handle = LeaseHandle::default();
        let api = Api::namespaced(client, &config.namespace);
        let candidate = Self {
            api,
            config,
            wall_clock,
            handle: handle.clone(),
            observed: None,
            held: None,
            seen_epoch: 0,
            rounds: 0,
            shard,
            board,
        };
        (candidate, handle)
    }

    /// Takes part until `shutdown`, then gives leadership away. Cancel it when the work that needs leadership has
    /// ended: until then the Lease is renewed.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let hurried = async {
            shutdown.cancelled().await;
            sleep(RELEASE).await;
        };
        tokio::pin!(hurried);
        while !shutdown.is_cancelled() {
            tokio::select! {
                () = self.round() => {}
                () = &mut hurried => break,
            }
            tokio::select! {
                () = sleep_until(self.next_round()) => {}
                () = shutdown.cancelled() => {}
                () = self.board.nudged(self.shard) => {}
            }
        }
        self.release().await;
    }

    /// One attempt to renew or to take over.
    async fn round(&mut self) {
        self.rounds += 1;
        if self.board.is_released(self.shard) {
            self.release().await;
        }
        if self.held.as_ref().is_some_and(|held| Instant::now() >= self.end_of(held)) {
            // We were held up, perhaps stopped: whether somebody took over meanwhile is not known.
            self.step_down("it was not renewed in time, or the installation has other shards now");
        }
        let ended = match &self.held {
            Some(held) => timeout_at(self.end_of(held), self.renew()).await,
            None => timeout_at(Instant::now() + self.config.timing.renew_deadline, self.campaign()).await,
        };
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(err)) => {
                tracing::warn!(error = %err, lease = %self.config.name, "the lease cannot be read or written");
            }
            Err(_) => {
                tracing::warn!(lease = %self.config.name, "the API server does not answer about the lease");
            }
        }
        if self.held.as_ref().is_some_and(|held| Instant::now() >= self.end_of(held)) {
            self.step_down("it could not be renewed");
        }
    }

    /// Of the shards but the first, it also ends when the first Lease does not say any more that they are as we count them.
    fn end_of(&self, held: &Held) -> Instant {
        let deadline = self.config.timing.renew_deadline;
        let end = held.renewed + deadline;
        if self.shard == 0 {
            return end;
        }
        self.board.holds_until(deadline).map_or(held.renewed, |until| until.min(end))
    }

    /// Followers spread their looks a little, by a hash: candidates that started together need not collide for ever. They look
    /// when another's record expires, too.
    fn next_round(&self) -> Instant {
        let period = self.config.timing.retry_period;
        let now = Instant::now();
        if let Some(held) = &self.held {
            return (now + period).min(self.end_of(held));
        }
        let look = now + record::spread(period, &self.config.identity, self.rounds);
        let expires = self.observed.as_ref().map(|observed| observed.expires(self.config.timing.duration));
        let due = [expires, self.board.may_take_from(self.shard)];
        due.into_iter().flatten().filter(|at| *at > now).fold(look, Instant::min)
    }

    async fn renew(&mut self) -> kube::Result<()> {
        // A second time after a conflict that turned out to be none: the deadline may be near.
        for _ in 0..2 {
            let Some(held) = &self.held else { break };
            // Every row of the journal must be older than we are.
            let epoch = held.epoch.max(self.handle.floor() + 1);
            let sent = Instant::now();
            let settles = held.settles.filter(|at| sent < *at);
            let lease = self.note_of(held, settles).on(self.record(epoch).renew(&held.lease));
            match self.api.replace(&self.config.name, &PostParams::default(), &lease).await {
                Ok(lease) => {
                    self.lead(Held { lease, epoch, renewed: sent, settles });
                    break;
                }
                Err(kube::Error::Api(status)) if status.is_conflict() => self.reread(epoch).await?,
                Err(kube::Error::Api(status)) if status.is_not_found() => self.step_down("the lease was deleted"),
                Err(err) => return Err(err),
            }
        }
        Ok(())
    }

    /// The Lease is not in the version that we know. Either somebody touched it or an earlier renewal of ours
    /// succeeded without our being told; then it is still ours. Or it is another's.
    async fn reread(&mut self, attempted: u64) -> kube::Result<()> {
        let lease = self.api.get(&self.config.name).await?;
        let record = Record::of(&lease);
        let Some(held) = &mut self.held else {
            return Ok(());
        };
        if record.holder == self.config.identity && (record.epoch == held.epoch || record.epoch == attempted) {
            held.epoch = record.epoch;
            if let Some(by) = Note::of(&lease).wanted_by {
                self.board.asked(self.shard, &by);
            }
            held.lease = lease;
        } else {
            self.step_down("another has taken it");
        }
        Ok(())
    }

    async fn campaign(&mut self) -> kube::Result<()> {
        let sent = Instant::now();
        let lease = self.api.get_opt(&self.config.name).await?;
        let note = lease.as_ref().map(Note::of);
        if let Some(lease) = &lease {
            let record = Record::of(lease);
            self.seen_epoch = self.seen_epoch.max(record.epoch);
            self.observed = Some(Observed::update(self.observed.take(), record, Instant::now()));
        }
        // A deleted Lease is like one that is not renewed: its holder may not know yet.
        let (duration, now) = (self.config.timing.duration, Instant::now());
        let held = self.observed.as_ref().filter(|seen| !seen.is_free_for(&self.config.identity, duration, now));
        let holder = held.map(|observed| observed.record.holder.as_str());
        self.board.looked(self.shard, holder, note.as_ref(), sent);
        if let Some(holder) = holder {
            self.handle.follow(holder);
            return match (lease, note) {
                (Some(lease), Some(note)) if self.board.wants(self.shard) => self.ask(lease, note).await,
                _ => Ok(()),
            };
        }
        if self.board.may_take_from(self.shard).is_none_or(|at| at > Instant::now()) {
            return Ok(());
        }
        let note = self.note_at_first(note.as_ref());
        let record = self.record(self.seen_epoch.max(self.handle.floor()) + 1);
        let sent = Instant::now();
        let reply = if let Some(lease) = lease {
            let lease = note.on(record.take_over(&lease));
            self.api.replace(&self.config.name, &PostParams::default(), &lease).await
        } else {
            let lease = note.on(record.create(&self.config.namespace, &self.config.name));
            self.api.create(&PostParams::default(), &lease).await
        };
        let settles = note.before.map(|_| sent + self.config.timing.duration);
        self.took(sent, record.epoch, settles, reply)
    }

    /// What is written on a Lease that is taken. Whoever finds another count of shards on the first one waits until nobody can
    /// act by that any more.
    fn note_at_first(&self, found: Option<&Note>) -> Note {
        let shards = self.board.shards();
        let before = found.and_then(|found| if found.shards == shards { found.before } else { Some(found.shards) });
        self.note(before, None)
    }

    /// What is written on a Lease that is renewed.
    fn note_of(&self, held: &Held, settles: Option<Instant>) -> Note {
        let found = Note::of(&held.lease);
        let is_asked = self.board.is_asked(self.shard);
        self.note(found.before.filter(|_| settles.is_some()), found.wanted_by.filter(|_| is_asked))
    }

    /// Only the first Lease tells how many there are.
    fn note(&self, before: Option<u16>, wanted_by: Option<String>) -> Note {
        if self.shard == 0 {
            Note { shards: self.board.shards(), before, wanted_by }
        } else {
            Note { shards: 1, before: None, wanted_by }
        }
    }

    /// Asks the holder of a Lease for it.
    async fn ask(&self, lease: Lease, note: Note) -> kube::Result<()> {
        let lease = Note { wanted_by: Some(self.config.identity.clone()), ..note }.on(lease);
        match self.api.replace(&self.config.name, &PostParams::default(), &lease).await {
            Ok(_) => {
                tracing::info!(lease = %self.config.name, "asked for a share of the work of another replica");
                Ok(())
            }
            // It is renewed all the time: the next look is another chance.
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => Ok(()),
            Err(err) => Err(err),
        }
    }

    fn took(
        &mut self,
        sent: Instant,
        epoch: u64,
        settles: Option<Instant>,
        reply: kube::Result<Lease>,
    ) -> kube::Result<()> {
        match reply {
            Ok(lease) => {
                tracing::info!(epoch, lease = %self.config.name, identity = %self.config.identity, "leading");
                self.lead(Held { lease, epoch, renewed: sent, settles });
                Ok(())
            }
            // Somebody was faster.
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => Ok(()),
            Err(err) => Err(err),
        }
    }

    fn lead(&mut self, held: Held) {
        self.seen_epoch = self.seen_epoch.max(held.epoch);
        self.board.holds(self.shard, held.settles.is_none(), held.renewed);
        if held.settles.is_none() {
            self.handle.lead(held.epoch, self.end_of(&held));
        }
        self.held = Some(held);
    }

    fn step_down(&mut self, why: &str) {
        if self.held.take().is_some() {
            tracing::warn!(lease = %self.config.name, identity = %self.config.identity, "not leading any more: {why}");
            self.board.lost(self.shard);
        }
        self.observed = None;
        self.handle.follow("");
    }

    /// What we write: ourselves, now.
    fn record(&self, epoch: u64) -> Record {
        Record {
            holder: self.config.identity.clone(),
            epoch,
            duration: self.config.timing.duration,
            at: (self.wall_clock)(),
        }
    }

    /// Gives leadership away, so that a successor need not wait for the record to expire.
    async fn release(&mut self) {
        let Some(held) = self.held.take() else { return };
        // First we are no leader, then others may be one.
        self.handle.follow("");
        self.board.lost(self.shard);
        let lease = self.record(held.epoch).release(&held.lease);
        let params = PostParams::default();
        let put = self.api.replace(&self.config.name, &params, &lease);
        match timeout_at(Instant::now() + RELEASE, put).await {
            Ok(Ok(_)) => tracing::info!(identity = %self.config.identity, "leadership released"),
            Ok(Err(err)) => {
                tracing::warn!(error = %err, "leadership could not be released: it expires by itself");
            }
            Err(_) => {
                tracing::warn!("leadership could not be released in time: it expires by itself");
            }
        }
    }
}

#[cfg(test)]
mod tests;
