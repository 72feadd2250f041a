//! Objects from our own schema: whatever it has a word for, and values that people would write, or that nobody should.

use serde_json::{Map, Value, json};

use crate::{chance::Chance, registry};

/// Names of projects that stages and environments run.
pub const PROJECTS: [&str; 6] = ["shop", "blog", "mail", "wiki", "chat", "gone"];
/// Names of services, of which each project has some.
pub const SERVICES: [&str; 4] = ["web", "api", "worker", "db"];
const DURATIONS: [&str; 5] = ["1s", "10s", "30s", "1m", "2h"];
/// What cannot be done is under way for no longer.
const TIMEOUTS: [&str; 4] = ["1s", "10s", "30s", "1m"];

/// What nobody should write.
const ODD: [&str; 16] = [
    "",
    " ",
    "..",
    "../../etc/passwd",
    "-",
    "0",
    "null",
    "\u{0}",
    "\u{202e}txt.exe",
    "🦀🦀🦀",
    "${HOME}",
    "$(STAGEKEEPER_SERVICE_WEB_HOST)",
    "{{ .Values.x }}",
    "a\nb: c",
    "99999999999999999999",
    "((((((((((((((((((((",
];

/// Annotations that we read, and some that we write.
const ANNOTATIONS: [&str; 11] = [
    "request",
    "request-nonce",
    "request-reason",
    "request-arguments",
    "request-user",
    "request-groups",
    "retry",
    "rendered",
    "access",
    "snapshot",
    "pull-request",
];

const WORDS: [&str; 12] =
    ["promote", "rollback", "approve", "abort", "retry", "hold", "resume", "veto", "unveto", "wake", "sleep", "extend"];

/// Where values come from.
pub struct Generator<'a> {
    pub chance: &'a mut Chance,
    /// `host:port` of the registry.
    pub host: &'a str,
}

