//! The rule for token realms, and how long and for whom a token is kept.

use std::sync::LazyLock;

use super::*;
use crate::registry::settings::Hosts;
use crate::registry::{Access, RegistryOptions, TokenRealm};

fn nothing_set() -> &'static Hosts {
    static NOTHING: LazyLock<Hosts> = LazyLock::new(|| Hosts::new(&RegistryOptions::default()).unwrap());
    &NOTHING
}

fn basic() -> Credential {
    Credential::Basic { user: "bob".into(), secret: "hunter2".to_owned().into() }
}

#[test]
fn credentials_go_only_to_the_registry_or_a_token_service_of_its_own() {
    struct Case {
        registry: &'static str,
        insecure: bool,
        realm: &'static str,
        /// Whether the realm may be asked with a credential, and without.
        want: (bool, bool),
    }
    #[rustfmt::skip]
    let cases = [
        Case { registry: "docker.io/a/b", insecure: false, realm: "https://auth.docker.io/token", want: (true, true) },
        Case { registry: "docker.io/a/b", insecure: false, realm: "https://auth.docker.io:8443/token", want: (false, true) },
        Case { registry: "docker.io/a/b", insecure: false, realm: "http://auth.docker.io/token", want: (false, false) },
        Case { registry: "registry.gitlab.com/a/b", insecure: false, realm: "https://gitlab.com/jwt/auth", want: (true, true) },
        Case { registry: "evil.test/a", insecure: false, realm: "https://auth.docker.io/token", want: (false, true) },
        Case { registry: "r.test/a", insecure: false, realm: "https://r.test/token", want: (true, true) },
        Case { registry: "r.test:5050/a", insecure: false, realm: "https://r.test/jwt/auth", want: (true, true) },
        Case { registry: "r.test/a", insecure: false, realm: "https://R.TEST/token", want: (true, true) },
        Case { registry: "r.test/a", insecure: false, realm: "https://evil.test/token", want: (false, true) },
        Case { registry: "r.test/a", insecure: false, realm: "https://r.test.evil.test/token", want: (false, true) },
        Case { registry: "r.test/a", insecure: false, realm: "https://evilr.test/token", want: (false, true) },
        Case { registry: "r.test/a", insecure: false, realm: "https://r.test./token", want: (false, true) },
        Case { registry: "r.test/a", insecure: false, realm: "https://r.test@evil.test/token", want: (false, false) },
        Case { registry: "r.test/a", insecure: false, realm: "https://evil.test\\@r.test/token", want: (false, true) },
        Case { registry: "r.test/a", insecure: false, realm: "http://r.test/token", want: (false, false) },
        Case { registry: "r.test/a", insecure: false, realm: "ftp://r.test/token", want: (false, false) },
        Case { registry: "r.test/a", insecure: false, realm: "file:///etc/passwd", want: (false, false) },
        Case { registry: "r.test/a", insecure: false, realm: "https://sso.test/token", want: (true, true) },
        Case { registry: "r.test/a", insecure: false, realm: "https://sub.sso.test/token", want: (false, true) },
        Case { registry: "other.test/a", insecure: false, realm: "https://sso.test/token", want: (false, true) },
        Case { registry: "r.test:5000/a", insecure: true, realm: "http://r.test:5000/token", want: (true, true) },
        Case { registry: "r.test:5000/a", insecure: true, realm: "http://r.test:5001/token", want: (false, true) },
        Case { registry: "r.test:5000/a", insecure: true, realm: "https://r.test/token", want: (true, true) },
        Case { registry: "r.test:5000/a", insecure: true, realm: "http://evil.test/token", want: (false, true) },
    ];
    let token_realms = vec![TokenRealm { registry: "r.test".into(), host: "sso.test".into() }];
    let hosts = Hosts::new(&RegistryOptions { token_realms, ..RegistryOptions::default() }).unwrap();
    for Case { registry, insecure, realm, want } in cases {
        let repository = registry.parse().unwrap();
        let may = |credential| {
            let access = Access { credential, insecure };
            let endpoint = Endpoint::new(&repository, &access, &hosts).unwrap();
            check_realm(&endpoint, &Url::parse(realm).unwrap()).is_ok()
        };
        assert_eq!((may(basic()), may(Credential::Anonymous)), want, "{registry} to {realm}");
    }
}

