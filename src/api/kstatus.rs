//! How generic tools read an object's progress: the rules of kstatus, as Flux and Helm apply them to kinds that they
//! do not know. The same answer serves our own `--wait` and the tests of our conditions.

use serde_json::Value;

use super::conditions::{READY, RECONCILING, STALLED};

/// What a generic tool takes an object's state to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// It is as wanted.
    Current,
    /// It is not as wanted yet.
    InProgress,
    /// It will not become as wanted by itself.
    Failed,
    /// It is being deleted.
    Terminating,
}

/// The progress of any object, in JSON. The first rule that decides wins: being deleted; an observed generation that
/// is not the object's; the first condition in the list of `Reconciling` and `Stalled` that is true; `Ready`. An
/// object that says nothing is current.
pub fn compute(object: &Value) -> Progress {
    let deleted = object.pointer("/metadata/deletionTimestamp").and_then(Value::as_str);
    if deleted.is_some_and(|at| !at.is_empty()) {
        return Progress::Terminating;
    }
    let generation = object.pointer("/metadata/generation").and_then(Value::as_i64);
    let observed = object.pointer("/status/observedGeneration").and_then(Value::as_i64);
    if let (Some(generation), Some(observed)) = (generation, observed)
        && generation != observed
    {
        return Progress::InProgress;
    }
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    by_conditions(conditions.map(Vec::as_slice).unwrap_or_default())
}

fn by_conditions(conditions: &[Value]) -> Progress {
    let pairs = || conditions.iter().map(|condition| (condition["type"].as_str(), condition["status"].as_str()));
    let negative = pairs().find_map(|condition| match condition {
        (Some(RECONCILING), Some("True")) => Some(Progress::InProgress),
        (Some(STALLED), Some("True")) => Some(Progress::Failed),
        _ => None,
    });
    let ready = || pairs().find(|(type_, _)| *type_ == Some(READY));
    negative.unwrap_or_else(|| match ready() {
        Some((_, Some("False" | "Unknown"))) => Progress::InProgress,
        _ => Progress::Current,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(generation: i64, observed: Option<i64>, conditions: &[(&str, &str)]) -> Value {
        let conditions: Vec<_> =
            conditions.iter().map(|(type_, status)| json!({"type": type_, "status": status})).collect();
        let mut object = json!({"metadata": {"generation": generation}, "status": {"conditions": conditions}});
        if let Some(observed) = observed {
            object["status"]["observedGeneration"] = observed.into();
        }
        object
    }

    #[test]
    fn the_rules_decide_in_their_order() {
        use Progress::{Current, Failed, InProgress, Terminating};
        let mut deleted = object(1, Some(1), &[("Stalled", "True")]);
        deleted["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        let mut kept = object(1, Some(1), &[("Ready", "True")]);
        kept["metadata"]["deletionTimestamp"] = "".into();
        let cases = [
            ("says nothing", json!({}), Current),
            ("being deleted", deleted, Terminating),
            ("empty deletion time", kept, Current),
            ("newborn", object(1, Some(-1), &[]), InProgress),
            ("newborn with a leftover Ready", object(1, Some(-1), &[("Ready", "True")]), InProgress),
            ("spec changed", object(2, Some(1), &[("Ready", "True")]), InProgress),
            ("spec changed while stalled", object(2, Some(1), &[("Stalled", "True")]), InProgress),
            ("no observed generation", object(2, None, &[("Ready", "True")]), Current),
            ("no observed generation, stalled", object(2, None, &[("Stalled", "True")]), Failed),
            ("observed, no conditions", object(2, Some(2), &[]), Current),
            ("ready", object(2, Some(2), &[("Ready", "True")]), Current),
            ("not ready is not failed", object(2, Some(2), &[("Ready", "False")]), InProgress),
            ("ready unknown", object(2, Some(2), &[("Ready", "Unknown")]), InProgress),
            ("ready in other words", object(2, Some(2), &[("Ready", "Maybe")]), Current),
            ("at work", object(2, Some(2), &[("Ready", "True"), ("Reconciling", "True")]), InProgress),
            ("stalled", object(2, Some(2), &[("Ready", "False"), ("Stalled", "True")]), Failed),
            ("both, work first", object(2, Some(2), &[("Reconciling", "True"), ("Stalled", "True")]), InProgress),
            ("both, stalled first", object(2, Some(2), &[("Stalled", "True"), ("Reconciling", "True")]), Failed),
            (
                "neither true",
                object(2, Some(2), &[("Reconciling", "False"), ("Stalled", "Unknown"), ("Ready", "True")]),
                Current,
            ),
            ("another type", object(2, Some(2), &[("Degraded", "True")]), Current),
        ];
        for (name, object, wanted) in cases {
            assert_eq!(compute(&object), wanted, "{name}");
        }
    }
}
