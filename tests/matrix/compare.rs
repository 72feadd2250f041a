//! Two outcomes beside each other.

use std::collections::BTreeSet;

use serde_json::Value;

/// Where `found` is something else than `expected`, a line for each place.
pub fn differences(expected: &Value, found: &Value) -> Vec<String> {
    let mut all = Vec::new();
    compare("", expected, found, &mut all);
    all
}

fn compare(path: &str, expected: &Value, found: &Value, all: &mut Vec<String>) {
    match (expected, found) {
        (Value::Object(one), Value::Object(other)) => {
            let names: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
            for name in names {
                let (one, other) = (one.get(name), other.get(name));
                compare(&format!("{path}/{name}"), one.unwrap_or(&Value::Null), other.unwrap_or(&Value::Null), all);
            }
        }
        (Value::Array(one), Value::Array(other)) if one != other => {
            let mut extra = other.clone();
            for item in one {
                match extra.iter().position(|other| other == item) {
                    Some(at) => drop(extra.remove(at)),
                    None => all.push(format!("{path}: missing {item}")),
                }
            }
            all.extend(extra.iter().map(|item| format!("{path}: new {item}")));
            if all.is_empty() {
                all.push(format!("{path}: in another order"));
            }
        }
        _ if expected != found => all.push(format!("{path}: {found}, expected {expected}")),
        _ => {}
    }
}
