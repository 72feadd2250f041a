//! How releases fared on the stages before a target, and who agreed to them.

use std::time::Duration;

use stagekeeper::{
    domain::{
        actor::Actor,
        deploy::State,
        promotion::{Approval, Upstream},
        release::ReleaseId,
    },
    store::{Advance, NewDeploy, Proof},
};
use uuid::Uuid;

use crate::fixture::{Shop, WAY, at, id, new_deploy, release, step};

/// A success of release 1.`version`.0 at an instant.
async fn success(shop: &Shop, target: Uuid, sequence: i64, number: u32, version: u32, second: i64) -> Uuid {
    let new = new_deploy(target, sequence, version);
    let new = NewDeploy { id: id(number), instance: format!("i{number}"), ..new };
    let deploy = shop.pending(&new).await;
    let mut from = State::Pending;
    for (version, (to, reason)) in (1..).zip(WAY) {
        let advance = Advance { at: at(second), ..step(deploy, version, from, to, reason) };
        shop.deploy_advance(&advance).await.unwrap();
        from = to;
    }
    deploy
}

fn of(version: u32) -> ReleaseId {
    release(&format!("1.{version}.0")).id()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

fn found(proofs: &[Proof], version: u32) -> &Proof {
    proofs.iter().find(|proof| proof.release == of(version)).unwrap_or_else(|| panic!("no proof of 1.{version}.0"))
}

fn served(name: &str, first: i64, seconds: u64, serving_since: Option<i64>) -> Upstream {
    Upstream {
        first: Some(at(first)),
        served: Duration::from_secs(seconds),
        serving_since: serving_since.map(at),
        ..Upstream::never(name)
    }
}

/// On dev: 1.1 from 100 to 200, 1.2 to 250, 1.1 again to 400, 1.3 twice since 400; a failure between. On qa: 1.2 since 900.
async fn shop() -> (Shop, Uuid) {
    let shop = Shop::new().await;
    let (dev, qa, live) = (shop.stage(2, "dev").await, shop.stage(3, "qa").await, shop.stage(4, "live").await);
    success(&shop, dev, 1, 11, 1, 100).await;
    success(&shop, dev, 2, 12, 2, 200).await;
    success(&shop, dev, 3, 13, 1, 250).await;
    let failed = new_deploy(dev, 4, 9);
    shop.pending(&failed).await;
    shop.walk(failed.id, &[WAY[0], (State::Failed, "HookFailed")]).await;
    success(&shop, dev, 5, 15, 3, 400).await;
    success(&shop, dev, 6, 16, 3, 500).await;
    success(&shop, qa, 1, 21, 2, 900).await;
    (shop, live)
}

#[tokio::test]
async fn times_on_a_stage_are_summed_up() {
    let (shop, live) = shop().await;
    let asked = [of(1), of(2), of(3), of(9), of(42)];
    let proofs = shop.proofs_list(live, &names(&["dev", "qa", "gone"]), &asked).await.unwrap();
    assert_eq!(proofs.len(), asked.len());

    let gone = || Upstream::missing("gone");
    let one = found(&proofs, 1);
    assert_eq!(one.upstreams, [served("dev", 100, 100 + 150, None), Upstream::never("qa"), gone()]);
    assert_eq!((one.deploy, one.images.clone()), (Some(id(13)), Some(release("1.1.0"))), "the last of its deploys");

    let two = found(&proofs, 2);
    let back = Upstream { went_back_to: Some("web 1.1.0".into()), ..served("dev", 200, 50, None) };
    assert_eq!(two.upstreams, [back, served("qa", 900, 0, Some(900)), gone()]);
    assert_eq!(two.deploy, Some(id(21)), "where it succeeded last");

    let three = found(&proofs, 3);
    assert_eq!(three.upstreams, [served("dev", 400, 100, Some(500)), Upstream::never("qa"), gone()]);

    let never = [Upstream::never("dev"), Upstream::never("qa"), gone()];
    for version in [9, 42] {
        let proof = found(&proofs, version);
        assert_eq!(proof.upstreams, never, "failed there, or was never there");
        assert_eq!((proof.deploy, &proof.images, proof.candidate()), (None, &None, None));
    }
    assert_eq!(shop.proofs_list(live, &[], &asked).await, Ok(Vec::new()));
}

/// On dev as in [`shop`]. What was lost and came back takes away what was before it, and the time in between.
#[tokio::test]
async fn a_soak_begins_again_where_readiness_was_lost() {
    let (shop, live) = shop().await;
    let on_dev = async |version: u32| {
        let proofs = shop.proofs_list(live, &names(&["dev"]), &[of(version)]).await.unwrap();
        found(&proofs, version).upstreams[0].clone()
    };
    // 1.3 serves twice: deploy 15 from 400 to 500, and deploy 16 since.
    shop.unready_begin(id(16), at(600)).await.unwrap();
    let lost = on_dev(3).await;
    let why = format!("its pods are not all ready since {}", at(600));
    assert_eq!(lost, Upstream { unready: Some(why), ..served("dev", 400, 0, Some(500)) });
    shop.unready_begin(id(16), at(610)).await.unwrap();
    assert_eq!(on_dev(3).await, lost, "it is known");
    let target = shop.target_state_load(id(2)).await.unwrap().unwrap();
    assert!(target.unready, "the next leader knows it too");

    shop.unready_end(id(16), at(650)).await.unwrap();
    shop.unready_end(id(16), at(660)).await.unwrap();
    let back = |second| Upstream { recovered: Some(at(second)), ..served("dev", 400, 0, Some(second)) };
    assert_eq!(on_dev(3).await, back(650));
    shop.unready_begin(id(16), at(700)).await.unwrap();
    shop.unready_end(id(16), at(690)).await.unwrap();
    assert_eq!(on_dev(3).await, back(700), "the last time counts, and no time is negative");
    assert!(!shop.target_state_load(id(2)).await.unwrap().unwrap().unready);

    // 1.1 served from 100 to 200 and from 250 to 400.
    shop.unready_begin(id(11), at(120)).await.unwrap();
    shop.unready_end(id(11), at(130)).await.unwrap();
    let again = |seconds, at_| Upstream { recovered: Some(at(at_)), ..served("dev", 100, seconds, None) };
    assert_eq!(on_dev(1).await, again(70 + 150, 130));
    shop.unready_begin(id(13), at(300)).await.unwrap();
    shop.unready_end(id(13), at(310)).await.unwrap();
    assert_eq!(on_dev(1).await, again(90, 310));
    shop.unready_begin(id(13), at(390)).await.unwrap();
    assert_eq!(on_dev(1).await.served, Duration::ZERO, "it was replaced before it was back");
    assert_eq!(on_dev(2).await.served, Duration::from_secs(50), "what is of another release");
}

#[tokio::test]
async fn what_was_gone_back_from_stays_so_when_others_come() {
    let shop = Shop::new().await;
    let (dev, live) = (shop.stage(2, "dev").await, shop.stage(3, "live").await);
    for (sequence, version) in [(1, 1), (2, 2), (3, 1), (4, 3)] {
        let number = u32::try_from(10 + sequence).unwrap();
        success(&shop, dev, sequence, number, version, 100 * sequence).await;
    }
    let proofs = shop.candidates_list(live, &names(&["dev"]), &[], 10).await.unwrap();
    let back = |version| found(&proofs, version).upstreams[0].went_back_to.clone();
    assert_eq!((back(1), back(2), back(3)), (None, Some("web 1.1.0".into()), None));

    success(&shop, dev, 5, 15, 2, 500).await;
    let proofs = shop.candidates_list(live, &names(&["dev"]), &[], 10).await.unwrap();
    assert_eq!(found(&proofs, 2).upstreams[0].went_back_to, None, "it came again");
    assert_eq!(found(&proofs, 3).upstreams[0].went_back_to, Some("web 1.2.0".into()));
}

#[tokio::test]
async fn candidates_are_the_newest_of_each_stage_and_what_is_asked_for_besides() {
    let (shop, live) = shop().await;
    let listed = async |from: &[&str], also: &[ReleaseId], limit| {
        let proofs = shop.candidates_list(live, &names(from), also, limit).await.unwrap();
        let mut found: Vec<String> = proofs.iter().filter_map(|proof| Some(proof.candidate()?.summary)).collect();
        found.sort();
        found
    };
    assert_eq!(listed(&["dev", "qa"], &[], 10).await, ["web 1.1.0", "web 1.2.0", "web 1.3.0"]);
    assert_eq!(listed(&["dev", "qa"], &[], 1).await, ["web 1.2.0", "web 1.3.0"], "the last of each");
    assert_eq!(listed(&["dev"], &[], 2).await, ["web 1.3.0"], "the last two are the same release");
    assert_eq!(listed(&["dev"], &[of(1), of(42)], 1).await, ["web 1.1.0", "web 1.3.0"]);
    assert_eq!(listed(&["gone"], &[], 10).await, [""; 0]);

    shop.run("UPDATE stages SET deleted_at = now() WHERE name = 'qa'").await.unwrap();
    let proofs = shop.candidates_list(live, &names(&["dev", "qa"]), &[], 10).await.unwrap();
    assert_eq!(found(&proofs, 2).upstreams[1], Upstream::missing("qa"));
}

#[tokio::test]
async fn vetoes_and_approvals_are_of_their_place_and_release() {
    let (shop, live) = shop().await;
    let veto = |number: u32, target: u32, version: u32, lifted: bool| {
        let lifted = if lifted { "now(), 'policy'" } else { "NULL, NULL" };
        let (number, target, version) = (id(number), id(target), of(version));
        format!(
            "INSERT INTO vetoes (id, target_id, release_id, reason, actor, at, lifted_at, lifted_by)
             VALUES ('{number}', '{target}', '{version}', 'web answers 500', 'policy', now(), {lifted})"
        )
    };
    let approval = |number: u32, target: u32, version: u32, who: &str, withdrawn: bool| {
        let withdrawn = if withdrawn { format!("'{}'", at(60)) } else { "NULL".into() };
        format!(
            "INSERT INTO approvals (id, target_id, release_id, actor, groups, verified, reason, at, expires_at, withdrawn_at)
             VALUES ('{}', '{}', '{}', 'user:{who}', '{{release,ops}}', true, 'looks good', '{}', '{}', {withdrawn})",
            id(number),
            id(target),
            of(version),
            at(number.into()),
            at(1_000)
        )
    };
    for sql in [
        veto(50, 2, 3, false),
        veto(51, 4, 2, false),
        veto(52, 2, 1, true),
        approval(60, 4, 3, "jane", false),
        approval(61, 4, 3, "joe", false),
        approval(62, 4, 3, "jack", true),
        approval(63, 4, 1, "jane", false),
        approval(64, 2, 3, "jim", false),
    ] {
        shop.run(&sql).await.unwrap();
    }
    let proofs = shop.proofs_list(live, &names(&["dev", "qa"]), &[of(1), of(2), of(3)]).await.unwrap();
    let vetoes = |version| {
        let proof = found(&proofs, version);
        let there = proof.upstreams.iter().map(|upstream| upstream.veto.is_some()).collect::<Vec<_>>();
        (there, proof.veto.clone())
    };
    assert_eq!(vetoes(1), (vec![false, false], None), "it was lifted");
    assert_eq!(vetoes(2), (vec![false, false], Some("web answers 500".into())));
    assert_eq!(vetoes(3), (vec![true, false], None));

    let given = |who: &str, second| Approval {
        release: of(3),
        actor: Actor::User(who.into()),
        verified: true,
        groups: vec!["release".into(), "ops".into()],
        at: at(second),
        expires: Some(at(1_000)),
    };
    assert_eq!(found(&proofs, 3).approvals, [given("jane", 60), given("joe", 61)]);
    assert_eq!(found(&proofs, 1).approvals.len(), 1);
    assert_eq!(found(&proofs, 2).approvals, []);
}
