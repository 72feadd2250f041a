//! `stagekeeper logs`.

use serde_json::Value;
use stagekeeper::store::LogLevel;

use crate::{
    binary::{Running, on, run, stagekeeper},
    shop::{Shop, id},
};

/// The lines without their time.
fn texts(out: &str) -> Vec<&str> {
    let text = |line: &'_ str| line.find(' ').map_or(0, |at| at + 1);
    out.lines().map(|line| &line[text(line)..]).collect()
}

#[tokio::test]
async fn lines_come_in_order_and_cannot_steer_a_terminal() {
    let shop = Shop::new("acme").await;
    let deploy = id(2).to_string();
    let out = on(shop.url(), &["logs", &deploy]).well();
    let expected = [
        "hook/migrate 2 tables made",
        "pod/web-0/web listening\u{fffd}[31m on 8080",
        "probe ERROR GET /healthz answered 500",
    ];
    assert_eq!(texts(&out), expected, "{out}");

    let json = on(shop.url(), &["logs", &deploy, "-o", "json"]).well();
    let lines: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).expect("an object per line")).collect();
    assert_eq!(lines[1]["text"], "listening\u{1b}[31m on 8080");
    assert_eq!(lines[2]["level"], "error");
    assert_eq!(lines[2]["deploy"], deploy);

    assert_eq!(on(shop.url(), &["logs", &id(1).to_string()]).well(), "");
}

#[tokio::test]
async fn search_takes_words_as_a_web_search_does() {
    let shop = Shop::new("acme").await;
    let deploy = id(2).to_string();
    for (words, expected) in
        [("tables", 1), ("get 500", 1), ("tables OR answered", 2), ("answered -500", 0), ("\"answered 500\"", 1)]
    {
        let out = on(shop.url(), &["logs", &deploy, "--search", words]).well();
        assert_eq!(out.lines().count(), expected, "{words}: {out}");
    }
}

#[tokio::test]
async fn a_whole_project_is_searched_from_its_newest_deploy_back() {
    let shop = Shop::new("acme").await;
    shop.line(3, 1, "probe", LogLevel::Warn, "GET /healthz answered 503").await;
    let search = ["logs", "-n", "acme", "--project", "shop", "--search", "answered"];
    let out = on(shop.url(), &search).well();
    let expected = [
        format!("{} probe WARN GET /healthz answered 503", id(3)),
        format!("{} probe ERROR GET /healthz answered 500", id(2)),
    ];
    assert_eq!(texts(&out), expected, "{out}");

    let mut one = stagekeeper(&search);
    let ended = run(one.args(["--limit", "1"]).env("DATABASE_URL", shop.url()));
    assert_eq!((ended.code, texts(&ended.out)), (0, vec![&*expected[0]]), "{ended:?}");
    assert_eq!(ended.err, "there may be older ones: raise --limit (now 1)\n");
    let mut none = stagekeeper(&["logs", "-n", "acme", "--project", "shop", "--search", "answered -get"]);
    let ended = run(none.env("DATABASE_URL", shop.url()));
    assert_eq!((ended.code, &*ended.out, &*ended.err), (0, "", "no lines found\n"));
    for wrong in [&["logs"][..], &["logs", "--project", "shop"], &["logs", "-f", "--project", "shop", "--search", "x"]]
    {
        let said = run(stagekeeper(wrong).env("DATABASE_URL", shop.url())).badly(2);
        assert!(said.contains("--search") || said.contains("DEPLOY") || said.contains("--follow"), "{wrong:?}: {said}");
    }
}

#[tokio::test]
async fn following_ends_with_the_deploy_and_misses_nothing() {
    let shop = Shop::new("acme").await;
    let deploy = id(3).to_string();
    shop.line(3, 1, "operator", LogLevel::Info, "one").await;
    let follower = Running::start(stagekeeper(&["logs", "-f", &deploy]).env("DATABASE_URL", shop.url()));
    assert!(follower.out().ends_with("operator one"));
    shop.line(3, 2, "operator", LogLevel::Warn, "two").await;
    assert!(follower.out().ends_with("operator WARN two"));
    shop.line(3, 3, "operator", LogLevel::Info, "three").await;
    shop.finish(3).await;
    let ended = follower.end();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(texts(&ended.out), ["operator three"]);
    assert_eq!(ended.err, format!("deploy {deploy} ended: success\n"));
}
