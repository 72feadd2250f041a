//! The custom resources: spec and status types, conditions and labels.
//!
//! The schema in `crds/` and the reference in `docs/api/` are generated from these types: a doc comment here is a
//! description there. Rules between fields are CEL rules in the schema, so the API server refuses a wrong object
//! with a sentence; what needs another object (an unknown project, an override of an unknown service) is the
//! controllers' to judge.

pub mod access;
pub mod conditions;
mod crd;
pub mod credential;
pub mod duration;
pub mod environment;
pub mod health;
pub mod hooks;
pub mod image;
pub mod kstatus;
pub mod labels;
pub mod preview;
pub mod project;
pub mod promotion;
pub mod route;
mod rules;
pub mod secret;
pub mod service;
pub mod stage;
pub mod status;
pub mod volume;
pub mod webhook;

pub use access::{Access, Role, ServiceAccountRef};
pub use crd::{crds, to_yaml};
pub use credential::{CredentialDeclaration, CredentialType};
pub use duration::Duration;
pub use environment::{
    Environment, EnvironmentHooks, EnvironmentRoute, EnvironmentRouteType, EnvironmentSource, EnvironmentSpec,
    EnvironmentTemplate, GitProvider, Isolation, SecretAccess, SleepWindow,
};
pub use health::{Health, HttpProbe, TcpProbe};
pub use hooks::{Hook, Hooks};
pub use image::{Image, ImageSource, Policy, TagOrder};
pub use preview::{Environments, Feedback, Forks, Previews, Prices, WhenFull};
pub use project::{Project, ProjectSpec};
pub use promotion::{Approvals, Promotion, Require, Window, WindowAction};
pub use route::{ParentRef, Route, RouteType};
pub use secret::{SecretDeclaration, SecretForm, SecretRef};
pub use service::{FreeObject, Port, Scope, Service};
pub use stage::{Queue, Rollback, ServiceOverride, Stage, StageSpec, Strategy, StrategyType, Timeouts};
pub use status::{
    Cost, DeployStatus, EnvironmentStatus, GateStatus, HistoryEntry, HoldStatus, HostStatus, InstanceStatus,
    MAX_HISTORY, MAX_TEXT, ProjectStatus, RequestStatus, ServiceStatus, StageStatus, Veto, WebhookStatus, bounded,
};
pub use volume::{Claim, EmptyDir, Volume, VolumeSource};
pub use webhook::{Webhook, WebhookSource};

/// The API group of every kind.
pub const GROUP: &str = "stagekeeper.dev";
/// The API version of every kind.
pub const VERSION: &str = "v1alpha1";
