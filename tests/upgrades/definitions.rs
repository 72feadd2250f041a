//! The kinds: what the API server took with the definitions of the previous release, it takes with those of this one.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::{Value, json};

use crate::previous::{Previous, here};

/// Bounds that may only become wider.
const UPPER: [&str; 4] = ["maxLength", "maxItems", "maxProperties", "maximum"];
const LOWER: [&str; 4] = ["minLength", "minItems", "minProperties", "minimum"];

/// What stays as it is, where it was said.
const FIXED: [&str; 6] =
    ["type", "format", "default", "x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-int-or-string"];

/// The test.
pub fn take_what_they_took(previous: &Previous) {
    for kind in ["project", "stage", "environment"] {
        let (before, now) = (read(&previous.source, kind), read(here(), kind));
        assert_eq!(broken(&before, &now), Vec::<String>::new(), "{kind}");
        the_comparison_finds_what_it_is_for(&before);
    }
}

fn read(tree: &Path, kind: &str) -> Value {
    serde_yaml::from_str(&fs::read_to_string(tree.join(format!("crds/{kind}.yaml"))).unwrap()).unwrap()
}

/// What is refused, or lost, that was taken before.
fn broken(before: &Value, now: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for version in versions(before) {
        let name = version["name"].as_str().unwrap();
        match versions(now).iter().find(|one| one["name"] == name) {
            Some(still) if version["served"] != true || still["served"] == true => {
                let schema = |version: &Value| version.pointer("/schema/openAPIV3Schema").cloned().unwrap();
                compare(name, &schema(version), &schema(still), &mut found);
            }
            _ => found.push(format!("{name}: not served any more")),
        }
    }
    // What etcd holds is read as one of the versions that are named.
    let stored = |definition: &Value| -> Option<Value> {
        versions(definition).iter().find(|version| version["storage"] == true).map(|version| version["name"].clone())
    };
    if !versions(now).iter().any(|version| Some(&version["name"]) == stored(before).as_ref()) {
        found.push("the version that is stored has gone".to_owned());
    }
    found
}

fn versions(definition: &Value) -> &[Value] {
    definition["spec"]["versions"].as_array().unwrap()
}

fn compare(at: &str, before: &Value, now: &Value, found: &mut Vec<String>) {
    let mut say = |what: String| found.push(format!("{at}: {what}"));
    for name in FIXED {
        if before.get(name) != now.get(name) && (before.get(name).is_some() || name == "type") {
            say(format!("{name} was {}, and is {}", before[name], now[name]));
        }
    }
    for (names, is_upper) in [(UPPER, true), (LOWER, false)] {
        for name in names {
            let Some(bound) = now.get(name).and_then(Value::as_f64) else { continue };
            let narrower = before
                .get(name)
                .and_then(Value::as_f64)
                .is_none_or(|was| if is_upper { bound < was } else { bound > was });
            // Nothing is shorter than nothing.
            if narrower && (is_upper || bound > 0.0) {
                say(format!("{name} was {}, and is {bound}", before[name]));
            }
        }
    }
    if now.get("pattern").is_some() && now.get("pattern") != before.get("pattern") {
        say(format!("pattern was {}, and is {}", before["pattern"], now["pattern"]));
    }
    if before["nullable"] == true && now["nullable"] != true {
        say("null was taken".to_owned());
    }
    let set = |schema: &Value, name: &str| -> BTreeSet<String> {
        schema[name].as_array().into_iter().flatten().map(Value::to_string).collect()
    };
    if now.get("enum").is_some() {
        let lost = || set(before, "enum").difference(&set(now, "enum")).cloned().collect::<Vec<_>>();
        if before.get("enum").is_none() || !lost().is_empty() {
            say(format!("enum has lost {:?}", lost()));
        }
    }
    let asked: Vec<String> = set(now, "required").difference(&set(before, "required")).cloned().collect();
    if !asked.is_empty() {
        say(format!("{asked:?} became required"));
    }
    let rules = |schema: &Value| -> BTreeSet<String> {
        schema["x-kubernetes-validations"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|rule| rule["rule"].to_string())
            .collect()
    };
    let added: Vec<String> = rules(now).difference(&rules(before)).cloned().collect();
    if !added.is_empty() {
        say(format!("new rules: {added:?}"));
    }
    let keeps = |schema: &Value| schema["x-kubernetes-preserve-unknown-fields"] == true;
    if keeps(before) && !keeps(now) {
        say("unknown fields were kept".to_owned());
    }
    for (name, property) in before["properties"].as_object().into_iter().flatten() {
        match now["properties"].get(name) {
            Some(still) => compare(&format!("{at}.{name}"), property, still, found),
            None if keeps(now) => {}
            None => found.push(format!("{at}.{name}: there is no such field any more")),
        }
    }
    for (name, sign) in [("items", "[]"), ("additionalProperties", "{}")] {
        if let (Some(before), Some(now)) = (before.get(name), now.get(name)) {
            compare(&format!("{at}{sign}"), before, now, found);
        } else if before.get(name).is_some() != now.get(name).is_some() {
            found.push(format!("{at}: {name} was {}, and is {}", before[name], now[name]));
        }
    }
    for name in ["oneOf", "anyOf", "allOf", "not"] {
        if before.get(name) != now.get(name) && now.get(name).is_some() {
            found.push(format!("{at}: {name} was {}, and is {}", before[name], now[name]));
        }
    }
}

fn the_comparison_finds_what_it_is_for(definition: &Value) {
    let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
    let first = |change: fn(&mut Value)| {
        let mut changed = definition.clone();
        change(changed.pointer_mut(spec).unwrap());
        broken(definition, &changed)
    };
    let narrower: [fn(&mut Value); 6] = [
        |spec| spec["properties"].as_object_mut().unwrap().retain(|name, _| name.len() > 8),
        |spec| spec["required"] = json!(["project", "services", "more"]),
        |spec| spec["x-kubernetes-validations"] = json!([{"rule": "self.more == 1"}]),
        |spec| spec["properties"].first_property()["enum"] = json!(["a"]),
        |spec| spec["properties"].first_property()["type"] = json!("integer"),
        |spec| spec["maxProperties"] = json!(1),
    ];
    for (number, change) in narrower.into_iter().enumerate() {
        assert!(!first(change).is_empty(), "change {number} is not found");
    }
    assert_eq!(
        first(|spec| spec["properties"]["more"] = json!({"type": "string", "maxLength": 3})),
        Vec::<String>::new()
    );
    let mut unserved = definition.clone();
    unserved["spec"]["versions"][0]["served"] = json!(false);
    assert!(!broken(definition, &unserved).is_empty());
}

/// The first of the properties, to be changed.
trait First {
    fn first_property(&mut self) -> &mut Value;
}

impl First for Value {
    fn first_property(&mut self) -> &mut Value {
        self.as_object_mut().unwrap().values_mut().next().unwrap()
    }
}
