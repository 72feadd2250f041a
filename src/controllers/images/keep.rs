//! What of the book outlives the process.

use jiff::Timestamp;

/// What is known to be stored of a question.
#[derive(Debug, Clone, Default)]
pub(super) struct Stored {
    /// Time of the scan that is stored.
    pub(super) at: Option<Timestamp>,
    /// How many times a person accepted a listing.
    pub(super) accepted: i64,
}
