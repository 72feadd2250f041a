//! The main story: a first deploy, then a new version that is found and switched to without a failed request.

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Event, Pod, Service},
    networking::v1::Ingress,
};
use kube::ResourceExt as _;
use stagekeeper::{
    api::{Stage, labels},
    domain::{
        actor::Actor,
        clock::{Clock as _, SystemClock},
        deploy::State,
    },
    render::names,
    store::time_in_states,
};

use crate::{
    cluster::{DEADLINE, Env},
    operator::Operator,
    quiet, shop,
    visitors::{Connections, Visitors},
};

/// The whole way of a deploy that goes well.
const WAY: [State; 6] =
    [State::Pending, State::Pulling, State::Starting, State::ConfiguringProxy, State::HealthChecking, State::Success];

#[tokio::test]
async fn the_first_deploy_serves_and_everything_says_so() {
    let env = Env::new("first").await;
    let digest = env.push("web", "1.0.0", &[]).await;
    let operator = Operator::start(&env).await;
    env.apply(&shop::project("replicas: 2")).await;
    env.apply(&shop::stage("")).await;
    let status = shop::serves(&env, "production", "web 1.0.0").await;
    let (code, body) = env.http_get("production-web", "/").await.unwrap();
    assert!(code == 200 && body.starts_with("shop 1.0.0 on "), "{code} {body}");

    recorded(&env, &digest).await;
    told(&env, &status).await;
    made(&env, &status.active.unwrap(), &digest).await;
    let told = async || {
        let events = env.list::<Event>().await;
        events.into_iter().find(|event| event.reason.as_deref() == Some("Success"))
    };
    let event = env.wait("an event tells of the success", DEADLINE, told).await;
    assert_eq!(event.involved_object.name.as_deref(), Some("production"));
    // Nothing more happens by itself, nor because the same is applied again.
    let writes = operator.api_writes().await;
    env.apply(&shop::stage("")).await;
    quiet::through_scans(&operator, 3).await;
    assert_eq!(operator.api_writes().await, writes, "a settled stage is not written to");
    operator.stop().await;
}

/// The database holds one deploy with every step, who took it, and how long it lasted.
async fn recorded(env: &Env, digest: &str) {
    let [entry] = &env.deploys("production").await[..] else { panic!("one deploy") };
    let deploy = &entry.stored.deploy;
    assert_eq!((deploy.sequence, deploy.state, &deploy.actor), (1, State::Success, &Actor::Policy));
    assert_eq!(deploy.cause, "first deploy: web 1.0.0");
    let image = &entry.stored.release.0.get("web").unwrap();
    assert_eq!((image.repository.as_str(), image.tag.as_deref()), (&*env.repository("web"), Some("1.0.0")));
    assert_eq!(image.digest, digest);

    let steps = env.transitions(deploy.id).await;
    let states: Vec<State> = steps.iter().map(|step| step.to).collect();
    assert_eq!(states, WAY);
    let from: Vec<Option<State>> = steps.iter().map(|step| step.from).collect();
    let before: Vec<Option<State>> = [None].into_iter().chain(WAY.map(Some)).take(WAY.len()).collect();
    assert_eq!(from, before);
    assert_eq!(steps[0].actor, Actor::Policy);
    for step in &steps[1..] {
        assert_eq!(step.actor, Actor::Controller, "{step:?}");
    }
    for step in &steps {
        assert!(!step.reason.is_empty() && !step.message.is_empty(), "{step:?}");
    }
    assert!(steps.is_sorted_by_key(|step| step.at));
    assert_eq!(steps.last().unwrap().at, deploy.finished_at.unwrap());

    let now = SystemClock.now();
    let times = time_in_states(&steps, deploy.finished_at, now);
    let all = times.iter().map(|(_, time)| *time).sum::<jiff::SignedDuration>();
    assert_eq!(all, deploy.finished_at.unwrap().duration_since(deploy.created_at));
    let working = entry.working_time(now);
    assert!(working > jiff::SignedDuration::ZERO && working <= all, "{working}");
}

/// The Stage tells it to people and to generic tools.
async fn told(env: &Env, status: &stagekeeper::api::StageStatus) {
    let stage: Stage = env.stage("production").await;
    let deploys = env.deploys("production").await;
    let deploy = &deploys[0].stored.deploy;
    assert_eq!(Some(status.observed_generation), stage.metadata.generation);
    assert_eq!(status.release.as_deref(), Some(deploy.release.0.as_str()));
    assert_eq!(status.active.as_ref(), Some(&deploy.instance));
    let url = format!("http://production-web.{}.svc:8080", env.namespace);
    assert_eq!(status.url, Some(url));
    assert!(status.vetoed.is_empty());

    let ready = status.conditions.iter().find(|it| it.type_ == "Ready").unwrap();
    assert_eq!((&*ready.reason, &*ready.message), ("Serving", "web 1.0.0 serves"));
    assert!(!shop::is(status, "Reconciling", "True") && !shop::is(status, "Stalled", "True"), "{status:?}");

    let [instance] = &status.instances[..] else { panic!("one instance: {status:?}") };
    assert_eq!((&instance.name, &*instance.status, instance.active), (&deploy.instance, "running", true));
    assert_eq!(instance.deploy, Some(deploy.id.to_string()));

    let latest = status.deploy.as_ref().unwrap();
    assert_eq!((&latest.id, &*latest.state), (&deploy.id.to_string(), "Success"));
    assert_eq!((&latest.waiting_reason, &latest.blocker), (&None, &None));
    assert_eq!(latest.actor.as_deref(), Some("policy"));
    let [ended] = &status.history[..] else { panic!("one deploy: {status:?}") };
    assert_eq!((&ended.id, &*ended.state, ended.images.as_deref()), (&latest.id, "Success", Some("web 1.0.0")));
    assert!(ended.finished_at.is_some());

    let columns = env.columns("stages", "production").await;
    let wanted = [("Project", "shop"), ("Ready", "True"), ("Release", &deploy.release.0), ("Deploy", "Success")];
    for (column, value) in wanted {
        assert_eq!(columns[column], value, "{columns:?}");
    }
}

