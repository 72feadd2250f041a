//! `Link`: where a listing goes on.

use reqwest::Url;

/// The target of `rel="next"` in one `Link` header.
pub(super) fn next(header: &str) -> Option<&str> {
    let mut rest = header;
    while let Some((_, after)) = rest.split_once('<') {
        let (target, after) = after.split_once('>')?;
        let end = after.find('<').unwrap_or(after.len());
        let parameters = &after[..end];
        if parameters.split([';', ',']).any(is_next) {
            return Some(target);
        }
        rest = &after[end..];
    }
    None
}

fn is_next(parameter: &str) -> bool {
    let Some((name, value)) = parameter.split_once('=') else {
        return false;
    };
    name.trim().eq_ignore_ascii_case("rel")
        && value.trim().trim_matches('"').split_ascii_whitespace().any(|rel| rel.eq_ignore_ascii_case("next"))
}

/// The URL of the next page, on the same origin as this page.
///
/// Registries behind proxies put their inner scheme or port into absolute links, so of a link to the same host only
/// path and query are taken. A link to another host is None: it is not ours to follow.
pub(super) fn follow(page: &Url, target: &str) -> Option<Url> {
    let joined = page.join(target).ok()?;
    if joined.host() != page.host() || !joined.username().is_empty() || joined.password().is_some() {
        return None;
    }
    let mut next = page.clone();
    next.set_path(joined.path());
    next.set_query(joined.query());
    next.set_fragment(None);
    Some(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_next_page_is_found() {
        let cases = [
            (r#"</v2/a/tags/list?last=x&n=2>; rel="next""#, Some("/v2/a/tags/list?last=x&n=2")),
            ("</v2/a/tags/list?last=x>; rel=next", Some("/v2/a/tags/list?last=x")),
            (r#"</1>; rel="prev", </2>; rel="next""#, Some("/2")),
            (r#"</1>; title="a, b"; rel="last next", </2>; rel="prev""#, Some("/1")),
            ("</1>; REL=Next", Some("/1")),
            (r#"</1>; rel="prev""#, None),
            (r#"</1; rel="next""#, None),
            ("</1>", None),
            ("", None),
        ];
        for (header, want) in cases {
            assert_eq!(next(header), want, "{header}");
        }
    }

    #[test]
    fn a_listing_never_leaves_its_origin() {
        let page = Url::parse("https://r.test:5000/v2/a/tags/list?n=2").unwrap();
        let cases = [
            ("/v2/a/tags/list?last=x", Some("https://r.test:5000/v2/a/tags/list?last=x")),
            ("?last=y&n=2", Some("https://r.test:5000/v2/a/tags/list?last=y&n=2")),
            ("list?last=z", Some("https://r.test:5000/v2/a/tags/list?last=z")),
            ("https://r.test:5000/v2/a/tags/list?last=x", Some("https://r.test:5000/v2/a/tags/list?last=x")),
            ("https://r.test/v2/a/tags/list?last=x", Some("https://r.test:5000/v2/a/tags/list?last=x")),
            ("http://R.test:80/v2/a/tags/list?last=x", Some("https://r.test:5000/v2/a/tags/list?last=x")),
            ("https://evil.test:5000/v2/a/tags/list", None),
            ("//evil.test/v2/a/tags/list", None),
            ("https://r.test.evil.test/", None),
            ("https://r.test:5000@evil.test/", None),
            ("https://bob:pw@r.test:5000/", None),
            ("data:text/plain,x", None),
        ];
        for (target, want) in cases {
            assert_eq!(follow(&page, target).as_ref().map(Url::as_str), want, "{target}");
        }
    }

    proptest! {
        #[test]
        fn any_link_stays_on_the_origin(target in ".*") {
            let page = Url::parse("https://r.test:5000/v2/a/tags/list").unwrap();
            if let Some(url) = follow(&page, &target) {
                prop_assert_eq!((url.scheme(), url.host_str(), url.port()), ("https", Some("r.test"), Some(5000)));
            }
        }

        #[test]
        fn any_header_is_answered(header in "[<>;=, a-z\"]{0,40}") {
            let _read = next(&header);
        }
    }
}
