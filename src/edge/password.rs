//! The password in front of environments.
//!
//! Asked for as HTTP Basic does it, under any user name. Who gave it gets a signed cookie, so that an application behind it
//! can use `Authorization` for itself. Neither is ever passed on. The key of the cookie comes from the password: another
//! password ends every session, and all replicas know the same.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::cookies;

/// What a browser is asked with.
pub const CHALLENGE: HeaderValue = HeaderValue::from_static("Basic realm=\"preview\", charset=\"UTF-8\"");

/// How long a session lasts, in seconds.
const SESSION: i64 = 12 * 60 * 60;

/// The password, read again when its file changes.
pub struct Lock {
    path: PathBuf,
    keys: RwLock<Arc<Keys>>,
}

struct Keys {
    password: [u8; 32],
    session: Zeroizing<[u8; 32]>,
}

/// How somebody got in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// With a session.
    Session,
    /// With the password, just now: this cookie begins a session.
    Password(HeaderValue),
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Lock {
    /// Reads the password.
    ///
    /// # Errors
    /// The file cannot be read, or is empty.
    pub fn open(path: &Path) -> Result<Self, String> {
        let keys = Keys::read(path)?;
        Ok(Self { path: path.to_owned(), keys: RwLock::new(Arc::new(keys)) })
    }

    /// Looks whether the password is another one by now; whether it was.
    ///
    /// # Errors
    /// It cannot be read; the one before still holds.
    pub fn look_again(&self) -> Result<bool, String> {
        let keys = Keys::read(&self.path)?;
        if self.keys().password == keys.password {
            return Ok(false);
        }
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        Ok(true)
    }

    fn keys(&self) -> Arc<Keys> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a request may pass, and takes out of it what it passed with. `now` in seconds since 1970.
    pub fn enter(&self, headers: &mut HeaderMap, host: &str, secure: bool, now: i64) -> Option<Entry> {
        let keys = self.keys();
        // Both are looked at: a browser goes on sending a password that it has given once.
        let password = keys.has_password(headers);
        if password {
            headers.remove(AUTHORIZATION);
        }
        let session = keys.has_session(headers, host, secure, now);
        cookies::take(headers);
        if session {
            return Some(Entry::Session);
        }
        password.then(|| keys.cookie(host, secure, now)).flatten().map(Entry::Password)
    }
}

impl Keys {
    fn read(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let text = fs::read_to_string(path).map(Zeroizing::new);
        let text = text.map_err(|error| format!("the password file {shown} cannot be read: {error}"))?;
        match text.lines().next().map(str::trim_end).filter(|line| !line.is_empty()) {
            Some(password) => Ok(Self::of(password)),
            None => Err(format!("the password file {shown} has an empty first line: write the password there")),
        }
    }

    fn of(password: &str) -> Self {
        let derived = |purpose: &str| -> [u8; 32] {
            Sha256::new().chain_update(purpose).chain_update([0]).chain_update(password).finalize().into()
        };
        Self {
            password: derived("stagekeeper edge password"),
            session: Zeroizing::new(derived("stagekeeper edge session")),
        }
    }

    fn has_password(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let Some((scheme, coded)) = given.and_then(|text| text.split_once(' ')) else { return false };
        if !scheme.eq_ignore_ascii_case("basic") {
            return false;
        }
        let Ok(pair) = STANDARD.decode(coded.trim()).map(Zeroizing::new) else { return false };
        let Ok(pair) = std::str::from_utf8(&pair) else { return false };
        let Some((_, password)) = pair.split_once(':') else { return false };
        Self::of(password).password.ct_eq(&self.password).into()
    }

    fn has_session(&self, headers: &HeaderMap, host: &str, secure: bool, now: i64) -> bool {
        cookies::values(headers, name(secure)).any(|value| {
            let Some((until, tag)) = value.split_once('.') else { return false };
            let Ok(seconds) = until.parse::<i64>() else { return false };
            let Ok(tag) = hex::decode(tag) else { return false };
            let genuine = self.tag(host, until).is_some_and(|own| bool::from(own.as_slice().ct_eq(&tag)));
            genuine && now < seconds
        })
    }

    fn cookie(&self, host: &str, secure: bool, now: i64) -> Option<HeaderValue> {
        let until = (now + SESSION).to_string();
        let tag = hex::encode(self.tag(host, &until)?);
        let (name, only) = (name(secure), if secure { "; Secure" } else { "" });
        HeaderValue::try_from(format!("{name}={until}.{tag}; Path=/; Max-Age={SESSION}; HttpOnly; SameSite=Lax{only}"))
            .ok()
    }

    /// Bound to the host: a session of one preview opens no other.
    fn tag(&self, host: &str, until: &str) -> Option<[u8; 32]> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.session.as_slice()).ok()?;
        mac.update(host.as_bytes());
        mac.update(&[0]);
        mac.update(until.as_bytes());
        Some(mac.finalize().into_bytes().into())
    }
}