impl Generator<'_> {
    /// The part of an object that a schema describes. `name` is the field that it is in.
    pub fn value(&mut self, name: &str, schema: &Value, depth: usize) -> Value {
        if self.chance.percent(1) {
            return self.odd(depth);
        }
        if let Some(all) = schema["enum"].as_array() {
            return all[self.chance.below(all.len())].clone();
        }
        if schema["x-kubernetes-int-or-string"] == true {
            return self.quantity(name);
        }
        match schema["type"].as_str() {
            Some("object") => self.object(name, schema, depth),
            Some("array") => {
                let most = if depth > 6 { 1 } else { 3 };
                let least = usize::try_from(schema["minItems"].as_u64().unwrap_or(0)).unwrap();
                let count = least.max(self.chance.below(most + 1));
                (0..count).map(|_| self.value(name, &schema["items"], depth + 1)).collect()
            }
            Some("string") => self.text(name, schema["format"].as_str()).into(),
            Some("boolean") => self.chance.percent(50).into(),
            Some("integer") => {
                let at = |bound: &str, otherwise: i64| schema[bound].as_i64().unwrap_or(otherwise);
                let (low, high) = (at("minimum", -1), at("maximum", 100_000));
                let near = [low, low + 1, low + 2, 8080, high];
                near[self.chance.below(near.len())].clamp(low, high).into()
            }
            Some("number") => json!(1.5),
            _ => self.odd(depth),
        }
    }

    fn object(&mut self, name: &str, schema: &Value, depth: usize) -> Value {
        let mut made = Map::new();
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let likely = if depth < 2 { 40 } else { 25 };
        for (field, inner) in schema["properties"].as_object().into_iter().flatten() {
            if required.contains(&field.as_str()) || self.chance.percent(likely) {
                made.insert(field.clone(), self.value(field, inner, depth + 1));
            }
        }
        if schema["additionalProperties"].is_object() {
            for _ in 0..self.chance.below(3) {
                let key = self.key(name);
                made.insert(key, self.value(name, &schema["additionalProperties"], depth + 1));
            }
        }
        if schema["x-kubernetes-preserve-unknown-fields"] == true {
            made = self.overlay();
        }
        if made.contains_key("repository") && name == "image" {
            made.insert("insecure".into(), true.into());
            // Exactly one of them says which image.
            for other in ["tag", "digest", "policy"] {
                made.remove(other);
            }
            let (field, value) = match self.chance.below(4) {
                0 => ("tag", json!(self.chance.of(&["1.0.0", "latest", "main", "gone"]))),
                1 => ("digest", json!(registry::digest())),
                2 => ("policy", json!({"semver": self.chance.of(&["*", ">=1.0.0", "<1", "nonsense"])})),
                _ => ("policy", json!({"newest": self.chance.of(&["*", "2026*", "["])})),
            };
            made.insert(field.into(), value);
        }
        Value::Object(made)
    }

    /// What people merge over a pod template: sometimes of the right form.
    fn overlay(&mut self) -> Map<String, Value> {
        let all = [
            json!({"spec": {"nodeSelector": {"disk": "ssd"}}}),
            json!({"metadata": {"annotations": {"a": "b"}}}),
            json!({"spec": {"containers": [{"name": "web", "env": [{"name": "A", "value": "b"}]}]}}),
            json!({"spec": {"containers": "none"}}),
            json!({"spec": {"containers": [{"name": "log", "image": 7}]}}),
            json!({"spec": {"hostNetwork": true, "containers": [{"securityContext": {"privileged": true}}]}}),
            json!({"spec": null, "speck": [[[[]]]]}),
            json!({}),
        ];
        all[self.chance.below(all.len())].as_object().unwrap().clone()
    }

    fn key(&mut self, name: &str) -> String {
        match name {
            "services" | "pin" => self.chance.of(&SERVICES).to_owned(),
            "limits" | "requests" | "quota" => self.chance.of(&["cpu", "memory", "pods", "example.com/gpu"]).to_owned(),
            _ if self.chance.percent(10) => self.chance.of(&ODD).to_owned(),
            _ => self.chance.of(&["a", "b.example.com/c", "KEY", "file.yaml"]).to_owned(),
        }
    }

    fn quantity(&mut self, name: &str) -> Value {
        match name {
            "port" => [json!(8080), json!("http"), json!(0), json!("nonsense")][self.chance.below(4)].clone(),
            _ => [json!("100m"), json!("64Mi"), json!(1), json!("-1"), json!("much")][self.chance.below(5)].clone(),
        }
    }

    fn text(&mut self, name: &str, format: Option<&str>) -> String {
        if self.chance.percent(3) {
            return self.chance.of(&ODD).to_owned();
        }
        if format == Some("date-time") {
            return self.chance.of(&["2020-01-01T00:00:00Z", "2099-12-31T23:59:60Z"]).to_owned();
        }
        let host = self.host;
        match name {
            "project" | "base" => self.chance.of(&PROJECTS).to_owned(),
            "name" | "service" | "services" | "dependsOn" | "public" => self.chance.of(&SERVICES).to_owned(),
            "repository" => format!("{host}/shop/{}", self.chance.of(&SERVICES)),
            "image" => format!("{host}/shop/job:1.0.0"),
            "tag" | "pin" => self.chance.of(&["1.0.0", "1.1.0", "latest", "gone"]).to_owned(),
            "digest" => registry::digest(),
            "semver" => self.chance.of(&["*", ">=1", "^2.0.0-0", "nonsense"]).to_owned(),
            "glob" | "newest" => self.chance.of(&["*", "1.*", "["]).to_owned(),
            "regex" | "extract" => self.chance.of(&["^1[.].*$", "(?P<v>.*)", "("]).to_owned(),
            "host" => self.chance.of(&["shop.example.com", "a.test", "localhost"]).to_owned(),
            "instanceHost" => "{instance}.shop.example.com".to_owned(),
            "hosts" | "registry" => host.to_owned(),
            "api" => format!("http://{host}/api"),
            "path" | "mountPath" => self.chance.of(&["/healthz", "/data", "/a/b"]).to_owned(),
            "expect" => self.chance.of(&["200", "200-399", "204,301"]).to_owned(),
            "from" => format!("s{}", self.chance.below(8)),
            "schedule" => self.chance.of(&["0 9 * * 1-5", "* * * * *", "61 * * * *"]).to_owned(),
            "recurrence" => self.chance.of(&["FREQ=DAILY;BYHOUR=9", "FREQ=NEVER"]).to_owned(),
            "timeZone" => self.chance.of(&["Europe/Berlin", "UTC", "Mars/Base"]).to_owned(),
            "mode" => "0400".to_owned(),
            "platform" => self.chance.of(&["linux/amd64", "linux/arm64/v8"]).to_owned(),
            "size" | "sizeLimit" | "quota" => self.chance.of(&["1Gi", "10", "1m"]).to_owned(),
            "cpu" | "memory" => "0.5".to_owned(),
            "pull" | "start" | "proxy" | "health" => self.chance.of(&TIMEOUTS).to_owned(),
            "interval" | "timeout" | "ttl" | "idleAfter" | "deleteAfterIdle" | "keepPrevious" | "watch" | "soak"
            | "duration" => self.chance.of(&DURATIONS).to_owned(),
            "credential" | "credentials" => self.chance.of(&["login", "token"]).to_owned(),
            "fieldPath" => self.chance.of(&["metadata.name", "status.nothing"]).to_owned(),
            "commit" => "0123456789abcdef0123456789abcdef01234567".to_owned(),
            _ => self.chance.of(&["a", "web", "some text", "main", "/app"]).to_owned(),
        }
    }

    /// What has no place there.
    pub fn odd(&mut self, depth: usize) -> Value {
        match self.chance.below(8) {
            0 => Value::Null,
            1 => json!(-1),
            2 => json!(18_446_744_073_709_551_615_u64),
            3 => json!([]),
            4 => json!({}),
            5 => "x".repeat(70_000).into(),
            6 if depth < 8 => json!([{"a": self.odd(depth + 1)}]),
            _ => self.chance.of(&ODD).into(),
        }
    }

    /// Annotations that we read, with anything in them.
    pub fn annotations(&mut self) -> Map<String, Value> {
        let mut made = Map::new();
        for name in ANNOTATIONS {
            if !self.chance.percent(40) {
                continue;
            }
            let value = match name {
                "request" if self.chance.percent(70) => self.chance.of(&WORDS).to_owned(),
                "request-arguments" if self.chance.percent(50) => self
                    .chance
                    .of(&["{}", "{\"deploy\": 7}", "{\"to\":\"s1\"}", "[]", "{\"for\":\"1h\"", "null"])
                    .to_owned(),
                _ if self.chance.percent(5) => "x".repeat(100_000),
                _ => self.chance.of(&ODD).to_owned(),
            };
            made.insert(format!("stagekeeper.dev/{name}"), value.into());
        }
        made
    }
}
