//! Choices by date, and the laws that they keep.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::domain::policy::PolicySpec;

fn newest(pattern: &str) -> TagPolicy {
    let ignore_tags = vec!["*-x*".to_owned()];
    TagPolicy::parse(&PolicySpec { newest: Some(pattern.into()), ignore_tags, ..PolicySpec::default() }).unwrap()
}

/// A tag whose image was created so many seconds after the first one; negative: it has no date.
fn at(tag: &str, created: i64) -> Dated {
    let digest = Digest::of(format!("{tag} {created}").as_bytes());
    Dated { tag: tag.to_owned(), digest, created: Timestamp::from_second(created).ok().filter(|_| created >= 0) }
}

/// The same image under another tag.
fn also(tag: &str, of: &Dated) -> Dated {
    Dated { tag: tag.to_owned(), ..of.clone() }
}

#[test]
fn the_image_that_was_created_last_is_chosen() {
    struct Case {
        name: &'static str,
        images: Vec<Dated>,
        current: Option<Dated>,
        newer: Option<&'static str>,
        says: &'static str,
    }
    let release = at("main-c", 30);
    #[rustfmt::skip]
    let cases = [
        Case { name: "by date and not by name", images: vec![at("main-z", 10), at("main-a", 20)], current: None, newer: Some("main-a"), says: "created last of 2 acceptable tags" },
        Case { name: "only tags that match", images: vec![at("main-a", 10), at("dev-a", 20)], current: None, newer: Some("main-a"), says: "1 acceptable tag of 2" },
        Case { name: "not ignored ones", images: vec![at("main-a", 10), at("main-x", 20)], current: None, newer: Some("main-a"), says: "" },
        Case { name: "after what runs", images: vec![at("main-a", 10), at("main-b", 20)], current: Some(at("main-a", 10)), newer: Some("main-b"), says: "created after `main-a`" },
        Case { name: "already newest", images: vec![at("main-a", 10), at("main-b", 20)], current: Some(at("main-b", 20)), newer: None, says: "runs and was created last" },
        Case { name: "already newest under another tag", images: vec![release.clone(), also("main-d", &release)], current: Some(release.clone()), newer: None, says: "runs and was created last" },
        Case { name: "of the same moment", images: vec![at("main-b", 10)], current: Some(at("main-a", 10)), newer: None, says: "at the moment of `main-b`" },
        Case { name: "the listing shrank", images: vec![at("main-a", 10)], current: Some(at("main-b", 20)), newer: None, says: "to go back, pin `main-a`" },
        Case { name: "the listing is empty", images: vec![], current: Some(at("main-b", 20)), newer: None, says: "lists no tags" },
        Case { name: "the tag moved to a newer image", images: vec![at("main-a", 20)], current: Some(at("main-a", 10)), newer: Some("main-a"), says: "created after" },
        Case { name: "the tag moved back", images: vec![at("main-a", 10)], current: Some(at("main-a", 20)), newer: None, says: "pin" },
        Case { name: "without dates nothing counts", images: vec![at("main-a", -1)], current: None, newer: None, says: "only tag is not acceptable: 1 without a date" },
        Case { name: "without a date it does not count", images: vec![at("main-a", 10), at("main-b", -1)], current: None, newer: Some("main-a"), says: "" },
        Case { name: "what runs has no date", images: vec![at("main-a", 10)], current: Some(at("main-b", -1)), newer: Some("main-a"), says: "has no known date" },
        Case { name: "what runs is of another policy", images: vec![at("main-a", 10)], current: Some(at("1.0.0", 20)), newer: None, says: "pin `main-a`" },
    ];
    for Case { name, images, current, newer, says } in cases {
        let verdict = newest("main-*").choose_dated(&images, current.as_ref());
        assert_eq!(verdict.newer(), newer, "{name}: {verdict:?}");
        assert_eq!(verdict.tag(), newer.or(current.as_ref().map(|it| it.tag.as_str())), "{name}: {verdict:?}");
        assert!(verdict.reason().contains(says), "{name}: {verdict:?}");
    }
}

#[test]
fn the_dates_that_are_needed_come_likeliest_first() {
    let signature = format!("sha256-{}.sig", "0".repeat(64));
    let tags = ["main-9", "main-10", "dev-1", "main-1-x", "main-9", &signature, "a b"];
    assert_eq!(newest("main-*").dated(&tags).unwrap(), ["main-10", "main-9"]);
    assert_eq!(newest("*").dated(&tags).unwrap(), ["main-10", "main-9", "dev-1"]);
    let numeric = TagPolicy::parse(&PolicySpec { numeric: true, ..PolicySpec::default() }).unwrap();
    assert_eq!(numeric.dated(&tags), None);
}

