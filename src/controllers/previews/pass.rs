//! One pass over the pull requests of a project: the rows, the objects, and what has to be done so that they agree.
//!
//! The row comes first and the object after it, so that a crash in between leaves a row without an object, which is made
//! again, and never an object that nobody knows of.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Previews, Standing, told::named, wanted};
use crate::{
    api::{self, Environment, Project},
    cluster::{apply::Doomed, live::live},
    controllers::{error::Error, project::verdict::Trouble, vault::ProjectName},
    domain::pull_request::{Ending, Known, Made, Object, Plan, environment_name, plan},
    store::{Project as Row, StoreError, StoredPull},
};

/// Environments that one pass ends at most. A provider that is wrong about many of them is wrong slowly.
const CAP: usize = 20;

/// How long the rest of them waits.
const HELD_BACK: Duration = Duration::from_secs(5);

/// How long something rests that was refused.
const REFUSED: Duration = Duration::from_mins(1);

/// Rows and objects are compared this often even if nothing is seen to change.
const SWEEP: Duration = Duration::from_hours(1);

/// For so long after it was made, an environment that is not to be seen has not ended.
const FRESH: Duration = Duration::from_secs(30);

/// For so long the watch may show what was deleted.
const DOOMED: Duration = Duration::from_mins(10);

/// How long a watch is waited for that shows less than there is.
const LAG: Duration = Duration::from_secs(2);

/// One pass; says when the next one is due.
pub(super) async fn pass(all: &Previews, name: &ProjectName) -> Result<Option<Duration>, Error> {
    all.deposed()?;
    let project = all.project(name);
    let previews = project.as_ref().and_then(|project| project.spec.previews.as_ref());
    {
        let mut engaged = all.engaged.lock().await;
        if previews.is_some() {
            engaged.insert(name.clone());
        } else if !engaged.contains(name) {
            drop(engaged);
            all.tell(name, None);
            return Ok(None);
        }
    }
    if project.is_none() && live::<Project>(&all.client, &name.0, &name.1).await?.is_some() {
        return Ok(Some(LAG));
    }
    let row = match project {
        Some(_) => Some(all.store.project_upsert(all.ids.next(), &name.0, &name.1).await?),
        None => all.store.project_get(&name.0, &name.1).await?,
    };
    let Some(row) = row else {
        return Ok(over(all, name).await);
    };
    let environments = all.environments_of(name);
    let objects: Vec<Object> = {
        // What we have deleted ends, whatever the watch shows.
        let mut doomed = all.doomed.lock().await;
        doomed.retain(|_, at| at.elapsed() < DOOMED);
        let object = |one: &Arc<Environment>| {
            let object = wanted::object(&name.1, one);
            Object { ending: object.ending || doomed.contains_key(&object.uid), ..object }
        };
        environments.iter().map(object).collect()
    };
    let mut pulls = known(all, &row, previews, &objects).await?;
    if previews.is_none() && pulls.is_empty() {
        return Ok(over(all, name).await);
    }
    let (mut asked_again, mut troubles) = (None, Vec::new());
    if let Some(previews) = previews {
        let is_known = |number: i64| pulls.iter().any(|pull| pull.known.facts.number == number);
        let strays = objects.iter().filter_map(|object| object.number).filter(|number| !is_known(*number));
        let asked = all.ask(name, &row, previews, &strays.collect::<Vec<_>>()).await?;
        if asked.answered {
            pulls = known(all, &row, Some(previews), &objects).await?;
        }
        asked_again = asked.next;
        troubles.extend(asked.trouble);
        troubles.extend(project.as_deref().and_then(|project| unheard(project, previews)));
    }
    let mut work = Work { all, name, project: project.as_deref(), row, pulls, environments, troubles };
    let plan = work.plan(&objects);
    let before = work.troubles.len();
    work.carry_out(&plan).await?;
    let rest = match plan.held_back {
        1.. => HELD_BACK,
        0 if work.troubles.len() > before => REFUSED,
        0 => SWEEP,
    };
    work.inform().await?;
    let standing = work.standing(&plan).await;
    all.tell(name, previews.is_some().then_some(standing));
    Ok(Some(asked_again.map_or(rest, |asked| asked.min(rest))))
}

/// Nothing is left to be looked after.
async fn over(all: &Previews, name: &ProjectName) -> Option<Duration> {
    all.engaged.lock().await.remove(name);
    all.tell(name, None);
    if all.project(name).is_none() {
        all.book.forget(name);
    }
    None
}

/// What is known of a project's pull requests: those that are open or have an environment, and those that are closed and
/// have an object all the same.
async fn known(
    all: &Previews,
    row: &Row,
    previews: Option<&api::Previews>,
    objects: &[Object],
) -> Result<Vec<StoredPull>, StoreError> {
    let mut pulls = all.store.pull_requests_live(row.id).await?;
    let Some(previews) = previews else { return Ok(pulls) };
    let is_known = |number: i64| pulls.iter().any(|pull| pull.known.facts.number == number);
    let numbers = objects.iter().filter_map(|object| object.number);
    let others: Vec<i64> = numbers.filter(|number| !is_known(*number)).collect();
    if !others.is_empty() {
        let (provider, repository) = (wanted::provider(previews).word(), previews.repository.to_ascii_lowercase());
        pulls.extend(all.store.pull_requests_get(row.id, provider, &repository, &others).await?);
    }
    Ok(pulls)
}

