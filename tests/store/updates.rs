//! The update list: what is seen, what is acknowledged, what deploys bring, and tags that stay through all of it.

use jiff::Timestamp;
use stagekeeper::{
    domain::{
        actor::Actor,
        image::Digest,
        update::{SeenUpdate, TagName},
    },
    store::{
        Class, StoreError, Update, UpdateChoice,
        UpdateChoice::{Matching, These},
        UpdateCursor, UpdateFilter,
    },
};

use crate::fixture::{Shop, at};

const HOUR: i64 = 3600;

fn jane() -> Actor {
    Actor::User("jane".into())
}

pub(crate) fn digest(of: &str) -> Digest {
    Digest::of(of.as_bytes())
}

fn name(text: &str) -> TagName {
    text.parse().unwrap()
}

/// What Diun on the host `vm` says of nginx.
pub(crate) fn nginx(new: &str, second: i64) -> SeenUpdate {
    SeenUpdate {
        image: "docker.io/library/nginx:1.29".into(),
        host: "vm".into(),
        platform: "linux/amd64".into(),
        tag: Some("1.29".into()),
        old_digest: None,
        new_digest: digest(new),
        created: None,
        provider: "docker".into(),
        link: Some("https://hub.docker.com/_/nginx".into()),
        seen_by: Actor::Webhook("diun".into()),
        at: at(second),
    }
}

/// What a policy of the stage `acme/NAME` finds of the shop.
pub(crate) fn shop_image(stage: &str, new: &str, second: i64) -> SeenUpdate {
    SeenUpdate {
        image: "registry.test/acme/shop".into(),
        host: format!("acme/{stage}"),
        platform: String::new(),
        tag: Some(new.into()),
        old_digest: Some(digest("old")),
        provider: String::new(),
        link: None,
        seen_by: Actor::Policy,
        ..nginx(new, second)
    }
}

impl Shop {
    pub(crate) async fn updates(&self, filter: UpdateFilter) -> Vec<Update> {
        self.updates_list(&filter).await.unwrap().updates
    }

