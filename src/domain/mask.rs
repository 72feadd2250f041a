//! Masking: known values are taken out of texts that people read, such as the output of containers.
//!
//! A value is recognised as it is, without the white space around it, line by line, and in the forms in which programs
//! print it: base64 (also inside of something longer, as in `Basic` logins), percent-encoded, and escaped as in JSON. It
//! is a second line of defence and no more: a program that turns its secrets round, or prints them letter by letter, is
//! not stopped. Values shorter than [`MIN_VALUE`] bytes are left alone, because they cannot be told from ordinary text.
//!
//! Long forms are looked for in pieces that overlap. Where a text is cut in the middle of a value, what is left of it are
//! whole pieces, the end of one and the beginning of another, and all of these are found. It also bounds the work at each
//! place of a text, whatever the values are.
//!
//! Written here, and not with one of the crates for many patterns, because those keep copies that nobody wipes.

use std::{borrow::Cow, fmt, ops::Range};

use zeroize::Zeroizing;

mod forms;

/// What stands in the place of a value.
pub const MASK: &str = "***";

/// Values of fewer bytes, white space around them not counted, are not masked.
pub const MIN_VALUE: usize = 4;

/// Lines of a value, parts of a value at an end of a text, and parts of encoded values are masked from this length on.
pub const MIN_PART: usize = 8;

/// Longest piece that is looked for, in bytes.
const PIECE: usize = 64;

/// From one piece of a form to the next. They overlap so far that no part at an end of a text is too short to be found.
const STRIDE: usize = PIECE - MIN_PART;

/// Takes values out of texts. Holds them in memory until it is dropped, and wipes them then.
#[derive(Default)]
pub struct Masker {
    /// All pieces, sorted.
    pieces: Vec<Zeroizing<Vec<u8>>>,
    /// For each piece, the longest other one that it begins with.
    shorter: Vec<Option<usize>>,
    /// Places in `pieces`, sorted by their bytes from the last to the first.
    backwards: Vec<usize>,
    /// What pieces begin with, and what they end with, so that most places of most texts need no closer look.
    beginnings: Sieve,
    endings: Sieve,
}

impl Masker {
    /// A masker of these values.
    pub fn new<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut pieces = Vec::new();
        for value in values {
            forms::each(value, &mut |form| cut(form, &mut pieces));
        }
        pieces.sort_unstable_by(|one, other| one.as_slice().cmp(other.as_slice()));
        pieces.dedup();
        let mut backwards: Vec<usize> = (0..pieces.len()).collect();
        backwards.sort_unstable_by(|one, other| pieces[*one].iter().rev().cmp(pieces[*other].iter().rev()));
        Self {
            shorter: shorter(&pieces),
            backwards,
            beginnings: Sieve::new(pieces.len(), pieces.iter().filter_map(|piece| piece.first_chunk())),
            endings: Sieve::new(pieces.len(), pieces.iter().filter_map(|piece| piece.last_chunk())),
            pieces,
        }
    }

    /// Whether there is nothing to mask.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// The text with [`MASK`] in place of each value; the text itself if it has none.
    pub fn mask<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut masked = Cow::Borrowed(text);
        // A mask may complete a value that contains one. Each round makes the text shorter, so there is a last one.
        while let Some(shorter) = self.masked_once(&masked) {
            masked = Cow::Owned(shorter);
        }
        masked
    }

    fn masked_once(&self, text: &str) -> Option<String> {
        let found = self.found(text.as_bytes());
        if found.is_empty() {
            return None;
        }
        let mut masked = String::with_capacity(text.len());
        let mut done = 0;
        for span in found {
            // Values need not be text, and may begin or end inside of a character.
            let start = text.floor_char_boundary(span.start);
            if start > done || masked.is_empty() {
                masked.push_str(&text[done..start]);
                masked.push_str(MASK);
            }
            done = text.ceil_char_boundary(span.end);
        }
        masked.push_str(&text[done..]);
        Some(masked)
    }

    /// Where values stand, without gaps between those that overlap or touch.
    fn found(&self, text: &[u8]) -> Vec<Range<usize>> {
        let mut found: Vec<Range<usize>> = Vec::new();
        if self.is_empty() {
            return found;
        }
        let mut add = |mut span: Range<usize>| {
            while let Some(last) = found.pop_if(|last| last.end >= span.start) {
                span = span.start.min(last.start)..span.end.max(last.end);
            }
            found.push(span);
        };
        if let Some(length) = self.end_of_a_piece(text) {
            add(0..length);
        }
        for (at, bytes) in text.windows(MIN_VALUE).enumerate() {
            let is_likely = self.beginnings.has(bytes);
            if let Some(length) = is_likely.then(|| self.longest_piece(&text[at..])).flatten() {
                add(at..at + length);
            }
        }
        if let Some(length) = self.beginning_of_a_piece(text) {
            add(text.len() - length..text.len());
        }
        found
    }

    /// Length of the longest piece that the text begins with. It is the last one that is not greater than the text, or
    /// one that this one begins with.
    fn longest_piece(&self, text: &[u8]) -> Option<usize> {
        let text = &text[..text.len().min(PIECE)];
        let mut candidate = self.pieces.partition_point(|piece| piece.as_slice() <= text).checked_sub(1)?;
        while !text.starts_with(&self.pieces[candidate]) {
            candidate = self.shorter[candidate]?;
        }
        Some(self.pieces[candidate].len())
    }

    /// Length of the longest part of a piece that the text ends with: the value goes on where the text does not.
    fn beginning_of_a_piece(&self, text: &[u8]) -> Option<usize> {
        let lengths = (MIN_PART..PIECE.min(text.len() + 1)).rev();
        let mut parts = lengths.map(|length| &text[text.len() - length..]);
        let part = parts.find(|part| {
            let place = || self.pieces.partition_point(|piece| piece.as_slice() < *part);
            self.beginnings.has(&part[..MIN_VALUE])
                && self.pieces.get(place()).is_some_and(|piece| piece.starts_with(part))
        });
        part.map(<[u8]>::len)
    }

    /// Length of the longest part of a piece that the text begins with: the value began before the text did.
    fn end_of_a_piece(&self, text: &[u8]) -> Option<usize> {
        let lengths = (MIN_PART..PIECE.min(text.len() + 1)).rev();
        let mut parts = lengths.map(|length| &text[..length]);
        let part = parts.find(|part| {
            let place = || {
                let is_before = |piece: &usize| self.pieces[*piece].iter().rev().lt(part.iter().rev());
                self.backwards.partition_point(is_before)
            };
            self.endings.has(&part[part.len() - MIN_VALUE..])
                && self.backwards.get(place()).is_some_and(|piece| self.pieces[*piece].ends_with(part))
        });
        part.map(<[u8]>::len)
    }
}

