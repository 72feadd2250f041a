//! `stagekeeper setup`: what is there is left, what is missing is made once, and no key is made for a database that needs another.

use std::{env, process::Output};

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{
    Api, Client, Config, ResourceExt as _,
    api::{DeleteParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::json;
use stagekeeper::{
    crypto::Keyring,
    domain::clock::{SystemClock, SystemIds},
    safe::Safe,
};

use super::postgres::TestDatabase;

struct Place {
    namespace: String,
    kubeconfig: String,
    secrets: Api<Secret>,
    namespaces: Api<Namespace>,
}

impl Place {
    async fn new(name: &str) -> Self {
        let kubeconfig = env::var("STAGEKEEPER_TEST_KUBECONFIG").expect(
            "STAGEKEEPER_TEST_KUBECONFIG is not set: this test needs an API server, `make test` starts one and sets it",
        );
        let read = Kubeconfig::read_from(&kubeconfig).unwrap();
        let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await.unwrap();
        let client = Client::try_from(config).unwrap();
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let namespace = format!("setup-{name}-{}", std::process::id());
        let object = serde_json::from_value(json!({"metadata": {"name": namespace}})).unwrap();
        namespaces.create(&PostParams::default(), &object).await.unwrap();
        Self { secrets: Api::namespaced(client, &namespace), namespace, kubeconfig, namespaces }
    }

    async fn setup(&self, database: Option<&str>, arguments: &[&str]) -> Output {
        tokio::process::Command::new(env!("CARGO_BIN_EXE_stagekeeper"))
            .arg("setup")
            .args(arguments)
            .args(["--namespace", &self.namespace, "--kubeconfig", &self.kubeconfig])
            .env("DATABASE_URL", database.unwrap_or_default())
            .output()
            .await
            .unwrap()
    }

    async fn value(&self, secret: &str, key: &str) -> String {
        let secret = self.secrets.get(secret).await.unwrap();
        String::from_utf8(secret.data.unwrap()[key].0.clone()).unwrap()
    }

    async fn remove(self) {
        self.namespaces.delete(&self.namespace, &DeleteParams::default()).await.unwrap();
    }
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test]
async fn secrets_are_made_once() {
    let place = Place::new("once").await;
    let both = ["--keys-secret", "keys", "--database-secret", "database", "--database-host", "db.example.com:5433"];
    let done = place.setup(None, &both).await;
    assert!(done.status.success(), "{}", said(&done));
    let keyring = place.value("keys", "keys").await;
    let parsed = Keyring::parse(&keyring).unwrap();
    assert_eq!(parsed.ids().count(), 1);
    let password = place.value("database", "password").await;
    assert_eq!(password.len(), 48);
    let url = place.value("database", "url").await;
    assert_eq!(url, format!("postgres://stagekeeper:{password}@db.example.com:5433/stagekeeper"));
    let before = place.secrets.get("keys").await.unwrap();
    for secret in [&keyring.trim()[..], &password] {
        assert!(!said(&done).contains(secret), "a secret is told");
    }

    let again = place.setup(None, &both).await;
    assert!(again.status.success(), "{}", said(&again));
    assert_eq!(said(&again).matches("is left as it is").count(), 2, "{}", said(&again));
    let after = place.secrets.get("keys").await.unwrap();
    assert_eq!((before.uid(), before.resource_version()), (after.uid(), after.resource_version()));
    place.remove().await;
}

#[tokio::test]
async fn no_key_is_made_for_a_database_that_needs_another() {
    let place = Place::new("other").await;
    let database = TestDatabase::new().await;
    let keys = ["--keys-secret", "keys"];

    // A database in which nothing is sealed needs none.
    let done = place.setup(Some(&database.url), &keys).await;
    assert!(done.status.success(), "{}", said(&done));
    let keyring = Keyring::parse(&place.value("keys", "keys").await).unwrap();
    let id = keyring.ids().next().unwrap().to_string();
    place.secrets.delete("keys", &DeleteParams::default()).await.unwrap();

    let safe = Safe::new(
        database.store.clone(),
        keyring.into(),
        std::sync::Arc::new(SystemClock),
        std::sync::Arc::new(SystemIds),
    );
    safe.ready().await.unwrap();
    let refused = place.setup(Some(&database.url), &keys).await;
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert!(said(&refused).contains("restore the Secret keys") && said(&refused).contains(&id), "{}", said(&refused));
    assert!(place.secrets.get_opt("keys").await.unwrap().is_none());

    // Nobody knows what is in a database that does not answer.
    let away = place.setup(Some("postgres://nobody@127.0.0.1:1/nothing"), &keys).await;
    assert_eq!(away.status.code(), Some(3), "{}", said(&away));
    assert!(place.secrets.get_opt("keys").await.unwrap().is_none());
    place.remove().await;
}