fn name(secure: bool) -> &'static str {
    if secure { cookies::PASSWORD } else { cookies::PLAIN_PASSWORD }
}

#[cfg(test)]
mod tests {
    use http::header::COOKIE;

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn lock(password: &str) -> Lock {
        Lock { path: "nowhere".into(), keys: RwLock::new(Arc::new(Keys::of(password))) }
    }

    fn basic(pair: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, format!("Basic {}", STANDARD.encode(pair)).parse().unwrap());
        headers
    }

    fn with_cookie(cookie: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, cookie.parse().unwrap());
        headers
    }

    /// `NAME=VALUE` of the session that a password begins.
    fn session(lock: &Lock, host: &str, secure: bool) -> String {
        let entry = lock.enter(&mut basic("anybody:open sesame"), host, secure, NOW);
        let Some(Entry::Password(cookie)) = entry else { panic!("{entry:?}") };
        cookie.to_str().unwrap().split(';').next().unwrap().to_owned()
    }

    #[test]
    fn the_password_opens_and_is_not_passed_on() {
        let lock = lock("open sesame");
        let mut headers = basic("anybody:open sesame");
        assert!(matches!(lock.enter(&mut headers, "a.test", true, NOW), Some(Entry::Password(_))));
        assert!(headers.is_empty());
        for wrong in ["anybody:open", "open sesame", "anybody:", ":Open sesame"] {
            let mut headers = basic(wrong);
            assert_eq!(lock.enter(&mut headers, "a.test", true, NOW), None, "{wrong}");
        }
        let mut bearer = HeaderMap::new();
        bearer.insert(AUTHORIZATION, HeaderValue::from_static("Bearer open sesame"));
        assert_eq!(lock.enter(&mut bearer, "a.test", true, NOW), None);
    }

    #[test]
    fn a_session_opens_its_host_until_it_ends() {
        let lock = lock("open sesame");
        let cookie = session(&lock, "a.test", true);
        assert!(cookie.starts_with("__Host-"), "{cookie}");
        let enters = |host, secure, now| lock.enter(&mut with_cookie(&cookie), host, secure, now);
        assert_eq!(enters("a.test", true, NOW), Some(Entry::Session));
        assert_eq!(enters("b.test", true, NOW), None, "another host");
        assert_eq!(enters("a.test", false, NOW), None, "without TLS the name says nothing");
        assert_eq!(enters("a.test", true, NOW + SESSION), None, "it has ended");
        let (until, tag) = cookie.split_once('=').unwrap().1.split_once('.').unwrap();
        let later = cookie.replace(until, &(NOW + 2 * SESSION).to_string());
        assert_eq!(lock.enter(&mut with_cookie(&later), "a.test", true, NOW), None, "a forged end");
        let forged = cookie.replace(tag, &"0".repeat(64));
        assert_eq!(lock.enter(&mut with_cookie(&forged), "a.test", true, NOW), None);
        assert_eq!(super::tests::lock("other").enter(&mut with_cookie(&cookie), "a.test", true, NOW), None);
    }

    #[test]
    fn what_is_the_applications_is_passed_on() {
        let lock = lock("open sesame");
        let cookie = session(&lock, "a.test", false);
        let mut headers = with_cookie(&format!("theme=dark; {cookie};lang=en"));
        headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer theirs"));
        assert_eq!(lock.enter(&mut headers, "a.test", false, NOW), Some(Entry::Session));
        assert_eq!(headers[COOKIE], "theme=dark; lang=en");
        assert_eq!(headers[AUTHORIZATION], "Bearer theirs");
        // A browser goes on sending the password.
        let mut headers = with_cookie(&cookie);
        headers.extend(basic("anybody:open sesame"));
        assert_eq!(lock.enter(&mut headers, "a.test", false, NOW), Some(Entry::Session));
        assert!(headers.is_empty(), "{headers:?}");
    }

    #[test]
    fn another_password_ends_every_session() {
        let path = std::env::temp_dir().join(format!("stagekeeper-edge-password-{}", std::process::id()));
        fs::write(&path, "open sesame\nand a note\n").unwrap();
        let lock = Lock::open(&path).unwrap();
        let cookie = session(&lock, "a.test", true);
        assert_eq!(lock.look_again(), Ok(false));
        fs::write(&path, "changed\n").unwrap();
        assert_eq!(lock.look_again(), Ok(true));
        assert_eq!(lock.enter(&mut with_cookie(&cookie), "a.test", true, NOW), None);
        fs::write(&path, "\n").unwrap();
        let why = lock.look_again().unwrap_err();
        assert!(why.contains("empty"), "{why}");
        assert!(lock.enter(&mut basic("x:changed"), "a.test", true, NOW).is_some(), "the one before still holds");
        fs::remove_file(&path).unwrap();
        assert!(Lock::open(&path).unwrap_err().contains("cannot be read"));
    }
}
