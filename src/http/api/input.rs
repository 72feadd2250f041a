//! What a request says: its path, query and headers as the table declares them, and its body. Everything that is wrong is said
//! at once and by name; values are never quoted.

use std::collections::BTreeMap;

use axum::http::HeaderMap;
use jiff::Timestamp;
use schemars::Schema;
use serde::de::DeserializeOwned;
use serde_json::json;
use uuid::Uuid;

use super::problem::{FieldError, Problem};
use crate::domain::image::Digest;

/// Longest text of a parameter, in bytes.
const LONGEST_TEXT: usize = 1024;

/// Where a parameter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In the path: always there.
    Path,
    /// In the query.
    Query,
    /// A header.
    Header,
}

impl Place {
    /// The word in the document and in problems.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Query => "query",
            Self::Header => "header",
        }
    }
}

/// What a parameter may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The name of a Kubernetes object.
    Name,
    /// An id.
    Id,
    /// A whole number.
    Number(i64, i64),
    /// `true` or `false`.
    Flag,
    /// An instant: RFC 3339.
    Time,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// The digest of an image.
    Digest,
    /// Any text that is not empty.
    Text,
}

/// A parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// Where it is.
    pub place: Place,
    /// What it may be.
    pub kind: Kind,
    /// What it is for.
    pub about: &'static str,
    /// Whether it has to be there.
    pub is_required: bool,
}

impl Parameter {
    /// A part of the path.
    pub const fn path(name: &'static str, kind: Kind, about: &'static str) -> Self {
        Self { name, place: Place::Path, kind, about, is_required: true }
    }

    /// A part of the query.
    pub const fn query(name: &'static str, kind: Kind, about: &'static str) -> Self {
        Self { name, place: Place::Query, kind, about, is_required: false }
    }

    /// The same where it has to be there.
    #[must_use]
    pub const fn required(self) -> Self {
        Self { is_required: true, ..self }
    }

    /// A header.
    pub const fn header(name: &'static str, kind: Kind, about: &'static str) -> Self {
        Self { name, place: Place::Header, kind, about, is_required: false }
    }

    /// As problems name it.
    fn field(&self) -> String {
        format!("{}.{}", self.place.word(), self.name)
    }
}

impl Kind {
    /// As the document says it.
    pub fn schema(self) -> Schema {
        let value = match self {
            Self::Name => json!({"type": "string", "maxLength": 253, "pattern": "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"}),
            Self::Id => json!({"type": "string", "format": "uuid"}),
            Self::Number(least, most) => json!({"type": "integer", "minimum": least, "maximum": most}),
            Self::Flag => json!({"type": "boolean"}),
            Self::Time => json!({"type": "string", "format": "date-time"}),
            Self::OneOf(words) => json!({"type": "string", "enum": words}),
            Self::Digest => json!({"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"}),
            Self::Text => json!({"type": "string", "minLength": 1, "maxLength": LONGEST_TEXT}),
        };
        Schema::try_from(value).unwrap_or_default()
    }

    /// What is expected, when `text` is something else.
    pub(super) fn refuses(self, text: &str) -> Option<String> {
        match self {
            Self::Name => (!is_name(text))
                .then(|| "expected the name of an object: at most 253 lower-case letters, digits, - and .".to_owned()),
            Self::Id => Uuid::try_parse(text).is_err().then(|| "expected an id, such as a deploy has".to_owned()),
            Self::Number(least, most) => {
                let fits = text.parse::<i64>().is_ok_and(|number| (least..=most).contains(&number));
                (!fits).then(|| format!("expected a whole number from {least} to {most}"))
            }
            Self::Flag => (!matches!(text, "true" | "false")).then(|| "expected true or false".to_owned()),
            Self::Time => {
                text.parse::<Timestamp>().is_err().then(|| "expected a time, such as 2027-01-31T00:00:00Z".to_owned())
            }
            Self::OneOf(words) => (!words.contains(&text)).then(|| format!("expected one of {}", words.join(", "))),
            Self::Digest => text
                .parse::<Digest>()
                .is_err()
                .then(|| "expected the digest of an image: sha256: and 64 hexadecimal digits".to_owned()),
            Self::Text => {
                let fits = !text.is_empty() && text.len() <= LONGEST_TEXT && !text.contains('\0');
                (!fits).then(|| format!("expected 1 to {LONGEST_TEXT} bytes of text"))
            }
        }
    }
}

/// Whether Kubernetes could have an object of this name.
fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = text.bytes().next().is_some_and(plain) && text.bytes().next_back().is_some_and(plain);
    ends && text.len() <= 253 && text.bytes().all(|byte| plain(byte) || byte == b'-' || byte == b'.')
}

