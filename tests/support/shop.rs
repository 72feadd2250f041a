//! The project and the stage that most tests deploy, as YAML for [`Env::apply`](super::cluster::Env::apply).
//!
//! ```text
//! env.apply(&shop::project("")).await;
//! env.apply(&shop::stage("strategy: {type: Rolling}")).await;
//! ```

/// The Project `shop`: its service `web` follows the versions of `REGISTRY/web` and answers on port 8080. `fields` are
/// further fields of the service, in flow style, such as `replicas: 2`.
pub fn project(fields: &str) -> String {
    let web = web(fields);
    format!(
        "{{apiVersion: stagekeeper.dev/v1alpha1, kind: Project, metadata: {{name: shop}}, spec: {{services: [{web}]}}}}"
    )
}

/// The service `web` alone, for projects that have others too.
pub fn web(fields: &str) -> String {
    let probe = if fields.contains("health:") {
        ""
    } else {
        "health: {http: {path: /healthz}, interval: 200ms, failureThreshold: 3},"
    };
    format!(
        "{{name: web, image: {{repository: REGISTRY/web, policy: {{semver: '*'}}, interval: 1s, insecure: true}}, \
         ports: [{{name: http, port: 8080}}], {probe} {fields}}}"
    )
}

/// The Stage `production` of `shop`. `fields` are fields of its spec, in flow style.
pub fn stage(fields: &str) -> String {
    named_stage("production", fields)
}

/// Another Stage of `shop`.
pub fn named_stage(name: &str, fields: &str) -> String {
    format!(
        "{{apiVersion: stagekeeper.dev/v1alpha1, kind: Stage, metadata: {{name: {name}}}, \
         spec: {{project: shop, {fields}}}}}"
    )
}
