//! What people do to stages over their life: changing, suspending, pinning, queueing, deleting, taking things away.

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Pod, Service},
};
use kube::{ResourceExt as _, api::DeleteParams, core::NamespaceResourceScope};
use serde_json::json;
use stagekeeper::{
    api::{Project, Stage, labels},
    domain::deploy::State,
    store::HistoryEntry,
};

use crate::{
    cluster::{DEADLINE, Env},
    gate::Gate,
    lab::{self, IMPATIENT, ends, project, reconciling, stage, waiting},
    operator::Operator,
    quiet,
};

/// A changed spec is a deploy, with whoever applied it as its actor; the same spec again is none. A change that fails
/// and is taken back leaves the stage ready without another deploy.
#[tokio::test]
async fn a_changed_spec_is_deployed_and_the_same_one_is_not() {
    let env = Env::new("changes").await;
    let operator = Operator::start(&env).await;
    env.push("web", "1.0.0", &[]).await;
    let shop = project("shop", "web");
    let plain = stage("live", "shop", IMPATIENT);
    env.apply(&(shop.clone() + &plain)).await;
    env.until_serving("live", "web 1.0.0").await;
    env.apply(&(shop.clone() + &plain)).await;
    quiet::is_kept(&env, &operator, 4).await;
    let deploys = env.deploys("live").await;
    assert_eq!(ends(&deploys), ["web 1.0.0 success"], "the same again is no deploy");
    assert_eq!(deploys[0].stored.deploy.actor.to_string(), "policy");

    let coloured = |colour| format!("{IMPATIENT}\n  services: {{web: {{env: [{{name: COLOUR, value: {colour}}}]}}}}");
    env.apply(&stage("live", "shop", &coloured("blue"))).await;
    env.until_serving("live", "web 1.0.0").await;
    let deploys = env.deploys("live").await;
    assert_eq!(ends(&deploys), ["web 1.0.0 success", "web 1.0.0 success"]);
    let changed = &deploys[1].stored.deploy;
    assert_eq!((changed.actor.to_string().as_str(), changed.cause.as_str()), ("user:e2e", "configuration changed"));
    assert_eq!(colour(&env, &changed.instance).await.as_deref(), Some("blue"));

    let broken = "  services: {web: {env: [{name: COLOUR, value: blue}, {name: APP_HEALTH, value: fail}]}}";
    env.apply(&stage("live", "shop", &format!("{IMPATIENT}\n{broken}"))).await;
    let said = env.until_stalled("live", "RolledBack").await;
    assert!(said.starts_with("web 1.0.0 failed: ") && said.contains("503"), "{said}");
    env.apply(&stage("live", "shop", &coloured("blue"))).await;
    let status = env.until_serving("live", "web 1.0.0").await;
    assert_eq!(status.active.as_ref(), Some(&changed.instance), "it never stopped serving");
    quiet::is_kept(&env, &operator, 3).await;
    assert_eq!(env.deploys("live").await.len(), 3, "taken back, nothing needs to be deployed");

    let more = shop.replace("env: [", "env: [{name: COLOUR, value: grey}, {name: SIZE, value: xl}, ");
    env.apply(&more).await;
    let changed = env.wait("the project's change is deployed", DEADLINE, async || {
        let deploys = env.deploys("live").await;
        (deploys.len() == 4 && lab::is_at_rest(&deploys)).then(|| deploys[3].stored.deploy.clone())
    });
    let changed = changed.await;
    assert_eq!((changed.state, changed.actor.to_string().as_str()), (State::Success, "user:e2e"));
    assert_eq!(colour(&env, &changed.instance).await.as_deref(), Some("blue"), "the stage overrides its project");
    operator.stop().await;
}

