//! What a registry may say of our own login, in whatever form it got it: masked before anybody reads it.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use crate::{domain::mask::Masker, registry::Credential};

/// The text with the login taken out of it: its secret in every form that [`Masker`] knows, the pair of user and secret
/// as requests carry it, both in hexadecimal, and all of it without its capitals, which host names lose.
pub fn masked(text: &str, credential: &Credential) -> String {
    let Credential::Basic { user, secret } = credential else {
        return text.to_owned();
    };
    let pair = Zeroizing::new(format!("{user}:{}", **secret));
    let mut values: Vec<Zeroizing<String>> = Vec::new();
    for value in [secret, &pair] {
        let (base64, hex) = (Zeroizing::new(STANDARD.encode(&**value)), Zeroizing::new(hex::encode(&**value)));
        values.push(Zeroizing::new(value.to_ascii_lowercase()));
        values.push(Zeroizing::new(base64.trim_end_matches('=').to_ascii_lowercase()));
        values.push(Zeroizing::new(hex.to_ascii_uppercase()));
        values.push(hex);
    }
    values.extend([secret.clone(), pair]);
    Masker::new(values.iter().map(|value| value.as_bytes())).mask(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_masked_in_whatever_form_it_comes_back() {
        let bob = Credential::Basic { user: "bob".into(), secret: "Hunter2 %right?".to_owned().into() };
        let forms = [
            "Hunter2 %right?",
            "hunter2 %right?",
            "bob:Hunter2 %right?",
            "Basic Ym9iOkh1bnRlcjIgJXJpZ2h0Pw==",
            "ym9iokh1bnrlcjigjxjpz2h0pw.evil.example",
            "SHVudGVyMiAlcmlnaHQ/",
            "SHVudGVyMiAlcmlnaHQ_",
            "Hunter2%20%25right%3F",
            "48756e74657232202572696768743f",
            "48756E74657232202572696768743F",
        ];
        for form in forms {
            let said = masked(&format!("`r.test/a` answered: {form}; and so on"), &bob);
            let told = said.to_ascii_lowercase();
            assert!(said.contains("***"), "{form}: {said}");
            for part in ["hunter2", "vudgvy", "h1bnrlcj", "right", "48756e74"] {
                assert!(!told.contains(part), "{form}: {said}");
            }
        }
        assert_eq!(masked("`r.test/bob` denies access", &bob), "`r.test/bob` denies access");
        assert_eq!(masked(forms[0], &Credential::Anonymous), forms[0]);
    }
}