/// What a pass works with.
struct Work<'a> {
    all: &'a Previews,
    name: &'a ProjectName,
    /// None once it is deleted.
    project: Option<&'a Project>,
    row: Row,
    pulls: Vec<StoredPull>,
    environments: Vec<Arc<Environment>>,
    troubles: Vec<Trouble>,
}

impl Work<'_> {
    fn plan(&self, objects: &[Object]) -> Plan {
        let known: Vec<Known> = self.pulls.iter().map(|pull| pull.known.clone()).collect();
        let previews = self.project.and_then(|project| project.spec.previews.as_ref());
        let asked = previews.map(|previews| (wanted::gate(previews), previews.repository.to_ascii_lowercase()));
        let wanted = |one: &Known| {
            asked.as_ref().is_some_and(|(gate, repository)| {
                one.provider == gate.provider && one.repository == *repository && gate.admit(&one.facts).is_ok()
            })
        };
        plan(&known, objects, wanted, |number| environment_name(&self.name.1, number), CAP)
    }

    /// Those that end come first: they make room.
    async fn carry_out(&mut self, plan: &Plan) -> Result<(), Error> {
        for ending in &plan.end {
            self.end(ending).await?;
        }
        for at in &plan.forget {
            self.forget(*at).await?;
        }
        for (at, made) in &plan.adopt {
            self.record(*at, Some(made.clone())).await?;
        }
        for (at, made) in &plan.keep {
            self.keep(*at, made).await?;
        }
        for (at, name) in &plan.make {
            self.make(*at, name).await?;
        }
        for name in &plan.taken {
            self.troubles.push(taken(name));
        }
        Ok(())
    }

    /// Deletes the object of a pull request that is to have none. Its row knows of it until it is gone.
    async fn end(&mut self, ending: &Ending) -> Result<(), Error> {
        let facts = &self.pulls[ending.known].known.facts;
        let (namespace, project) = self.name;
        let Ending { name, uid, .. } = ending;
        tracing::info!(
            namespace,
            project,
            environment = name,
            pull_request = facts.number,
            state = facts.state.word(),
            "the environment of a pull request ends"
        );
        // The end is ours: should the pull request want one again, it gets another one, and not none as one that ended by itself.
        let made = self.pulls[ending.known].known.made.clone();
        self.record(ending.known, made.map(|made| Made { uid: None, ..made })).await?;
        let deleted = self.all.writer.delete::<Environment>(Doomed { namespace, name, uid: Some(uid) }).await;
        match deleted.map_err(Error::from) {
            Ok(()) => {
                self.all.doomed.lock().await.insert(uid.clone(), Instant::now());
            }
            // One that may not be deleted keeps no other from being made.
            Err(error) => {
                let refused = error.refusal().ok_or(error)?;
                self.troubles.push(Trouble { reason: "EnvironmentRefused", message: refused.message });
            }
        }
        Ok(())
    }

    /// Its environment is gone, as it should be. A watch may not show yet what was made only just now.
    async fn forget(&mut self, at: usize) -> Result<(), Error> {
        let known = &self.pulls[at].known;
        let Some(made) = known.made.clone() else { return Ok(()) };
        if let Some(object) = live::<Environment>(&self.all.client, &self.name.0, &made.name).await? {
            let object = wanted::object(&self.name.1, &object);
            if object.ending {
                return Ok(());
            }
            if object.number == Some(known.facts.number) {
                return self.end(&Ending { known: at, name: made.name, uid: object.uid }).await;
            }
        }
        if let Some(previews) = self.previews() {
            self.all.farewell(&self.row, previews, &self.pulls[at]).await?;
        }
        self.all.hush(&self.pulls[at]).await;
        self.record(at, None).await
    }

    /// Brings an environment up to date. Nothing is written while it is.
    async fn keep(&mut self, at: usize, made: &Made) -> Result<(), Error> {
        let Some(wanted) = self.wanted(at, &made.name) else { return Ok(()) };
        let known = named(&self.environments, &made.name).cloned();
        if let Some(known) = known.filter(|known| !wanted::is_current(&wanted, known))
            && self.apply(&wanted::over(wanted, &known)).await?.is_none()
        {
            return Ok(());
        }
        self.record(at, Some(made.clone())).await
    }

    /// Makes an environment, unless somebody has its name already, whatever the watch shows.
    async fn make(&mut self, at: usize, name: &str) -> Result<(), Error> {
        let Some(mut wanted) = self.wanted(at, name) else { return Ok(()) };
        let (number, commit) = (self.pulls[at].known.facts.number, self.pulls[at].known.facts.head.clone());
        if let Some(known) = live::<Environment>(&self.all.client, &self.name.0, name).await? {
            let object = wanted::object(&self.name.1, &known);
            if object.number != Some(number) {
                self.troubles.push(taken(name));
                return Ok(());
            }
            if object.ending {
                return Ok(());
            }
            wanted = wanted::over(wanted, &known);
        }
        let intent = Made { name: name.to_owned(), uid: None, commit };
        self.record(at, Some(intent.clone())).await?;
        if let Some(uid) = self.apply(&wanted).await? {
            let (namespace, project) = self.name;
            tracing::info!(namespace, project, environment = name, pull_request = number, "made for a pull request");
            self.all.made.lock().await.insert((self.name.0.clone(), name.to_owned()), Instant::now());
            self.record(at, Some(Made { uid: Some(uid), ..intent })).await?;
        }
        Ok(())
    }

    /// What an environment is to look like; none if that cannot be said, which is told.
    fn wanted(&mut self, at: usize, name: &str) -> Option<Environment> {
        let project = self.project?;
        let previews = project.spec.previews.as_ref()?;
        match wanted::environment(project, previews, &self.pulls[at].known, name) {
            Ok(wanted) => Some(wanted),
            Err(trouble) => {
                self.troubles.push(trouble);
                None
            }
        }
    }

    /// Applies an environment and says which identity it has; none if it was refused, which is told.
    async fn apply(&mut self, wanted: &Environment) -> Result<Option<String>, Error> {
        match self.all.writer.apply(wanted).await.map_err(Error::from) {
            Ok(applied) => Ok(Some(applied.uid)),
            Err(error) => {
                let refused = error.refusal().ok_or(error)?;
                self.troubles.push(Trouble { reason: "EnvironmentRefused", message: refused.message });
                Ok(None)
            }
        }
    }

    /// Writes which environment a pull request has, if that is news.
    async fn record(&mut self, at: usize, made: Option<Made>) -> Result<(), Error> {
        let pull = &mut self.pulls[at];
        if pull.known.made == made {
            return Ok(());
        }
        pull.known.made = made;
        let now = self.all.clock.now();
        let put = self.all.store.pull_request_put(pull.id, self.row.id, &pull.known, Some(pull.version), now).await?;
        if !put {
            let number = pull.known.facts.number;
            return Err(StoreError::Conflict(format!("pull request {number} has changed meanwhile")).into());
        }
        pull.version += 1;
        Ok(())
    }

    fn previews(&self) -> Option<&api::Previews> {
        self.project.and_then(|project| project.spec.previews.as_ref())
    }

    /// Has the pull requests told how their environments stand.
    async fn inform(&self) -> Result<(), StoreError> {
        let Some(previews) = self.previews() else { return Ok(()) };
        let fresh: Vec<String> = {
            let mut made = self.all.made.lock().await;
            made.retain(|_, at| at.elapsed() < FRESH);
            made.keys().filter(|(namespace, _)| *namespace == self.name.0).map(|(_, name)| name.clone()).collect()
        };
        for pull in self.pulls.iter().filter(|pull| pull.known.facts.state.is_open()) {
            let made = pull.known.made.as_ref();
            let environment = made.and_then(|made| named(&self.environments, &made.name));
            // What was made only just now is not to be seen yet, and what is not to be seen has not ended for that.
            let fresh = environment.is_none() && made.is_some_and(|made| fresh.contains(&made.name));
            if !fresh {
                self.all.inform(&self.row, previews, pull, environment).await?;
            }
        }
        Ok(())
    }

    async fn standing(&mut self, plan: &Plan) -> Standing {
        if let Some(trouble) = self.all.refusals.lock().await.get(self.name) {
            self.troubles.push(trouble.clone());
        }
        if let Some((name, number)) = plan.orphans.first() {
            let message = format!(
                "{} environments were made for pull requests that nobody knows of, such as {name} for {number}: they are left \
                 alone; delete them if their pull requests are closed",
                plan.orphans.len()
            );
            self.troubles.push(Trouble { reason: "Orphans", message });
        }
        let open = self.pulls.iter().filter(|pull| pull.known.facts.state.is_open());
        Standing {
            open: open.clone().count(),
            made: open.filter(|pull| pull.known.made.as_ref().is_some_and(|made| made.uid.is_some())).count(),
            orphans: plan.orphans.len(),
            troubles: std::mem::take(&mut self.troubles),
        }
    }
}

/// Nobody tells of pull requests.
fn unheard(project: &Project, previews: &api::Previews) -> Option<Trouble> {
    let provider = wanted::provider(previews).word();
    let told = project.spec.webhooks.iter().any(|webhook| webhook.source.word() == provider);
    let message = format!(
        "nobody tells of pull requests: declare a webhook with source {provider} in spec.webhooks, or name a credential in \
         spec.previews.credential so that the provider is asked"
    );
    (!told && previews.credential.is_none()).then_some(Trouble { reason: "NobodyTells", message })
}

fn taken(name: &str) -> Trouble {
    let message = format!(
        "the Environment {name} was made by somebody else, and a pull request needs its name: it is left alone; delete or rename it"
    );
    Trouble { reason: "NameTaken", message }
}
