//! Secrets on a real database: several at a time, one row per version, each in its own place only.

use std::sync::Arc;

use stagekeeper::{
    crypto::{OpenError, Plaintext},
    domain::{
        actor::Actor,
        secret::{SecretId, SecretVersions, stamp},
    },
    safe::{Kept, Owner, Rotated, Safe, SafeError, SecretDeposit},
    store::{KEPT_VERSIONS, NewSecret, Retirement, SealedSecret, SealedTable, Secret, Store, StoreError},
};

use crate::{
    fixture::{Shop, at, id},
    safe::{CANARY, Counting, dump, new, old, owner, put, safe},
};

fn all(name: &str) -> SecretId {
    SecretId::for_all(name)
}

fn web(name: &str) -> SecretId {
    SecretId::for_service(name, "web")
}

fn jane() -> Actor {
    Actor::User("jane".into())
}

async fn put_all(safe: &Safe, owner: &Owner<'_>, values: &[(SecretId, &str)]) -> Result<Vec<Kept>, SafeError> {
    put_from(safe, owner, values, "command line").await
}

async fn put_from(
    safe: &Safe,
    owner: &Owner<'_>,
    values: &[(SecretId, &str)],
    origin: &str,
) -> Result<Vec<Kept>, SafeError> {
    let texts: Vec<Plaintext> = values.iter().map(|(_, text)| Plaintext::from((*text).to_owned())).collect();
    let deposits: Vec<SecretDeposit<'_>> = values
        .iter()
        .zip(&texts)
        .map(|((id, _), value)| SecretDeposit { id: id.clone(), value, origin: origin.into(), actor: jane() })
        .collect();
    safe.secrets_put(owner, &deposits).await
}

/// Takes values out by the numbers of their versions.
async fn take(
    store: &Store,
    safe: &Safe,
    owner: &Owner<'_>,
    versions: &[(SecretId, i64)],
) -> Result<Vec<Option<String>>, SafeError> {
    let stored = store.secret_sealed(owner.project, versions).await?;
    let stamped = |(id, number): &(SecretId, i64)| {
        let found = stored.iter().find(|one| one.secret == *id && one.version == *number);
        (id.clone(), found.map_or_else(|| stamp(*number, 0), SealedSecret::stamp))
    };
    let stamps: Vec<(SecretId, i64)> = versions.iter().map(stamped).collect();
    let taken = safe.secrets_take(owner, &stamps, &Actor::Controller, "test").await?;
    Ok(taken.into_iter().map(|one| one.map(|value| value.expose_text().unwrap().to_owned())).collect())
}

