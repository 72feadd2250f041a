//! What a stage should run that takes its releases from others.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::{ResourceExt as _, runtime::reflector::ObjectRef};
use uuid::Uuid;

use super::{
    decide::Refusal,
    memory::Memory,
    promotion::rules,
    sources::Source,
    wanted::{Missing, Resolution},
};
use crate::{
    api::{Promotion, Stage},
    cluster::index::StageKey,
    controllers::{
        context::Context,
        deploy::{Target, gate, ledger::Ledger},
        error::Error,
    },
    domain::{
        promotion::{Candidate, Choice, Edges, Mark, Rules, cycle, newest, unknown},
        release::Release,
    },
    store::Proof,
};

/// How long a stage may be older than those that it takes releases from before their names count as wrong: all may be
/// applied together.
const GRACE: Duration = Duration::from_secs(10);

/// How many of the last successes of each stage are looked at.
const RECENT: i64 = 20;

/// A release that succeeded on a stage before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    /// What choosing needs to know.
    pub candidate: Candidate,
    /// Its images.
    pub release: Release,
    /// The last deploy that succeeded with it there.
    pub deploy: Uuid,
}

impl Proven {
    fn of(proof: Proof) -> Option<Self> {
        Some(Self { candidate: proof.candidate()?, release: proof.images?, deploy: proof.deploy? })
    }
}

/// What is promoted to a stage, and how.
#[derive(Debug)]
pub struct Lane {
    /// What its releases have to pass.
    pub rules: Arc<Rules>,
    /// What succeeded last on the stages before.
    pub candidates: Arc<Vec<Proven>>,
    /// What should come by itself, were it so declared.
    pub choice: Choice,
}

/// Reads the rules as they are declared, and tells the other stages that this one follows them.
///
/// # Errors
/// What is wrong with them.
pub fn checked(ctx: &Context, stage: &Stage, key: &StageKey) -> Result<Option<Arc<Rules>>, Refusal> {
    let Some(promotion) = &stage.spec.promotion else {
        ctx.lanes.follow(key, Vec::new());
        return Ok(None);
    };
    let upstreams = promotion.from.iter().map(|name| StageKey::new(&*key.namespace, name.as_str()));
    ctx.lanes.follow(key, upstreams.collect());
    order(ctx, stage, promotion, key)?;
    let refused = |wrong: Vec<String>| Refusal { reason: "InvalidSpec", message: wrong.join("; "), passing: false };
    rules(Some(promotion)).map(|rules| Some(Arc::new(rules))).map_err(refused)
}

/// Follows `from` over all stages: nothing may come out of a circle or from nowhere.
fn order(ctx: &Context, stage: &Stage, promotion: &Promotion, key: &StageKey) -> Result<(), Refusal> {
    let mut edges = Edges::from([(key.name.to_string(), promotion.from.clone())]);
    let mut next: Vec<String> = promotion.from.clone();
    while let Some(name) = next.pop() {
        if edges.contains_key(&name) {
            continue;
        }
        let found = ctx.stages.get(&ObjectRef::<Stage>::new(&name).within(&key.namespace));
        let Some(found) = found.filter(|found| found.spec.project == stage.spec.project) else { continue };
        let from = found.spec.promotion.as_ref().map(|promotion| promotion.from.clone()).unwrap_or_default();
        next.extend(from.iter().cloned());
        edges.insert(name, from);
    }
    if let Some(circle) = cycle(&key.name, &edges) {
        let message = format!(
            "spec.promotion.from makes a circle: {}: take one of these names out of the `from` of the stage after it",
            circle.join(" → ")
        );
        return Err(Refusal { reason: "PromotionCycle", message, passing: false });
    }
    if let Some(way) = unknown(&key.name, &edges) {
        let created = stage.creation_timestamp().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
        let passing = ctx.clock.now() < created.saturating_add(GRACE).unwrap_or(created);
        let name = way.first().map(String::as_str).unwrap_or_default();
        let message = format!(
            "spec.promotion.from: there is no Stage {name} of project {} in namespace {} ({}): create it, or correct the \
             name",
            stage.spec.project,
            key.namespace,
            way.join(" → ")
        );
        return Err(Refusal { reason: "UnknownStage", message, passing });
    }
    Ok(())
}