#[test]
fn of_many_tags_the_last_thousand_are_sorted() {
    let tags: Vec<String> = (0..5000).map(|number| format!("main-{}", number * 7919 % 5000)).collect();
    let needed = newest("*").dated(&tags).unwrap();
    let want: Vec<String> = (4000..5000).rev().map(|number| format!("main-{number}")).collect();
    assert_eq!((needed.len(), &needed[..1000]), (5000, &want.iter().map(String::as_str).collect::<Vec<_>>()[..]));
}

#[test]
fn where_names_decide_dates_do_not() {
    let numeric = TagPolicy::parse(&PolicySpec { numeric: true, ..PolicySpec::default() }).unwrap();
    let images = [at("2", 10), at("1", 20)];
    assert_eq!(numeric.choose_dated(&images, Some(&at("1", 20))).newer(), Some("2"));
    assert_eq!(numeric.candidates_dated(&images).iter().map(|it| it.tag).collect::<Vec<_>>(), ["2", "1"]);
}

#[test]
fn each_candidate_says_why_it_does_not_count() {
    let images = [at("main-a", 10), at("main-b", 20), at("main-c", -1), at("dev", 30), at("main-x", 40)];
    let said: Vec<_> = newest("main-*")
        .candidates_dated(&images)
        .iter()
        .map(|it| (it.tag.to_owned(), it.rejection.map_or("accepted".to_owned(), |why| why.to_string())))
        .collect();
    let want = [
        ("main-b", "accepted"),
        ("main-a", "accepted"),
        ("dev", "does not match `main-*`"),
        ("main-c", "its image has no known date of creation"),
        ("main-x", "ignored by `*-x*`"),
    ];
    assert_eq!(said, want.map(|(tag, why)| (tag.to_owned(), why.to_owned())));
}

fn image() -> impl Strategy<Value = Dated> {
    let tag = prop_oneof![3 => "main-[0-9]{1,2}", 1 => "dev-[0-9]", 1 => "main-x[0-9]", 1 => ".{0,3}"];
    (tag, -1i64..12).prop_map(|(tag, created)| at(&tag, created))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn the_order_of_the_listing_does_not_matter(images in vec(image(), 0..12), current in proptest::option::of(image())) {
        let mut reversed = images.clone();
        reversed.reverse();
        let policy = newest("main-*");
        prop_assert_eq!(policy.choose_dated(&images, current.as_ref()), policy.choose_dated(&reversed, current.as_ref()));
    }

    #[test]
    fn an_older_image_never_changes_the_winner(images in vec(image(), 1..12), extra in image(), current in proptest::option::of(image())) {
        let policy = newest("main-*");
        let before = policy.choose_dated(&images, current.as_ref());
        // What stays is the image that runs, whatever else has its tag by now.
        let winner = match before.newer() {
            Some(tag) => images.iter().filter(|it| it.tag == tag).filter_map(|it| it.created).max(),
            None => current.as_ref().and_then(|running| running.created),
        };
        if let Some(created) = winner
            && extra.created.is_none_or(|extra| extra < created)
        {
            let mut more = images.clone();
            more.push(extra);
            let after = policy.choose_dated(&more, current.as_ref());
            prop_assert_eq!(after.tag(), before.tag());
            prop_assert_eq!(after.newer(), before.newer());
        }
    }

    #[test]
    fn a_subset_never_makes_the_choice_older(images in vec(image(), 0..12), kept in vec(any::<bool>(), 12), start in proptest::option::of(image())) {
        let policy = newest("main-*");
        let first = policy.choose_dated(&images, start.as_ref());
        let running = match first.newer() {
            Some(tag) => images.iter().filter(|it| it.tag == tag && it.created.is_some()).max_by_key(|it| it.created).cloned(),
            None => start,
        };
        let subset: Vec<Dated> = images.iter().zip(&kept).filter_map(|(it, keep)| keep.then_some(it.clone())).collect();
        if let Some(running) = running && running.created.is_some() {
            let after = policy.choose_dated(&subset, Some(&running));
            prop_assert_eq!(after.newer(), None, "{:?} after {:?}", after, running);
        }
    }

    #[test]
    fn what_runs_is_left_for_a_newer_image_only(images in vec(image(), 0..12), current in image()) {
        let verdict = newest("main-*").choose_dated(&images, Some(&current));
        if let (Some(tag), Some(created)) = (verdict.newer(), current.created) {
            prop_assert!(images.iter().any(|it| it.tag == tag && it.created.is_some_and(|it| it > created)));
        }
    }

    #[test]
    fn candidates_agree_with_the_choice(images in vec(image(), 0..12)) {
        let policy = newest("main-*");
        let candidates = policy.candidates_dated(&images);
        prop_assert_eq!(candidates.len(), images.len());
        let first = candidates.first().filter(|it| it.rejection.is_none()).map(|it| it.tag);
        let verdict = policy.choose_dated(&images, None);
        prop_assert_eq!(verdict.tag(), first);
        let accepted = candidates.iter().take_while(|it| it.rejection.is_none()).count();
        prop_assert!(candidates[accepted..].iter().all(|it| it.rejection.is_some()));
    }
}