/// Says nothing of what is masked.
impl fmt::Debug for Masker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Masker").field("pieces", &self.pieces.len()).finish_non_exhaustive()
    }
}

/// Adds the pieces of a form.
fn cut(form: &[u8], pieces: &mut Vec<Zeroizing<Vec<u8>>>) {
    let last = form.len().saturating_sub(PIECE);
    let starts = (0..last).step_by(STRIDE).chain([last]);
    pieces.extend(starts.map(|start| Zeroizing::new(form[start..form.len().min(start + PIECE)].to_vec())));
}

/// For each of the sorted pieces, the longest other one that it begins with. Whatever it begins with, the one before it
/// is or begins with as well.
fn shorter(pieces: &[Zeroizing<Vec<u8>>]) -> Vec<Option<usize>> {
    let mut shorter: Vec<Option<usize>> = Vec::with_capacity(pieces.len());
    for (at, piece) in pieces.iter().enumerate() {
        let mut candidate = at.checked_sub(1);
        while let Some(other) = candidate.filter(|other| !piece.starts_with(&pieces[*other])) {
            candidate = shorter[other];
        }
        shorter.push(candidate);
    }
    shorter
}

/// Tells of most groups of four bytes that they are none of those it was made of.
#[derive(Default)]
struct Sieve {
    /// A bit for each hash.
    bits: Zeroizing<Vec<u64>>,
    /// What is left of a hash of 32 bits after this shift is the number of a bit.
    shift: u32,
}

impl Sieve {
    fn new<'a>(number: usize, groups: impl Iterator<Item = &'a [u8; MIN_VALUE]>) -> Self {
        let bits = number.saturating_mul(16).next_power_of_two().clamp(1 << 12, 1 << 22);
        let mut sieve = Self { bits: Zeroizing::new(vec![0; bits / 64]), shift: u32::BITS - bits.trailing_zeros() };
        for group in groups {
            let (word, bit) = sieve.place(u32::from_le_bytes(*group));
            sieve.bits[word] |= bit;
        }
        sieve
    }

    fn has(&self, group: &[u8]) -> bool {
        let Ok(group) = <[u8; MIN_VALUE]>::try_from(group) else { return false };
        let (word, bit) = self.place(u32::from_le_bytes(group));
        self.bits[word] & bit != 0
    }

    fn place(&self, group: u32) -> (usize, u64) {
        let hash = group.wrapping_mul(0x9E37_79B1) >> self.shift;
        ((hash / 64) as usize, 1 << (hash % 64))
    }
}

#[cfg(test)]
mod tests;
