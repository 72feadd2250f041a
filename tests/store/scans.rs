//! What registries answered, as it is stored, brought up to date, accepted and pruned.

use serde_json::json;
use stagekeeper::{
    domain::{actor::Actor, image::Digest},
    store::{ImageScan, Store, VaultChange},
};

use crate::fixture::{Shop, at};

/// The answer to the question with this number: `tags`, one a line.
pub(crate) fn scan(number: u32, tags: &str, second: i64) -> ImageScan {
    ImageScan {
        key: Digest::of(&number.to_be_bytes()).hex(),
        repository: format!("r.test/shop/web-{}", number % 7),
        login: None,
        about: "tags".into(),
        tag: None,
        platform: None,
        tags: Some(tags.into()),
        accepted: None,
        accepts: 0,
        validator: Some("\"etag\"".into()),
        digest: None,
        dates: None,
        since: Some(at(second)),
        reason: None,
        message: None,
        transient: false,
        scanned_at: at(second),
    }
}

async fn stored(store: &Store, scan: &ImageScan) -> ImageScan {
    let mut found = store.image_scans_get(std::slice::from_ref(&scan.key)).await.unwrap();
    assert_eq!(found.len(), 1);
    found.remove(0)
}

#[tokio::test]
async fn answers_come_back_as_they_were_stored() {
    let shop = Shop::new().await;
    let digest = Digest::of(b"image").to_string();
    let tag = ImageScan {
        about: "tag".into(),
        tag: Some("1.0.0".into()),
        platform: Some("linux/amd64".into()),
        login: Some("acme/shop/ghcr".into()),
        tags: None,
        validator: None,
        digest: Some(digest.clone()),
        ..scan(2, "", 2)
    };
    let refused = ImageScan {
        tags: None,
        validator: None,
        since: None,
        reason: Some("RegistryUnreachable".into()),
        message: Some("r.test is away".into()),
        transient: true,
        ..scan(3, "", 3)
    };
    let dates = json!({"main-1": {"digest": digest, "lookedAt": "2026-03-01T12:00:00Z"}});
    let dates = ImageScan { about: "dates".into(), tags: None, dates: Some(dates), ..scan(4, "", 4) };
    let empty = scan(5, "", 5);
    let many: Vec<String> = (0..10_000).map(|n| format!("1.{n}.0-build.{n}")).collect();
    let all = [scan(1, "1.0.0\n1.1.0", 1), tag, refused, dates, empty, scan(6, &many.join("\n"), 6)];
    shop.image_scans_put(&all).await.unwrap();
    for one in &all {
        assert_eq!(stored(&shop, one).await, *one);
    }
    let loaded = shop.image_scans_load(4).await.unwrap();
    assert_eq!(loaded, all.iter().rev().take(4).cloned().collect::<Vec<_>>(), "the latest first, and no more");
    let of = shop.image_scans_of(&["r.test/shop/web-2".into(), "r.test/shop/web-3".into()]).await.unwrap();
    assert_eq!(of.len(), 2);
    shop.image_scans_put(&[]).await.unwrap();
}

#[tokio::test]
async fn a_later_answer_replaces_an_earlier_one_and_never_the_other_way() {
    let shop = Shop::new().await;
    shop.image_scans_put(&[scan(1, "1.0.0", 10)]).await.unwrap();
    shop.image_scans_put(&[scan(1, "1.0.0\n1.1.0", 20), scan(2, "x", 20)]).await.unwrap();
    shop.image_scans_put(&[scan(1, "late", 15)]).await.unwrap();
    assert_eq!(stored(&shop, &scan(1, "", 0)).await, scan(1, "1.0.0\n1.1.0", 20));
    let long =
        ImageScan { reason: Some("RegistryDenied".into()), message: Some("a\0b".repeat(2_000)), ..scan(1, "x", 30) };
    shop.image_scans_put(&[long]).await.unwrap();
    let message = stored(&shop, &scan(1, "", 0)).await.message.unwrap();
    assert!(message.len() < 2_100 && message.starts_with("a\u{fffd}b"), "{}", message.len());
}

