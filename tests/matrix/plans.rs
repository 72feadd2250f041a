//! All plans: which there are, which of them run, and what came of them.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    env,
    io::{Write as _, stderr},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Instant,
};

use futures::{StreamExt as _, stream};

use crate::{
    ground::Ground,
    layers::Layer,
    run::{Plan, Reference, disturbed, undisturbed},
    trap::When,
    workloads::Workload,
};

/// Which plans run: `all`, or those whose names begin with one of several words separated by commas. Left out, a sample.
const CHOICE: &str = "STAGEKEEPER_TEST_PLANS";

/// How many plans run beside each other; `STAGEKEEPER_TEST_LANES` says otherwise.
const LANES: usize = 12;

/// How many plans the sample is made of.
const SAMPLE: usize = 24;

/// Of so many plans one may find that its write never comes, because runs are not equal to the last write.
const ONE_UNTOUCHED_OF: usize = 20;

fn say(text: &str) {
    // Not with `println`, which only shows when the test fails.
    let _ = writeln!(stderr(), "matrix: {text}");
}

/// What became of a plan.
struct Ended {
    plan: Plan,
    killed: Result<Option<String>, String>,
    seconds: f64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_write_it_ends_as_if_nothing_had_been() {
    let started = Instant::now();
    let choice = env::var(CHOICE).ok();
    let wanted: Vec<Workload> = Workload::ALL
        .into_iter()
        .filter(|workload| {
            choice.as_deref().map_or_else(
                || workload.is_sampled(),
                |choice| {
                    let is = |one: &str| one.starts_with(workload.word()) || workload.word().starts_with(one);
                    choice == "all" || choice.split(',').any(is)
                },
            )
        })
        .collect();
    let grounds = Grounds::up(&wanted).await;
    let references = references(&grounds, &wanted).await;
    let all: Vec<Plan> = references.iter().flat_map(|(workload, reference)| plans(*workload, reference)).collect();
    let chosen = choose(&all, choice.as_deref());
    say(&format!("{} of {} plans run", chosen.len(), all.len()));
    let ended = run(&grounds, &references, chosen).await;
    drop(grounds);
    report(&ended, started);

    let failed: Vec<String> =
        ended.iter().filter_map(|one| Some(format!("{}: {}", one.plan.name(), one.killed.as_ref().err()?))).collect();
    assert!(failed.is_empty(), "{} plans failed:\n{}", failed.len(), failed.join("\n\n"));
    let untouched = ended.iter().filter(|one| one.killed == Ok(None)).count();
    assert!(
        untouched * ONE_UNTOUCHED_OF <= ended.len().max(ONE_UNTOUCHED_OF),
        "{untouched} plans found no write to kill at"
    );
}

/// The clusters: one for all operators with a namespace each, one for those that see everything.
struct Grounds {
    shared: Option<Arc<Ground>>,
    whole: Option<Arc<Ground>>,
}

impl Grounds {
    async fn up(wanted: &[Workload]) -> Self {
        let mut grounds = Self { shared: None, whole: None };
        if wanted.iter().any(|workload| !workload.is_whole()) {
            grounds.shared = Some(Arc::new(Ground::up("matrix").await));
        }
        if wanted.iter().any(|workload| workload.is_whole()) {
            grounds.whole = Some(Arc::new(Ground::up("whole").await));
        }
        grounds
    }

    fn of(&self, workload: Workload) -> Arc<Ground> {
        let ground = if workload.is_whole() { &self.whole } else { &self.shared };
        ground.clone().expect("started for this workload")
    }
}

/// Runs each workload undisturbed: those of the whole cluster one after the other, the others beside each other.
async fn references(grounds: &Grounds, wanted: &[Workload]) -> BTreeMap<Workload, Arc<Reference>> {
    let one = async |workload: &Workload| {
        let (ground, workload, started) = (grounds.of(*workload), *workload, Instant::now());
        let reference = alone(move || undisturbed(ground, workload)).await;
        let reference = reference.unwrap_or_else(|error| panic!("{} undisturbed: {error}", workload.word()));
        let counts: Vec<String> =
            Layer::ALL.iter().map(|layer| format!("{layer} {}", reference.writes[layer].len())).collect();
        let seconds = started.elapsed().as_secs_f64();
        say(&format!("{} undisturbed: {} writes, {seconds:.1} s", workload.word(), counts.join(", ")));
        (workload, Arc::new(reference))
    };
    let (whole, shared): (Vec<&Workload>, Vec<&Workload>) = wanted.iter().partition(|workload| workload.is_whole());
    let whole = stream::iter(whole).then(one).collect::<Vec<_>>();
    let shared = stream::iter(shared).map(one).buffer_unordered(lanes()).collect::<Vec<_>>();
    let (whole, shared) = tokio::join!(whole, shared);
    whole.into_iter().chain(shared).collect()
}

fn lanes() -> usize {
    env::var("STAGEKEEPER_TEST_LANES").ok().map_or(LANES, |lanes| lanes.parse().expect("a number"))
}

/// The plans of a workload.
fn plans(workload: Workload, reference: &Reference) -> Vec<Plan> {
    let mut plans = Vec::new();
    for layer in workload.layers() {
        for number in 1..=reference.writes[layer].len() {
            for when in [When::Asked, When::Answered] {
                plans.push(Plan { workload, layer: *layer, number, when });
            }
        }
    }
    plans
}

/// Those that run: a sample is spread over all of them.
fn choose(all: &[Plan], choice: Option<&str>) -> Vec<Plan> {
    match choice {
        Some("all") => all.to_vec(),
        Some(choice) => {
            let wanted = |plan: &&Plan| choice.split(',').any(|one| plan.name().starts_with(one));
            all.iter().filter(wanted).copied().collect()
        }
        None if all.len() <= SAMPLE => all.to_vec(),
        None => (0..SAMPLE).map(|number| all[number * all.len() / SAMPLE + number % 2]).collect(),
    }
}

/// Runs something on a thread and in a runtime of its own: what fails ends nothing else.
async fn alone<T: Send + 'static, F: Future<Output = T>>(
    begin: impl FnOnce() -> F + Send + 'static,
) -> Result<T, String> {
    let own = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(begin())
    };
    let ended = tokio::task::spawn_blocking(move || thread::spawn(own).join()).await.expect("it is not cancelled");
    ended.map_err(|panic| panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "it panicked".into()))
}

