//! What is disturbed: each workload has a beginning, which nobody disturbs, and a run.

use crate::{credentials, environments, layers::Layer, pulls, scene::Scene, stages};

/// A workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Workload {
    /// The first release of a stage, from the first start of the first operator on.
    FirstDeploy,
    /// A webhook tells of a new image, which is deployed.
    NewImage,
    /// The same, and its containers crash: back to what ran before.
    FailingImage,
    /// Somebody asks to go back.
    Rollback,
    /// A release is asked for in the next stage, and comes when somebody else agrees.
    Promotion,
    /// Another password of a registry and another value of a secret.
    Rotation,
    /// A stage is deleted.
    StageDelete,
    /// An environment is made.
    EnvironmentCreate,
    /// It is put to sleep.
    EnvironmentSleep,
    /// A visitor wakes it.
    EnvironmentWake,
    /// It is asked to end, with a last Job.
    EnvironmentDelete,
    /// A pull request is opened, its image is pushed, and the provider is told.
    PullOpened,
    /// It is closed.
    PullClosed,
    /// An environment with a namespace to itself, from its beginning to its end.
    Namespace,
}

impl Workload {
    /// Whether the sample is taken from it: from those of stages. Those of environments take longer, and a cluster more.
    pub fn is_sampled(self) -> bool {
        use Workload::{FailingImage, FirstDeploy, NewImage, Promotion, Rollback, Rotation, StageDelete};
        matches!(self, FirstDeploy | NewImage | FailingImage | Rollback | Promotion | Rotation | StageDelete)
    }

    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::FirstDeploy,
        Self::NewImage,
        Self::FailingImage,
        Self::Rollback,
        Self::Promotion,
        Self::Rotation,
        Self::StageDelete,
        Self::EnvironmentCreate,
        Self::EnvironmentSleep,
        Self::EnvironmentWake,
        Self::EnvironmentDelete,
        Self::PullOpened,
        Self::PullClosed,
        Self::Namespace,
    ];

    /// Its word in names of plans.
    pub const fn word(self) -> &'static str {
        match self {
            Self::FirstDeploy => "first-deploy",
            Self::NewImage => "new-image",
            Self::FailingImage => "failing-image",
            Self::Rollback => "rollback",
            Self::Promotion => "promotion",
            Self::Rotation => "rotation",
            Self::StageDelete => "stage-delete",
            Self::EnvironmentCreate => "environment-create",
            Self::EnvironmentSleep => "environment-sleep",
            Self::EnvironmentWake => "environment-wake",
            Self::EnvironmentDelete => "environment-delete",
            Self::PullOpened => "pull-opened",
            Self::PullClosed => "pull-closed",
            Self::Namespace => "namespace",
        }
    }

    /// Whether its operator sees the whole cluster, so that there is one of it at a time.
    pub const fn is_whole(self) -> bool {
        matches!(self, Self::Namespace)
    }

    /// Where it is disturbed. With a namespace of its own, an environment writes the same to the database as without.
    pub const fn layers(self) -> &'static [Layer] {
        match self {
            Self::Namespace => &[Layer::Cluster],
            _ => &Layer::ALL,
        }
    }

    /// The beginning. Where it starts no operator, the run does.
    pub async fn prepare(self, scene: &Scene) {
        match self {
            Self::FirstDeploy => stages::before_the_first(scene).await,
            Self::NewImage | Self::FailingImage | Self::StageDelete => stages::serving(scene).await,
            Self::Rollback => stages::second_serving(scene).await,
            Self::Promotion => stages::proven(scene).await,
            Self::Rotation => credentials::in_use(scene).await,
            Self::EnvironmentCreate | Self::Namespace => environments::announced(scene).await,
            Self::EnvironmentSleep | Self::EnvironmentDelete => environments::awake(scene).await,
            Self::EnvironmentWake => environments::asleep(scene).await,
            Self::PullOpened => pulls::watched(scene).await,
            Self::PullClosed => pulls::previewed(scene).await,
        }
    }

    /// The run, to its end.
    pub async fn run(self, scene: &Scene) {
        match self {
            Self::FirstDeploy => stages::first(scene).await,
            Self::NewImage => stages::new_image(scene).await,
            Self::FailingImage => stages::failing_image(scene).await,
            Self::Rollback => stages::rollback(scene).await,
            Self::Promotion => stages::promotion(scene).await,
            Self::Rotation => credentials::rotation(scene).await,
            Self::StageDelete => stages::delete(scene).await,
            Self::EnvironmentCreate => environments::create(scene).await,
            Self::EnvironmentSleep => environments::sleep(scene).await,
            Self::EnvironmentWake => environments::wake(scene).await,
            Self::EnvironmentDelete => environments::delete(scene).await,
            Self::PullOpened => pulls::open(scene).await,
            Self::PullClosed => pulls::close(scene).await,
            Self::Namespace => environments::whole_life(scene).await,
        }
    }
}
