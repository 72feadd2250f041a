//! Whether a stage needs a new deploy, and the row that asks for one.

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use kube::ResourceExt as _;

use super::{
    changed,
    checked::{Checked, Declared},
    hold::{self, Kept, Settled},
    memory::Memory,
    newer::{Newer, Place},
    promoted::{self, Lane},
    requests::Scene,
    sources::{self, Source},
    wanted::{self, Missing, Resolution},
};
use crate::{
    api::{Project, Stage, labels},
    cluster::index::StageKey,
    controllers::{
        context::Context,
        deploy::{
            ledger::Ledger,
            record::{self, Order},
        },
        error::Error,
    },
    domain::{
        actor::Actor,
        deploy::Waiting,
        image::Digest,
        plan::{self, Wanted},
        promotion::Vetoed,
        release::Release,
        secret::SecretVersions,
    },
    render::{self, Identity, Snapshot},
    store::{Hold, Provenance},
};

/// Longest value of the retry annotation that is told as it stands, in characters.
const WORD: usize = 128;

/// How long a stage may be older than its project before the name counts as wrong: both may be applied together.
const PROJECT_GRACE: Duration = Duration::from_secs(10);

/// What was decided, for the status.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Decided {
    /// What is wrong with the declarations: nothing moves until a person mends it.
    pub refused: Option<Refusal>,
    /// Services without an image.
    pub missing: Vec<Missing>,
    /// Services that keep their image because a registry does not answer.
    pub stale: Vec<Missing>,
    /// The registries were asked and have not answered since this process began: nothing was decided.
    pub asking: bool,
    /// A release that failed here is held back.
    pub held_back: Option<Held>,
    /// What keeps policies away.
    pub held: Option<Hold>,
    /// What is declared and does not run because of a rollback.
    pub drift: Option<String>,
    /// What is wanted is what serves.
    pub serves: bool,
    /// The retry request that was acted on.
    pub handled_retry: Option<String>,
    /// Newer images than what serves that no deploy was made for now.
    pub newer: Vec<Newer>,
    /// When to look again.
    pub wake: Option<Timestamp>,
}

/// A release that is not tried again by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its images, for people.
    pub images: String,
    /// Why it failed.
    pub why: String,
}

impl Held {
    fn of(vetoed: &Vetoed) -> Self {
        Self { images: vetoed.summary.clone(), why: vetoed.why.clone() }
    }
}

/// Why declarations cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// One `CamelCase` word.
    pub reason: &'static str,
    /// What, where and the way out.
    pub message: String,
    /// It may be a matter of moments.
    pub passing: bool,
}

impl Refusal {
    /// What a deploy waits for meanwhile.
    pub fn waiting(&self) -> Waiting {
        Waiting { reason: self.reason.into(), message: self.message.clone(), blocker: None, until: None }
    }
}

impl Decided {
    /// The project does not exist, or is not seen yet.
    pub fn without_project(ctx: &Context, stage: &Stage, key: &StageKey) -> Self {
        let created = stage.creation_timestamp().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
        let limit = created.saturating_add(PROJECT_GRACE).unwrap_or(created);
        let passing = ctx.clock.now() < limit;
        let message = format!(
            "there is no Project `{}` in namespace {}: create it there, or delete this Stage and make one whose spec.project names an existing Project",
            stage.spec.project, key.namespace
        );
        let refused = Some(Refusal { reason: "ProjectNotFound", message, passing });
        Self { refused, wake: passing.then_some(limit), ..Self::default() }
    }
}

