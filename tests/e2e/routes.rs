//! Routes from outside: the objects that are rendered, who must accept them, and where they lead after a switch. The
//! cluster has no controller for them, so tests play it.

use std::time::Duration;

use k8s_openapi::{
    api::{
        core::v1::Service,
        networking::v1::{Ingress, IngressRule},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    runtime::wait::{await_condition, conditions},
};
use serde_json::{Value, json};
use stagekeeper::{
    api::{Stage, labels},
    domain::deploy::State,
    render::{HttpRoute, names},
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    cluster::{DEADLINE, Env},
    operator::Operator,
    shop,
};

/// Gives an address to every Ingress of one class, as its controller would.
fn serve_ingresses(env: &Env, class: &'static str) -> AbortOnDropHandle<()> {
    let ingresses = env.api::<Ingress>();
    AbortOnDropHandle::new(tokio::spawn(async move {
        let address = Patch::Merge(json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}}));
        loop {
            for ingress in ingresses.list(&ListParams::default()).await.expect("a list") {
                let spec = ingress.spec.clone().expect("a spec");
                let served = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref());
                let served = served.is_some_and(|balancer| balancer.ingress.is_some());
                if !served && spec.ingress_class_name.as_deref() == Some(class) {
                    // It may be gone by now.
                    let _ = ingresses.patch_status(&ingress.name_any(), &PatchParams::default(), &address).await;
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }))
}

/// Host, Service and port that an Ingress leads to.
fn leads(ingress: &Ingress) -> (String, String, i32) {
    let spec = ingress.spec.as_ref().expect("a spec");
    let [IngressRule { host: Some(host), http: Some(http) }] = &spec.rules.as_ref().unwrap()[..] else {
        panic!("one rule: {spec:?}")
    };
    let [path] = &http.paths[..] else { panic!("one path: {spec:?}") };
    assert_eq!((path.path.as_deref(), &*path.path_type), (Some("/"), "Prefix"));
    let service = path.backend.service.as_ref().unwrap();
    (host.clone(), service.name.clone(), service.port.as_ref().unwrap().number.unwrap())
}

#[tokio::test]
async fn an_ingress_stays_and_its_service_moves_at_the_switch() {
    let env = Env::new("ingress").await;
    env.push("web", "1.0.0", &[]).await;
    let operator = Operator::start(&env).await;
    let _controller = serve_ingresses(&env, "served");
    env.apply(&shop::project("")).await;
    let route = "route: {host: shop.example.com, instanceHost: '{instance}.shop.example.com', className: served, \
                 tlsSecret: shop-tls, annotations: {example.com/timeout: '5'}}";
    env.apply(&shop::stage(&format!("{route}, rollback: {{keepPrevious: 1s}}"))).await;
    let first = shop::serves(&env, "production", "web 1.0.0").await;
    let own = |instance: &str| names::instance_service("production", "web", instance);
    let old = first.active.unwrap();

    assert_eq!(first.url.as_deref(), Some("https://shop.example.com"));
    assert_eq!(first.instances[0].url, Some(format!("https://{old}.shop.example.com")));
    let stable = env.api::<Ingress>().get("production-route").await.unwrap();
    assert_eq!(leads(&stable), ("shop.example.com".into(), "production-web".into(), 8080));
    assert_eq!(stable.annotations()["example.com/timeout"], "5");
    assert_eq!(stable.labels()[labels::STAGE], "production");
    let tls = &stable.spec.as_ref().unwrap().tls.as_ref().unwrap()[0];
    assert_eq!(tls.secret_name.as_deref(), Some("shop-tls"));
    let theirs = env.api::<Ingress>().get(&names::instance_route("production", &old)).await.unwrap();
    assert_eq!(leads(&theirs), (format!("{old}.shop.example.com"), own(&old), 8080));

    env.push("web", "1.1.0", &[]).await;
    let second = shop::serves(&env, "production", "web 1.1.0").await;
    let new = second.active.unwrap();
    let same = env.api::<Ingress>().get("production-route").await.unwrap();
    assert_eq!((same.uid(), leads(&same)), (stable.uid(), leads(&stable)), "whoever serves it sees no change");
    let service = env.api::<Service>().get("production-web").await.unwrap();
    assert_eq!(service.spec.unwrap().selector.unwrap()[labels::INSTANCE], new);
    env.wait("the old instance's Ingress is gone, the new one's is there", DEADLINE, async || {
        let mut found: Vec<_> = env.list::<Ingress>().await.iter().map(leads).collect();
        found.sort();
        let mut wanted = [leads(&stable), (format!("{new}.shop.example.com"), own(&new), 8080)];
        wanted.sort();
        (found == wanted).then_some(())
    })
    .await;

    env.patch::<Stage>("production", json!({"spec": {"route": null}})).await;
    env.wait("a route that was taken back is removed", DEADLINE, async || {
        env.api::<Ingress>().get_opt("production-route").await.unwrap().is_none().then_some(())
    })
    .await;
    let (code, _) = env.http_get("production-web", "/").await.unwrap();
    assert_eq!(code, 200, "the Service stays");
    operator.stop().await;
}

