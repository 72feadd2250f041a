//! YAML in the pages: whole objects, or parts of one whose first line says where they belong.
//!
//! ```text
//! # in a Stage's spec
//! # in an Environment's spec
//! # in a Project's spec
//! # in a service of a Project
//! ```

use k8s_openapi::serde::de::DeserializeOwned;
use kube::{
    Api, Client,
    api::{DynamicObject, PostParams},
    core::GroupVersionKind,
    discovery::oneshot::pinned_kind,
};
use serde_json::{Value, json};
use stagekeeper::api::{Environment, GROUP, Project, Stage};

use super::{markdown, server};

/// One object.
pub struct Example {
    place: String,
    object: Value,
}

/// The examples of every page, and of the repository for `GitOps`.
pub fn all() -> Vec<Example> {
    let mut found = Vec::new();
    for page in markdown::pages() {
        for block in page.blocks().into_iter().filter(|block| block.info == "yaml") {
            let place = format!("{}:{}", page.name, block.line);
            for document in serde_yaml::Deserializer::from_str(&block.text) {
                let read: Value =
                    serde::Deserialize::deserialize(document).unwrap_or_else(|error| panic!("{place}: {error}"));
                let object = whole(&block.text, read).unwrap_or_else(|| {
                    panic!("{place}: neither an object, nor a first line that says what it is a part of")
                });
                found.push(Example { place: place.clone(), object });
            }
        }
    }
    let shop = markdown::root().join("docs/gitops/shop");
    for folder in
        std::fs::read_dir(&shop).expect("the repository for GitOps").map(|entry| entry.expect("a folder").path())
    {
        for file in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("a file").path()) {
            let place = file.display().to_string();
            let text = std::fs::read_to_string(&file).expect("a text");
            let object = serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{place}: {error}"));
            found.push(Example { place, object });
        }
    }
    found
}

/// The object that a part belongs to.
fn whole(text: &str, read: Value) -> Option<Value> {
    let object = |kind: &str, spec: Value| json!({"apiVersion": format!("{GROUP}/v1alpha1"), "kind": kind, "metadata": {"name": "shop"}, "spec": spec});
    let over = |mut base: Value, read: Value| {
        base.as_object_mut().unwrap().extend(read.as_object().expect("fields").clone());
        base
    };
    match text.lines().next()? {
        _ if read.get("apiVersion").is_some() => Some(read),
        "# in a Stage's spec" => Some(object("Stage", over(json!({"project": "shop"}), read))),
        "# in an Environment's spec" => Some(object("Environment", over(json!({"project": "shop"}), read))),
        "# in a Project's spec" => {
            let services = json!([{"name": "web", "image": {"repository": "ghcr.io/acme/shop", "tag": "1.4.2"}}]);
            Some(object("Project", over(json!({"services": services}), read)))
        }
        "# in a service of a Project" => {
            let web = json!({
                "name": "web",
                "image": {"repository": "ghcr.io/acme/shop", "tag": "1.4.2"},
                "ports": [{"name": "http", "port": 8080}],
            });
            Some(object(
                "Project",
                json!({"services": [over(web, read), {"name": "db", "image": {"repository": "postgres", "tag": "18"}}]}),
            ))
        }
        _ => None,
    }
}

impl Example {
    /// Reads it as what it says it is.
    pub fn parse(&self) {
        match (self.object["apiVersion"].as_str(), self.object["kind"].as_str()) {
            (Some("stagekeeper.dev/v1alpha1"), Some("Project")) => self.parse_as::<Project>(),
            (Some("stagekeeper.dev/v1alpha1"), Some("Stage")) => self.parse_as::<Stage>(),
            (Some("stagekeeper.dev/v1alpha1"), Some("Environment")) => self.parse_as::<Environment>(),
            (Some(version), Some(kind)) => {
                assert!(!version.starts_with(GROUP), "{}: there is no {kind} in {version}", self.place);
            }
            _ => panic!("{}: apiVersion and kind are missing", self.place),
        }
    }

    fn parse_as<K: DeserializeOwned>(&self) {
        if let Err(error) = serde_json::from_value::<K>(self.object.clone()) {
            panic!("{}: {error}", self.place);
        }
    }

    /// What the API server has against it.
    pub async fn refused(&self, client: &Client) -> Option<(String, Vec<String>)> {
        let mut object: DynamicObject = serde_json::from_value(self.object.clone()).unwrap();
        object.metadata.namespace = None;
        let types = object.types.clone().unwrap();
        let answer = if types.api_version.starts_with(GROUP) {
            server::dry_run(client, "default", &object).await
        } else {
            let gvk = GroupVersionKind::try_from(&types).unwrap();
            let (resource, _) = pinned_kind(client, &gvk).await.unwrap_or_else(|e| panic!("{}: {e}", self.place));
            let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), "default", &resource);
            api.create(&PostParams { dry_run: true, ..PostParams::default() }, &object).await
        };
        answer.err().map(|error| (self.place.clone(), server::causes(&error)))
    }
}
