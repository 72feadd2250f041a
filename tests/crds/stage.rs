//! Cases of Stage.

use super::cases::{Case, bad, good};

/// A stage of the project `shop` with these fields.
fn stage(fields: &str) -> String {
    format!("project: shop\n{fields}")
}

pub fn cases() -> Vec<Case> {
    [base_cases(), promotion_cases(), route_cases(), hook_cases()].into_iter().flatten().collect()
}

#[rustfmt::skip] // a case a line
fn base_cases() -> Vec<Case> {
    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const TWICE: &str = "pin and services both fix the image of a service";
    const WINDOW: &str = "must be a duration between";
    vec![
        good("the least that is needed", stage("")),
        Case { object: "Prod.eu", ..bad("a name with a dot", stage(""), "metadata.name", "lowercase RFC 1123") },
        Case { object: "prod.eu", ..bad("a name with a dot", stage(""), "<nil>", "metadata.name of a Stage must be") },
        bad("no project", "suspend: true", "spec.project", "Required value"),
        bad("project with a slash", "project: other/shop", "spec.project", "project must be lower-case letters"),
        good("pin to a tag", stage("pin: {web: 1.4.2}")),
        good("pin to a digest", stage(&format!("pin: {{web: '{DIGEST}'}}"))),
        bad("pin to a reference", stage("pin: {web: 'shop:1.4.2'}"), "spec.pin", "pin must give each service a tag"),
        bad("pin to a number", stage("pin: {web: 14}"), "spec.pin.web", "must be of type string"),
        good("pin over a policy", stage("pin: {web: '1'}\nservices: {web: {policy: {semver: '*'}}}")),
        good("pin beside another service's tag", stage("pin: {web: '1'}\nservices: {db: {tag: '1'}}")),
        bad("pin and tag", stage("pin: {web: '1'}\nservices: {web: {tag: '1'}}"), "spec", TWICE),
        bad("pin and digest", stage(&format!("pin: {{web: '1'}}\nservices: {{web: {{digest: '{DIGEST}'}}}}")), "spec", TWICE),
        bad("override by tag and policy", stage("services: {web: {tag: '1', policy: {semver: '*'}}}"), "spec.services[web]", "policy, tag and digest exclude each other"),
        bad("override by two policies", stage("services: {web: {policy: {semver: '*', glob: '*'}}}"), "spec.services[web].policy", "policy needs exactly one of"),
        bad("one variable twice", stage("services: {web: {env: [{name: A}, {name: A}]}}"), "spec.services[web].env[1]", "Duplicate value"),
        good("override of the rest", stage("services: {web: {replicas: 0, command: [], args: [a], resources: {requests: {cpu: 1}}, podTemplate: {a: 1}}}")),
        good("fifo", stage("queue: fifo")),
        bad("unknown queue", stage("queue: lifo"), "spec.queue", "supported values: \"latest\", \"fifo\""),
        good("Recreate", stage("strategy: {type: Recreate}")),
        bad("Canary is not there yet", stage("strategy: {type: Canary}"), "spec.strategy.type", "supported values"),
        good("several instances", stage("maxInstances: 20")),
        bad("no instance", stage("maxInstances: 0"), "spec.maxInstances", "greater than or equal to 1"),
        bad("too many instances", stage("maxInstances: 21"), "spec.maxInstances", "less than or equal to 20"),
        bad("Rolling with several instances", stage("maxInstances: 2\nstrategy: {type: Rolling}"), "spec", "maxInstances above 1 needs strategy.type BlueGreen"),
        bad("Recreate with several instances", stage("maxInstances: 2\nstrategy: {type: Recreate}"), "spec", "maxInstances above 1 needs strategy.type BlueGreen"),
        bad("no time to pull", stage("timeouts: {pull: 0s}"), "spec.timeouts.pull", WINDOW),
        bad("negative time", stage("timeouts: {start: -5m}"), "spec.timeouts.start", WINDOW),
        bad("two days of health checks", stage("timeouts: {health: 48h}"), "spec.timeouts.health", WINDOW),
        bad("a number of seconds", stage("timeouts: {proxy: 60}"), "spec.timeouts.proxy", "must be of type string"),
        good("nothing kept, nothing watched", stage("rollback: {keepPrevious: 0s, watch: 0s}")),
        bad("kept for ever", stage("rollback: {keepPrevious: 10000h}"), "spec.rollback.keepPrevious", WINDOW),
        bad("a time that no number holds", stage("rollback: {watch: 99999999999999999999h}"), "spec.rollback.watch", ""),
    ]
}

