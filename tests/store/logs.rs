//! Deploy logs: routed to their month, searched, continued, pruned; never lost, never doubled.

use jiff::Timestamp;
use stagekeeper::store::{LogFilter, LogLevel, LogLine, LogSearch, StoredLine};
use uuid::Uuid;

use crate::fixture::{Shop, id, new_deploy};

fn line(at: &str, source: &str, seq: i64, text: &str) -> LogLine {
    LogLine { at: at.parse().unwrap(), source: source.into(), seq, level: LogLevel::Info, text: text.into() }
}

async fn shop_with_deploy() -> (Shop, Uuid) {
    let shop = Shop::new().await;
    let stage = shop.stage(2, "dev").await;
    let deploy = shop.pending(&new_deploy(stage, 1, 10)).await;
    (shop, deploy)
}

fn from_start(deploy: Uuid) -> LogFilter {
    LogFilter { deploy, search: None, after: 0, limit: 1000 }
}

fn texts(lines: &[StoredLine]) -> Vec<&str> {
    lines.iter().map(|stored| stored.line.text.as_str()).collect()
}

#[tokio::test]
async fn lines_come_back_in_order_and_once() {
    let (shop, deploy) = shop_with_deploy().await;
    let batch = [
        line("2026-03-01T12:00:03Z", "pod/web", 1, "third"),
        line("2026-03-01T12:00:01Z", "pod/web", 0, "first"),
        line("2026-03-01T12:00:02Z", "events", 0, "second\0"),
        line("2026-03-01T12:00:02Z", "events", 0, "the same line again"),
    ];
    assert_eq!(shop.logs_append(deploy, &batch).await, Ok(3));
    assert_eq!(shop.logs_append(deploy, &batch).await, Ok(0));
    assert_eq!(shop.logs_append(deploy, &[]).await, Ok(0));
    // The same line, collected again after a crash with the time of collecting.
    let again = [line("2026-04-09T00:00:00Z", "events", 0, "second")];
    assert_eq!(shop.logs_append(deploy, &again).await, Ok(0));
    let lines = shop.logs_list(&from_start(deploy)).await.unwrap();
    assert_eq!(texts(&lines), ["first", "second\u{fffd}", "third"]);
    assert_eq!(lines[0].line, batch[1]);
    assert_eq!(lines[0].deploy, deploy);
    let error = shop.logs_append(id(99), &batch).await.unwrap_err();
    assert_eq!(error.reason(), "StoreConflict", "a deploy that is gone: {error}");
}

#[tokio::test]
async fn a_reader_that_follows_misses_nothing() {
    let (shop, deploy) = shop_with_deploy().await;
    let mut filter = LogFilter { limit: 2, ..from_start(deploy) };
    let mut read = Vec::new();
    for seq in 0..7 {
        // Later lines may be older: other pods, other clocks.
        let at = format!("2026-03-01T12:00:{:02}Z", 59 - seq);
        let new = [line(&at, "pod/web", seq, &format!("line {seq}"))];
        shop.logs_append(deploy, &new).await.unwrap();
        if seq % 3 == 2 {
            continue;
        }
        let page = shop.logs_list(&filter).await.unwrap();
        filter.after = page.last().map_or(filter.after, |last| last.position);
        read.extend(page.into_iter().map(|stored| stored.line.seq));
    }
    assert_eq!(read, [0, 1, 2, 3, 4, 5, 6]);
}

#[tokio::test]
async fn words_are_found() {
    let (shop, deploy) = shop_with_deploy().await;
    let batch = [
        line("2026-03-01T12:00:01Z", "pod/web", 0, "GET /healthz: Connection refused"),
        line("2026-03-01T12:00:02Z", "pod/web", 1, "connection established"),
        line("2026-03-01T12:00:03Z", "pod/web", 2, "exit code 1"),
    ];
    shop.logs_append(deploy, &batch).await.unwrap();
    for (words, want) in [
        ("connection", vec![0, 1]),
        ("connection refused", vec![0]),
        ("connection -refused", vec![1]),
        ("\"exit code\"", vec![2]),
        ("code exit or established", vec![1, 2]),
        ("absent", vec![]),
    ] {
        let filter = LogFilter { search: Some(words.into()), ..from_start(deploy) };
        let found = shop.logs_list(&filter).await.unwrap();
        let found: Vec<i64> = found.iter().map(|stored| stored.line.seq).collect();
        assert_eq!(found, want, "{words}");
        let everywhere = shop.logs_search(&everything(&shop, words)).await.unwrap();
        let mut everywhere: Vec<i64> = everywhere.lines.iter().map(|stored| stored.line.seq).collect();
        everywhere.reverse();
        assert_eq!(everywhere, want, "{words}, in the whole project");
    }
    let search = LogSearch { limit: 1, ..everything(&shop, "connection") };
    let page = shop.logs_search(&search).await.unwrap();
    assert_eq!((texts(&page.lines), page.gave_up), (vec!["connection established"], false));
    let page = shop.logs_search(&LogSearch { before: page.next, ..search }).await.unwrap();
    assert_eq!((page.lines[0].line.seq, page.next), (0, None));
    let elsewhere = LogSearch { project_id: id(99), ..everything(&shop, "connection") };
    assert_eq!(shop.logs_search(&elsewhere).await.unwrap().lines, Vec::new());
}

