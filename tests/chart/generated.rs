//! Files of the chart that are written from others: the definitions, the admission policies, the table of the README.

use std::{env, fmt::Write as _, fs};

use serde_yaml::Value;

use super::helm::{chart, root};

/// Compares a file of the chart with what it should be, or rewrites it when asked to.
fn hold(file: &str, wanted: &str) {
    let path = chart().join(file);
    if env::var_os("UPDATE").is_some() {
        fs::write(&path, wanted).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == wanted, "charts/stagekeeper/{file} is old: run `UPDATE=1 cargo test --test chart`, and commit");
}

#[test]
fn the_definitions_are_ours() {
    for name in ["environment", "project", "stage"] {
        let text = fs::read_to_string(root().join(format!("crds/{name}.yaml"))).unwrap();
        let (_, rest) = text.split_once('\n').expect("a first line that says where it comes from");
        assert!(!rest.contains("{{"), "crds/{name}.yaml: Helm would take this for a template");
        let kept = "metadata:\n  {{- if .Values.crds.keep }}\n  annotations:\n    helm.sh/resource-policy: keep\n  {{- end }}\n";
        let rest = rest.replacen("metadata:\n", kept, 1);
        let head = format!("# Generated from crds/{name}.yaml: `UPDATE=1 cargo test --test chart`.");
        let wanted = format!("{{{{- if .Values.crds.install }}}}\n{head}\n{}\n{{{{- end }}}}\n", rest.trim_end());
        hold(&format!("templates/crds/{name}.yaml"), &wanted);
    }
}

#[test]
fn the_admission_policies_are_those_of_the_examples() {
    for file in ["policies.yaml", "request-user.yaml"] {
        hold(&format!("files/{file}"), &fs::read_to_string(root().join("examples/operator").join(file)).unwrap());
    }
}

/// A key of `values.yaml` with the comment above it.
struct Key {
    path: String,
    comment: String,
}

/// The keys that have a comment. A comment is the lines right above a key.
fn documented(text: &str) -> Vec<Key> {
    let mut found = Vec::new();
    let mut comment = Vec::new();
    let mut parents: Vec<(usize, String)> = Vec::new();
    for line in text.lines() {
        let trimmed = line.trim_start();
        if let Some(words) = trimmed.strip_prefix('#') {
            comment.push(words.trim());
            continue;
        }
        let Some((name, _)) = trimmed.split_once(':').filter(|_| !trimmed.starts_with('-')) else {
            comment.clear();
            continue;
        };
        let depth = line.len() - trimmed.len();
        parents.retain(|(of, _)| *of < depth);
        parents.push((depth, name.to_owned()));
        let path = parents.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>().join(".");
        if !comment.is_empty() {
            found.push(Key { path, comment: comment.join(" ") });
            comment.clear();
        }
    }
    found
}

/// Paths of everything that is no map, or an empty one.
fn leaves(path: &str, value: &Value, into: &mut Vec<String>) {
    match value.as_mapping() {
        Some(map) if !map.is_empty() => {
            for (name, value) in map {
                let name = name.as_str().unwrap();
                let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
                leaves(&path, value, into);
            }
        }
        _ => into.push(path.to_owned()),
    }
}

fn at<'a>(values: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(values, |value, name| &value[name])
}

#[test]
fn the_readme_says_what_the_values_say() {
    let text = fs::read_to_string(chart().join("values.yaml")).unwrap();
    let values: Value = serde_yaml::from_str(&text).unwrap();
    let keys = documented(&text);
    let mut all = Vec::new();
    leaves("", &values, &mut all);
    for leaf in &all {
        let told = keys.iter().any(|key| leaf == &key.path || leaf.starts_with(&format!("{}.", key.path)));
        assert!(told, "charts/stagekeeper/values.yaml: {leaf} has no comment");
    }
    let mut table = String::from("| value | default | what it is |\n|---|---|---|\n");
    for Key { path, comment } in &keys {
        let value: serde_json::Value = serde_json::to_value(at(&values, path)).unwrap();
        assert!(!value.is_null(), "values.yaml: {path} is not there");
        writeln!(table, "| `{path}` | `{value}` | {} |", comment.replace('|', "\\|")).unwrap();
    }
    let page = fs::read_to_string(chart().join("README.md")).unwrap();
    let (begin, end) = ("<!-- generated: values -->\n", "<!-- end: values -->\n");
    let (head, rest) = page.split_once(begin).expect("where the table begins");
    let (_, tail) = rest.split_once(end).expect("where the table ends");
    hold("README.md", &format!("{head}{begin}\n{table}\n{end}{tail}"));
}
