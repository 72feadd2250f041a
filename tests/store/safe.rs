//! The safe on a real database: what goes in comes out, in its own place only, whatever becomes of keys and rows.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use jiff::Timestamp;
use stagekeeper::{
    crypto::{Keyring, OpenError, Part, Plaintext, WrapError},
    domain::{
        actor::Actor,
        clock::{Clock, Ids},
        credential::CredentialKind,
    },
    safe::{Deposit, Kept, Owner, Rotated, Safe, SafeError},
    store::{CredentialSlot, Retirement, SealedTable, StoreError},
};
use uuid::Uuid;

use crate::fixture::{Shop, at, id};

pub(crate) const CANARY: &str = "hunter2-canary";

pub(crate) fn old() -> String {
    format!("2025:{}", "0b".repeat(32))
}

pub(crate) fn new() -> String {
    format!("2026:{}", "1c".repeat(32))
}

struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        at(100)
    }
}

/// Identities in the order in which they are asked for.
#[derive(Default)]
pub(crate) struct Counting(AtomicU32);

impl Ids for Counting {
    fn next(&self) -> Uuid {
        id(5_000 + self.0.fetch_add(1, Ordering::Relaxed))
    }
}

pub(crate) fn safe(shop: &Shop, ids: &Arc<Counting>, keys: &str) -> Safe {
    let keyring = Keyring::parse(keys).unwrap_or_else(|error| panic!("{error}"));
    Safe::new(shop.database.store.clone(), Arc::new(keyring), Arc::new(Still), ids.clone())
}

pub(crate) fn owner(shop: &Shop) -> Owner<'static> {
    Owner { project: shop.project, namespace: "acme", name: "shop" }
}

fn deposit<'a>(name: &'a str, value: &'a Plaintext) -> Deposit<'a> {
    Deposit {
        name,
        kind: CredentialKind::Registry,
        value,
        hosts: vec!["ghcr.io".into()],
        origin: "command line".into(),
        expires_at: None,
        actor: Actor::User("jane".into()),
    }
}

pub(crate) async fn put(safe: &Safe, owner: &Owner<'_>, name: &str, value: &str) -> Kept {
    let value = Plaintext::from(value.to_owned());
    safe.put(owner, &deposit(name, &value)).await.unwrap()
}

pub(crate) async fn take(safe: &Safe, owner: &Owner<'_>, name: &str) -> Result<Option<String>, SafeError> {
    let taken = safe.take(owner, name, &Actor::Controller, "test").await?;
    Ok(taken.map(|value| value.expose_text().unwrap().to_owned()))
}

fn unopened(name: &str, error: OpenError) -> SafeError {
    SafeError::Open { what: "credential", name: name.to_owned(), error }
}