#[tokio::test]
async fn what_goes_in_comes_out_by_version_and_is_remembered_without_its_value() {
    let shop = Shop::new().await;
    let safe = safe(&shop, &Arc::default(), &new());
    safe.ready().await.unwrap();
    let owner = owner(&shop);
    assert_eq!(take(&shop, &safe, &owner, &[]).await, Ok(Vec::new()));
    assert_eq!(take(&shop, &safe, &owner, &[(all("KEY"), 1)]).await, Ok(vec![None]));
    assert_eq!(put_all(&safe, &owner, &[]).await, Ok(Vec::new()));
    let first = [(web("KEY"), CANARY), (all("KEY"), "for all"), (all("EMPTY"), "")];
    assert_eq!(put_all(&safe, &owner, &first).await, Ok(vec![Kept::Changed(1); 3]));
    // Only what is another value is written.
    let second = [(all("EMPTY"), ""), (web("KEY"), "newer"), (all("NEW"), "x")];
    let kept = put_all(&safe, &owner, &second).await;
    assert_eq!(kept, Ok(vec![Kept::Same, Kept::Changed(2), Kept::Changed(1)]));
    let wanted =
        [(web("KEY"), 1), (web("KEY"), 2), (all("KEY"), 1), (web("KEY"), 3), (all("EMPTY"), 1), (web("KEY"), 1)];
    let taken = take(&shop, &safe, &owner, &wanted).await;
    assert_eq!(
        taken,
        Ok(vec![
            Some(CANARY.into()),
            Some("newer".into()),
            Some("for all".into()),
            None,
            Some(String::new()),
            Some(CANARY.into())
        ])
    );

    let listed = shop.secrets_list(shop.project).await.unwrap();
    let told: Vec<(&SecretId, i64, &str)> =
        listed.iter().map(|one| (&one.secret, one.version, one.created_by.as_str())).collect();
    let (empty, key, fresh, own) = (all("EMPTY"), all("KEY"), all("NEW"), web("KEY"));
    assert_eq!(
        told,
        [(&empty, 1, "user:jane"), (&key, 1, "user:jane"), (&fresh, 1, "user:jane"), (&own, 2, "user:jane")]
    );
    assert_eq!((listed[3].last_used_at, listed[2].last_used_at), (Some(at(100)), None));

    let uses: Vec<(i64, String, String)> =
        sqlx::query_as("SELECT version, actor, purpose FROM secret_uses WHERE secret_id = $1 ORDER BY id")
            .bind(listed[3].id)
            .fetch_all(&shop.sql)
            .await
            .unwrap();
    let used = |version, actor: &str, purpose: &str| (version, actor.to_owned(), purpose.to_owned());
    let taken = |version| used(version, "controller", "test");
    assert_eq!(uses, [used(1, "user:jane", "compare"), taken(1), taken(2), taken(1)]);
    let entries = shop.audit_list(&format!("secret/{}", listed[3].id), None, 10).await.unwrap();
    assert_eq!(entries.iter().map(|entry| entry.entry.action.as_str()).collect::<Vec<_>>(), ["secret.put"; 2]);
    assert_eq!(entries[0].entry.details["service"], "web");
    assert_eq!(shop.audit_verify().await.unwrap().broken, None);

    let canary = hex::encode(CANARY);
    for row in dump(&shop).await {
        assert!(!row.contains(CANARY) && !row.contains(&canary) && !row.contains("for all"), "{row}");
    }
}

#[tokio::test]
async fn a_value_from_another_place_keeps_its_version() {
    let shop = Shop::new().await;
    let safe = safe(&shop, &Arc::default(), &new());
    safe.ready().await.unwrap();
    let owner = owner(&shop);
    let values = [(all("KEY"), "one"), (web("KEY"), "two")];
    put_all(&safe, &owner, &values).await.unwrap();
    let changed = [(all("KEY"), "one"), (web("KEY"), "three")];
    let kept = put_from(&safe, &owner, &changed, "secret/keys uid/1 version/7").await;
    assert_eq!(kept, Ok(vec![Kept::Same, Kept::Changed(2)]));
    let listed = shop.secrets_list(shop.project).await.unwrap();
    let origins: Vec<&str> = listed.iter().map(|one| one.origin.as_str()).collect();
    assert_eq!(origins, ["secret/keys uid/1 version/7"; 2]);
    assert_eq!((listed[0].version, listed[1].version), (1, 2));
    let entries = shop.audit_list(&format!("secret/{}", listed[0].id), None, 10).await.unwrap();
    let actions: Vec<&str> = entries.iter().map(|entry| entry.entry.action.as_str()).collect();
    assert_eq!(actions, ["secret.origin", "secret.put"]);
    let before = shop.number("SELECT count(*) FROM audit_log").await;
    let kept = put_from(&safe, &owner, &changed, "secret/keys uid/1 version/7").await;
    assert_eq!(kept, Ok(vec![Kept::Same; 2]));
    assert_eq!(shop.number("SELECT count(*) FROM audit_log").await, before);
}

