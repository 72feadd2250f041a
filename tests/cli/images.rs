//! `stagekeeper images`.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use serde_json::json;
use stagekeeper::{
    api::{Project, Stage},
    controllers::images::{About, Question},
    domain::{
        clock::{Clock as _, SystemClock},
        image::Digest,
    },
    store::ImageScan,
};

use crate::{
    binary::{Ended, run, stagekeeper},
    cluster::{Ground, kubeconfig},
    shop::Shop,
};

fn images(ground: &Ground, shop: &Shop, arguments: &[&str]) -> Ended {
    let arguments = [&["images"], arguments, &["-n", &ground.namespace]].concat();
    let mut command = stagekeeper(&arguments);
    command.env("KUBECONFIG", kubeconfig()).env("DATABASE_URL", shop.url()).env("USER", "jane");
    run(&mut command)
}

fn scan(about: About) -> ImageScan {
    let repository = "registry.test/acme/shop";
    let question = Question { repository: repository.parse().unwrap(), insecure: false, login: None, about };
    ImageScan {
        key: question.key().hex(),
        repository: repository.into(),
        login: None,
        about: question.about.word().into(),
        tag: question.about.tag().map(Into::into),
        platform: None,
        tags: None,
        accepted: None,
        accepts: 0,
        validator: None,
        digest: None,
        dates: None,
        since: None,
        reason: None,
        message: None,
        transient: false,
        scanned_at: SystemClock.now() - SignedDuration::from_secs(7_230),
    }
}

fn digest(tag: &str) -> ImageScan {
    let digest = Some(Digest::of(tag.as_bytes()).to_string());
    ImageScan { digest, ..scan(About::Tag(tag.into(), None)) }
}

async fn scene(name: &str) -> (Ground, Shop) {
    let ground = Ground::new(name).await;
    let image = json!({"repository": "registry.test/acme/shop", "policy": {"semver": ">=1.0 <2"}});
    ground.make::<Project>("shop", json!({"services": [{"name": "web", "image": image}]})).await;
    ground.make::<Stage>("prod", json!({"project": "shop"})).await;
    let shop = Shop::new(&ground.namespace).await;
    (ground, shop)
}

#[tokio::test]
async fn it_is_told_who_won_and_why_each_other_lost() {
    let (ground, shop) = scene("images-explain").await;
    let asked = images(&ground, &shop, &["explain", "shop/prod"]).well();
    for expected in ["Runs:         1.0.0 (sha256:", "Scanned:      never", "the operator has not asked yet"] {
        assert!(asked.contains(expected), "{expected:?} is missing:\n{asked}");
    }
    let mut tags: Vec<String> = (0..30).map(|minor| format!("1.{minor}.0")).collect();
    tags.extend(["2.0.0", "latest", "1.30.0-rc.1"].map(Into::into));
    let unfit = ImageScan {
        reason: Some("ImageUnsupported".into()),
        message: Some("`registry.test/acme/shop:1.29.0` is not an image that can run".into()),
        ..scan(About::Tag("1.29.0".into(), None))
    };
    let listing = ImageScan { tags: Some(tags.join("\n")), ..scan(About::Tags) };
    shop.store().image_scans_put(&[listing.clone(), unfit, digest("1.28.0")]).await.unwrap();

    let text = images(&ground, &shop, &["explain", "shop/prod", "web"]).well();
    for expected in [
        "Service:      web\n",
        "Policy:       semver `>=1.0 <2`\n",
        "Runs:         1.0.0 (sha256:",
        "Chosen:       1.28.0 (sha256:",
        "`1.28.0` is newer than `1.0.0`",
        "Scanned:      2h0m ago, 33 tags\n",
        "1.29.0   passed over: service web: `registry.test/acme/shop:1.29.0` is not an image that can run\n",
        "1.28.0   chosen\n",
        "1.27.0   not newer than `1.28.0`\n",
        "and 13 more (--all shows them)\n",
        "`stagekeeper why prod`",
    ] {
        assert!(text.contains(expected), "{expected:?} is missing:\n{text}");
    }
    let all = images(&ground, &shop, &["explain", "shop/prod", "--all"]).well();
    for expected in
        ["1.0.0         runs\n", "2.0.0         outside `>=1.0 <2`\n", "latest        not a version", "a pre-release"]
    {
        assert!(all.contains(expected), "{expected:?} is missing:\n{all}");
    }
    let json = images(&ground, &shop, &["explain", "shop/prod", "-o", "json"]).json();
    assert_eq!(json[0]["chosen"]["tag"], "1.28.0");
    assert_eq!((json[0]["candidates"][0]["tag"].clone(), json[0]["more"].clone()), (json!("1.29.0"), json!(13)));

    let list = images(&ground, &shop, &["list", "shop"]).well();
    assert!(list.contains("web       registry.test/acme/shop   33     no       2h0m ago"), "{list}");
    for (arguments, code, says) in [
        (["explain", "shop/prod", "api"], 1, "there is no service api\n  there are: web"),
        (["explain", "blog/prod", "web"], 1, "stage prod is one of project shop, not of blog"),
        (["explain", "shop", "web"], 2, "shop names no stage"),
        (["explain", "shop/nope", "web"], 1, "there is no Stage nope"),
        (["accept", "shop/prod", "web"], 1, "there is nothing to accept"),
    ] {
        let said = images(&ground, &shop, &arguments).badly(code);
        assert!(said.contains(says), "{arguments:?}: {said}");
    }
}

#[tokio::test]
async fn a_listing_that_shrank_is_explained_and_accepted_by_name() {
    let (ground, shop) = scene("images-accept").await;
    let before = Some("1.0.0\n1.1.0\n1.2.0\n1.3.0".to_owned());
    let shrank = ImageScan { tags: Some("1.0.0\n1.9.0".into()), accepted: before, ..scan(About::Tags) };
    shop.store().image_scans_put(&[shrank, digest("1.9.0")]).await.unwrap();
    let text = images(&ground, &shop, &["explain", "shop/prod"]).well();
    for expected in [
        "Chosen:       1.0.0 (sha256:",
        "Frozen:       service web: registry.test/acme/shop lists 3 of its 4 tags no more",
        "`stagekeeper images accept shop/prod web`",
        "1.9.0   counts, and nothing is chosen now\n",
    ] {
        assert!(text.contains(expected), "{expected:?} is missing:\n{text}");
    }
    let list = images(&ground, &shop, &["list", "shop", "-o", "json"]).json();
    assert_eq!(list[0]["frozen"], true);
    let said = images(&ground, &shop, &["accept", "shop/prod", "web"]).well();
    assert!(said.contains("registry.test/acme/shop has 2 tags, and had 4"), "{said}");
    let text = images(&ground, &shop, &["explain", "shop/prod"]).well();
    assert!(text.contains("Chosen:       1.9.0 (sha256:") && !text.contains("Frozen"), "{text}");
    assert!(images(&ground, &shop, &["accept", "shop/prod", "web"]).badly(1).contains("there is nothing to accept"));
    let audit = shop.store().audit_list(0, 100).await.unwrap();
    let entries: BTreeMap<String, String> =
        audit.into_iter().map(|one| (one.entry.action, format!("{} {}", one.entry.actor, one.entry.subject))).collect();
    assert_eq!(entries["images.accept"], format!("user:jane stage/{}/prod/web", ground.namespace));
}
