//! Signing in in front of environments, with a provider that really signs; longer than 500 lines because each way to cheat is a case
//! on the same stage, which takes a provider, a browser and an edge to build.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use reqwest::{Client, Method, RequestBuilder, Response, Url};
use serde_json::{Value, json};
use stagekeeper::{
    config::{Allow, EdgeOidc, Rules},
    domain::clock::Clock,
    edge::{Certificates, SignIn, table::ServiceView},
};
use tokio::net::TcpListener;

use super::{
    browser::Browser,
    browsing::is_readable,
    guarding::lock,
    lab::{Lab, PATIENCE, PREVIEW, STAGE, SUBDOMAIN, Upstream, in_time, until},
    outages::Process,
    provider::{CLIENT, Pair, Provider, SECRET},
    tls::Secret,
};

const HOME: &str = "auth.preview.test";
const OTHER: &str = "pr-43-b8f9d2k1p4m7.preview.test";
/// 2026-11-22T00:00:00Z.
const NOW: i64 = 1_795_305_600;
const SESSION: &str = "__Host-stagekeeper-session";
const LOGIN: &str = "__Host-stagekeeper-login";

/// A clock that stands still until it is moved.
struct Still(AtomicI64);

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::SeqCst)).unwrap()
    }
}

/// An edge over TLS at which people sign in, with an environment that has an address.
struct Stand {
    lab: Lab,
    provider: Provider,
    upstream: Upstream,
    sign_in: Arc<SignIn>,
    clock: Arc<Still>,
    files: Secret,
    key: PathBuf,
}

impl Stand {
    async fn new(name: &str) -> Self {
        Self::with(name, false, vec![Allow::Claim { name: "groups".into(), value: "dev".into() }]).await
    }

    async fn with(name: &str, password: bool, all: Vec<Allow>) -> Self {
        let files = Secret::new(&format!("sign-in-{name}"));
        let folder = files.certificate().parent().unwrap().to_owned();
        let (key, secret) = (folder.join("key"), folder.join("secret"));
        std::fs::write(&key, "0123456789abcdef0123456789abcdef\n").unwrap();
        std::fs::write(&secret, format!("{SECRET}\n")).unwrap();
        let provider = Provider::new(NOW).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let settings = EdgeOidc {
            issuer: provider.issuer.clone(),
            client_id: CLIENT.into(),
            secret_file: Some(secret),
            key_file: key.clone(),
            host: HOME.into(),
            port: Some(listener.local_addr().unwrap().port()),
            scopes: "openid email".into(),
            rules: Rules { text: format!("{all:?}"), all },
            session: Duration::from_hours(1),
        };
        let clock = Arc::new(Still(AtomicI64::new(NOW)));
        let sign_in = Arc::new(SignIn::open(settings, clock.clone()).unwrap());
        let tls = Certificates::open(&files.certificate(), &files.key()).unwrap().config().unwrap();
        let (guard, time) = (sign_in.clone(), clock.clone());
        let change = |setup: &mut stagekeeper::edge::Setup| {
            setup.clock = time;
            setup.sign_in = Some(guard);
            setup.lock = password.then(|| lock(name));
        };
        let mut lab = Lab::on(listener, change, Some(tls));
        let upstream = Upstream::new("a").await;
        let mut other = lab.preview().clone();
        (other.place, other.subdomain, other.hosts) = ("home-43".into(), "pr-43".into(), vec![OTHER.into()]);
        lab.objects.environments.insert(("shop".into(), "pr-43".into()), other);
        lab.lead_preview(&[upstream.address]);
        lab.lead_stage(&[upstream.address]);
        Self { lab, provider, upstream, sign_in, clock, files, key }
    }

    fn url(&self, host: &str, path: &str) -> String {
        format!("https://{host}:{}{path}", self.lab.address.port())
    }

    fn visitor(&self) -> Visitor {
        let builder = Client::builder()
            .no_proxy()
            .timeout(PATIENCE)
            .redirect(reqwest::redirect::Policy::none())
            .tls_danger_accept_invalid_certs(true);
        let hosts = [PREVIEW, OTHER, HOME, STAGE];
        let builder = hosts.iter().fold(builder, |builder, host| builder.resolve(host, self.lab.address));
        Visitor { client: builder.build().unwrap(), cookies: HashMap::new() }
    }

