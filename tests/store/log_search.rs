//! Words in the lines of a whole project: all of them and in order, however they are found, and bounded work for each answer.

use serde_json::Value;
use sqlx::AssertSqlSafe;
use stagekeeper::store::{LogPage, LogSearch};

use crate::{
    fixture::Shop,
    plans::{committed, run},
};

/// 40 deploys of the project with 60 lines each in five months, among deploys of another project that write at the same time.
/// Every line has `worker`, one in nine `refused`; `needle` is in three lines of the oldest deploys, and one of them is in no
/// month at all. `chatter` is in 12,000 lines of the other project and in the very first one of this one.
const FILL: &str = "
SET session_replication_role = replica;
SELECT deploy_logs_partitions_ensure('2025-01-01', 5);
INSERT INTO projects (id, namespace, name) VALUES (md5('other')::uuid, 'acme', 'other');
INSERT INTO deploys (id, target_id, project_id, sequence, release_id, images, snapshot_hash, instance, state, since, epoch, actor,
                     cause, created_at, finished_at)
    SELECT md5(p.name || d)::uuid, p.id, p.id, d, 'r', '{}', 's', 'i', 'success', now(), 1, 'policy', 'x',
           timestamptz '2025-01-01' + d / 2 * interval '7 days', now()
    FROM projects AS p, generate_series(1, 40) AS d;
INSERT INTO deploy_logs (deploy_id, at, source, seq, level, line)
    SELECT d.id, CASE WHEN d.sequence = 2 AND l = 7 THEN timestamptz '1999-01-01' ELSE d.created_at + l * interval '1 day' END, 'web', l, 'info',
           'worker ' || l || CASE WHEN l % 9 = 0 THEN ' connection refused' ELSE ' connection fine' END
               || CASE WHEN d.sequence < 3 AND l IN (7, 8) THEN ' needle' ELSE '' END
               || CASE WHEN d.sequence = 1 AND l = 1 THEN ' chatter' ELSE '' END
    FROM generate_series(1, 60) AS l, deploys AS d
    -- Deploys write by turns, so that their lines arrive mixed.
    ORDER BY l / 20, d.sequence, l;
INSERT INTO deploy_logs (deploy_id, at, source, seq, level, line)
    SELECT md5('other' || 1 + l % 40)::uuid, timestamptz '2025-03-01' + l * interval '1 minute', 'noise', l, 'info', 'chatter ' || l
    FROM generate_series(1, 12000) AS l;
SET session_replication_role = DEFAULT;
ANALYZE";

async fn filled() -> Shop {
    let shop = Shop::new().await;
    sqlx::raw_sql(FILL).execute(&shop.sql).await.unwrap();
    shop
}

fn search(shop: &Shop, words: &str) -> LogSearch {
    LogSearch { project_id: shop.project, words: words.into(), before: None, limit: 50, most: LogSearch::MOST }
}

/// What the server finds by looking at everything.
async fn all_with(shop: &Shop, words: &str) -> Vec<i64> {
    sqlx::query_scalar(
        "SELECT l.position FROM deploy_logs AS l JOIN deploys AS d ON d.id = l.deploy_id
         WHERE d.project_id = $1 AND l.search @@ websearch_to_tsquery('simple', $2)
         ORDER BY d.created_at DESC, d.id DESC, l.position DESC",
    )
    .bind(shop.project)
    .bind(words)
    .fetch_all(&shop.sql)
    .await
    .unwrap()
}

/// All pages of a search.
async fn pages(shop: &Shop, first: LogSearch) -> Vec<LogPage> {
    let mut all: Vec<LogPage> = Vec::new();
    let mut next = Some(first.clone());
    while let Some(search) = next {
        let page = shop.logs_search(&search).await.unwrap();
        assert!(page.lines.len() <= usize::try_from(search.limit).unwrap());
        assert!(page.next.is_none() || page.next != search.before, "{search:?} comes no further");
        next = page.next.map(|place| LogSearch { before: Some(place), ..first.clone() });
        all.push(page);
        assert!(all.len() < 5000, "{first:?} does not end");
    }
    all
}

fn positions(pages: &[LogPage]) -> Vec<i64> {
    pages.iter().flat_map(|page| &page.lines).map(|line| line.position).collect()
}

