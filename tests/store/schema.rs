//! What the schema itself forbids, and what a purge takes along.

use stagekeeper::{
    crypto::{Sealed, Wrapped},
    domain::{
        actor::Actor,
        credential::CredentialKind,
        deploy::{Phase, State},
        secret::SecretId,
    },
    store::{
        Advance, CredentialUse, DeclaredReceiver, DeliveryKey, InstanceChange, InstanceStatus, LogLevel, LogLine,
        NewCredential, NewDelivery, NewReceiver, NewSecret, NewVeto, Received, RegistrySettings, SecretUse,
    },
};

use crate::{
    fixture::{Shop, WAY, at, id, new_deploy, step},
    pull_requests::{known, message},
};

/// A shop with a row in every table below a project.
async fn full_shop() -> Shop {
    let shop = Shop::new().await;
    let stage = shop.stage(2, "dev").await;
    let good = shop.success(&new_deploy(stage, 1, 10)).await;
    let deploy = shop.pending(&new_deploy(stage, 2, 11)).await;
    let advance = Advance {
        instances: vec![InstanceChange { name: "blue".into(), status: InstanceStatus::Running, deploy: Some(deploy) }],
        veto: Some(NewVeto { id: id(90), reason: "bad".into() }),
        ..step(deploy, 1, State::Pending, State::Pulling, "Started")
    };
    shop.deploy_advance(&advance).await.unwrap();
    shop.hook_begin(deploy, Phase::Verify, "smoke", at(2)).await.unwrap();
    shop.unready_begin(deploy, at(2)).await.unwrap();
    let line = LogLine { at: at(2), source: "operator".into(), seq: 0, level: LogLevel::Error, text: "hello".into() };
    shop.logs_append(deploy, &[line]).await.unwrap();
    let sealed = Sealed { wrapped: Wrapped { key: "2026".parse().unwrap(), bytes: vec![1] }, body: vec![1; 77] };
    assert_eq!(shop.encryption_key_add(&sealed, at(0)).await, Ok(true));
    let (version, origin, project) = (1, String::from("test"), shop.project);
    let new = NewCredential {
        id: id(91),
        project,
        name: "ghcr".into(),
        kind: CredentialKind::Registry,
        version,
        sealed: sealed.clone(),
        hosts: Vec::new(),
        origin: origin.clone(),
        expires_at: None,
        actor: Actor::Policy,
    };
    shop.credential_put(&new, at(2)).await.unwrap();
    let secret = SecretId::for_service("KEY", "web");
    let new = NewSecret { id: id(92), project, secret, version, value: id(93), sealed, origin, actor: Actor::Policy };
    shop.secrets_put(&[new], at(2)).await.unwrap();
    let (actor, purpose) = (String::from("policy"), String::from("test"));
    let used = SecretUse { secret: id(92), version, actor: actor.clone(), purpose: purpose.clone(), at: at(3) };
    shop.secret_uses_append(&[used]).await.unwrap();
    shop.credential_uses_append(&[CredentialUse { credential: id(91), version, actor, purpose, at: at(3) }])
        .await
        .unwrap();
    let registry = RegistrySettings {
        host: "r.test".into(),
        insecure: false,
        ca_pem: None,
        requests_per_second: None,
        token_realms: Vec::new(),
    };
    assert_eq!(shop.registry_put(&registry, &Actor::Policy, at(3)).await, Ok(true));
    let declared =
        DeclaredReceiver { name: "push".into(), source: "diun".into(), credentials: Vec::new(), registry: None };
    let receiver = NewReceiver { id: id(94), token: "t".repeat(43), declared };
    assert_eq!(shop.receivers_declare(project, &[receiver], &Actor::Policy, at(3)).await, Ok(1));
    let delivery = NewDelivery {
        id: id(95),
        receiver: id(94),
        key: DeliveryKey::Id("1".into()),
        headers: Vec::new(),
        body: Vec::new(),
        ignored: None,
    };
    assert_eq!(shop.inbox_put(&delivery, at(3)).await, Ok(Received::New(id(95))));
    assert_eq!(shop.pull_request_put(id(96), project, &known(7, 1), None, at(3)).await, Ok(true));
    let told = shop.outbox_put(&message(97, project, "hello"), jiff::SignedDuration::ZERO, at(3)).await;
    assert_eq!(told, Ok(true));
    let linked = format!("UPDATE deploys SET rollback_of = '{good}' WHERE id = '{deploy}'");
    assert_eq!(shop.run(&linked).await, Ok(1));
    shop
}

const BELOW_A_PROJECT: [&str; 20] = [
    "targets",
    "stages",
    "releases",
    "snapshots",
    "deploys",
    "deploy_transitions",
    "deploy_logs",
    "hook_runs",
    "unready",
    "instances",
    "vetoes",
    "credentials",
    "credential_uses",
    "secrets",
    "secret_versions",
    "secret_uses",
    "webhook_receivers",
    "webhook_inbox",
    "pull_requests",
    "outbox",
];