    /// The address with the ticket that a visitor gets who has signed in.
    async fn ticket(&self, visitor: &mut Visitor) -> String {
        let mut url = self.url(PREVIEW, "/deep?q=1");
        while !url.contains("/.stagekeeper/enter?") {
            let answer = visitor.page(&url).await;
            assert_eq!(answer.status().as_u16() / 100, 3, "{url}");
            url = answer.text_of("location").unwrap();
        }
        url
    }
}

/// Somebody with a browser's cookies.
struct Visitor {
    client: Client,
    cookies: HashMap<String, BTreeMap<String, String>>,
}

impl Visitor {
    fn ask(&self, method: Method, url: &str) -> RequestBuilder {
        let host = Url::parse(url).unwrap().host_str().unwrap().to_owned();
        let request = self.client.request(method, url);
        match self.cookies.get(&host).filter(|jar| !jar.is_empty()) {
            None => request,
            Some(jar) => {
                let pairs: Vec<String> = jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
                request.header("cookie", pairs.join("; "))
            }
        }
    }

    /// One request for a page, as a browser makes it.
    async fn page(&mut self, url: &str) -> Response {
        let asked = self.ask(Method::GET, url).header("accept", "text/html").header("sec-fetch-mode", "navigate");
        let answer = asked.send().await.unwrap();
        let jar = self.cookies.entry(Url::parse(url).unwrap().host_str().unwrap().to_owned()).or_default();
        for cookie in answer.headers().get_all("set-cookie") {
            let (name, rest) = cookie.to_str().unwrap().split_once('=').unwrap();
            let (value, attributes) = rest.split_once(';').unwrap();
            assert_eq!(attributes.matches("Secure").count(), 1, "{attributes}");
            assert!(attributes.contains("HttpOnly") && attributes.contains("SameSite=Lax"), "{attributes}");
            assert!(attributes.contains("Path=/") && !attributes.contains("Domain"), "{attributes}");
            if attributes.contains("Max-Age=0") {
                jar.remove(name);
            } else {
                jar.insert(name.to_owned(), value.to_owned());
            }
        }
        answer
    }

    /// The last answer of a page that leads elsewhere, and where it is.
    async fn follow(&mut self, url: &str) -> (Response, String) {
        let mut url = url.to_owned();
        for _ in 0..8 {
            let answer = self.page(&url).await;
            if !answer.status().is_redirection() {
                return (answer, url);
            }
            assert!(answer.text_of("cache-control").is_none_or(|kept| kept == "no-store"));
            url = answer.text_of("location").unwrap();
        }
        panic!("it leads around for ever: {url}");
    }

    fn cookie(&self, host: &str, name: &str) -> Option<&String> {
        self.cookies.get(host)?.get(name)
    }
}

trait TextOf {
    fn text_of(&self, name: &str) -> Option<String>;
}

impl TextOf for Response {
    fn text_of(&self, name: &str) -> Option<String> {
        Some(self.headers().get(name)?.to_str().unwrap().to_owned())
    }
}

