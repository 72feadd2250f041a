//! The shop that these tests deploy, with deadlines short enough to see them pass, and what its status says.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use stagekeeper::{
    api::{StageStatus, conditions},
    domain::deploy::State,
    store::HistoryEntry,
};

use crate::cluster::{DEADLINE, Env};

/// A watched service of which every new tag is found within about a second.
pub const WEB: &str = "
  - name: web
    image: {repository: REGISTRY/IMAGE, policy: {semver: '>=1.0.0'}, interval: 1s, insecure: true}
    ports: [{name: http, port: 8080}]
    env: [{name: APP_DRAIN, value: 0s}]
    health: {http: {path: /healthz}, interval: 500ms, timeout: 10s, failureThreshold: 8}
    resources: {requests: {cpu: 5m, memory: 8Mi}}";

/// A Project of that name with [`WEB`], whose image is REGISTRY/`image`.
pub fn project(name: &str, image: &str) -> String {
    let services = WEB.replace("IMAGE", image);
    format!(
        "---\napiVersion: stagekeeper.dev/v1alpha1\nkind: Project\nmetadata: {{name: {name}}}\nspec:\n  services:{services}\n"
    )
}

/// A Stage of that name. `more` is added to its spec, each line indented by two spaces. No traffic leaves the cluster,
/// and a step that takes longer than it ever should has failed.
pub fn stage(name: &str, project: &str, more: &str) -> String {
    format!(
        "---\napiVersion: stagekeeper.dev/v1alpha1\nkind: Stage\nmetadata: {{name: {name}}}\nspec:\n  project: {project}\n{more}\n"
    )
}

/// Deadlines for deploys that are meant to fail: a pod that is not ready by then never will be.
pub const IMPATIENT: &str = "  timeouts: {start: 15s, health: 30s}";

/// A condition that is true.
pub fn holds<'a>(status: &'a StageStatus, type_: &str) -> Option<&'a Condition> {
    conditions::get(&status.conditions, type_).filter(|condition| condition.status == "True")
}

/// Whether the stage is ready and says that exactly these images serve, such as `web 1.0.0`.
pub fn serves(status: &StageStatus, images: &str) -> bool {
    holds(status, conditions::READY).is_some_and(|ready| ready.message == format!("{images} serves"))
}

/// Reason and message of `Stalled`, if it is.
pub fn stalled(status: &StageStatus) -> Option<(&str, &str)> {
    holds(status, conditions::STALLED).map(|condition| (condition.reason.as_str(), condition.message.as_str()))
}

/// Reason and message of `Reconciling`, if it is.
pub fn reconciling(status: &StageStatus) -> Option<(&str, &str)> {
    holds(status, conditions::RECONCILING).map(|condition| (condition.reason.as_str(), condition.message.as_str()))
}

/// What the latest deploy of a status waits for, in one word; empty for nothing.
pub fn waiting(status: &StageStatus) -> &str {
    let deploy = status.deploy.as_ref();
    deploy.and_then(|deploy| deploy.waiting_reason.as_deref()).unwrap_or_default()
}

/// Images and end of each deploy, oldest first, such as `web 1.0.0 success`.
pub fn ends(deploys: &[HistoryEntry]) -> Vec<String> {
    let end = |entry: &HistoryEntry| format!("{} {}", entry.stored.release.summary(), entry.stored.deploy.state);
    deploys.iter().map(end).collect()
}

/// Whether no deploy of the stage is under way.
pub fn is_at_rest(deploys: &[HistoryEntry]) -> bool {
    deploys.iter().all(|entry| entry.stored.deploy.is_closed() && entry.stored.deploy.state != State::Pending)
}

impl Env {
    /// Writes a file into the data folder of the example application behind a Service, as soon as it takes one.
    pub async fn tell(&self, service: &str, file: &str, word: &'static str) {
        let address = self.address(service).await.expect("the Service");
        self.wait(&format!("{service} takes a file"), DEADLINE, async || {
            let request = self.http.put(format!("http://{address}/data/{file}")).body(word);
            request.send().await.ok().filter(|answer| answer.status().is_success()).map(drop)
        })
        .await;
    }

    /// Waits until a stage is ready with exactly these images, for the spec as it is now.
    pub async fn until_serving(&self, stage: &str, images: &str) -> StageStatus {
        let generation = self.stage(stage).await.metadata.generation.unwrap();
        let what = format!("{images} serves");
        self.until(stage, &what, |status| status.observed_generation >= generation && serves(status, images)).await
    }

    /// Waits until a stage is stalled for this reason, and gives the message.
    pub async fn until_stalled(&self, stage: &str, reason: &str) -> String {
        let generation = self.stage(stage).await.metadata.generation.unwrap();
        let holds = |status: &StageStatus| {
            status.observed_generation >= generation && stalled(status).is_some_and(|(found, _)| found == reason)
        };
        let status = self.until(stage, &format!("Stalled for {reason}"), holds).await;
        stalled(&status).unwrap().1.to_owned()
    }

    /// Waits until a Service answers / with a text that begins so, such as `shop 1.0.0 `: the nodes learn a moment later
    /// than the API server where a Service leads.
    pub async fn until_answer(&self, service: &str, begin: &str) {
        self.until_answer_at(service, "/", begin).await;
    }

    /// The same of another path.
    pub async fn until_answer_at(&self, service: &str, path: &str, begin: &str) {
        self.wait(&format!("{service}{path} answers {begin}"), DEADLINE, async || {
            let answer = self.http_get(service, path).await;
            answer.ok().filter(|(code, body)| *code == 200 && body.starts_with(begin)).map(drop)
        })
        .await;
    }
}