/// What somebody deletes below a stage comes back as it was, without a deploy, also what stages share.
#[tokio::test]
async fn deleted_children_come_back_without_a_deploy() {
    let env = Env::new("repair").await;
    let operator = Operator::start(&env).await;
    env.push("web", "1.0.0", &[]).await;
    Gate::new(&env, "live").await;
    env.apply(&(project("shop", "web") + &Gate::service() + &stage("live", "shop", ""))).await;
    let status = env.until_serving("live", "gate 1, web 1.0.0").await;
    let instance = status.active.clone().unwrap();
    let named = async |service: &str| {
        let all = env.list::<Deployment>().await;
        let of_service = all.iter().find(|one| one.labels().get(labels::SERVICE).is_some_and(|name| name == service));
        of_service.unwrap_or_else(|| panic!("no Deployment of {service}")).name_any()
    };
    let (web, db) = (named("web").await, named("gate").await);
    delete::<Service>(&env, "live-web").await;
    env.until_answer("live-web", "shop 1.0.0 ").await;
    delete::<Deployment>(&env, &web).await;
    env.until_serving("live", "gate 1, web 1.0.0").await;
    env.until_answer("live-web", "shop 1.0.0 ").await;
    delete::<Service>(&env, &web).await;
    env.until_answer(&web, "shop 1.0.0 ").await;
    delete::<Deployment>(&env, &db).await;
    env.until_answer("live-gate", "shop 1 ").await;
    delete::<Service>(&env, &db).await;
    env.until_answer("live-gate", "shop 1 ").await;

    let status = env.until_serving("live", "gate 1, web 1.0.0").await;
    assert_eq!(status.active, Some(instance));
    // The Service that came back has a new address; the pods that know the old one are replaced by others, one by one.
    env.until_answer_at("live-web", "/via/gate", "shop 1 ").await;
    assert_eq!(ends(&env.deploys("live").await), ["gate 1, web 1.0.0 success"]);
    quiet::is_kept(&env, &operator, 3).await;
    operator.stop().await;
}

/// `suspend` of a stage or of its project stops new deploys and leaves what runs; what was held goes on afterwards.
#[tokio::test]
async fn suspending_holds_deploys_and_leaves_what_runs() {
    let env = Env::new("suspend").await;
    let operator = Operator::start(&env).await;
    env.push("web", "1.0.0", &[]).await;
    env.apply(&(project("shop", "web") + &stage("live", "shop", ""))).await;
    env.until_serving("live", "web 1.0.0").await;

    env.patch::<Stage>("live", json!({"spec": {"suspend": true}})).await;
    env.push("web", "1.1.0", &[]).await;
    let status = env.until("live", "1.1.0 is held", |status| waiting(status) == "Suspended").await;
    let deploy = status.deploy.clone().unwrap();
    assert_eq!((deploy.state.as_str(), deploy.blocker.as_deref()), ("Pending", Some("stage live")));
    let (reason, said) = reconciling(&status).unwrap();
    assert_eq!(reason, "DeployPending");
    assert!(said.contains("stage live is suspended; set spec.suspend to false to go on"), "{said}");
    env.push("web", "1.2.0", &[]).await;
    env.wait("1.2.0 takes the place of 1.1.0", DEADLINE, async || {
        let ends = ends(&env.deploys("live").await);
        (ends == ["web 1.0.0 success", "web 1.1.0 superseded", "web 1.2.0 pending"]).then_some(())
    })
    .await;
    let held = env.deploys("live").await.pop().unwrap().stored.deploy.id.to_string();
    env.until("live", "1.2.0 is held", |status| status.deploy.as_ref().is_some_and(|deploy| deploy.id == held)).await;
    quiet::is_kept(&env, &operator, 3).await;
    env.until_answer("live-web", "shop 1.0.0 ").await;
    env.patch::<Stage>("live", json!({"spec": {"suspend": false}})).await;
    env.until_serving("live", "web 1.2.0").await;

    env.patch::<Project>("shop", json!({"spec": {"suspend": true}})).await;
    env.push("web", "1.3.0", &[]).await;
    let status = env.until("live", "1.3.0 is held", |status| waiting(status) == "Suspended").await;
    assert_eq!(status.deploy.unwrap().blocker.as_deref(), Some("project shop"));
    quiet::is_kept(&env, &operator, 3).await;
    env.patch::<Project>("shop", json!({"spec": {"suspend": false}})).await;
    env.until_serving("live", "web 1.3.0").await;
    let expected = ["web 1.0.0 success", "web 1.1.0 superseded", "web 1.2.0 success", "web 1.3.0 success"];
    assert_eq!(ends(&env.deploys("live").await), expected);
    operator.stop().await;
}

