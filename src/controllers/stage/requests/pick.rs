//! Which release is meant.

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    controllers::{
        deploy::ledger::Ledger,
        error::Error,
        stage::promoted::{self, Proven},
    },
    domain::{
        promotion::{Rules, newest},
        release::Release,
    },
    store::Store,
};

/// Where releases are looked up.
#[derive(Debug, Clone, Copy)]
pub struct Shelf<'a> {
    /// The database.
    pub store: &'a Store,
    /// The stage's row.
    pub target: Uuid,
    /// Its project's row.
    pub project: Uuid,
}

/// The release that is meant.
#[derive(Debug)]
pub struct Picked {
    /// Its images.
    pub release: Release,
    /// The deploy that proved it, if one did.
    pub deploy: Option<Uuid>,
    /// Everything that was proven last.
    pub proven: Vec<Proven>,
}

impl Shelf<'_> {
    /// The release that somebody names by its hash or the beginning of it, or else the newest that has been proven, however
    /// short it has served. `from` leaves one of the stages before.
    ///
    /// # Errors
    /// Why there is none, as the inner result.
    pub async fn pick(
        &self,
        rules: &Rules,
        ledger: &Ledger,
        release: Option<&str>,
        from: Option<&str>,
        now: Timestamp,
    ) -> Result<Result<Picked, String>, Error> {
        if let Some(from) = from.filter(|from| !rules.from.iter().any(|name| name == from)) {
            return Ok(Err(format!("releases come here from {}, not from {from}", rules.from.join(", "))));
        }
        let proven = promoted::read(self.store, self.target, rules, ledger).await?;
        if let Some(prefix) = release {
            let mut found = self.store.releases_find(self.project, prefix).await?;
            return Ok(match found.len() {
                0 => Err(format!("no release of this project begins with {prefix}")),
                1 => {
                    let release = found.remove(0).1;
                    let deploy = proven.iter().find(|one| one.release == release).map(|one| one.deploy);
                    Ok(Picked { release, deploy, proven })
                }
                several => Err(format!("{several} releases begin with {prefix}: give more of it")),
            });
        }
        let at_once = Rules {
            soak: Duration::ZERO,
            from: from.map_or_else(|| rules.from.clone(), |from| vec![from.to_owned()]),
            ..rules.clone()
        };
        let all = promoted::here(&proven, ledger);
        let choice = newest(&all, &at_once, promoted::current(ledger).as_ref(), &[], now);
        let taken = choice.take.and_then(|take| proven.iter().find(|one| one.candidate.release == take.release));
        Ok(match taken {
            Some(taken) => Ok(Picked { release: taken.release.clone(), deploy: Some(taken.deploy), proven }),
            None => Err(choice.reason),
        })
    }
}
