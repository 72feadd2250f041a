//! What one process knows of all the Leases of an installation that is parted into shards, and what follows from it: which of
//! them it may take, ask for, and give away.
//!
//! The rules. Who holds fewer takes first, as everybody waits longer for a free Lease with each that it holds. Who holds two less
//! than another asks for one of those; its holder ends its term and gives it away. The Lease of the first shard tells how many
//! shards there are. A process that counts otherwise gives away what it holds; one that brings a new count begins when nobody can
//! act by the old one any more.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::record::Note;

/// So much longer waits for a free Lease who holds one already, for each that it holds.
const PACE: Duration = Duration::from_secs(1);

/// For so long a Lease that was given away is kept for who asked for it.
const FAVOUR: Duration = Duration::from_secs(5);

/// Who holds a Lease, as it was seen last.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
enum Sight {
    /// It was not looked at yet.
    #[default]
    Unknown,
    /// Nobody, since then as seen from here.
    Free(Instant),
    /// Another.
    Theirs(String),
    /// We do.
    Ours,
}

#[derive(Debug, Clone, Default)]
struct Seat {
    sight: Sight,
    /// Who asked for it.
    wanted_by: Option<String>,
    /// It is ours, and is given away when the term has ended.
    asked: bool,
    /// The term has ended.
    released: bool,
}

#[derive(Debug, Default)]
struct Inner {
    seats: Vec<Seat>,
    /// When the first Lease last told our count, and whether all others act by it.
    layout: Option<(Instant, bool)>,
}

/// The Leases of one installation, as one process sees them.
#[derive(Debug)]
pub(super) struct Board {
    identity: String,
    inner: Mutex<Inner>,
    nudges: Vec<Notify>,
    /// Counts what may end a term: a Lease more or less, or one that somebody asks for.
    changes: watch::Sender<u64>,
}

impl Board {
    pub(super) fn new(identity: &str, shards: u16) -> Arc<Self> {
        let count = usize::from(shards.max(1));
        Arc::new(Self {
            identity: identity.to_owned(),
            inner: Mutex::new(Inner { seats: vec![Seat::default(); count], layout: None }),
            nudges: (0..count).map(|_| Notify::new()).collect(),
            changes: watch::Sender::default(),
        })
    }

    /// How many Leases there are.
    pub(super) fn shards(&self) -> u16 {
        u16::try_from(self.nudges.len()).unwrap_or(u16::MAX)
    }

    /// Waits until the candidate for this Lease has something to do before its time.
    pub(super) async fn nudged(&self, at: u16) {
        self.nudges[usize::from(at)].notified().await;
    }