#[rustfmt::skip] // a case a line
fn promotion_cases() -> Vec<Case> {
    const BOTH: &str = "promotion and services both say which images run";
    const NAMES: &str = "from must be names of stages of the same project";
    let promotion = |fields: &str| stage(&format!("promotion: {{from: [staging], {fields}}}"));
    let from = |names: &str| stage(&format!("promotion: {{from: {names}}}"));
    let windows = |fields: &str| promotion(&format!("windows: [{{action: allow, duration: 8h, {fields}}}]"));
    let beside = |fields: &str| format!("{}\nservices: {{web: {{{fields}}}}}", from("[staging]"));
    let many = |number: usize| (0..number).map(|n| format!("s{n}")).collect::<Vec<_>>().join(", ");
    vec![
        good("from one stage", from("[staging]")),
        good("all of it", promotion("require: any, auto: true, soak: 30m, approvals: {required: 2, groups: [release], expires: 24h, allowRequester: true}, windows: [{name: office, action: allow, schedule: '0 9 * * MON-FRI', timeZone: Europe/Berlin, duration: 8h}, {action: deny, recurrence: 'FREQ=YEARLY;BYMONTH=12;BYMONTHDAY=20', duration: 336h}]")),
        bad("from nothing", stage("promotion: {auto: true}"), "spec.promotion.from", "Required value"),
        bad("from an empty list", from("[]"), "spec.promotion.from", "should have at least 1 items"),
        bad("from too many", from(&format!("[{}]", many(9))), "spec.promotion.from", "must have at most 8 items"),
        bad("from one twice", from("[staging, staging]"), "spec.promotion.from[1]", "Duplicate value"),
        bad("from itself", from("[staging, shop]"), "<nil>", "promotion.from names this Stage itself"),
        bad("from a stage of another namespace", from("[other/staging]"), "spec.promotion.from", NAMES),
        bad("from no name", from("['']"), "spec.promotion.from[0]", "should be at least 1 chars long"),
        bad("unknown require", promotion("require: most"), "spec.promotion.require", "supported values: \"all\", \"any\""),
        good("the longest soak", promotion("soak: 2160h")),
        bad("a soak that never ends", promotion("soak: 2161h"), "spec.promotion.soak", "between 0s and 2160h"),
        bad("a soak in days", promotion("soak: 3d"), "spec.promotion.soak", "between 0s and 2160h"),
        bad("no approvals at all", promotion("approvals: {required: 0}"), "spec.promotion.approvals.required", "greater than or equal to 1"),
        bad("more approvals than people", promotion("approvals: {required: 21}"), "spec.promotion.approvals.required", "less than or equal to 20"),
        bad("approvals that expire at once", promotion("approvals: {required: 1, expires: 1s}"), "spec.promotion.approvals.expires", "between 1m and 8760h"),
        bad("one group twice", promotion("approvals: {required: 1, groups: [a, a]}"), "spec.promotion.approvals.groups[1]", "Duplicate value"),
        good("a window of a schedule", windows("schedule: '0 9 * * MON-FRI'")),
        good("a window of a rule", windows("recurrence: 'FREQ=DAILY'")),
        bad("a window of neither", windows("name: a"), "spec.promotion.windows[0]", "exactly one of schedule (cron) and recurrence"),
        bad("a window of both", windows("schedule: '0 9 * * *', recurrence: 'FREQ=DAILY'"), "spec.promotion.windows[0]", "exactly one of schedule (cron) and recurrence"),
        bad("a window without an action", promotion("windows: [{schedule: '0 9 * * *', duration: 8h}]"), "spec.promotion.windows[0].action", "Required value"),
        bad("a window without an end", promotion("windows: [{schedule: '0 9 * * *', action: deny}]"), "spec.promotion.windows[0].duration", "Required value"),
        bad("a window of no time", promotion("windows: [{schedule: '0 9 * * *', action: deny, duration: 0s}]"), "spec.promotion.windows[0].duration", "between 1m and 744h"),
        bad("a window of a quarter", promotion("windows: [{schedule: '0 9 * * *', action: deny, duration: 2160h}]"), "spec.promotion.windows[0].duration", "between 1m and 744h"),
        bad("promotion beside a policy", beside("policy: {semver: '*'}"), "spec", BOTH),
        bad("promotion beside a tag", beside("tag: '1'"), "spec", BOTH),
        bad("promotion beside a digest", beside(&format!("digest: 'sha256:{}'", "0".repeat(64))), "spec", BOTH),
        good("promotion beside the rest", beside("replicas: 4")),
        good("promotion beside a pin", format!("{}\npin: {{web: '1'}}", from("[staging]"))),
    ]
}

