//! The story of promotion, asked for through an API whose replicas are killed and restarted all the while, and whose leader
//! is killed once: whatever breaks, each thing that was asked is done once, and written down once.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    coordination::v1::Lease,
    core::v1::ServiceAccount,
    rbac::v1::{Role, RoleBinding},
};
use kube::api::PostParams;
use serde_json::{Value, json};
use stagekeeper::{
    cluster::access::AUDIENCE,
    domain::{actor::Actor, deploy::State, request::RequestState},
    store::{AuditFilter, StoredRequest},
};
use tokio::sync::{Mutex, oneshot};

use crate::{
    cluster::{DEADLINE, Env},
    lab::{self, ends, holds, project, stage},
    operator::Operator,
};

/// A replica of the operator: each serves the API, one leads.
struct Replica {
    number: u32,
    identity: String,
    operator: Operator,
}

/// Replicas that go and come.
struct Fleet<'e> {
    env: &'e Env,
    replicas: Mutex<Vec<Replica>>,
    begun: AtomicU32,
    /// Answers that never came.
    broken: AtomicU32,
}

impl<'e> Fleet<'e> {
    async fn of(env: &'e Env, size: usize) -> Self {
        let fleet = Self { env, replicas: Mutex::default(), begun: AtomicU32::new(0), broken: AtomicU32::new(0) };
        for _ in 0..size {
            let replica = fleet.begin().await;
            fleet.replicas.lock().await.push(replica);
        }
        fleet
    }

    /// Another process. It has an identity of its own: it inherits no Lease.
    async fn begin(&self) -> Replica {
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        let identity = format!("replica-{number}");
        let operator = Operator::start_with(self.env, &[("STAGEKEEPER_LEASE_IDENTITY", &identity)]).await;
        Replica { number, identity, operator }
    }

    /// Puts another in the place of the replica with this identity, which is given; it may have gone already.
    async fn replace(&self, identity: &str) -> Option<Operator> {
        let next = self.begin().await;
        let mut replicas = self.replicas.lock().await;
        let place = replicas.iter_mut().find(|replica| replica.identity == identity)?;
        Some(std::mem::replace(place, next).operator)
    }

    async fn leader(&self) -> String {
        self.env
            .wait("a replica leads", DEADLINE, async || {
                let lease = self.env.api::<Lease>().get_opt("stagekeeper").await.unwrap()?;
                let holder = lease.spec?.holder_identity?;
                self.replicas.lock().await.iter().any(|replica| replica.identity == holder).then_some(holder)
            })
            .await
    }

    /// The one that runs for longest, and where it is.
    async fn oldest(&self) -> (String, String) {
        let replicas = self.replicas.lock().await;
        let oldest = replicas.iter().min_by_key(|replica| replica.number).expect("a replica");
        (oldest.identity.clone(), oldest.operator.address.clone())
    }

    /// Where the replicas are; the leader last.
    async fn places(&self) -> Vec<(String, String)> {
        let leader = self.leader().await;
        let replicas = self.replicas.lock().await;
        let mut places: Vec<_> =
            replicas.iter().map(|one| (one.identity.clone(), one.operator.address.clone())).collect();
        places.sort_by_key(|(identity, _)| *identity == leader);
        places
    }

    /// Kills and restarts those that do not lead, in turn, until it is told to stop.
    async fn churn(&self, mut stop: oneshot::Receiver<()>) {
        for turn in 0_u32.. {
            let (next, _) = self.places().await.swap_remove(0);
            if let Some(operator) = self.replace(&next).await {
                if turn.is_multiple_of(2) { operator.kill9() } else { operator.stop().await }
            }
            // Rested for as long as it takes until all of them serve again.
            for (identity, address) in self.places().await {
                self.env
                    .wait(&format!("{identity} serves or is gone"), DEADLINE, async || {
                        let answer = self.env.http.get(format!("{address}/readyz")).send().await;
                        let gone = !self.places().await.iter().any(|(other, _)| *other == identity);
                        (gone || answer.is_ok_and(|answer| answer.status().is_success())).then_some(())
                    })
                    .await;
            }
            if stop.try_recv().is_ok() {
                return;
            }
        }
    }

