//! What pods begin with. `stagekeeper migrate up --wait`: the database may come later. `stagekeeper setup`: what is there is left, what is missing is made once, and no key is made for a database that needs another.

use std::{
    env,
    process::{Command, Output, Stdio},
};

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

use tokio::io::{AsyncBufReadExt as _, BufReader};

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
    for secret in [keyring.trim(), password.as_str()] {
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

/// A relay to the database's server that is not there from the beginning.
async fn relay(listener: tokio::net::TcpListener, server: String) {
    while let Ok((mut from, _)) = listener.accept().await {
        let server = server.clone();
        tokio::spawn(async move {
            let mut to = tokio::net::TcpStream::connect(server).await.unwrap();
            // Either side may break off.
            let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
        });
    }
}

#[tokio::test]
async fn migrations_wait_for_a_database_that_comes_later() {
    let database = TestDatabase::new().await;
    let server = database.url.split('@').next_back().unwrap().split('/').next().unwrap().to_owned();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let migrate = |url: &str| {
        tokio::process::Command::new(env!("CARGO_BIN_EXE_stagekeeper"))
            .args(["migrate", "up", "--wait", "600"])
            .env("DATABASE_URL", url)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    };
    let url = database.url.replace(&server, &address.to_string());

    // It says that it waits, and ends well once there is somebody.
    let mut waiting = migrate(&url);
    let mut lines = BufReader::new(waiting.stderr.take().unwrap()).lines();
    let line = lines.next_line().await.unwrap().unwrap();
    assert!(line.starts_with("waiting: ") && line.contains(&address.port().to_string()), "{line}");
    tokio::spawn(relay(tokio::net::TcpListener::bind(address).await.unwrap(), server));
    let done = waiting.wait_with_output().await.unwrap();
    assert!(done.status.success(), "{}", said(&done));
    assert!(said(&done).contains("nothing to do"), "{}", said(&done));

    // Who is told to stop does not wait, not even as the first process of a container.
    let mut waiting = migrate("postgres://nobody@127.0.0.1:1/nothing");
    let mut lines = BufReader::new(waiting.stderr.take().unwrap()).lines();
    assert!(lines.next_line().await.unwrap().unwrap().starts_with("waiting: "));
    let told = Command::new("kill").args(["-s", "TERM", &waiting.id().unwrap().to_string()]).status().unwrap();
    assert!(told.success());
    assert_eq!(waiting.wait().await.unwrap().code(), Some(3));
}
