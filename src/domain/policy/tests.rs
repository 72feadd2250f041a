//! Tables of choices, and the laws that every policy keeps.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn semver(range: &str) -> PolicySpec {
    PolicySpec { semver: Some(range.into()), ..PolicySpec::default() }
}

fn glob(pattern: &str) -> PolicySpec {
    PolicySpec { glob: Some(pattern.into()), ..PolicySpec::default() }
}

fn regex(pattern: &str, extract: Option<&str>, order: Order) -> PolicySpec {
    PolicySpec {
        regex: Some(pattern.into()),
        extract: extract.map(Into::into),
        order: Some(order),
        ..PolicySpec::default()
    }
}

fn numeric() -> PolicySpec {
    PolicySpec { numeric: true, ..PolicySpec::default() }
}

fn digest(tag: &str) -> PolicySpec {
    PolicySpec { digest: Some(tag.into()), ..PolicySpec::default() }
}

fn newest(pattern: &str) -> PolicySpec {
    PolicySpec { newest: Some(pattern.into()), ..PolicySpec::default() }
}

fn ignoring(mut spec: PolicySpec, patterns: &[&str]) -> PolicySpec {
    spec.ignore_tags = patterns.iter().map(ToString::to_string).collect();
    spec
}

#[test]
fn policies_choose_what_they_promise() {
    struct Case {
        name: &'static str,
        policy: PolicySpec,
        tags: &'static [&'static str],
        current: Option<&'static str>,
        /// The tag to move to.
        newer: Option<&'static str>,
        /// Part of the reason.
        says: &'static str,
    }
    let build = r"^main-[0-9a-f]+-(?P<at>\d+)$";
    #[rustfmt::skip]
    let cases = [
        Case { name: "newest in range", policy: semver(">=1.2 <2"), tags: &["1.2.0", "1.10.0", "1.9.0", "2.0.0", "latest"], current: None, newer: Some("1.10.0"), says: "newest of 3 acceptable tags of 5" },
        Case { name: "v prefix is normalised", policy: semver("1.x"), tags: &["v1.2.0", "1.1.0"], current: Some("1.1.0"), newer: Some("v1.2.0"), says: "newer than `1.1.0`" },
        Case { name: "two-part versions", policy: semver("1.x"), tags: &["1.24", "1.25", "1.25-alpine"], current: None, newer: Some("1.25"), says: "" },
        Case { name: "pre-releases are opt-in", policy: semver(">=1"), tags: &["1.0.0", "1.1.0-rc.1"], current: None, newer: Some("1.0.0"), says: "" },
        Case { name: "pre-releases when asked for", policy: semver(">=1.0.0-0"), tags: &["1.0.0", "1.1.0-rc.1"], current: None, newer: Some("1.1.0-rc.1"), says: "" },
        Case { name: "already newest", policy: semver("1.x"), tags: &["1.0.0", "1.1.0"], current: Some("1.1.0"), newer: None, says: "runs and is the newest" },
        Case { name: "same version under another name", policy: semver("1.x"), tags: &["1.1.0", "v1.1.0", "1.1"], current: Some("1.1.0"), newer: None, says: "same version" },
        Case { name: "listing shrank", policy: semver("1.x"), tags: &["1.0.0"], current: Some("1.1.0"), newer: None, says: "to go back, pin `1.0.0`" },
        Case { name: "listing is empty", policy: semver("1.x"), tags: &[], current: Some("1.1.0"), newer: None, says: "lists no tags" },
        Case { name: "range was lowered", policy: semver("<2"), tags: &["1.9.0", "2.5.0"], current: Some("2.5.0"), newer: None, says: "to go back, pin `1.9.0`" },
        Case { name: "a pinned pre-release stays until its release", policy: semver(">=1"), tags: &["1.2.9"], current: Some("1.3.0-rc.1"), newer: None, says: "newer than `1.2.9`" },
        Case { name: "release after its pre-release", policy: semver(">=1"), tags: &["1.3.0"], current: Some("1.3.0-rc.1"), newer: Some("1.3.0"), says: "" },
        Case { name: "what runs has no place in the order", policy: semver(">=1"), tags: &["1.2.0"], current: Some("latest"), newer: Some("1.2.0"), says: "no place in that order" },
        Case { name: "nothing acceptable", policy: semver(">=3"), tags: &["latest", "1.0.0", "3.1.0-rc.1"], current: None, newer: None, says: "none of 3 tags is acceptable: 1 not versions, 1 outside the range, 1 pre-releases (semver `>=3`)" },
        Case { name: "no tags at all", policy: semver(">=3"), tags: &[], current: None, newer: None, says: "lists no tags" },
        Case { name: "four parts and dates are no versions", policy: semver("*"), tags: &["1.2.3.4", "20240131", "24.04", "0.1.0"], current: None, newer: Some("0.1.0"), says: "" },
        Case { name: "ignored", policy: ignoring(semver("*"), &["1.1*"]), tags: &["1.0.0", "1.1.0"], current: None, newer: Some("1.0.0"), says: "" },
        Case { name: "ignoring does not unseat what runs", policy: ignoring(semver("*"), &["1.1*"]), tags: &["1.0.0", "1.1.0"], current: Some("1.1.0"), newer: None, says: "pin `1.0.0`" },
        Case { name: "glob, natural order", policy: glob("build-*"), tags: &["build-9", "build-10", "other-99"], current: None, newer: Some("build-10"), says: "" },
        Case { name: "glob, release beats its candidate", policy: glob("1.*"), tags: &["1.2.0", "1.2.0-rc1"], current: None, newer: Some("1.2.0"), says: "" },
        Case { name: "glob was lowered", policy: glob("1.*"), tags: &["1.9.0"], current: Some("2.5.0"), newer: None, says: "pin `1.9.0`" },
        Case { name: "glob from another line of words", policy: glob("main-*"), tags: &["main-1"], current: Some("stable-9"), newer: Some("main-1"), says: "" },
        Case { name: "glob with alternatives", policy: glob("{main,release}-?"), tags: &["main-1", "release-2", "release-10"], current: None, newer: Some("release-2"), says: "" },
        Case { name: "glob in another order", policy: PolicySpec { order: Some(Order::Semver), ..glob("*-alpine") }, tags: &["1.9.0-alpine", "1.10.0-alpine", "edge-alpine"], current: None, newer: Some("1.10.0-alpine"), says: "semver order" },
        Case { name: "regex without order compares versions", policy: PolicySpec { regex: Some("^1".into()), ..PolicySpec::default() }, tags: &["1.9.0", "1.10.0", "11"], current: None, newer: Some("1.10.0"), says: "" },
        Case { name: "regex by extracted number", policy: regex(build, Some("$at"), Order::Numeric), tags: &["main-ffff-9", "main-0000-10", "dev-1-99"], current: None, newer: Some("main-0000-10"), says: "" },
        Case { name: "regex never goes back", policy: regex(build, Some("$at"), Order::Numeric), tags: &["main-ffff-9"], current: Some("main-0000-10"), newer: None, says: "" },
        Case { name: "regex, same build twice", policy: regex(build, Some("$at"), Order::Numeric), tags: &["main-aaaa-10", "main-ffff-10"], current: Some("main-aaaa-10"), newer: None, says: "same version" },
        Case { name: "regex by version", policy: regex(r"^(.*)-alpine$", Some("$1"), Order::Semver), tags: &["1.9.0-alpine", "1.10.0-alpine", "1.11.0"], current: None, newer: Some("1.10.0-alpine"), says: "" },
        Case { name: "regex, build metadata", policy: regex(r"^(\d+\.\d+\.\d+)_(\d+)$", Some("$1+$2"), Order::Semver), tags: &["1.0.0_9", "1.0.0_10", "0.9.0_99"], current: Some("1.0.0_9"), newer: Some("1.0.0_10"), says: "" },
        Case { name: "regex, four parts put in order", policy: regex(r"^(\d+\.\d+\.\d+)\.(\d+)$", Some("$1+$2"), Order::Semver), tags: &["1.2.3.9", "1.2.3.10", "1.2.2.99"], current: None, newer: Some("1.2.3.10"), says: "" },
        Case { name: "glob, dates", policy: glob("20??-??-??"), tags: &["2024-01-31", "2024-02-01", "2023-12-31"], current: None, newer: Some("2024-02-01"), says: "" },
        Case { name: "newest is not told by names", policy: newest("*"), tags: &["1.0.0", "2.0.0"], current: Some("1.0.0"), newer: None, says: "2 without a date" },
        Case { name: "regex by letters", policy: regex("^[a-z]+$", None, Order::Alphabetical), tags: &["bionic", "focal", "jammy", "1.0"], current: Some("focal"), newer: Some("jammy"), says: "" },
        Case { name: "regex that extracts no number", policy: regex("^r(.*)$", Some("$1"), Order::Numeric), tags: &["rx"], current: None, newer: None, says: "only tag is not acceptable: 1 not numbers" },
        Case { name: "numeric", policy: numeric(), tags: &["9", "10", "0011", "latest", "1.0"], current: None, newer: Some("0011"), says: "" },
        Case { name: "numeric, longer than any machine word", policy: numeric(), tags: &["99999999999999999999", "100000000000000000000"], current: None, newer: Some("100000000000000000000"), says: "" },
        Case { name: "digest", policy: digest("latest"), tags: &["latest", "1.0.0"], current: None, newer: Some("latest"), says: "" },
        Case { name: "digest, already followed", policy: digest("latest"), tags: &["latest", "1.0.0"], current: Some("latest"), newer: None, says: "" },
        Case { name: "digest, from another tag", policy: digest("1.0"), tags: &["1.0", "1.1"], current: Some("1.1"), newer: Some("1.0"), says: "" },
        Case { name: "digest, missing", policy: digest("latest"), tags: &["1.0.0"], current: None, newer: None, says: "not acceptable" },
        Case { name: "digest names its tag, patterns do not unname it", policy: ignoring(digest("latest"), &["*"]), tags: &["latest"], current: None, newer: Some("latest"), says: "" },
        Case { name: "texts that are no tags", policy: glob("*"), tags: &["a b", "a\nb", "", ".x"], current: None, newer: None, says: "4 not legal tags" },
    ];
    for Case { name, policy, tags, current, newer, says } in cases {
        let policy = TagPolicy::parse(&policy).unwrap_or_else(|error| panic!("{name}: {error}"));
        let verdict = policy.choose(tags, current);
        assert_eq!(verdict.newer(), newer, "{name}: {verdict:?}");
        assert_eq!(verdict.tag(), newer.or(current), "{name}: {verdict:?}");
        assert!(verdict.reason().contains(says), "{name}: {verdict:?}");
    }
}