/// The parameters of a request, each of the kind that was declared.
#[derive(Debug, Default)]
pub struct Input {
    values: BTreeMap<&'static str, String>,
}

impl Input {
    /// Reads what is declared.
    ///
    /// # Errors
    /// Everything that is not declared, given twice, missing in the path, or not of its kind.
    pub(super) fn read<'a>(
        declared: &[&'static Parameter],
        path: impl Iterator<Item = (&'a str, &'a str)>,
        query: &str,
        headers: &HeaderMap,
    ) -> Result<Self, Problem> {
        let mut input = Self::default();
        let mut errors = Vec::new();
        let mut put = |place: Place, name: &str, text: &str| {
            let found = declared.iter().find(|one| one.place == place && one.name == name);
            let Some(parameter) = found else {
                // The name is the caller's text: only its beginning is told.
                let name: String = name.chars().filter(char::is_ascii_graphic).take(60).collect();
                let known: Vec<&str> = declared.iter().filter(|one| one.place == place).map(|one| one.name).collect();
                let message = match known.as_slice() {
                    [] => "there is no such parameter; none is expected".to_owned(),
                    known => format!("there is no such parameter; there are {}", known.join(", ")),
                };
                errors.push(FieldError::new(format!("{}.{name}", place.word()), message));
                return;
            };
            if let Some(message) = parameter.kind.refuses(text) {
                errors.push(FieldError::new(parameter.field(), message));
            } else if input.values.insert(parameter.name, text.to_owned()).is_some() {
                errors.push(FieldError::new(parameter.field(), "expected once"));
            }
        };
        for (name, text) in path {
            put(Place::Path, name, text);
        }
        for (name, text) in form_urlencoded::parse(query.as_bytes()) {
            put(Place::Query, &name, &text);
        }
        for parameter in declared.iter().filter(|one| one.place == Place::Header) {
            for value in headers.get_all(parameter.name) {
                // What is no text is refused as an empty one.
                put(Place::Header, parameter.name, value.to_str().unwrap_or_default());
            }
        }
        let is_there = |one: &Parameter| {
            input.values.contains_key(one.name) || errors.iter().any(|error| error.field == one.field())
        };
        let missing: Vec<_> = declared.iter().filter(|one| one.is_required && !is_there(one)).collect();
        errors.extend(missing.into_iter().map(|one| FieldError::new(one.field(), "expected: it has to be there")));
        if errors.is_empty() { Ok(input) } else { Err(Problem::invalid(errors)) }
    }

    /// A parameter, if it was given.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// A part of the path.
    pub fn text(&self, name: &str) -> String {
        self.values.get(name).cloned().unwrap_or_default()
    }

    /// An id of the path.
    pub fn id(&self, name: &str) -> Uuid {
        self.optional_id(name).unwrap_or_default()
    }

    /// An id, if it was given.
    pub fn optional_id(&self, name: &str) -> Option<Uuid> {
        self.get(name).and_then(|text| Uuid::try_parse(text).ok())
    }

    /// A number, if it was given.
    pub fn number(&self, name: &str) -> Option<i64> {
        self.get(name).and_then(|text| text.parse().ok())
    }

    /// A flag, if it was given.
    pub fn flag(&self, name: &str) -> Option<bool> {
        self.get(name).map(|text| text == "true")
    }

    /// An instant, if it was given.
    pub fn time(&self, name: &str) -> Option<Timestamp> {
        self.get(name).and_then(|text| text.parse().ok())
    }
}

/// Reads a body.
///
/// # Errors
/// The first field that is unknown, missing or not as expected. The text says what is expected, never what came: that may be
/// a secret.
pub(super) fn body<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // A list would be taken for the fields in their order.
    let begins = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    if begins.is_some_and(|byte| matches!(byte, b'[' | b'"')) {
        return Err(Problem::field("body", "expected a JSON object"));
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let read = serde_path_to_error::deserialize::<_, T>(&mut reader);
    let read = read.map_err(|error| {
        let path = error.path().to_string();
        let path = if path == "." { String::new() } else { path };
        refused(path, error.inner())
    })?;
    match reader.end() {
        Ok(()) => Ok(read),
        Err(_) => Err(Problem::field("body", "expected one JSON object and nothing behind it")),
    }
}