#[tokio::test]
async fn times_are_brought_up_to_date_and_touch_nothing_else() {
    let shop = Shop::new().await;
    shop.image_scans_put(&[scan(1, "1.0.0", 10), scan(2, "2.0.0", 10)]).await.unwrap();
    let (one, two, none) = (scan(1, "", 0).key, scan(2, "", 0).key, scan(9, "", 0).key);
    shop.image_scans_touch(&[(one, at(500)), (two, at(5)), (none, at(500))]).await.unwrap();
    assert_eq!(stored(&shop, &scan(1, "", 0)).await, ImageScan { scanned_at: at(500), ..scan(1, "1.0.0", 10) });
    assert_eq!(stored(&shop, &scan(2, "", 0)).await, scan(2, "2.0.0", 10), "time does not run backwards");
    assert_eq!(shop.number("SELECT count(*) FROM image_scans").await, 2);
}

#[tokio::test]
async fn a_listing_is_accepted_as_it_was_seen_and_the_leader_hears_of_it() {
    let shop = Shop::new().await;
    let mut changes = shop.vault_changes().await.unwrap();
    let shrank = ImageScan { accepted: Some("1.0.0\n1.1.0\n1.2.0".into()), ..scan(1, "1.0.0", 10) };
    shop.image_scans_put(&[shrank.clone(), scan(2, "1.0.0", 10)]).await.unwrap();
    let jane = Actor::User("jane".into());
    let accept = async |seen: &ImageScan| shop.image_scan_accept(seen, "stage/acme/dev/web", &jane, at(20)).await;
    let other = ImageScan { tags: Some("1.1.0".into()), ..shrank.clone() };
    assert_eq!(accept(&other).await, Ok(false), "not what is stored");
    assert_eq!(accept(&scan(2, "1.0.0", 10)).await, Ok(false), "nothing to accept");
    assert_eq!(accept(&scan(3, "1.0.0", 10)).await, Ok(false), "never asked");
    assert_eq!(accept(&shrank).await, Ok(true));
    let told = tokio::time::timeout(std::time::Duration::from_secs(30), changes.next()).await.unwrap();
    assert_eq!(told, Ok(VaultChange::Accepted(shrank.key.clone())));
    let found = stored(&shop, &shrank).await;
    assert_eq!((found.accepted.as_deref(), found.accepts), (Some("1.0.0"), 1));
    assert_eq!(accept(&shrank).await, Ok(false), "once");
    let entries: Vec<String> = shop.rows(["audit_log"]).await;
    let entry = entries.last().unwrap();
    for part in ["images.accept", "user:jane", "stage/acme/dev/web", "r.test/shop/web-1", "\"before\":3", "\"tags\":1"]
    {
        assert!(entry.replace("\": ", "\":").contains(part), "{part}: {entry}");
    }
    // A leader that has not heard of it yet does not undo it.
    shop.image_scans_put(&[ImageScan { scanned_at: at(30), tags: Some("0.9.0".into()), ..shrank.clone() }])
        .await
        .unwrap();
    let found = stored(&shop, &shrank).await;
    assert_eq!((found.tags.as_deref(), found.accepted.as_deref(), found.accepts), (Some("0.9.0"), Some("1.0.0"), 1));
    // One that has heard says what it believes.
    shop.image_scans_put(&[ImageScan { accepted: None, accepts: 1, scanned_at: at(40), ..shrank.clone() }])
        .await
        .unwrap();
    assert_eq!(stored(&shop, &shrank).await.accepted, None);
}

#[tokio::test]
async fn what_nobody_asks_for_goes() {
    let shop = Shop::new().await;
    let all: Vec<ImageScan> = (1..=5).map(|n| scan(n, "1.0.0", i64::from(n))).collect();
    shop.image_scans_put(&all).await.unwrap();
    assert_eq!(shop.image_scans_prune(at(4), 2).await, Ok(2));
    assert_eq!(shop.image_scans_prune(at(4), 2).await, Ok(1));
    assert_eq!(shop.image_scans_prune(at(4), 2).await, Ok(0));
    assert_eq!(shop.number("SELECT count(*) FROM image_scans").await, 2);
}

#[tokio::test]
async fn what_cannot_be_is_refused() {
    let shop = Shop::new().await;
    for wrong in [
        ImageScan { key: "short".into(), ..scan(1, "x", 1) },
        ImageScan { about: "other".into(), ..scan(1, "x", 1) },
        ImageScan { tag: Some("1.0.0".into()), ..scan(1, "x", 1) },
        ImageScan { digest: Some("sha256:1".into()), ..scan(1, "x", 1) },
        ImageScan { tags: None, accepted: Some("x".into()), ..scan(1, "x", 1) },
    ] {
        assert!(shop.image_scans_put(std::slice::from_ref(&wrong)).await.is_err(), "{wrong:?}");
    }
    assert_eq!(shop.number("SELECT count(*) FROM image_scans").await, 0);
}