#[test]
fn each_rejected_tag_says_why() {
    let signature = format!("sha256-{}.sig", "0".repeat(64));
    let tags = [
        "1.0.0",
        "1.2.0",
        "2.0.0",
        "1.3.0-rc.1",
        "1.1.0-x86",
        "latest",
        &signature,
        "a b",
        "1.2.3.4",
        "24.04",
        "20240131",
    ];
    let policy = TagPolicy::parse(&ignoring(semver(">=1.0 <2"), &["*-x86"])).unwrap();
    let said: Vec<(String, String)> = policy
        .candidates(&tags)
        .iter()
        .map(|c| (c.tag.to_owned(), c.rejection.map_or("accepted".to_owned(), |r| r.to_string())))
        .collect();
    let want = [
        ("1.2.0", "accepted"),
        ("1.0.0", "accepted"),
        ("1.1.0-x86", "ignored by `*-x86`"),
        ("1.2.3.4", "not a version such as 1.2.3 or v1.2: four parts"),
        ("1.3.0-rc.1", "a pre-release, which `>=1.0 <2` does not ask for (a bound such as `>=1.2.0-0` does)"),
        ("2.0.0", "outside `>=1.0 <2`"),
        ("20240131", "not a version such as 1.2.3 or v1.2: a bare number"),
        ("24.04", "not a version such as 1.2.3 or v1.2: leading zeros, as dates have"),
        ("a b", "not a legal tag"),
        ("latest", "not a version such as 1.2.3 or v1.2"),
        (&signature, "a signature, attestation or SBOM, not an image"),
    ];
    assert_eq!(said, want.map(|(tag, why)| (tag.to_owned(), why.to_owned())));
}