#[tokio::test]
async fn deleting_destroys_every_version_and_a_name_that_comes_back_goes_on() {
    let shop = Shop::new().await;
    let safe = safe(&shop, &Arc::default(), &new());
    safe.ready().await.unwrap();
    let owner = owner(&shop);
    for value in [CANARY, "two"] {
        put_all(&safe, &owner, &[(web("KEY"), value), (all("KEY"), value)]).await.unwrap();
    }
    assert_eq!(shop.secret_delete(shop.project, &web("OTHER"), &jane(), at(101)).await, Ok(false));
    assert_eq!(shop.secret_delete(shop.project, &web("KEY"), &jane(), at(101)).await, Ok(true));
    assert_eq!(shop.secret_delete(shop.project, &web("KEY"), &jane(), at(101)).await, Ok(false));
    let listed = shop.secrets_list(shop.project).await.unwrap();
    assert_eq!(listed.iter().map(|one| &one.secret).collect::<Vec<_>>(), [&all("KEY")]);
    let wanted = [(web("KEY"), 1), (web("KEY"), 2), (all("KEY"), 2)];
    assert_eq!(take(&shop, &safe, &owner, &wanted).await, Ok(vec![None, None, Some("two".into())]));
    let left = "SELECT count(*) FROM secret_versions AS v JOIN secrets AS s ON s.id = v.secret_id
                WHERE s.service = 'web' AND (v.body IS NOT NULL OR v.wrapped_key IS NOT NULL OR v.key_id IS NOT NULL)";
    assert_eq!(shop.number(left).await, 0);
    let who = "SELECT count(*) FROM secret_versions WHERE key_id IS NULL AND created_by = 'user:jane'";
    assert_eq!(shop.number(who).await, 2, "who had it and when stays");
    let kept = put_all(&safe, &owner, &[(web("KEY"), "two")]).await;
    assert_eq!(kept, Ok(vec![Kept::Changed(3)]), "the same value as before is a new one");
    assert_eq!(
        take(&shop, &safe, &owner, &[(web("KEY"), 2), (web("KEY"), 3)]).await,
        Ok(vec![None, Some("two".into())])
    );
}

/// Who can write to the database cannot give one secret the value of another, nor an old one its value back.
#[tokio::test]
async fn a_row_that_was_moved_or_changed_does_not_open() {
    let shop = Shop::new().await;
    let safe = safe(&shop, &Arc::default(), &new());
    safe.ready().await.unwrap();
    let blog = shop.project_upsert(id(9), "acme", "blog").await.unwrap();
    let blog = Owner { project: blog.id, namespace: "acme", name: "blog" };
    let ours = owner(&shop);
    put_all(&safe, &blog, &[(web("KEY"), "theirs")]).await.unwrap();
    let row = |project: &str, service: &str, version: i64| {
        format!(
            "(SELECT value.* FROM secret_versions AS value JOIN secrets AS s ON s.id = value.secret_id
                  JOIN projects AS p ON p.id = s.project_id
              WHERE p.name = '{project}' AND s.service = '{service}' AND s.name = 'KEY' AND value.version = {version})"
        )
    };
    let sealed = "key_id = from_.key_id, wrapped_key = from_.wrapped_key, body = from_.body";
    let moved = |from: &str, to: &str| {
        format!(
            "UPDATE secret_versions AS to_ SET {sealed} FROM {from} AS from_ WHERE to_.id IN (SELECT id FROM {to} AS t)"
        )
    };
    let target = row("shop", "web", 2);
    // The row itself takes the other's place, identity and all.
    let renamed = "UPDATE secrets SET service = CASE service WHEN 'web' THEN 'tmp' ELSE service END WHERE name = 'KEY';
                   UPDATE secrets SET service = 'web' WHERE service = '' AND name = 'KEY'";
    let exchanged =
        "UPDATE secret_versions SET version = 1000 - version; UPDATE secret_versions SET version = version - 997
                     WHERE version IN (998, 999)";
    let cases = [
        ("another secret's", moved(&row("shop", "", 1), &target)),
        ("another project's", moved(&row("blog", "web", 1), &target)),
        ("an older version's", moved(&row("shop", "web", 1), &target)),
        ("another name's row", renamed.to_owned()),
        ("another version's row", exchanged.to_owned()),
    ];
    for (name, sql) in cases {
        shop.run("DELETE FROM secrets WHERE project_id = (SELECT id FROM projects WHERE name = 'shop')").await.unwrap();
        put_all(&safe, &ours, &[(web("KEY"), "one"), (all("KEY"), "one")]).await.unwrap();
        put_all(&safe, &ours, &[(web("KEY"), "two"), (all("KEY"), "two")]).await.unwrap();
        let wanted = [(web("KEY"), 2)];
        assert_eq!(take(&shop, &safe, &ours, &wanted).await, Ok(vec![Some("two".into())]), "{name}");
        for statement in sql.split(';') {
            assert!(shop.run(statement).await.unwrap() > 0, "{name}: {statement}");
        }
        let refused = take(&shop, &safe, &ours, &wanted).await;
        let misplaced =
            SafeError::Open { what: "secret", name: "KEY of service web".into(), error: OpenError::Misplaced };
        assert_eq!(refused, Err(misplaced), "{name}");
        let verified = safe.verify().await.unwrap();
        let called: Vec<&str> = verified.broken.iter().map(|(called, _)| called.as_str()).collect();
        assert!(called.contains(&"secret KEY of service web of project acme/shop, version 2"), "{name}: {called:?}");
        // It is written over: what does not open is not the same.
        let kept = put_all(&safe, &ours, &[(web("KEY"), "two")]).await.unwrap();
        assert!(matches!(kept[..], [Kept::Changed(_)]), "{name}: {kept:?}");
    }
}

