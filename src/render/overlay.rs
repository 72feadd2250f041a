//! Kubernetes' strategic merge, for pod templates: objects are merged by field, lists of named things by their key,
//! `null` deletes a field, `$patch: delete` an element, `$patch: replace` starts anew. Other lists are replaced.

use serde_json::{Map, Value};

/// Why two documents cannot be merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unmergeable {
    /// Path of the field, such as `spec.containers`.
    pub(super) path: String,
    /// What is wrong with it.
    pub(super) message: String,
}

/// Lists whose elements have an identity, with the field that holds it.
const KEYS: [(&str, &str); 10] = [
    ("containers", "name"),
    ("initContainers", "name"),
    ("volumes", "name"),
    ("env", "name"),
    ("imagePullSecrets", "name"),
    ("ports", "containerPort"),
    ("volumeMounts", "mountPath"),
    ("volumeDevices", "devicePath"),
    ("hostAliases", "ip"),
    ("topologySpreadConstraints", "topologyKey"),
];

const DIRECTIVE: &str = "$patch";

/// Merges `over` into `base`.
pub(super) fn merge(base: &mut Value, over: &Map<String, Value>) -> Result<(), Unmergeable> {
    merge_object(base, over, "")
}

fn merge_object(base: &mut Value, over: &Map<String, Value>, path: &str) -> Result<(), Unmergeable> {
    match over.get(DIRECTIVE).and_then(Value::as_str) {
        Some("replace") => *base = Value::Object(Map::new()),
        Some("merge") => {}
        None if !over.contains_key(DIRECTIVE) => {}
        _ => {
            return Err(unmergeable(path, "has a $patch that is none of merge, replace and delete"));
        }
    }
    if !base.is_object() {
        *base = Value::Object(Map::new());
    }
    let Value::Object(base) = base else {
        return Ok(());
    };
    for (name, value) in over.iter().filter(|(name, _)| *name != DIRECTIVE) {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        if name.starts_with('$') {
            return Err(unmergeable(&path, "is a directive that is not supported"));
        }
        match value {
            Value::Null => {
                base.remove(name);
            }
            Value::Object(fields) if fields.get(DIRECTIVE) == Some(&Value::from("delete")) => {
                base.remove(name);
            }
            Value::Object(fields) => {
                merge_object(base.entry(name.clone()).or_insert(Value::Null), fields, &path)?;
            }
            Value::Array(items) => {
                let base = base.entry(name.clone()).or_insert(Value::Null);
                match KEYS.iter().find(|(list, _)| list == name) {
                    Some((_, key)) => merge_list(base, items, key, &path)?,
                    None => *base = value.clone(),
                }
            }
            scalar => {
                base.insert(name.clone(), scalar.clone());
            }
        }
    }
    Ok(())
}

/// Elements of `over` are merged into those with the same key; new ones come last.
fn merge_list(base: &mut Value, over: &[Value], key: &str, path: &str) -> Result<(), Unmergeable> {
    if !base.is_array() {
        *base = Value::Array(Vec::new());
    }
    let Value::Array(base) = base else {
        return Ok(());
    };
    for element in over {
        let Value::Object(fields) = element else {
            return Err(unmergeable(path, "has an element that is not an object"));
        };
        let Some(identity) = fields.get(key) else {
            return Err(unmergeable(path, &format!("has an element without {key}, by which it is merged")));
        };
        let at = base.iter().position(|other| other.get(key) == Some(identity));
        let path = format!("{path}[{}]", identity.as_str().map_or(identity.to_string(), str::to_owned));
        if fields.get(DIRECTIVE) == Some(&Value::from("delete")) {
            at.map(|at| base.remove(at));
        } else if let Some(at) = at {
            merge_object(&mut base[at], fields, &path)?;
        } else {
            let mut new = Value::Null;
            merge_object(&mut new, fields, &path)?;
            base.push(new);
        }
    }
    Ok(())
}

fn unmergeable(path: &str, message: &str) -> Unmergeable {
    Unmergeable { path: path.to_owned(), message: message.to_owned() }
}

/// Paths of fields of `given` that `read`, the same document after it was read into types, has lost: the names that
/// the types do not know.
pub(super) fn lost_fields(given: &Value, read: &Value) -> Vec<String> {
    let mut lost = Vec::new();
    collect_lost(given, read, "", &mut lost);
    lost
}