#[test]
fn a_wrong_policy_names_its_field() {
    let two = PolicySpec { numeric: true, ..semver("1.x") };
    let cases = [
        (PolicySpec::default(), "policy: name one of"),
        (two, "policy: semver and numeric are given"),
        (PolicySpec { extract: Some("$1".into()), ..numeric() }, "extract: it takes"),
        (PolicySpec { order: Some(Order::Numeric), ..semver("1.x") }, "order: it sorts"),
        (semver(">=banana"), "semver: `banana`"),
        (semver(""), "semver: a range is missing"),
        (glob("[a"), "glob: `[a`: "),
        (glob(""), "glob: it is empty"),
        (glob(&"*".repeat(257)), "glob: it is longer"),
        (regex("(", None, Order::Semver), "regex: `(` does not compile: unclosed group"),
        (regex("", None, Order::Semver), "regex: it is empty"),
        (regex(&"a".repeat(513), None, Order::Semver), "regex: it is longer"),
        (regex("(((a{1,999}){1,999}){1,999})", None, Order::Semver), "regex: "),
        (regex("a", Some("$b"), Order::Semver), "extract: the pattern has no group `b`"),
        (digest("a b"), "digest: name one tag"),
        (ignoring(numeric(), &["ok", "{"]), "ignoreTags[1]: `{`: "),
        (ignoring(numeric(), &["x"; 65]), "ignoreTags: more than 64"),
    ];
    for (spec, want) in cases {
        let error = TagPolicy::parse(&spec).unwrap_err().to_string();
        assert!(error.starts_with(want) && !error.contains('\n'), "{want}: {error:?}");
    }
}