#[tokio::test]
async fn an_ingress_that_nobody_serves_fails_the_deploy_and_says_so() {
    let env = Env::new("unserved").await;
    env.push("web", "1.0.0", &[]).await;
    let operator = Operator::start(&env).await;
    env.apply(&shop::project("")).await;
    env.apply(&shop::stage("route: {host: shop.example.com, className: nobody}, timeouts: {proxy: 4s}")).await;
    let waiting = env
        .until("production", "it says what it waits for", |status| {
            status.deploy.as_ref().is_some_and(|it| it.waiting_reason.as_deref() == Some("ConfiguringRoute"))
        })
        .await;
    let message = waiting.deploy.unwrap().message.unwrap();
    assert!(message.starts_with("Ingress production-route is not accepted yet"), "{message}");

    let (status, newest) = shop::fails(&env, "production").await;
    let deploy = &newest.stored.deploy;
    assert_eq!((deploy.state, deploy.reason.as_deref()), (State::Failed, Some("ProxyDeadlineExceeded")));
    let told = deploy.message.as_deref().unwrap();
    assert!(told.contains("Ingress production-route") && told.contains("controller"), "{told}");
    assert!(shop::is(&status, "Stalled", "True"), "{status:?}");
    let service = env.api::<Service>().get("production-web").await.unwrap();
    let selector = service.spec.unwrap().selector.unwrap();
    assert_eq!(selector[labels::INSTANCE], names::NOWHERE, "a release that never succeeded gets no traffic");
    operator.stop().await;
}

const HTTP_ROUTES: &str = "httproutes.gateway.networking.k8s.io";

/// The definition of `HTTPRoute` as far as we use it.
fn http_routes() -> CustomResourceDefinition {
    let definition = json!({
        "metadata": {
            "name": HTTP_ROUTES,
            "annotations": {"api-approved.kubernetes.io": "unapproved, a part of the real one for tests"},
        },
        "spec": {
            "group": "gateway.networking.k8s.io",
            "names": {"kind": "HTTPRoute", "plural": "httproutes", "singular": "httproute"},
            "scope": "Namespaced",
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
            }],
        },
    });
    serde_json::from_value(definition).expect("a definition")
}

/// Accepts every `HTTPRoute` as its Gateway would.
fn serve_http_routes(env: &Env) -> AbortOnDropHandle<()> {
    let routes = env.api::<HttpRoute>();
    AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            for route in routes.list(&ListParams::default()).await.expect("a list") {
                if route.status.is_some() {
                    continue;
                }
                let condition = |type_: &str| {
                    json!({
                        "type": type_, "status": "True", "reason": type_, "message": "",
                        "observedGeneration": route.metadata.generation, "lastTransitionTime": "2026-01-01T00:00:00Z",
                    })
                };
                let parents = json!([{
                    "parentRef": {"name": "edge"},
                    "conditions": [condition("Accepted"), condition("ResolvedRefs")],
                }]);
                let status = Patch::Merge(json!({"status": {"parents": parents}}));
                // It may be gone by now.
                let _ = routes.patch_status(&route.name_any(), &PatchParams::default(), &status).await;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }))
}

/// What an `HTTPRoute` is, as JSON: host, Gateway, Service and port.
fn spec(route: &HttpRoute) -> Value {
    serde_json::to_value(&route.spec).expect("JSON")
}

#[tokio::test]
async fn an_http_route_waits_for_its_definition_and_its_gateway() {
    let env = Env::new("gateway").await;
    env.push("web", "1.0.0", &[]).await;
    let definitions = Api::<CustomResourceDefinition>::all(env.client.clone());
    // An earlier run may have left it.
    let _ = definitions.delete(HTTP_ROUTES, &DeleteParams::default()).await;
    env.wait("the definition is gone", DEADLINE, async || {
        definitions.get_opt(HTTP_ROUTES).await.unwrap().is_none().then_some(())
    })
    .await;

    let operator = Operator::start(&env).await;
    env.apply(&shop::project("")).await;
    env.apply(&shop::stage("route: {host: shop.example.com, type: HTTPRoute, parentRefs: [{name: edge}]}")).await;
    let stalled = env.until("production", "it is stalled", |status| shop::is(status, "Stalled", "True")).await;
    let why = stalled.conditions.iter().find(|it| it.type_ == "Stalled").unwrap();
    assert!(why.message.contains("httproutes"), "it names what is missing: {why:?}");
    let deploy = stalled.deploy.unwrap();
    assert_eq!((&*deploy.state, deploy.message.as_ref()), ("ConfiguringProxy", Some(&why.message)));
    operator.stop().await;

    definitions.create(&PostParams::default(), &http_routes()).await.unwrap();
    let established = await_condition(definitions.clone(), HTTP_ROUTES, conditions::is_crd_established());
    tokio::time::timeout(DEADLINE, established).await.expect("served in time").expect("watched");
    let operator = Operator::start(&env).await;
    let waiting = env
        .until("production", "it waits for the Gateway", |status| {
            let message = status.deploy.as_ref().and_then(|it| it.message.as_deref());
            message.is_some_and(|it| it.starts_with("HTTPRoute production-route is not accepted yet"))
        })
        .await;
    assert!(!shop::is(&waiting, "Stalled", "True"), "{waiting:?}");
    let _gateway = serve_http_routes(&env);
    let first = shop::serves(&env, "production", "web 1.0.0").await;
    assert_eq!(first.url.as_deref(), Some("http://shop.example.com"));
    let route = env.api::<HttpRoute>().get("production-route").await.unwrap();
    let wanted = json!({
        "parentRefs": [{"name": "edge"}],
        "hostnames": ["shop.example.com"],
        "rules": [{"backendRefs": [{"name": "production-web", "port": 8080}]}],
    });
    assert_eq!(spec(&route), wanted);

    env.push("web", "1.1.0", &[]).await;
    let second = shop::serves(&env, "production", "web 1.1.0").await;
    let same = env.api::<HttpRoute>().get("production-route").await.unwrap();
    assert_eq!((same.uid(), spec(&same)), (route.uid(), wanted), "the Gateway sees no change");
    let service = env.api::<Service>().get("production-web").await.unwrap();
    assert_eq!(service.spec.unwrap().selector.unwrap()[labels::INSTANCE], second.active.unwrap());
    assert_eq!(env.deploys("production").await.len(), 2, "the deploy that waited was not begun anew");
    operator.stop().await;
}