#[tokio::test]
async fn a_browser_signs_in_and_the_application_sees_nothing_of_it() {
    let stand = Stand::new("flow").await;
    let mut visitor = stand.visitor();
    let (url, first) = (stand.url(PREVIEW, "/deep?q=1"), visitor.page(&stand.url(PREVIEW, "/deep?q=1")).await);
    assert_eq!(first.status(), 303);
    assert_eq!(
        (first.text_of("x-robots-tag").as_deref(), first.text_of("cache-control").as_deref()),
        (Some("noindex"), Some("no-store"))
    );
    let to = first.text_of("location").unwrap();
    assert!(to.starts_with(&format!("{}/authorize?", stand.provider.issuer)), "{to}");
    assert!(!to.contains("deep") && !to.contains(PREVIEW), "what is in the state is nobody's to read: {to}");
    assert_eq!(stand.upstream.asked(), 0);
    stand.lab.edge.write_visits().await;
    assert!(stand.lab.told.touches.lock().unwrap().is_empty(), "who does not get in keeps nothing awake");

    let (answer, at) = visitor.follow(&url).await;
    assert_eq!((answer.status().as_u16(), at.as_str()), (200, url.as_str()));
    let text = answer.text().await.unwrap();
    assert!(text.starts_with("a GET /deep?q=1 0\n") && !text.contains("cookie") && !text.contains("__Host"), "{text}");
    assert!(visitor.cookie(PREVIEW, SESSION).is_some() && visitor.cookie(PREVIEW, LOGIN).is_none());
    assert!(visitor.cookie(HOME, SESSION).is_none(), "nothing is kept at the host of the provider's way back");

    // From now on nobody else is asked, whatever is sent.
    visitor.cookies.get_mut(PREVIEW).unwrap().insert("theme".into(), "dark".into());
    let answer = visitor.ask(Method::POST, &url).bearer_auth("theirs").body("x").send().await.unwrap();
    let text = answer.text().await.unwrap();
    assert!(text.contains("cookie: theme=dark\n") && text.contains("authorization: Bearer theirs\n"), "{text}");
    assert_eq!(stand.provider.book.lock().unwrap().redeemed, 1);

    // It is a session for one host, and for one hour.
    let session = visitor.cookies[PREVIEW].clone();
    visitor.cookies.insert(OTHER.into(), session);
    assert_eq!(visitor.page(&stand.url(OTHER, "/")).await.status(), 303);
    stand.clock.0.store(NOW + 3599, Ordering::SeqCst);
    assert_eq!(visitor.page(&url).await.status(), 200);
    stand.clock.0.store(NOW + 3600, Ordering::SeqCst);
    assert_eq!(visitor.page(&url).await.status(), 303);
}

#[tokio::test]
async fn stages_are_open_and_programs_are_told() {
    let stand = Stand::new("programs").await;
    let mut visitor = stand.visitor();
    assert_eq!(visitor.page(&stand.url(STAGE, "/")).await.status(), 200);
    let url = stand.url(PREVIEW, "/");
    let upgrade = |request: RequestBuilder| {
        let request = request.header("connection", "upgrade").header("upgrade", "websocket");
        request.header("sec-websocket-version", "13").header("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA==")
    };
    let cases = [
        visitor.ask(Method::GET, &url),
        visitor.ask(Method::GET, &url).header("accept", "application/json"),
        visitor.ask(Method::POST, &url).header("accept", "text/html"),
        visitor.ask(Method::GET, &url).header("accept", "text/html").header("sec-fetch-mode", "cors"),
        visitor.ask(Method::GET, &url).header("cookie", format!("{SESSION}=forged")),
        visitor.ask(Method::GET, &url).bearer_auth("x"),
        upgrade(visitor.ask(Method::GET, &url)).version(reqwest::Version::HTTP_11),
    ];
    let asked = stand.upstream.asked();
    for request in cases {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 401);
        assert_eq!(answer.text_of("www-authenticate").unwrap(), "Session realm=\"preview\"");
        assert!(answer.text_of("location").is_none() && answer.text_of("set-cookie").is_none());
        let text = answer.text().await.unwrap();
        assert!(text.contains("Open this address in a browser to sign in"), "{text}");
    }
    assert_eq!(stand.upstream.asked(), asked);

    // With a session they are let in; a page of another site does not use it to listen.
    visitor.follow(&url).await;
    let one_client = |origin: &str| {
        let builder = Client::builder().no_proxy().http1_only().tls_danger_accept_invalid_certs(true);
        let client = builder.resolve(PREVIEW, stand.lab.address).build().unwrap();
        let cookie = format!("{SESSION}={}", visitor.cookie(PREVIEW, SESSION).unwrap());
        upgrade(client.get(&url)).header("cookie", cookie).header("origin", origin).send()
    };
    let own = stand.url(PREVIEW, "");
    for (origin, code) in [(own.as_str(), 200), ("https://pr-43.preview.test", 403), ("null", 403)] {
        assert_eq!(one_client(origin).await.unwrap().status().as_u16(), code, "{origin}");
    }
}

