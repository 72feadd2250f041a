//! By Helm, as `docs/install.md` says: with the definitions in the release, or applied beforehand.

use std::path::PathBuf;

use k8s_openapi::api::core::v1::{Pod, Secret};

use crate::{
    ground::{Ground, block, field},
    previous::{Previous, here},
    story::{self, Version, Way},
};

/// The tags of the two images.
const TAGS: [(Version, &str); 2] = [(Version::Previous, "previous"), (Version::This, "this")];

/// A cluster with both images, and a chart of this version that is newer than any release.
pub async fn ground(previous: &Previous) -> Ground {
    let ground = Ground::new("upgrades", &[]).await;
    for (version, tag) in TAGS {
        let binary = if version == Version::This { env!("CARGO_BIN_EXE_stagekeeper") } else { &previous.binary };
        ground.push_operator(tag, binary).await;
    }
    ground.shell(&format!("hack/postgres-image push {}/postgres:15", ground.registry)).await;
    let chart = here().join("charts/stagekeeper");
    ground.shell(&format!("helm package '{}' --version 99.0.0 --app-version 99.0.0", chart.display())).await;
    ground
}

/// The chart of a version.
fn chart(ground: &Ground, source: Option<&Previous>) -> PathBuf {
    source.map_or_else(
        || ground.folder.join("stagekeeper-99.0.0.tgz"),
        |previous| previous.source.join("charts/stagekeeper"),
    )
}

/// The test.
pub async fn upgraded_and_rolled_back(ground: &mut Ground, previous: &Previous, definitions: bool) {
    let mut way = Helm { previous, definitions };
    story::tell(ground, &mut way).await;
    let history = ground.shell("helm history stagekeeper --namespace stagekeeper --output json").await;
    let revisions: serde_json::Value = serde_json::from_str(&history).unwrap();
    assert_eq!(revisions.as_array().unwrap().len(), 3, "{history}");
    clear(ground).await;
}

/// Nothing is left of it, for another way to begin.
async fn clear(ground: &Ground) {
    ground.shell("kubectl delete stages,projects --all --namespace shop --timeout=4m").await;
    ground.shell("helm uninstall stagekeeper --namespace stagekeeper --wait").await;
    ground
        .shell("kubectl delete crd projects.stagekeeper.dev stages.stagekeeper.dev environments.stagekeeper.dev")
        .await;
    ground.shell("kubectl delete namespace shop stagekeeper --timeout=4m").await;
    ground.make_volume().await;
}

struct Helm<'a> {
    previous: &'a Previous,
    definitions: bool,
}

impl Helm<'_> {
    fn set(&self, tag: &str) -> String {
        // Both shapes of an installation.
        let mode = if self.definitions { "split" } else { "all" };
        format!(
            "--set image.tag={tag} --set edge.enabled=false --set mode={mode} --set crds.install={}",
            self.definitions
        )
    }

    /// What an administrator does where the release does not have them.
    async fn define(&self, ground: &Ground, source: &std::path::Path) {
        if !self.definitions {
            ground.shell(&format!("kubectl apply --server-side -f '{}'", source.join("crds").display())).await;
        }
    }
}

impl Way for Helm<'_> {
    fn folder(&self) -> &'static str {
        if self.definitions { "with" } else { "without" }
    }

    async fn install(&mut self, ground: &mut Ground) {
        self.define(ground, &self.previous.source).await;
        ground.chart = chart(ground, Some(self.previous));
        for line in block("Install it", "sh").lines().filter(|line| !line.starts_with("helm test")) {
            ground.run(line, &self.set("previous")).await;
        }
    }

    async fn upgrade(&mut self, ground: &mut Ground) {
        self.define(ground, here()).await;
        ground.chart = chart(ground, None);
        ground.follow("Upgrade it", &self.set("this")).await;
    }

    async fn roll_back(&mut self, ground: &mut Ground) {
        ground.follow("Go back", "").await;
    }

    async fn database(&self, ground: &Ground) -> String {
        let secret = ground.api::<Secret>("stagekeeper").get("stagekeeper-database").await.unwrap();
        let url = String::from_utf8(secret.data.unwrap()["url"].0.clone()).unwrap();
        let pods = ground.api::<Pod>("stagekeeper");
        let address = ground
            .wait("the database is ready", async || {
                let pod = pods.get_opt("stagekeeper-postgres-0").await.unwrap()?;
                let is_ready = field(&pod, "/status/containerStatuses/0/ready") == true;
                field(&pod, "/status/podIP").as_str().filter(|_| is_ready).map(str::to_owned)
            })
            .await;
        url.replace("stagekeeper-postgres:", &format!("{address}:"))
    }

    async fn version(&self, ground: &Ground, holder: &str) -> Version {
        let pods = ground.api::<Pod>("stagekeeper");
        // Whoever led last may be gone with its pod before another one takes its place.
        let Some(pod) = pods.get_opt(holder).await.unwrap() else { return Version::None };
        let image = field(&pod, "/spec/containers/0/image");
        let image = image.as_str().unwrap();
        TAGS.iter().find(|(_, tag)| image.ends_with(&format!(":{tag}"))).unwrap().0
    }
}