/// Decides, and makes the deploy that is needed.
pub async fn decide(
    scene: &Scene<'_>,
    project: &Project,
    ledger: &mut Ledger,
    handled_retry: Option<String>,
    memory: &mut Memory,
) -> Result<Decided, Error> {
    let Scene { ctx, stage, target, rules, .. } = *scene;
    let subscriber = (target.key.namespace.to_string(), target.key.name.to_string());
    let mut decided = Decided { handled_retry, ..Decided::default() };
    let held = ctx.vault.of(&target.key.namespace, &stage.spec.project);
    let secrets = held.as_ref().map(|held| held.versions.clone()).unwrap_or_default();
    let declared = Declared::of(stage, project, &secrets);
    let before = memory.checked.take().filter(|before| before.of == declared);
    let usable = usable(stage, project, &target.place, before.is_some());
    let unusable = |message| Refusal { reason: "InvalidSpec", message, passing: false };
    let (sources, rules) = match usable.map_err(unusable).and_then(|sources| Ok((sources, rules.clone()?))) {
        Ok(both) => both,
        Err(refusal) => {
            ctx.images.subscribe(&subscriber, &BTreeMap::new());
            decided.wake = refusal.passing.then(|| ctx.clock.now().saturating_add(PROJECT_GRACE).unwrap_or_default());
            decided.refused = Some(refusal);
            return Ok(decided);
        }
    };
    let known = |question: &_| ctx.images.known(question);
    let runs = ledger.current_release().cloned();
    let lane = match rules {
        Some(rules) => Some(promoted::lane(ctx, target, rules, ledger, memory).await?),
        None => None,
    };
    let mut resolution = match &lane {
        Some(lane) => {
            let own: Vec<Source> = lane.own(&sources, runs.as_ref()).into_iter().cloned().collect();
            lane.resolution(&sources, runs.as_ref(), wanted::resolve(&own, runs.as_ref(), known))
        }
        None => wanted::resolve(&sources, runs.as_ref(), known),
    };
    let retry = stage.annotations().get(labels::RETRY).filter(|value| decided.handled_retry.as_ref() != Some(*value));
    let (holds, now) = (ledger.holds.clone(), ctx.clock.now());
    let holds: Vec<&Hold> = hold::active(&holds, now).collect();
    let by_itself = lane.as_ref().filter(|lane| lane.rules.auto);
    decided.held_back = by_itself.and_then(|lane| lane.choice.vetoed.as_ref()).map(Held::of);
    let ready = by_itself.and_then(|lane| lane.choice.wake);
    decided.wake = holds.iter().filter_map(|hold| hold.expires_at).chain(ready).min();
    let left = holds.iter().find_map(|hold| hold.from.as_ref()).filter(|_| lane.is_none());
    let mut beyond = left.map(|left| {
        let beyond = wanted::resolve(&sources, Some(left), known);
        for (question, wish) in &beyond.questions {
            resolution.ask(question.clone(), wish.clone());
        }
        beyond
    });
    if lane.as_ref().is_some_and(|lane| lane.taken().is_some()) {
        // What comes from another stage in spite of a hold is newer than what was left.
        beyond = Some(resolution.clone());
    }
    if lane.is_none() {
        let (names, serves) = (identity(stage, &target.place), ledger.good.as_ref().map(|good| good.release()));
        let place = Place { identity: &names, project: &project.spec, stage: &stage.spec, serves, now };
        decided.newer = place.newer(&sources, &mut resolution, &memory.told, known);
    }
    ctx.images.subscribe(&subscriber, &resolution.questions);
    decided.stale = std::mem::take(&mut resolution.stale);
    decided.missing = resolution.missing.clone();
    decided.asking = resolution.asking;
    let kept = hold::keep(&holds, &sources, &resolution, beyond.as_ref(), runs.as_ref(), retry.is_some());
    let (lifts, settled) = held_to(kept, &mut resolution, &mut decided, &holds);
    decided.missing.extend(without_value(ctx, project, &secrets));
    if decided.asking || !decided.missing.is_empty() {
        return Ok(decided);
    }
    let generation = stage.metadata.generation.unwrap_or_default();
    let request = match retry {
        Some(value) => Some(format!("retry:{}", word(value))),
        None => sources.iter().any(|source| source.pinned).then(|| format!("pin:{generation}")),
    };
    if let Some(before) = before.filter(|before| lifts.is_none() && before.release == resolution.release.id()) {
        let (wanted, asked) = (before.wanted(request.clone()), request.is_some());
        let quiet = settled.covers(&wanted.snapshot) || wants_nothing(ledger, &wanted, asked);
        memory.checked = Some(before);
        if quiet {
            decided.serves = ledger.good.as_ref().is_some_and(|good| good.deploy.snapshot == wanted.snapshot)
                || (decided.held.is_some()
                    && ledger.good.as_ref().map(|good| &good.deploy.release) == Some(&wanted.release));
            decided.handled_retry = retry.cloned().or(decided.handled_retry);
            return Ok(decided);
        }
    }
    let found = build(stage, project, &target.place, resolution.release, &secrets)?;
    memory.checked = Some(Checked { of: declared, release: found.0.release.id(), hash: found.1.clone() });
    if settled.covers(&found.1) {
        decided.serves = ledger.good.as_ref().is_some_and(|good| good.deploy.release == found.0.release.id());
        return Ok(decided);
    }
    let other = |good: &Release| build(stage, project, &target.place, good.clone(), &secrets);
    let Some((snapshot, hash)) = choose(ledger, found, request.as_deref(), other, &mut decided)? else {
        return Ok(decided);
    };
    let wanted = Wanted { release: snapshot.release.id(), snapshot: hash, request };
    decided.serves = ledger.good.as_ref().is_some_and(|good| good.deploy.snapshot == wanted.snapshot);
    let vetoed = ledger.vetoed_ids();
    if plan::needs_deploy(&wanted, ledger.known(&vetoed)) {
        let taken = lane.as_ref().and_then(Lane::taken).filter(|taken| taken.release == snapshot.release);
        let cause = match retry {
            Some(value) => format!("retry {} was asked for", word(value)),
            None => changed::cause(ledger.good.as_ref().map(|good| &*good.snapshot), &snapshot, &sources),
        };
        let cause = match (taken, &lane, retry) {
            (Some(_), Some(lane), None) => format!("promoted from {}: {cause}", lane.rules.from.join(", ")),
            _ => cause,
        };
        let followed = retry.is_none() && (taken.is_some() || is_followed(&sources, ledger, &snapshot.release));
        let actor = match (followed, retry, held.as_ref()) {
            (true, ..) => Actor::Policy,
            (false, None, Some(held)) => {
                let before = ledger.good.as_ref().map(|good| &*good.snapshot);
                changed::keeper(before, &snapshot, held).unwrap_or_else(|| editor(stage))
            }
            _ => editor(stage),
        };
        let updates = decided.newer.iter().map(|newer| newer.update.clone()).collect();
        let promoted_from = taken.map(|taken| taken.deploy);
        let provenance = Provenance { promoted_from, ..Provenance::default() };
        let order = Order::new(snapshot, wanted, actor, cause);
        record::create(ctx, target, ledger, Order { provenance, updates, lifts, ..order }).await?;
        memory.told.add(std::mem::take(&mut decided.newer));
    } else if let Some(why) = lifts {
        ctx.store.holds_lift(target.id, None, &editor(stage), &why, now).await?;
        ledger.holds.retain(|hold| !hold.is_of_rollback());
    }
    if let Some(value) = retry {
        decided.handled_retry = Some(value.clone());
    }
    Ok(decided)
}

