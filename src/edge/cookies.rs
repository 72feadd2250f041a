//! Pure: the edge's own cookies, which applications neither see nor set.

use http::{
    HeaderMap, HeaderValue,
    header::{COOKIE, SET_COOKIE},
};

/// A cookie of this kind of name is only taken from, and sent to, exactly the host that set it, over TLS.
pub const PASSWORD: &str = "__Host-stagekeeper-edge";
/// The same where there is no TLS.
pub const PLAIN_PASSWORD: &str = "stagekeeper-edge";
/// Of who has signed in.
pub const SESSION: &str = "__Host-stagekeeper-session";
/// Of who is about to.
pub const LOGIN: &str = "__Host-stagekeeper-login";

const OURS: [&str; 4] = [PASSWORD, PLAIN_PASSWORD, SESSION, LOGIN];

fn all(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(';').map(str::trim))
}

/// The values of cookies of a name: what is not ours may have the same name in another spelling of the same host.
pub fn values<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a str> {
    all(headers).filter_map(move |cookie| cookie.strip_prefix(name)?.strip_prefix('='))
}

fn is_ours(cookie: &str) -> bool {
    let name = cookie.split('=').next().unwrap_or_default().trim();
    OURS.contains(&name)
}

/// Removes ours from a request, and leaves the others as they are.
pub fn take(headers: &mut HeaderMap) {
    if !all(headers).any(is_ours) {
        return;
    }
    let kept: Vec<&str> = all(headers).filter(|cookie| !cookie.is_empty() && !is_ours(cookie)).collect();
    let kept = HeaderValue::try_from(kept.join("; ")).ok().filter(|kept| !kept.is_empty());
    match kept {
        Some(kept) => _ = headers.insert(COOKIE, kept),
        None => _ = headers.remove(COOKIE),
    }
}

/// Removes ours from an answer: an application begins no session of the edge, and ends none.
pub fn take_set(headers: &mut HeaderMap) {
    let sets_ours = |value: &HeaderValue| value.to_str().is_ok_and(|text| is_ours(text.trim_start()));
    if !headers.get_all(SET_COOKIE).iter().any(sets_ours) {
        return;
    }
    let kept: Vec<HeaderValue> =
        headers.get_all(SET_COOKIE).iter().filter(|value| !sets_ours(value)).cloned().collect();
    headers.remove(SET_COOKIE);
    for value in kept {
        headers.append(SET_COOKIE, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_are_taken_out_and_the_others_stay_as_they_are() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_static("a=1; __Host-stagekeeper-session=x.y;b=2"));
        headers.append(COOKIE, HeaderValue::from_static("__Host-stagekeeper-login=z; __Host-stagekeeper-sessions=3"));
        assert_eq!(values(&headers, SESSION).collect::<Vec<_>>(), ["x.y"]);
        take(&mut headers);
        assert_eq!(headers[COOKIE], "a=1; b=2; __Host-stagekeeper-sessions=3");
        let mut only = HeaderMap::from_iter([(COOKIE, HeaderValue::from_static("stagekeeper-edge=1"))]);
        take(&mut only);
        assert!(only.is_empty());
    }

    #[test]
    fn an_application_sets_none_of_ours() {
        let mut headers = HeaderMap::new();
        for text in ["a=1; Path=/", " __Host-stagekeeper-session =forged; Secure", "__Host-stagekeeper-login", "b=2"] {
            headers.append(SET_COOKIE, HeaderValue::from_static(text));
        }
        take_set(&mut headers);
        assert_eq!(headers.get_all(SET_COOKIE).iter().collect::<Vec<_>>(), ["a=1; Path=/", "b=2"]);
    }
}
