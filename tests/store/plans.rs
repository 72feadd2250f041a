//! Every query of the program against 100,000 deploys: none may read a whole large table.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::fixture::Shop;

/// Tables that grow with the number of deploys, and with what they use.
const LARGE: [&str; 23] = [
    "subdomains",
    "deploys",
    "deploy_transitions",
    "deploy_logs",
    "audit_log",
    "hook_runs",
    "unready",
    "instances",
    "vetoes",
    "approvals",
    "releases",
    "snapshots",
    "credential_uses",
    "secret_versions",
    "secret_uses",
    "image_scans",
    "webhook_inbox",
    "image_updates",
    "tag_assignments",
    "users",
    "api_replies",
    "pull_requests",
    "outbox",
];

/// 50 projects with 10 stages each; 200 deploys a stage, all but the last finished.
const FILL: &str = "
SET session_replication_role = replica;
INSERT INTO projects (id, namespace, name)
    SELECT md5('p' || p)::uuid, 'ns-' || p % 5, 'project-' || p FROM generate_series(1, 50) AS p;
INSERT INTO targets (id, project_id, kind)
    SELECT md5('t' || t)::uuid, md5('p' || 1 + t % 50)::uuid, 'stage' FROM generate_series(0, 499) AS t;
INSERT INTO stages (id, project_id, namespace, name, uid)
    SELECT md5('t' || t)::uuid, md5('p' || 1 + t % 50)::uuid, 'ns-' || (1 + t % 50) % 5, 'stage-' || t, 'uid'
    FROM generate_series(0, 499) AS t;
INSERT INTO subdomains (subdomain, environment_id, given_at, ended_at)
    SELECT 's-' || s, CASE WHEN s < 500 THEN md5('t' || s)::uuid ELSE md5('gone' || s)::uuid END, now(),
           CASE WHEN s >= 500 THEN now() END
    FROM generate_series(0, 19999) AS s;
INSERT INTO environments (id, uid, subdomain, place, born_at, active_at)
    SELECT CASE WHEN s < 500 THEN md5('t' || s)::uuid ELSE md5('gone' || s)::uuid END, 'uid', 's-' || s, 'p-' || s, now(), now()
    FROM generate_series(0, 19999) AS s;
INSERT INTO releases (project_id, id, images)
    SELECT md5('p' || 1 + r % 50)::uuid, repeat(md5('r' || r), 2),
           jsonb_build_object('web', jsonb_build_object('repository', 'r/shop', 'digest', md5(r::text)),
                              'db', jsonb_build_object('repository', 'r/db', 'digest', md5('db' || r % 10)))
    FROM generate_series(0, 19999) AS r;
INSERT INTO snapshots (project_id, hash, content)
    SELECT md5('p' || 1 + s % 50)::uuid, 's' || s, '{}' FROM generate_series(0, 19999) AS s;
INSERT INTO deploys (id, target_id, project_id, sequence, release_id, images, snapshot_hash, instance, state, since,
                     epoch, actor, cause, created_at, finished_at)
    SELECT lpad(to_hex(d), 32, '0')::uuid, md5('t' || d % 500)::uuid, md5('p' || 1 + d % 50)::uuid, 1 + d / 500,
           repeat(md5('r' || d % 20000), 2),
           jsonb_build_object('web', jsonb_build_object('repository', 'r/shop', 'tag', d::text, 'digest', md5(d::text))),
           's' || d % 20000, 'i' || d,
           CASE WHEN d >= 99500 THEN 'pending' WHEN d % 7 = 0 THEN 'rolled_back' ELSE 'success' END,
           now(), 1, 'policy', 'x', now() - (100000 - d) * interval '1 minute', CASE WHEN d < 99500 THEN now() END
    FROM generate_series(0, 99999) AS d;
INSERT INTO deploy_transitions (deploy_id, version, step, to_state, actor, reason, message, at)
    SELECT lpad(to_hex(d), 32, '0')::uuid, 1, 1, 'pending', 'policy', 'x', 'x', now()
    FROM generate_series(0, 99999) AS d;