fn collect_lost(given: &Value, read: &Value, path: &str, lost: &mut Vec<String>) {
    match (given, read) {
        (Value::Object(given), Value::Object(read)) => {
            for (name, value) in given.iter().filter(|(_, value)| !value.is_null()) {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                match read.get(name) {
                    Some(read) => collect_lost(value, read, &path, lost),
                    None => lost.push(path),
                }
            }
        }
        (Value::Array(given), Value::Array(read)) => {
            for (at, (given, read)) in given.iter().zip(read).enumerate() {
                let name = given.get("name").and_then(Value::as_str);
                let at = name.map_or(at.to_string(), str::to_owned);
                collect_lost(given, read, &format!("{path}[{at}]"), lost);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    struct Case {
        name: &'static str,
        base: Value,
        over: Value,
        want: Result<Value, &'static str>,
    }

    #[test]
    fn merging_follows_kubernetes() {
        let containers = |list: Value| json!({"spec": {"containers": list}});
        let cases = [
            Case {
                name: "fields of objects are added and replaced",
                base: json!({"a": 1, "b": {"c": 2}}),
                over: json!({"b": {"c": 3, "d": 4}}),
                want: Ok(json!({"a": 1, "b": {"c": 3, "d": 4}})),
            },
            Case {
                name: "null deletes",
                base: json!({"a": 1, "b": {"c": 2}}),
                over: json!({"a": null, "b": {"x": null}}),
                want: Ok(json!({"b": {"c": 2}})),
            },
            Case {
                name: "null in something new leaves no null behind",
                base: json!({}),
                over: json!({"a": {"b": null, "c": 1}}),
                want: Ok(json!({"a": {"c": 1}})),
            },
            Case {
                name: "containers by name, variables inside them too",
                base: containers(
                    json!([{"name": "web", "image": "i", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]}]),
                ),
                over: containers(
                    json!([{"name": "web", "env": [{"name": "B", "value": "3"}]}, {"name": "proxy", "image": "p"}]),
                ),
                want: Ok(containers(json!([
                    {"name": "web", "image": "i", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "3"}]},
                    {"name": "proxy", "image": "p"}
                ]))),
            },
            Case {
                name: "an element is deleted by directive",
                base: json!({"volumes": [{"name": "a"}, {"name": "b"}]}),
                over: json!({"volumes": [{"name": "a", "$patch": "delete"}, {"name": "x", "$patch": "delete"}]}),
                want: Ok(json!({"volumes": [{"name": "b"}]})),
            },
            Case {
                name: "an object is replaced by directive",
                base: json!({"volumes": [{"name": "a", "emptyDir": {}}]}),
                over: json!({"volumes": [{"name": "a", "$patch": "replace", "secret": {"secretName": "s"}}]}),
                want: Ok(json!({"volumes": [{"name": "a", "secret": {"secretName": "s"}}]})),
            },
            Case {
                name: "an object is deleted by directive",
                base: json!({"securityContext": {"runAsUser": 1}}),
                over: json!({"securityContext": {"$patch": "delete"}}),
                want: Ok(json!({})),
            },
            Case {
                name: "mounts by path, ports by number",
                base: json!({"volumeMounts": [{"mountPath": "/a", "name": "x"}], "ports": [{"containerPort": 80, "name": "http"}]}),
                over: json!({"volumeMounts": [{"mountPath": "/a", "readOnly": true}], "ports": [{"containerPort": 90}]}),
                want: Ok(json!({
                    "volumeMounts": [{"mountPath": "/a", "name": "x", "readOnly": true}],
                    "ports": [{"containerPort": 80, "name": "http"}, {"containerPort": 90}]
                })),
            },
            Case {
                name: "lists without identity are replaced",
                base: json!({"args": ["a", "b"], "tolerations": [{"key": "x"}]}),
                over: json!({"args": ["c"], "tolerations": []}),
                want: Ok(json!({"args": ["c"], "tolerations": []})),
            },
            Case {
                name: "an element without identity is refused",
                base: json!({}),
                over: containers(json!([{"image": "i"}])),
                want: Err("spec.containers has an element without name, by which it is merged"),
            },
            Case {
                name: "an unknown directive is refused",
                base: json!({}),
                over: json!({"spec": {"$retainKeys": ["a"]}}),
                want: Err("spec.$retainKeys is a directive that is not supported"),
            },
            Case {
                name: "an unknown value of the directive is refused",
                base: json!({}),
                over: json!({"spec": {"$patch": "keep"}}),
                want: Err("spec has a $patch that is none of merge, replace and delete"),
            },
        ];
        for Case { name, mut base, over, want } in cases {
            let over = over.as_object().expect(name);
            let merged = merge(&mut base, over).map(|()| base);
            let merged = merged.map_err(|error| format!("{} {}", error.path, error.message));
            assert_eq!(merged, want.map_err(str::to_owned), "{name}");
        }
    }

    #[test]
    fn lost_fields_are_named_by_path() {
        let given = json!({"spec": {"a": 1, "gone": null, "containers": [{"name": "web", "imagee": "x"}]}, "c": {}});
        let read = json!({"spec": {"a": 1, "containers": [{"name": "web", "image": ""}]}, "c": {}});
        assert_eq!(lost_fields(&given, &read), ["spec.containers[web].imagee"]);
    }
}
