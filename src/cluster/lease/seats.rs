//! All Leases of one installation, and what a process may do that holds some of them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::select_all;
use kube::Client;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::board::Board;
use super::{Candidate, LeaseConfig, LeaseHandle, WallClock};

/// For so long a process that holds some Leases, and may get another one, waits before it acts: each more is another term.
const GATHER: Duration = Duration::from_millis(500);

/// Between two looks at what is about to change.
const PAUSE: Duration = Duration::from_millis(50);

/// The Leases that a process competes for: one for each shard.
#[derive(Debug, Clone)]
pub struct Seats {
    seats: Arc<[Seat]>,
    board: Arc<Board>,
}

#[derive(Debug)]
struct Seat {
    shard: u16,
    /// `NAMESPACE/NAME` of the Lease.
    name: String,
    handle: LeaseHandle,
}

/// What a term acts on: the Leases that it began with, each in the epoch that it had then.
#[derive(Debug, Clone)]
pub struct Mandate {
    held: Arc<[(u16, String, LeaseHandle, u64)]>,
    board: Arc<Board>,
}

impl Seats {
    /// One candidate for each of so many shards, and where to learn what they have won. The Lease of the first shard has the
    /// name of `config`, the others that name with their number.
    pub fn new(client: &Client, config: &LeaseConfig, shards: u16, clock: &WallClock) -> (Vec<Candidate>, Self) {
        let board = Board::new(&config.identity, shards);
        let (mut candidates, mut seats) = (Vec::new(), Vec::new());
        for shard in 0..board.shards() {
            let name = if shard == 0 { config.name.clone() } else { format!("{}-{shard}", config.name) };
            let one = LeaseConfig { name, ..config.clone() };
            let name = format!("{}/{}", one.namespace, one.name);
            let (candidate, handle) = Candidate::seated(client.clone(), one, clock.clone(), (shard, board.clone()));
            candidates.push(candidate);
            seats.push(Seat { shard, name, handle });
        }
        (candidates, Self { seats: seats.into(), board })
    }

    /// Lets the candidates take part until `resign`, and then give away what they hold.
    pub async fn run(candidates: Vec<Candidate>, resign: CancellationToken) {
        let mut all = JoinSet::new();
        for candidate in candidates {
            all.spawn(candidate.run(resign.clone()));
        }
        while let Some(ended) = all.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "an election ended badly");
            }
        }
    }

    /// Waits until this process leads somewhere.
    pub async fn elected(&self) -> Mandate {
        let mut changes = self.board.changes();
        loop {
            select_all(self.seats.iter().map(|seat| Box::pin(seat.handle.elected()))).await;
            if self.mandate().held.len() < self.seats.len() {
                // Nobody may want the others.
                let _ = tokio::time::timeout(GATHER, changes.changed()).await;
            }
            let mandate = self.mandate();
            if !mandate.held.is_empty() {
                return mandate;
            }
            // What has run out is not told at once.
            sleep(PAUSE).await;
        }
    }

    /// Waits until a term with this mandate has to end: something of it is lost, there is more, or somebody asks for some.
    pub async fn outlived(&self, mandate: &Mandate) {
        let mut changes = self.board.changes();
        let more = async {
            loop {
                changes.borrow_and_update();
                let now = self.mandate();
                if self.board.is_any_asked() || now.held.len() > mandate.held.len() {
                    return;
                }
                let other = self.seats.iter().filter(|seat| !mandate.holds(seat.shard));
                let others: Vec<_> = other.map(|seat| Box::pin(seat.handle.elected())).collect();
                let gained = async {
                    if others.is_empty() {
                        std::future::pending::<()>().await;
                    } else {
                        _ = select_all(others).await;
                    }
                };
                tokio::select! {
                    _ = changes.changed() => {}
                    () = gained => sleep(PAUSE).await,
                }
            }
        };
        let lost = select_all(mandate.held.iter().map(|(_, _, handle, epoch)| Box::pin(handle.ended(*epoch))));
        tokio::select! {
            () = more => {}
            _ = lost => {}
        }
    }

    /// Gives away what others asked for. Nothing of a term may run.
    pub fn hand_over(&self) {
        self.board.hand_over();
    }

    fn mandate(&self) -> Mandate {
        let held = self.seats.iter().filter_map(|seat| {
            let epoch = seat.handle.epoch()?;
            let is_asked = self.board.is_asked(seat.shard);
            (!is_asked).then(|| (seat.shard, seat.name.clone(), seat.handle.clone(), epoch))
        });
        Mandate { held: held.collect(), board: self.board.clone() }
    }
}

impl Mandate {
    /// Whether it still holds, all of it. Needs nobody's help to become false.
    pub fn is_leader(&self) -> bool {
        self.held.iter().all(|(_, _, handle, epoch)| handle.epoch() == Some(*epoch))
    }

    /// The shards that it is for, and how many there are.
    pub fn shards(&self) -> (BTreeSet<u16>, u16) {
        (self.held.iter().map(|(shard, ..)| *shard).collect(), self.board.shards())
    }

    /// `NAMESPACE/NAME` of each Lease.
    pub fn leases(&self) -> impl Iterator<Item = &str> {
        self.held.iter().map(|(_, name, ..)| name.as_str())
    }

    /// The least and the greatest epoch of the Leases.
    pub fn epochs(&self) -> (u64, u64) {
        let epochs = || self.held.iter().map(|(.., epoch)| *epoch);
        (epochs().min().unwrap_or_default(), epochs().max().unwrap_or_default())
    }

    /// Makes every epoch from now on greater than this one, and waits until that is so: see [`LeaseHandle::raise_floor`].
    pub async fn surpass(&self, epoch: u64) {
        for (shard, _, handle, _) in self.held.iter() {
            handle.raise_floor(epoch);
            self.board.nudge(*shard);
        }
        for (_, _, handle, had) in self.held.iter().filter(|(.., had)| *had <= epoch) {
            handle.ended(*had).await;
        }
    }

    fn holds(&self, shard: u16) -> bool {
        self.held.iter().any(|(held, ..)| *held == shard)
    }
}
