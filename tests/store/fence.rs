//! Who leads no more writes nothing, whatever it writes; longer than 500 lines because each write of a leader has an entry, and
//! what it needs to have something to change.

use std::fmt::Debug;

use futures::future::{BoxFuture, FutureExt as _};
use jiff::SignedDuration;
use stagekeeper::{
    crypto::{Sealed, Wrapped},
    domain::{
        actor::Actor,
        credential::CredentialKind,
        deploy::{Phase, State},
        image::Digest,
        request::{Action, Origin, Via},
        secret::SecretId,
        update::{SeenUpdate, TagName},
    },
    store::{
        Asked, Class, CredentialSlot, CredentialUse, DeclaredReceiver, DeliveryKey, DeliveryState, HookStart,
        ImageScan, InstanceStatus, LifeChange, LogFilter, LogLevel, LogLine, NewCredential, NewDelivery, NewHold,
        NewReceiver, NewRequest, NewSecret, NewStage, RegistrySettings, SecretSlot, SecretUse, Settled, Settlement,
        Store, StoreError, UpdateChoice, UpdateFilter,
    },
};
use uuid::Uuid;

use crate::{
    environments::new_environment,
    fixture::{Shop, WAY, at, change, found, id, new_deploy, release, step, veto},
    groups::{answer, beginning, group},
    pull_requests::{known as pull, message},
    scans::scan,
};

/// Before and after a newer leader: deploy 10 of `dev` is at work, deploy 13 of `live` failed and is vetoed.
struct Scene {
    shop: Shop,
    dev: Uuid,
    live: Uuid,
    work: Uuid,
    idle: Uuid,
    eu: Uuid,
    us: Uuid,
}

