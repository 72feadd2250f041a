//! The forms in which a value may stand in a text. Each is wiped when it was looked at.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD},
};
use zeroize::Zeroizing;

use super::{MIN_PART, MIN_VALUE};

/// Encoded forms of longer values are not looked for: that is no password, and few programs print a file encoded.
const MAX_ENCODED: usize = 16 * 1024;

/// Calls `take` with every form of a value; with none if the value is too short.
pub(super) fn each(value: &[u8], take: &mut impl FnMut(&[u8])) {
    let plain = value.trim_ascii();
    if plain.len() < MIN_VALUE {
        return;
    }
    as_text(plain, take);
    if plain.contains(&b'\n') {
        let lines = plain.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        lines.filter(|line| line.len() >= MIN_PART).for_each(|line| as_text(line, take));
    }
    if value.len() <= MAX_ENCODED {
        for upper in [true, false] {
            take(&percent_encoded(plain, upper, b"%20"));
            take(&percent_encoded(plain, upper, b"+"));
        }
        base64(value, take);
        base64(plain, take);
    }
}

/// As it is, and as it stands inside of a JSON string, of writers that escape for HTML as well and of those that do not.
fn as_text(plain: &[u8], take: &mut impl FnMut(&[u8])) {
    take(plain);
    take(&escaped(plain, b""));
    take(&escaped(plain, b"<>&"));
}

fn escaped(plain: &[u8], more: &[u8]) -> Zeroizing<Vec<u8>> {
    // Large enough from the start: growing would leave copies behind.
    let mut text = Zeroizing::new(Vec::with_capacity(plain.len() * 6));
    for byte in plain {
        match byte {
            b'"' => text.extend(br#"\""#),
            b'\\' => text.extend(br"\\"),
            b'\n' => text.extend(br"\n"),
            b'\r' => text.extend(br"\r"),
            b'\t' => text.extend(br"\t"),
            0x08 => text.extend(br"\b"),
            0x0c => text.extend(br"\f"),
            byte if *byte < 0x20 || more.contains(byte) => {
                text.extend(br"\u00");
                text.extend(hexadecimal(*byte, false));
            }
            byte => text.push(*byte),
        }
    }
    text
}

fn percent_encoded(plain: &[u8], upper: bool, space: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut text = Zeroizing::new(Vec::with_capacity(plain.len() * 3));
    for byte in plain {
        match byte {
            b' ' => text.extend(space),
            b'-' | b'.' | b'_' | b'~' => text.push(*byte),
            byte if byte.is_ascii_alphanumeric() => text.push(*byte),
            byte => {
                text.push(b'%');
                text.extend(hexadecimal(*byte, upper));
            }
        }
    }
    text
}

fn hexadecimal(byte: u8, upper: bool) -> [u8; 2] {
    let digits: &[u8; 16] = if upper { b"0123456789ABCDEF" } else { b"0123456789abcdef" };
    [digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]
}

/// Alone, with and without padding; and inside of something longer, where it may begin at any of the three bytes of a
/// group of characters, without the characters that it shares with its neighbours.
fn base64(value: &[u8], take: &mut impl FnMut(&[u8])) {
    for engine in [&STANDARD, &URL_SAFE] {
        take(Zeroizing::new(engine.encode(value)).as_bytes());
    }
    for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
        take(Zeroizing::new(engine.encode(value)).as_bytes());
        for before in 0..3 {
            let mut shifted = Zeroizing::new(Vec::with_capacity(before + value.len()));
            shifted.resize(before, 0);
            shifted.extend(value);
            let text = Zeroizing::new(engine.encode(&*shifted));
            let own = (before * 8).div_ceil(6)..shifted.len() * 8 / 6;
            if own.len() >= MIN_PART {
                // At the end, as passwords are in logins, it shares its last character with nobody.
                take(&text.as_bytes()[own.start..]);
                take(&text.as_bytes()[own]);
            }
        }
    }
}