INSERT INTO instances (target_id, name, deploy_id, status, deleted_at)
    SELECT md5('t' || d % 500)::uuid, 'i' || d, lpad(to_hex(d), 32, '0')::uuid, 'running', CASE WHEN d < 19000 THEN now() END
    FROM generate_series(0, 19999) AS d;
INSERT INTO vetoes (id, target_id, release_id, deploy_id, reason, actor, at, lifted_at, lifted_by)
    SELECT lpad(to_hex(d), 32, '0')::uuid, md5('t' || d % 500)::uuid, repeat(md5('r' || d % 20000), 2), lpad(to_hex(d), 32, '0')::uuid, 'x',
           'policy', now(), CASE WHEN d < 19000 THEN now() END, CASE WHEN d < 19000 THEN 'policy' END
    FROM generate_series(0, 19999) AS d;
INSERT INTO approvals (id, target_id, release_id, actor, verified, reason, at)
    SELECT lpad(to_hex(a), 32, '0')::uuid, md5('t' || a % 500)::uuid, repeat(md5('r' || a % 20000), 2), 'user:jane', true, 'x',
           now() FROM generate_series(0, 19999) AS a;
INSERT INTO hook_runs (deploy_id, phase, name, started_at)
    SELECT lpad(to_hex(d), 32, '0')::uuid, 'verify', 'smoke', now() FROM generate_series(0, 19999) AS d;
INSERT INTO unready (deploy_id, since) SELECT lpad(to_hex(d), 32, '0')::uuid, now() FROM generate_series(0, 19999) AS d;
INSERT INTO deploy_logs (deploy_id, at, source, seq, level, line)
    SELECT lpad(to_hex(l % 5000), 32, '0')::uuid, now() + l % 400 * interval '1 day', 'pod', l, 'info',
           'word' || l % 997 || ' and word' || l % 499
    FROM generate_series(0, 49999) AS l;
INSERT INTO audit_log (seq, at, actor, action, subject, details, prev_hash, hash)
    SELECT a, now() - (20000 - a) * interval '1 minute', CASE WHEN a % 100 = 0 THEN 'user:u' || a % 7 ELSE 'policy' END,
           'x.' || a % 20, 'deploy/' || a, jsonb_build_object('target', md5('t' || a % 500)::uuid), '', ''
    FROM generate_series(1, 20000) AS a;
INSERT INTO users (name, groups, first_seen_at, last_seen_at)
    SELECT 'user-' || u, '{}', now() - u * interval '1 minute', now() - u * interval '1 minute'
    FROM generate_series(0, 19999) AS u;
INSERT INTO encryption_keys (id, canary_wrapped, canary_body) SELECT 'key-' || k, 'x', 'x' FROM generate_series(0, 4) AS k;
INSERT INTO credentials (id, project_id, name, kind, version, key_id, wrapped_key, body, origin, created_by, updated_by)
    SELECT md5('c' || c)::uuid, md5('p' || 1 + c % 50)::uuid, 'c-' || c, 'registry', 1, 'key-' || c % 5, 'x',
           repeat('a', 77)::bytea, 'x', 'x', 'x'
    FROM generate_series(0, 99) AS c;
INSERT INTO secrets (id, project_id, service, name, version, origin, created_by, updated_by)
    SELECT md5('s' || s)::uuid, md5('p' || 1 + s % 50)::uuid, CASE WHEN s % 2 = 0 THEN 'web' ELSE '' END, 'S_' || s, 20,
           'x', 'x', 'x'
    FROM generate_series(0, 999) AS s;
INSERT INTO secret_versions (id, secret_id, version, key_id, wrapped_key, body, created_by)
    SELECT md5('v' || v)::uuid, md5('s' || v % 1000)::uuid, 1 + v / 1000, 'key-' || v % 5, 'x', repeat('a', 77)::bytea, 'x'
    FROM generate_series(0, 19999) AS v;
INSERT INTO credential_uses (credential_id, version, actor, purpose, at)
    SELECT md5('c' || u % 100)::uuid, 1, 'controller', 'x', now() - u * interval '1 minute'
    FROM generate_series(0, 19999) AS u;
INSERT INTO secret_uses (secret_id, version, actor, purpose, at)
    SELECT md5('s' || u % 1000)::uuid, 1, 'controller', 'x', now() - u * interval '1 minute'
    FROM generate_series(0, 19999) AS u;
