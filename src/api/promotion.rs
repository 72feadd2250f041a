//! How releases come to a Stage from other stages.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::Duration;
use super::rules;

/// Releases come from other stages of the project: what moves is the digests that ran there, never a tag.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Promotion {
    /// Stages of the same project that a release must have served on.
    #[schemars(length(min = 1, max = 8), inner(length(min = 1, max = 40)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(name, name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$'))")
            .message("from must be names of stages of the same project, such as staging")
    )]
    pub from: Vec<String>,
    /// Whether a release needs all of the stages in `from`, or any one of them.
    #[serde(default)]
    pub require: Require,
    /// Promote by itself what the stages in `from` have proven, the newest first. Otherwise somebody asks for it:
    /// `stagekeeper promote`.
    #[serde(default)]
    pub auto: bool,
    /// How long a release must have served on the stages in `from`, in sum.
    #[serde(default)]
    #[x_kube(validation = rules::duration("0s", "2160h"))]
    pub soak: Duration,
    /// People who must agree. An approval is for one release, by its digests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approvals: Option<Approvals>,
    /// When deploys may begin. A deny window that is open always wins; without any allow window, whatever is not denied
    /// is allowed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub windows: Vec<Window>,
}

/// Whether a release needs all of several stages, or any one of them.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum Require {
    /// Every stage in `from`.
    #[default]
    All,
    /// One of them is enough.
    Any,
}

/// People who must agree before a release is deployed.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Approvals {
    /// How many different people.
    #[schemars(range(min = 1, max = 20))]
    pub required: u8,
    /// Only members of one of these groups count. Left out, whoever may approve on this stage.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub groups: Vec<String>,
    /// How long an approval counts.
    #[serde(default = "default_expires")]
    #[x_kube(validation = rules::duration("1m", "8760h"))]
    pub expires: Duration,
    /// Whether who asked for the promotion may also approve it.
    #[serde(default)]
    pub allow_requester: bool,
}

/// A span of time that comes again and again. Exactly one of `schedule` and `recurrence` says when it begins.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.schedule) != has(self.recurrence)")
        .message("a window needs exactly one of schedule (cron) and recurrence (RFC 5545)")
)]
pub struct Window {
    /// What it is called where people read of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rules::name("name"))]
    pub name: Option<String>,
    /// Whether deploys may begin while it is open, or may not.
    pub action: WindowAction,
    /// When it begins, as five fields of cron: minute, hour, day of month, month, day of week, such as
    /// `0 9 * * MON-FRI`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 9, max = 256))]
    pub schedule: Option<String>,
    /// When it begins, as a recurrence rule of RFC 5545, such as `FREQ=WEEKLY;BYDAY=MO,TU;BYHOUR=9`, where needed after a
    /// line such as `DTSTART:20260105T090000`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub recurrence: Option<String>,
    /// The time zone that it begins by: a name of the IANA database, such as `Europe/Berlin`.
    #[serde(default = "default_time_zone")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: String,
    /// How long it stays open.
    #[x_kube(validation = rules::duration("1m", "744h"))]
    pub duration: Duration,
}

/// What a window does while it is open.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum WindowAction {
    /// Deploys may begin.
    Allow,
    /// No deploy begins.
    Deny,
}

fn default_expires() -> Duration {
    Duration::from_mins(72 * 60)
}

pub(super) fn default_time_zone() -> String {
    "UTC".to_owned()
}
