//! What is asked of whoever knows callers, how often, and what becomes of the answers.

use std::{collections::BTreeSet, net::Ipv4Addr, sync::atomic::AtomicUsize, sync::atomic::Ordering};

use futures::future::{BoxFuture, FutureExt as _, join_all};

use super::*;

/// Knows `jane`, who may see the stage `prod` and promote to `dev`, and counts what it is asked.
#[derive(Default)]
struct Cluster {
    persons: AtomicUsize,
    rights: AtomicUsize,
    away: Mutex<bool>,
    forgotten: Mutex<bool>,
}

impl Cluster {
    fn set(flag: &Mutex<bool>, value: bool) {
        *flag.lock().unwrap() = value;
    }

    fn asked(&self) -> (usize, usize) {
        (self.persons.load(Ordering::SeqCst), self.rights.load(Ordering::SeqCst))
    }
}

fn somebody(user: &str, groups: &[&str]) -> Person {
    Person {
        user: user.into(),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        uid: None,
        extra: std::collections::BTreeMap::default(),
    }
}

impl Reviews for Cluster {
    fn person<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Option<Person>, Unanswered>> {
        self.persons.fetch_add(1, Ordering::SeqCst);
        let known = !*self.forgotten.lock().unwrap();
        let away = *self.away.lock().unwrap();
        async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            if away {
                return Err(Unanswered("away".into()));
            }
            Ok(match token {
                "jane" if known => Some(somebody("jane", &["g"])),
                "nameless" => Some(somebody("", &["g"])),
                "groupless" => Some(somebody("joe", &[])),
                _ => None,
            })
        }
        .boxed()
    }

    fn allows<'a>(&'a self, person: &'a Person, what: &'a Attributes) -> BoxFuture<'a, Result<bool, Unanswered>> {
        self.rights.fetch_add(1, Ordering::SeqCst);
        let away = *self.away.lock().unwrap();
        async move {
            if away {
                return Err(Unanswered("away".into()));
            }
            let name = what.name.as_deref();
            Ok(person.user == "jane" && matches!((name, what.verb), (Some("prod"), "get") | (Some("dev"), "promote")))
        }
        .boxed()
    }
}

#[derive(Debug)]
struct Do(&'static str, &'static str);

impl Command for Do {
    fn attributes(&self) -> Vec<Attributes> {
        let (name, verb) = (Some(self.0.to_owned()), self.1);
        vec![Attributes { resource: "stages", namespace: Some("shop".into()), name, verb }]
    }
}

#[derive(Debug)]
struct Nothing;

impl Command for Nothing {
    fn attributes(&self) -> Vec<Attributes> {
        Vec::new()
    }
}

fn guard() -> (Arc<Cluster>, Guard) {
    let cluster = Arc::new(Cluster::default());
    (cluster.clone(), Guard::new(cluster))
}

fn address(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))
}