    pub(crate) async fn the_update(&self) -> Update {
        let mut all = self.updates(UpdateFilter::default()).await;
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    pub(crate) async fn see(&self, seen: SeenUpdate) -> usize {
        self.updates_see(&[seen]).await.unwrap()
    }

    /// Every version of every row of the list that was ever written: what no write leaves as it is.
    async fn writes(&self) -> Vec<String> {
        let sql = "SELECT xmin || ' ' || ctid || ' ' || id FROM image_updates ORDER BY id";
        sqlx::query_scalar(sql).fetch_all(&self.sql).await.unwrap()
    }

    pub(crate) async fn ack(&self, choice: &UpdateChoice, second: i64) -> Result<usize, StoreError> {
        self.updates_acknowledge(choice, &jane(), at(second)).await
    }
}

#[tokio::test]
async fn what_is_seen_first_is_a_pending_update() {
    let shop = Shop::new().await;
    let seen = SeenUpdate { created: Some(at(-60)), old_digest: Some(digest("0")), ..nginx("1", 10) };
    assert_eq!(shop.see(seen).await, 1);
    let update = shop.the_update().await;
    let expected = Update {
        id: update.id,
        image: "docker.io/library/nginx:1.29".into(),
        host: "vm".into(),
        platform: "linux/amd64".into(),
        tag: Some("1.29".into()),
        old_digest: Some(digest("0")),
        new_digest: digest("1"),
        created: Some(at(-60)),
        provider: "docker".into(),
        link: Some("https://hub.docker.com/_/nginx".into()),
        seen_by: Actor::Webhook("diun".into()),
        first_seen_at: at(10),
        last_seen_at: at(10),
        acknowledged: None,
        tags: Vec::new(),
    };
    assert_eq!(update, expected);
    assert!(update.is_pending());
    assert_eq!(shop.updates_pending_count().await, Ok(1));
}

#[tokio::test]
async fn the_same_digest_again_writes_nothing_but_once_an_hour() {
    let shop = Shop::new().await;
    assert_eq!(shop.see(nginx("1", 0)).await, 1);
    let before = shop.writes().await;
    for second in [0, 1, -5, HOUR - 1] {
        assert_eq!(shop.see(SeenUpdate { link: None, ..nginx("1", second) }).await, 0);
    }
    assert_eq!(shop.writes().await, before);
    assert_eq!(shop.see(SeenUpdate { link: None, ..nginx("1", HOUR) }).await, 0);
    let update = shop.the_update().await;
    assert_eq!((update.first_seen_at, update.last_seen_at), (at(0), at(HOUR)));
    assert!(update.link.is_some(), "only when it was seen last has changed");
}

#[tokio::test]
async fn an_acknowledged_digest_stays_so_and_another_one_opens_the_update() {
    let shop = Shop::new().await;
    shop.see(nginx("1", 0)).await;
    let id = shop.the_update().await.id;
    assert_eq!(shop.ack(&These(vec![id]), 5).await, Ok(1));
    assert_eq!(shop.ack(&These(vec![id]), 6).await, Ok(0), "it was acknowledged already");
    let known = shop.the_update().await;
    let acknowledged = known.acknowledged.clone().unwrap();
    assert_eq!((acknowledged.digest, acknowledged.by, acknowledged.at), (digest("1"), jane(), at(5)));
    assert!(!known.is_pending());
    assert_eq!(shop.see(nginx("1", 2 * HOUR)).await, 0);
    assert!(!shop.the_update().await.is_pending(), "the same digest again");
    assert_eq!(shop.see(nginx("2", 3 * HOUR)).await, 1);
    let opened = shop.the_update().await;
    assert!(opened.is_pending());
    assert_eq!((opened.id, opened.first_seen_at), (id, at(3 * HOUR)));
    // A tag that is moved back to what somebody knows of.
    assert_eq!(shop.see(nginx("1", 4 * HOUR)).await, 0);
    assert!(!shop.the_update().await.is_pending());
    assert_eq!(shop.updates_unacknowledge(&These(vec![id]), &jane(), at(9)).await, Ok(1));
    assert_eq!(shop.updates_unacknowledge(&These(vec![id]), &jane(), at(9)).await, Ok(0));
    assert!(shop.the_update().await.is_pending());
    let words: Vec<String> = (shop.audit_list(&format!("update/{id}"), None, 10).await.unwrap().into_iter())
        .map(|entry| format!("{} {}", entry.entry.actor, entry.entry.action))
        .collect();
    assert_eq!(words, ["user:jane update.unacknowledge", "user:jane update.acknowledge"]);
    assert_eq!(shop.audit_verify().await.unwrap().broken, None);
}

#[tokio::test]
async fn what_was_seen_before_comes_too_late() {
    let shop = Shop::new().await;
    shop.see(nginx("2", 100)).await;
    assert_eq!(shop.see(nginx("1", 99)).await, 0, "it arrives late");
    assert_eq!(shop.the_update().await.new_digest, digest("2"));
    // Seen at one time: what was built later is newer, and without that word what is said last.
    let built = |new: &str, built: i64| SeenUpdate { created: Some(at(built)), ..nginx(new, 200) };
    assert_eq!(shop.see(built("4", 40)).await, 1);
    assert_eq!(shop.see(built("3", 30)).await, 0);
    assert_eq!(shop.the_update().await.new_digest, digest("4"));
    assert_eq!(shop.see(nginx("5", 200)).await, 1);
    // A later word about an older build: somebody moved the tag back.
    assert_eq!(shop.see(SeenUpdate { at: at(300), ..built("3", 30) }).await, 1);
    assert_eq!(shop.the_update().await.new_digest, digest("3"));
    // Seen again long after another one: that other one is old news.
    assert_eq!(shop.see(nginx("3", 300 + 2 * HOUR)).await, 0);
    assert_eq!(shop.see(nginx("6", 300 + HOUR)).await, 0);
    assert_eq!(shop.the_update().await.new_digest, digest("3"));
}

#[tokio::test]
async fn one_statement_takes_many_and_the_last_word_of_each_counts() {
    let shop = Shop::new().await;
    let mut all: Vec<SeenUpdate> =
        (0..1000).map(|number| SeenUpdate { host: format!("vm-{number}"), ..nginx("1", 0) }).collect();
    all.extend([nginx("2", 5), nginx("1", 4), nginx("3", 5)]);
    assert_eq!(shop.updates_see(&all).await, Ok(1001));
    let vm = UpdateFilter { host: Some("vm".into()), ..UpdateFilter::default() };
    assert_eq!(shop.updates(vm).await[0].new_digest, digest("3"));
    assert_eq!(shop.updates_see(&all).await, Ok(0));
    assert_eq!(shop.updates_see(&[]).await, Ok(0));
}

#[tokio::test]
async fn image_host_and_platform_make_one_update() {
    let shop = Shop::new().await;
    let others = [
        SeenUpdate { image: "docker.io/library/nginx:1.28".into(), ..nginx("1", 1) },
        SeenUpdate { host: String::new(), ..nginx("1", 2) },
        SeenUpdate { platform: "linux/arm64".into(), ..nginx("1", 3) },
    ];
    assert_eq!(shop.updates_see(&others).await, Ok(3));
    assert_eq!(shop.see(nginx("1", 0)).await, 1);
    let all = shop.updates(UpdateFilter::default()).await;
    let seen: Vec<Timestamp> = all.iter().map(|update| update.first_seen_at).collect();
    assert_eq!(seen, [at(3), at(2), at(1), at(0)], "newest first");
}

#[tokio::test]
async fn what_senders_say_is_made_fit() {
    let shop = Shop::new().await;
    let long = "x".repeat(100_000);
    let hostile = SeenUpdate {
        image: long.clone(),
        host: format!("vm\0{long}"),
        platform: long.clone(),
        tag: Some(String::new()),
        provider: "'; DROP TABLE image_updates; --".into(),
        link: Some("javascript:alert(1)".into()),
        ..nginx("1", 0)
    };
    assert_eq!(shop.see(hostile.clone()).await, 1);
    assert_eq!(shop.see(hostile).await, 0);
    let update = shop.the_update().await;
    assert_eq!((update.link, update.tag), (None, None));
    assert!(update.host.starts_with("vm\u{fffd}x") && update.host.len() < 400, "{}", update.host.len());
    for address in ["javascript:alert(1)", "//r.test", ""] {
        let refused = shop.run(&format!("UPDATE image_updates SET link = '{address}'")).await;
        assert!(refused.unwrap_err().to_string().contains("23514"), "{address}");
    }
}

#[tokio::test]
async fn several_at_once_make_one_update() {
    let shop = Shop::new().await;
    for round in 0..10 {
        let seen: Vec<SeenUpdate> = (0..20)
            .map(|number| SeenUpdate { host: format!("vm-{number}"), ..nginx(&round.to_string(), round) })
            .collect();
        let backwards: Vec<SeenUpdate> = seen.iter().rev().cloned().collect();
        let (one, two, three) =
            tokio::join!(shop.updates_see(&seen), shop.updates_see(&backwards), shop.updates_see(&seen));
        assert_eq!(one.unwrap() + two.unwrap() + three.unwrap(), 20, "round {round}");
    }
    let matching = Matching(UpdateFilter::pending());
    let (one, two) = tokio::join!(shop.ack(&matching, 1), shop.ack(&matching, 1));
    assert_eq!(one.unwrap() + two.unwrap(), 20, "each was acknowledged by one of the two");
    assert_eq!(shop.number("SELECT count(*) FROM audit_log WHERE action = 'update.acknowledge'").await, 20);
    // Whoever acknowledges what is replaced meanwhile has acknowledged what was seen, and nothing else.
    for round in 10..20 {
        let seen: Vec<SeenUpdate> = (0..20)
            .map(|number| SeenUpdate { host: format!("vm-{number}"), ..nginx(&round.to_string(), round) })
            .collect();
        let (opened, known) = tokio::join!(shop.updates_see(&seen), shop.ack(&matching, round));
        assert_eq!(opened, Ok(20));
        let left = shop.updates_pending_count().await.unwrap();
        assert_eq!(usize::try_from(left).unwrap() + known.unwrap(), 20, "round {round}");
        shop.ack(&matching, round).await.unwrap();
    }
}

#[tokio::test]
async fn the_list_is_filtered_and_read_page_by_page() {
    let shop = Shop::new().await;
    let mut all: Vec<SeenUpdate> = Vec::new();
    for number in 0..7 {
        all.push(SeenUpdate { image: format!("ghcr.io/acme/app{number}"), ..nginx("1", number) });
    }
    all.push(SeenUpdate { image: "ghcr.io/acme_x/50%".into(), host: "acme/dev".into(), ..nginx("2", 7) });
    // Seen at the same time: the number decides the order, and the cursor loses nothing.
    all.push(SeenUpdate { image: "quay.io/a/b".into(), ..nginx("3", 7) });
    shop.updates_see(&all).await.unwrap();
    let acknowledged = Matching(UpdateFilter { image: Some("ghcr.io/acme/app?".into()), ..UpdateFilter::pending() });
    assert_eq!(shop.ack(&acknowledged, 9).await, Ok(7));

    let images = async |filter: UpdateFilter| -> Vec<String> {
        let mut images: Vec<String> = shop.updates(filter).await.into_iter().map(|update| update.image).collect();
        images.sort();
        images
    };
    let none = UpdateFilter::default;
    let glob = |image: &str| UpdateFilter { image: Some(image.into()), ..none() };
    let search = |text: &str| UpdateFilter { search: Some(text.into()), ..none() };
    assert_eq!(images(UpdateFilter::pending()).await, ["ghcr.io/acme_x/50%", "quay.io/a/b"]);
    assert_eq!(images(UpdateFilter { pending: Some(false), ..none() }).await.len(), 7);
    assert_eq!(images(glob("ghcr.io/acme_x/*")).await, ["ghcr.io/acme_x/50%"], "only * and ? stand for others");
    assert_eq!(images(glob("*/50%")).await, ["ghcr.io/acme_x/50%"]);
    assert_eq!(images(glob("quay.io/a")).await, [""; 0], "a glob is about the whole name");
    assert_eq!(images(UpdateFilter { host: Some("acme/dev".into()), ..none() }).await, ["ghcr.io/acme_x/50%"]);
    assert_eq!(images(UpdateFilter { host: Some("acme/dev".into()), ..glob("quay.io/*") }).await, [""; 0]);
    assert_eq!(images(search("QUAY")).await, ["quay.io/a/b"]);
    assert_eq!(images(search("50%")).await, ["ghcr.io/acme_x/50%"]);
    assert_eq!(images(search("b:1.29")).await, ["quay.io/a/b"]);
    assert_eq!(images(search(&digest("2").to_string())).await, ["ghcr.io/acme_x/50%"]);
    assert_eq!(images(search("acme/dev")).await, ["ghcr.io/acme_x/50%"]);
    assert!(UpdateFilter { after: None, limit: 3, ..none() }.is_empty() && !search("x").is_empty());

    for filter in [none(), UpdateFilter { host: Some("vm".into()), ..none() }, UpdateFilter::pending()] {
        let whole: Vec<i64> = shop.updates(filter.clone()).await.into_iter().map(|update| update.id).collect();
        let mut pages: Vec<i64> = Vec::new();
        let mut after: Option<UpdateCursor> = None;
        loop {
            let page = shop.updates_list(&UpdateFilter { after, limit: 1, ..filter.clone() }).await.unwrap();
            pages.extend(page.updates.iter().map(|update| update.id));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(pages, whole, "{filter:?}");
    }
}

#[tokio::test]
async fn a_choice_of_many_is_made_in_steps_and_of_numbers_whole() {
    let shop = Shop::new().await;
    let all: Vec<SeenUpdate> =
        (0..1203).map(|number| SeenUpdate { host: format!("vm-{number}"), ..nginx("1", number % 7) }).collect();
    shop.updates_see(&all).await.unwrap();
    assert_eq!(
        shop.ack(&Matching(UpdateFilter { image: Some("*nginx*".into()), ..UpdateFilter::default() }), 9).await,
        Ok(1203)
    );
    let acknowledged = Matching(UpdateFilter { pending: Some(false), ..UpdateFilter::default() });
    assert_eq!(shop.updates_unacknowledge(&acknowledged, &jane(), at(10)).await, Ok(1203));
    let some = shop.updates(UpdateFilter { limit: 1, ..UpdateFilter::default() }).await[0].id;
    let error = shop.ack(&These(vec![some, 999_999]), 9).await.unwrap_err();
    assert_eq!((error.class(), error.to_string()), (Class::NotFound, "update 999999 does not exist".into()));
    assert_eq!(shop.updates_pending_count().await, Ok(1203), "all or none");
}

#[tokio::test]
async fn tags_have_names_of_their_own() {
    let shop = Shop::new().await;
    shop.update_tag_create(&name("Backend"), &jane(), at(0)).await.unwrap();
    let error = shop.update_tag_create(&name("backend"), &jane(), at(0)).await.unwrap_err();
    assert!(matches!(error, StoreError::Conflict(_)), "{error:?}");
    assert!(error.to_string().contains("there is a tag `backend` already"), "{error}");
    shop.update_tag_create(&name("web"), &jane(), at(0)).await.unwrap();
    let error = shop.update_tag_rename("WEB", &name("BACKEND"), &jane(), at(1)).await.unwrap_err();
    assert!(matches!(error, StoreError::Conflict(_)), "{error:?}");
    shop.update_tag_rename("web", &name("Web"), &jane(), at(1)).await.unwrap();
    shop.update_tag_rename("backend", &name("api"), &jane(), at(1)).await.unwrap();
    let names: Vec<String> = shop.update_tags_list().await.unwrap().into_iter().map(|tag| tag.name).collect();
    assert_eq!(names, ["api", "Web"]);
    for error in [
        shop.update_tag_rename("backend", &name("x"), &jane(), at(1)).await.unwrap_err(),
        shop.update_tag_delete("backend", &jane(), at(1)).await.unwrap_err(),
        shop.update_tag_assign("backend", &These(vec![]), &jane(), at(1)).await.unwrap_err(),
        shop.update_tag_unassign("backend", &These(vec![]), &jane(), at(1)).await.unwrap_err(),
        shop.updates_list(&UpdateFilter { tag: Some("backend".into()), ..UpdateFilter::default() }).await.unwrap_err(),
    ] {
        assert_eq!((error.class(), error.to_string()), (Class::NotFound, "tag backend does not exist".into()));
    }
    let (lower, upper, jane) = (name("at-once"), name("At-Once"), jane());
    let (one, two) =
        tokio::join!(shop.update_tag_create(&lower, &jane, at(0)), shop.update_tag_create(&upper, &jane, at(0)));
    assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
}

#[tokio::test]
async fn tags_stay_with_their_updates_until_they_are_deleted() {
    let shop = Shop::new().await;
    let all: Vec<SeenUpdate> =
        (0..3).map(|number| SeenUpdate { host: format!("vm-{number}"), ..nginx("1", number) }).collect();
    shop.updates_see(&all).await.unwrap();
    for tag in ["web", "edge"] {
        shop.update_tag_create(&name(tag), &jane(), at(0)).await.unwrap();
    }
    let everything = Matching(UpdateFilter::default());
    let first = These(
        shop.updates(UpdateFilter { host: Some("vm-0".into()), ..UpdateFilter::default() })
            .await
            .iter()
            .map(|update| update.id)
            .collect(),
    );
    let ask = |tag: &'static str, choice: UpdateChoice| {
        let shop = &shop;
        async move { shop.update_tag_assign(tag, &choice, &jane(), at(1)).await }
    };
    assert_eq!(ask("web", first.clone()).await, Ok(1));
    assert_eq!(ask("WEB", everything.clone()).await, Ok(2), "one had it");
    assert_eq!(ask("edge", first.clone()).await, Ok(1));
    // A newer image, an acknowledgement and another name change nothing about them.
    shop.see(SeenUpdate { host: "vm-0".into(), ..nginx("2", 50) }).await;
    shop.ack(&first, 51).await.unwrap();
    shop.update_tag_rename("edge", &name("cdn"), &jane(), at(2)).await.unwrap();
    let tagged = async |tag: &str| -> Vec<(String, Vec<String>)> {
        let filter = UpdateFilter { tag: Some(tag.into()), ..UpdateFilter::default() };
        shop.updates(filter).await.into_iter().map(|update| (update.host, update.tags)).collect()
    };
    assert_eq!(tagged("cdn").await, [("vm-0".to_owned(), vec!["cdn".to_owned(), "web".to_owned()])]);
    assert_eq!(tagged("web").await.len(), 3);
    let counts: Vec<(String, i64, i64)> =
        shop.update_tags_list().await.unwrap().into_iter().map(|tag| (tag.name, tag.updates, tag.pending)).collect();
    assert_eq!(counts, [("cdn".into(), 1, 0), ("web".into(), 3, 2)]);
    // Many at once, also by the tag that is taken away.
    let theirs = Matching(UpdateFilter { tag: Some("web".into()), ..UpdateFilter::pending() });
    assert_eq!(shop.update_tag_unassign("web", &theirs, &jane(), at(3)).await, Ok(2));
    assert_eq!(shop.update_tag_unassign("web", &everything, &jane(), at(3)).await, Ok(1));
    assert_eq!(shop.update_tag_delete("cdn", &jane(), at(4)).await, Ok(1));
    assert_eq!(shop.number("SELECT count(*) FROM tag_assignments").await, 0);
    assert_eq!(shop.number("SELECT count(*) FROM image_updates").await, 3, "the updates stay");
    let noted = "SELECT count(*) FROM audit_log WHERE action LIKE 'update_tag.%' AND actor = 'user:jane'";
    assert_eq!(shop.number(noted).await, 2 + 3 + 1 + 2 + 1, "made, assigned, renamed, unassigned, deleted");
    let details = "SELECT jsonb_array_length(details -> 'updates')::bigint FROM audit_log
                   WHERE action = 'update_tag.unassign' ORDER BY seq LIMIT 1";
    assert_eq!(shop.number(details).await, 2);
}
