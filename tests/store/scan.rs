//! Questions to registries with logins from the safe: how often one is opened, and what of it comes back.

use std::{
    ops::AddAssign as _,
    sync::{Arc, Mutex},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::{SignedDuration, Timestamp};
use stagekeeper::{
    controllers::{
        images::{About, Asked, Asker as _, Dates, LoginRef, Question, Refusal, Reply},
        scan::Registries,
    },
    crypto::Keyring,
    domain::{
        actor::Actor,
        clock::{Clock, SystemIds},
        credential::CredentialKind,
        image::Digest,
    },
    safe::{
        Deposit, Owner, Safe,
        login::{Login, to_value},
    },
};
use wiremock::{Mock, MockServer, Request, ResponseTemplate, matchers::path};

use crate::fixture::{Shop, at};

/// What error codes of registries may look like, so that a registry can have it repeated.
const PASSWORD: &str = "HUNTER2_CANARY";
const LIST: &str = "/v2/acme/shop/tags/list";

fn asked(question: Question) -> Asked {
    Asked { question: Arc::new(question), validator: None, dates: Arc::default(), dated: [].into() }
}

struct Hand(Mutex<Timestamp>);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

struct Bench {
    shop: Shop,
    safe: Safe,
    registries: Registries,
    server: MockServer,
    clock: Arc<Hand>,
}

impl Bench {
    async fn new() -> Self {
        let shop = Shop::new().await;
        let clock = Arc::new(Hand(Mutex::new(at(100))));
        let keys = Keyring::parse(&format!("2026:{}", "1c".repeat(32))).unwrap();
        let store = shop.database.store.clone();
        let safe = Safe::new(store.clone(), Arc::new(keys), clock.clone(), Arc::new(SystemIds));
        safe.ready().await.unwrap();
        let registries = Registries::new(store, Some(safe.clone()), clock.clone()).unwrap();
        Self { shop, safe, registries, server: MockServer::start().await, clock }
    }

    async fn store(&self, secret: &str) {
        let host = self.server.address().to_string();
        let login = Login { host: host.clone(), user: "bob".into(), secret: secret.to_owned().into() };
        let deposit = Deposit {
            name: "ghcr",
            kind: CredentialKind::Registry,
            value: &to_value(&[login]),
            hosts: vec![host],
            origin: "command line".into(),
            expires_at: None,
            actor: Actor::User("jane".into()),
        };
        let owner = Owner { project: self.shop.project, namespace: "acme", name: "shop" };
        self.safe.put(&owner, &deposit).await.unwrap();
    }

    async fn ask(&self) -> Result<Reply, Refusal> {
        let question = Question {
            repository: format!("{}/acme/shop", self.server.address()).parse().unwrap(),
            insecure: true,
            login: Some(LoginRef { namespace: "acme".into(), project: "shop".into(), credential: "ghcr".into() }),
            about: About::Tags,
        };
        self.registries.ask(asked(question)).await
    }

    async fn opened(&self) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM credential_uses WHERE purpose LIKE 'ask %'")
            .fetch_one(&self.shop.sql)
            .await
            .unwrap()
    }

    /// Lets in whoever has this secret, with basic authentication.
    async fn guard(&self, secret: &str) {
        let expected = format!("Basic {}", STANDARD.encode(format!("bob:{secret}")));
        let guard = move |request: &Request| {
            let sent = request.headers.get("authorization").map(|value| value.to_str().unwrap());
            if sent == Some(&expected) {
                ResponseTemplate::new(200).set_body_string(r#"{"tags":["1.0.0"]}"#)
            } else {
                ResponseTemplate::new(401).append_header("WWW-Authenticate", "Basic")
            }
        };
        self.server.reset().await;
        Mock::given(path(LIST)).respond_with(guard).mount(&self.server).await;
    }
}

#[tokio::test]
async fn a_login_is_opened_and_recorded_once_an_hour_and_when_it_has_changed() {
    let bench = Bench::new().await;
    bench.guard("one").await;
    bench.store("one").await;
    for _ in 0..5 {
        bench.ask().await.unwrap();
    }
    assert_eq!(bench.opened().await, 1);
    *bench.clock.0.lock().unwrap() += SignedDuration::from_hours(1);
    bench.ask().await.unwrap();
    assert_eq!(bench.opened().await, 2);
    // Another project, or one in another namespace, is somebody else.
    bench.registries.forget("acme", "blog");
    bench.registries.forget("other", "shop");
    bench.ask().await.unwrap();
    assert_eq!(bench.opened().await, 2);
    bench.registries.forget("acme", "shop");
    bench.ask().await.unwrap();
    assert_eq!(bench.opened().await, 3);
}

#[tokio::test]
async fn a_login_that_is_refused_is_opened_anew_for_the_next_question() {
    let bench = Bench::new().await;
    bench.guard("right").await;
    bench.store("wrong").await;
    assert_eq!(bench.ask().await.unwrap_err().reason, "RegistryDenied");
    bench.store("right").await;
    bench.ask().await.unwrap();
    assert_eq!(bench.opened().await, 2);
}

/// A registry that says everything that it was told, wherever it can.
#[tokio::test]
async fn what_a_registry_echoes_of_a_login_is_masked() {
    let mut bench = Bench::new().await;
    let pair = STANDARD.encode(format!("bob:{PASSWORD}"));
    let forms = [PASSWORD.to_owned(), pair.clone(), STANDARD.encode(PASSWORD), hex::encode(PASSWORD)];
    bench.store(PASSWORD).await;
    let basic = || ResponseTemplate::new(401).append_header("WWW-Authenticate", "Basic");
    let token = format!(r#"Bearer realm="http://{}/token""#, bench.server.address());
    let mut said = Vec::new();
    for (place, to) in [("ftp", "ftp"), ("realm", "https")] {
        bench.server.reset().await;
        let answer = if place == "ftp" {
            ResponseTemplate::new(307).append_header("Location", format!("{to}://{PASSWORD}/").as_str())
        } else {
            let realm = format!(r#"Bearer realm="{to}://{PASSWORD}.test/""#);
            ResponseTemplate::new(401).append_header("WWW-Authenticate", realm.as_str())
        };
        Mock::given(path(LIST)).respond_with(answer).mount(&bench.server).await;
        said.push(bench.ask().await.unwrap_err());
    }
    // The last one is left alone after that.
    for status in [400, 401, 403, 404, 500, 429] {
        for form in &forms {
            // Whoever answered 429 is left alone for a while; by another client it is not.
            bench.registries =
                Registries::new(bench.shop.database.store.clone(), Some(bench.safe.clone()), bench.clock.clone())
                    .unwrap();
            let echo = ResponseTemplate::new(status)
                .append_header(
                    "WWW-Authenticate",
                    format!(r#"Bearer realm="http://{form}.test/",service="{form}""#).as_str(),
                )
                .append_header("Retry-After", form.as_str())
                .append_header("Location", format!("ftp://{form}/").as_str())
                .set_body_string(format!(
                    r#"{{"errors":[{{"code":"{form}","message":"{form}"}}],"details":"{form}"}}"#
                ));
            for challenge in [basic(), ResponseTemplate::new(401).append_header("WWW-Authenticate", token.as_str())] {
                bench.server.reset().await;
                Mock::given(path(LIST)).respond_with(challenge).up_to_n_times(1).mount(&bench.server).await;
                Mock::given(path(LIST)).respond_with(echo.clone()).with_priority(9).mount(&bench.server).await;
                Mock::given(path("/token")).respond_with(echo.clone()).mount(&bench.server).await;
                // The second one is asked with what the first one left.
                for _ in 0..2 {
                    match bench.ask().await {
                        Err(refusal) => said.push(refusal),
                        Ok(Reply::Later) if status == 429 => {}
                        other => panic!("{status}: {other:?}"),
                    }
                }
            }
        }
    }
    let masked = said.iter().filter(|refusal| refusal.message.contains("***")).count();
    assert!(masked > 3, "something was to be masked: {masked} of {}", said.len());
    for refusal in said {
        let text = refusal.message.to_ascii_lowercase();
        for form in &forms {
            assert!(!text.contains(&form.to_ascii_lowercase()), "{form}: {}", refusal.message);
        }
    }
}

#[tokio::test]
async fn dates_are_read_a_hundred_requests_at_a_time_and_each_digest_once() {
    let bench = Bench::new().await;
    let config = r#"{"created":"2026-03-01T12:00:00Z","architecture":"amd64","os":"linux"}"#;
    let blob = Digest::of(config.as_bytes());
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{blob}","size":{}}},"layers":[]}}"#,
        config.len()
    );
    let digest = Digest::of(manifest.as_bytes());
    let requests = Arc::new(Mutex::new(Vec::<String>::new()));
    let seen = requests.clone();
    let respond = move |request: &Request| {
        let place = request.url.path().to_owned();
        seen.lock().unwrap().push(format!("{} {place}", request.method));
        if place.ends_with("/manifests/main-gone") {
            return ResponseTemplate::new(404);
        }
        if place.contains("/manifests/") {
            let kind = "application/vnd.oci.image.manifest.v1+json";
            let answer = ResponseTemplate::new(200).insert_header("Docker-Content-Digest", digest.to_string());
            return answer.set_body_raw(manifest.clone(), kind);
        }
        ResponseTemplate::new(200).set_body_raw(config, "application/octet-stream")
    };
    Mock::given(wiremock::matchers::any()).respond_with(respond).mount(&bench.server).await;
    let mut dated: Vec<String> = (0..150).map(|n| format!("main-{n:03}")).collect();
    dated.insert(0, "main-gone".into());
    let question = Question {
        repository: format!("{}/acme/shop", bench.server.address()).parse().unwrap(),
        insecure: true,
        login: None,
        about: About::Dates(None),
    };
    let mut dates = Arc::new(Dates::default());
    let mut counts = Vec::new();
    for _ in 0..3 {
        let asked = Asked { dates: dates.clone(), dated: dated.clone().into(), ..asked(question.clone()) };
        let Ok(Reply::Dates(found)) = bench.registries.ask(asked).await else { panic!("no dates") };
        counts.push(std::mem::take(&mut *requests.lock().unwrap()).len());
        dates = Arc::new(found);
        bench.clock.0.lock().unwrap().add_assign(SignedDuration::from_mins(1));
    }
    assert!(counts.iter().all(|count| *count <= 101), "{counts:?}");
    assert_eq!(dates.read(&dated), 151);
    assert!(dates.get("main-gone").unwrap().unfit.as_ref().unwrap().contains("main-gone"));
    let one = dates.get("main-007").unwrap();
    assert_eq!((one.digest, one.created), (Some(digest), Some("2026-03-01T12:00:00Z".parse().unwrap())));
    // All are known: those for which it is longest ago are looked at again.
    let oldest = dated.iter().filter(|tag| dates.get(tag).unwrap().looked_at == at(100)).count();
    assert!(oldest < 60, "{oldest}: the second and third scan began where the first had ended");
}