/// Every row of every table of the schema, as text.
pub(crate) async fn dump(shop: &Shop) -> Vec<String> {
    let tables: Vec<String> =
        sqlx::query_scalar("SELECT tablename::text FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
            .fetch_all(&shop.sql)
            .await
            .unwrap();
    shop.rows(tables).await
}

#[tokio::test]
async fn what_goes_in_comes_out_and_is_remembered_without_its_value() {
    let shop = Shop::new().await;
    let safe = safe(&shop, &Arc::default(), &new());
    safe.ready().await.unwrap();
    assert_eq!(take(&safe, &owner(&shop), "ghcr").await, Ok(None));
    put(&safe, &owner(&shop), "ghcr", CANARY).await;
    assert_eq!(take(&safe, &owner(&shop), "ghcr").await, Ok(Some(CANARY.into())));
    put(&safe, &owner(&shop), "ghcr", "another").await;
    assert_eq!(take(&safe, &owner(&shop), "ghcr").await, Ok(Some("another".into())));

    let listed = shop.credentials_list(shop.project).await.unwrap();
    let [one] = &listed[..] else { panic!("{listed:?}") };
    assert_eq!((one.name.as_str(), one.version, one.created_by.as_str()), ("ghcr", 2, "user:jane"));
    assert_eq!((one.last_used_at, one.hosts.as_slice()), (Some(at(100)), &["ghcr.io".to_owned()][..]));
    let uses: Vec<(i64, String, String)> =
        sqlx::query_as("SELECT version, actor, purpose FROM credential_uses ORDER BY id")
            .fetch_all(&shop.sql)
            .await
            .unwrap();
    let used = |version, actor: &str, purpose: &str| (version, actor.to_owned(), purpose.to_owned());
    let compared = used(1, "user:jane", "compare");
    assert_eq!(uses, [used(1, "controller", "test"), compared, used(2, "controller", "test")]);
    let told: Vec<_> = shop.audit_list(&format!("credential/{}", one.id), None, 10).await.unwrap();
    assert_eq!(told.iter().map(|entry| entry.entry.action.as_str()).collect::<Vec<_>>(), ["credential.put"; 2]);

    let canary = hex::encode(CANARY);
    for row in dump(&shop).await {
        assert!(!row.contains(CANARY) && !row.contains(&canary) && !row.contains("another"), "{row}");
    }
}

#[tokio::test]
async fn deleting_destroys_the_value_and_a_name_that_comes_back_goes_on() {
    let shop = Shop::new().await;
    let ids = Arc::default();
    let safe = safe(&shop, &ids, &new());
    safe.ready().await.unwrap();
    put(&safe, &owner(&shop), "ghcr", CANARY).await;
    let jane = Actor::User("jane".into());
    assert_eq!(shop.credential_delete(shop.project, "ghcr", &jane, at(101)).await, Ok(true));
    assert_eq!(shop.credential_delete(shop.project, "ghcr", &jane, at(101)).await, Ok(false));
    assert_eq!(take(&safe, &owner(&shop), "ghcr").await, Ok(None));
    assert_eq!(shop.credentials_list(shop.project).await, Ok(Vec::new()));
    let left: i64 =
        sqlx::query_scalar("SELECT count(*) FROM credentials WHERE body IS NOT NULL OR wrapped_key IS NOT NULL")
            .fetch_one(&shop.sql)
            .await
            .unwrap();
    assert_eq!(left, 0);
    put(&safe, &owner(&shop), "ghcr", "again").await;
    assert_eq!(shop.credentials_list(shop.project).await.unwrap()[0].version, 2);
    assert_eq!(take(&safe, &owner(&shop), "ghcr").await, Ok(Some("again".into())));
}

/// Who can write to the database cannot give one project the credential of another, nor an old one its value back.
#[tokio::test]
async fn a_row_that_was_moved_or_changed_does_not_open() {
    let shop = Shop::new().await;
    let safe = safe(&shop, &Arc::default(), &new());
    safe.ready().await.unwrap();
    let blog = shop.project_upsert(id(9), "acme", "blog").await.unwrap();
    let blog = Owner { project: blog.id, namespace: "acme", name: "blog" };
    put(&safe, &owner(&shop), "ghcr", "ours").await;
    put(&safe, &owner(&shop), "quay", "ours too").await;
    put(&safe, &blog, "ghcr", "theirs").await;
    let sealed = "key_id = from_.key_id, wrapped_key = from_.wrapped_key, body = from_.body";
    let moved = |from: &str, to: &str| {
        format!("UPDATE credentials SET {sealed} FROM (SELECT * FROM credentials WHERE {from}) AS from_ WHERE {to}")
    };
    let project = |id: Uuid| format!("project_id = '{id}'");
    let quay = format!(
        "{} AND credentials.name = 'quay'",
        project(shop.project).replace("project_id", "credentials.project_id")
    );
    let cases = [
        (
            "another name",
            moved(
                "name = 'ghcr' AND version = 1 AND project_id = (SELECT id FROM projects WHERE name = 'shop')",
                &quay,
            ),
            OpenError::Misplaced,
        ),
        (
            "another project",
            moved("project_id = (SELECT id FROM projects WHERE name = 'blog')", &quay),
            OpenError::Misplaced,
        ),
        ("another version", "UPDATE credentials SET version = 7 WHERE name = 'quay'".into(), OpenError::Misplaced),
        (
            "a changed value",
            "UPDATE credentials SET body = set_byte(body, 61, 255 - get_byte(body, 61)) WHERE name = 'quay'".into(),
            OpenError::Tampered(Part::Content),
        ),
        (
            "another key's id",
            "UPDATE credentials SET key_id = '2020' WHERE name = 'quay'".into(),
            OpenError::Wrap(WrapError::UnknownKey("2020".parse().unwrap())),
        ),
    ];
    shop.run("INSERT INTO encryption_keys (id, canary_wrapped, canary_body) VALUES ('2020', 'x', 'x')").await.unwrap();
    for (name, sql, expected) in cases {
        put(&safe, &owner(&shop), "quay", "ours too").await;
        assert_eq!(take(&safe, &owner(&shop), "quay").await, Ok(Some("ours too".into())), "{name}");
        shop.run(&sql).await.unwrap();
        assert_eq!(take(&safe, &owner(&shop), "quay").await, Err(unopened("quay", expected)), "{name}");
    }
    // What does not open is found, and nothing else is.
    let verified = safe.verify().await.unwrap();
    assert_eq!((verified.of, verified.broken.len()), (3, 1));
}

#[tokio::test]
async fn a_wrong_key_is_told_before_anything_is_written() {
    let shop = Shop::new().await;
    let ids = Arc::default();
    let first = safe(&shop, &ids, &old());
    first.ready().await.unwrap();
    put(&first, &owner(&shop), "ghcr", CANARY).await;
    let before = dump(&shop).await;

    let wrong = safe(&shop, &ids, &old().replace("0b0b", "0c0c"));
    let error = wrong.ready().await.unwrap_err();
    let wrong_key = OpenError::Wrap(WrapError::WrongKey("2025".parse().unwrap()));
    assert_eq!(error, SafeError::WrongKey { key: "2025".parse().unwrap(), error: wrong_key });
    let behind = safe(&shop, &ids, &format!("{},{}", new(), old().replace("0b0b", "0c0c")));
    assert!(matches!(behind.ready().await, Err(SafeError::WrongKey { .. })), "also behind a right one");
    let missing = safe(&shop, &ids, &new());
    assert_eq!(missing.ready().await, Err(SafeError::Missing { key: "2025".parse().unwrap(), rows: 1 }));
    assert_eq!(dump(&shop).await, before, "nothing was written");
}

#[tokio::test]
async fn keys_rotate_while_values_are_used_and_are_retired_when_nothing_needs_them() {
    let shop = Shop::new().await;
    let ids: Arc<Counting> = Arc::default();
    let before = safe(&shop, &ids, &old());
    before.ready().await.unwrap();
    for number in 0..7 {
        put(&before, &owner(&shop), &format!("one-{number}"), &format!("value {number}")).await;
    }
    let both = safe(&shop, &ids, &format!("{},{}", new(), old()));
    let key = "2025".parse().unwrap();
    assert_eq!(both.retire(&key).await, Ok(Retirement::InUse(7)));

    let mut told = Vec::new();
    let bodies = "SELECT body FROM credentials ORDER BY id";
    let sealed: Vec<Vec<u8>> = sqlx::query_scalar(bodies).fetch_all(&shop.sql).await.unwrap();
    let rotated = both.rotate(|progress| told.push(progress)).await.unwrap();
    assert_eq!(rotated, Rotated { done: 7, of: 7 });
    assert_eq!((told.first(), told.last()), (Some(&Rotated { done: 0, of: 7 }), Some(&rotated)));
    let now: Vec<Vec<u8>> = sqlx::query_scalar(bodies).fetch_all(&shop.sql).await.unwrap();
    assert_eq!(now, sealed, "values are not touched");
    assert_eq!(both.rotate(|_| ()).await, Ok(Rotated { done: 0, of: 0 }), "nothing is left to do");

    // A process that has not got the new key yet cannot open it, and says which is missing.
    let unknown = OpenError::Wrap(WrapError::UnknownKey("2026".parse().unwrap()));
    assert_eq!(take(&before, &owner(&shop), "one-3").await, Err(unopened("one-3", unknown)));
    assert_eq!(both.retire(&key).await, Ok(Retirement::Done));
    assert_eq!(
        both.retire(&"2019".parse().unwrap()).await.unwrap_err(),
        SafeError::Store(StoreError::NotFound { what: "encryption key", id: "2019".into() })
    );
    // Nor can it begin to use the old one again.
    let value = Plaintext::from("late".to_owned());
    let deposit = Deposit {
        name: "one-3",
        kind: CredentialKind::Generic,
        value: &value,
        hosts: Vec::new(),
        origin: "command line".into(),
        expires_at: None,
        actor: Actor::Controller,
    };
    let refused = before.put(&owner(&shop), &deposit).await.unwrap_err();
    assert!(refused.to_string().contains("key 2025 is retired"), "{refused}");
    assert!(matches!(before.ready().await, Err(SafeError::Missing { .. } | SafeError::Retired(_))));

    let after = safe(&shop, &ids, &new());
    after.ready().await.unwrap();
    for number in 0..7 {
        let taken = take(&after, &owner(&shop), &format!("one-{number}")).await;
        assert_eq!(taken, Ok(Some(format!("value {number}"))));
    }
}

/// A value that is written while its row is rotated is the newer one afterwards, and opens.
#[tokio::test]
async fn a_value_that_is_written_meanwhile_is_not_overwritten() {
    let shop = Shop::new().await;
    let ids: Arc<Counting> = Arc::default();
    let before = safe(&shop, &ids, &old());
    before.ready().await.unwrap();
    put(&before, &owner(&shop), "ghcr", "older").await;
    let both = safe(&shop, &ids, &format!("{},{}", new(), old()));
    both.ready().await.unwrap();
    let key = "2025".parse().unwrap();
    let read = shop.wrapped_list(SealedTable::Credentials, &key, None, 10).await.unwrap();
    put(&both, &owner(&shop), "ghcr", "newer").await;
    let stale: Vec<_> = read.into_iter().map(|row| (row, vec![1, 2, 3])).collect();
    let replaced = shop.wrapped_replace(SealedTable::Credentials, &"2026".parse().unwrap(), &stale).await;
    assert_eq!(replaced, Ok(0));
    assert_eq!(take(&both, &owner(&shop), "ghcr").await, Ok(Some("newer".into())));
}

#[tokio::test]
async fn two_who_write_at_once_both_end_and_one_of_them_is_last() {
    let shop = Shop::new().await;
    let safe = safe(&shop, &Arc::default(), &new());
    safe.ready().await.unwrap();
    let owner = owner(&shop);
    let names: Vec<String> = (0..4).map(|number| format!("value {number}")).collect();
    futures::future::join_all(names.iter().map(|value| put(&safe, &owner, "ghcr", value))).await;
    let taken = take(&safe, &owner, "ghcr").await.unwrap().unwrap();
    assert!(names.contains(&taken), "{taken}");
    assert_eq!(shop.credentials_list(shop.project).await.unwrap()[0].version, 4);
}

#[tokio::test]
async fn what_is_there_already_is_not_written_again() {
    let shop = Shop::new().await;
    let safe = safe(&shop, &Arc::default(), &new());
    safe.ready().await.unwrap();
    let owner = owner(&shop);
    assert_eq!(put(&safe, &owner, "ghcr", CANARY).await, Kept::Changed(1));
    let body = "SELECT body FROM credentials";
    let sealed: Vec<u8> = sqlx::query_scalar(body).fetch_one(&shop.sql).await.unwrap();
    assert_eq!(put(&safe, &owner, "ghcr", CANARY).await, Kept::Same);
    let again: Vec<u8> = sqlx::query_scalar(body).fetch_one(&shop.sql).await.unwrap();
    assert_eq!(again, sealed);
    assert_eq!(shop.number("SELECT count(*) FROM audit_log").await, 1);

    // Another place with the same value.
    let value = Plaintext::from(CANARY.to_owned());
    let copied = Deposit { origin: "secret/ghcr uid/1 version/9".into(), ..deposit("ghcr", &value) };
    assert_eq!(safe.put(&owner, &copied).await, Ok(Kept::Same));
    let listed = shop.credentials_list(shop.project).await.unwrap();
    assert_eq!((listed[0].version, listed[0].origin.as_str()), (1, "secret/ghcr uid/1 version/9"));
    let told = shop.audit_list(&format!("credential/{}", listed[0].id), None, 10).await.unwrap();
    let actions: Vec<&str> = told.iter().map(|entry| entry.entry.action.as_str()).collect();
    assert_eq!(actions, ["credential.origin", "credential.put"]);
    assert_eq!(safe.put(&owner, &copied).await, Ok(Kept::Same));
    assert_eq!(shop.number("SELECT count(*) FROM audit_log").await, 2, "an origin that is known is not written again");
    let slot = CredentialSlot { id: listed[0].id, version: 7 };
    let moved = shop.credential_origin_put(slot, "elsewhere", &Actor::Controller, at(9)).await;
    assert_eq!(moved, Ok(false), "of another version");

    // Everything else that is another, one by one.
    let other = Plaintext::from("hunter2-canarx".to_owned());
    let expiry = Some(Timestamp::from_nanosecond(1_900_000_000_123_456_789).unwrap());
    let same = || Deposit { origin: copied.origin.clone(), ..deposit("ghcr", &value) };
    let cases = [
        ("value", Deposit { value: &other, ..same() }),
        ("registries", Deposit { hosts: vec!["ghcr.io".into(), "quay.io".into()], ..same() }),
        ("kind", Deposit { kind: CredentialKind::Generic, ..same() }),
        ("expiry", Deposit { expires_at: expiry, ..same() }),
    ];
    let mut version = 1;
    for (name, changed) in cases {
        version += 1;
        assert_eq!(safe.put(&owner, &changed).await, Ok(Kept::Changed(version)), "{name}");
        assert_eq!(safe.put(&owner, &changed).await, Ok(Kept::Same), "{name}");
    }
    // A value that was deleted is not there any more.
    assert_eq!(shop.credential_delete(shop.project, "ghcr", &Actor::Controller, at(9)).await, Ok(true));
    assert_eq!(safe.put(&owner, &same()).await, Ok(Kept::Changed(version + 1)));
}

#[tokio::test]
async fn several_are_taken_at_once_in_the_order_of_their_names() {
    let shop = Shop::new().await;
    let safe = safe(&shop, &Arc::default(), &new());
    safe.ready().await.unwrap();
    let owner = owner(&shop);
    for (name, value) in [("a", "one"), ("b", "two"), ("b", "three")] {
        put(&safe, &owner, name, value).await;
    }
    shop.run("DELETE FROM credential_uses").await.unwrap();
    let taken = safe.take_many(&owner, &["b", "none", "a", "b"], &Actor::Controller, "test").await.unwrap();
    let taken: Vec<Option<(i64, &str)>> =
        taken.iter().map(|one| one.as_ref().map(|(version, value)| (*version, value.expose_text().unwrap()))).collect();
    assert_eq!(taken, [Some((2, "three")), None, Some((1, "one")), Some((2, "three"))]);
    assert_eq!(shop.number("SELECT count(*) FROM credential_uses WHERE purpose = 'test'").await, 3);
    shop.run("UPDATE credentials SET version = 9 WHERE name = 'a'").await.unwrap();
    let Err(refused) = safe.take_many(&owner, &["b", "a"], &Actor::Controller, "test").await else { panic!("opened") };
    assert_eq!(refused, unopened("a", OpenError::Misplaced));
    assert_eq!(shop.number("SELECT count(*) FROM credential_uses").await, 3, "nothing was given away");
}