#[tokio::test]
async fn the_newest_versions_are_kept() {
    let shop = Shop::new().await;
    let safe = safe(&shop, &Arc::default(), &new());
    safe.ready().await.unwrap();
    let owner = owner(&shop);
    put_all(&safe, &owner, &[(all("OTHER"), "stays")]).await.unwrap();
    for number in 1..=KEPT_VERSIONS + 3 {
        put_all(&safe, &owner, &[(all("KEY"), &number.to_string())]).await.unwrap();
    }
    let versions: Vec<i64> = sqlx::query_scalar(
        "SELECT value.version FROM secret_versions AS value JOIN secrets ON secrets.id = secret_id
         WHERE name = 'KEY' ORDER BY 1",
    )
    .fetch_all(&shop.sql)
    .await
    .unwrap();
    assert_eq!(versions, (4..=KEPT_VERSIONS + 3).collect::<Vec<_>>());
    let wanted = [(all("KEY"), 3), (all("KEY"), 4), (all("OTHER"), 1)];
    assert_eq!(take(&shop, &safe, &owner, &wanted).await, Ok(vec![None, Some("4".into()), Some("stays".into())]));
}

#[tokio::test]
async fn of_many_who_write_the_same_at_once_each_writes_all_or_fails() {
    let shop = Shop::new().await;
    let safe = safe(&shop, &Arc::default(), &new());
    safe.ready().await.unwrap();
    let owner = owner(&shop);
    let writers = (0..4).map(|writer| {
        let (safe, owner) = (&safe, &owner);
        async move {
            let value = format!("value {writer}");
            let mut values = vec![(all("A"), value.as_str()), (web("A"), &value), (all("B"), &value)];
            if writer % 2 == 0 {
                values.reverse();
            }
            put_all(safe, owner, &values).await.unwrap()
        }
    });
    for kept in futures::future::join_all(writers).await {
        assert!(kept.iter().all(|one| *one == kept[0]) && kept[0] != Kept::Same, "{kept:?}");
    }
    let listed = shop.secrets_list(shop.project).await.unwrap();
    assert_eq!(listed.iter().map(|one| one.version).collect::<Vec<_>>(), [4; 3]);
    let wanted: Vec<(SecretId, i64)> =
        (1..=4).flat_map(|version| [(all("A"), version), (web("A"), version), (all("B"), version)]).collect();
    let taken = take(&shop, &safe, &owner, &wanted).await.unwrap();
    for of_one in taken.chunks(3) {
        assert!(of_one[0].is_some() && of_one.iter().all(|one| *one == of_one[0]), "{of_one:?}");
    }
}

#[tokio::test]
async fn a_conflict_with_one_leaves_all_as_they_were() {
    let shop = Shop::new().await;
    let safe = safe(&shop, &Arc::default(), &new());
    safe.ready().await.unwrap();
    let owner = owner(&shop);
    put_all(&safe, &owner, &[(all("A"), "one"), (all("B"), "one")]).await.unwrap();
    let sealed = shop.secret_sealed(shop.project, &[(all("A"), 1), (all("B"), 1)]).await.unwrap();
    assert_eq!(sealed.len(), 2);
    let before = dump(&shop).await;
    let written: Vec<NewSecret> = sealed
        .into_iter()
        .zip(900..)
        .map(|(one, number)| NewSecret {
            id: one.id,
            project: shop.project,
            // B was written meanwhile: it is at version 1, and this is the value after version 2.
            version: if one.secret == all("B") { 3 } else { 2 },
            secret: one.secret,
            value: id(number),
            sealed: one.sealed,
            origin: "test".into(),
            actor: jane(),
        })
        .collect();
    let refused = shop.secrets_put(&written, at(9)).await.unwrap_err();
    assert!(matches!(refused, StoreError::Conflict(_)), "{refused:?}");
    assert_eq!(dump(&shop).await, before);
    // One that is too long keeps the others out too.
    let long = "x".repeat(stagekeeper::crypto::MAX_PLAINTEXT + 1);
    let refused = put_all(&safe, &owner, &[(all("C"), "one"), (web("D"), &long)]).await.unwrap_err();
    assert!(refused.to_string().starts_with("secret D of service web cannot be sealed: "), "{refused}");
    assert_eq!(dump(&shop).await, before);
}