/// Lets holds have their say about what was found. Returns why they end, if they do, and which snapshots they cover.
fn held_to(
    kept: Kept,
    resolution: &mut Resolution,
    decided: &mut Decided,
    holds: &[&Hold],
) -> (Option<String>, Settled) {
    match kept {
        Kept::Free => (None, Settled::Never),
        Kept::Over { why, release } => {
            resolution.release = release;
            (Some(why), Settled::Never)
        }
        Kept::Stays { release, settled, drift } => {
            resolution.release = release;
            decided.held = holds.first().map(|hold| (*hold).clone());
            decided.drift = drift;
            // What cannot be found is not wanted now.
            decided.missing.clear();
            decided.asking = false;
            (None, settled)
        }
    }
}

/// The snapshot to compare with what runs: the found one, or the good release with today's configuration where the
/// found one failed before. `None` when what was found is exactly what was gone back from.
fn choose(
    ledger: &Ledger,
    found: (Snapshot, String),
    request: Option<&str>,
    with: impl Fn(&Release) -> Result<(Snapshot, String), Error>,
    decided: &mut Decided,
) -> Result<Option<(Snapshot, String)>, Error> {
    let undone = ledger.undone.as_ref().filter(|undone| undone.snapshot == found.1);
    if undone.is_some_and(|undone| request.is_none() || undone.request.as_deref() == request) {
        decided.held_back = Some(held(ledger, &found.0.release));
        return Ok(None);
    }
    let vetoed = ledger.vetoed_ids();
    if !plan::is_held_back(&found.0.release.id(), request.is_some(), ledger.known(&vetoed)) {
        return Ok(Some(found));
    }
    decided.held_back = Some(held(ledger, &found.0.release));
    let tried = ledger.latest().is_some_and(|latest| latest.snapshot == found.1);
    match (&ledger.good, tried) {
        (Some(good), false) => with(good.release()).map(Some),
        _ => Ok(None),
    }
}

