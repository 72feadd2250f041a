//! Who calls, and what they may do. A command runs only as [`Authorized`], and only this file makes one.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::cache::Cache;
use crate::{
    cluster::access::{Attributes, Person, Reviews, Unanswered},
    http::rate::{Bucket, Rate},
};

/// How long an answer is believed.
const KEEP_YES: Duration = Duration::from_secs(10);
const KEEP_NO: Duration = Duration::from_secs(5);

/// Answers that are remembered, of each kind.
const REMEMBERED: usize = 4096;

/// Longest token that is looked at, in bytes.
const LONGEST_TOKEN: usize = 16 << 10;

/// Tokens that are asked about without having been right before: from one address, and from all together.
const STRANGER: Rate = Rate { burst: 30.0, per_second: 5.0 };
const STRANGERS: Rate = Rate { burst: 100.0, per_second: 20.0 };

/// A token that was right is asked about without a limit for so long.
const ACQUAINTANCE: Duration = Duration::from_hours(1);

/// Requests of one caller.
const CALLER: Rate = Rate { burst: 200.0, per_second: 50.0 };

/// The hash of a token, or of a person.
type Hash = [u8; 32];

/// Something that somebody asks for.
pub trait Command {
    /// What its caller must be allowed to do: all of it. A command that names nothing is allowed to nobody.
    fn attributes(&self) -> Vec<Attributes>;
}

/// Somebody who has shown who they are.
#[derive(Clone)]
pub struct Caller {
    person: Arc<Person>,
    hash: Hash,
    /// Shown again while a stream lasts.
    token: Arc<Zeroizing<String>>,
    address: Option<IpAddr>,
}

impl Caller {
    /// Who it is.
    pub fn person(&self) -> &Person {
        &self.person
    }

    /// Where the request came from.
    pub fn address(&self) -> Option<IpAddr> {
        self.address
    }
}

impl std::fmt::Debug for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Caller").field("user", &self.person.user).finish_non_exhaustive()
    }
}

/// A command whose caller may give it.
#[derive(Debug)]
pub struct Authorized<C> {
    command: C,
    caller: Caller,
}

impl<C> Authorized<C> {
    /// The command.
    pub fn command(&self) -> &C {
        &self.command
    }

    /// Who gave it.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }
}

/// Why a request goes no further.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// Nobody knows who asks.
    Nobody,
    /// Not there, or not theirs: the same to them.
    Unseen,
    /// They may see it, but not do this with it.
    Verb(&'static str),
    /// Too many; the next one may come after so many seconds.
    Flooded(u64),
    /// Whoever knows did not answer.
    Unanswered(String),
}

impl From<Unanswered> for Denied {
    fn from(unanswered: Unanswered) -> Self {
        Self::Unanswered(unanswered.0)
    }
}

/// A caller is written down as seen once in so long at the most.
const SEEN: Duration = Duration::from_mins(10);

/// Knows callers and their rights, by asking and by remembering for a moment.
pub struct Guard {
    reviews: Arc<dyn Reviews>,
    persons: Cache<Hash, Result<Option<Arc<Person>>, Unanswered>>,
    rights: Cache<(Hash, Attributes), Result<bool, Unanswered>>,
    strangers: Mutex<Option<Strangers>>,
    callers: Mutex<HashMap<Hash, Bucket>>,
    seen: Cache<Hash, ()>,
}

struct Strangers {
    all: Bucket,
    each: HashMap<IpAddr, Bucket>,
    known: HashMap<Hash, Instant>,
}

impl Guard {
    /// Asks `reviews`.
    pub fn new(reviews: Arc<dyn Reviews>) -> Self {
        Self {
            reviews,
            persons: Cache::new(REMEMBERED),
            rights: Cache::new(REMEMBERED),
            strangers: Mutex::default(),
            callers: Mutex::default(),
            seen: Cache::new(REMEMBERED),
        }
    }

    /// Whose token this is, sent from `address`.
    ///
    /// # Errors
    /// Nobody's; too many that were nobody's; or nobody answered.
    pub async fn authenticate(&self, token: &str, address: Option<IpAddr>) -> Result<Caller, Denied> {
        let plain = |byte: u8| byte.is_ascii_graphic();
        if token.is_empty() || token.len() > LONGEST_TOKEN || !token.bytes().all(plain) {
            return Err(Denied::Nobody);
        }
        let hash: Hash = Sha256::digest(token.as_bytes()).into();
        if !self.persons.knows(&hash) {
            self.look_up(&hash, address).map_err(Denied::Flooded)?;
        }
        let keep = |answer: &Result<Option<_>, _>| match answer {
            Ok(Some(_)) => KEEP_YES,
            Ok(None) => KEEP_NO,
            Err(_) => Duration::ZERO,
        };
        let ask = async || Ok(self.reviews.person(token).await?.filter(is_somebody).map(Arc::new));
        let person = self.persons.get(&hash, keep, ask).await?.ok_or(Denied::Nobody)?;
        self.acquainted(hash);
        let token = Arc::new(Zeroizing::new(token.to_owned()));
        Ok(Caller { hash: identity(&person), person, token, address })
    }

