//! Pure: who is let in.

use serde_json::Value;

use crate::{config::Allow, identity::Claims};

/// Whether one of the rules lets in whom these claims are of.
pub fn lets_in(rules: &[Allow], claims: &Claims) -> bool {
    rules.iter().any(|rule| match rule {
        Allow::Anyone => true,
        Allow::Email(wanted) => email(claims).is_some_and(|email| email.eq_ignore_ascii_case(wanted)),
        Allow::Domain(wanted) => email(claims)
            .and_then(|email| email.rsplit_once('@'))
            .is_some_and(|(name, domain)| !name.is_empty() && domain.eq_ignore_ascii_case(wanted)),
        Allow::Claim { name, value } => match claims.get(name) {
            Some(Value::Array(all)) => all.iter().any(|one| is(one, value)),
            Some(one) => is(one, value),
            None => false,
        },
    })
}

/// An address that nobody has verified may be anybody's.
fn email(claims: &Claims) -> Option<&str> {
    let verified = claims.get("email_verified") == Some(&Value::Bool(true));
    claims.get("email").and_then(Value::as_str).filter(|_| verified)
}

fn is(claim: &Value, wanted: &str) -> bool {
    match claim {
        Value::String(text) => text == wanted,
        Value::Bool(_) | Value::Number(_) => {
            let text = claim.to_string();
            text == wanted
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claims(claims: Value) -> Claims {
        let Value::Object(claims) = claims else { panic!("claims") };
        claims
    }

    #[test]
    fn a_rule_lets_in_whom_it_is_about() {
        let jane = json!({
            "sub": "1", "email": "Jane@acme.test", "email_verified": true, "groups": ["dev", "ops"], "team": "shop",
            "level": 3, "staff": true,
        });
        let claim = |name: &str, value: &str| Allow::Claim { name: name.into(), value: value.into() };
        let cases = [
            (Allow::Anyone, true),
            (Allow::Email("jane@acme.test".into()), true),
            (Allow::Email("john@acme.test".into()), false),
            (Allow::Domain("ACME.test".into()), true),
            (Allow::Domain("test".into()), false),
            (Allow::Domain("evil-acme.test".into()), false),
            (claim("groups", "dev"), true),
            (claim("groups", "de"), false),
            (claim("groups", "[\"dev\",\"ops\"]"), false),
            (claim("team", "shop"), true),
            (claim("level", "3"), true),
            (claim("staff", "true"), true),
            (claim("missing", "null"), false),
        ];
        for (rule, expected) in cases {
            assert_eq!(lets_in(std::slice::from_ref(&rule), &claims(jane.clone())), expected, "{rule:?}");
        }
        assert!(!lets_in(&[], &claims(jane)), "no rule, nobody");
    }

    #[test]
    fn an_address_that_nobody_verified_is_nobodys() {
        for (verified, expected) in
            [(json!(true), true), (json!(false), false), (json!("true"), false), (json!(null), false)]
        {
            let jane = claims(json!({"email": "jane@acme.test", "email_verified": verified}));
            assert_eq!(lets_in(&[Allow::Domain("acme.test".into())], &jane), expected);
        }
        let odd = claims(json!({"email": "@acme.test", "email_verified": true}));
        assert!(!lets_in(&[Allow::Domain("acme.test".into())], &odd));
        let unsaid = claims(json!({"email": "jane@acme.test"}));
        assert!(!lets_in(&[Allow::Email("jane@acme.test".into())], &unsaid));
    }
}