type Write = (&'static str, Box<dyn for<'a> Fn(&'a Scene, &'a Store) -> BoxFuture<'a, Result<String, StoreError>>>);

fn told<T: Debug>(result: Result<T, StoreError>) -> Result<String, StoreError> {
    result.map(|value| format!("{value:?}"))
}

/// Every function with which a leader changes something, each with something to change.
#[expect(clippy::too_many_lines, reason = "one entry for each write")]
fn writes() -> Vec<Write> {
    let mut all: Vec<Write> = Vec::new();
    macro_rules! write {
        ($name:literal, |$scene:ident, $store:ident| $call:expr) => {
            all.push(($name, Box::new(|$scene, $store| async move { told($call.await) }.boxed())));
        };
    }
    write!("project_upsert", |_scene, store| store.project_upsert(id(60), "acme", "other"));
    write!("stage_upsert", |scene, store| store.stage_upsert(&new_stage(scene)));
    write!("stage_soft_delete", |_scene, store| store.stage_soft_delete("acme", "idle"));
    write!("environment_open", |scene, store| async {
        store.environment_open(&new_environment(&scene.shop, 62, "other", "other-aaaaaaaaaaaa")).await
    });
    write!("environment_sleeps", |_scene, store| store.environment_sleeps(id(63), Some(at(4))));
    write!("request_life", |_scene, store| async {
        let change = LifeChange { pinned: Some(true), ..LifeChange::default() };
        store.request_life(&settles(107), change, at(4)).await
    });
    write!("environment_ends", |_scene, store| store.environment_ends(id(63), at(4), "over"));
    write!("environment_ended", |_scene, store| store.environment_ended("acme", "demo", at(400)));
    write!("deploy_create", |scene, store| store.deploy_create(&new_deploy(scene.dev, 2, 11)));
    write!("deploy_adopt", |scene, store| store.deploy_adopt(&found(scene.live, 3, 14)));
    write!("deploy_advance", |scene, store| store.deploy_advance(&step(
        scene.work,
        2,
        State::Pulling,
        State::Starting,
        "ImagesPulled"
    )));
    write!("deploy_begin", |scene, store| async {
        let begin = step(id(19), 1, State::Pending, State::Pulling, "Started");
        store.deploy_begin(&begin, scene.idle, &[], &release("1.0.0").id(), |_| true).await
    });
    write!("group_begin", |scene, store| async {
        let all = [beginning(scene.eu, id(21), 21), beginning(scene.us, id(22), 22)];
        store.group_begin(id(120), &all, at(4), |_, _| true).await
    });
    write!("request_refuse", |_scene, store| store.request_refuse(&settles(100), at(4)));
    write!("request_approve", |_scene, store| store.request_approve(
        &settles(101),
        id(110),
        &release("1.0.0").id(),
        None,
        at(4)
    ));
    write!("holds_lift", |scene, store| store.holds_lift(scene.live, None, &Actor::Policy, "resumed", at(4)));
    write!("request_hold", |_scene, store| async {
        let hold = NewHold {
            id: id(111),
            owner: "ada".into(),
            actor: Actor::Policy,
            reason: "fair".into(),
            expires_at: None,
            from: None,
            settled_on: None,
            declared: None,
        };
        store.request_hold(&settles(102), &hold, at(4)).await
    });
    write!("request_resume", |_scene, store| store.request_resume(&settles(103), None, at(4)));
    write!("request_veto", |_scene, store| store.request_veto(&settles(104), id(112), &release("1.0.0").id(), at(4)));
    write!("request_unveto", |_scene, store| store.request_unveto(&settles(105), &release("1.0.0").id(), at(4)));
    write!("unready_begin", |_scene, store| store.unready_begin(id(12), at(4)));
    write!("unready_end", |scene, store| store.unready_end(scene.work, at(4)));
    write!("hook_begin", |scene, store| store.hook_begin(scene.work, Phase::BeforeStart, "seed", at(4)));
    write!("hook_finish", |scene, store| store.hook_finish(
        scene.work,
        Phase::BeforeStart,
        "migrate",
        true,
        "done",
        at(4)
    ));
    write!("instances_change", |scene, store| store.instances_change(
        scene.dev,
        &[change("blue", InstanceStatus::Running, Some(scene.work)), change("green", InstanceStatus::Stopped, None)],
        at(4)
    ));
    write!("credential_put", |scene, store| store.credential_put(&new_credential(&scene.shop, 80, "ghcr"), at(4)));
    write!("credential_delete", |scene, store| store.credential_delete(
        scene.shop.project,
        "quay",
        &Actor::Policy,
        at(4)
    ));
    write!("credential_origin_put", |_scene, store| store.credential_origin_put(
        CredentialSlot { id: id(82), version: 1 },
        "elsewhere",
        &Actor::Policy,
        at(4)
    ));
    write!("secrets_put", |scene, store| store.secrets_put(&[new_secret(&scene.shop, 83, "KEY")], at(4)));
    write!("secret_origins_put", |scene, store| store.secret_origins_put(
        scene.shop.project,
        &[(secret_slot(85, "MOVED"), "elsewhere".into())],
        &Actor::Policy,
        at(4)
    ));
    write!("secret_delete", |scene, store| store.secret_delete(
        scene.shop.project,
        &SecretId::for_all("OLD"),
        &Actor::Policy,
        at(4)
    ));
    write!("image_scans_put", |_scene, store| store.image_scans_put(&[scan(2, "1.0.0", 5)]));
    write!("image_scans_touch", |_scene, store| store.image_scans_touch(&[(scan(1, "", 0).key, at(50))]));
    write!("image_scan_accept", |_scene, store| store.image_scan_accept(&shrank(), "stage/dev", &Actor::Policy, at(6)));
    write!("image_scans_prune", |_scene, store| store.image_scans_prune(at(1_000), 1));
    write!("registry_put", |_scene, store| store.registry_put(&registry("new.test"), &Actor::Policy, at(4)));
    write!("registry_delete", |_scene, store| store.registry_delete("old.test", &Actor::Policy, at(4)));
    write!("uses_prune of credentials", |_scene, store| store.uses_prune(at(1_000), 1));
    write!("uses_prune of secrets", |_scene, store| store.uses_prune(at(1_000), 1));
    write!("receiver_rotate", |scene, store| store.receiver_rotate(
        scene.shop.project,
        "old",
        TOKEN,
        None,
        &Actor::Controller,
        at(4)
    ));
    write!("receivers_declare", |scene, store| store.receivers_declare(
        scene.shop.project,
        &[receiver(95, "new")],
        &Actor::Controller,
        at(4)
    ));
    write!("inbox_settle", |_scene, store| store.inbox_settle(
        std::slice::from_ref(&Settled {
            id: id(97),
            opened: 1,
            state: DeliveryState::Processed,
            result: "done".into()
        }),
        at(4)
    ));
    write!("inbox_replay", |_scene, store| store.inbox_replay(id(98), &Actor::Controller, at(4)));
    write!("inbox_prune", |_scene, store| store.inbox_prune(at(1_000), 100));
    write!("pull_request_put", |scene, store| store.pull_request_put(
        id(130),
        scene.shop.project,
        &pull(1, 4),
        None,
        at(4)
    ));
    write!("pull_request_put of a known one", |scene, store| store.pull_request_put(
        id(131),
        scene.shop.project,
        &pull(2, 9),
        Some(1),
        at(4)
    ));
    write!("pull_request_commented", |_scene, store| store.pull_request_commented(id(132), Some("9")));
    write!("pull_requests_prune", |_scene, store| store.pull_requests_prune(at(1_000), 1));
    write!("outbox_put", |scene, store| store.outbox_put(
        &message(140, scene.shop.project, "new"),
        SignedDuration::ZERO,
        at(4)
    ));
    write!("outbox_sent", |_scene, store| store.outbox_sent(id(141), 1, at(4)));
    write!("outbox_failed", |_scene, store| store.outbox_failed(id(142), 1, "it is away", None));
    write!("outbox_prune", |_scene, store| store.outbox_prune(at(1_000_000_000), 100));
    write!("logs_append", |scene, store| store.logs_append(scene.work, &[line(1, "late")]));
    write!("veto_lift", |scene, store| store.veto_lift(scene.live, &release("1.13.0").id(), &Actor::Policy, at(4)));
    write!("partitions_ensure", |_scene, store| store.partitions_ensure(at(0), 0));
    write!("deploys_prune", |_scene, store| store.deploys_prune(at(1_000), 100));
    write!("updates_see", |_scene, store| store.updates_see(&[seen("new", 4)]));
    write!("updates_acknowledge", |_scene, store| store.updates_acknowledge(
        &UpdateChoice::Matching(UpdateFilter::pending()),
        &Actor::Policy,
        at(4)
    ));
    write!("updates_unacknowledge", |_scene, store| store.updates_unacknowledge(&ALL, &Actor::Policy, at(4)));
    write!("update_tag_create", |_scene, store| store.update_tag_create(&tag("new"), &Actor::Policy, at(4)));
    write!("update_tag_rename", |_scene, store| store.update_tag_rename("old", &tag("kept"), &Actor::Policy, at(4)));
    write!("update_tag_assign", |_scene, store| store.update_tag_assign("free", &ALL, &Actor::Policy, at(4)));
    write!("update_tag_unassign", |_scene, store| store.update_tag_unassign("given", &ALL, &Actor::Policy, at(4)));
    write!("update_tag_delete", |_scene, store| store.update_tag_delete("given", &Actor::Policy, at(4)));
    write!("logs_prune", |_scene, store| store.logs_prune(at(1_000_000_000)));
    all
}

fn shrank() -> ImageScan {
    ImageScan { accepted: Some("1.0.0\n1.1.0".into()), ..scan(1, "1.0.0", 2) }
}

const TOKEN: &str = "abcdefghijklmnopqrstuvwxyz0123456789";

fn receiver(number: u32, name: &str) -> NewReceiver {
    let (name, source) = (name.to_owned(), "diun".to_owned());
    let declared = DeclaredReceiver { name, source, credentials: Vec::new(), registry: None };
    NewReceiver { id: id(number), token: format!("{TOKEN}{number}"), declared }
}

fn delivery(number: u32, ignored: Option<&str>) -> NewDelivery {
    NewDelivery {
        id: id(number),
        receiver: id(96),
        key: DeliveryKey::Id(number.to_string()),
        headers: Vec::new(),
        body: b"{}".to_vec(),
        ignored: ignored.map(str::to_owned),
    }
}

/// All updates, whatever they are.
const ALL: UpdateChoice = UpdateChoice::Matching(UpdateFilter {
    namespace: None,
    pending: None,
    tag: None,
    image: None,
    host: None,
    search: None,
    after: None,
    limit: 0,
});

fn tag(name: &str) -> TagName {
    name.parse().unwrap()
}

fn seen(new: &str, second: i64) -> SeenUpdate {
    SeenUpdate {
        image: "r.test/acme/shop".into(),
        host: "vm".into(),
        platform: String::new(),
        tag: None,
        old_digest: None,
        new_digest: Digest::of(new.as_bytes()),
        created: None,
        provider: String::new(),
        link: None,
        seen_by: Actor::Policy,
        at: at(second),
    }
}

fn new_stage(scene: &Scene) -> NewStage {
    let uid = "uid-61".into();
    NewStage { id: id(61), project_id: scene.shop.project, namespace: "acme".into(), name: "new".into(), uid }
}

fn new_credential_key() -> Sealed {
    Sealed { wrapped: Wrapped { key: "2026".parse().unwrap(), bytes: vec![1] }, body: vec![1] }
}

/// Sealed with a key that this database knows; nobody opens it here.
fn new_credential(shop: &Shop, number: u32, name: &str) -> NewCredential {
    let wrapped = Wrapped { key: "2026".parse().unwrap(), bytes: vec![1] };
    NewCredential {
        id: id(number),
        project: shop.project,
        name: name.into(),
        kind: CredentialKind::Registry,
        version: 1,
        sealed: Sealed { wrapped, body: vec![1; 77] },
        hosts: Vec::new(),
        origin: "test".into(),
        expires_at: None,
        actor: Actor::Controller,
    }
}

fn new_secret(shop: &Shop, number: u32, name: &str) -> NewSecret {
    NewSecret {
        id: id(number),
        project: shop.project,
        secret: SecretId::for_all(name),
        version: 1,
        value: id(number + 100),
        sealed: new_credential(shop, number, "any").sealed,
        origin: "test".into(),
        actor: Actor::Controller,
    }
}

fn settles(number: u32) -> Settlement {
    Settlement { request: id(number), message: "done".into() }
}

fn request(number: u32) -> NewRequest {
    NewRequest {
        id: id(number),
        namespace: "acme".into(),
        stage: "live".into(),
        action: Action::Resume { owner: None },
        actor: Actor::Policy,
        groups: Vec::new(),
        reason: "fair".into(),
        origin: Origin { via: Via::Cli, verified: false, source: None, request_id: None },
        idempotency_key: None,
        group: None,
        at: at(1),
    }
}

fn secret_slot(number: u32, name: &str) -> SecretSlot {
    SecretSlot { secret: SecretId::for_all(name), id: id(number), version: 1, origin: "test".into() }
}

fn registry(host: &str) -> RegistrySettings {
    let (host, token_realms) = (host.into(), Vec::new());
    RegistrySettings { host, insecure: false, ca_pem: None, requests_per_second: None, token_realms }
}

fn line(seq: i64, text: &str) -> LogLine {
    LogLine { at: at(3), source: "pod/web".into(), seq, level: LogLevel::Info, text: text.into() }
}

impl Scene {
    async fn new() -> Self {
        let shop = Shop::new().await;
        let (dev, live) = (shop.stage(2, "dev").await, shop.stage(3, "live").await);
        let idle = shop.stage(4, "idle").await;
        shop.pending(&new_deploy(shop.stage(5, "waiting").await, 1, 19)).await;
        for number in 100..107 {
            let asked = shop.request_create(&request(number)).await.unwrap();
            assert!(matches!(asked, Asked::Made(_)), "{asked:?}");
        }
        shop.environment_open(&new_environment(&shop, 63, "demo", "demo-aaaaaaaaaaaa")).await.unwrap();
        let life = NewRequest { stage: "demo".into(), action: Action::Pin, ..request(107) };
        assert!(matches!(shop.request_create(&life).await.unwrap(), Asked::Made(_)));
        let (eu, us) = (shop.stage(6, "eu").await, shop.stage(7, "us").await);
        shop.group_create(&group(120, &["eu", "us"])).await.unwrap();
        answer(&shop, id(120), id(121), new_deploy(eu, 1, 21)).await;
        answer(&shop, id(120), id(122), new_deploy(us, 1, 22)).await;
        let held = NewHold {
            id: id(113),
            owner: "joe".into(),
            actor: Actor::Policy,
            reason: "fair".into(),
            expires_at: None,
            from: None,
            settled_on: None,
            declared: Some(std::collections::BTreeMap::new()),
        };
        assert_eq!(shop.request_hold(&settles(106), &held, at(2)).await, Ok(true));
        let work = shop.pending(&new_deploy(dev, 1, 10)).await;
        shop.walk(work, &WAY[..1]).await;
        shop.success(&new_deploy(live, 1, 12)).await;
        let bad = shop.pending(&new_deploy(live, 2, 13)).await;
        let failed = stagekeeper::store::Advance {
            veto: Some(veto(70)),
            close: Some("it stays".into()),
            ..step(bad, 1, State::Pending, State::Failed, "HookFailed")
        };
        shop.deploy_advance(&failed).await.unwrap();
        shop.instances_change(dev, &[change("green", InstanceStatus::Running, Some(work))], at(2)).await.unwrap();
        assert_eq!(shop.hook_begin(work, Phase::BeforeStart, "migrate", at(2)).await, Ok(HookStart::Started));
        shop.unready_begin(work, at(2)).await.unwrap();
        shop.logs_append(work, &[line(0, "early")]).await.unwrap();
        let known = new_credential_key();
        assert_eq!(shop.encryption_key_add(&known, at(0)).await, Ok(true));
        shop.credential_put(&new_credential(&shop, 81, "quay"), at(2)).await.unwrap();
        shop.credential_put(&new_credential(&shop, 82, "moved"), at(2)).await.unwrap();
        let secrets = [new_secret(&shop, 84, "OLD"), new_secret(&shop, 85, "MOVED")];
        shop.secrets_put(&secrets, at(2)).await.unwrap();
        shop.image_scans_put(&[shrank()]).await.unwrap();
        shop.registry_put(&registry("old.test"), &Actor::Policy, at(2)).await.unwrap();
        shop.receivers_declare(shop.project, &[receiver(96, "old")], &Actor::Controller, at(2)).await.unwrap();
        for new in [delivery(97, None), delivery(98, Some("ping"))] {
            shop.inbox_put(&new, at(2)).await.unwrap();
        }
        shop.updates_see(&[seen("old", 2)]).await.unwrap();
        let mut closed = pull(4, 2);
        closed.facts.state = stagekeeper::domain::pull_request::PullState::Closed;
        for (number, one) in [(131, pull(2, 2)), (132, pull(3, 2)), (133, closed)] {
            assert_eq!(shop.pull_request_put(id(number), shop.project, &one, None, at(2)).await, Ok(true));
        }
        for number in [141, 142, 143] {
            shop.outbox_put(&message(number, shop.project, "old"), SignedDuration::ZERO, at(2)).await.unwrap();
        }
        shop.outbox_sent(id(143), 1, at(2)).await.unwrap();
        for name in ["old", "given", "free"] {
            shop.update_tag_create(&tag(name), &Actor::Policy, at(2)).await.unwrap();
        }
        shop.update_tag_assign("given", &ALL, &Actor::Policy, at(2)).await.unwrap();
        let (version, actor, purpose) = (1, String::from("policy"), String::from("test"));
        let used = CredentialUse { credential: id(82), version, actor, purpose, at: at(2) };
        shop.credential_uses_append(std::slice::from_ref(&used)).await.unwrap();
        let CredentialUse { version, actor, purpose, at, .. } = used;
        shop.secret_uses_append(&[SecretUse { secret: id(85), version, actor, purpose, at }]).await.unwrap();
        Self { shop, dev, live, work, idle, eu, us }
    }

    /// All rows that the writes could touch, as text.
    async fn rows(&self) -> Vec<String> {
        let tables = [
            "projects",
            "targets",
            "stages",
            "releases",
            "snapshots",
            "deploys",
            "deploy_transitions",
            "instances",
            "hook_runs",
            "unready",
            "vetoes",
            "audit_log",
            "credentials",
            "credential_uses",
            "secrets",
            "secret_versions",
            "secret_uses",
            "registries",
            "image_scans",
            "webhook_receivers",
            "webhook_inbox",
            "deploy_logs",
            "deploy_logs_partitions",
            "image_updates",
            "update_tags",
            "tag_assignments",
            "requests",
            "deploy_groups",
            "holds",
            "approvals",
            "environments",
            "subdomains",
            "pull_requests",
            "outbox",
        ];
        self.shop.rows(tables).await
    }
}

#[tokio::test]
async fn who_leads_no_more_writes_nothing() {
    let scene = Scene::new().await;
    let old = scene.shop.leader_epoch_claim("acme/stagekeeper", "pod-1", 0).await.unwrap();
    let old = scene.shop.leading("acme/stagekeeper", old);
    let new = scene.shop.leader_epoch_claim("acme/stagekeeper", "pod-2", 0).await.unwrap();
    let new = scene.shop.leading("acme/stagekeeper", new);
    let before = scene.rows().await;
    for (name, write) in writes() {
        let Err(error) = write(&scene, &old).await else { panic!("{name} was not refused") };
        assert!(matches!(error, StoreError::Fenced(_)), "{name}: {error:?}");
        assert_eq!((error.class(), error.reason()), (Class::Conflict, "StoreFenced"), "{name}");
        assert!(error.to_string().contains("lease acme/stagekeeper"), "{name}: {error}");
        assert_eq!(scene.rows().await, before, "{name} wrote something");
    }
    // It is not the writes: who leads now is let through, and each changes something.
    for (name, write) in writes() {
        let before = scene.rows().await;
        let done = write(&scene, &new).await;
        assert!(done.is_ok(), "{name}: {done:?}");
        assert_ne!(scene.rows().await, before, "{name} has nothing to do: {done:?}");
    }
}

#[tokio::test]
async fn a_leader_of_another_lease_and_a_restored_database_fence_nobody() {
    let scene = Scene::new().await;
    let mine = scene.shop.leader_epoch_claim("acme/stagekeeper", "pod-1", 0).await.unwrap();
    let mine = scene.shop.leading("acme/stagekeeper", mine);
    scene.shop.leader_epoch_claim("beta/stagekeeper", "pod-9", 0).await.unwrap();
    assert_eq!(mine.logs_append(scene.work, &[line(1, "another lease")]).await, Ok(1));
    // A restored database knows an older epoch, or none.
    for sql in ["UPDATE leader_epochs SET epoch = 1", "DELETE FROM leader_epochs"] {
        let mine = scene.shop.leading("acme/stagekeeper", 40);
        scene.shop.run(sql).await.unwrap();
        assert_eq!(mine.logs_append(scene.work, &[line(40, "restored")]).await.map(|_| ()), Ok(()), "{sql}");
    }
    let filter = LogFilter { deploy: scene.work, search: None, after: 0, limit: 10 };
    let texts: Vec<String> = scene.shop.logs_list(&filter).await.unwrap().into_iter().map(|l| l.line.text).collect();
    assert_eq!(texts, ["early", "another lease", "restored"]);
}

#[tokio::test]
async fn who_leads_several_shards_is_fenced_when_one_of_them_is_anothers() {
    let scene = Scene::new().await;
    let both = "acme/stagekeeper,acme/stagekeeper-2";
    let mine = scene.shop.leader_epoch_claim(both, "pod-1", 0).await.unwrap();
    let mine = scene.shop.leading(both, mine);
    assert_eq!(mine.logs_append(scene.work, &[line(1, "both")]).await, Ok(1));
    scene.shop.leader_epoch_claim("acme/stagekeeper-1", "pod-2", 0).await.unwrap();
    assert_eq!(mine.logs_append(scene.work, &[line(2, "a third is another's")]).await, Ok(1));
    let theirs = scene.shop.leader_epoch_claim("acme/stagekeeper-2", "pod-3", 0).await.unwrap();
    let refused = mine.logs_append(scene.work, &[line(3, "no more")]).await;
    assert!(matches!(&refused, Err(StoreError::Fenced(why)) if why.contains("acme/stagekeeper-2")), "{refused:?}");
    let theirs = scene.shop.leading("acme/stagekeeper-2", theirs);
    assert_eq!(theirs.logs_append(scene.work, &[line(4, "theirs")]).await, Ok(1));
}

#[tokio::test]
async fn several_shards_are_claimed_with_one_epoch() {
    let scene = Scene::new().await;
    scene.shop.leader_epoch_claim("b", "pod-1", 7).await.unwrap();
    assert_eq!(scene.shop.leader_epoch_claim("a,b", "pod-2", 0).await, Ok(8));
    // However many claim at once, no two have the same epoch for one lease.
    let claims = (0..6).map(|at| scene.shop.leader_epoch_claim(["a,b", "b,c", "a,c"][at % 3], "pod-3", 0));
    let epochs: Vec<i64> = futures::future::join_all(claims).await.into_iter().map(Result::unwrap).collect();
    let mut distinct = epochs.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), epochs.len(), "{epochs:?}");
    assert!(epochs.iter().all(|epoch| *epoch > 8), "{epochs:?}");
}