#[tokio::test]
async fn keys_rotate_under_both_tables() {
    let shop = Shop::new().await;
    let ids: Arc<Counting> = Arc::default();
    let before = safe(&shop, &ids, &old());
    before.ready().await.unwrap();
    let owner = owner(&shop);
    put(&before, &owner, "ghcr", "login").await;
    put_all(&before, &owner, &[(all("KEY"), "one"), (web("KEY"), "one")]).await.unwrap();
    put_all(&before, &owner, &[(all("KEY"), "two")]).await.unwrap();
    let both = safe(&shop, &ids, &format!("{},{}", new(), old()));
    let key = "2025".parse().unwrap();
    assert_eq!(both.retire(&key).await, Ok(Retirement::InUse(4)));
    assert_eq!(shop.encryption_keys_list().await.unwrap()[0].rows, 4);
    assert_eq!(both.verify().await.unwrap().of, 4);

    // A row of a secret that is written anew while it is rotated.
    both.ready().await.unwrap();
    let read = shop.wrapped_list(SealedTable::SecretVersions, &key, None, 10).await.unwrap();
    assert_eq!(read.len(), 3);
    assert_eq!(shop.secret_delete(shop.project, &web("KEY"), &jane(), at(9)).await, Ok(true));
    let gone = [(read[1].clone(), vec![1])];
    let version = sqlx::query_scalar::<_, bool>("SELECT key_id IS NULL FROM secret_versions WHERE id = $1");
    let is_gone = version.bind(gone[0].0.id).fetch_one(&shop.sql).await.unwrap();
    assert!(is_gone, "the second row is that of the service");
    let replaced = shop.wrapped_replace(SealedTable::SecretVersions, &"2026".parse().unwrap(), &gone).await;
    assert_eq!(replaced, Ok(0));

    assert_eq!(both.rotate(|_| ()).await, Ok(Rotated { done: 3, of: 3 }));
    assert_eq!(both.retire(&key).await, Ok(Retirement::Done));
    let after = safe(&shop, &ids, &new());
    after.ready().await.unwrap();
    let taken = take(&shop, &after, &owner, &[(all("KEY"), 1), (all("KEY"), 2)]).await;
    assert_eq!(taken, Ok(vec![Some("one".into()), Some("two".into())]));
    // Nobody begins to use the old one again, for a secret neither.
    let refused = put_all(&before, &owner, &[(all("LATE"), "x")]).await.unwrap_err();
    assert!(refused.to_string().contains("key 2025 is retired"), "{refused}");
    let missing = put_all(&after, &owner, &[(all("LATE"), "x")]).await;
    assert_eq!(missing, Ok(vec![Kept::Changed(1)]));
    let lost = safe(&shop, &ids, &format!("2027:{}", "3e".repeat(32)));
    assert_eq!(lost.check().await, Err(SafeError::Missing { key: "2026".parse().unwrap(), rows: 4 }));
}

