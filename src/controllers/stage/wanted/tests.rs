//! What a stage should run, from pins, policies and what the registry has.

use std::collections::HashMap;

use super::*;
use crate::{
    controllers::images::{Dates, Listing, Sighting},
    domain::{image::Digest, policy::PolicySpec},
};

fn digest(of: &str) -> Digest {
    Digest::of(of.as_bytes())
}

fn source(which: Which, pinned: bool) -> Source {
    Source {
        service: "web".into(),
        repository: "r.test/shop/web".parse().unwrap(),
        insecure: false,
        login: None,
        platform: None,
        max_tag_loss: 50,
        which,
        pinned,
    }
}

fn semver(range: &str) -> Which {
    let spec = PolicySpec { semver: Some(range.into()), ..PolicySpec::default() };
    Which::Policy(Box::new(NamedPolicy::parse(&spec).unwrap()), Duration::from_mins(5))
}

fn serving(tag: &str) -> Release {
    let image =
        ReleaseImage { repository: "r.test/shop/web".into(), tag: Some(tag.into()), digest: digest(tag).to_string() };
    Release([("web".to_owned(), image)].into_iter().collect())
}

fn tags(list: &[&str]) -> Known {
    shrunk(Listing::new(list.iter().collect()))
}

fn shrunk(listing: Listing) -> Known {
    Known { answer: Some(Answer::Tags(listing.into())), ..Known::default() }
}

fn away() -> Refusal {
    Refusal {
        reason: "RegistryUnreachable",
        message: "r.test does not answer".into(),
        transient: true,
        retry_after: None,
    }
}

/// The registry's answers: the listing, and every tag but those in `unknown` resolves to its own digest.
fn registry(listing: Known, unknown: &'static [&'static str]) -> impl Fn(&Question) -> Known {
    move |question| match &question.about {
        About::Tags => listing.clone(),
        About::Dates(_) => Known::default(),
        About::Tag(tag, _) if unknown.contains(&tag.as_str()) => Known { refusal: Some(away()), ..Known::default() },
        About::Tag(tag, _) => Known { answer: Some(Answer::Digest(digest(tag))), ..Known::default() },
    }
}

#[test]
fn each_source_finds_its_image() {
    struct Case {
        name: &'static str,
        which: Which,
        pinned: bool,
        current: Option<&'static str>,
        listing: Known,
        unknown: &'static [&'static str],
        want: Result<&'static str, &'static str>,
        stale: bool,
    }
    let base = || Case {
        name: "",
        which: semver(">=1.0"),
        pinned: false,
        current: Some("1.0.0"),
        listing: tags(&["1.0.0", "1.1.0"]),
        unknown: &[],
        want: Ok("1.1.0"),
        stale: false,
    };
    let cases = [
        Case { name: "a newer tag", ..base() },
        Case { name: "the first one", current: None, ..base() },
        Case {
            name: "a listing that lost the newest never moves back",
            current: Some("1.2.0"),
            want: Ok("1.2.0"),
            ..base()
        },
        Case { name: "an empty listing keeps what serves", listing: tags(&[]), want: Ok("1.0.0"), ..base() },
        Case {
            name: "an empty listing and nothing that serves",
            current: None,
            listing: tags(&[]),
            want: Err("NoMatchingTag"),
            ..base()
        },
        Case {
            name: "a registry that is away keeps what serves",
            listing: Known { refusal: Some(away()), ..Known::default() },
            want: Ok("1.0.0"),
            stale: true,
            ..base()
        },
        Case {
            name: "a registry that is away at the start",
            current: None,
            listing: Known { refusal: Some(away()), ..Known::default() },
            want: Err("RegistryUnreachable"),
            ..base()
        },
        Case {
            name: "nothing asked yet",
            current: None,
            listing: Known::default(),
            want: Err("AskingRegistry"),
            ..base()
        },
        Case {
            name: "a newest tag that cannot be resolved keeps what serves",
            unknown: &["1.1.0"],
            want: Ok("1.0.0"),
            stale: true,
            ..base()
        },
        Case { name: "a pin goes back", which: Which::Tag("0.9.0".into()), pinned: true, want: Ok("0.9.0"), ..base() },
        Case {
            name: "a pin that does not exist is an error, not what served before",
            which: Which::Tag("9.9.9".into()),
            pinned: true,
            unknown: &["9.9.9"],
            want: Err("RegistryUnreachable"),
            ..base()
        },
        Case {
            name: "a fixed tag that serves is not asked for again",
            which: Which::Tag("1.0.0".into()),
            unknown: &["1.0.0"],
            want: Ok("1.0.0"),
            ..base()
        },
    ];
    for case in cases {
        let current = case.current.map(serving);
        let sources = [source(case.which, case.pinned)];
        let got = resolve(&sources, current.as_ref(), registry(case.listing, case.unknown));
        match case.want {
            Ok(tag) => {
                assert_eq!(got.missing, [], "{}", case.name);
                assert_eq!(got.release.0.get("web").unwrap().digest, digest(tag).to_string(), "{}", case.name);
            }
            Err(reason) => assert_eq!(got.missing[0].reason, reason, "{}", case.name),
        }
        assert_eq!(!got.stale.is_empty(), case.stale, "{}", case.name);
    }
}

