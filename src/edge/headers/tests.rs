//! Tables and properties of what is passed on.

use proptest::prelude::*;

use super::*;

/// Names and values.
type Pairs = &'static [(&'static str, &'static str)];

fn map(headers: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
    }
    map
}

fn texts(map: &HeaderMap) -> Vec<(String, String)> {
    let text = |(name, value): (&HeaderName, &HeaderValue)| (name.to_string(), value.to_str().unwrap().to_owned());
    let mut all: Vec<_> = map.iter().map(text).collect();
    all.sort();
    all
}

/// What is left of headers besides what the edge says.
fn passed(headers: &[(&str, &str)], version: Version) -> Vec<(String, String)> {
    let mut map = map(headers);
    inward(&mut map, &facts(version), &[]);
    for name in [X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PORT, X_FORWARDED_PROTO, FORWARDED, HOST] {
        assert!(map.remove(&name).is_some(), "{name} is always said");
    }
    texts(&map)
}

static PEER: HeaderValue = HeaderValue::from_static("192.0.2.7");

fn facts(version: Version) -> Facts<'static> {
    let peer = IpAddr::from([192, 0, 2, 7]);
    Facts { peer, peer_text: &PEER, secure: false, host: "shop.test", port: None, version }
}

#[test]
fn headers_of_one_hop_end_here() {
    let cases: &[(&str, Pairs, Pairs)] = &[
        ("others pass", &[("accept", "a"), ("authorization", "b")], &[("accept", "a"), ("authorization", "b")]),
        ("the usual ones", &[("keep-alive", "5"), ("proxy-connection", "x"), ("proxy-authorization", "y")], &[]),
        (
            "those that are listed",
            &[("connection", "close, X-Mine"), ("x-mine", "1"), ("x-yours", "2")],
            &[("x-yours", "2")],
        ),
        ("in several lines", &[("connection", "a"), ("connection", "b"), ("a", "1"), ("b", "2")], &[]),
        (
            "what is listed to confuse",
            &[("connection", "content-length, host"), ("content-length", "3")],
            &[("content-length", "3")],
        ),
        ("the coding", &[("transfer-encoding", "chunked")], &[]),
        ("an expectation is answered here", &[("expect", "100-continue")], &[]),
        (
            "trailers are wanted",
            &[("te", "trailers, deflate"), ("connection", "te")],
            &[("connection", "te"), ("te", "trailers")],
        ),
        ("other codings are not", &[("te", "gzip"), ("connection", "te")], &[]),
        (
            "an upgrade",
            &[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")],
            &[("connection", "upgrade"), ("upgrade", "websocket")],
        ),
        ("an upgrade that is not listed", &[("upgrade", "websocket")], &[]),
        (
            "another HTTP",
            &[("connection", "upgrade, http2-settings"), ("upgrade", "h2c"), ("http2-settings", "AA")],
            &[],
        ),
        ("another HTTP among others", &[("connection", "upgrade"), ("upgrade", "websocket, H2C")], &[]),
        ("two upgrades", &[("connection", "upgrade"), ("upgrade", "a"), ("upgrade", "b")], &[]),
        (
            "one cookie header of HTTP/1.1",
            &[("cookie", "a=1"), ("cookie", "b=2")],
            &[("cookie", "a=1"), ("cookie", "b=2")],
        ),
    ];
    for (name, given, expected) in cases {
        let expected: Vec<(String, String)> =
            expected.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        assert_eq!(passed(given, Version::HTTP_11), expected, "{name}");
    }
    assert_eq!(
        passed(&[("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")], Version::HTTP_2),
        [("cookie".to_owned(), "a=1; b=2; c=3".to_owned())]
    );
}

#[test]
fn what_only_the_edge_may_say_is_removed_and_said() {
    let mut headers = map(&[
        ("host", "SHOP.test"),
        ("x-forwarded-for", "10.0.0.1"),
        ("X-Forwarded-For", "10.0.0.2"),
        ("x-forwarded-prefix", "/admin"),
        ("x_forwarded_host", "evil.test"),
        ("x-forwarded-client-cert", "me"),
        ("forwarded", "for=10.0.0.1"),
        ("x-real-ip", "10.0.0.1"),
        ("X-Stagekeeper-Environment", "other"),
        ("x-stagekeeper-anything", "other"),
        ("x_stagekeeper_project", "other"),
        ("x-mine", "stays"),
    ]);
    let marks = [(X_ENVIRONMENT, HeaderValue::from_static("pr-42")), (X_PROJECT, HeaderValue::from_static("shop"))];
    inward(&mut headers, &facts(Version::HTTP_11), &marks);
    let expected: Vec<(String, String)> = [
        ("forwarded", "for=192.0.2.7;host=shop.test;proto=http"),
        ("host", "shop.test"),
        ("x-forwarded-for", "192.0.2.7"),
        ("x-forwarded-host", "shop.test"),
        ("x-forwarded-port", "80"),
        ("x-forwarded-proto", "http"),
        ("x-mine", "stays"),
        ("x-stagekeeper-environment", "pr-42"),
        ("x-stagekeeper-project", "shop"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect();
    assert_eq!(texts(&headers), expected);
}

#[test]
fn forwarded_quotes_what_has_colons() {
    let v6 = Facts { peer: "2001:db8::1".parse().unwrap(), secure: true, port: Some(8443), ..facts(Version::HTTP_11) };
    assert_eq!(forwarded(&v6, "https"), "for=\"[2001:db8::1]\";host=\"shop.test:8443\";proto=https");
    let literal = Facts { host: "[::1]", ..facts(Version::HTTP_11) };
    assert_eq!(forwarded(&literal, "http"), "for=192.0.2.7;host=\"[::1]\";proto=http");
}

#[test]
fn a_body_has_one_length() {
    let cases: &[(Pairs, Result<(), Odd>)] = &[
        (&[], Ok(())),
        (&[("content-length", "3")], Ok(())),
        (&[("transfer-encoding", "Chunked")], Ok(())),
        (&[("transfer-encoding", "chunked"), ("content-length", "3")], Err(Odd::TwoLengths)),
        (&[("transfer-encoding", "gzip, chunked")], Err(Odd::Coding)),
        (&[("transfer-encoding", "xchunked")], Err(Odd::Coding)),
        (&[("transfer-encoding", "identity"), ("transfer-encoding", "chunked")], Err(Odd::Coding)),
    ];
    for (headers, expected) in cases {
        assert_eq!(framing(&map(headers)), *expected, "{headers:?}");
    }
}

#[test]
fn answers_keep_what_is_theirs() {
    let given = [("connection", "upgrade, x-hop"), ("upgrade", "websocket"), ("x-hop", "1"), ("set-cookie", "a=1")];
    let mut plain = map(&given);
    outward(&mut plain, false, false);
    assert_eq!(texts(&plain), [("set-cookie".to_owned(), "a=1".to_owned())]);
    let mut upgraded = map(&given);
    outward(&mut upgraded, true, true);
    let names: Vec<String> = texts(&upgraded).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["connection", "set-cookie", "upgrade", "x-robots-tag"]);
    let mut indexed = map(&[("x-robots-tag", "all")]);
    outward(&mut indexed, false, true);
    assert_eq!(texts(&indexed), [("x-robots-tag".to_owned(), "noindex".to_owned())]);
}

proptest! {
    /// Whatever comes, no claim of somebody else and nothing of the hop is passed on, and all else is.
    #[test]
    fn nothing_is_smuggled_and_nothing_is_lost(
        names in prop::collection::vec("(x[-_]forwarded[-_][a-z]{1,6}|x[-_]stagekeeper[-_][a-z]{1,6}|te|upgrade|keep-alive|accept|x-[a-z]{1,3}|cookie)", 0..12),
        listed in prop::collection::vec("(x-[a-z]{1,3}|close|accept)", 0..3),
    ) {
        let mut given: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "theirs")).collect();
        let connection = listed.join(", ");
        if !listed.is_empty() {
            given.push(("connection", &connection));
        }
        let left = passed(&given, Version::HTTP_11);
        for (name, value) in &left {
            let spelled = name.replace('_', "-");
            prop_assert!(!spelled.starts_with("x-forwarded") && !spelled.starts_with("x-stagekeeper"), "{name}");
            prop_assert!(!["te", "upgrade", "keep-alive", "connection"].contains(&name.as_str()), "{name}: {value}");
            prop_assert!(!listed.contains(name), "{name} was for this hop");
        }
        let stays = |name: &&String| {
            (name.as_str() == "accept" || name.as_str() == "cookie" || name.len() <= 5 && name.starts_with("x-"))
                && !listed.contains(name)
        };
        prop_assert_eq!(left.len(), names.iter().filter(stays).count());
    }
}