#[tokio::test]
async fn old_uses_go_a_bounded_number_at_a_time() {
    let shop = Shop::new().await;
    let safe = safe(&shop, &Arc::default(), &new());
    safe.ready().await.unwrap();
    let owner = owner(&shop);
    put(&safe, &owner, "ghcr", "login").await;
    put_all(&safe, &owner, &[(all("KEY"), "one")]).await.unwrap();
    for (table, column, of) in
        [("credential_uses", "credential_id", "credentials"), ("secret_uses", "secret_id", "secrets")]
    {
        let fill = format!(
            "INSERT INTO {table} ({column}, version, actor, purpose, at)
             SELECT {of}.id, 1, 'controller', 'test', timestamptz '2026-01-01' + number * interval '1 day'
             FROM {of}, generate_series(1, 10) AS number"
        );
        shop.run(&fill).await.unwrap();
    }
    let horizon = "2026-01-08T12:00:00Z".parse().unwrap();
    // Seven of each are older.
    assert_eq!(shop.uses_prune(horizon, 4).await, Ok(4));
    assert_eq!(shop.number("SELECT count(*) FROM credential_uses WHERE at > '2026-01-05T12:00:00Z'").await, 6);
    assert_eq!(shop.number("SELECT count(*) FROM credential_uses").await, 6, "the oldest went first");
    assert_eq!(shop.uses_prune(horizon, 4).await, Ok(4));
    assert_eq!(shop.number("SELECT count(*) FROM secret_uses").await, 9);
    assert_eq!(shop.uses_prune(horizon, 100).await, Ok(6));
    assert_eq!(shop.uses_prune(horizon, 100).await, Ok(0));
    for table in ["credential_uses", "secret_uses"] {
        assert_eq!(shop.number(&format!("SELECT count(*) FROM {table}")).await, 3, "{table}");
        let error = shop.run(&format!("UPDATE {table} SET actor = 'nobody'")).await.unwrap_err();
        assert!(error.to_string().contains("23001"), "{table}: {error}");
    }
}

#[tokio::test]
async fn a_project_sees_its_own_only() {
    let shop = Shop::new().await;
    let safe = safe(&shop, &Arc::default(), &new());
    safe.ready().await.unwrap();
    let blog = shop.project_upsert(id(9), "acme", "blog").await.unwrap();
    let blog = Owner { project: blog.id, namespace: "acme", name: "blog" };
    put_all(&safe, &owner(&shop), &[(all("KEY"), CANARY)]).await.unwrap();
    assert_eq!(take(&shop, &safe, &blog, &[(all("KEY"), 1)]).await, Ok(vec![None]));
    assert_eq!(shop.secret_delete(blog.project, &all("KEY"), &jane(), at(1)).await, Ok(false));
    assert_eq!(shop.secrets_list(blog.project).await, Ok(Vec::<Secret>::new()));
    assert_eq!(put_all(&safe, &blog, &[(all("KEY"), "theirs")]).await, Ok(vec![Kept::Changed(1)]));
    assert_eq!(take(&shop, &safe, &owner(&shop), &[(all("KEY"), 1)]).await, Ok(vec![Some(CANARY.into())]));
}

#[tokio::test]
async fn a_version_that_is_written_again_after_a_restore_is_another_value() {
    let shop = Shop::new().await;
    let safe = safe(&shop, &Arc::default(), &new());
    safe.ready().await.unwrap();
    let owner = owner(&shop);
    put_all(&safe, &owner, &[(all("KEY"), "lost")]).await.unwrap();
    put(&safe, &owner, "ghcr", "lost").await;
    let known = async || {
        let project = shop.vault_project(shop.project).await.unwrap().expect("the project");
        (project.versions(), project.credentials[0].stamp)
    };
    let (lost, login) = known().await;

    // What a restore of a base backup from before does to these rows.
    sqlx::query("DELETE FROM secrets").execute(&shop.sql).await.unwrap();
    sqlx::query("DELETE FROM credentials").execute(&shop.sql).await.unwrap();
    put_all(&safe, &owner, &[(all("KEY"), "found")]).await.unwrap();
    put(&safe, &owner, "ghcr", "found").await;
    let (found, other) = known().await;
    assert_eq!(shop.secrets_list(shop.project).await.unwrap()[0].version, 1, "the number comes twice");
    assert_ne!(lost, found);
    assert_ne!(login, other);
    let take = async |stamps: SecretVersions| {
        let stamps: Vec<_> = stamps.into_iter().collect();
        safe.secrets_take(&owner, &stamps, &Actor::Controller, "test").await.unwrap().remove(0)
    };
    assert!(take(lost).await.is_none(), "the other value is not taken for it");
    assert_eq!(take(found).await.unwrap().expose_text().unwrap(), "found");
}