#[tokio::test]
async fn what_is_almost_a_token_opens_nothing() {
    let stand = Stand::new("tokens").await;
    let with = |name: &'static str, value: Value| -> super::provider::Sign {
        Box::new(move |pair, mut claims| {
            claims[name] = value.clone();
            pair.sign(&claims)
        })
    };
    let cases: Vec<(&str, u16, super::provider::Sign)> = vec![
        ("ended", 400, with("exp", json!(NOW))),
        ("another audience", 400, with("aud", json!("other"))),
        ("several audiences and no party", 400, with("aud", json!([CLIENT, "other"]))),
        ("another party", 400, with("azp", json!("other"))),
        ("another issuer", 400, with("iss", json!("https://elsewhere.test"))),
        ("another nonce", 400, with("nonce", json!("other"))),
        ("no nonce", 400, with("nonce", json!(null))),
        ("nobody", 400, with("sub", json!(""))),
        ("another key of the same name", 400, Box::new(|_, claims| Pair::new("one").sign(&claims))),
        ("a key that nobody knows", 400, Box::new(|_, claims| Pair::new("two").sign(&claims))),
        ("signed with the public key", 400, Box::new(|pair, claims| pair.confuse(&claims))),
        ("no token", 400, Box::new(|_, _| "opaque".into())),
        ("other groups", 403, with("groups", json!(["sales"]))),
        ("no groups", 403, with("groups", json!(null))),
    ];
    for (name, code, sign) in cases {
        stand.provider.change(|book| book.sign = sign);
        let mut visitor = stand.visitor();
        let (answer, at) = visitor.follow(&stand.url(PREVIEW, "/")).await;
        assert_eq!(answer.status().as_u16(), code, "{name}");
        assert!(at.contains(HOME), "{name}: {at}");
        assert!(visitor.cookie(PREVIEW, SESSION).is_none(), "{name}");
        assert_eq!(answer.text_of("cache-control").unwrap(), "no-store");
    }
    assert_eq!(stand.upstream.asked(), 0);
    stand.provider.change(|book| book.sign = Box::new(|pair, claims| pair.sign(&claims)));
    assert_eq!(stand.visitor().follow(&stand.url(PREVIEW, "/")).await.0.status(), 200);
}

#[tokio::test]
async fn a_ticket_is_for_one_browser_one_host_and_once() {
    let stand = Stand::new("tickets").await;
    let mut visitor = stand.visitor();
    let ticket = stand.ticket(&mut visitor).await;
    assert!(ticket.starts_with(&stand.url(PREVIEW, "/.stagekeeper/enter?ticket=")), "{ticket}");

    assert_eq!(stand.visitor().page(&ticket).await.status(), 400, "another browser");
    // Another browser that is about to sign in itself.
    let mut thief = stand.visitor();
    thief.page(&stand.url(PREVIEW, "/")).await;
    assert_eq!(thief.page(&ticket).await.status(), 400);
    assert!(thief.cookie(PREVIEW, SESSION).is_none());
    let elsewhere = ticket.replace(PREVIEW, OTHER);
    visitor.page(&stand.url(OTHER, "/")).await;
    assert_eq!(visitor.page(&elsewhere).await.status(), 400, "another host");
    let mut forged = ticket.clone();
    forged.replace_range(ticket.len() - 3.., "AAA");
    assert_eq!(visitor.page(&forged).await.status(), 400, "a forged one");

    let login = visitor.cookies[PREVIEW].clone();
    let entered = visitor.page(&ticket).await;
    assert_eq!(entered.text_of("location").unwrap(), stand.url(PREVIEW, "/deep?q=1"));
    assert!(visitor.cookie(PREVIEW, SESSION).is_some());
    visitor.cookies.insert(PREVIEW.into(), login);
    assert_eq!(visitor.page(&ticket).await.status(), 400, "a second time");

    let mut slow = stand.visitor();
    let late = stand.ticket(&mut slow).await;
    stand.clock.0.store(NOW + 60, Ordering::SeqCst);
    assert_eq!(slow.page(&late).await.status(), 400, "too late");
}

