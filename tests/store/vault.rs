//! What there is in the safe without values, and how one hears that it changed.

use std::{sync::Arc, time::Duration};

use sqlx::AssertSqlSafe;
use stagekeeper::{
    crypto::Plaintext,
    domain::{
        actor::Actor,
        credential::CredentialKind,
        secret::{SecretId, SecretVersions, number},
        share::Share,
    },
    safe::{Deposit, Owner, Safe, SecretDeposit},
    store::{Class, RegistrySettings, Store, StoreError, VaultChange, VaultChanges},
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::{
    fixture::{Shop, at, id},
    safe::{new, owner, put, safe},
    server::{Server, quick},
};

/// Generous: only a failing test waits so long.
const DEADLINE: Duration = Duration::from_secs(30);

async fn secret(safe: &Safe, owner: &Owner<'_>, id: SecretId, value: &str, origin: &str) {
    let value = Plaintext::from(value.to_owned());
    let deposit = SecretDeposit { id, value: &value, origin: origin.into(), actor: Actor::Controller };
    safe.secrets_put(owner, &[deposit]).await.unwrap();
}

fn settings(host: &str) -> RegistrySettings {
    RegistrySettings {
        host: host.into(),
        insecure: true,
        ca_pem: Some("-----BEGIN CERTIFICATE-----".into()),
        requests_per_second: Some(2.5),
        token_realms: vec!["auth.test:5001".into()],
    }
}

async fn heard(changes: &mut VaultChanges) -> VaultChange {
    let next = tokio::time::timeout(DEADLINE, changes.next()).await;
    next.expect("nothing was heard").unwrap()
}

/// What is heard until a word that is said now.
async fn heard_until_now(shop: &Shop, changes: &mut VaultChanges) -> Vec<VaultChange> {
    let end = id(77);
    shop.run(&format!("SELECT pg_notify('stagekeeper_vault', '{end}')")).await.unwrap();
    let mut all = Vec::new();
    loop {
        match heard(changes).await {
            VaultChange::Project(one) if one == end => return all,
            change => all.push(change),
        }
    }
}

#[tokio::test]
async fn everything_is_read_without_values_in_a_few_statements() {
    let shop = Shop::new().await;
    let safe = safe(&shop, &Arc::default(), &new());
    safe.ready().await.unwrap();
    let ours = owner(&shop);
    let blog = shop.project_upsert(id(9), "beta", "blog").await.unwrap();
    let theirs = Owner { project: blog.id, namespace: "beta", name: "blog" };
    shop.project_upsert(id(8), "acme", "bare").await.unwrap();
    put(&safe, &ours, "quay", "one").await;
    put(&safe, &ours, "ghcr", "one").await;
    put(&safe, &ours, "gone", "one").await;
    secret(&safe, &ours, SecretId::for_service("KEY", "web"), "one", "secret/keys uid/1 version/2").await;
    secret(&safe, &ours, SecretId::for_all("KEY"), "one", "command line").await;
    secret(&safe, &ours, SecretId::for_all("KEY"), "two", "command line").await;
    secret(&safe, &ours, SecretId::for_all("GONE"), "two", "command line").await;
    secret(&safe, &theirs, SecretId::for_all("THEIRS"), "two", "command line").await;
    shop.credential_delete(shop.project, "gone", &Actor::Policy, at(1)).await.unwrap();
    shop.secret_delete(shop.project, &SecretId::for_all("GONE"), &Actor::Policy, at(1)).await.unwrap();

    let all = shop.vault_load(&Share::all()).await.unwrap();
    let names: Vec<&str> = all.iter().map(|project| project.name.as_str()).collect();
    assert_eq!(names, ["bare", "shop", "blog"]);
    assert_eq!((all[0].credentials.len(), all[0].secrets.len()), (0, 0));
    let shops = &all[1];
    assert_eq!((shops.id, shops.namespace.as_str()), (shop.project, "acme"));
    let credentials: Vec<(&str, i64)> =
        shops.credentials.iter().map(|one| (one.name.as_str(), number(one.stamp))).collect();
    assert_eq!(credentials, [("ghcr", 1), ("quay", 1)]);
    let ghcr = &shops.credentials[0];
    assert_eq!(
        (ghcr.kind, &*ghcr.hosts, ghcr.expires_at),
        (CredentialKind::Registry, &["ghcr.io".to_owned()][..], None)
    );
    assert_eq!((ghcr.origin.as_str(), ghcr.updated_by.as_str()), ("command line", "user:jane"));
    let versions = SecretVersions::from([(SecretId::for_all("KEY"), 2), (SecretId::for_service("KEY", "web"), 1)]);
    let numbers: SecretVersions = shops.versions().into_iter().map(|(id, stamp)| (id, number(stamp))).collect();
    assert_eq!(numbers, versions);
    assert_eq!(shops.secrets[1].origin, "secret/keys uid/1 version/2");

    let some = shop.vault_load(&Share::of(Some(vec!["beta".to_owned()]))).await.unwrap();
    assert_eq!(some, all[2..]);
    assert_eq!(shop.vault_load(&Share::of(Some(Vec::new()))).await, Ok(Vec::new()));
    for project in &all {
        assert_eq!(shop.vault_project(project.id).await.unwrap().as_ref(), Some(project));
    }
    shop.project_soft_delete("beta", "blog").await.unwrap();
    assert_eq!(shop.vault_project(blog.id).await, Ok(None));
    assert_eq!(shop.vault_load(&Share::all()).await, Ok(all[..2].to_vec()));
    assert_eq!(shop.vault_project(id(7)).await, Ok(None));
}

#[tokio::test]
async fn changes_are_heard_and_nothing_else_is() {
    let shop = Shop::new().await;
    let safe = safe(&shop, &Arc::default(), &new());
    safe.ready().await.unwrap();
    let ours = owner(&shop);
    let mut changes = shop.vault_changes().await.unwrap();
    let this = vec![VaultChange::Project(shop.project)];
    let registries = vec![VaultChange::Registries];
    let key = || SecretId::for_all("KEY");

    put(&safe, &ours, "ghcr", "one").await;
    assert_eq!(heard_until_now(&shop, &mut changes).await, this, "a credential is made");
    put(&safe, &ours, "ghcr", "one").await;
    assert_eq!(heard_until_now(&shop, &mut changes).await, [], "it is there already");
    put(&safe, &ours, "ghcr", "two").await;
    assert_eq!(heard_until_now(&shop, &mut changes).await, this, "it is written anew");
    let value = Plaintext::from("two".to_owned());
    let elsewhere = Deposit {
        name: "ghcr",
        kind: CredentialKind::Registry,
        value: &value,
        hosts: vec!["ghcr.io".into()],
        origin: "secret/ghcr uid/1 version/2".into(),
        expires_at: None,
        actor: Actor::Controller,
    };
    safe.put(&ours, &elsewhere).await.unwrap();
    assert_eq!(heard_until_now(&shop, &mut changes).await, this, "it comes from elsewhere");
    safe.take(&ours, "ghcr", &Actor::Controller, "test").await.unwrap().unwrap();
    assert_eq!(heard_until_now(&shop, &mut changes).await, [], "it is used");

    secret(&safe, &ours, key(), "one", "command line").await;
    assert_eq!(heard_until_now(&shop, &mut changes).await, this, "a secret is made");
    secret(&safe, &ours, key(), "one", "command line").await;
    assert_eq!(heard_until_now(&shop, &mut changes).await, [], "it is there already");
    secret(&safe, &ours, key(), "two", "command line").await;
    assert_eq!(heard_until_now(&shop, &mut changes).await, this, "it is written anew");
    let held = shop.vault_project(shop.project).await.unwrap().expect("the project").versions();
    let wanted: Vec<_> = held.into_iter().filter(|(id, _)| *id == key()).collect();
    safe.secrets_take(&ours, &wanted, &Actor::Controller, "test").await.unwrap().remove(0).expect("a value");
    assert_eq!(heard_until_now(&shop, &mut changes).await, [], "it is used");
    shop.secret_delete(shop.project, &key(), &Actor::Policy, at(1)).await.unwrap();
    assert_eq!(heard_until_now(&shop, &mut changes).await, this, "it is deleted");
    shop.credential_delete(shop.project, "ghcr", &Actor::Policy, at(1)).await.unwrap();
    assert_eq!(heard_until_now(&shop, &mut changes).await, this, "the credential is");

    shop.registry_put(&settings("r.test"), &Actor::Policy, at(1)).await.unwrap();
    assert_eq!(heard_until_now(&shop, &mut changes).await, registries);
    shop.registry_put(&settings("r.test"), &Actor::Policy, at(1)).await.unwrap();
    assert_eq!(heard_until_now(&shop, &mut changes).await, [], "they are what they were");
    shop.registry_delete("r.test", &Actor::Policy, at(1)).await.unwrap();
    assert_eq!(heard_until_now(&shop, &mut changes).await, registries);
    shop.registry_delete("r.test", &Actor::Policy, at(1)).await.unwrap();
    assert_eq!(heard_until_now(&shop, &mut changes).await, []);

    // A project that goes takes what it has along, and brings it back.
    shop.project_upsert(id(1), "acme", "shop").await.unwrap();
    assert_eq!(heard_until_now(&shop, &mut changes).await, [], "it is there");
    shop.project_soft_delete("acme", "shop").await.unwrap();
    assert_eq!(heard_until_now(&shop, &mut changes).await, this);
    shop.project_upsert(id(1), "acme", "shop").await.unwrap();
    assert_eq!(heard_until_now(&shop, &mut changes).await, this);
    shop.run("DELETE FROM projects").await.unwrap();
    assert_eq!(heard_until_now(&shop, &mut changes).await, this);
}

#[tokio::test]
async fn nothing_is_heard_before_it_is_committed() {
    let shop = Shop::new().await;
    let mut changes = shop.vault_changes().await.unwrap();
    let insert = format!(
        "INSERT INTO secrets (id, project_id, name, version, origin, created_by, updated_by)
         VALUES ('{}', '{}', 'KEY', 1, 'test', 'test', 'test')",
        id(50),
        shop.project
    );
    let mut work = shop.sql.begin().await.unwrap();
    sqlx::query(AssertSqlSafe(insert.clone())).execute(&mut *work).await.unwrap();
    assert_eq!(heard_until_now(&shop, &mut changes).await, []);
    work.commit().await.unwrap();
    assert_eq!(heard(&mut changes).await, VaultChange::Project(shop.project));
    // What is taken back is never heard.
    let mut work = shop.sql.begin().await.unwrap();
    sqlx::query("UPDATE secrets SET version = 2").execute(&mut *work).await.unwrap();
    work.rollback().await.unwrap();
    assert_eq!(heard_until_now(&shop, &mut changes).await, []);
    // A word of a newer version.
    shop.run("SELECT pg_notify('stagekeeper_vault', 'nonsense')").await.unwrap();
    assert_eq!(heard(&mut changes).await, VaultChange::Unheard);
}

#[tokio::test]
async fn a_lost_connection_is_made_anew_and_told() {
    let shop = Shop::new().await;
    let mut changes = shop.vault_changes().await.unwrap();
    assert_eq!(heard_until_now(&shop, &mut changes).await, []);
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE datname = current_database() AND query LIKE 'LISTEN%'";
    for _ in 0..2 {
        assert_eq!(shop.run(kill).await, Ok(1));
        // What happens now is told by nobody.
        shop.registry_put(&settings("r.test"), &Actor::Policy, at(1)).await.unwrap();
        assert_eq!(heard(&mut changes).await, VaultChange::Unheard);
        assert_eq!(heard_until_now(&shop, &mut changes).await, [], "it is said once");
        shop.registry_delete("r.test", &Actor::Policy, at(1)).await.unwrap();
        assert_eq!(heard(&mut changes).await, VaultChange::Registries);
    }
    // Given up while it waits, it goes on.
    for _ in 0..100 {
        assert!(tokio::time::timeout(Duration::ZERO, changes.next()).await.is_err());
    }
    shop.registry_put(&settings("r.test"), &Actor::Policy, at(1)).await.unwrap();
    assert_eq!(heard(&mut changes).await, VaultChange::Registries);
}

#[tokio::test]
async fn a_database_that_is_away_is_an_error_until_it_is_back() {
    let server = Server::start();
    let store = Store::connect_with(&server.url(), &quick()).await.unwrap();
    store.migrate_up().await.unwrap();
    let mut changes = store.vault_changes().await.unwrap();
    server.crash();
    for _ in 0..2 {
        let error: StoreError = changes.next().await.unwrap_err();
        assert_eq!(error.class(), Class::Unavailable, "{error:?}");
        assert!(!format!("{error} {error:?} {changes:?}").contains("hunter2"));
    }
    server.resume();
    let begun = std::time::Instant::now();
    loop {
        match changes.next().await {
            Ok(change) => break assert_eq!(change, VaultChange::Unheard),
            Err(error) => assert!(begun.elapsed() < DEADLINE, "{error}"),
        }
    }
    store.registry_put(&settings("r.test"), &Actor::Policy, at(1)).await.unwrap();
    assert_eq!(heard(&mut changes).await, VaultChange::Registries);
}

/// The listener's connection is its own: a pool of one still has it.
#[tokio::test]
async fn listening_takes_no_connection_from_others() {
    let shop = Shop::new().await;
    let options = stagekeeper::store::ConnectOptions { max: 1, min_idle: 0, ..quick() };
    let narrow = Store::connect_with(&shop.database.url, &options).await.unwrap();
    let mut listeners = Vec::new();
    for _ in 0..3 {
        listeners.push(narrow.vault_changes().await.unwrap());
    }
    narrow.ping().await.unwrap();
    for listener in &mut listeners {
        assert_eq!(heard_until_now(&shop, listener).await, []);
    }
}

/// A connection on which nothing arrives any more looks like one on which nothing happens.
#[tokio::test]
async fn a_connection_that_went_silent_is_found_out() {
    let shop = Shop::new().await;
    let address = shop.database.url.split('@').nth(1).unwrap().split('/').next().unwrap().to_owned();
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = proxy.local_addr().unwrap().port();
    let url = shop.database.url.replace(&address, &format!("127.0.0.1:{port}"));
    let (silence, silenced) = watch::channel(false);
    tokio::spawn(async move {
        loop {
            let (mut near, _) = proxy.accept().await.unwrap();
            let mut far = TcpStream::connect(&address).await.unwrap();
            let mut silenced = silenced.clone();
            tokio::spawn(async move {
                silenced.mark_unchanged();
                tokio::select! {
                    _ = copy_bidirectional(&mut near, &mut far) => {}
                    _ = silenced.changed() => {
                        // Both ends stay open, and nobody hears anything.
                        std::future::pending::<()>().await;
                    }
                }
            });
        }
    });
    let options = stagekeeper::store::ConnectOptions { acquire: Duration::from_secs(2), ..quick() };
    let store = Store::connect_with(&url, &options).await.unwrap();
    let mut changes = store.vault_changes_after(Duration::from_millis(1)).await.unwrap();
    // Silence alone is no reason, nor is being given up in the middle of asking.
    for number in 0..300 {
        let waited = tokio::time::timeout(Duration::from_millis(number % 4), changes.next()).await;
        assert!(waited.is_err(), "{waited:?}");
    }
    shop.registry_delete("none.test", &Actor::Policy, at(1)).await.unwrap();
    shop.registry_put(&settings("s.test"), &Actor::Policy, at(1)).await.unwrap();
    assert_eq!(heard_until_now(&shop, &mut changes).await, [VaultChange::Registries]);
    silence.send(true).unwrap();
    assert_eq!(heard(&mut changes).await, VaultChange::Unheard);
    shop.registry_put(&settings("r.test"), &Actor::Policy, at(1)).await.unwrap();
    assert_eq!(heard(&mut changes).await, VaultChange::Registries);
}

#[tokio::test]
async fn registries_are_kept_and_audited() {
    let shop = Shop::new().await;
    assert_eq!(shop.registries_list().await, Ok(Vec::new()));
    assert_eq!(shop.registry_put(&settings("r.test:5000"), &Actor::User("jane".into()), at(1)).await, Ok(true));
    assert_eq!(shop.registry_put(&settings("r.test:5000"), &Actor::Policy, at(2)).await, Ok(false));
    let plain = RegistrySettings {
        host: "a.test".into(),
        insecure: false,
        ca_pem: None,
        requests_per_second: None,
        token_realms: Vec::new(),
    };
    assert_eq!(shop.registry_put(&plain, &Actor::Policy, at(3)).await, Ok(true));
    let listed = shop.registries_list().await.unwrap();
    let [first, second] = &listed[..] else { panic!("{listed:?}") };
    assert_eq!((&first.settings, &second.settings), (&plain, &settings("r.test:5000")));
    assert_eq!(second.updated_by, "user:jane");
    let faster = RegistrySettings { requests_per_second: Some(9.0), ..settings("r.test:5000") };
    assert_eq!(shop.registry_put(&faster, &Actor::Policy, at(4)).await, Ok(true));
    assert_eq!(shop.registries_list().await.unwrap()[1].settings, faster);
    assert_eq!(shop.registry_delete("r.test:5000", &Actor::Policy, at(5)).await, Ok(true));
    assert_eq!(shop.registry_delete("r.test:5000", &Actor::Policy, at(6)).await, Ok(false));
    let told = shop.audit_list("registry/r.test:5000", None, 10).await.unwrap();
    let told: Vec<&str> = told.iter().map(|entry| entry.entry.action.as_str()).collect();
    assert_eq!(told, ["registry.delete", "registry.put", "registry.put"]);
}
