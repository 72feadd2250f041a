//! Text from outside, made fit for Postgres.

use std::borrow::Cow;

/// Postgres cannot store the NUL character, container output may hold it: it becomes `U+FFFD`.
pub(super) fn storable(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}

/// A pattern for `ILIKE` that finds `needle` anywhere, taken literally.
pub(super) fn containing(needle: &str) -> String {
    let mut pattern = String::with_capacity(needle.len() + 2);
    pattern.push('%');
    for letter in storable(needle).chars() {
        if matches!(letter, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern.push('%');
    pattern
}

/// A pattern for `LIKE` of a whole text: `*` of the glob stands for any letters, `?` for one, the rest for itself.
pub(super) fn matching(glob: &str) -> String {
    let mut pattern = String::with_capacity(glob.len());
    for letter in storable(glob).chars() {
        match letter {
            '*' => pattern.push('%'),
            '?' => pattern.push('_'),
            '%' | '_' | '\\' => pattern.extend(['\\', letter]),
            _ => pattern.push(letter),
        }
    }
    pattern
}

/// At most `limit` bytes of `text`, cut between characters, with a note when something was cut.
pub(super) fn at_most(text: Cow<'_, str>, limit: usize) -> Cow<'_, str> {
    if text.len() <= limit {
        return text;
    }
    let end = text.floor_char_boundary(limit);
    Cow::Owned(format!("{} … [cut, {} bytes]", &text[..end], text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nul_characters_are_replaced() {
        assert_eq!(storable("a\0b"), "a\u{fffd}b");
        assert_eq!(storable("ab"), "ab");
    }

    #[test]
    fn a_needle_is_taken_literally() {
        assert_eq!(containing(r"50%_\"), r"%50\%\_\\%");
    }

    #[test]
    fn a_glob_matches_whole_texts() {
        assert_eq!(matching("ghcr.io/acme/*"), "ghcr.io/acme/%");
        assert_eq!(matching(r"a?_%\"), r"a_\_\%\\");
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        assert_eq!(at_most("äöü".into(), 3), "ä … [cut, 6 bytes]");
        assert_eq!(at_most("äöü".into(), 6), "äöü");
    }
}