    /// One try at one replica: what was answered, or nothing if nothing was.
    async fn post(&self, address: &str, ask: &Ask<'_>) -> Option<Value> {
        let namespace = &self.env.namespace;
        let url = format!("{address}/api/v1/namespaces/{namespace}/stages/{}/requests?wait=30", ask.stage);
        let request = self.env.http.post(url).timeout(Duration::from_secs(45)).bearer_auth(&ask.person.token);
        let answer = async {
            let answer = request.header("idempotency-key", ask.key).json(&ask.body).send().await?;
            Ok::<_, reqwest::Error>((answer.status(), answer.text().await?))
        };
        let Ok((code, text)) = answer.await else {
            self.broken.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        // One that is still starting, or that is going.
        if code.as_u16() == 503 {
            return None;
        }
        assert_eq!(code.as_u16(), 202, "{text}");
        let request: Value = serde_json::from_str(&text).unwrap();
        (request["state"] != "pending").then_some(request)
    }

    /// Asks whichever replica answers, again and again, until it is settled. The first that is asked does not lead.
    async fn ask(&self, ask: &Ask<'_>) -> Value {
        let begun = Instant::now();
        loop {
            for (_, address) in self.places().await {
                if let Some(settled) = self.post(&address, ask).await {
                    return settled;
                }
            }
            assert!(begun.elapsed() < DEADLINE, "nobody answered {} within {DEADLINE:?}", ask.key);
        }
    }
}

/// Something that somebody asks.
struct Ask<'a> {
    person: &'a Person,
    stage: &'a str,
    key: &'a str,
    body: Value,
}

/// Somebody with a token.
struct Person {
    actor: Actor,
    token: String,
}

impl Person {
    /// Makes somebody who may do this with stages.
    async fn new(env: &Env, name: &str, verbs: &[&str]) -> Self {
        let account: ServiceAccount = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
        env.api().create(&PostParams::default(), &account).await.unwrap();
        let role: Role = serde_json::from_value(json!({
            "metadata": {"name": name},
            "rules": [{"apiGroups": ["stagekeeper.dev"], "resources": ["stages"], "verbs": verbs}],
        }))
        .unwrap();
        env.api().create(&PostParams::default(), &role).await.unwrap();
        let binding: RoleBinding = serde_json::from_value(json!({
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": env.namespace}],
        }))
        .unwrap();
        env.api().create(&PostParams::default(), &binding).await.unwrap();
        let asked = TokenRequest {
            spec: TokenRequestSpec { audiences: vec![AUDIENCE.to_owned()], ..TokenRequestSpec::default() },
            ..TokenRequest::default()
        };
        let made = env.api::<ServiceAccount>().create_token_request(name, &PostParams::default(), &asked).await;
        let token = made.unwrap().status.unwrap().token;
        Self { actor: Actor::User(format!("system:serviceaccount:{}:{name}", env.namespace)), token }
    }

    /// Waits until the API server follows the role.
    async fn is_known(&self, fleet: &Fleet<'_>) {
        let path = format!("/api/v1/namespaces/{}/stages", fleet.env.namespace);
        fleet
            .env
            .wait(&format!("{} may read", self.actor), DEADLINE, async || {
                let (_, address) = fleet.places().await.swap_remove(0);
                let request = fleet.env.http.get(format!("{address}{path}")).bearer_auth(&self.token);
                request.send().await.ok().filter(|answer| answer.status().is_success()).map(drop)
            })
            .await;
    }
}