#[tokio::test]
async fn a_purge_takes_everything_but_the_audit_log() {
    let shop = full_shop().await;
    for table in BELOW_A_PROJECT {
        let rows = shop.number(&format!("SELECT count(*) FROM {table}")).await;
        assert!(rows > 0, "{table} has nothing to lose");
    }
    assert_eq!(shop.run("DELETE FROM projects").await, Ok(1));
    for table in BELOW_A_PROJECT {
        let rows = shop.number(&format!("SELECT count(*) FROM {table}")).await;
        assert_eq!(rows, 0, "{table}");
    }
    assert_eq!(shop.number("SELECT count(*) FROM audit_log").await, 6);
    assert_eq!(shop.audit_verify().await.unwrap().broken, None);
}

#[tokio::test]
async fn a_deploy_goes_with_what_it_wrote_and_leaves_the_rest() {
    let shop = full_shop().await;
    let (good, deploy) = (id(10), id(11));
    shop.run(&format!("DELETE FROM deploys WHERE id = '{good}'")).await.unwrap();
    let orphaned = format!("SELECT count(*) FROM deploys WHERE id = '{deploy}' AND rollback_of IS NULL");
    assert_eq!(shop.number(&orphaned).await, 1);
    assert_eq!(shop.number("SELECT count(*) FROM deploy_transitions").await, 2);
    assert_eq!(shop.number("SELECT count(*) FROM releases").await, 2);
    shop.run(&format!("DELETE FROM deploys WHERE id = '{deploy}'")).await.unwrap();
    for table in ["deploy_transitions", "deploy_logs", "hook_runs", "unready", "instances", "vetoes"] {
        let rows = shop.number(&format!("SELECT count(*) FROM {table}")).await;
        assert_eq!(rows, 0, "{table}");
    }
    assert_eq!(shop.number("SELECT count(*) FROM stages").await, 1);
}

#[tokio::test]
async fn rows_that_others_need_stay() {
    let shop = full_shop().await;
    for table in ["releases", "snapshots"] {
        let error = shop.run(&format!("DELETE FROM {table}")).await.unwrap_err();
        assert!(error.to_string().contains("23503"), "{table}: {error}");
    }
}

#[tokio::test]
async fn history_is_append_only() {
    let shop = full_shop().await;
    for sql in [
        "UPDATE deploy_transitions SET message = 'it went well'",
        "DELETE FROM deploy_transitions",
        "TRUNCATE deploy_transitions",
        "UPDATE audit_log SET actor = 'user:nobody'",
        "DELETE FROM audit_log",
        "TRUNCATE audit_log",
        "UPDATE secret_uses SET actor = 'nobody'",
        "UPDATE credential_uses SET actor = 'nobody'",
        "TRUNCATE deploys CASCADE",
        "DELETE FROM settings",
    ] {
        let error = shop.run(sql).await.unwrap_err();
        assert!(error.to_string().contains("23001"), "{sql}: {error}");
    }
    assert_eq!(shop.number("SELECT count(*) FROM deploy_transitions").await, 8);
}

