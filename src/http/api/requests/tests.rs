//! What a body has to be.

use super::*;
use crate::http::api::input::body;

#[test]
fn a_body_is_an_action_or_says_which_field_is_wrong() {
    let read = |value: Value| body::<Body>(value.to_string().as_bytes()).and_then(Body::action);
    let good = [
        (json!({"action": "promote"}), json!({"action": "promote"})),
        (
            json!({"action": "promote", "emergency": true, "reason": "fire", "release": "0123abcd", "from": "dev"}),
            json!({"action": "promote", "emergency": true, "release": "0123abcd", "from": "dev"}),
        ),
        (json!({"action": "rollback", "to": "previous"}), json!({"action": "rollback", "to": "previous"})),
        (
            json!({"action": "rollback", "to": {"lastGoodBefore": "2027-01-31T00:00:00Z"}}),
            json!({"action": "rollback", "to": {"lastGoodBefore": "2027-01-31T00:00:00Z"}}),
        ),
        (json!({"action": "hold", "reason": "audit"}), json!({"action": "hold"})),
        (json!({"action": "unveto", "release": "0123abcd"}), json!({"action": "unveto", "release": "0123abcd"})),
    ];
    for (sent, action) in good {
        let (read, _) = read(sent.clone()).unwrap_or_else(|problem| panic!("{sent}: {problem:?}"));
        assert_eq!(serde_json::to_value(read).unwrap(), action);
    }
    let long = "a".repeat(LONGEST_REASON + 1);
    let bad: [(Value, &[&str]); 13] = [
        (json!({}), &["action"]),
        (json!({"action": "explode"}), &["action"]),
        (json!({"action": "promote", "actor": "user:root"}), &["actor"]),
        (json!({"action": "promote", "groups": ["system:masters"]}), &["groups"]),
        (json!({"action": "promote", "release": "xyz"}), &["release"]),
        (json!({"action": "promote", "emergency": true}), &["reason"]),
        (json!({"action": "promote", "emergency": "yes"}), &["emergency"]),
        (json!({"action": "rollback"}), &["to"]),
        (json!({"action": "rollback", "to": {"deploy": "x"}}), &["to.deploy"]),
        (json!({"action": "hold"}), &["reason"]),
        (json!({"action": "unveto"}), &["release"]),
        (json!({"action": "abort", "to": "previous", "owner": "x"}), &["to", "owner"]),
        (json!({"action": "abort", "reason": long}), &["reason"]),
    ];
    for (sent, fields) in bad {
        let problem = read(sent.clone()).unwrap_err();
        let named: Vec<&str> = problem.errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(named, fields, "{sent}");
    }
}