    pub(super) fn nudge(&self, at: u16) {
        self.nudges[usize::from(at)].notify_one();
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Another holds it, or (none) nobody does, as was asked at `sent`; `note` is what stands on it, if it is there.
    pub(super) fn looked(&self, at: u16, holder: Option<&str>, note: Option<&Note>, sent: Instant) {
        let mut inner = self.lock();
        if let Some(note) = note.filter(|_| at == 0) {
            inner.layout = (note.shards == self.shards()).then(|| (sent, note.before.is_none()));
        }
        let seat = &mut inner.seats[usize::from(at)];
        seat.wanted_by = note.and_then(|note| note.wanted_by.clone());
        seat.sight = match (holder, &seat.sight) {
            (Some(holder), _) => Sight::Theirs(holder.to_owned()),
            (None, Sight::Free(since)) => Sight::Free(*since),
            (None, _) => Sight::Free(Instant::now()),
        };
        (seat.asked, seat.released) = (false, false);
    }

    /// It is ours, renewed by a request that was sent at `sent`; `settled` when nobody acts by another count any more.
    pub(super) fn holds(&self, at: u16, settled: bool, sent: Instant) {
        let mut inner = self.lock();
        if at == 0 {
            inner.layout = Some((sent, settled));
        }
        let seat = &mut inner.seats[usize::from(at)];
        let is_new = seat.sight != Sight::Ours;
        seat.sight = Sight::Ours;
        drop(inner);
        if is_new {
            self.changed();
        }
    }

    /// It is not ours any more, and who holds it is not known yet.
    pub(super) fn lost(&self, at: u16) {
        self.lock().seats[usize::from(at)] = Seat::default();
        self.changed();
    }

    /// When a free Lease may be taken from here at the earliest, if at all.
    pub(super) fn may_take_from(&self, at: u16) -> Option<Instant> {
        let inner = self.lock();
        let seat = &inner.seats[usize::from(at)];
        let Sight::Free(since) = seat.sight else { return None };
        if at > 0 && !matches!(inner.layout, Some((_, true))) {
            return None;
        }
        let held = inner.seats.iter().filter(|seat| seat.sight == Sight::Ours).count();
        let mut wait = PACE * u32::try_from(held).unwrap_or(u32::MAX);
        if seat.wanted_by.as_ref().is_some_and(|by| *by != self.identity) {
            wait += FAVOUR;
        }
        Some(since + wait)
    }

    /// Whether this Lease of another is to be asked for: the last of the one that holds the most, when that is two more than we
    /// do, and nothing is free.
    pub(super) fn wants(&self, at: u16) -> bool {
        let inner = self.lock();
        let (mut ours, mut theirs) = (0, BTreeMap::<&str, (usize, usize)>::new());
        for (index, seat) in inner.seats.iter().enumerate() {
            match &seat.sight {
                Sight::Unknown | Sight::Free(_) => return false,
                Sight::Ours => ours += 1,
                Sight::Theirs(holder) => {
                    let (count, last) = theirs.entry(holder).or_default();
                    (*count, *last) = (*count + 1, index);
                }
            }
            if seat.wanted_by.as_ref() == Some(&self.identity) {
                // One at a time.
                return false;
            }
        }
        let most = theirs.values().map(|(count, _)| *count).max().unwrap_or_default();
        let richest = theirs.values().find(|(count, _)| *count == most);
        let free_to_ask = inner.seats[usize::from(at)].wanted_by.is_none();
        free_to_ask && most >= ours + 2 && richest.is_some_and(|(_, last)| *last == usize::from(at))
    }

    /// Somebody asks for one of ours. Says whether it is given away: the last one never is, and one at a time.
    pub(super) fn asked(&self, at: u16, by: &str) -> bool {
        let mut inner = self.lock();
        let ours = inner.seats.iter().filter(|seat| seat.sight == Sight::Ours).count();
        let giving = inner.seats.iter().enumerate().any(|(index, seat)| seat.asked && index != usize::from(at));
        let seat = &mut inner.seats[usize::from(at)];
        if by == self.identity || seat.sight != Sight::Ours || ours < 2 || giving {
            return false;
        }
        let is_new = !std::mem::replace(&mut seat.asked, true);
        seat.wanted_by = Some(by.to_owned());
        drop(inner);
        if is_new {
            self.changed();
        }
        true
    }

    /// Whether somebody asks for one of ours.
    pub(super) fn is_any_asked(&self) -> bool {
        self.lock().seats.iter().any(|seat| seat.asked)
    }

    /// Whether one of ours is on its way to somebody.
    pub(super) fn is_asked(&self, at: u16) -> bool {
        self.lock().seats[usize::from(at)].asked
    }

    /// The term has ended: what was asked for goes.
    pub(super) fn hand_over(&self) {
        let mut inner = self.lock();
        for (seat, nudge) in inner.seats.iter_mut().zip(&self.nudges) {
            if seat.asked {
                seat.released = true;
                nudge.notify_one();
            }
        }
    }

    pub(super) fn is_released(&self, at: u16) -> bool {
        self.lock().seats[usize::from(at)].released
    }

    /// Until when one of ours may be acted upon, by what the first Lease said of the count; none when it says otherwise.
    pub(super) fn holds_until(&self, deadline: Duration) -> Option<Instant> {
        self.lock().layout.map(|(sent, _)| sent + deadline)
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