/// What succeeded upstream, read again when something has happened there, and what follows from it.
pub async fn lane(
    ctx: &Context,
    target: &Target<'_>,
    rules: Arc<Rules>,
    ledger: &Ledger,
    memory: &mut Memory,
) -> Result<Lane, Error> {
    let candidates = candidates(ctx, target, &rules, ledger, memory).await?;
    let now = ctx.clock.now();
    let choice =
        newest(&here(&candidates, ledger), &rules, current(ledger).as_ref(), &gate::holds(&ledger.holds, now), now);
    Ok(Lane { rules, candidates, choice })
}

async fn candidates(
    ctx: &Context,
    target: &Target<'_>,
    rules: &Rules,
    ledger: &Ledger,
    memory: &mut Memory,
) -> Result<Arc<Vec<Proven>>, Error> {
    let news = ctx.lanes.take_news(&target.key);
    if let Some(known) = memory.candidates.clone().filter(|_| !news) {
        return Ok(known);
    }
    match read(ctx, target, rules, ledger).await {
        Ok(found) => {
            let found = Arc::new(found);
            memory.candidates = Some(found.clone());
            Ok(found)
        }
        Err(error) => {
            ctx.lanes.news_again(&target.key);
            Err(error)
        }
    }
}

/// What succeeded upstream, as the database has it now.
pub async fn read(ctx: &Context, target: &Target<'_>, rules: &Rules, ledger: &Ledger) -> Result<Vec<Proven>, Error> {
    let runs = ledger.current_release().map(Release::id);
    let left = ledger.holds.iter().filter_map(|hold| hold.from.as_ref()).map(Release::id);
    let also: Vec<_> = left.chain(runs).collect();
    let found = ctx.store.candidates_list(target.id, &rules.from, &also, RECENT).await?;
    Ok(found.into_iter().filter_map(Proven::of).collect())
}

/// The candidates with the vetoes that memory knows of.
pub fn here(candidates: &[Proven], ledger: &Ledger) -> Vec<Candidate> {
    let one = |proven: &Proven| {
        let veto = ledger.vetoed.get(&proven.candidate.release).map(|veto| veto.reason.clone());
        Candidate { veto, ..proven.candidate.clone() }
    };
    candidates.iter().map(one).collect()
}

/// What runs or is on its way, with its place among releases.
pub fn current(ledger: &Ledger) -> Option<Mark> {
    let on_its_way = ledger.open.last().filter(|entry| entry.deploy.state != crate::domain::deploy::State::Failed);
    let entry = on_its_way.or(ledger.good.as_ref())?;
    Some(Mark {
        release: entry.deploy.release.clone(),
        summary: entry.release().summary(),
        at: entry.deploy.created_at,
    })
}

impl Lane {
    /// The release to take by itself.
    pub fn taken(&self) -> Option<&Proven> {
        let take = self.choice.take.as_ref().filter(|_| self.rules.auto)?;
        self.candidates.iter().find(|proven| proven.candidate.release == take.release)
    }

    /// What should run: the release that comes by itself, or else the one that is here; pinned services as they are pinned.
    /// `own` are the images that do not come from other stages.
    pub fn resolution(&self, sources: &[Source], runs: Option<&Release>, mut own: Resolution) -> Resolution {
        let release = self.taken().map(|proven| &proven.release).or(runs);
        let Some(release) = release else {
            own.missing.push(Missing {
                service: String::new(),
                reason: "NothingPromoted",
                message: self.choice.reason.clone(),
                transient: true,
            });
            return own;
        };
        for source in sources {
            if own.release.0.contains_key(&source.service) {
                continue;
            }
            match release.0.get(&source.service) {
                Some(image) => {
                    own.release.0.insert(source.service.clone(), image.clone());
                }
                None if own.missing.iter().any(|missing| missing.service == source.service) => {}
                None => own.missing.push(Missing {
                    service: source.service.clone(),
                    reason: "NotInRelease",
                    message: format!(
                        "service {}: {} has no image for it: it comes with the next release that is deployed on {}",
                        source.service,
                        release.summary(),
                        self.rules.from.join(", ")
                    ),
                    transient: true,
                }),
            }
        }
        own
    }

    /// The sources that do not come with a release: what is pinned here, and what is fixed and not in the release yet.
    pub fn own<'s>(&self, sources: &'s [Source], runs: Option<&Release>) -> Vec<&'s Source> {
        let release = self.taken().map(|proven| &proven.release).or(runs);
        let lacks = |source: &Source| release.is_some_and(|release| !release.0.contains_key(&source.service));
        sources.iter().filter(|source| source.pinned || (!source.is_followed() && lacks(source))).collect()
    }
}
