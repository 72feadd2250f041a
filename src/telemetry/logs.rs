//! Log lines: one JSON object each, or text for people.
//!
//! Fields of the surrounding spans (`stage`, `deploy`) stand beside the event's own fields, so that
//! `deploy == "…"` finds every line of a deploy whichever function wrote it.
//!
//! Each line passes [`super::redact`] on its way out.

use std::fmt;

use serde_json::{Map, Value};
use tracing::{Event, Subscriber};
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    fmt::{
        FmtContext, FormatEvent, FormatFields as _, FormattedFields, MakeWriter,
        format::{JsonFields, Writer},
        time::{FormatTime as _, SystemTime},
    },
    layer::SubscriberExt as _,
    registry::{LookupSpan, Registry, Scope},
};

use super::redact::Redacted;

/// Keys that every line has; a field of the same name does not replace them.
const OWN_KEYS: [&str; 4] = ["timestamp", "level", "target", "message"];

/// What libraries say of themselves and we say better.
const NOISE: [(&str, LevelFilter); 3] = [
    // Every failed call to the API server once more, as an error and without a word about what was called.
    ("kube_client::client::builder", LevelFilter::OFF),
    // A span around each pass, entered by every pass whenever any of them moves: a twentieth of the work under load.
    ("kube_runtime::controller", LevelFilter::WARN),
    // Connections that did not come about, as errors: a database that is away is none.
    ("sqlx_core::pool::inner", LevelFilter::OFF),
];

/// One JSON object per line.
pub fn json<W>(filter: Targets, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(Redacted(writer))
        .fmt_fields(JsonFields::new())
        .event_format(JsonLine);
    Registry::default().with(layer).with(filter.with_targets(NOISE))
}

/// Text for people; `colour` only on a terminal.
pub fn pretty<W>(filter: Targets, writer: W, colour: bool) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(Redacted(writer)).with_ansi(colour);
    Registry::default().with(layer).with(filter.with_targets(NOISE))
}

/// Sends panics to the log before anything else is done about them.
pub fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string);
        let message = panic.payload_as_str().unwrap_or("no message");
        tracing::error!(location, "panic: {message}");
    }));
}

struct JsonLine;

impl<S> FormatEvent<S, JsonFields> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut line: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Map::new();
        for span in context.event_scope().into_iter().flat_map(Scope::from_root) {
            if let Some(own) = span.extensions().get::<FormattedFields<JsonFields>>() {
                merge(&mut fields, &own.fields);
            }
        }
        let mut own = String::new();
        context.format_fields(Writer::new(&mut own), event)?;
        let message = merge(&mut fields, &own).unwrap_or_default();

        let mut timestamp = String::new();
        SystemTime.format_time(&mut Writer::new(&mut timestamp))?;
        let metadata = event.metadata();
        write!(
            line,
            "{{\"timestamp\":{},\"level\":\"{}\",\"target\":{},\"message\":{message}",
            Value::from(timestamp),
            metadata.level(),
            Value::from(metadata.target()),
        )?;
        for (key, value) in fields {
            write!(line, ",{}:{value}", Value::from(key))?;
        }
        line.write_str("}\n")
    }
}

/// Adds the fields of a formatted object and gives back its message.
fn merge(fields: &mut Map<String, Value>, formatted: &str) -> Option<Value> {
    // Spans without fields are formatted as nothing at all.
    let Ok(Value::Object(mut own)) = serde_json::from_str(formatted) else {
        return None;
    };
    let message = own.remove("message");
    for key in OWN_KEYS {
        own.remove(key);
    }
    fields.extend(own);
    message
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("no writer panicked").extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        fn text(&self) -> String {
            let bytes = self.0.lock().expect("no writer panicked").clone();
            String::from_utf8(bytes).expect("log lines are UTF-8")
        }
    }

    fn speak() {
        let reconcile = tracing::info_span!("reconcile", stage = "shop/prod", attempt = 1);
        let _outer = reconcile.enter();
        let advance = tracing::info_span!("advance", deploy = tracing::field::Empty, attempt = 2);
        advance.record("deploy", "0192-abc");
        let _inner = advance.enter();
        tracing::info!(from = "pulling", level = "spoofed", "moved \"on\"");
        tracing::debug!("not at this level");
    }

    #[test]
    fn json_lines_carry_the_fields_of_their_spans() {
        let lines = Lines::default();
        let writer = lines.clone();
        let filter = "info".parse().expect("a filter");
        tracing::subscriber::with_default(json(filter, move || writer.clone()), speak);

        let text = lines.text();
        let [line] = text.lines().collect::<Vec<_>>()[..] else {
            panic!("one line expected: {text}");
        };
        let mut line: Value = serde_json::from_str(line).expect("a JSON object");
        let timestamp = line["timestamp"].take();
        let timestamp = timestamp.as_str().expect("a text");
        assert!(timestamp.parse::<jiff::Timestamp>().is_ok(), "{timestamp}");
        let expected = serde_json::json!({
            "timestamp": null,
            "level": "INFO",
            "target": "stagekeeper::telemetry::logs::tests",
            "message": "moved \"on\"",
            "stage": "shop/prod",
            "deploy": "0192-abc",
            "attempt": 2,
            "from": "pulling",
        });
        assert_eq!(line, expected);
    }

    #[test]
    fn pretty_lines_have_no_colour_unless_asked() {
        let lines = Lines::default();
        let writer = lines.clone();
        let filter = "info".parse().expect("a filter");
        tracing::subscriber::with_default(pretty(filter, move || writer.clone(), false), speak);

        let text = lines.text();
        assert!(text.contains("shop/prod") && text.contains("0192-abc"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }
}
