//! From bytes that a container wrote to lines that can be stored and shown.

use std::borrow::Cow;

use jiff::Timestamp;

use crate::cluster::cut;

/// The last lines, within a number of bytes. A line that only partly fits is left out, unless it is the last.
pub(super) fn tail(bytes: &[u8], lines: usize, max_bytes: usize) -> impl Iterator<Item = Cow<'_, str>> {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let all: Vec<&[u8]> = if bytes.is_empty() { Vec::new() } else { bytes.split(|b| *b == b'\n').collect() };
    let mut room = max_bytes;
    let kept = all.iter().rev().take(lines).enumerate().take_while(|(n, line)| {
        let fits = line.len() < room;
        room = room.saturating_sub(line.len() + 1);
        fits || *n == 0
    });
    let from = all.len() - kept.count();
    all.into_iter().skip(from).map(String::from_utf8_lossy)
}

/// The time that the kubelet puts before each line, and the rest.
pub(super) fn split_timestamp(line: &str) -> (Option<Timestamp>, &str) {
    let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
    first.parse().map_or((None, line), |at| (Some(at), rest))
}

/// One line without control characters and terminal colours, of bounded length.
pub(super) fn clean(text: &str, chars: usize) -> String {
    let mut clean = String::with_capacity(text.len().min(chars));
    let mut rest = text.trim_end().chars();
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' => {
                // A control sequence: ESC [ parameters, up to a letter.
                if rest.as_str().starts_with('[') {
                    rest.by_ref().skip(1).find(|c| ('\u{40}'..='\u{7e}').contains(c));
                }
            }
            '\t' => clean.push(c),
            '\n' | '\r' => clean.push(' '),
            c if c.is_control() => {}
            c => clean.push(c),
        }
    }
    cut(&clean, chars)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept() {
        let of =
            |text: &str, lines, bytes| tail(text.as_bytes(), lines, bytes).map(Cow::into_owned).collect::<Vec<_>>();
        assert_eq!(of("a\nb\nc\n", 2, 100), ["b", "c"]);
        assert_eq!(of("a\nb\nc", 5, 100), ["a", "b", "c"]);
        assert_eq!(of("aaaa\nbbbb\ncccc\n", 5, 10), ["bbbb", "cccc"]);
        assert_eq!(of("aaaaaaaaaaaa\n", 5, 10), ["aaaaaaaaaaaa"], "the last one counts most");
        assert_eq!(of("a\n\nb\n", 5, 100), ["a", "", "b"]);
        assert!(of("", 5, 100).is_empty());
        assert!(of("\n", 5, 100).is_empty());
    }

    #[test]
    fn bytes_that_are_no_text_do_no_harm() {
        assert_eq!(tail(b"ok\n\xff\xfe\n", 5, 100).collect::<Vec<_>>(), ["ok", "\u{fffd}\u{fffd}"]);
    }

    #[test]
    fn the_kubelets_time_is_taken_off() {
        let (at, text) = split_timestamp("2026-01-02T03:04:05.123456789Z hello world");
        assert_eq!(at, Some("2026-01-02T03:04:05.123456789Z".parse().unwrap()));
        assert_eq!(text, "hello world");
        assert_eq!(split_timestamp("hello world"), (None, "hello world"));
        assert_eq!(split_timestamp("2026-01-02T03:04:05Z"), (Some("2026-01-02T03:04:05Z".parse().unwrap()), ""));
    }

    #[test]
    fn lines_are_clean() {
        assert_eq!(clean("\u{1b}[1;31merror\u{1b}[0m\tx\0\u{7}\r\n", 100), "error\tx");
        assert_eq!(clean("a\nb", 100), "a b");
        assert_eq!(clean("aaaa", 3), "aa…");
    }
}