/// A pin moves a stage to an older tag and holds it there against its policy; without it the policy goes on. A pin to
/// what does not exist says so and leaves what runs.
#[tokio::test]
async fn a_pin_moves_and_holds() {
    let env = Env::new("pin").await;
    let operator = Operator::start(&env).await;
    env.push("web", "1.0.0", &[]).await;
    env.push("web", "1.1.0", &[]).await;
    env.apply(&(project("shop", "web") + &stage("live", "shop", ""))).await;
    env.until_serving("live", "web 1.1.0").await;

    env.apply(&stage("live", "shop", "  pin: {web: 1.0.0}")).await;
    env.until_serving("live", "web 1.0.0").await;
    let pinned = env.deploys("live").await.pop().unwrap().stored.deploy;
    assert_eq!((pinned.cause.as_str(), pinned.actor.to_string().as_str()), ("web 1.1.0 → 1.0.0 (pinned)", "user:e2e"));
    env.push("web", "1.2.0", &[]).await;
    env.wait("the project knows 1.2.0", DEADLINE, async || {
        let shop = env.api::<Project>().get("shop").await.unwrap();
        let services = shop.status.unwrap().services;
        services.iter().any(|service| service.latest_tag.as_deref() == Some("1.2.0")).then_some(())
    })
    .await;
    quiet::through_scans(&operator, 3).await;
    env.until_serving("live", "web 1.0.0").await;
    assert_eq!(env.deploys("live").await.len(), 2, "a pin holds");

    env.apply(&stage("live", "shop", "")).await;
    env.until_serving("live", "web 1.2.0").await;
    env.apply(&stage("live", "shop", "  pin: {web: 1.0.5}")).await;
    let said = env.until_stalled("live", "TagNotFound").await;
    assert!(
        said.contains("service web: ") && said.contains("has no image `1.0.5`; check its tags, or push it"),
        "{said}"
    );
    env.until_answer("live-web", "shop 1.2.0 ").await;
    quiet::is_kept(&env, &operator, 3).await;
    env.push("web", "1.0.5", &[]).await;
    env.until_serving("live", "web 1.0.5").await;
    let expected = ["web 1.1.0 success", "web 1.0.0 success", "web 1.2.0 success", "web 1.0.5 success"];
    assert_eq!(ends(&env.deploys("live").await), expected);
    operator.stop().await;
}

/// While a deploy runs, newer images queue: with `latest` the newest takes the place of the one that waits, with `fifo`
/// all come one after the other.
#[tokio::test]
async fn newer_images_queue_as_declared() {
    let env = Env::new("queue").await;
    let operator = Operator::start(&env).await;
    env.push("web", "1.0.0", &[]).await;
    let gates = [Gate::new(&env, "newest").await, Gate::new(&env, "each").await];
    env.apply(&(project("shop", "web") + &Gate::service())).await;
    let stages = [("newest", "latest"), ("each", "fifo")];
    for (name, queue) in stages {
        env.apply(&stage(name, "shop", &format!("  queue: {queue}"))).await;
    }
    for ((name, queue), gate) in stages.iter().zip(&gates) {
        env.until_serving(name, "gate 1, web 1.0.0").await;
        gate.open().await;
        let hooks = format!("  queue: {queue}\n  hooks: {{beforeStart: [{{name: wait, args: {}}}]}}", Gate::args());
        env.apply(&stage(name, "shop", &hooks)).await;
        env.until_serving(name, "gate 1, web 1.0.0").await;
        gate.shut().await;
    }
    env.push("web", "1.1.0", &[]).await;
    for (name, _) in stages {
        env.until(name, "1.1.0 is on its way", |status| waiting(status) == "RunningHooks").await;
    }
    env.push("web", "1.2.0", &[]).await;
    for (name, _) in stages {
        let running = env.deploys(name).await[2].stored.deploy.id.to_string();
        let status = env.until(name, "1.2.0 waits", |status| waiting(status) == "EarlierDeploy").await;
        assert_eq!(status.deploy.unwrap().blocker, Some(running), "{name}");
    }
    env.push("web", "1.3.0", &[]).await;
    for ((name, _), gate) in stages.iter().zip(&gates) {
        env.wait("1.3.0 is asked for", DEADLINE, async || (env.deploys(name).await.len() == 5).then_some(())).await;
        gate.open().await;
    }
    for (name, second) in [("newest", "superseded"), ("each", "success")] {
        env.until_serving(name, "gate 1, web 1.3.0").await;
        let deploys = env.deploys(name).await;
        let last =
            ["1.1.0 success", &format!("1.2.0 {second}"), "1.3.0 success"].map(|end| format!("gate 1, web {end}"));
        assert_eq!(ends(&deploys[2..]), last, "{name}");
        assert!(one_after_the_other(&deploys), "{name}: {deploys:#?}");
    }
    operator.stop().await;
}