fn refused(path: String, error: &serde_json::Error) -> Problem {
    let text = error.to_string();
    // serde says `…, expected WHAT at line 1 column 2`: what stands before may quote the body.
    let within = |text: &str| text.split(" at line ").next().unwrap_or_default().to_owned();
    let named = |prefix: &str| {
        let name = text.strip_prefix(prefix)?.split('`').next()?;
        Some(name.chars().filter(char::is_ascii_graphic).take(60).collect::<String>())
    };
    let below = |name: &str| match path.as_str() {
        "" => name.to_owned(),
        // The path already ends with a field that is unknown.
        path if path == name || path.ends_with(&format!(".{name}")) => path.to_owned(),
        path => format!("{path}.{name}"),
    };
    if error.is_syntax() || error.is_eof() {
        return Problem::field("body", format!("expected JSON; line {} is none", error.line()));
    }
    if let Some(name) = named("missing field `") {
        return Problem::field(below(&name), "it is missing");
    }
    if let Some(name) = named("duplicate field `") {
        return Problem::field(below(&name), "expected once");
    }
    let expected = text.rsplit_once(", expected ").map(|(_, expected)| within(expected));
    if let Some(name) = named("unknown field `") {
        let known = expected.unwrap_or_else(|| "nothing".into());
        return Problem::field(below(&name), format!("there is no such field; expected {known}"));
    }
    let field = if path.is_empty() { "body".to_owned() } else { path };
    Problem::field(
        field,
        expected.map_or_else(|| "it is not as it should be".into(), |what| format!("expected {what}")),
    )
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    static DECLARED: [Parameter; 5] = [
        Parameter::path("stage", Kind::Name, "x"),
        Parameter::query("limit", Kind::Number(1, 200), "x"),
        Parameter::query("since", Kind::Time, "x"),
        Parameter::query("state", Kind::OneOf(&["a", "b"]), "x"),
        Parameter::header("idempotency-key", Kind::Text, "x"),
    ];

    fn read(stage: &str, query: &str) -> Result<Input, Vec<String>> {
        let declared: Vec<&Parameter> = DECLARED.iter().collect();
        Input::read(&declared, [("stage", stage)].into_iter(), query, &HeaderMap::new())
            .map_err(|problem| problem.errors.into_iter().map(|error| error.field).collect())
    }

    #[test]
    fn parameters_are_of_their_kind_and_everything_wrong_is_said_at_once() {
        let input = read("prod", "limit=7&since=2027-01-31T00%3A00%3A00Z&state=b").unwrap();
        assert_eq!(
            (input.text("stage").as_str(), input.number("limit"), input.get("state")),
            ("prod", Some(7), Some("b"))
        );
        assert_eq!(input.time("since"), "2027-01-31T00:00:00Z".parse().ok());
        let cases: [(&str, &str, &[&str]); 8] = [
            ("prod", "limit=0", &["query.limit"]),
            ("prod", "limit=201&state=c", &["query.limit", "query.state"]),
            ("prod", "limit=1&limit=2", &["query.limit"]),
            ("prod", "limit=1&limit=", &["query.limit"]),
            ("prod", "since=tomorrow", &["query.since"]),
            ("Prod", "x=1&state=a", &["path.stage", "query.x"]),
            ("../prod", "", &["path.stage"]),
            ("", "stage=prod", &["path.stage", "query.stage"]),
        ];
        for (stage, query, expected) in cases {
            assert_eq!(read(stage, query).unwrap_err(), expected, "{stage} {query}");
        }
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[expect(dead_code, reason = "only read")]
        value: u8,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[expect(dead_code, reason = "only read")]
        inner: Inner,
    }

    #[test]
    fn bodies_are_refused_by_field_and_never_quoted() {
        let cases = [
            (r#"{"inner": {"value": "hunter2"}}"#, "inner.value", "expected u8"),
            (r#"{"inner": {"value": 4711}}"#, "inner.value", "expected u8"),
            (
                r#"{"inner": {"value": 1, "other": "hunter2"}}"#,
                "inner.other",
                "there is no such field; expected `value`",
            ),
            (r#"{"inner": {"value": 1}, "more": 1}"#, "more", "there is no such field; expected `inner`"),
            (r#"{"inner": {}}"#, "inner.value", "it is missing"),
            ("{}", "inner", "it is missing"),
            (r#"{"inner": {"value": 1}} hunter2"#, "body", "expected one JSON object and nothing behind it"),
            (r#"{"inner": hunter2}"#, "body", "expected JSON; line 1 is none"),
            ("", "body", "expected JSON; line 1 is none"),
            (r#""hunter2""#, "body", "expected a JSON object"),
            (r#"[["hunter2"]]"#, "body", "expected a JSON object"),
            ("4711", "body", "expected struct Outer"),
        ];
        for (text, field, message) in cases {
            let problem = body::<Outer>(text.as_bytes()).unwrap_err();
            let said = format!("{problem:?}");
            assert!(!said.contains("hunter2") && !said.contains("4711"), "{said}");
            let [error] = problem.errors.as_slice() else { panic!("{text}: {said}") };
            assert_eq!((error.field.as_str(), error.message.as_str()), (field, message), "{text}");
        }
    }
}