fn held(ledger: &Ledger, release: &Release) -> Held {
    let veto = ledger.vetoed.get(&release.id());
    let undone = || ledger.undone.as_ref().and_then(|undone| undone.why.clone());
    let why = veto.map(|veto| veto.reason.clone()).or_else(undone);
    Held { images: release.summary(), why: why.unwrap_or_else(|| "it collapsed".into()) }
}

/// Whether the ledger has all of `wanted`, and no trouble with it that is worth a second look.
fn wants_nothing(ledger: &Ledger, wanted: &Wanted, asked: bool) -> bool {
    let vetoed = ledger.vetoed_ids();
    let undone = ledger.undone.as_ref().is_some_and(|undone| undone.snapshot == wanted.snapshot);
    !undone
        && !plan::is_held_back(&wanted.release, asked, ledger.known(&vetoed))
        && !plan::needs_deploy(wanted, ledger.known(&vetoed))
}

/// Secrets that the project names and that have no value: nothing new starts without them.
fn without_value(ctx: &Context, project: &Project, secrets: &SecretVersions) -> Vec<Missing> {
    let name = project.name_any();
    let missing = render::missing_secrets(&project.spec, secrets).into_iter().map(|(secret, service)| {
        let (reason, message) = match &ctx.safe {
            None => ("NoEncryptionKeys", format!("secret {secret} cannot be opened: this operator has no encryption keys; set STAGEKEEPER_ENCRYPTION_KEYS_FILE")),
            Some(_) => ("SecretMissing", format!("secret {secret} has no value: store it with `stagekeeper secret set {name} {secret}`; the Project's condition CredentialsReady says more")),
        };
        Missing { message: format!("service {service}: {message}"), service, reason, transient: false }
    });
    missing.collect()
}

/// The tags and digests that are declared for services now, for a stage whose children are at `key`; none where the
/// declarations cannot be used.
pub(super) fn declared(stage: &Stage, project: &Project, key: &StageKey) -> Option<BTreeMap<String, String>> {
    usable(stage, project, key, false).ok().map(|sources| hold::declared(&sources))
}

/// Hash of the snapshot that today's declarations make of a release; none where they make none.
pub(super) fn hash_with(
    ctx: &Context,
    stage: &Stage,
    project: &Project,
    key: &StageKey,
    release: &Release,
) -> Option<String> {
    with(ctx, stage, project, key, release).ok().map(|(_, hash)| hash)
}

