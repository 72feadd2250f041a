//! What people ask of a stage by annotating it, for those who have only kubectl.
//!
//! The action is one word of its own, and everything else stands in annotations beside it: an admission policy has to find
//! out what is asked without reading JSON, and must never find another word than the one that is acted on.

use serde_json::{Map, Value};

use super::request::Action;

/// Longest nonce, in characters.
const NONCE: usize = 128;
/// Longest name of a person or a group, in characters.
const NAME: usize = 512;

/// Longest reason, in characters.
const REASON: usize = 1_024;

/// What is annotated: each kind has words of its own, as the policy has them too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Of {
    /// A Stage.
    #[default]
    Stage,
    /// An Environment.
    Environment,
}

impl Of {
    /// Words of actions that can be asked for.
    pub const fn words(self) -> [&'static str; 9] {
        match self {
            Self::Stage => ["promote", "rollback", "approve", "abort", "retry", "hold", "resume", "veto", "unveto"],
            Self::Environment => ["wake", "sleep", "extend", "pin", "unpin", "delete", "rollback", "abort", "retry"],
        }
    }
}

/// The annotations as they stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Written<'a> {
    /// Which kind of object they stand on.
    pub of: Of,
    /// The action's word.
    pub word: &'a str,
    /// What tells this request from the one before.
    pub nonce: Option<&'a str>,
    /// Why.
    pub reason: Option<&'a str>,
    /// The fields of the action, as a JSON object.
    pub arguments: Option<&'a str>,
    /// Who, as the cluster's admission wrote it down.
    pub user: Option<&'a str>,
    /// Their groups, one a line.
    pub groups: Option<&'a str>,
}

/// A request as it was annotated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotated {
    /// What is asked.
    pub action: Action,
    /// What tells it from the one before: acted on once.
    pub nonce: String,
    /// Why; empty when nobody said.
    pub reason: String,
    /// Who asked, as admission wrote it down. Certain only where the policy that writes and guards it is known to be in
    /// force.
    pub user: Option<String>,
    /// Their groups, by the same hand.
    pub groups: Vec<String>,
    /// The field manager that changed the object last: the name of a tool, which anybody may choose.
    pub manager: Option<String>,
}

