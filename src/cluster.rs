//! Kubernetes adapters: clients with deadlines, server-side apply, the memory of child objects, events, evidence
//! and leadership.
//!
//! Nothing in here knows a rule of deploys: it writes what it is given and shows what it sees, as small plain
//! views. What a view means for a deploy is decided by the controllers.

pub mod access;
pub mod anew;
pub mod apply;
mod bindings;
pub mod client;
pub mod declared;
pub mod error;
pub mod events;
pub mod evidence;
mod guard;
pub mod index;
pub mod lease;
pub mod live;
pub mod originals;
pub mod workload;

/// Cuts a text to a number of characters, the last of which then says that there was more.
fn cut(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        None => text.to_owned(),
        Some(_) => text.chars().take(chars.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// The beginning and the end of a text that has more characters than that: what somebody else answered often comes last,
/// behind everything that was done before it.
fn both_ends(text: &str, chars: usize) -> String {
    let all = text.chars().count();
    if all <= chars {
        return text.to_owned();
    }
    let head = chars / 3;
    let tail = chars - head - 1;
    text.chars().take(head).chain(['…']).chain(text.chars().skip(all - tail)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_of_a_long_text_stay() {
        assert_eq!(both_ends("abcdefghij", 10), "abcdefghij");
        assert_eq!(both_ends("abcdefghijk", 10), "abc…fghijk");
        assert_eq!(both_ends("äöüßabcdefgh", 9), "äöü…defgh");
        assert_eq!(cut("abcdefghijk", 10), "abcdefghi…");
    }
}
