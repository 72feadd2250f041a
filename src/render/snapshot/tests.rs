//! The stored format: what was written is read, and its hash stays.

use proptest::prelude::{ProptestConfig, any, prop_assert_eq, proptest};
use serde_json::json;

use super::*;
use crate::render::fixture::Fixture;

/// A document as version 1 wrote it, with every field. It is never changed: it stands for what is stored in databases.
const STORED: &str = include_str!("v1.json");

/// Its hash. Another one would give every stage that has such a snapshot a new instance.
const STORED_HASH: &str = "ea1bf2383967326607fc2ff8b3a8a9e0c951477caee4dd7de49c581f9fb61e77";

fn stored() -> Value {
    serde_json::from_str(STORED).expect("JSON")
}

#[test]
fn what_was_stored_is_read_whole_and_keeps_its_hash() {
    let snapshot = Snapshot::from_json(&stored()).expect("readable");
    assert_eq!(snapshot.to_json().expect("JSON"), stored());
    assert_eq!(snapshot.hash(), STORED_HASH);
}

#[test]
fn unknown_fields_are_passed_over() {
    let mut document = stored();
    document["later"] = json!({"a": 1});
    document["services"][0]["later"] = json!(1);
    document["services"][0]["volumes"][0]["later"] = json!([]);
    document["services"][0]["health"]["later"] = json!("x");
    document["hooks"]["later"] = json!([]);
    let read = Snapshot::from_json(&document).expect("readable");
    assert_eq!(read, Snapshot::from_json(&stored()).expect("readable"));
}

#[test]
fn what_a_newer_program_wrote_is_refused_and_damage_is_named() {
    let mut newer = stored();
    newer["version"] = json!(2);
    let error = Snapshot::from_json(&newer).expect_err("newer").to_string();
    assert!(error.contains("version 2") && error.contains("upgrade Stagekeeper"), "{error}");
    let mut damaged = stored();
    damaged.as_object_mut().expect("an object").remove("release");
    let error = Snapshot::from_json(&damaged).expect_err("damaged").to_string();
    assert!(error.contains("missing field `release`"), "{error}");
}

#[test]
fn tags_and_the_order_of_services_take_no_part_in_the_hash() {
    let mut snapshot = Snapshot::from_json(&stored()).expect("readable");
    for (_, image) in &mut snapshot.release.0 {
        image.tag = Some("moved".into());
    }
    snapshot.services.reverse();
    assert_eq!(snapshot.hash(), STORED_HASH);
}

/// Paths of all values in a document.
fn leaves(value: &Value, path: String, out: &mut Vec<String>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                let key = key.replace('~', "~0").replace('/', "~1");
                leaves(value, format!("{path}/{key}"), out);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (at, value) in items.iter().enumerate() {
                leaves(value, format!("{path}/{at}"), out);
            }
        }
        _ => out.push(path),
    }
}

#[test]
fn everything_else_takes_part() {
    let mut paths = Vec::new();
    leaves(&stored(), String::new(), &mut paths);
    for path in paths.iter().filter(|path| !path.ends_with("/tag")) {
        let mut document = stored();
        let leaf = document.pointer_mut(path).expect("a leaf");
        *leaf = match &*leaf {
            Value::Bool(is) => Value::Bool(!is),
            Value::Number(number) => json!(number.as_i64().expect("whole") - 1),
            Value::String(word) => match word.as_str() {
                "Instance" => json!("Stage"),
                "Stage" => json!("Instance"),
                "BlueGreen" => json!("Rolling"),
                span if path.ends_with("interval") || path.ends_with("imeout") => {
                    json!(format!("1h{span}"))
                }
                other => json!(format!("{other}x")),
            },
            Value::Object(_) | Value::Null => continue,
            Value::Array(_) => json!(["x"]),
        };
        let changed = Snapshot::from_json(&document).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_ne!(changed.hash(), STORED_HASH, "{path}");
    }
}

#[test]
fn the_instance_is_named_by_what_it_runs_unless_it_is_changed_in_place() {
    let mut snapshot = Snapshot::from_json(&stored()).expect("readable");
    let blue = snapshot.instance();
    assert_eq!(blue, names::tag8(STORED_HASH));
    snapshot.services[0].replicas += 1;
    assert_ne!(snapshot.instance(), blue);
    for strategy in [Strategy::Rolling, Strategy::Recreate] {
        snapshot.strategy = strategy;
        assert_eq!(snapshot.instance(), "main");
    }
}

#[test]
fn canonical_json_is_valid_and_sorted() {
    let value = json!({"b": [1, {"z": null, "a": "q\"\n\u{e9}"}], "a": 1.5, "": true});
    let mut text = String::new();
    canonical(&value, &mut text);
    assert_eq!(text, "{\"\":true,\"a\":1.5,\"b\":[1,{\"a\":\"q\\\"\\n\u{e9}\",\"z\":null}]}");
}

/// Writes an object with its keys in the order that `keys` gives, as another writer might.
fn shuffled(value: &Value, keys: &mut impl FnMut(Vec<String>) -> Vec<String>) -> String {
    match value {
        Value::Object(map) => {
            let order = keys(map.keys().cloned().collect());
            let fields =
                order.iter().map(|key| format!("{} : {}", Value::from(key.as_str()), shuffled(&map[key], keys)));
            let fields: Vec<String> = fields.collect();
            format!("{{ {} }}", fields.join(" , "))
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(|item| shuffled(item, keys)).collect();
            format!("[{}]", items.join(","))
        }
        scalar => scalar.to_string(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_hash_does_not_depend_on_the_order_of_fields(seed in any::<u64>()) {
        let mut state = seed | 1;
        let mut keys = |mut names: Vec<String>| {
            for at in (1..names.len()).rev() {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                names.swap(at, usize::try_from(state % (at as u64 + 1)).expect("small"));
            }
            names
        };
        let text = shuffled(&stored(), &mut keys);
        let read = Snapshot::from_json(&serde_json::from_str(&text).expect("JSON")).expect("readable");
        prop_assert_eq!(read.hash(), STORED_HASH);
    }
}

#[test]
fn every_fixture_survives_storage() {
    for text in [
        include_str!("../fixtures/single.yaml"),
        include_str!("../fixtures/database.yaml"),
        include_str!("../fixtures/volumes.yaml"),
        include_str!("../fixtures/overlay.yaml"),
        include_str!("../fixtures/hooks.yaml"),
        include_str!("../fixtures/secrets.yaml"),
    ] {
        let snapshot = Fixture::read(text).snapshot();
        let read = Snapshot::from_json(&snapshot.to_json().expect("JSON")).expect("readable");
        assert_eq!(read, snapshot);
        assert_eq!(read.hash(), snapshot.hash());
    }
}
