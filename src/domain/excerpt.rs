//! Texts from outside, made fit to stand in an error or a message.

/// The text's first `limit` characters, with a mark in place of each control character, and an ellipsis when cut.
pub fn excerpt(text: &str, limit: usize) -> String {
    let shown = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut out: String = text.chars().take(limit).map(shown).collect();
    if text.chars().nth(limit).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_short_and_on_one_line() {
        let cases = [
            ("plain", "plain"),
            ("", ""),
            ("12345678", "12345678"),
            ("123456789", "12345678…"),
            ("a\nb\u{1b}[0m", "a\u{fffd}b\u{fffd}[0m"),
            ("ääääääääää", "ääääääää…"),
        ];
        for (text, want) in cases {
            assert_eq!(excerpt(text, 8), want, "{text:?}");
        }
    }
}