#[tokio::test]
async fn nobody_comes_back_who_was_not_sent() {
    let mut stand = Stand::new("states").await;
    // Somebody would like to stand where the provider comes back to.
    let claims = ServiceView { created: 0, hosts: vec![HOME.into()], port: "http".into(), project: None };
    stand.lab.objects.services.insert(("evil".into(), "web".into()), claims);
    stand.lab.lead("evil", &[stand.upstream.address]);
    let mut visitor = stand.visitor();
    let sent = visitor.page(&stand.url(PREVIEW, "/")).await.text_of("location").unwrap();
    let back = visitor.page(&sent).await.text_of("location").unwrap();
    let redeemed = || stand.provider.book.lock().unwrap().redeemed;
    let cases = [
        ("no state", stand.url(HOME, "/.stagekeeper/callback?code=x"), 400),
        ("a forged state", back.replace("state=", "state=A"), 400),
        ("another issuer", back.replace("iss=", "iss=https%3A%2F%2Felsewhere"), 400),
        ("no code", back.replace("code=", "kode="), 403),
        ("at a host of an environment", back.replace(HOME, PREVIEW), 404),
        ("somewhere else", stand.url(HOME, "/"), 404),
        ("elsewhere below", stand.url(PREVIEW, "/.stagekeeper/"), 404),
    ];
    for (name, url, code) in cases {
        let answer = visitor.page(&url).await;
        assert_eq!((answer.status().as_u16(), redeemed()), (code, 0), "{name}");
        assert!(answer.text_of("location").is_none(), "{name}");
    }
    assert_eq!(visitor.page(&back).await.status(), 303);
    assert_eq!((visitor.page(&back).await.status().as_u16(), redeemed()), (400, 2), "a code is worth something once");
    stand.clock.0.store(NOW + 600, Ordering::SeqCst);
    assert_eq!((visitor.page(&back).await.status().as_u16(), redeemed()), (400, 2), "too late");

    stand.provider.change(|book| book.denies = true);
    let (answer, _) = stand.visitor().follow(&stand.url(PREVIEW, "/")).await;
    assert_eq!(answer.status(), 403);
    let text = answer.text().await.unwrap();
    assert!(!text.contains("secret words"), "{text}");
    assert_eq!(stand.upstream.asked(), 0);
}

/// What looks like an address of somebody else stays a path of this host.
#[tokio::test]
async fn nobody_is_led_elsewhere() {
    let stand = Stand::new("paths").await;
    for path in ["//evil.test/x", "/\\evil.test", "/%0d%0aLocation:%20https://evil.test", "/?to=https://evil.test"] {
        let mut visitor = stand.visitor();
        let (answer, at) = visitor.follow(&stand.url(PREVIEW, path)).await;
        assert_eq!(answer.status(), 200, "{path}");
        assert!(at.starts_with(&stand.url(PREVIEW, "/")), "{path}: {at}");
    }
    let long = format!("/{}", "x".repeat(3000));
    let (answer, at) = stand.visitor().follow(&stand.url(PREVIEW, &long)).await;
    assert_eq!((answer.status().as_u16(), at), (200, stand.url(PREVIEW, "/")), "a longer one than providers take");
}