#[test]
fn the_tag_to_follow_is_known_without_a_listing() {
    assert_eq!(TagPolicy::parse(&digest("latest")).unwrap().followed_tag(), Some("latest"));
    assert_eq!(TagPolicy::parse(&numeric()).unwrap().followed_tag(), None);
}

/// Every kind of policy, over tags that have a good chance to be accepted and to meet as equals.
fn policies() -> impl Strategy<Value = TagPolicy> {
    let specs = vec![
        semver("*"),
        semver(">=1.1 <3"),
        semver(">=0.0.0-0"),
        glob("*"),
        glob("*1*"),
        PolicySpec { order: Some(Order::Alphabetical), ..glob("*") },
        regex(r"^(?:[a-z]+-)?(\d+)", Some("$1"), Order::Numeric),
        regex(r"^v?(\d+)\.(\d+)", Some("$1.$2.0"), Order::Semver),
        regex(".", None, Order::Alphabetical),
        numeric(),
        newest("*"),
        digest("latest"),
    ];
    let policies: Vec<TagPolicy> =
        specs.into_iter().map(|spec| TagPolicy::parse(&ignoring(spec, &["*-x*"])).unwrap()).collect();
    proptest::sample::select(policies)
}

fn tag() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => "v?[0-3]\\.[0-3](\\.[0-3])?(-(rc|x|a)\\.?[0-3]?)?",
        3 => "0{0,2}[0-9]{1,3}",
        3 => "(main|dev|v)-?[0-9]{1,2}",
        1 => Just("latest".to_owned()),
        2 => "[A-Za-z0-9_.-]{1,6}",
        1 => ".{0,4}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn the_order_is_total(policy in policies(), a in tag(), b in tag(), c in tag()) {
        let (ab, ba) = (policy.compare(&a, &b), policy.compare(&b, &a));
        prop_assert_eq!(ab, ba.map(Ordering::reverse));
        if policy.compare(&a, &a).is_some() {
            prop_assert_eq!(policy.compare(&a, &a), Some(Ordering::Equal));
            prop_assert_eq!(ab.is_some(), policy.compare(&b, &b).is_some());
        }
        if let (Some(ab), Some(bc), Some(ac)) = (ab, policy.compare(&b, &c), policy.compare(&a, &c))
            && ab == bc
        {
            prop_assert_eq!(ac, ab, "{} {} {}", a, b, c);
        }
    }

    #[test]
    fn the_order_of_the_listing_does_not_matter(policy in policies(), tags in vec(tag(), 0..12), current in proptest::option::of(tag())) {
        let mut reversed = tags.clone();
        reversed.reverse();
        prop_assert_eq!(policy.choose(&tags, current.as_deref()), policy.choose(&reversed, current.as_deref()));
    }

    #[test]
    fn a_lower_tag_never_changes_the_winner(policy in policies(), tags in vec(tag(), 1..12), extra in tag(), current in proptest::option::of(tag())) {
        let before = policy.choose(&tags, current.as_deref());
        if let Some(winner) = before.tag()
            && policy.compare(&extra, winner).is_some_and(Ordering::is_lt)
        {
            let mut more = tags.clone();
            more.push(extra);
            let after = policy.choose(&more, current.as_deref());
            prop_assert_eq!(after.tag(), before.tag());
        }
    }

    #[test]
    fn a_subset_never_downgrades(policy in policies(), tags in vec(tag(), 0..12), kept in vec(any::<bool>(), 12), start in proptest::option::of(tag())) {
        let running = policy.choose(&tags, start.as_deref()).tag().map(str::to_owned);
        let subset: Vec<&String> = tags.iter().zip(&kept).filter_map(|(tag, keep)| keep.then_some(tag)).collect();
        let after = policy.choose(&subset, running.as_deref());
        if let Some(running) = running {
            let after = after.tag().unwrap();
            if policy.compare(&running, &running).is_some() {
                prop_assert_ne!(policy.compare(after, &running), Some(Ordering::Less), "{} after {}", after, running);
            }
            if tags.contains(&running) {
                prop_assert_eq!(after, &running);
            }
        }
    }

    #[test]
    fn what_runs_is_never_left_for_something_older(policy in policies(), tags in vec(tag(), 0..12), current in tag()) {
        let verdict = policy.choose(&tags, Some(&current));
        let after = verdict.tag().unwrap();
        if after == current {
            prop_assert_eq!(verdict.newer(), None);
        } else {
            prop_assert!(tags.iter().any(|tag| tag == after));
            prop_assert!(policy.compare(after, &current).is_none_or(Ordering::is_gt));
            if let (None, Ok(new), Ok(old)) = (policy.followed_tag(), version(after), version(&current)) {
                prop_assert!(new >= old || policy.compare(after, &current).is_some(), "{} to {}", current, after);
            }
        }
        let again = policy.choose(&tags, Some(after));
        prop_assert_eq!(again.newer(), None, "a choice is stable");
    }

    #[test]
    fn candidates_agree_with_the_choice(policy in policies(), tags in vec(tag(), 0..12)) {
        let candidates = policy.candidates(&tags);
        prop_assert_eq!(candidates.len(), tags.len());
        let first = candidates.first().filter(|c| c.rejection.is_none()).map(|c| c.tag);
        let verdict = policy.choose(&tags, None);
        prop_assert_eq!(verdict.tag(), first);
        let accepted = candidates.iter().take_while(|c| c.rejection.is_none()).count();
        prop_assert!(candidates[accepted..].iter().all(|c| c.rejection.is_some()));
    }
}
