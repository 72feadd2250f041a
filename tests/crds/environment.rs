//! Cases of Environment.

use super::cases::{Case, bad, good};

/// An environment of the project `shop` with these fields.
fn environment(fields: &str) -> String {
    format!("project: shop\n{fields}")
}

#[rustfmt::skip] // a case a line
pub fn cases() -> Vec<Case> {
    const SPAN: &str = "must be a duration between";
    vec![
        good("the least that is needed", environment("")),
        Case { object: "pr.42", ..bad("a name with a dot", environment(""), "<nil>", "metadata.name of a Environment must be") },
        bad("no project", "suspend: true", "spec.project", "Required value"),
        good("a pull request", environment("source: {provider: github, repository: acme/shop, pullRequest: 42, branch: feat/x, commit: abc, author: ada, fork: true}")),
        bad("pull request 0", environment("source: {pullRequest: 0}"), "spec.source.pullRequest", "greater than or equal to 1"),
        bad("an unknown provider", environment("source: {provider: svn}"), "spec.source.provider", "supported values"),
        good("an image by tag", environment("services: {web: {tag: pr-42}}")),
        bad("an image by tag and policy", environment("services: {web: {tag: '1', policy: {semver: '*'}}}"), "spec.services[web]", "policy, tag and digest exclude each other"),
        good("blue and green", environment("strategy: {type: BlueGreen}")),
        bad("pods that go before others come", environment("strategy: {type: Recreate}"), "spec", "strategy.type of an Environment must be Rolling or BlueGreen"),
        bad("no time to live", environment("ttl: 0s"), "spec.ttl", SPAN),
        bad("two years", environment("ttl: 17520h"), "spec.ttl", SPAN),
        good("asleep after a second", environment("idleAfter: 1s")),
        bad("gone before it sleeps", environment("idleAfter: 2h\ndeleteAfterIdle: 1h"), "spec", "deleteAfterIdle must not be shorter than idleAfter"),
        good("nights", environment("sleep: [{schedule: '0 20 * * MON-FRI', timeZone: Europe/Berlin, duration: 11h}]")),
        bad("sleep without a beginning", environment("sleep: [{duration: 1h}]"), "spec.sleep[0]", "a span of sleep needs exactly one of schedule (cron) and recurrence"),
        good("a quota", environment("quota: {requests.memory: 2Gi, pods: '10'}")),
        bad("a quota that is a number", environment("quota: {pods: 10}"), "spec.quota.pods", "must be of type string"),
        bad("one service twice", environment("public: [web, web]"), "spec.public[1]", "Duplicate value"),
        good("no secrets", environment("secrets: None")),
        bad("half the secrets", environment("secrets: Some"), "spec.secrets", "supported values"),
        good("in the project's namespace", environment("isolation: Project")),
        good("hooks", environment("hooks: {onStart: [{name: seed}], beforeDelete: [{name: bye, timeout: 30s}]}")),
        bad("one hook twice", environment("hooks: {onStart: [{name: seed}, {name: seed}]}"), "spec.hooks.onStart[1]", "Duplicate value"),
    ]
}
