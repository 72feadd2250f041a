//! Kubernetes adapters: clients with deadlines, server-side apply, the memory of child objects, events, evidence
//! and leadership.
//!
//! Nothing in here knows a rule of deploys: it writes what it is given and shows what it sees, as small plain
//! views. What a view means for a deploy is decided by the controllers.

pub mod apply;
pub mod client;
pub mod error;
pub mod events;
pub mod evidence;
pub mod index;
pub mod lease;
pub mod originals;
pub mod workload;

/// Cuts a text to a number of characters, the last of which then says that there was more.
fn cut(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        None => text.to_owned(),
        Some(_) => text.chars().take(chars.saturating_sub(1)).chain(['…']).collect(),
    }
}