/// A registry that refuses some tags for a reason.
fn refusing(listing: Known, reason: &'static str, refused: &'static [&'static str]) -> impl Fn(&Question) -> Known {
    move |question| match &question.about {
        About::Tags => listing.clone(),
        About::Tag(tag, _) if refused.contains(&tag.as_str()) => {
            let message = format!("`{tag}` cannot be used");
            Known {
                refusal: Some(Refusal { reason, message, transient: false, retry_after: None }),
                ..Known::default()
            }
        }
        About::Tag(tag, _) => Known { answer: Some(Answer::Digest(digest(tag))), ..Known::default() },
        About::Dates(_) => Known::default(),
    }
}

#[test]
fn a_listing_that_shrank_moves_nothing_and_starts_nothing() {
    let tags = |list: &[&str]| list.iter().collect();
    let before = Listing::new(tags(&["1.0.0", "1.1.0", "1.2.0", "1.3.0"]));
    // Three of four are gone, and something new is there.
    let listing = || shrunk(before.followed_by(tags(&["1.0.0", "2.0.0"]), 50));
    let policy = |max_tag_loss| Source { max_tag_loss, ..source(semver(">=1.0"), false) };
    let held = resolve(&[policy(50)], Some(&serving("1.1.0")), registry(listing(), &[]));
    assert_eq!((held.release.clone(), held.missing.len()), (serving("1.1.0"), 0));
    assert_eq!(held.stale[0].reason, SHRANK);
    for part in ["3 of its 4 tags", "50 %", "stagekeeper images accept PROJECT/STAGE web"] {
        assert!(held.stale[0].message.contains(part), "{}", held.stale[0].message);
    }
    let empty = resolve(&[policy(50)], None, registry(listing(), &[]));
    assert_eq!((empty.missing[0].reason, empty.missing[0].transient), (SHRANK, true));
    assert!(empty.release.0.is_empty(), "nothing new on a stage that runs nothing yet");
    let easy = resolve(&[policy(75)], Some(&serving("1.1.0")), registry(listing(), &[]));
    assert_eq!(easy.release, serving("2.0.0"), "who allows as much goes on");
    let wish = &held.questions.iter().find(|(question, _)| question.about == About::Tags).unwrap().1;
    assert_eq!(wish.max_loss, 50, "the book measures with it");
    let pinned = source(Which::Tag("1.0.0".into()), true);
    let pinned = resolve(&[pinned], Some(&serving("1.1.0")), registry(listing(), &[]));
    assert_eq!(pinned.release, serving("1.0.0"), "an explicit request does not look at listings");
}

#[test]
fn where_dates_decide_nothing_moves_before_all_are_known() {
    let spec = PolicySpec { newest: Some("main-*".into()), ..PolicySpec::default() };
    let policy = || source(Which::Policy(Box::new(NamedPolicy::parse(&spec).unwrap()), Duration::from_mins(5)), false);
    let seen = |tag: &str, minute: i64| Sighting {
        digest: Some(digest(tag)),
        created: Some(jiff::Timestamp::from_second(minute * 60).unwrap()),
        unfit: None,
        looked_at: jiff::Timestamp::UNIX_EPOCH,
    };
    let registry = |dates: Option<Dates>| {
        move |question: &Question| match &question.about {
            About::Tags => tags(&["main-a", "main-b", "main-c", "latest"]),
            About::Tag(tag, _) => Known { answer: Some(Answer::Digest(digest(tag))), ..Known::default() },
            About::Dates(_) => {
                Known { answer: dates.clone().map(|dates| Answer::Dates(Arc::new(dates))), ..Known::default() }
            }
        }
    };
    let asking = resolve(&[policy()], Some(&serving("main-a")), registry(None));
    assert!(asking.asking && asking.release == serving("main-a"));
    let wish = asking.questions.iter().find(|(question, _)| question.about == About::Dates(None)).unwrap().1;
    let runs = digest("main-a").to_string();
    assert_eq!(wish.dated.as_deref().unwrap(), [runs.as_str(), "main-c", "main-b", "main-a"]);
    let mut dates = Dates::default();
    dates.saw("main-a", seen("main-a", 10));
    dates.saw("main-c", seen("main-c", 5));
    let reading = resolve(&[policy()], Some(&serving("main-a")), registry(Some(dates.clone())));
    assert_eq!((reading.release, reading.stale[0].reason), (serving("main-a"), "ReadingTags"));
    assert!(reading.stale[0].message.contains("2 of 4 tags read"), "{}", reading.stale[0].message);
    let none = resolve(&[policy()], None, registry(Some(dates.clone())));
    assert_eq!(none.missing[0].reason, "ReadingTags");
    dates.saw("main-b", seen("main-b", 20));
    dates.saw(&runs, seen("main-a", 10));
    let read = resolve(&[policy()], Some(&serving("main-a")), registry(Some(dates.clone())));
    assert_eq!(read.release, serving("main-b"));
    // What is newest by name is not what is newest, and one that cannot run does not count.
    let unfit = Sighting { digest: None, created: None, unfit: Some("no image".into()), ..seen("main-b", 20) };
    dates.saw("main-b", unfit.clone());
    let stays = resolve(&[policy()], Some(&serving("main-a")), registry(Some(dates.clone())));
    assert_eq!((stays.release, stays.stale), (serving("main-a"), vec![]));
    dates.saw(&runs, unfit);
    let unknown = resolve(&[policy()], Some(&serving("main-a")), registry(Some(dates)));
    assert_eq!((unknown.release, unknown.stale[0].reason), (serving("main-a"), "RunningImageUnknown"));
}

#[test]
fn a_tag_that_cannot_run_is_passed_over_and_one_without_the_platform_is_not() {
    let listing = || tags(&["1.0.0", "1.1.0", "1.2.0", "1.3.0"]);
    let policy = || source(semver(">=1.0"), false);
    let next = resolve(&[policy()], Some(&serving("1.0.0")), refusing(listing(), UNSUPPORTED, &["1.3.0", "1.2.0"]));
    assert_eq!(next.release, serving("1.1.0"));
    let passed: Vec<&str> = next.passed_over.iter().map(|(_, one)| one.message.as_str()).collect();
    assert_eq!(passed, ["service web: `1.3.0` cannot be used", "service web: `1.2.0` cannot be used"]);
    assert_eq!((next.stale, next.missing), (vec![], vec![]));
    assert_eq!(next.questions.len(), 4, "the passed over are looked at again: they may be mended");
    let none = resolve(&[policy()], Some(&serving("1.2.0")), refusing(listing(), UNSUPPORTED, &["1.3.0"]));
    assert_eq!(none.release, serving("1.2.0"), "what is left is not newer");
    let many: Vec<String> = (0..40).map(|minor| format!("1.{minor}.0")).collect();
    let many = shrunk(Listing::new(many.iter().collect()));
    let all = move |question: &Question| {
        if question.about == About::Tags {
            return many.clone();
        }
        let refusal = Refusal { reason: UNSUPPORTED, message: String::new(), transient: false, retry_after: None };
        Known { refusal: Some(refusal), ..Known::default() }
    };
    let all = resolve(&[policy()], None, all);
    assert_eq!(
        (all.missing[0].reason, all.questions.len()),
        (UNSUPPORTED, PASSED_OVER + 2),
        "it gives up at some point"
    );
    let kept = resolve(&[policy()], Some(&serving("1.2.0")), refusing(listing(), "PlatformMissing", &["1.3.0"]));
    assert_eq!((kept.release, kept.stale[0].reason), (serving("1.2.0"), "PlatformMissing"));
}

#[test]
fn a_followed_tag_is_looked_at_again_and_a_fixed_one_is_not() {
    let known = HashMap::from([("latest", digest("new"))]);
    let answers = |question: &Question| match &question.about {
        About::Tag(tag, _) => {
            Known { answer: known.get(tag.as_str()).copied().map(Answer::Digest), ..Known::default() }
        }
        About::Tags | About::Dates(_) => Known::default(),
    };
    let current = serving("latest");
    let followed =
        resolve(&[source(Which::Follow("latest".into(), Duration::from_secs(5)), false)], Some(&current), answers);
    assert_eq!(followed.release.0.get("web").unwrap().digest, digest("new").to_string());
    assert_eq!(followed.questions.values().collect::<Vec<_>>(), [&Wish::every(Some(Duration::from_secs(5)))]);
    let fixed = resolve(&[source(Which::Tag("latest".into()), false)], Some(&current), answers);
    assert_eq!(fixed.release, current, "a moved tag does not move a fixed image");
    assert!(fixed.questions.is_empty());
}

#[test]
fn a_newer_tag_is_looked_at_again_until_it_serves() {
    let about = |found: &Resolution| {
        let tag = |(question, wish): (&Question, &Wish)| match &question.about {
            About::Tag(tag, _) => Some((tag.clone(), wish.interval)),
            About::Tags | About::Dates(_) => None,
        };
        found.questions.iter().find_map(tag)
    };
    let listing = || registry(tags(&["1.0.0", "1.1.0"]), &[]);
    let newer = resolve(&[source(semver(">=1.0"), false)], Some(&serving("1.0.0")), listing());
    assert_eq!(about(&newer), Some(("1.1.0".to_owned(), Some(Duration::from_mins(5)))));
    let served = resolve(&[source(semver(">=1.0"), false)], Some(&serving("1.1.0")), listing());
    assert_eq!(about(&served), None, "what serves does not follow its tag");
}

#[test]
fn a_cause_names_what_differs() {
    let sources = [source(semver(">=1.0"), false)];
    let pinned = [source(Which::Tag("1.0.0".into()), true)];
    assert_eq!(cause(None, &serving("1.0.0"), &sources), "first deploy: web 1.0.0");
    assert_eq!(cause(Some(&serving("1.0.0")), &serving("1.1.0"), &sources), "web 1.0.0 → 1.1.0");
    assert_eq!(cause(Some(&serving("1.1.0")), &serving("1.0.0"), &pinned), "web 1.1.0 → 1.0.0 (pinned)");
    assert_eq!(cause(Some(&serving("1.0.0")), &serving("1.0.0"), &sources), "configuration changed");
    let mut moved = serving("1.0.0");
    moved.0.get_mut("web").unwrap().digest = format!("sha256:{}", "4".repeat(64));
    assert_eq!(cause(Some(&serving("1.0.0")), &moved, &sources), "web 1.0.0 → sha256:444444444444");
}
