//! `WWW-Authenticate`: what a registry asks for before it answers.

/// One way to authenticate that a registry offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// Get a token from `realm`.
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
    /// Send user and password.
    Basic,
}

/// All challenges of a header that we can meet. What cannot be read is left out.
pub(super) fn parse(header: &str) -> Vec<Challenge> {
    let mut challenges: Vec<(String, Vec<(String, String)>)> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find(|c: char| !is_token(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() {
            break;
        }
        let after = after.trim_start_matches([' ', '\t']);
        if let Some(value) = after.strip_prefix('=') {
            let Some((value, after)) = value_of(value.trim_start_matches([' ', '\t'])) else {
                break;
            };
            let Some((_, parameters)) = challenges.last_mut() else {
                break;
            };
            parameters.push((word.to_ascii_lowercase(), value));
            rest = after;
        } else {
            challenges.push((word.to_ascii_lowercase(), Vec::new()));
            rest = after;
        }
    }
    challenges.into_iter().filter_map(|(scheme, parameters)| known(&scheme, parameters)).collect()
}

fn known(scheme: &str, mut parameters: Vec<(String, String)>) -> Option<Challenge> {
    let mut take = |name: &str| {
        let index = parameters.iter().position(|(key, _)| key == name)?;
        Some(parameters.swap_remove(index).1).filter(|value| !value.is_empty())
    };
    match scheme {
        "bearer" => Some(Challenge::Bearer { realm: take("realm")?, service: take("service"), scope: take("scope") }),
        "basic" => Some(Challenge::Basic),
        _ => None,
    }
}

/// A token or a quoted string, and what follows it.
fn value_of(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|c: char| c == ',' || c.is_whitespace()).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((index, c)) = chars.next() {
        match c {
            '"' => return Some((value, &quoted[index + 1..])),
            '\\' => value.push(chars.next()?.1),
            _ => value.push(c),
        }
    }
    None
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        Challenge::Bearer { realm: realm.into(), service: service.map(Into::into), scope: scope.map(Into::into) }
    }

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        let cases = [
            (
                hub,
                vec![bearer(
                    "https://auth.docker.io/token",
                    Some("registry.docker.io"),
                    Some("repository:a/b:pull,push"),
                )],
            ),
            (r#"bearer Realm = "https://a/t" , SERVICE=plain"#, vec![bearer("https://a/t", Some("plain"), None)]),
            (r#"Basic realm="x, y=z", charset="UTF-8""#, vec![Challenge::Basic]),
            ("Basic", vec![Challenge::Basic]),
            (
                r#"Negotiate, Basic realm="a", Bearer realm="https://b""#,
                vec![Challenge::Basic, bearer("https://b", None, None)],
            ),
            (r#"Bearer realm="a\"b\\c""#, vec![bearer("a\"b\\c", None, None)]),
            (r#"Bearer realm="https://a",scope="""#, vec![bearer("https://a", None, None)]),
            (r#"Bearer service="x""#, vec![]),
            (r#"Bearer realm="never ends"#, vec![]),
            ("Digest realm=x", vec![]),
            (r#"realm="https://a""#, vec![]),
            ("", vec![]),
        ];
        for (header, want) in cases {
            assert_eq!(parse(header), want, "{header}");
        }
    }

    proptest! {
        #[test]
        fn any_header_is_answered(any in ".*", near in "(Bearer|Basic|[a-z,= \"\\\\]){0,20}") {
            let _read = (parse(&any).len(), parse(&near).len());
        }
    }
}