#[test]
fn a_token_is_used_a_little_shorter_than_it_holds() {
    let cases = [
        (r#"{"token":"t","expires_in":300}"#, Some(("t", 270))),
        (r#"{"access_token":"t","expires_in":40}"#, Some(("t", 30))),
        (r#"{"token":"t"}"#, Some(("t", 45))),
        (r#"{"token":"t","expires_in":null}"#, Some(("t", 45))),
        (r#"{"token":"t","expires_in":"300"}"#, Some(("t", 45))),
        (r#"{"token":"t","expires_in":-1}"#, Some(("t", 45))),
        (r#"{"token":"t","expires_in":0}"#, Some(("t", 0))),
        (r#"{"token":"t","expires_in":99999999999}"#, Some(("t", 24 * 3600 - 30))),
        (r#"{"token":"","access_token":"a"}"#, Some(("a", 45))),
        (r#"{"token":null,"access_token":"a"}"#, Some(("a", 45))),
        (r#"{"token":"a b"}"#, None),
        (r#"{"token":"a\r\nX-Evil: 1"}"#, None),
        (r#"{"token":""}"#, None),
        (r#"{"token":1}"#, None),
        ("{}", None),
        ("<html>", None),
        ("", None),
    ];
    for (body, want) in cases {
        let got = read_token(body.as_bytes()).map(|(token, lifetime)| (token, lifetime.as_secs()));
        assert_eq!(got, want.map(|(token, seconds)| (token.to_owned(), seconds)), "{body}");
    }
    let long = format!(r#"{{"token":"{}"}}"#, "a".repeat(MAX_TOKEN_LENGTH + 1));
    assert_eq!(read_token(long.as_bytes()).map(|_| ()), None);
}

#[test]
fn a_token_is_never_used_for_another_credential_or_repository() {
    let kept = Authorizations::default();
    let (now, later) = (Timestamp::UNIX_EPOCH, Timestamp::from_second(60).unwrap());
    let (a, b) = ("r.test/a".parse().unwrap(), "r.test/b".parse().unwrap());
    let (bob, nobody) = (Access { credential: basic(), insecure: false }, Access::default());
    let plain = Access { credential: basic(), insecure: true };
    let other = Access {
        credential: Credential::Basic { user: "bobh".into(), secret: "unter2".to_owned().into() },
        insecure: false,
    };
    let endpoint = |repository, access| Endpoint::new(repository, access, nothing_set()).unwrap();
    kept.keep(&endpoint(&a, &bob), Authorization::Bearer("t".into()), Some(later), now);
    assert!(kept.current(&endpoint(&a, &bob), now).is_some());
    for (repository, access) in [(&a, &nobody), (&a, &other), (&a, &plain), (&b, &bob)] {
        assert!(kept.current(&endpoint(repository, access), now).is_none());
    }
    assert!(kept.current(&endpoint(&a, &bob).without_scope(), now).is_none());
    assert!(kept.current(&endpoint(&a, &bob), later).is_none(), "expired");
    kept.forget(&endpoint(&a, &bob));
    assert!(kept.current(&endpoint(&a, &bob), now).is_none());
}

#[test]
fn the_tokens_kept_are_bounded() {
    let kept = Authorizations::default();
    let (now, later) = (Timestamp::UNIX_EPOCH, Timestamp::from_second(60).unwrap());
    let access = Access::default();
    for number in 0..=MAX_KEPT + 10 {
        let repository = format!("r.test/a{number}").parse().unwrap();
        let endpoint = Endpoint::new(&repository, &access, nothing_set()).unwrap();
        kept.keep(&endpoint, Authorization::Basic, Some(later), now);
        assert!(kept.current(&endpoint, now).is_some());
    }
    assert!(kept.lock().len() <= MAX_KEPT);
}