#[tokio::test]
async fn every_line_with_the_words_is_found_once_and_in_order() {
    let shop = filled().await;
    for (words, count) in [
        ("worker", 2400),
        ("refused", 240),
        ("connection -fine", 240),
        ("needle", 4),
        ("\"connection refused\" needle", 0),
        ("\"refused connection\"", 0),
        ("-worker", 0),
        ("chatter", 1),
        ("chatter or needle", 5),
        ("absent", 0),
        ("", 0),
    ] {
        let want = all_with(&shop, words).await;
        assert_eq!(want.len(), count, "{words}");
        // From one page to very many; down to those for which next to nothing may be read.
        for (limit, most) in [(1000, LogSearch::MOST), (7, LogSearch::MOST), (50, 700), (50, 300), (3, 1)] {
            let is_long = want.len() > 300 && limit < 50;
            // Where the index does not help, there is a page for each line that is read.
            if is_long || (most == 1 && (want.len() > 5 || words.contains("chatter"))) {
                continue;
            }
            let found = pages(&shop, LogSearch { limit, most, ..search(&shop, words) }).await;
            assert_eq!(positions(&found), want, "{words}, {limit} of {most}");
            for page in &found {
                let is_full = page.lines.len() == usize::try_from(limit).unwrap();
                assert_eq!(page.gave_up, page.next.is_some() && !is_full, "{words}, {limit} of {most}: {page:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_rare_word_is_found_at_once_however_old_it_is() {
    let shop = filled().await;
    // One line is read, and then the index of words knows the rest.
    let found = shop.logs_search(&LogSearch { most: 1, ..search(&shop, "needle") }).await.unwrap();
    assert_eq!((found.lines.len(), found.next, found.gave_up), (4, None, false));
    assert_eq!(found.lines.iter().filter(|line| line.line.at.to_string().starts_with("1999")).count(), 1);
}

#[tokio::test]
async fn a_search_that_gives_up_says_how_far_it_came() {
    let shop = filled().await;
    // The other project has the word in more lines than the index is asked for, this one in its oldest line.
    let first = LogSearch { most: 1000, ..search(&shop, "chatter") };
    let page = shop.logs_search(&first).await.unwrap();
    assert_eq!((page.lines.len(), page.gave_up), (0, true));
    let place = page.next.unwrap();
    let unread: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM deploy_logs AS l JOIN deploys AS d ON d.id = l.deploy_id
         WHERE d.project_id = $1 AND (d.created_at, d.id, l.position) < ($2, $3, $4)",
    )
    .bind(shop.project)
    .bind(jiff_sqlx::Timestamp::from(place.made_at))
    .bind(place.deploy)
    .bind(place.position)
    .fetch_one(&shop.sql)
    .await
    .unwrap();
    // 500 lines and 410, for the nine deploys that they were first read of count for ten lines each.
    assert_eq!(unread, 2400 - 910);
    let whole = shop.logs_search(&search(&shop, "chatter")).await.unwrap();
    assert_eq!((whole.lines.len(), whole.next, whole.gave_up), (1, None, false));
    // A deploy that is gone meanwhile does not matter.
    shop.run(&format!("DELETE FROM deploys WHERE id = '{}'", place.deploy)).await.unwrap();
    let rest = shop.logs_search(&LogSearch { before: Some(place), ..search(&shop, "chatter") }).await.unwrap();
    assert_eq!((rest.lines.len(), rest.next), (1, None));
}

#[tokio::test]
async fn deploys_without_a_line_are_passed_over() {
    let shop = filled().await;
    sqlx::raw_sql(
        "SET session_replication_role = replica;
         INSERT INTO deploys (id, target_id, project_id, sequence, release_id, images, snapshot_hash, instance, state, since,
                              epoch, actor, cause, created_at, finished_at)
         SELECT md5('silent' || n)::uuid, target_id, project_id, 100 + n, release_id, images, snapshot_hash, instance, state,
                since, epoch, actor, cause, created_at + n * interval '1 minute', finished_at
         FROM deploys, generate_series(1, 600) AS n
         WHERE sequence = 1 AND project_id = (SELECT id FROM projects WHERE name = 'shop');
         SET session_replication_role = DEFAULT",
    )
    .execute(&shop.sql)
    .await
    .unwrap();
    let found = shop.logs_search(&search(&shop, "chatter")).await.unwrap();
    assert_eq!((found.lines.len(), found.next, found.gave_up), (1, None, false));
    // They count as something, so that there is an end to it.
    let found = shop.logs_search(&LogSearch { most: 4000, ..search(&shop, "chatter") }).await.unwrap();
    assert_eq!((found.lines.len(), found.gave_up), (0, true));
    let found = pages(&shop, LogSearch { most: 4000, ..search(&shop, "chatter") }).await;
    assert_eq!(positions(&found).len(), 1);
}

/// The plan of one of the program's statements, as it was carried out with these arguments and the program's settings.
async fn carried_out(shop: &Shop, words: &str, arguments: &str) -> Value {
    let mut session = shop.sql.acquire().await.unwrap();
    run(&mut session, "SET plan_cache_mode = force_generic_plan; SET jit = off; SET enable_sort = off").await;
    // A table of a few pages is read whole.
    run(&mut session, "SET enable_seqscan = off").await;
    let mut queries = committed().into_iter().filter(|query| query.contains(words));
    let query = queries.next().unwrap();
    assert_eq!(queries.next(), None, "{words}");
    run(&mut session, &format!("PREPARE asked AS {query}")).await;
    let explain = format!("EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE asked({arguments})");
    let row = sqlx::raw_sql(AssertSqlSafe(explain)).fetch_one(&mut *session).await.unwrap();
    session.close().await.unwrap();
    sqlx::Row::get::<Value, _>(&row, 0)
}

/// Everything that a plan read of tables whose name begins like this: how, and how many rows.
fn reads(plan: &Value, table: &str, found: &mut Vec<(String, u64)>) {
    match plan {
        Value::Object(node) => {
            let relation = node.get("Relation Name").and_then(Value::as_str);
            if relation.is_some_and(|relation| relation.starts_with(table)) {
                let number = |key: &str| node.get(key).and_then(Value::as_u64).unwrap_or_default();
                let each = number("Actual Rows") + number("Rows Removed by Filter");
                found.push((node["Node Type"].as_str().unwrap().to_owned(), each * number("Actual Loops")));
            }
            node.values().for_each(|value| reads(value, table, found));
        }
        Value::Array(nodes) => nodes.iter().for_each(|value| reads(value, table, found)),
        _ => {}
    }
}

fn total(reads: &[(String, u64)]) -> u64 {
    reads.iter().map(|(_, rows)| rows).sum()
}

#[tokio::test]
async fn no_statement_reads_more_than_it_may() {
    let shop = filled().await;
    let newest = "SELECT id::text FROM deploys WHERE project_id = $1 ORDER BY created_at DESC, id DESC";
    let newest: Vec<String> = sqlx::query_scalar(newest).bind(shop.project).fetch_all(&shop.sql).await.unwrap();
    let arguments = format!("'{{{}}}', 'absent', NULL, 50, 150", newest.join(","));
    let plan = carried_out(&shop, "looked_at AS MATERIALIZED", &arguments).await;
    let mut lines = Vec::new();
    reads(&plan, "deploy_logs", &mut lines);
    // Three deploys have 180 lines; of each month and deploy one line more may be looked at, to know which comes first.
    assert!((150..=180 + 4 * 8).contains(&total(&lines)), "{lines:?}");
    assert!(lines.iter().all(|(way, _)| way == "Index Scan"), "{lines:?}");

    // How many lines have the words decides how much is read, up to a bound. The other project has `needle` as often.
    for (words, most) in [("needle", 8), ("chatter", 10_001)] {
        let plan = carried_out(
            &shop,
            "known AS MATERIALIZED",
            &format!("'{}', '{words}', NULL, NULL, NULL, 50", shop.project),
        )
        .await;
        let (mut lines, mut deploys) = (Vec::new(), Vec::new());
        reads(&plan, "deploy_logs", &mut lines);
        reads(&plan, "deploys", &mut deploys);
        let all = total(&lines);
        // Once to find it, once to show it.
        assert!((most..=2 * most).contains(&all), "{words}: {lines:?}");
        assert!(total(&deploys) <= most && deploys.iter().all(|(way, _)| way == "Index Scan"), "{words}: {deploys:?}");
        assert!(plan.to_string().contains("Bitmap Index Scan"), "{words}: {plan}");
    }
}