    /// Whether a caller may have another request now.
    ///
    /// # Errors
    /// There were too many.
    pub fn admit(&self, caller: &Caller) -> Result<(), Denied> {
        let now = Instant::now();
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        if callers.len() >= REMEMBERED {
            callers.retain(|_, bucket| !bucket.is_full(CALLER, now));
        }
        let bucket = callers.entry(caller.hash).or_insert_with(|| Bucket::full(CALLER, now));
        bucket.take(CALLER, now).map_err(Denied::Flooded)
    }

    /// Lets `write` down that a caller was seen, unless that was done a moment ago.
    pub(super) async fn seen(&self, caller: &Caller, write: impl AsyncFnOnce()) {
        self.seen.get(&caller.hash, |()| SEEN, write).await;
    }

    /// The command, if its caller may give it.
    ///
    /// # Errors
    /// They may not, or nobody answered.
    pub async fn authorize<C: Command>(&self, caller: &Caller, command: C) -> Result<Authorized<C>, Denied> {
        self.allowed(caller, &command.attributes()).await?;
        Ok(Authorized { command, caller: caller.clone() })
    }

    /// Whether the caller is still somebody, and still may: for what lasts longer than an answer is believed.
    ///
    /// # Errors
    /// As [`Guard::authenticate`] and [`Guard::authorize`].
    pub async fn renew<C: Command>(&self, authorized: &Authorized<C>) -> Result<(), Denied> {
        let before = &authorized.caller;
        let caller = self.authenticate(&before.token, before.address).await?;
        if caller.hash != before.hash {
            return Err(Denied::Nobody);
        }
        self.allowed(&caller, &authorized.command.attributes()).await
    }

    async fn allowed(&self, caller: &Caller, all: &[Attributes]) -> Result<(), Denied> {
        if all.is_empty() {
            return Err(Denied::Unseen);
        }
        for what in all {
            if !self.may(caller, what).await? {
                return Err(self.refusal(caller, what).await?);
            }
        }
        Ok(())
    }

    /// Whoever may see a thing is told what they may not do with it. That depends on their rights alone, never on whether
    /// the thing is there.
    async fn refusal(&self, caller: &Caller, what: &Attributes) -> Result<Denied, Denied> {
        if what.verb == "get" || what.verb == "list" {
            return Ok(Denied::Unseen);
        }
        let seen = Attributes { verb: if what.name.is_some() { "get" } else { "list" }, ..what.clone() };
        Ok(if self.may(caller, &seen).await? { Denied::Verb(what.verb) } else { Denied::Unseen })
    }

    async fn may(&self, caller: &Caller, what: &Attributes) -> Result<bool, Denied> {
        let keep = |answer: &Result<bool, Unanswered>| match answer {
            Ok(true) => KEEP_YES,
            Ok(false) => KEEP_NO,
            Err(_) => Duration::ZERO,
        };
        let key = (caller.hash, what.clone());
        Ok(self.rights.get(&key, keep, async || self.reviews.allows(&caller.person, what).await).await?)
    }

    /// Whether a token with this hash may be asked about; or after how many seconds.
    fn look_up(&self, hash: &Hash, address: Option<IpAddr>) -> Result<(), u64> {
        let now = Instant::now();
        let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        let Strangers { all, each, known } = strangers.get_or_insert_with(|| Strangers::new(now));
        if known.get(hash).is_some_and(|at| now.saturating_duration_since(*at) < ACQUAINTANCE) {
            return Ok(());
        }
        if let Some(address) = address {
            if each.len() >= REMEMBERED {
                each.retain(|_, bucket| !bucket.is_full(STRANGER, now));
            }
            if each.len() < REMEMBERED || each.contains_key(&address) {
                each.entry(address).or_insert_with(|| Bucket::full(STRANGER, now)).take(STRANGER, now)?;
            }
        }
        all.take(STRANGERS, now)
    }

    /// A token was right.
    fn acquainted(&self, hash: Hash) {
        let now = Instant::now();
        let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        let known = &mut strangers.get_or_insert_with(|| Strangers::new(now)).known;
        if known.len() >= REMEMBERED && !known.contains_key(&hash) {
            known.retain(|_, at| now.saturating_duration_since(*at) < ACQUAINTANCE);
            if known.len() >= REMEMBERED {
                known.clear();
            }
        }
        known.insert(hash, now);
    }
}

impl Strangers {
    fn new(now: Instant) -> Self {
        Self { all: Bucket::full(STRANGERS, now), each: HashMap::new(), known: HashMap::new() }
    }
}

/// Whatever says who somebody is: an answer without a name or without groups names nobody.
fn is_somebody(person: &Person) -> bool {
    !person.user.is_empty() && person.groups.iter().any(|group| !group.is_empty())
}

/// Everything that rights may depend on, each part with its length, so that no two people share a text.
fn identity(person: &Person) -> Hash {
    let Person { user, groups, uid, extra } = person;
    let mut hash = Sha256::new();
    let mut part = |text: &str| {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    };
    part(user);
    part(uid.as_deref().unwrap_or_default());
    part(&groups.len().to_string());
    for group in groups {
        part(group);
    }
    for (key, values) in extra {
        part(key);
        part(&values.len().to_string());
        for value in values {
            part(value);
        }
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests;
