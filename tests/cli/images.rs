//! `stagekeeper images`.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::SignedDuration;
use k8s_openapi::api::events::v1::Event;
use kube::{Api, api::ListParams};
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

use tokio::time::timeout;
use wiremock::{Mock, MockServer, Request, ResponseTemplate, matchers::any};

use crate::{
    binary::{Ended, PATIENCE, Running, run, stagekeeper},
    cluster::{Ground, kubeconfig},
    controller::free_port,
    postgres::TestDatabase,
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
        "Scanned:      2h ago, 33 tags\n",
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
    assert!(list.contains("web       registry.test/acme/shop   33     no       2h ago"), "{list}");
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
    let subject = format!("stage/{}/prod/web", ground.namespace);
    let audit = shop.store().audit_list(&subject, None, 10).await.unwrap();
    let entries: Vec<(String, String)> =
        audit.into_iter().map(|one| (one.entry.action, one.entry.actor.to_string())).collect();
    assert_eq!(entries, [("images.accept".to_owned(), "user:jane".to_owned())]);
}

/// A registry whose tags change, and that counts how often it is asked for those of a repository.
struct Moving {
    server: MockServer,
    tags: Arc<Mutex<Vec<&'static str>>>,
    listed: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl Moving {
    async fn new() -> Self {
        let (server, tags) = (MockServer::start().await, Arc::new(Mutex::new(vec!["1.0.0", "1.1.0", "1.2.0"])));
        let listed = Arc::new(Mutex::new(BTreeMap::new()));
        let (list, count) = (tags.clone(), listed.clone());
        let respond = move |request: &Request| {
            let place = request.url.path();
            if let Some(repository) = place.strip_suffix("/tags/list") {
                *count.lock().unwrap().entry(repository.to_owned()).or_insert(0) += 1;
                return ResponseTemplate::new(200).set_body_json(json!({"tags": *list.lock().unwrap()}));
            }
            let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "size": 2,
                           "digest": Digest::of(b"{}").to_string()},
                "layers": [], "annotations": {"tag": place}});
            let body = manifest.to_string();
            ResponseTemplate::new(200)
                .insert_header("Docker-Content-Digest", Digest::of(body.as_bytes()).to_string())
                .set_body_raw(body, "application/vnd.oci.image.manifest.v1+json")
        };
        Mock::given(any()).respond_with(respond).mount(&server).await;
        Self { server, tags, listed }
    }

    fn listed(&self, repository: &str) -> usize {
        self.listed.lock().unwrap().get(&format!("/v2/{repository}")).copied().unwrap_or_default()
    }

    async fn project(&self, ground: &Ground, name: &str, repository: &str, interval: &str) {
        let repository = format!("{}/{repository}", self.server.address());
        let policy = json!({"semver": "*"});
        let image = json!({"repository": repository, "insecure": true, "policy": policy, "interval": interval});
        ground.make::<Project>(name, json!({"services": [{"name": "web", "image": image}]})).await;
    }
}

fn operator(ground: &Ground, url: &str) -> Running {
    Running::start(
        stagekeeper(&["controller"])
            .env("KUBECONFIG", kubeconfig())
            .env("DATABASE_URL", url)
            .env("STAGEKEEPER_PORT", free_port().to_string())
            .env("STAGEKEEPER_NAMESPACES", &ground.namespace)
            .env("STAGEKEEPER_LEASE_NAMESPACE", &ground.namespace),
    )
}

/// Waits until it is so.
async fn until<F: Future<Output = bool>>(what: &str, mut so: impl FnMut() -> F) {
    let waited = async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, waited).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

async fn latest(ground: &Ground, project: &str) -> Option<String> {
    let found = Api::<Project>::namespaced(ground.client.clone(), &ground.namespace).get(project).await.unwrap();
    found.status?.services.first()?.latest_tag.clone()
}

async fn reason(ground: &Ground, stage: &str) -> Option<String> {
    let found = Api::<Stage>::namespaced(ground.client.clone(), &ground.namespace).get(stage).await.unwrap();
    let conditions = found.status?.conditions;
    conditions.iter().find(|one| one.type_ == "ImagesCurrent").map(|one| one.reason.clone())
}

#[tokio::test]
async fn a_new_leader_asks_only_what_is_due_and_hears_what_a_person_accepts() {
    let (ground, registry, database) =
        (Ground::new("images-restart").await, Moving::new().await, TestDatabase::new().await);
    registry.project(&ground, "shop", "acme/slow", "1h").await;
    registry.project(&ground, "rapid", "acme/rapid", "1s").await;
    ground.make::<Stage>("dev", json!({"project": "rapid"})).await;
    let first = operator(&ground, &database.url);
    for project in ["shop", "rapid"] {
        until("a first answer", async || latest(&ground, project).await.as_deref() == Some("1.2.0")).await;
    }
    first.signal("TERM");
    assert_eq!(first.end().code, 0);
    assert_eq!(registry.listed("acme/slow"), 1);

    let second = operator(&ground, &database.url);
    registry.project(&ground, "blog", "acme/slow", "1h").await;
    until("the stored answer", async || latest(&ground, "blog").await.as_deref() == Some("1.2.0")).await;
    let rapid = registry.listed("acme/rapid");
    until("another scan", async || registry.listed("acme/rapid") > rapid).await;
    assert_eq!(registry.listed("acme/slow"), 1, "what is not due is not asked again");

    *registry.tags.lock().unwrap() = vec!["1.0.0", "1.3.0"];
    until("the frozen choice", async || reason(&ground, "dev").await.as_deref() == Some("TagListShrank")).await;
    let events: Api<Event> = Api::namespaced(ground.client.clone(), &ground.namespace);
    let told = async || {
        let all = events.list(&ListParams::default()).await.unwrap().items;
        all.into_iter().filter(|event| event.reason.as_deref() == Some("TagListShrank")).count()
    };
    until("an event", async || told().await == 1).await;
    let accept = || {
        let arguments = ["images", "accept", "rapid/dev", "web", "-n", &ground.namespace];
        run(stagekeeper(&arguments).env("KUBECONFIG", kubeconfig()).env("DATABASE_URL", &database.url))
    };
    // What is known is stored about a second later.
    until("what is stored", async || {
        let frozen = "SELECT count(*) FROM image_scans WHERE accepted <> tags";
        let sql = sqlx::PgPool::connect(&database.url).await.unwrap();
        sqlx::query_scalar::<_, i64>(frozen).fetch_one(&sql).await.unwrap() == 1
    })
    .await;
    assert!(accept().well().contains("has 2 tags, and had 3"));
    until("news of it", async || reason(&ground, "dev").await.as_deref() == Some("Answered")).await;
    until("a choice", async || latest(&ground, "rapid").await.as_deref() == Some("1.3.0")).await;
    assert_eq!(told().await, 1, "told once");
    second.signal("TERM");
    assert_eq!(second.end().code, 0);
    ground.clear().await;
}
