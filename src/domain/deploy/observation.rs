//! What is known about a deploy at one instant, gathered by whoever can look.

use jiff::Timestamp;
use uuid::Uuid;

/// Everything the machine may base a decision on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// Whether a pending deploy may begin.
    pub queue: Queue,
    /// Hooks by phase.
    pub before_start: Hooks,
    /// Hooks by phase.
    pub before_traffic: Hooks,
    /// Hooks by phase.
    pub verify: Hooks,
    /// What hooks before the start need: the services that all instances share.
    pub shared: Shared,
    /// The workloads of the instance.
    pub workloads: Workloads,
    /// What the cluster refused when it was asked last: what the deploy really waits for.
    pub refused: Option<Problem>,
    /// The instance's services and routes.
    pub route: Route,
    /// Probe results since probing began in this process.
    pub health: Health,
    /// Whether the target's traffic was seen to point at the instance.
    pub traffic_here: bool,
    /// The evidence of a failure is in the log.
    pub evidence_collected: bool,
    /// The release to go back to, if any deploy of this target ever succeeded.
    pub last_good: Option<LastGood>,
}

/// Whether a pending deploy may begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Queue {
    /// Every gate is open and nobody is before it.
    Clear,
    /// Something is in the way.
    Wait(Waiting),
    /// A newer deploy takes its place.
    SupersededBy(Uuid),
}

/// What something waits for: never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// One `CamelCase` word for programs.
    pub reason: String,
    /// One sentence for people.
    pub message: String,
    /// What is in the way, where it has a name: a deploy id, a pod, a route.
    pub blocker: Option<String>,
    /// When it opens by itself, if that is known.
    pub until: Option<Timestamp>,
}

/// The phases in which a deploy runs its owner's jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Before any new pod: migrations.
    BeforeStart,
    /// After readiness: seeds, smoke tests.
    BeforeTraffic,
    /// While health is checked.
    Verify,
    /// After success; cannot fail the deploy any more.
    AfterSuccess,
}

impl Phase {
    /// The word in SQL, labels and the resource's `hooks` field.
    pub const fn word(self) -> &'static str {
        match self {
            Self::BeforeStart => "beforeStart",
            Self::BeforeTraffic => "beforeTraffic",
            Self::Verify => "verify",
            Self::AfterSuccess => "afterSuccess",
        }
    }
}

/// How far the hooks of one phase are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hooks {
    /// There are none, or all have succeeded.
    Done,
    /// Some have not run or not ended; the sentence says which.
    Outstanding(String),
    /// One failed; the sentence says which and how.
    Failed(String),
}

/// The instance's pods, counted only where they run this deploy's snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Workloads {
    /// The snapshot that was seen applied. Readiness of any other says nothing about this deploy.
    pub snapshot: Option<String>,
    /// Every pod of every applied service has its images.
    pub pulled: bool,
    /// Every service is applied and ready.
    pub ready: bool,
    /// What is outstanding, for people: `web 1/2 ready`.
    pub progress: String,
    /// The first thing that is wrong.
    pub problem: Option<Problem>,
}

/// The services that the target's instances share, as hooks before the start find them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shared {
    /// All are as rendered and ready, or there are none.
    Ready,
    /// Some are not.
    Starting {
        /// Which, for people: `db 0/1 ready`.
        progress: String,
        /// The first thing that is wrong.
        problem: Option<Problem>,
    },
}

/// Something that is wrong with a pod or workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// `ImagePullBackOff`, `CrashLoopBackOff`, `Unschedulable`, `FailedCreate`, …
    pub reason: String,
    /// One sentence: which pod, which container, what.
    pub message: String,
    /// Waiting longer cannot help.
    pub fatal: bool,
}

/// How far services and routes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// They exist and are accepted.
    Ready,
    /// They are not; the sentence says what is missing.
    Waiting(String),
}

/// Consecutive probe results.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Health {
    /// Good answers in a row.
    pub successes: u32,
    /// Bad answers in a row.
    pub failures: u32,
    /// What the last bad one was.
    pub last_failure: Option<String>,
}

/// What a rollback goes back to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastGood {
    /// The deploy whose snapshot runs, or is started again.
    pub deploy: Uuid,
    /// What it is, for people: `web 1.1.0`.
    pub summary: String,
    /// Its workloads are ready and traffic points at them.
    pub serving: bool,
}
