//! What a registry may say of our own login, in whatever form it got it: masked before anybody reads it.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD},
};
use zeroize::Zeroizing;

use crate::registry::Credential;

/// What is shorter is part of ordinary words, and hides nothing.
const SHORTEST: usize = 4;
/// What stands in place of a secret.
const MASK: &str = "***";

/// A text in which the secret of a login does not stand: not as it is, not in base64 alone or behind the user's name as
/// requests carry it, not percent-encoded, in hexadecimal, or with other capitals, as host names lose them.
pub(super) fn masked(text: String, credential: &Credential) -> String {
    let Credential::Basic { user, secret } = credential else {
        return text;
    };
    let mut forms = forms(user, secret);
    // The longest first: what holds another one goes as a whole.
    forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
    let mut text = text;
    for form in forms.iter().filter(|form| form.len() >= SHORTEST) {
        text = replaced(&text, form);
    }
    text
}

fn forms(user: &str, secret: &str) -> Vec<Zeroizing<String>> {
    let pair = Zeroizing::new(format!("{user}:{secret}"));
    let mut forms = vec![Zeroizing::new(secret.to_owned()), percent(secret), Zeroizing::new(hex::encode(secret))];
    for text in [secret, &**pair] {
        for engine in [&STANDARD, &STANDARD_NO_PAD, &URL_SAFE, &URL_SAFE_NO_PAD] {
            forms.push(Zeroizing::new(engine.encode(text)));
        }
    }
    forms
}

fn percent(text: &str) -> Zeroizing<String> {
    let mut encoded = Zeroizing::new(String::with_capacity(text.len() * 3));
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.push_str(&hex::encode_upper([byte]));
        }
    }
    encoded
}

/// Every occurrence, with whatever capitals, replaced.
fn replaced(text: &str, form: &str) -> String {
    let (lower, form) = (Zeroizing::new(text.to_ascii_lowercase()), Zeroizing::new(form.to_ascii_lowercase()));
    let mut all = String::with_capacity(text.len());
    let mut at = 0;
    for (found, _) in lower.match_indices(&**form) {
        all.push_str(&text[at..found]);
        all.push_str(MASK);
        at = found + form.len();
    }
    all.push_str(&text[at..]);
    all
}
