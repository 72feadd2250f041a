//! What is masked, what is not, and what holds for every value and text.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use proptest::prelude::*;

use super::*;

fn masker(values: &[&str]) -> Masker {
    Masker::new(values.iter().map(|value| value.as_bytes()))
}

#[test]
fn every_form_of_a_value_is_masked() {
    let basic = format!("Authorization: Basic {}", STANDARD.encode("bot:s3cr&t/pass word"));
    let cases = [
        ("as it is", "login with s3cr&t/pass word failed", "login with *** failed"),
        ("twice", "s3cr&t/pass words3cr&t/pass word, s3cr&t/pass word", "***, ***"),
        ("base64", "czNjciZ0L3Bhc3Mgd29yZA==.", "***."),
        ("base64 without padding", "token=czNjciZ0L3Bhc3Mgd29yZA", "token=***"),
        ("percent-encoded", "https://bot:s3cr%26t%2Fpass%20word@host", "https://bot:***@host"),
        ("percent-encoded in small letters", "p=s3cr%26t%2fpass%20word&q", "p=***&q"),
        ("as a form", "p=s3cr%26t%2Fpass+word&q", "p=***&q"),
        ("escaped for HTML", r#"{"p":"s3cr\u0026t/pass word"}"#, r#"{"p":"***"}"#),
        ("its beginning at the end", "login with s3cr&t/p", "login with ***"),
        ("its end at the beginning", "&t/pass word is wrong", "*** is wrong"),
        ("too little of it", "login with s3cr&t/", "login with s3cr&t/"),
        ("nothing of it", "login failed", "login failed"),
        ("nothing at all", "", ""),
    ];
    let masker = masker(&[" s3cr&t/pass word\n"]);
    for (name, text, want) in cases {
        assert_eq!(masker.mask(text), want, "{name}");
    }
    // The last character of `bot:` is shared with the value, and stays.
    assert_eq!(masker.mask(&basic), format!("Authorization: Basic {}***=", &STANDARD.encode("bot:s")[..6]));
}

#[test]
fn a_value_of_many_lines_is_masked_line_by_line() {
    let key = "-----BEGIN KEY-----\r\nMC4CAQAwBQYD\"K2Vw\nshort\n  BCIEIIndented0123\n-----END KEY-----\n";
    let masker = masker(&[key]);
    assert_eq!(masker.mask("key: MC4CAQAwBQYD\"K2Vw, BCIEIIndented0123 and short"), "key: ***, *** and short");
    assert_eq!(masker.mask(r#"{"line":"MC4CAQAwBQYD\"K2Vw"}"#), r#"{"line":"***"}"#);
    assert_eq!(masker.mask(&format!("<{}>", key.trim())), "<***>");
    let json = serde_json::to_string(key.trim()).expect("JSON");
    assert_eq!(masker.mask(&json), "\"***\"");
}

#[test]
fn the_longest_of_overlapping_values_is_masked() {
    assert_eq!(masker(&["pass", "password", "word1234"]).mask("a password1234 b pass"), "a *** b ***");
    assert_eq!(masker(&["abcdX", "Xefgh"]).mask("abcdXefgh"), "***", "no rest of the second is left");
}

#[test]
fn short_values_cannot_be_told_from_text() {
    let masker = masker(&["", "abc", "  a  \n", "   \n\n   "]);
    assert!(masker.is_empty());
    assert_eq!(masker.mask("abc   \n\n   "), "abc   \n\n   ");
    assert!(Masker::default().is_empty() && Masker::default().mask("abc") == "abc");
}

#[test]
fn values_that_look_like_masks_are_masked_all_the_same() {
    for value in ["****", "a***b", "***b", "******"] {
        let masker = masker(&[value, "secret"]);
        for text in ["asecretb", "*secret*", "secretsecret*", "***b****", "secretbsecret"] {
            let masked = masker.mask(text);
            assert!(!masked.contains(value), "{value} in {text}: {masked}");
        }
    }
}

#[test]
fn values_that_are_no_text_do_not_split_characters() {
    let bytes: &[u8] = &[0xa4, b'a', b'b', 0xc3];
    assert_eq!(Masker::new([bytes]).mask("1\u{e4}ab\u{e4}2"), "1***2");
}

#[test]
fn nothing_of_a_value_is_shown() {
    assert_eq!(format!("{:?}", masker(&["a secret"])).matches("secret").count(), 0);
}

/// A value, and a text around it whose letters are none of its own.
fn value() -> impl Strategy<Value = String> {
    prop_oneof!["[a-d*]{4,9}", "[a-z&/ \"\\\\\n]{2}[a-z]{4}[a-z&/ \"\\\\\n]{0,90}", "[a-c]{60,300}"]
}

fn around() -> impl Strategy<Value = String> {
    "[A-Z0-9 ä.]{0,40}"
}

proptest! {
    #[test]
    fn no_masked_text_has_a_value(values in prop::collection::vec(value(), 1..5), texts in prop::collection::vec(around(), 6)) {
        let masker = Masker::new(values.iter().map(String::as_bytes));
        let mut text = String::new();
        for (part, value) in texts.iter().zip(values.iter().cycle()) {
            text.push_str(part);
            text.push_str(value);
        }
        let masked = masker.mask(&text);
        for value in values.iter().filter(|value| value.trim().len() >= MIN_VALUE) {
            prop_assert!(!masked.contains(value.trim()), "{value:?} in {masked:?}");
            prop_assert!(!masked.contains(&STANDARD.encode(value)));
        }
        let again = masker.mask(&masked);
        prop_assert!(matches!(again, Cow::Borrowed(_)));
    }

    #[test]
    fn a_text_without_values_is_left_alone(values in prop::collection::vec("[a-d0-9]{4,200}", 0..5), text in "[äöü*.,: ]{0,200}") {
        let masker = Masker::new(values.iter().map(String::as_bytes));
        prop_assert!(matches!(masker.mask(&text), Cow::Borrowed(same) if same == text));
    }

    /// Wherever a text is cut: nothing is left of the value but fewer bytes than are told from ordinary text.
    #[test]
    fn a_value_that_is_cut_is_masked(value in "[a-z]{20,400}", from in any::<prop::sample::Index>(), at_end in any::<bool>()) {
        let masker = Masker::new([value.as_bytes()]);
        let cut = from.index(value.len() - MIN_PART) + MIN_PART;
        let (text, want) = if at_end {
            (format!("A: {}", &value[..cut]), "A: ***")
        } else {
            (format!("{} :A", &value[value.len() - cut..]), "*** :A")
        };
        prop_assert_eq!(masker.mask(&text), want);
    }

    #[test]
    fn an_encoded_value_is_masked_wherever_it_stands(value in "[!-~]{12,80}", before in "[ -~]{0,5}", after in "[ -~]{0,5}") {
        let masker = Masker::new([value.as_bytes()]);
        let whole = STANDARD.encode(format!("{before}{value}{after}"));
        let masked = masker.mask(&whole);
        // At each side a character may be shared with a neighbour.
        let left = masked.len() - MASK.len();
        prop_assert!(masked.contains(MASK));
        prop_assert!(left <= (before.len() * 8).div_ceil(6) + (after.len() * 8).div_ceil(6) + 4 + 4, "{}", masked);
    }
}
