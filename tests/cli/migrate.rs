//! `stagekeeper migrate`.

use crate::{binary::on, postgres::TestDatabase};

#[tokio::test]
async fn down_and_up_again_are_reported_and_repeatable() {
    let database = TestDatabase::new().await;
    let migrate = |arguments: &[&str]| {
        let all: Vec<&str> = ["migrate"].iter().chain(arguments).copied().collect();
        on(&database.url, &all)
    };
    let state_of = |line: &str| line.split_whitespace().nth(1).unwrap_or_default().to_owned();
    let states = |out: &str| -> Vec<String> { out.lines().skip(1).map(state_of).collect() };

    let all = states(&migrate(&["status"]).well());
    assert!(!all.is_empty());
    assert!(all.iter().all(|state| state == "applied"), "{all:?}");
    assert_eq!(migrate(&["up"]).well(), "nothing to do\n");

    let down = migrate(&["down"]).well();
    assert_eq!(down.lines().count(), 1, "one step at a time: {down}");
    assert!(down.starts_with("taken back migrations/"), "{down}");
    let status = migrate(&["status"]);
    assert_eq!(status.code, 1, "{status:?}");
    assert_eq!(states(&status.out).last().unwrap(), "pending");

    let everything = migrate(&["down", "--to", "0"]).well();
    assert_eq!(everything.lines().count(), all.len() - 1, "{everything}");
    assert_eq!(migrate(&["down"]).well(), "nothing to do\n");

    let up = migrate(&["up"]).well();
    assert_eq!(up.lines().count(), all.len(), "{up}");
    assert_eq!(states(&migrate(&["status"]).well()), all);

    let unknown = migrate(&["down", "--to", "9999"]).badly(1);
    assert!(unknown.contains("there is no migration 9999"), "{unknown}");
}

#[tokio::test]
async fn what_needs_the_schema_says_how_to_make_it() {
    let database = TestDatabase::new().await;
    on(&database.url, &["migrate", "down", "--to", "0"]).well();
    for arguments in [&["history", "-A"][..], &["logs", "01"], &["get", "deploy", "01"]] {
        let said = on(&database.url, arguments).badly(1);
        assert!(said.contains("stagekeeper migrate up"), "{said}");
    }
}