async fn run(grounds: &Grounds, references: &BTreeMap<Workload, Arc<Reference>>, chosen: Vec<Plan>) -> Vec<Ended> {
    let (whole, shared): (VecDeque<Plan>, VecDeque<Plan>) =
        chosen.into_iter().partition(|plan| plan.workload.is_whole());
    let queues = [Arc::new(Mutex::new(whole)), Arc::new(Mutex::new(shared))];
    let mut tasks = tokio::task::JoinSet::new();
    for lane in 0..lanes().max(2) {
        let queue = queues[usize::from(lane > 0)].clone();
        let grounds: BTreeMap<Workload, Arc<Ground>> =
            references.keys().map(|workload| (*workload, grounds.of(*workload))).collect();
        let references = references.clone();
        tasks.spawn(async move {
            let mut ended = Vec::new();
            loop {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                let Some(plan) = next else { return ended };
                let started = Instant::now();
                let (ground, reference) = (grounds[&plan.workload].clone(), references[&plan.workload].clone());
                let killed = alone(move || disturbed(ground, plan, reference)).await;
                let seconds = started.elapsed().as_secs_f64();
                let what = match &killed {
                    Ok(Some(what)) => format!("ok: {what}"),
                    Ok(None) => "its write never came".into(),
                    Err(why) => format!("FAILED: {why}"),
                };
                say(&format!("{} {what}, {seconds:.1} s", plan.name()));
                ended.push(Ended { plan, killed, seconds });
            }
        });
    }
    tasks.join_all().await.into_iter().flatten().collect()
}

/// Says how many plans ran, by workload and layer, and over what.
fn report(ended: &[Ended], started: Instant) {
    let workloads: BTreeSet<Workload> = ended.iter().map(|one| one.plan.workload).collect();
    let mut sums = [0; 3];
    say(&format!(
        "{:<24}{:>9}{:>10}{:>9}{:>7}{:>11}",
        "workload", "cluster", "database", "outside", "plans", "s per plan"
    ));
    for workload in workloads {
        let own: Vec<&Ended> = ended.iter().filter(|one| one.plan.workload == workload).collect();
        let of = Layer::ALL.map(|layer| own.iter().filter(|one| one.plan.layer == layer).count());
        let mean = own.iter().map(|one| one.seconds).sum::<f64>() / f64::from(u32::try_from(own.len()).unwrap_or(1));
        say(&format!("{:<24}{:>9}{:>10}{:>9}{:>7}{mean:>11.1}", workload.word(), of[0], of[1], of[2], own.len()));
        for (sum, more) in sums.iter_mut().zip(of) {
            *sum += more;
        }
    }
    say(&format!("{:<24}{:>9}{:>10}{:>9}{:>7}", "all", sums[0], sums[1], sums[2], ended.len()));
    for layer in Layer::ALL {
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        for one in ended.iter().filter(|one| one.plan.layer == layer) {
            if let Ok(Some(kind)) = &one.killed {
                *kinds.entry(kind).or_default() += 1;
            }
        }
        let kinds: Vec<String> = kinds.iter().map(|(kind, times)| format!("{kind} ({times})")).collect();
        say(&format!("killed at, {layer}: {}", kinds.join("; ")));
    }
    let untouched: Vec<String> = ended.iter().filter(|one| one.killed == Ok(None)).map(|one| one.plan.name()).collect();
    let failed = ended.iter().filter(|one| one.killed.is_err()).count();
    say(&format!(
        "{} plans: {} converged after a crash, {} found no write to kill at ({}), {failed} failed; {:.0} s in all",
        ended.len(),
        ended.len() - untouched.len() - failed,
        untouched.len(),
        untouched.join(", "),
        started.elapsed().as_secs_f64()
    ));
}