/// dev → staging, which accepts only what calls itself good → production with two approvals in a window.
fn manifests(namespace: &str) -> String {
    let staging = "  promotion: {from: [dev], auto: true, soak: 2s}\n  hooks:\n    verify:\n    - name: accept\n      args: \
                   [-get, 'http://$(STAGEKEEPER_SERVICE_WEB_HOST):$(STAGEKEEPER_SERVICE_WEB_PORT)/', -contains, 'good-', \
                   -retry, 20s]";
    let production = format!(
        "  rollback: {{keepPrevious: 0s}}\n  promotion:\n    from: [staging]\n    approvals: {{required: 2, groups: \
         ['system:serviceaccounts:{namespace}']}}\n    windows: [{{action: allow, schedule: '* * * * *', duration: 5m}}]"
    );
    project("shop", "web")
        + &stage("dev", "shop", "")
        + &stage("staging", "shop", staging)
        + &stage("production", "shop", &production)
}

/// What was asked of a stage, oldest first.
async fn requests(env: &Env, stage: &str) -> Vec<StoredRequest> {
    let target = env.database.store.stage_get(&env.namespace, stage).await.unwrap().expect("the stage").id;
    let mut all = env.database.store.requests_list(target, None, 100).await.unwrap();
    all.reverse();
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_of_replicas_that_die_is_done_once() {
    let env = Env::new("replicas").await;
    env.push("web", "1.0.0", &[("APP_VERSION", "good-1.0.0")]).await;
    env.apply(&manifests(&env.namespace)).await;
    let everything = ["get", "list", "promote", "rollback", "approve", "abort", "retry", "hold"];
    let jane = Person::new(&env, "jane", &everything).await;
    let ada = Person::new(&env, "ada", &["get", "list", "approve"]).await;
    let bob = Person::new(&env, "bob", &["get", "list", "approve"]).await;
    let fleet = Fleet::of(&env, 3).await;
    for person in [&jane, &ada, &bob] {
        person.is_known(&fleet).await;
    }
    let (end, stop) = oneshot::channel();
    let story = async {
        let asked = tell(&fleet, &jane, [&ada, &bob]).await;
        end.send(()).expect("it is listened to");
        asked
    };
    let (keys, ()) = tokio::join!(story, fleet.churn(stop));
    let broken = fleet.broken.load(Ordering::Relaxed);
    assert!(broken > 0, "no answer was lost");

    let asked = requests(&env, "production").await;
    let found: Vec<_> = asked.iter().map(|one| (one.action.word().to_owned(), one.actor.clone())).collect();
    assert_eq!(found, keys, "each was written down once");
    assert!(asked.iter().all(|one| one.state == RequestState::Done), "{asked:#?}");
    let ids: BTreeSet<String> = asked.iter().map(|one| one.id.to_string()).collect();
    let filter = AuditFilter {
        namespace: Some(env.namespace.clone()),
        stage: Some("production".into()),
        limit: 500,
        ..AuditFilter::default()
    };
    let audit = env.database.store.audit_page(&filter).await.unwrap();
    let mut told: BTreeMap<String, usize> = BTreeMap::new();
    for record in audit.records.iter().filter(|record| record.entry.entry.action.starts_with("stage.")) {
        if let Some(request) = record.entry.entry.details["request"].as_str() {
            *told.entry(request.to_owned()).or_default() += 1;
        }
    }
    assert_eq!(told.keys().cloned().collect::<BTreeSet<_>>(), ids);
    assert!(told.values().all(|times| *times == 1), "{told:?}");
    let verdict = env.database.store.audit_verify().await.unwrap();
    assert!(verdict.broken.is_none(), "{verdict:?}");

    for (stage, expected) in [
        ("dev", &["web 1.0.0 success", "web 1.1.0 success", "web 1.2.0 success"][..]),
        ("staging", &["web 1.0.0 success", "web 1.1.0 rolled_back", "web 1.2.0 success"]),
        ("production", &["web 1.0.0 success", "web 1.2.0 success", "web 1.0.0 success", "web 1.2.0 success"]),
    ] {
        assert_eq!(ends(&env.deploys(stage).await), expected, "{stage}");
    }
    for replica in fleet.replicas.into_inner() {
        replica.operator.stop().await;
    }
}

/// Tells the story. What was asked of production is given in its order: what, and by whom.
async fn tell(fleet: &Fleet<'_>, jane: &Person, approvers: [&Person; 2]) -> Vec<(String, Actor)> {
    let env = fleet.env;
    let ask = |person, key, body| Ask { person, stage: "production", key, body };
    env.until_serving("staging", "web 1.0.0").await;

    // The leader is killed, and with it whoever was asked first, as soon as it is written down: nobody knows what became of
    // it, until the next leader has done it.
    let promote = ask(jane, "promote-1", json!({"action": "promote", "reason": "it has soaked"}));
    let leader = fleet.leader().await;
    fleet.replace(&leader).await.expect("the leader").kill9();
    loop {
        let (identity, address) = fleet.oldest().await;
        let mut answer = pin!(fleet.post(&address, &promote));
        let written = env.wait("it is written down", DEADLINE, async || {
            (!requests(env, "production").await.is_empty()).then_some(())
        });
        tokio::select! {
            // It was killed in its turn before anything was written down.
            None = &mut answer => {}
            () = written => {
                if let Some(operator) = fleet.replace(&identity).await {
                    operator.kill9();
                }
                answer.await;
                break;
            }
        }
    }
    let made = fleet.ask(&promote).await;
    assert_eq!(made["state"], "done", "{made}");
    let status =
        env.until("production", "it waits for approvals", |status| lab::waiting(status) == "ApprovalNeeded").await;
    assert_eq!(status.deploy.unwrap().id, made["deploy"].as_str().unwrap());

    // Two people, each through all replicas at once.
    for (person, key) in approvers.into_iter().zip(["agree-ada", "agree-bob"]) {
        let approve = ask(person, key, json!({"action": "approve"}));
        let places = fleet.places().await;
        let all = futures::future::join_all(places.iter().map(|(_, address)| fleet.post(address, &approve))).await;
        let settled = fleet.ask(&approve).await;
        assert_eq!(settled["state"], "done", "{settled}");
        assert!(all.iter().flatten().all(|answer| answer["id"] == settled["id"]), "{all:?}");
    }
    let proven = env.until_serving("production", "web 1.0.0").await;

    env.push("web", "1.1.0", &[("APP_VERSION", "bad-1.1.0")]).await;
    env.until_serving("dev", "web 1.1.0").await;
    let said = env.until_stalled("staging", "RolledBack").await;
    assert!(said.contains("web 1.1.0 failed"), "{said}");
    env.push("web", "1.2.0", &[("APP_VERSION", "good-1.2.0")]).await;
    env.until_serving("staging", "web 1.2.0").await;
    let hurry = json!({"action": "promote", "emergency": true, "reason": "checkout is down"});
    let hurried = fleet.ask(&ask(jane, "promote-2", hurry)).await;
    assert_eq!(hurried["state"], "done", "{hurried}");
    env.until_serving("production", "web 1.2.0").await;
    env.until("production", "the instance of 1.0.0 is gone", |status| status.instances.len() == 1).await;

    let back = json!({"action": "rollback", "to": {"deploy": made["deploy"]}, "reason": "1.2.0 is slow"});
    let back = fleet.ask(&ask(jane, "back", back)).await;
    assert_eq!(back["state"], "done", "{back}");
    env.until("production", "1.0.0 serves and is held", |status| {
        status.release == proven.release && holds(status, "Ready").is_some_and(|ready| ready.reason == "Held")
    })
    .await;
    env.until_answer("production-web", "shop good-1.0.0 ").await;
    let again = json!({"action": "promote", "emergency": true, "reason": "it was not slow"});
    assert_eq!(fleet.ask(&ask(jane, "promote-3", again)).await["state"], "done");
    env.wait("1.2.0 serves again", DEADLINE, async || {
        let deploys = env.deploys("production").await;
        let newest = deploys.last()?;
        (newest.stored.deploy.state == State::Success && newest.stored.release.summary() == "web 1.2.0").then_some(())
    })
    .await;
    let by = |what: &str, person: &Person| (what.to_owned(), person.actor.clone());
    let [ada, bob] = approvers;
    vec![
        by("promote", jane),
        by("approve", ada),
        by("approve", bob),
        by("promote", jane),
        by("rollback", jane),
        by("promote", jane),
    ]
}