INSERT INTO image_scans (key, repository, about, tags, scanned_at)
    SELECT repeat(md5('s' || s), 2), 'r.test/web-' || s % 5000, 'tags', '1.0.0', now() - s * interval '1 minute'
    FROM generate_series(0, 19999) AS s;
INSERT INTO webhook_receivers (id, project_id, name, source, token)
    SELECT md5('w' || w)::uuid, md5('p' || w)::uuid, 'w-' || w, 'diun', repeat(md5('w' || w), 2)
    FROM generate_series(1, 50) AS w;
INSERT INTO webhook_inbox (id, receiver_id, delivery, headers, body, size, state, received_at, settled_at)
    SELECT md5('i' || i)::uuid, md5('w' || 1 + i % 50)::uuid, 'id:' || i, '[]', 'x', 1,
           CASE WHEN i < 19990 THEN 'processed' ELSE 'pending' END, now() - i * interval '1 minute',
           CASE WHEN i < 19990 THEN now() - i * interval '1 minute' END
    FROM generate_series(0, 19999) AS i;
INSERT INTO image_updates (image, host, platform, new_digest, provider, seen_by, first_seen_at, last_seen_at,
                           acknowledged_digest, acknowledged_by, acknowledged_at)
    SELECT 'r/app-' || u % 5000, 'ns-' || u % 5 || '/stage-' || u / 100, 'linux/amd64', 'sha256:' || repeat(md5('n' || u), 2), '',
           'policy', now() - u * interval '1 minute', now(),
           'sha256:' || repeat(md5(CASE WHEN u < 500 THEN 'o' ELSE 'n' END || u), 2), 'controller', now()
    FROM generate_series(0, 49999) AS u;
INSERT INTO update_tags (name, created_by) SELECT 'tag-' || t, 'x' FROM generate_series(0, 999) AS t;
INSERT INTO tag_assignments (tag_id, update_id, created_by)
    SELECT 1 + a % 1000, 1 + a, 'x' FROM generate_series(0, 19999) AS a;
INSERT INTO approvals (id, target_id, release_id, actor, verified, reason, at)
    SELECT md5('a' || a)::uuid, md5('t' || a % 500)::uuid, repeat(md5('r' || a), 2), 'user:x', true, 'x',
           now() - a * interval '1 minute'
    FROM generate_series(0, 19999) AS a;
INSERT INTO api_replies (actor, key, request, status, reply, at)
    SELECT 'user:u-' || r % 100, 'key-' || r, repeat('a', 32)::bytea, 200, '{}', now() - r * interval '1 minute'
    FROM generate_series(0, 19999) AS r;
INSERT INTO pull_requests (id, project_id, provider, repository, number, title, author, branch, target, head, head_repository,
                           fork, labels, vouched, state, told_at, heard_at)
    SELECT md5('pr' || r)::uuid, md5('p' || 1 + r % 50)::uuid, 'github', 'acme/shop', 1 + r, 'x', 'x', 'x', 'main', 'x', 'x',
           false, '{}', '{}', CASE WHEN r < 19500 THEN 'closed' ELSE 'open' END, now(), now() - r * interval '1 minute'
    FROM generate_series(0, 19999) AS r;
INSERT INTO outbox (id, project_id, kind, key, payload, next_at, sent_at)
    SELECT md5('o' || o)::uuid, md5('p' || 1 + o % 50)::uuid, 'comment', 'key-' || o, '{}',
           CASE WHEN o >= 19900 THEN now() + o * interval '1 second' END, now()
    FROM generate_series(0, 19999) AS o;
SET session_replication_role = DEFAULT;
ANALYZE";

/// Reads the plan of a prepared statement that must do for any arguments.
async fn plan(session: &mut PgConnection, query: &str) -> Value {
    let prepare = format!("PREPARE asked AS {query}");
    run(session, &prepare).await;
    let arguments: i64 = sqlx::query_scalar(
        "SELECT cardinality(parameter_types)::bigint FROM pg_prepared_statements WHERE name = 'asked'",
    )
    .fetch_one(&mut *session)
    .await
    .unwrap();
    let arguments = vec!["NULL"; usize::try_from(arguments).unwrap()].join(", ");
    let arguments = if arguments.is_empty() { arguments } else { format!("({arguments})") };
    let explain = format!("EXPLAIN (FORMAT JSON) EXECUTE asked{arguments}");
    let row = sqlx::raw_sql(AssertSqlSafe(explain))
        .fetch_one(&mut *session)
        .await
        .unwrap_or_else(|error| panic!("{query}: {error}"));
    run(session, "DEALLOCATE asked").await;
    sqlx::Row::get::<Value, _>(&row, 0)
}