#[rustfmt::skip] // a case a line
fn route_cases() -> Vec<Case> {
    let route = |fields: &str| stage(&format!("route: {{{fields}}}"));
    let host = |name, host: &str| bad(name, route(&format!("host: '{host}'")), "spec.route.host", "must be a host name in lower case");
    let several = |fields: &str| stage(&format!("maxInstances: 2\nroute: {{{fields}}}"));
    let pattern = |name, pattern: &str| {
        bad(name, route(&format!("host: a.example.com, instanceHost: '{pattern}'")), "spec.route.instanceHost", "such as {instance}.shop.example.com")
    };
    vec![
        good("Ingress", route("host: shop.example.com, className: nginx, tlsSecret: shop-tls, annotations: {a/b: c}, service: web, port: http")),
        good("HTTPRoute", route("host: shop.example.com, type: HTTPRoute, parentRefs: [{name: edge, namespace: gateways, sectionName: https}]")),
        good("no route object", route("type: None")),
        bad("no host", route("type: Ingress"), "spec.route", "route.host is needed"),
        bad("unknown type", route("type: Tunnel"), "spec.route.type", "supported values"),
        bad("HTTPRoute without parentRefs", route("host: a.b, type: HTTPRoute"), "spec.route", "route.parentRefs must name the Gateway"),
        bad("HTTPRoute with empty parentRefs", route("host: a.b, type: HTTPRoute, parentRefs: []"), "spec.route", "route.parentRefs must name the Gateway"),
        bad("Ingress with parentRefs", route("host: a.b, parentRefs: [{name: edge}]"), "spec.route", "route.parentRefs is only for route.type HTTPRoute"),
        bad("HTTPRoute with className", route("host: a.b, type: HTTPRoute, className: nginx, parentRefs: [{name: edge}]"), "spec.route", "only for route.type Ingress"),
        bad("None with tlsSecret", route("type: None, tlsSecret: t"), "spec.route", "only for route.type Ingress"),
        bad("port of no service", route("host: a.b, port: http"), "spec.route", "name the service too"),
        host("host with scheme", "https://shop.example.com"),
        host("host with port", "shop.example.com:443"),
        host("host with path", "shop.example.com/a"),
        host("upper-case host", "Shop.example.com"),
        good("instances with a route each", several("host: a.example.com, instanceHost: '{instance}.a.example.com'")),
        good("instances named inside a label", several("host: a.example.com, instanceHost: 'shop-{instance}-eu.example.com'")),
        good("several instances without routes", several("type: None")),
        bad("several instances with one route", several("host: a.example.com"), "spec", "needs route.instanceHost"),
        pattern("pattern without {instance}", "a.example.com"),
        pattern("pattern with {instance} twice", "{instance}.{instance}.example.com"),
        pattern("pattern with {instance} alone", "{instance}"),
        pattern("pattern with another word", "{release}.example.com"),
    ]
}

#[rustfmt::skip] // a case a line
fn hook_cases() -> Vec<Case> {
    let hooks = |fields: &str| stage(&format!("hooks: {{{fields}}}"));
    vec![
        good("a hook at each moment", hooks("beforeStart: [{name: migrate, command: [/app, migrate]}], beforeTraffic: [{name: seed}], verify: [{name: smoke, image: 'ghcr.io/acme/smoke:3'}], afterSuccess: [{name: tell, service: web, timeout: 1h}]")),
        good("one name at two moments", hooks("beforeStart: [{name: a}], verify: [{name: a}]")),
        bad("one name twice", hooks("verify: [{name: a}, {name: a}]"), "spec.hooks.verify[1]", "Duplicate value"),
        bad("hook without a name", hooks("verify: [{command: [a]}]"), "spec.hooks.verify[0].name", "Required value"),
        bad("upper-case hook", hooks("verify: [{name: Smoke}]"), "spec.hooks.verify[0].name", "name must be lower-case letters"),
        bad("image without a tag", hooks("verify: [{name: a, image: ghcr.io/acme/smoke}]"), "spec.hooks.verify[0].image", "full reference with tag or digest"),
        bad("image with a port but no tag", hooks("verify: [{name: a, image: 'localhost:5000/smoke'}]"), "spec.hooks.verify[0].image", "full reference with tag or digest"),
        bad("too many hooks", hooks(&format!("verify: [{}]", (1..=9).map(|n| format!("{{name: h{n}}}")).collect::<Vec<_>>().join(", "))), "spec.hooks.verify", "must have at most 8 items"),
        bad("no time", hooks("verify: [{name: a, timeout: 0s}]"), "spec.hooks.verify[0].timeout", "between 1s and 24h"),
    ]
}