impl Written<'_> {
    /// What they ask for.
    ///
    /// # Errors
    /// What is wrong and what to write, in a sentence.
    pub fn read(&self) -> Result<Annotated, String> {
        let nonce = self.nonce.map(str::trim).unwrap_or_default();
        if nonce.is_empty() || nonce.chars().count() > NONCE || nonce.chars().any(char::is_control) {
            return Err(format!(
                "stagekeeper.dev/request-nonce must be 1 to {NONCE} characters that no request before had: it tells this \
                 request from the one before; $(date +%s) does"
            ));
        }
        let reason = self.reason.map(str::trim).unwrap_or_default();
        if reason.chars().count() > REASON {
            return Err(format!("stagekeeper.dev/request-reason must have at most {REASON} characters"));
        }
        let names = self.user.into_iter().chain(self.groups.unwrap_or_default().lines());
        if let Some(name) = names.into_iter().find(|name| name.chars().count() > NAME || name.contains('\0')) {
            let begins: String = name.chars().filter(|letter| !letter.is_control()).take(20).collect();
            return Err(format!(
                "stagekeeper.dev/request-user and request-groups hold what is no name, `{begins}…`: the cluster's admission \
                 writes them, leave them out"
            ));
        }
        let arguments = self.arguments.unwrap_or_default();
        // In JSON it may be told by its number.
        if [reason, arguments].iter().any(|text| text.contains('\0')) || arguments.contains("\\u0000") {
            return Err("stagekeeper.dev/request-reason and request-arguments must not hold the NUL character".into());
        }
        let action = self.action()?;
        // Whoever checks the annotation asks for the right to promote alone.
        if matches!(action, Action::Promote { emergency: true, .. }) {
            return Err(
                "an emergency passes over approvals, and takes the right to approve too: ask for it over the API"
                    .into(),
            );
        }
        if action.needs_reason() && reason.is_empty() {
            return Err(format!("say why in stagekeeper.dev/request-reason: {} needs a reason", action.word()));
        }
        Ok(Annotated {
            action,
            nonce: nonce.to_owned(),
            reason: reason.to_owned(),
            user: self.user.filter(|user| !user.is_empty()).map(str::to_owned),
            groups: self
                .groups
                .unwrap_or_default()
                .lines()
                .filter(|group| !group.is_empty())
                .map(str::to_owned)
                .collect(),
            manager: None,
        })
    }

    fn action(&self) -> Result<Action, String> {
        let words = self.of.words();
        if !words.contains(&self.word) {
            return Err(format!("stagekeeper.dev/request must be one of {}, and nothing else", words.join(", ")));
        }
        let mut fields = match self.arguments.map(str::trim).filter(|text| !text.is_empty()) {
            None => Map::new(),
            Some(text) => serde_json::from_str::<Map<String, Value>>(text).map_err(|error| {
                format!(
                    "stagekeeper.dev/request-arguments must be a JSON object, such as {{\"to\": \"previous\"}}: {error}"
                )
            })?,
        };
        // What the policy has allowed is the word, so nothing else may say what is done.
        if fields.contains_key("action") {
            return Err(
                "stagekeeper.dev/request-arguments must not hold an action: stagekeeper.dev/request says it".into()
            );
        }
        if self.word == "rollback" {
            fields.entry("to").or_insert_with(|| "previous".into());
        }
        fields.insert("action".into(), self.word.into());
        serde_json::from_value(Value::Object(fields))
            .map_err(|error| format!("stagekeeper.dev/request-arguments do not fit {}: {error}", self.word))
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::domain::request::Destination;

    fn written<'a>(word: &'a str, arguments: Option<&'a str>) -> Written<'a> {
        Written { word, nonce: Some("1"), reason: Some("because"), arguments, ..Written::default() }
    }

    #[test]
    fn words_and_arguments_are_actions() {
        let promote = |release: Option<&str>, emergency| Action::Promote {
            release: release.map(Into::into),
            from: None,
            emergency,
        };
        let cases = [
            ("rollback", None, Action::Rollback { to: Destination::Previous }),
            (
                "rollback",
                Some(r#"{"to": {"lastGoodBefore": "1970-01-01T00:00:00Z"}}"#),
                Action::Rollback { to: Destination::LastGoodBefore(Timestamp::UNIX_EPOCH) },
            ),
            ("promote", Some(""), promote(None, false)),
            ("promote", Some(r#"{"release": "0123abcd"}"#), promote(Some("0123abcd"), false)),
            ("approve", Some("{}"), Action::Approve { release: None }),
            ("abort", None, Action::Abort { deploy: None }),
            ("retry", None, Action::Retry { deploy: None }),
            ("hold", None, Action::Hold { owner: None, until: None }),
            ("resume", None, Action::Resume { owner: None }),
            ("veto", None, Action::Veto { release: None }),
            ("unveto", Some(r#"{"release": "0123abcd"}"#), Action::Unveto { release: "0123abcd".into() }),
        ];
        for (word, arguments, want) in cases {
            let read = written(word, arguments).read().unwrap_or_else(|error| panic!("{word}: {error}"));
            assert_eq!(read.action, want, "{word} {arguments:?}");
            assert_eq!(read.action.word(), word);
        }
    }

    #[test]
    fn what_the_database_cannot_keep_is_refused() {
        let long = "x".repeat(NAME + 1);
        for (refused, says) in [
            (Written { user: Some("a\0b"), ..written("abort", None) }, "no name, `ab…`"),
            (Written { user: Some(&long), ..written("abort", None) }, "no name"),
            (Written { groups: Some("dev\na\0"), ..written("abort", None) }, "no name"),
            (Written { reason: Some("a\0"), ..written("abort", None) }, "the NUL character"),
            (written("unveto", Some(r#"{"release": "\u0000"}"#)), "the NUL character"),
        ] {
            let told = refused.read().expect_err(says);
            assert!(told.contains(says), "{told}");
        }
        let spelt = Written { reason: Some(r"\u0000 in a name"), ..written("abort", None) }.read();
        assert_eq!(spelt.expect("it says so, and holds none").reason, r"\u0000 in a name");
    }

    #[test]
    fn environments_have_words_of_their_own() {
        let asked = |word, arguments| Written { of: Of::Environment, ..written(word, arguments) }.read();
        let until = Some(r#"{"until": "1970-01-01T00:00:00Z"}"#);
        for (word, arguments, want) in [
            ("wake", None, Action::Wake),
            ("sleep", None, Action::Sleep),
            ("extend", until, Action::Extend { until: Timestamp::UNIX_EPOCH }),
            ("pin", None, Action::Pin),
            ("unpin", None, Action::Unpin),
            ("delete", None, Action::Delete),
            ("retry", None, Action::Retry { deploy: None }),
        ] {
            assert_eq!(asked(word, arguments).unwrap_or_else(|error| panic!("{word}: {error}")).action, want);
        }
        let told = asked("extend", None).expect_err("until when?");
        assert!(told.contains("request-arguments do not fit extend"), "{told}");
        for word in ["promote", "approve", "hold"] {
            let told = asked(word, None).expect_err("not of an environment");
            assert!(told.contains("must be one of wake, sleep"), "{word}: {told}");
        }
        let told = written("wake", None).read().expect_err("not of a stage");
        assert!(told.contains("must be one of promote, rollback"), "{told}");
    }

    #[test]
    fn who_asks_is_taken_as_it_was_written_down() {
        let asked = Written { user: Some("jane"), groups: Some("dev\nrelease managers\n"), ..written("abort", None) };
        let read = asked.read().expect("a request");
        assert_eq!((read.user.as_deref(), read.nonce.as_str(), read.reason.as_str()), (Some("jane"), "1", "because"));
        assert_eq!(read.groups, ["dev", "release managers"]);
        let nobody = Written { user: Some(""), ..written("abort", None) }.read().expect("a request");
        assert_eq!((nobody.user, nobody.groups.len()), (None, 0));
    }

    #[test]
    fn what_is_wrong_is_said_in_a_sentence() {
        let long = "x".repeat(1_025);
        let cases = [
            (written("", None), "stagekeeper.dev/request must be one of promote"),
            (written("or", None), "stagekeeper.dev/request must be one of promote"),
            (written("Rollback", None), "and nothing else"),
            (written("rollback now", None), "and nothing else"),
            (written("rollback", Some("previous")), "must be a JSON object"),
            (written("rollback", Some(r#"{"too": 1}"#)), "do not fit rollback: unknown field `too`"),
            (written("rollback", Some(r#"{"to": "yesterday"}"#)), "do not fit rollback"),
            (written("abort", Some(r#"{"action": "approve"}"#)), "must not hold an action"),
            (written("abort", Some(r#"{"\u0061ction": "approve"}"#)), "must not hold an action"),
            (written("unveto", None), "missing field `release`"),
            (Written { nonce: None, ..written("abort", None) }, "request-nonce must be 1 to 128"),
            (Written { nonce: Some(" "), ..written("abort", None) }, "request-nonce"),
            (Written { nonce: Some("a\u{7}"), ..written("abort", None) }, "request-nonce"),
            (Written { reason: Some(&long), ..written("abort", None) }, "at most 1024"),
            (Written { reason: None, ..written("hold", None) }, "hold needs a reason"),
            (written("promote", Some(r#"{"emergency": true}"#)), "takes the right to approve too"),
        ];
        for (case, want) in cases {
            let error = case.read().expect_err(case.word);
            assert!(error.contains(want), "{case:?}: {error}");
        }
    }
}