/// The snapshot that today's declarations make of a release.
pub(super) fn with(
    ctx: &Context,
    stage: &Stage,
    project: &Project,
    key: &StageKey,
    release: &Release,
) -> Result<(Snapshot, String), Error> {
    let held = ctx.vault.of(&stage.namespace().unwrap_or_default(), &stage.spec.project);
    let secrets = held.map(|held| held.versions.clone()).unwrap_or_default();
    build(stage, project, key, release.clone(), &secrets)
}

/// The sources of the images. `known_good`: the declarations were found to have no problems.
fn usable(stage: &Stage, project: &Project, key: &StageKey, known_good: bool) -> Result<Vec<Source>, String> {
    let problems =
        if known_good { Vec::new() } else { Snapshot::problems(identity(stage, key), &project.spec, &stage.spec) };
    let mut said: Vec<String> = problems.iter().map(ToString::to_string).collect();
    match sources::sources(&identity(stage, key), &project.spec, &stage.spec) {
        Ok(sources) if said.is_empty() => return Ok(sources),
        Ok(_) => {}
        Err(refused) => said.extend(refused.iter().map(|one| format!("{}: {}", one.field, one.message))),
    }
    Err(said.join("; "))
}

fn build(
    stage: &Stage,
    project: &Project,
    key: &StageKey,
    release: Release,
    secrets: &SecretVersions,
) -> Result<(Snapshot, String), Error> {
    let snapshot = Snapshot::build(identity(stage, key), &project.spec, &stage.spec, release, secrets)
        .map_err(|problems| Error::Snapshot { snapshot: "new".into(), message: problems.to_string() })?;
    let hash = snapshot.hash();
    Ok((snapshot, hash))
}

fn identity(stage: &Stage, key: &StageKey) -> Identity {
    Identity {
        namespace: key.namespace.to_string(),
        home: stage.namespace().filter(|home| **home != *key.namespace),
        project: stage.spec.project.clone(),
        stage: key.name.to_string(),
    }
}

/// Only images that policies follow differ from what serves: nobody asked for this release.
fn is_followed(sources: &[Source], ledger: &Ledger, release: &Release) -> bool {
    let before = ledger.good.as_ref().map(|good| good.release());
    let changed =
        |source: &&Source| before.and_then(|before| before.0.get(&source.service)) != release.0.get(&source.service);
    let mut changed = sources.iter().filter(changed).peekable();
    changed.peek().is_some() && changed.all(Source::is_followed)
}

/// Whoever changed the Stage last. The API server tells the tool that did (`managedFields`), not the person; the person
/// is in its audit log.
fn editor(stage: &Stage) -> Actor {
    let edits = stage.metadata.managed_fields.iter().flatten().filter(|edit| edit.subresource.is_none());
    let last = edits
        .filter(|edit| edit.manager.as_deref().is_some_and(|manager| manager != labels::FIELD_MANAGER))
        .max_by_key(|edit| edit.time.as_ref().map(|time| time.0));
    last.and_then(|edit| edit.manager.clone()).map_or(Actor::Controller, Actor::User)
}

/// What an annotation says, as a word that can be kept: what is long or holds what no text holds is told by its hash.
fn word(value: &str) -> Cow<'_, str> {
    if value.chars().count() <= WORD && !value.contains('\0') {
        return Cow::Borrowed(value);
    }
    Cow::Owned(Digest::of(value.as_bytes()).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_text_holds_is_told_by_its_hash() {
        let longest = "é".repeat(WORD);
        for kept in ["", "1", "2026-11-22 retry\n", &longest] {
            assert_eq!(word(kept), kept);
        }
        let longer = "é".repeat(WORD + 1);
        for hashed in ["\0", "1\0", &longer] {
            let told = word(hashed);
            assert!(told.starts_with("sha256:") && told.len() == 71, "{told}");
            assert_eq!(told, word(hashed), "the same word each time, or it would be acted on again");
        }
        assert_ne!(word("1\0"), word("2\0"));
    }
}
