//! What holds of pull requests whatever a provider says, in whatever order, and however often.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;

/// A pull request of this number that last changed so many seconds after the beginning of time.
pub(super) fn pull_request(number: i64, second: i64) -> PullRequest {
    PullRequest {
        number,
        title: "Add a cart".into(),
        author: "jane".into(),
        branch: "feat/cart".into(),
        target: "main".into(),
        head: format!("{number:039x}1"),
        head_repository: "acme/shop".into(),
        fork: false,
        labels: BTreeSet::new(),
        vouched: BTreeSet::new(),
        state: PullState::Open,
        updated_at: at(second),
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("an instant")
}

fn known(facts: PullRequest) -> Known {
    Known::new(Provider::GitHub, "Acme/Shop", facts)
}

fn states() -> impl Strategy<Value = PullState> {
    prop_oneof![Just(PullState::Open), Just(PullState::Closed), Just(PullState::Merged)]
}

/// What webhooks tell of one pull request.
fn stories() -> impl Strategy<Value = Vec<PullRequest>> {
    prop::collection::vec((0_i64..6, states()), 1..12).prop_map(|all| {
        all.into_iter().map(|(second, state)| PullRequest { state, ..pull_request(7, second) }).collect()
    })
}

fn heard(story: &[PullRequest]) -> Known {
    let mut one = known(story[0].clone());
    for news in &story[1..] {
        one.hear(news, Word::Told);
    }
    one
}

/// What is known of several pull requests, some of which are closed, with what was made for them.
fn books() -> impl Strategy<Value = Vec<Known>> {
    prop::collection::btree_map(1_i64..40, (states(), 0_u8..4, 0..ABSENCES), 0..20).prop_map(|all| {
        let one = |(number, (state, made, absences)): (i64, (PullState, u8, u32))| {
            let mut one = known(PullRequest { state, ..pull_request(number, 10) });
            one.absences = if state.is_open() { absences } else { 0 };
            one.made = (made > 0).then(|| Made {
                name: environment_name("shop", number),
                uid: (made > 1).then(|| format!("uid-{number}")),
                commit: if made == 3 { "older".into() } else { one.facts.head.clone() },
            });
            one
        };
        all.into_iter().map(one).collect()
    })
}

/// Objects of the project: ours and others, of known pull requests and of others.
fn clusters() -> impl Strategy<Value = Vec<Object>> {
    prop::collection::btree_map(1_i64..50, (any::<bool>(), prop::bool::weighted(0.2), 0_u8..3), 0..25).prop_map(|all| {
        let one = |(number, (ours, ending, uid)): (i64, (bool, bool, u8))| Object {
            name: environment_name("shop", number),
            uid: if uid == 0 { format!("other-{number}") } else { format!("uid-{number}") },
            number: ours.then_some(number),
            ending,
        };
        all.into_iter().map(one).collect()
    })
}

fn is_open(one: &Known) -> bool {
    one.facts.state.is_open()
}

fn planned(book: &[Known], objects: &[Object], cap: usize) -> Plan {
    plan(book, objects, is_open, |number| environment_name("shop", number), cap)
}

/// Does what a plan says, as the controller does it.
fn carry_out(plan: &Plan, book: &mut [Known], objects: &mut Vec<Object>) {
    for (at, name) in &plan.make {
        let facts = &book[*at].facts;
        let uid = format!("new-{}", facts.number);
        objects.push(Object { name: name.clone(), uid: uid.clone(), number: Some(facts.number), ending: false });
        book[*at].made = Some(Made { name: name.clone(), uid: Some(uid), commit: facts.head.clone() });
    }
    for (at, made) in plan.keep.iter().chain(&plan.adopt) {
        book[*at].made = Some(made.clone());
    }
    for ending in &plan.end {
        objects.retain(|object| object.uid != ending.uid);
    }
    for at in &plan.forget {
        book[*at].made = None;
    }
}

proptest! {
    /// The last word of the provider's clock counts, and of one second that it is closed.
    #[test]
    fn the_order_of_deliveries_does_not_matter(story in stories(), order in any::<prop::sample::Index>(), seed in 0_u64..1_000) {
        let last = story.iter().map(|news| news.updated_at).max().expect("one at least");
        let closed = story.iter().any(|news| news.updated_at == last && !news.state.is_open());
        let mut shuffled = story.clone();
        let by = order.index(shuffled.len());
        shuffled.rotate_left(by);
        let length = shuffled.len();
        for place in 0..length {
            let other = usize::try_from(seed).unwrap_or_default().wrapping_mul(place + 7) % length;
            shuffled.swap(place, other);
        }
        // Repeated deliveries change nothing either.
        shuffled.extend(story.clone());
        for order in [story, shuffled] {
            let one = heard(&order);
            prop_assert_eq!(one.facts.state.is_open(), !closed);
            prop_assert_eq!(one.facts.updated_at, last);
        }
    }

    #[test]
    fn hearing_the_same_again_changes_nothing(story in stories()) {
        let one = heard(&story);
        for news in &story {
            let mut again = one.clone();
            let older = news.updated_at < one.facts.updated_at;
            let same = *news == one.facts;
            let changed = again.hear(news, Word::Told);
            prop_assert!(!(older || same) || !changed);
            prop_assert!(changed || again == one);
        }
    }

    #[test]
    fn an_api_error_deletes_nothing(book in books()) {
        prop_assert_eq!(sweep(&book, &Answer::Unknown), Sweep::default());
    }

    /// What is missing from a list is asked about, and a list that is not whole says nothing of what is missing.
    #[test]
    fn an_empty_list_deletes_nothing(book in books(), complete in any::<bool>()) {
        let found = sweep(&book, &Answer::Listed { open: Vec::new(), complete });
        prop_assert!(found.news.is_empty());
        let open: BTreeSet<i64> = book.iter().filter(|one| is_open(one)).map(|one| one.facts.number).collect();
        let asked: BTreeSet<i64> = found.look.into_iter().collect();
        prop_assert_eq!(asked, if complete { open } else { BTreeSet::new() });
    }

    /// A list opens and changes, and closes nothing.
    #[test]
    fn no_list_closes_anything(book in books(), listed in prop::collection::btree_map(1_i64..50, 5_i64..15, 0..20), complete in any::<bool>()) {
        let open = listed.iter().map(|(number, second)| pull_request(*number, *second)).collect();
        let found = sweep(&book, &Answer::Listed { open, complete });
        prop_assert!(found.news.iter().all(|news| news.state.is_open()));
        for news in &found.news {
            let before = book.iter().find(|one| one.facts.number == news.number);
            // What was closed later than the list says stays closed.
            prop_assert!(before.is_none_or(|before| is_open(before) || news.updated_at > before.facts.updated_at));
        }
    }

    #[test]
    fn only_several_answers_that_there_is_none_close_a_pull_request(book in books()) {
        for mut one in book.into_iter().filter(is_open) {
            let before = one.absences;
            prop_assert!(one.looked(&Look::Absent));
            prop_assert_eq!(is_open(&one), before + 1 < ABSENCES);
        }
    }

    /// Nothing of others is ended, nothing that is not recorded, nothing of an open pull request, and not too much at once.
    #[test]
    fn only_what_is_ours_and_recorded_is_ended(book in books(), objects in clusters(), cap in 0_usize..5) {
        let plan = planned(&book, &objects, cap);
        prop_assert!(plan.end.len() <= cap);
        for ending in &plan.end {
            let one = &book[ending.known];
            let object = objects.iter().find(|object| object.uid == ending.uid && object.name == ending.name);
            prop_assert!(!is_open(one));
            prop_assert!(one.made.as_ref().is_some_and(|made| made.name == ending.name));
            prop_assert!(object.is_some_and(|object| object.number == Some(one.facts.number) && !object.ending));
        }
        for (at, name) in &plan.make {
            prop_assert!(is_open(&book[*at]));
            prop_assert!(objects.iter().all(|object| object.name != *name));
        }
        for (at, made) in plan.keep.iter().chain(&plan.adopt) {
            let number = Some(book[*at].facts.number);
            prop_assert!(objects.iter().any(|object| object.name == made.name && object.number == number));
        }
    }

    /// Passes come to rest, with an environment for each open pull request whose name is free, and none for others.
    #[test]
    fn passes_come_to_rest(book in books(), objects in clusters(), cap in 1_usize..5) {
        let (mut book, mut objects) = (book, objects);
        let foreign: Vec<Object> = objects.iter().filter(|object| object.number.is_none()).cloned().collect();
        for _ in 0..30 {
            let plan = planned(&book, &objects, cap);
            carry_out(&plan, &mut book, &mut objects);
            objects.retain(|object| !object.ending || object.number.is_none());
        }
        let rest = planned(&book, &objects, cap);
        prop_assert!(rest.make.is_empty() && rest.end.is_empty() && rest.adopt.is_empty() && rest.forget.is_empty(), "{rest:?}");
        prop_assert!(rest.keep.iter().all(|(at, made)| book[*at].made.as_ref() == Some(made)));
        prop_assert!(foreign.iter().all(|object| objects.contains(object)), "what others made is there");
        let numbers: BTreeMap<i64, &Known> = book.iter().map(|one| (one.facts.number, one)).collect();
        for object in objects.iter().filter(|object| !object.ending) {
            let Some(number) = object.number else { continue };
            let of = numbers.get(&number);
            prop_assert!(of.is_none_or(|of| is_open(of)), "{object:?} is left over");
        }
    }
}

#[test]
fn opened_after_closed_changes_nothing_unless_it_is_later() {
    let closed = PullRequest { state: PullState::Closed, ..pull_request(7, 5) };
    let mut one = known(closed.clone());
    for second in [4, 5] {
        assert!(!one.hear(&pull_request(7, second), Word::Told), "{second}");
    }
    assert!(one.hear(&pull_request(7, 6), Word::Told));
    assert!(is_open(&one));
    assert!(!one.hear(&closed, Word::Told), "it was opened again after that");
}

#[test]
fn what_was_opened_again_within_the_second_is_asked_about() {
    let mut one = known(PullRequest { state: PullState::Closed, ..pull_request(7, 5) });
    let open = pull_request(7, 5);
    let found = sweep(std::slice::from_ref(&one), &Answer::Listed { open: vec![open.clone()], complete: true });
    assert_eq!(found, Sweep { news: Vec::new(), look: vec![7] });
    assert!(one.looked(&Look::Found(Box::new(open))));
    assert!(is_open(&one));
}

#[test]
fn a_voucher_lasts_as_long_as_its_label() {
    let labelled = |second: i64, labels: &[&str], vouched: &[&str]| PullRequest {
        labels: labels.iter().map(|label| (*label).to_owned()).collect(),
        vouched: vouched.iter().map(|label| (*label).to_owned()).collect(),
        ..pull_request(7, second)
    };
    let mut one = known(labelled(1, &["safe"], &[]));
    assert!(one.facts.vouched.is_empty());
    one.hear(&labelled(2, &["safe"], &["safe"]), Word::Told);
    one.hear(&labelled(3, &["safe", "preview"], &[]), Word::Told);
    assert!(one.facts.vouched.contains("safe"));
    one.hear(&labelled(4, &["preview"], &["safe"]), Word::Told);
    one.hear(&labelled(5, &["safe"], &[]), Word::Told);
    assert!(one.facts.vouched.is_empty(), "somebody took it away meanwhile");
}

#[test]
fn what_somebody_else_adds_is_vouched_for_and_what_was_there_is_not() {
    let labelled = |second: i64, labels: &[&str]| PullRequest {
        labels: labels.iter().map(|label| (*label).to_owned()).collect(),
        ..pull_request(7, second)
    };
    let mut one = known(labelled(1, &["safe"]));
    one.hear(&labelled(2, &["safe", "bug"]), Word::Labelled);
    assert_eq!(one.facts.vouched, BTreeSet::from(["bug".to_owned()]));
    one.hear(&labelled(3, &["bug"]), Word::Labelled);
    one.hear(&labelled(4, &["bug", "safe"]), Word::Labelled);
    assert!(one.facts.vouched.contains("safe"), "a maintainer took it away and gave it again");
}

#[test]
fn an_environment_that_has_ended_comes_back_with_the_next_commit() {
    let mut one = known(pull_request(7, 1));
    one.made = Some(Made { name: "shop-pr-7".into(), uid: Some("uid".into()), commit: one.facts.head.clone() });
    assert_eq!(planned(std::slice::from_ref(&one), &[], 9), Plan::default());
    one.hear(&PullRequest { head: "2".repeat(40), ..pull_request(7, 2) }, Word::Told);
    assert_eq!(planned(&[one], &[], 9).make, [(0, "shop-pr-7".to_owned())]);
}

#[test]
fn a_crash_between_row_and_object_repeats_the_object() {
    let mut one = known(pull_request(7, 1));
    one.made = Some(Made { name: "shop-pr-7".into(), uid: None, commit: one.facts.head.clone() });
    assert_eq!(planned(&[one], &[], 9).make, [(0, "shop-pr-7".to_owned())]);
}

#[test]
fn stacked_pull_requests_of_one_branch_end_one_by_one() {
    let lower = known(PullRequest { state: PullState::Merged, ..pull_request(7, 1) });
    let upper = known(pull_request(8, 1));
    let object = |number: i64| Object {
        name: environment_name("shop", number),
        uid: format!("uid-{number}"),
        number: Some(number),
        ending: false,
    };
    let mut book = [lower, upper];
    for one in &mut book {
        let name = environment_name("shop", one.facts.number);
        one.made = Some(Made { uid: Some(format!("uid-{}", one.facts.number)), name, commit: one.facts.head.clone() });
    }
    let plan = planned(&book, &[object(7), object(8)], 9);
    assert_eq!(plan.end.iter().map(|ending| ending.name.as_str()).collect::<Vec<_>>(), ["shop-pr-7"]);
    assert_eq!(plan.keep.len(), 1);
}

#[test]
fn the_same_number_of_another_repository_waits_for_the_one_before() {
    let mut before = known(PullRequest { state: PullState::Closed, ..pull_request(7, 1) });
    before.made = Some(Made { name: "shop-pr-7".into(), uid: Some("uid".into()), commit: "c".into() });
    let after = Known::new(Provider::GitHub, "acme/cart", pull_request(7, 1));
    let object = Object { name: "shop-pr-7".into(), uid: "uid".into(), number: Some(7), ending: false };
    let mut book = [before, after];
    let plan = planned(&book, &[object], 9);
    assert_eq!((plan.end.len(), plan.make.len(), plan.keep.len()), (1, 0, 0));
    let plan = planned(&book, &[], 9);
    assert_eq!(plan.forget, [0]);
    book[0].made = None;
    assert_eq!(planned(&book, &[], 9).make, [(1, "shop-pr-7".to_owned())]);
}