#[tokio::test(start_paused = true)]
async fn nobody_without_a_name_groups_or_a_token_is_let_in() {
    let (cluster, guard) = guard();
    for token in ["joe", "nameless", "groupless"] {
        assert_eq!(guard.authenticate(token, None).await.err(), Some(Denied::Nobody), "{token}");
    }
    assert_eq!(cluster.asked().0, 3);
    for token in ["", "a b", "ä", "a\n", &"a".repeat(LONGEST_TOKEN + 1)] {
        assert_eq!(guard.authenticate(token, None).await.err(), Some(Denied::Nobody), "{token}");
    }
    assert_eq!(cluster.asked().0, 3, "what is no token is not asked about");
    assert_eq!(guard.authenticate("jane", None).await.unwrap().person().user, "jane");
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_believed_for_a_moment() {
    let (cluster, guard) = guard();
    let jane = guard.authenticate("jane", None).await.unwrap();
    guard.authorize(&jane, Do("prod", "get")).await.unwrap();
    assert_eq!(guard.authorize(&jane, Do("dev", "get")).await.err(), Some(Denied::Unseen));
    assert_eq!(cluster.asked(), (1, 2));
    tokio::time::advance(KEEP_NO.checked_sub(Duration::from_millis(10)).unwrap()).await;
    guard.authenticate("jane", None).await.unwrap();
    guard.authorize(&jane, Do("prod", "get")).await.unwrap();
    guard.authorize(&jane, Do("dev", "get")).await.unwrap_err();
    assert_eq!(cluster.asked(), (1, 2));
    tokio::time::advance(Duration::from_millis(10)).await;
    guard.authorize(&jane, Do("prod", "get")).await.unwrap();
    guard.authorize(&jane, Do("dev", "get")).await.unwrap_err();
    assert_eq!(cluster.asked(), (1, 3), "no is believed for five seconds");
    tokio::time::advance(KEEP_YES.checked_sub(KEEP_NO).unwrap()).await;
    Cluster::set(&cluster.forgotten, true);
    assert_eq!(guard.authenticate("jane", None).await.err(), Some(Denied::Nobody));
    guard.authorize(&jane, Do("prod", "get")).await.unwrap();
    assert_eq!(cluster.asked(), (2, 4), "yes is believed for ten");
}

#[tokio::test(start_paused = true)]
async fn whoever_may_see_a_thing_is_told_the_verb_that_is_missing() {
    let (_, guard) = guard();
    let jane = guard.authenticate("jane", None).await.unwrap();
    let cases = [
        ("prod", "promote", Some(Denied::Verb("promote"))),
        ("prod", "get", None),
        ("dev", "promote", None),
        ("dev", "rollback", Some(Denied::Unseen)),
        ("nowhere", "promote", Some(Denied::Unseen)),
        ("nowhere", "get", Some(Denied::Unseen)),
    ];
    for (name, verb, expected) in cases {
        assert_eq!(guard.authorize(&jane, Do(name, verb)).await.err(), expected, "{verb} {name}");
    }
    assert_eq!(guard.authorize(&jane, Nothing).await.err(), Some(Denied::Unseen), "a command that takes no rights");
}

#[tokio::test(start_paused = true)]
async fn two_hundred_wrong_tokens_are_not_two_hundred_questions() {
    let (cluster, guard) = guard();
    let same = join_all((0..200).map(|_| guard.authenticate("wrong", Some(address(1))))).await;
    assert!(same.iter().all(|answer| answer.as_ref().err() == Some(&Denied::Nobody)));
    assert_eq!(cluster.asked().0, 1, "those who ask at once share an answer");

    let others: Vec<String> = (0..200).map(|number| format!("wrong-{number}")).collect();
    let others = join_all(others.iter().map(|token| guard.authenticate(token, Some(address(1))))).await;
    let flooded = others.iter().filter(|answer| matches!(answer, Err(Denied::Flooded(_)))).count();
    assert_eq!(cluster.asked().0, 30, "from one address");
    assert_eq!(flooded, 200 - 29);

    let before = guard.authenticate("jane", Some(address(2))).await;
    assert!(before.is_ok(), "another address is not to blame");
    for last in 3..=10 {
        let more: Vec<String> = (0..30).map(|number| format!("wrong-{last}-{number}")).collect();
        join_all(more.iter().map(|token| guard.authenticate(token, Some(address(last))))).await;
    }
    assert_eq!(cluster.asked().0, 100, "from all of them");
    tokio::time::advance(KEEP_YES).await;
    for number in 0..250 {
        guard.authenticate(&format!("late-{number}"), None).await.unwrap_err();
    }
    let asked = cluster.asked().0;
    assert!(asked <= 100 + 200 + 30, "{asked}");
    assert!(guard.authenticate("jane", Some(address(1))).await.is_ok(), "whoever was right before is not kept out");
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_does_not_answer_is_not_a_refusal_and_not_remembered() {
    let (cluster, guard) = guard();
    let jane = guard.authenticate("jane", None).await.unwrap();
    Cluster::set(&cluster.away, true);
    tokio::time::advance(KEEP_YES).await;
    assert_eq!(guard.authenticate("jane", None).await.err(), Some(Denied::Unanswered("away".into())));
    assert_eq!(guard.authorize(&jane, Do("prod", "get")).await.err(), Some(Denied::Unanswered("away".into())));
    assert_eq!(
        guard.authorize(&jane, Do("prod", "promote")).await.err(),
        Some(Denied::Unanswered("away".into())),
        "and nothing is told of what can be seen"
    );
    Cluster::set(&cluster.away, false);
    guard.authenticate("jane", None).await.unwrap();
    guard.authorize(&jane, Do("prod", "get")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_caller_has_a_rate_of_their_own() {
    let (_, guard) = guard();
    let jane = guard.authenticate("jane", None).await.unwrap();
    let admitted = (0..1_000).filter(|_| guard.admit(&jane).is_ok()).count();
    assert_eq!(admitted, 200);
    assert_eq!(guard.admit(&jane), Err(Denied::Flooded(1)));
    let other = Caller { hash: [7; 32], ..jane.clone() };
    assert_eq!(guard.admit(&other), Ok(()));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!((0..1_000).filter(|_| guard.admit(&jane).is_ok()).count(), 50);
}

#[tokio::test(start_paused = true)]
async fn what_lasts_is_ended_when_the_token_or_the_right_has_ended() {
    let (cluster, guard) = guard();
    let jane = guard.authenticate("jane", None).await.unwrap();
    let authorized = guard.authorize(&jane, Do("prod", "get")).await.unwrap();
    tokio::time::advance(Duration::from_secs(50)).await;
    assert_eq!(guard.renew(&authorized).await, Ok(()));
    Cluster::set(&cluster.forgotten, true);
    assert_eq!(guard.renew(&authorized).await, Ok(()), "believed for ten seconds");
    tokio::time::advance(KEEP_YES).await;
    assert_eq!(guard.renew(&authorized).await, Err(Denied::Nobody));
}

#[test]
fn people_are_told_apart_by_all_that_rights_depend_on() {
    let jane = somebody("jane", &["a", "b"]);
    let mut others = vec![
        somebody("joe", &["a", "b"]),
        somebody("jane", &["a"]),
        somebody("jane", &["ab"]),
        somebody("jane", &["a", "c"]),
        Person { uid: Some("1".into()), ..jane.clone() },
    ];
    for (key, values) in [("k", vec!["v"]), ("k", vec!["v", "w"]), ("kv", vec![]), ("k", vec!["vw"])] {
        let values = values.into_iter().map(Into::into).collect();
        others.push(Person { extra: [(key.to_owned(), values)].into(), ..jane.clone() });
    }
    let hashes: BTreeSet<Hash> = others.iter().chain([&jane]).map(identity).collect();
    assert_eq!(hashes.len(), others.len() + 1);
}
