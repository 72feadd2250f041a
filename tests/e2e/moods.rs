//! A dozen registries that misbehave at once, each in its own way, and one that does not.

use std::fs;

use stagekeeper::api::{StageStatus, conditions};

use crate::{
    cluster::{DEADLINE, Env},
    lab::{project, reconciling, stage},
    moody_registry::{Lurker, Mood, MoodyRegistry},
    operator::Operator,
    private::stagekeeper,
    private_registry::{PASSWORD, USER},
    quiet,
};

/// By how much the operator may grow, in KiB.
const GROWTH: u64 = 64 << 10;

/// Each mood, under the name of its project and stage, and the reasons that the stage may give for it.
const MOODS: [(&str, Mood, &[&str]); 12] = [
    ("busy", Mood::Busy, &["RegistryRateLimited"]),
    ("broken", Mood::Broken, &["RegistryUnavailable"]),
    ("page", Mood::Page, &["RegistryAnswerMalformed"]),
    ("torn", Mood::Torn, &["RegistryAnswerMalformed"]),
    ("shrunk", Mood::Shrunk, &["TagListShrank"]),
    ("emptied", Mood::Emptied, &["TagListShrank"]),
    ("nulls", Mood::Null, &["TagListShrank"]),
    ("endless", Mood::Endless, &["RegistryAnswerTooLarge"]),
    ("astray", Mood::Astray, &["RegistryAnswerMalformed"]),
    ("slow", Mood::Slow, &["RegistryUnreachable"]),
    ("huge", Mood::Huge, &["RegistryAnswerTooLarge"]),
    ("thief", Mood::Thief, &["RegistryRealmRefused"]),
];

/// The Project and Stage of one registry.
fn shop(env: &Env, name: &str, registry: &MoodyRegistry, more: &str) -> String {
    let project = project(name, "web").replace("REGISTRY", &format!("{}/{}", registry.host, env.namespace));
    project.replace("insecure: true", &format!("insecure: true{more}"))
        + &stage(name, name, "  rollback: {keepPrevious: 0s, watch: 0s}")
}

// The registries run in this process, and must answer while a command is waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registries_in_every_mood_downgrade_nothing_delay_nobody_else_and_learn_no_password() {
    let env = Env::new("moods").await;
    for tag in ["1.0.0", "1.1.0", "1.2.0"] {
        env.push("web", tag, &[]).await;
    }
    let lurker = Lurker::start(&env).await;
    let calm = MoodyRegistry::start(&env, &lurker.host).await;
    let mut registries = Vec::new();
    for (name, mood, reasons) in MOODS {
        registries.push((name, mood, reasons, MoodyRegistry::start(&env, &lurker.host).await));
    }
    let key = format!("2026:{}", "5a".repeat(32));
    let operator = Operator::start_with(&env, &[("STAGEKEEPER_ENCRYPTION_KEYS", &key)]).await;
    let mut all = shop(&env, "calm", &calm, "");
    for (name, mood, _, registry) in &registries {
        all += &shop(&env, name, registry, if *mood == Mood::Thief { ", credential: mine" } else { "" });
    }
    env.apply(&all).await;
    let (.., thief) = registries.iter().find(|(_, mood, ..)| *mood == Mood::Thief).unwrap();
    let missing = |status: &StageStatus| reconciling(status).is_some_and(|(reason, _)| reason == "CredentialMissing");
    env.until("thief", "CredentialMissing", missing).await;
    let set = ["credential", "set", "thief", "mine", "--user", USER, "--host", &*thief.host];
    stagekeeper(&env, &key, &set, PASSWORD);
    for name in MOODS.iter().map(|(name, ..)| *name).chain(["calm"]) {
        env.until_serving(name, "web 1.2.0").await;
    }

    let before = memory(&operator, "VmRSS");
    // From here on the highest mark is counted anew.
    fs::write(format!("/proc/{}/clear_refs", operator.pid()), "5").unwrap();
    calm.turn(Mood::Kind);
    for (_, mood, _, registry) in &registries {
        registry.turn(*mood);
    }
    env.push("web", "1.3.0", &[]).await;
    env.until_serving("calm", "web 1.3.0").await;
    for (name, mood, reasons, registry) in &registries {
        env.wait(&format!("{mood:?} is asked again and again"), DEADLINE, async || {
            (registry.asked() >= if *mood == Mood::Slow { 1 } else { 3 }).then_some(())
        })
        .await;
        let told = |status: &StageStatus| {
            let current = conditions::get(&status.conditions, "ImagesCurrent");
            current.is_some_and(|current| current.status == "False" && reasons.contains(&current.reason.as_str()))
        };
        env.until(name, &format!("{mood:?} is told with {reasons:?}"), told).await;
    }
    let (.., slow) = registries.iter().find(|(_, mood, ..)| *mood == Mood::Slow).unwrap();
    env.wait("an answer comes byte by byte", DEADLINE, async || slow.keeps_waiting().then_some(())).await;
    let asked = calm.asked();
    env.push("web", "1.4.0", &[]).await;
    env.until_serving("calm", "web 1.4.0").await;
    assert!(calm.asked() > asked, "it was found by asking");
    quiet::through_scans(&operator, 30).await;
    for (name, mood, ..) in &registries {
        let deploys = env.deploys(name).await;
        let images: Vec<String> = deploys.iter().map(|entry| entry.stored.release.summary()).collect();
        assert_eq!(images, ["web 1.2.0"], "{mood:?} moved something");
    }
    let grown = memory(&operator, "VmHWM").saturating_sub(before);
    println!("grown by {grown} KiB at most, from {before} KiB");
    assert!(grown <= GROWTH, "the operator grew by {grown} KiB, from {before} KiB");
    assert_eq!(lurker.heard(), Vec::<String>::new(), "somebody was led elsewhere");

    for (.., registry) in &registries {
        registry.turn(Mood::Kind);
    }
    for (name, ..) in MOODS {
        env.until_serving(name, "web 1.4.0").await;
    }
    assert_eq!(lurker.heard(), Vec::<String>::new());
    operator.stop().await;
}

/// A figure of the operator's memory, in KiB.
fn memory(operator: &Operator, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", operator.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}
