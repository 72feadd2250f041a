//! Status of our kinds: a bounded projection of what the database knows.
//!
//! The schema of a status asks for next to nothing (no required fields but the keys of lists, no fixed words), so that
//! a status of a newer operator can be written, and read by an older one. Only conditions are as strict as in
//! Kubernetes itself.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// The longest text that a status field holds, in bytes.
pub const MAX_TEXT: usize = 1024;

/// How many finished deploys `history` shows.
pub const MAX_HISTORY: usize = 5;

/// `text` as a status field may hold it: cut at [`MAX_TEXT`] bytes, never inside a character, with `…` at the end
/// if something is missing.
pub fn bounded(text: impl Into<String>) -> String {
    const ELLIPSIS: &str = "…";
    let mut text = text.into();
    if text.len() > MAX_TEXT {
        text.truncate(text.floor_char_boundary(MAX_TEXT - ELLIPSIS.len()));
        text.push_str(ELLIPSIS);
    }
    text
}

/// What is known of a project.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ProjectStatus {
    /// The generation of the spec that this status speaks of; −1 until the operator has seen the object.
    #[serde(default = "unobserved")]
    pub observed_generation: i64,
    /// `Ready`, `Reconciling` and `Stalled`, by the rules of kstatus.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The newest image of each service.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub services: Vec<ServiceStatus>,
    /// Where each webhook is to be sent. Who knows the path of one that needs no credentials may send it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub webhooks: Vec<WebhookStatus>,
}

/// Where a webhook is to be sent.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct WebhookStatus {
    /// Name of the webhook.
    pub name: String,
    /// Who sends it.
    #[serde(default)]
    pub source: String,
    /// The path on the operator's port. `stagekeeper webhook rotate` makes another one.
    #[serde(default)]
    pub path: String,
    /// The whole address, if the operator knows its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Until when the path before this one is still good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_path_until: Option<Time>,
}

/// The newest image of a service, as its policy sees it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus {
    /// Name of the service.
    pub name: String,
    /// The repository.
    #[serde(default)]
    pub image: String,
    /// The tag that the policy chose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_tag: Option<String>,
    /// The digest that the tag points to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// When this result was first seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scanned_at: Option<Time>,
}

/// What is known of a stage.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct StageStatus {
    /// The generation of the spec that this status speaks of; −1 until the operator has seen the object.
    #[serde(default = "unobserved")]
    pub observed_generation: i64,
    /// `Ready`, `Reconciling` and `Stalled`, by the rules of kstatus.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Content hash of the release that has the stage's traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// The images of that release in short, such as `web:1.4.2, db:16`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<String>,
    /// Where the stage is served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Name of the instance that has the stage's traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<String>,
    /// The latest deploy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deploy: Option<DeployStatus>,
    /// The instances that exist.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub instances: Vec<InstanceStatus>,
    /// The last five finished deploys, newest first. The whole history is in the database.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub history: Vec<HistoryEntry>,
    /// Releases that failed here and are not deployed again unless somebody asks for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["release".into()]))]
    pub vetoed: Vec<Veto>,
    /// What stands between the latest deploy and its start, gate by gate, while it waits for one of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub gates: Vec<GateStatus>,
    /// What keeps policies away from the stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<HoldStatus>,
    /// The request in the annotation `stagekeeper.dev/request` that was last taken up, and what became of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_request: Option<RequestStatus>,
    /// The value of the annotation `stagekeeper.dev/retry` that was last acted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_retry: Option<String>,
}

/// What is known of an environment: what is known of a stage, and where it is in its life.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentStatus {
    /// What is known of it as of any place where deploys go to.
    #[serde(flatten)]
    pub stage: StageStatus,
    /// `Pending`, `Queued`, `Deploying`, `Ready`, `Asleep`, `Failed` or `Ending`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// The first part of its hosts: stable as long as it lives, and never used again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subdomain: Option<String>,
    /// The namespace that its objects are in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The host of each service that has one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["service".into()]))]
    pub hosts: Vec<HostStatus>,
    /// Whether its pods run, or are to.
    #[serde(default)]
    pub awake: bool,
    /// When it ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// Why it ends then, in a few words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_because: Option<String>,
    /// When somebody last looked at it, to within some minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_activity: Option<Time>,
    /// Its place among those that wait for others to sleep or end; 1 is next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_position: Option<i64>,
    /// What it is reckoned to cost by what its pods ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
}

/// The host of a service.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HostStatus {
    /// Name of the service.
    pub service: String,
    /// Its host.
    #[serde(default)]
    pub host: String,
}