fn everything(shop: &Shop, words: &str) -> LogSearch {
    LogSearch { project_id: shop.project, words: words.into(), before: None, limit: 1000, most: LogSearch::MOST }
}

#[tokio::test]
async fn endless_lines_are_cut() {
    let (shop, deploy) = shop_with_deploy().await;
    let long = "word ".repeat(1 << 20);
    let batch = [line("2026-03-01T12:00:01Z", "pod/web", 0, &long)];
    assert_eq!(shop.logs_append(deploy, &batch).await, Ok(1));
    let lines = shop.logs_list(&from_start(deploy)).await.unwrap();
    let text = &lines[0].line.text;
    assert!(text.len() < 70_000, "{}", text.len());
    assert!(text.ends_with("[cut, 5242880 bytes]"));
}

async fn partition_of(shop: &Shop, seq: i64) -> String {
    sqlx::query_scalar("SELECT tableoid::regclass::text FROM deploy_logs WHERE seq = $1")
        .bind(seq)
        .fetch_one(&shop.sql)
        .await
        .unwrap()
}

#[tokio::test]
async fn months_are_made_ahead_and_dropped_behind() {
    let (shop, deploy) = shop_with_deploy().await;
    let batch = [
        line("2031-01-31T23:59:59.999999Z", "x", 0, "january"),
        line("2031-02-01T00:00:00Z", "x", 1, "february"),
        line("2031-03-15T00:00:00Z", "x", 2, "march"),
        line("2020-06-01T00:00:00Z", "x", 3, "long ago"),
    ];
    shop.logs_append(deploy, &batch).await.unwrap();
    assert_eq!(partition_of(&shop, 1).await, "deploy_logs_default");

    // Lines that came before their month was made move into it.
    let now: Timestamp = "2031-01-10T00:00:00Z".parse().unwrap();
    assert_eq!(shop.partitions_ensure(now, 1).await, Ok(2));
    assert_eq!(shop.partitions_ensure(now, 1).await, Ok(0));
    assert_eq!(partition_of(&shop, 0).await, "deploy_logs_203101");
    assert_eq!(partition_of(&shop, 1).await, "deploy_logs_203102");
    assert_eq!(partition_of(&shop, 2).await, "deploy_logs_default");
    assert_eq!(shop.logs_list(&from_start(deploy)).await.unwrap().len(), 4);
    assert_eq!(shop.logs_append(deploy, &batch).await, Ok(0), "moved lines are known");
    let new = [line("2031-02-02T00:00:00Z", "x", 4, "later in february")];
    shop.logs_append(deploy, &new).await.unwrap();
    assert_eq!(partition_of(&shop, 4).await, "deploy_logs_203102");

    // A month goes when all of it is past the horizon.
    let horizon: Timestamp = "2031-02-27T00:00:00Z".parse().unwrap();
    assert!(shop.logs_prune(horizon).await.unwrap() >= 1);
    let left = shop.logs_list(&from_start(deploy)).await.unwrap();
    let mut left = texts(&left);
    left.sort_unstable();
    assert_eq!(left, ["february", "later in february", "march"]);
    assert_eq!(shop.logs_prune(horizon).await, Ok(0));
}

#[tokio::test]
async fn two_who_make_the_same_months_make_them_once() {
    let (shop, deploy) = shop_with_deploy().await;
    let batch = [line("2032-05-05T00:00:00Z", "x", 0, "early")];
    shop.logs_append(deploy, &batch).await.unwrap();
    let now: Timestamp = "2032-05-01T00:00:00Z".parse().unwrap();
    let ensure = || shop.partitions_ensure(now, 3);
    let (one, two, three) = tokio::join!(ensure(), ensure(), ensure());
    assert_eq!(one.unwrap() + two.unwrap() + three.unwrap(), 4);
    assert_eq!(partition_of(&shop, 0).await, "deploy_logs_203205");
}