pub(crate) async fn run(session: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(session)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// The large tables, or parts of them, that a plan reads from end to end.
fn read_whole(plan: &Value, found: &mut BTreeSet<String>) {
    match plan {
        Value::Object(node) => {
            let relation = node.get("Relation Name").and_then(Value::as_str);
            if node.get("Node Type").and_then(Value::as_str) == Some("Seq Scan")
                && let Some(relation) = relation
                && LARGE.iter().any(|large| relation == *large || relation.starts_with("deploy_logs"))
            {
                found.insert(relation.to_owned());
            }
            node.values().for_each(|value| read_whole(value, found));
        }
        Value::Array(nodes) => nodes.iter().for_each(|value| read_whole(value, found)),
        _ => {}
    }
}

/// Every query of the program.
pub(crate) fn committed() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(".sqlx");
    let files = fs::read_dir(folder).unwrap().map(|file| fs::read_to_string(file.unwrap().path()).unwrap());
    let described = files.map(|text| serde_json::from_str::<Value>(&text).unwrap());
    described.map(|described| described["query"].as_str().unwrap().to_owned()).collect()
}

/// Words of the query for what served at an instant.
const SERVED: &str = "d.state = 'success' AND d.finished_at <= $1";

/// Words of queries, and the index that must answer them.
const ANSWERED_BY: [(&str, &str); 10] = [
    ("WITH upstream AS", "deploys_proven"),
    ("WITH upstream AS (", "approvals_one_active"),
    ("image_digests(", "releases_by_digest"),
    ("WITH runs AS MATERIALIZED", "stages_pkey"),
    ("dora_changes", "deploys_ended"),
    (SERVED, "deploys_ended"),
    ("audit_place(", "audit_log_by_place"),
    ("audit_log AS a WHERE a.actor = $7", "audit_log_by_actor"),
    ("audit_log AS a WHERE a.action = $7", "audit_log_by_action"),
    ("audit_log AS a WHERE a.subject = $7", "audit_log_by_subject"),
];

#[tokio::test]
async fn no_query_reads_a_whole_large_table() {
    let shop = Shop::new().await;
    let mut session = shop.sql.acquire().await.unwrap();
    run(&mut session, FILL).await;
    run(&mut session, "SET plan_cache_mode = force_generic_plan").await;

    let mut control = BTreeSet::new();
    let careless = "SELECT id FROM deploys WHERE cause = $1";
    read_whole(&plan(&mut session, careless).await, &mut control);
    assert_eq!(control, BTreeSet::from(["deploys".to_owned()]));

    let mut looked_at = 0;
    let (mut careless, mut answered) = (Vec::new(), BTreeSet::new());
    for query in committed() {
        let mut found = BTreeSet::new();
        let plan = plan(&mut session, &query).await;
        read_whole(&plan, &mut found);
        for (words, index) in ANSWERED_BY.iter().filter(|(words, _)| query.contains(words)) {
            assert!(plan.to_string().contains(&format!("\"{index}\"")), "{index} does not answer\n{query}\n{plan}");
            answered.insert(words);
        }
        if query.contains(SERVED) {
            // One that sorts what it has found has looked for deploys of every stage there is, for a page of some.
            assert_eq!(plan[0]["Plan"]["Plans"][0]["Node Type"], "Nested Loop", "{plan}");
        }
        if !found.is_empty() {
            careless.push(format!("{found:?} by\n{query}"));
        }
        looked_at += 1;
    }
    assert!(looked_at > 40, "{looked_at}");
    assert_eq!(answered.len(), ANSWERED_BY.len(), "{answered:?}");
    assert!(careless.is_empty(), "{}", careless.join("\n\n"));
}