/// The objects in the cluster are the documented ones, with the documented labels, and no others.
async fn made(env: &Env, instance: &str, digest: &str) {
    let own = names::instance_service("production", "web", instance);
    let [workload] = &env.list::<Deployment>().await[..] else { panic!("one workload") };
    assert_eq!(workload.name_any(), own);
    let stage = env.stage("production").await;
    let deploy = env.deploys("production").await[0].stored.deploy.clone();
    let labelled = [
        (labels::PROJECT, "shop"),
        (labels::STAGE, "production"),
        (labels::SERVICE, "web"),
        (labels::INSTANCE, instance),
        (labels::SCOPE, "instance"),
        (labels::RELEASE, deploy.release.short()),
        (labels::MANAGED_BY, "stagekeeper"),
        (labels::PART_OF, "shop"),
        (labels::NAME, "web"),
    ];
    for (key, value) in labelled {
        assert_eq!(workload.labels().get(key).map(String::as_str), Some(value), "{key}");
    }
    assert_eq!(workload.annotations()[labels::DEPLOY], deploy.id.to_string());
    let [owner] = workload.owner_references() else { panic!("one owner") };
    assert_eq!((&*owner.kind, Some(&owner.uid)), ("Stage", stage.metadata.uid.as_ref()));

    let pods = env.list::<Pod>().await;
    assert_eq!(pods.len(), 2, "replicas");
    for pod in &pods {
        let container = &pod.spec.as_ref().unwrap().containers[0];
        assert_eq!(container.image, Some(format!("{}@{digest}", env.repository("web"))));
        let variable = |name: &str| {
            let given = container.env.iter().flatten().find(|it| it.name == name);
            given.and_then(|it| it.value.clone())
        };
        assert_eq!(variable("STAGEKEEPER_STAGE").as_deref(), Some("production"));
        assert_eq!(variable("STAGEKEEPER_INSTANCE").as_deref(), Some(instance));
    }

    let mut services = env.list::<Service>().await;
    services.sort_by_key(|service| service.name_any().len());
    let names: Vec<String> = services.iter().map(|service| service.name_any()).collect();
    assert_eq!(names, ["production-web".to_owned(), own]);
    for service in services {
        let spec = service.spec.unwrap();
        assert_eq!(spec.selector.unwrap()[labels::INSTANCE], instance, "it leads to the instance");
        assert_eq!(spec.ports.unwrap()[0].port, 8080);
    }
    assert!(env.list::<Ingress>().await.is_empty(), "a stage without a route has Services only");
}

#[tokio::test]
async fn a_new_tag_is_found_and_switched_to_without_a_failed_request() {
    let env = Env::new("switch").await;
    env.push("web", "1.0.0", &[]).await;
    let operator = Operator::start(&env).await;
    env.apply(&shop::project("replicas: 2")).await;
    env.apply(&shop::stage("rollback: {keepPrevious: 5s}")).await;
    let before = shop::serves(&env, "production", "web 1.0.0").await;
    let old = before.active.unwrap();

    let mut fresh = Visitors::start(&env, "production-web", Connections::Fresh).await;
    let mut kept = Visitors::start(&env, "production-web", Connections::Kept).await;
    env.push("web", "1.1.0", &[]).await;
    let after = shop::serves(&env, "production", "web 1.1.0").await;
    let new = after.active.clone().unwrap();
    assert_ne!(new, old, "the new release has an instance of its own");
    let both: Vec<(&str, bool)> = after.instances.iter().map(|it| (&*it.name, it.active)).collect();
    assert!(both.contains(&(&*old, false)) && both.contains(&(&*new, true)), "{both:?}");

    // The way back stays open for as long as was asked for, and no longer.
    let deploys = env.deploys("production").await;
    let [_, second] = &deploys[..] else { panic!("two deploys") };
    let switched = second.stored.deploy.finished_at.unwrap();
    let workload = names::instance_service("production", "web", &old);
    let gone = env
        .wait("the old workload is gone", DEADLINE, async || {
            let found = env.api::<Deployment>().get_opt(&workload).await.unwrap();
            found.is_none().then(|| SystemClock.now())
        })
        .await;
    assert!(gone.duration_since(switched) >= jiff::SignedDuration::from_secs(5), "it was kept for keepPrevious");
    env.wait("the old pods are gone", DEADLINE, async || {
        let pods = env.list::<Pod>().await;
        pods.iter().all(|pod| pod.labels()[labels::INSTANCE] == new).then_some(())
    })
    .await;
    // A few more requests, now that nobody of the old ones can answer.
    fresh.more(5).await;
    kept.more(5).await;
    fresh.stop().await.assert_answered_by(&["shop 1.0.0", "shop 1.1.0"]);
    kept.stop().await.assert_answered_by(&["shop 1.0.0", "shop 1.1.0"]);

    assert_eq!(second.stored.deploy.actor, Actor::Policy);
    assert_eq!(second.stored.deploy.cause, "web 1.0.0 → 1.1.0");
    let states: Vec<State> = second.transitions.iter().map(|step| step.to).collect();
    assert_eq!(states, WAY);
    let left = env.until("production", "one instance is left", |status| status.instances.len() == 1).await;
    assert_eq!(left.instances[0].name, new);
    operator.stop().await;
}