#[tokio::test]
async fn sessions_end_when_asked_with_the_key_and_with_the_providers_keys_nothing_ends() {
    let stand = Stand::new("ends").await;
    let url = stand.url(PREVIEW, "/");
    let mut visitor = stand.visitor();
    visitor.follow(&url).await;
    let kept = visitor.cookies.clone();
    let answer = visitor.page(&stand.url(PREVIEW, "/.stagekeeper/sign-out")).await;
    assert_eq!(answer.status(), 200);
    assert!(visitor.cookie(PREVIEW, SESSION).is_none());
    assert_eq!(visitor.page(&url).await.status(), 303);

    // The provider signs with another key from now on: who is in stays in, and who comes is let in.
    stand.provider.change(|book| book.pair = Pair::new("two"));
    visitor.cookies = kept;
    assert_eq!(visitor.page(&url).await.status(), 200);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(10)).await;
    tokio::time::resume();
    assert_eq!(stand.visitor().follow(&url).await.0.status(), 200);

    std::fs::write(&stand.key, "short\n").unwrap();
    assert!(stand.sign_in.look_again().unwrap_err().contains("32 characters"));
    assert_eq!(visitor.page(&url).await.status(), 200, "the one before still holds");
    std::fs::write(&stand.key, "another key, of which nobody knows\n").unwrap();
    assert_eq!(stand.sign_in.look_again(), Ok(true));
    assert_eq!(visitor.page(&url).await.status(), 303);
    assert!(stand.files.key().exists());
}

#[tokio::test]
async fn beside_a_password_both_open() {
    let stand = Stand::with("both", true, vec![Allow::Domain("acme.test".into())]).await;
    let url = stand.url(PREVIEW, "/");
    let visitor = stand.visitor();
    let answer = visitor.ask(Method::GET, &url).send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), answer.text_of("www-authenticate").unwrap().starts_with("Basic ")),
        (401, true)
    );
    let answer = visitor.ask(Method::GET, &url).basic_auth("ci", Some("open sesame")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(!answer.text().await.unwrap().contains("authorization"));
    assert_eq!(stand.visitor().follow(&url).await.0.status(), 200);
    stand.provider.change(|book| book.person["email_verified"] = json!(false));
    assert_eq!(stand.visitor().follow(&url).await.0.status(), 403);
}

/// Cookies of sessions are for TLS only, so nobody signs in without.
#[tokio::test]
async fn without_tls_one_is_sent_to_it() {
    let stand = Stand::new("plain").await;
    let guard = stand.sign_in.clone();
    let lab = Lab::with(|setup| setup.sign_in = Some(guard)).await;
    let answer = lab.caller().get(lab.url(PREVIEW, "/x?y=1")).header("accept", "text/html").send().await.unwrap();
    assert_eq!(answer.status(), 308);
    assert_eq!(answer.text_of("location").unwrap(), format!("https://{PREVIEW}/x?y=1"));
}

#[tokio::test]
async fn a_provider_that_is_away_lets_nobody_in() {
    let stand = Stand::new("away").await;
    let settings = |issuer: &str| EdgeOidc {
        issuer: issuer.into(),
        client_id: CLIENT.into(),
        secret_file: None,
        key_file: stand.key.clone(),
        host: HOME.into(),
        port: None,
        scopes: "openid".into(),
        rules: Rules { text: "anyone".into(), all: vec![Allow::Anyone] },
        session: Duration::from_mins(1),
    };
    let sign_in = Arc::new(SignIn::open(settings("http://127.0.0.1:1"), stand.clock.clone()).unwrap());
    let tls = Certificates::open(&stand.files.certificate(), &stand.files.key()).unwrap().config().unwrap();
    let mut lab = Lab::behind(|setup| setup.sign_in = Some(sign_in), Some(tls)).await;
    lab.lead_preview(&[stand.upstream.address]);
    let caller = lab.caller_with(|builder| builder.tls_danger_accept_invalid_certs(true));
    let url = format!("https://{PREVIEW}:{}/", lab.address.port());
    let answer = caller.get(url).header("accept", "text/html").send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.text_of("retry-after").as_deref()), (503, Some("5")));
    assert!(answer.text().await.unwrap().contains("Nobody can sign in right now"));
    assert_eq!(stand.upstream.asked(), 0);
}

