//! The second line before the log: whatever a line says, values that are known to be secret are taken out of it, and so
//! is what looks like a login.
//!
//! The first line is that nobody logs a secret. This one is for what comes from elsewhere: an answer that repeats what it
//! was asked, an error that names a URL with a password in it.

use std::{
    borrow::Cow,
    fmt,
    io::{self, Write},
    sync::{
        Arc, LazyLock, PoisonError, RwLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use regex::Regex;
use tracing_subscriber::fmt::MakeWriter;

use crate::domain::mask::Masker;

/// Maskers that lines pass through now.
static HELD: RwLock<Vec<(u64, Arc<Masker>)>> = RwLock::new(Vec::new());
/// How many there are: a line does not wait for a lock to learn that there are none.
static NUMBER: AtomicUsize = AtomicUsize::new(0);
/// What tells them apart.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// What stands after `Authorization:`, up to the end of the line or of the text that it is in, and the password of
/// `://user:password@`.
#[expect(clippy::expect_used, reason = "the expression is fixed, and a test reads it")]
static LOGINS: LazyLock<Regex> = LazyLock::new(|| {
    let header = r#"(?i:(?-u:\b)authorization)(?:\\?["'])?\s*[:=]\s*(?:\\?["'])?"#;
    Regex::new(&format!(r#"(?P<header>{header})[^"'\\\r\n]+|(?P<user>://[^\s/:@"\\]*:)[^\s/"\\]+(?P<at>@)"#))
        .expect("a regex")
});

/// Lines pass through a masker while this lives.
#[must_use = "lines pass through the masker only while this lives"]
pub struct Held(Option<u64>);

/// From now on, every line of the process passes through `masker`, until what is returned is dropped.
pub fn hold(masker: Arc<Masker>) -> Held {
    if masker.is_empty() {
        return Held(None);
    }
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    let mut held = HELD.write().unwrap_or_else(PoisonError::into_inner);
    held.push((id, masker));
    NUMBER.store(held.len(), Ordering::Release);
    Held(Some(id))
}

impl Drop for Held {
    fn drop(&mut self) {
        let Some(id) = self.0 else { return };
        let mut held = HELD.write().unwrap_or_else(PoisonError::into_inner);
        held.retain(|(other, _)| *other != id);
        NUMBER.store(held.len(), Ordering::Release);
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").finish_non_exhaustive()
    }
}

/// A text without what is known to be secret and without what looks like a login.
pub fn redact(text: &str) -> Cow<'_, str> {
    let mut redacted = LOGINS.replace_all(text, "${header}${user}***${at}");
    if NUMBER.load(Ordering::Acquire) > 0 {
        for (_, masker) in &*HELD.read().unwrap_or_else(PoisonError::into_inner) {
            if let Cow::Owned(masked) = masker.mask(&redacted) {
                redacted = Cow::Owned(masked);
            }
        }
    }
    redacted
}

/// Makes writers whose lines are redacted.
#[derive(Debug, Clone)]
pub struct Redacted<W>(pub W);

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for Redacted<W> {
    type Writer = RedactedWriter<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        RedactedWriter(self.0.make_writer())
    }

    fn make_writer_for(&'a self, metadata: &tracing::Metadata<'_>) -> Self::Writer {
        RedactedWriter(self.0.make_writer_for(metadata))
    }
}

/// Writes what it is given, redacted. A value that is written in two parts is not found; log lines are written as one.
#[derive(Debug)]
pub struct RedactedWriter<W>(W);

impl<W: Write> Write for RedactedWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        self.0.write_all(redact(&text).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::telemetry::logs;

    #[test]
    fn what_looks_like_a_login_is_taken_out() {
        let cases = [
            ("sent Authorization: Bearer abc.def-1", "sent Authorization: ***"),
            (r#"{"message":"authorization: Basic dTpw","code":1}"#, r#"{"message":"authorization: ***","code":1}"#),
            (r#"{"Authorization":"Bearer abc","x":1}"#, r#"{"Authorization":"***","x":1}"#),
            (r#"{"body":"{\"Authorization\": \"Bearer abc\"}"}"#, r#"{"body":"{\"Authorization\": \"***\"}"}"#),
            ("proxy-authorization=Basic dTpw\nnext", "proxy-authorization=***\nnext"),
            ("at postgres://shop:p@ss!@db:5432/shop", "at postgres://shop:***@db:5432/shop"),
            ("https://:token@ghcr.io and http://u:p@h", "https://:***@ghcr.io and http://u:***@h"),
            ("http://web:8080/a@b is well", "http://web:8080/a@b is well"),
            ("https://user@host/", "https://user@host/"),
            ("authorization failed", "authorization failed"),
            ("", ""),
        ];
        for (text, want) in cases {
            assert_eq!(redact(text), want);
            assert_eq!(matches!(redact(text), Cow::Borrowed(_)), text == want, "{text}");
        }
    }

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no writer panicked").extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        fn take(&self) -> String {
            let bytes = std::mem::take(&mut *self.0.lock().expect("no writer panicked"));
            String::from_utf8(bytes).expect("log lines are UTF-8")
        }
    }

    #[test]
    fn lines_pass_through_what_is_held_and_only_as_long() {
        let lines = Lines::default();
        let writer = lines.clone();
        let filter = "info".parse().expect("a filter");
        let masker = |value: &str| Arc::new(Masker::new([value.as_bytes()]));
        tracing::subscriber::with_default(logs::json(filter, move || writer.clone()), || {
            let say = || {
                tracing::info!(answer = "no \"hunter-two\"", "swordfish-one is wrong");
                let line: serde_json::Value = serde_json::from_str(&lines.take()).expect("a JSON object");
                (line["message"].as_str().expect("text").to_owned(), line["answer"].as_str().expect("text").to_owned())
            };
            let pair = |message: &str, answer: &str| (message.to_owned(), answer.to_owned());
            let open = pair("swordfish-one is wrong", "no \"hunter-two\"");
            assert_eq!(say(), open);
            let first = hold(masker("swordfish-one"));
            let same = hold(masker("swordfish-one"));
            let second = hold(masker("\"hunter-two\""));
            let empty = hold(Arc::new(Masker::default()));
            assert_eq!(say(), pair("*** is wrong", "no ***"));
            drop(first);
            assert_eq!(say(), pair("*** is wrong", "no ***"), "somebody else still holds it");
            drop((same, empty));
            assert_eq!(say(), pair("swordfish-one is wrong", "no ***"));
            drop(second);
            assert_eq!(say(), open);
        });
    }

    #[test]
    fn lines_for_people_are_redacted_too() {
        let lines = Lines::default();
        let writer = lines.clone();
        let filter = "info".parse().expect("a filter");
        let held = hold(Arc::new(Masker::new([b"open-sesame".as_slice()])));
        tracing::subscriber::with_default(logs::pretty(filter, move || writer.clone(), false), || {
            tracing::info!(url = "https://bot:open-door@ghcr.io", "said open-sesame");
        });
        drop(held);
        let text = lines.take();
        assert!(text.contains("said ***") && text.contains("https://bot:***@ghcr.io"), "{text}");
    }
}