/// Statements that a healthy program never sends, and the constraint that stops each.
#[tokio::test]
async fn nonsense_is_refused() {
    let shop = full_shop().await;
    let rows = [
        ("UPDATE deploys SET state = 'fine' WHERE sequence = 2", "deploys_state_check"),
        ("UPDATE deploys SET state = 'success' WHERE sequence = 2", "deploys_finished"),
        ("UPDATE deploys SET finished_at = now() WHERE sequence = 2", "deploys_finished"),
        ("UPDATE deploys SET sequence = 0 WHERE sequence = 2", "deploys_sequence_check"),
        ("UPDATE deploys SET sequence = 1 WHERE sequence = 2", "deploys_target_id_sequence_key"),
        ("UPDATE deploys SET actor = 'root' WHERE sequence = 2", "deploys_actor_check"),
        ("UPDATE deploys SET actor = 'user:' WHERE sequence = 2", "deploys_actor_check"),
        ("UPDATE deploys SET epoch = -1 WHERE sequence = 2", "deploys_epoch_check"),
        ("UPDATE deploys SET images = '[]' WHERE sequence = 2", "deploys_images_check"),
        ("UPDATE deploys SET instance = '' WHERE sequence = 2", "deploys_instance_check"),
        ("UPDATE deploys SET state = 'starting', finished_at = NULL WHERE sequence = 1", "deploys_one_active"),
        ("UPDATE instances SET status = 'removed'", "instances_status_check"),
        ("UPDATE hook_runs SET phase = 'later'", "hook_runs_phase_check"),
        ("UPDATE hook_runs SET ok = true", "hook_runs_check"),
        ("UPDATE vetoes SET lifted_at = now()", "vetoes_check"),
        ("UPDATE deploy_logs SET level = 'loud'", "deploy_logs_level_check"),
        ("UPDATE releases SET id = 'short'", "releases_id_check"),
        ("UPDATE targets SET kind = 'moon'", "targets_kind_check"),
        ("UPDATE settings SET log_retention_days = 0", "settings_log_retention_days_check"),
        ("INSERT INTO settings DEFAULT VALUES", "settings_pkey"),
        ("INSERT INTO audit_head (seq, hash) VALUES (0, '')", "audit_head_pkey"),
        ("INSERT INTO leader_epochs (lease, holder, epoch) VALUES ('x', 'y', 0)", "leader_epochs_epoch_check"),
        ("UPDATE secrets SET name = '1A'", "secrets_name_check"),
        ("UPDATE secrets SET name = 'A/B'", "secrets_name_check"),
        ("UPDATE secrets SET name = repeat('a', 129)", "secrets_name_check"),
        ("UPDATE secrets SET service = 'a/b'", "secrets_service_check"),
        ("UPDATE secrets SET version = 0", "secrets_version_check"),
        ("UPDATE secrets SET origin = ''", "secrets_origin_check"),
        ("UPDATE secret_versions SET body = NULL", "secret_versions_check"),
        ("UPDATE secret_versions SET body = repeat('a', 76)::bytea", "secret_versions_body_check"),
        ("UPDATE secret_versions SET key_id = '2027'", "secret_versions_key_id_fkey"),
        ("UPDATE registries SET host = 'R.test'", "registries_host_check"),
        ("UPDATE registries SET host = 'https://r.test'", "registries_host_check"),
        ("UPDATE registries SET requests_per_second = 0", "registries_requests_per_second_check"),
        ("UPDATE registries SET requests_per_second = 'NaN'", "registries_requests_per_second_check"),
        ("UPDATE registries SET requests_per_second = 'Infinity'", "registries_requests_per_second_check"),
        (
            "INSERT INTO deploy_transitions (deploy_id, version, step, to_state, actor, reason, message, at)
             SELECT id, 9, 1, 'gone', 'policy', 'x', '', now() FROM deploys",
            "deploy_transitions_to_state_check",
        ),
        (
            "INSERT INTO audit_log (at, actor, action, subject, details) VALUES (now(), 'root', 'a', 'b', '{}')",
            "audit_log_actor_check",
        ),
    ];
    for (sql, constraint) in rows {
        let error = shop.run(sql).await.unwrap_err().to_string();
        assert!(error.contains(&format!("\"{constraint}\"")), "{sql}: {error}");
    }
}

/// The words of the program and those of the schema are the same.
#[tokio::test]
async fn the_schema_knows_every_state() {
    let shop = Shop::new().await;
    for column in ["deploys_state_check", "deploy_transitions_to_state_check"] {
        let sql = "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = $1";
        let check: String = sqlx::query_scalar(sql).bind(column).fetch_one(&shop.sql).await.unwrap();
        let mut quoted: Vec<&str> = check.split('\'').skip(1).step_by(2).collect();
        let mut words: Vec<&str> = State::ALL.iter().map(|state| state.word()).collect();
        quoted.sort_unstable();
        words.sort_unstable();
        assert_eq!(quoted, words, "{column}");
    }
    let index = "SELECT pg_get_indexdef('deploys_one_active'::regclass)";
    let index: String = sqlx::query_scalar(index).fetch_one(&shop.sql).await.unwrap();
    for state in State::ALL {
        let named = index.contains(&format!("'{}'", state.word()));
        assert_eq!(named, state.is_active(), "{state}");
    }
}

#[tokio::test]
async fn changed_rows_know_when() {
    let shop = Shop::new().await;
    let stage = shop.stage(2, "dev").await;
    let deploy = shop.pending(&new_deploy(stage, 1, 10)).await;
    shop.run("UPDATE deploys SET updated_at = '2000-01-01'").await.unwrap();
    shop.walk(deploy, &WAY[..1]).await;
    let touched = "SELECT count(*) FROM deploys WHERE updated_at > now() - interval '1 hour'";
    assert_eq!(shop.number(touched).await, 1);
    let untouched = "SELECT count(*) FROM information_schema.columns AS c
        JOIN pg_class ON relname = table_name AND NOT relispartition
        WHERE column_name = 'updated_at' AND NOT EXISTS (
            SELECT FROM information_schema.triggers AS t
            WHERE t.event_object_table = c.table_name AND t.trigger_name = c.table_name || '_updated_at')";
    assert_eq!(shop.number(untouched).await, 0, "a table without its trigger");
}