/// The process takes its settings, and logs nothing of what is in addresses. Nobody else has to be there.
#[tokio::test]
async fn the_process_is_told_all_of_it() {
    let stand = Stand::new("process").await;
    let folder = stand.key.parent().unwrap().to_owned();
    let kubeconfig = folder.join("kubeconfig");
    let nowhere = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "none",
        "clusters": [{"name": "none", "cluster": {"server": "https://127.0.0.1:1"}}],
        "contexts": [{"name": "none", "context": {"cluster": "none", "user": "none"}}],
        "users": [{"name": "none", "user": {"token": "none"}}],
    });
    std::fs::write(&kubeconfig, nowhere.to_string()).unwrap();
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let files = [path("kubeconfig"), path("tls.crt"), path("tls.key"), path("key"), path("secret")];
    let [kubeconfig, certificate, certificate_key, key, secret] = &files;
    let variables = [
        ("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none"),
        ("KUBECONFIG", kubeconfig.as_str()),
        ("STAGEKEEPER_EDGE_TLS_CERT", certificate.as_str()),
        ("STAGEKEEPER_EDGE_TLS_KEY", certificate_key.as_str()),
        ("STAGEKEEPER_EDGE_ACCESS_LOG", "true"),
        ("STAGEKEEPER_EDGE_OIDC_ISSUER", stand.provider.issuer.as_str()),
        ("STAGEKEEPER_EDGE_OIDC_CLIENT_ID", CLIENT),
        ("STAGEKEEPER_EDGE_OIDC_SECRET_FILE", secret.as_str()),
        ("STAGEKEEPER_EDGE_OIDC_KEY_FILE", key.as_str()),
        ("STAGEKEEPER_EDGE_OIDC_HOST", HOME),
        ("STAGEKEEPER_EDGE_OIDC_ALLOW", "group:dev"),
    ];
    let process = Process::with(&variables).await;
    let builder = Client::builder().no_proxy().timeout(PATIENCE).tls_danger_accept_invalid_certs(true);
    let client = builder.resolve(HOME, ([127, 0, 0, 1], process.tls).into()).build().unwrap();
    let url = format!("https://{HOME}:{}/.stagekeeper/callback?code=hunter2&state=hunter3", process.tls);
    let answer = in_time("it listens", async {
        loop {
            if let Ok(answer) = client.get(&url).header("accept", "text/html").send().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let answer = answer.await;
    assert_eq!(answer.status(), 400);
    assert!(answer.text().await.unwrap().contains("Signing in did not work"));
    process.until_logged("/.stagekeeper/callback").await;
    let log = process.logged();
    for secret in ["hunter", SECRET, "0123456789abcdef"] {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
    drop(process);

    std::fs::write(key, "short\n").unwrap();
    let mut process = Process::with(&variables).await;
    process.until_logged("under 32 characters").await;
    let ended = tokio::task::spawn_blocking(move || process.child.wait().unwrap());
    assert!(!in_time("it ends", ended).await.unwrap().success());
}

/// All of it once more in a real browser, which keeps its own rules about cookies.
#[tokio::test]
async fn a_real_browser_signs_in_waits_for_what_sleeps_and_signs_out() {
    let mut stand = Stand::new("browser").await;
    stand.lab.sleep();
    let mut browser = Browser::new().await;
    browser.visit(&stand.url(PREVIEW, "/deep?q=1#part")).await;
    browser.until("document.title === 'This preview is waking up'").await;
    until("it is woken", || *stand.lab.told.wakes.lock().unwrap() == [SUBDOMAIN]).await;
    stand.lab.awaken(&[stand.upstream.address]);
    browser.until("document.body.innerText.startsWith('a GET /deep?q=1 0')").await;
    let text = browser.read("document.body.innerText").await.to_string();
    assert!(!text.contains("cookie") && !text.contains("__Host"), "{text}");
    assert_eq!(browser.read("document.cookie").await, "", "no script reads it");
    let last = browser.documents().pop().unwrap();
    assert!(last.url.starts_with(&stand.url(PREVIEW, "/deep?q=1")), "{}", last.url);

    browser.visit(&stand.url(PREVIEW, "/.stagekeeper/sign-out")).await;
    is_readable(&mut browser, "You are signed out", false).await;
    stand.provider.change(|book| book.denies = true);
    browser.visit(&stand.url(PREVIEW, "/")).await;
    browser.until("document.title === 'This preview is not open to you'").await;
    is_readable(&mut browser, "This preview is not open to you", false).await;
    browser.close().await;
}
