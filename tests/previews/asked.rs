//! A provider that is asked, and told.

use serde_json::json;

use crate::{
    cluster::DEADLINE,
    provider::{Provider, closed, pull},
    scene::{SECRET, Scene, TOKEN},
};

async fn until_listed(scene: &Scene, provider: &Provider, times: u64) {
    let before = provider.state().listed;
    let what = format!("it was asked {times} more times");
    scene.env.wait(&what, DEADLINE * 2, async || (provider.state().listed >= before + times).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn polling_finds_what_webhooks_lost_and_deletes_only_what_is_closed() {
    let provider = Provider::new().await;
    provider.put(pull(1, 1, 'a'));
    provider.put(pull(2, 1, 'b'));
    let previews = format!("api: '{}', credential: git, interval: 30s", provider.api());
    let scene = Scene::new("asked", &previews).await;
    scene.until_commit("shop-pr-1", 'a').await;
    scene.until_commit("shop-pr-2", 'b').await;

    // It is told: once, and then edited.
    scene
        .env
        .wait("both pull requests are told", DEADLINE, async || {
            let state = provider.state();
            let told = state.comments.values().filter(|text| text.contains("is being prepared")).count();
            (told == 2 && state.statuses.iter().any(|one| one["state"] == "pending")).then_some(())
        })
        .await;
    assert!(provider.state().statuses.iter().all(|one| one["context"] == "stagekeeper/shop"));

    // An empty list and an error delete nothing, and both are told of.
    provider.state().forgetful = true;
    until_listed(&scene, &provider, 2).await;
    assert_eq!(scene.environments().await.len(), 2, "an empty list");
    provider.state().broken = Some(500);
    let said = scene.until_reason("ProviderUnavailable").await;
    assert!(said.contains("GitHub answered 500") && !said.contains("gossip"), "{said}");
    assert_eq!(scene.environments().await.len(), 2, "an error");
    provider.state().broken = Some(401);
    let said = scene.until_reason("TokenRefused").await;
    assert!(said.contains("stagekeeper credential set"), "{said}");
    assert_eq!(scene.environments().await.len(), 2, "a token that is refused");

    // One is closed, which no webhook told of.
    {
        let mut state = provider.state();
        state.pulls.insert(2, closed(pull(2, 1, 'b'), 9));
        (state.broken, state.forgetful) = (None, false);
    }
    scene.until_gone("shop-pr-2").await;
    scene.until_commit("shop-pr-1", 'a').await;
    scene.until_reason("Watching").await;
    scene
        .env
        .wait("its pull request is told", DEADLINE, async || {
            provider.state().comments.values().any(|text| text.contains("has ended")).then_some(())
        })
        .await;
    assert_eq!(provider.state().comments.len(), 2, "comments are edited, and not added");
    assert!(provider.state().heard.contains("/issues/comments/"));

    // Neither the token nor the secret is told to anybody else.
    let project = scene.env.api::<stagekeeper::api::Project>().get("shop").await.unwrap();
    let environments = scene.env.list::<stagekeeper::api::Environment>().await;
    let shown = json!([project.spec, project.status, environments]).to_string();
    let log = std::fs::read_to_string(&scene.operator.log).unwrap();
    let comments = {
        let state = provider.state();
        format!("{:?} {:?}", state.comments, state.statuses)
    };
    for (place, text) in [("a status", &shown), ("the log", &log), ("a comment", &comments)] {
        assert!(!text.contains(TOKEN) && !text.contains(SECRET), "a canary is in {place}");
    }
    for table in ["pull_requests", "outbox", "webhook_inbox"] {
        let found = format!("SELECT count(*) FROM {table} AS t WHERE row_to_json(t)::text LIKE '%canary-of%'");
        assert_eq!(scene.number(&found).await, 0, "{table}");
    }
    scene.operator.stop().await;
}