/// What an environment is reckoned to cost.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Cost {
    /// While it is awake, in an hour, as a decimal number.
    #[serde(default)]
    pub per_hour: String,
    /// The currency.
    #[serde(default)]
    pub currency: String,
}

/// The latest deploy of a stage.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DeployStatus {
    /// Its id, for `stagekeeper get deploy`.
    #[serde(default)]
    pub id: String,
    /// `Pending`, `Pulling`, `Starting`, `ConfiguringProxy`, `HealthChecking`, `Success`, `Failed`, `RolledBack`,
    /// `Superseded` or `Aborted`.
    #[serde(default)]
    pub state: String,
    /// When it came into this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// Content hash of the release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// What kind of thing it waits for, in one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_reason: Option<String>,
    /// What exactly it waits for, such as another deploy's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocker: Option<String>,
    /// Who caused it, such as `policy` or `user:ada`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// The latest news in one sentence; for a failure, why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// A running copy of a release.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct InstanceStatus {
    /// Name of the instance, part of the names of its workloads.
    pub name: String,
    /// `running`, `stopped`, `failed` or `removing`.
    #[serde(default)]
    pub status: String,
    /// Content hash of its release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// Id of the deploy that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deploy: Option<String>,
    /// Where it is served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Whether it has the stage's traffic.
    #[serde(default)]
    pub active: bool,
}

/// A finished deploy.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HistoryEntry {
    /// Id of the deploy.
    #[serde(default)]
    pub id: String,
    /// `Success`, `Failed`, `RolledBack`, `Superseded` or `Aborted`.
    #[serde(default)]
    pub state: String,
    /// Content hash of the release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// The images in short, such as `web 1.4.2, db 16`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<String>,
    /// When it finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// Who caused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// Why it ended as it did, in one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A release that failed here.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Veto {
    /// Content hash of the release.
    pub release: String,
    /// Id of the deploy that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deploy: Option<String>,
    /// Why it failed, in one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A request that an annotation asked for.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RequestStatus {
    /// The value of `stagekeeper.dev/request-nonce`.
    #[serde(default)]
    pub nonce: String,
    /// `Pending`, `Done` or `Refused`.
    #[serde(default)]
    pub state: String,
    /// What became of it, in one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// What one gate says of the latest deploy.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct GateStatus {
    /// `suspended`, `hold`, `veto`, `upstream`, `soak`, `approvals`, `window`, `group` or `queue`.
    pub name: String,
    /// `Pass`, `Wait`, `Needs` or `Refuse`.
    #[serde(default)]
    pub verdict: String,
    /// When it opens by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    /// Why, in one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What would open it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opens: Option<String>,
}

/// What keeps policies away from a stage.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HoldStatus {
    /// Whose hold it is.
    #[serde(default)]
    pub owner: String,
    /// Who asked for it, such as `user:ada`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// Why, in one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// Until when. Left out, until somebody resumes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
}

impl Default for ProjectStatus {
    fn default() -> Self {
        Self { observed_generation: unobserved(), conditions: Vec::new(), services: Vec::new(), webhooks: Vec::new() }
    }
}

impl Default for StageStatus {
    fn default() -> Self {
        Self {
            observed_generation: unobserved(),
            conditions: Vec::new(),
            release: None,
            images: None,
            url: None,
            active: None,
            deploy: None,
            instances: Vec::new(),
            history: Vec::new(),
            vetoed: Vec::new(),
            gates: Vec::new(),
            hold: None,
            last_request: None,
            last_handled_retry: None,
        }
    }
}

fn unobserved() -> i64 {
    -1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(bounded("short"), "short");
        let exact = "x".repeat(MAX_TEXT);
        assert_eq!(bounded(exact.clone()), exact);
        for text in ["x".repeat(MAX_TEXT + 1), "é".repeat(MAX_TEXT), "日".repeat(MAX_TEXT), "🦀".repeat(MAX_TEXT)] {
            let cut = bounded(text.clone());
            assert!(cut.len() <= MAX_TEXT && cut.len() > MAX_TEXT - 8, "{} bytes", cut.len());
            let kept = cut.strip_suffix('…').expect("says that something is missing");
            assert!(text.starts_with(kept));
        }
    }

    #[test]
    fn a_status_of_another_version_can_be_read() {
        let status: StageStatus = serde_json::from_value(serde_json::json!({
            "conditions": [],
            "deploy": {"state": "Baking", "phase": "new"},
            "instances": [{"name": "a1", "status": "sleeping"}],
        }))
        .unwrap();
        assert_eq!(status.observed_generation, -1);
        assert_eq!(status.deploy.unwrap().state, "Baking");
    }
}