/// A deleted stage takes along what it made, whatever it was doing, and keeps its history; the same name goes on with
/// it. A deleted project leaves its stages as they are.
#[tokio::test]
async fn deleted_stages_keep_their_history_and_deleted_projects_their_stages() {
    let env = Env::new("delete").await;
    let operator = Operator::start(&env).await;
    env.push("web", "1.0.0", &[]).await;
    let gate = Gate::new(&env, "live").await;
    let shop = project("shop", "web") + &Gate::service();
    // Keeps asking the registry, so that quiet can be told from dead.
    env.apply(&project("clock", "web")).await;
    env.apply(&(shop.clone() + &stage("live", "shop", ""))).await;
    env.until_serving("live", "gate 1, web 1.0.0").await;
    gate.shut().await;
    let held = format!("  hooks: {{beforeStart: [{{name: wait, args: {}}}]}}", Gate::args());
    env.apply(&stage("live", "shop", &held)).await;
    env.until("live", "a hook runs", |status| waiting(status) == "RunningHooks").await;

    gone(&env).await;
    let deploys = env.deploys("live").await;
    assert_eq!(ends(&deploys), ["gate 1, web 1.0.0 success", "gate 1, web 1.0.0 aborted"]);
    env.apply(&stage("live", "shop", "")).await;
    let status = env.until_serving("live", "gate 1, web 1.0.0").await;
    let deploys = env.deploys("live").await;
    assert_eq!(deploys.iter().map(|entry| entry.stored.deploy.sequence).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(deploys[2].stored.deploy.state, State::Success, "what it had was gone, so it is made again");
    assert_eq!(status.history.len(), 3, "its history goes on: {:?}", status.history);

    env.api::<Project>().delete("shop", &DeleteParams::default()).await.unwrap();
    let said = env.until_stalled("live", "ProjectNotFound").await;
    assert!(said.contains(&format!("there is no Project `shop` in namespace {}", env.namespace)), "{said}");
    assert!(said.contains("create it there, or delete this Stage"), "{said}");
    env.until_answer("live-web", "shop 1.0.0 ").await;
    quiet::is_kept(&env, &operator, 4).await;
    env.apply(&shop).await;
    env.until_serving("live", "gate 1, web 1.0.0").await;
    assert_eq!(env.deploys("live").await.len(), 3, "what serves is not deployed again");

    env.api::<Project>().delete("shop", &DeleteParams::default()).await.unwrap();
    env.until_stalled("live", "ProjectNotFound").await;
    gone(&env).await;
    operator.stop().await;
}

/// Deletes the stage `live` and waits until nothing of it is left.
async fn gone(env: &Env) {
    env.api::<Stage>().delete("live", &DeleteParams::default()).await.unwrap();
    env.wait("the Stage is gone", DEADLINE, async || {
        env.api::<Stage>().get_opt("live").await.unwrap().is_none().then_some(())
    })
    .await;
    assert_eq!(names::<Deployment>(env).await, [""; 0]);
    assert_eq!(names::<Service>(env).await, [""; 0]);
    assert_eq!(names::<k8s_openapi::api::batch::v1::Job>(env).await, [""; 0]);
    env.wait("its pods have ended", DEADLINE, async || env.list::<Pod>().await.is_empty().then_some(())).await;
}

async fn names<K>(env: &Env) -> Vec<String>
where
    K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let left = env.list::<K>().await;
    left.iter().filter(|one| one.meta().deletion_timestamp.is_none()).map(|one| one.name_any()).collect()
}

/// Deletes an object and waits until another one has its name.
async fn delete<K>(env: &Env, name: &str)
where
    K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let before = env.api::<K>().get(name).await.unwrap().uid();
    env.api::<K>().delete(name, &DeleteParams::background()).await.unwrap();
    env.wait(&format!("{} {name} is back", K::kind(&())), DEADLINE, async || {
        let found = env.api::<K>().get_opt(name).await.unwrap();
        found.filter(|found| found.uid() != before && found.meta().deletion_timestamp.is_none()).map(drop)
    })
    .await;
}

/// The variable COLOUR of the pods of an instance.
async fn colour(env: &Env, instance: &str) -> Option<String> {
    let all = env.list::<Deployment>().await;
    let of_instance = all.into_iter().find(|one| one.labels().get(labels::INSTANCE).is_some_and(|it| it == instance));
    let pod = of_instance?.spec?.template.spec?;
    let env = pod.containers.into_iter().next()?.env?;
    env.into_iter().find(|variable| variable.name == "COLOUR")?.value
}

/// Whether no deploy left `pending` before the one before it had ended.
fn one_after_the_other(deploys: &[HistoryEntry]) -> bool {
    let begun =
        |entry: &HistoryEntry| entry.transitions.iter().find(|step| step.to == State::Pulling).map(|step| step.at);
    let ran: Vec<_> = deploys.iter().filter(|entry| begun(entry).is_some()).collect();
    ran.windows(2).all(|two| two[0].stored.deploy.finished_at <= begun(two[1]))
}
