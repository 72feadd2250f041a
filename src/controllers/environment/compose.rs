//! An environment as a stage that nobody wrote: what its base stage, its project and itself say becomes one Stage, so that
//! everything that knows stages knows environments. Pure.

use k8s_openapi::api::core::v1::EnvVar;
use kube::ResourceExt as _;

use crate::{
    api::{
        Duration, Environment, EnvironmentRouteType, Hooks, Project, Rollback, Route, RouteType, SecretAccess,
        ServiceOverride, Stage, StageSpec,
    },
    domain::environment::host,
};

/// How long what was before stays after the traffic left it: as long as requests in flight need.
const KEEP_PREVIOUS: Duration = Duration::from_secs(30);

/// A stage that nobody wrote, with the project that it sees.
#[derive(Debug, Clone)]
pub struct Composed {
    /// The stage.
    pub stage: Stage,
    /// The project, without what the environment may not see.
    pub project: Project,
    /// Services and their hosts: the one of the plain host first.
    pub hosts: Vec<(String, String)>,
}

impl Composed {
    /// Whether something else than the built-in proxy brings its requests.
    pub fn is_routed(&self) -> bool {
        self.stage.spec.route.as_ref().is_some_and(|route| route.type_ != RouteType::Edge)
    }
}

/// What surrounds an environment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Outside<'a> {
    /// What hosts are made under; none where there is no address for previews.
    pub domain: Option<&'a str>,
    /// Whether the operator knows the Service of its proxy.
    pub edge: bool,
    /// Whether the environment has a namespace to itself.
    pub own: bool,
}

/// Composes.
///
/// # Errors
/// What is wrong, where, and the way out.
pub fn compose(
    environment: &Environment,
    project: &Project,
    base: Option<&Stage>,
    subdomain: &str,
    outside: Outside<'_>,
) -> Result<Composed, String> {
    let spec = &environment.spec;
    let template = &spec.template;
    let base = match (&template.base, base) {
        (None, _) => None,
        (Some(name), Some(stage)) if stage.spec.project == spec.project && stage.name_any() == *name => Some(stage),
        (Some(name), _) => {
            return Err(format!(
                "spec.base: project {} has no Stage {name}: create it, or correct the name",
                spec.project
            ));
        }
    };
    let hosts = hosts(environment, project, subdomain, outside.domain)?;
    let mut stage = StageSpec::unchanged(&spec.project);
    if let Some(base) = base {
        stage.services.clone_from(&base.spec.services);
        for over in stage.services.values_mut() {
            // What runs there is that stage's business.
            (over.policy, over.tag, over.digest) = (None, None, None);
        }
        stage.timeouts = base.spec.timeouts.clone();
        stage.hooks.clone_from(&base.spec.hooks);
    }
    for (name, over) in &template.services {
        let before = stage.services.remove(name).unwrap_or_default();
        stage.services.insert(name.clone(), Box::new(merged(*before, over)));
    }
    if let Some(timeouts) = &template.timeouts {
        stage.timeouts = timeouts.clone();
    }
    let on_start = template.hooks.iter().flat_map(|hooks| &hooks.on_start);
    for hook in on_start {
        let hooks = stage.hooks.get_or_insert_with(Hooks::default);
        hooks.before_traffic.retain(|other| other.name != hook.name);
        hooks.before_traffic.push(hook.clone());
    }
    stage.strategy = template.strategy.clone();
    stage.suspend = spec.suspend;
    stage.rollback = Rollback {
        on_failure: true,
        keep_previous: KEEP_PREVIOUS,
        // A preview that fell asleep or woke is not one that broke.
        watch: Duration::from_secs(0),
    };
    if let Some(why) = unreachable(environment, outside) {
        return Err(why);
    }
    let declared = template.route.clone().unwrap_or_default();
    stage.route = hosts.first().map(|(service, host)| Route {
        host: Some(host.clone()),
        instance_host: None,
        type_: match declared.type_ {
            EnvironmentRouteType::Edge => RouteType::Edge,
            EnvironmentRouteType::Ingress => RouteType::Ingress,
            EnvironmentRouteType::HttpRoute => RouteType::HttpRoute,
        },
        service: Some(service.clone()),
        port: None,
        class_name: declared.class_name,
        tls_secret: declared.tls_secret,
        annotations: declared.annotations,
        parent_refs: declared.parent_refs,
    });
    let status = environment.status.as_ref().map(|status| status.stage.clone());
    let stage = Stage { metadata: environment.metadata.clone(), spec: stage, status };
    Ok(Composed { stage, project: seen(project, environment), hosts })
}

/// Why its route cannot lead to the proxy while it sleeps.
fn unreachable(environment: &Environment, outside: Outside<'_>) -> Option<String> {
    let route = environment.spec.template.route.as_ref()?;
    match route.type_ {
        EnvironmentRouteType::Edge => None,
        _ if !outside.edge => Some(
            "spec.route: what answers while it sleeps is not known: set STAGEKEEPER_EDGE_SERVICE of the operator \
             (edge.enabled of the chart), or choose route.type Edge"
                .into(),
        ),
        EnvironmentRouteType::HttpRoute if outside.own => Some(
            "spec.route: an HTTPRoute leads to the proxy's namespace, which has to grant that to each namespace by name: \
             set isolation to Project, or choose route.type Ingress"
                .into(),
        ),
        EnvironmentRouteType::HttpRoute | EnvironmentRouteType::Ingress => None,
    }
}

/// The project as the environment sees it: code of strangers gets no secrets.
fn seen(project: &Project, environment: &Environment) -> Project {
    let mut project = project.clone();
    if !may_see_secrets(environment) {
        project.spec.secrets.clear();
    }
    project
}

/// Whether its services get the project's secrets.
pub fn may_see_secrets(environment: &Environment) -> bool {
    let fork = environment.spec.source.as_ref().is_some_and(|source| source.fork);
    environment.spec.secrets == SecretAccess::Project && !fork
}

/// Which services have which hosts.
fn hosts(
    environment: &Environment,
    project: &Project,
    subdomain: &str,
    domain: Option<&str>,
) -> Result<Vec<(String, String)>, String> {
    let public = &environment.spec.template.public;
    let has_port = |name: &str| project.spec.service(name).is_some_and(|service| !service.ports.is_empty());
    if let Some(wrong) = public.iter().find(|name| !has_port(name)) {
        return Err(format!(
            "spec.public: project {} has no service {wrong} with a port: correct the name, or give it a port",
            environment.spec.project
        ));
    }
    let Some(domain) = domain else {
        return Ok(Vec::new());
    };
    let first = || {
        let mut services = project.spec.services.iter();
        let first = services.find(|one| one.effective_scope() == crate::api::Scope::Instance && !one.ports.is_empty());
        first.map(|service| service.name.clone())
    };
    let names: Vec<String> = if public.is_empty() { first().into_iter().collect() } else { public.clone() };
    let place = |(at, name): (usize, String)| {
        let host = host(subdomain, (at > 0).then_some(name.as_str()), domain);
        (name, host)
    };
    Ok(names.into_iter().enumerate().map(place).collect())
}

/// What is said later goes over what was said before, field by field; variables are merged by name.
fn merged(mut before: ServiceOverride, over: &ServiceOverride) -> ServiceOverride {
    if over.policy.is_some() || over.tag.is_some() || over.digest.is_some() {
        before.policy.clone_from(&over.policy);
        before.tag.clone_from(&over.tag);
        before.digest.clone_from(&over.digest);
    }
    let env = merged_env(before.env, &over.env);
    ServiceOverride {
        replicas: over.replicas.or(before.replicas),
        command: over.command.clone().or(before.command),
        args: over.args.clone().or(before.args),
        env,
        resources: over.resources.clone().or(before.resources),
        pod_template: over.pod_template.clone().or(before.pod_template),
        ..before
    }
}

fn merged_env(mut before: Vec<EnvVar>, over: &[EnvVar]) -> Vec<EnvVar> {
    before.retain(|one| over.iter().all(|other| other.name != one.name));
    before.extend(over.iter().cloned());
    before
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: serde::de::DeserializeOwned>(text: &str) -> T {
        serde_yaml::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    fn project() -> Project {
        read(
            "
metadata: {name: shop, namespace: acme}
spec:
  secrets: [{name: STRIPE_KEY}]
  services:
  - {name: db, image: {repository: postgres, tag: '16'}, ports: [{name: sql, port: 5432}]}
  - {name: web, image: {repository: ghcr.io/acme/shop, policy: {semver: '*'}}, ports: [{name: http, port: 8080}]}
  - {name: api, image: {repository: ghcr.io/acme/api, policy: {semver: '*'}}, ports: [{name: http, port: 8081}]}
  - {name: worker, image: {repository: ghcr.io/acme/worker, policy: {semver: '*'}}}
",
        )
    }

    fn base() -> Stage {
        read(
            "
metadata: {name: staging, namespace: acme}
spec:
  project: shop
  promotion: {from: [dev]}
  hooks: {beforeStart: [{name: migrate}], beforeTraffic: [{name: seed, args: [all]}]}
  services:
    web: {replicas: 3, env: [{name: A, value: base}, {name: B, value: base}]}
    api: {tag: '1.0'}
",
        )
    }

    fn environment(spec: &str) -> Environment {
        read(&format!("{{metadata: {{name: pr-42, namespace: acme, uid: u}}, spec: {{project: shop, {spec}}}}}"))
    }

    const SUBDOMAIN: &str = "pr-42-a8f9d2k1p4m7";
    const OUTSIDE: Outside<'static> = Outside { domain: Some("preview.test"), edge: true, own: true };

    fn composed(spec: &str) -> Composed {
        compose(&environment(spec), &project(), Some(&base()), SUBDOMAIN, OUTSIDE).expect("usable")
    }

    #[test]
    fn configuration_comes_from_the_base_and_images_do_not() {
        let made = composed(
            "base: staging, services: {web: {tag: pr-42, env: [{name: B, value: own}]}}, hooks: {onStart: [{name: seed, args: [few]}]}",
        );
        let spec = &made.stage.spec;
        let web = &spec.services["web"];
        assert_eq!((web.replicas, web.tag.as_deref()), (Some(3), Some("pr-42")));
        let env: Vec<_> = web.env.iter().map(|one| (one.name.as_str(), one.value.as_deref())).collect();
        assert_eq!(env, [("A", Some("base")), ("B", Some("own"))]);
        assert_eq!(spec.services["api"].tag, None, "what runs there is that stage's business");
        assert_eq!(spec.promotion, None);
        let hooks = spec.hooks.as_ref().expect("hooks");
        assert_eq!(hooks.before_start[0].name, "migrate");
        assert_eq!(hooks.before_traffic.iter().map(|hook| hook.args.join(" ")).collect::<Vec<_>>(), ["few"]);
    }

    #[test]
    fn hosts_are_of_what_is_public() {
        assert_eq!(composed("ttl: 1h").hosts, [("web".to_owned(), format!("{SUBDOMAIN}.preview.test"))]);
        assert_eq!(
            composed("public: [api, web]").hosts,
            [
                ("api".to_owned(), format!("{SUBDOMAIN}.preview.test")),
                ("web".to_owned(), format!("web--{SUBDOMAIN}.preview.test"))
            ]
        );
        let without =
            compose(&environment("ttl: 1h"), &project(), None, SUBDOMAIN, Outside::default()).expect("usable");
        assert_eq!((without.hosts.len(), without.stage.spec.route), (0, None));
    }

    #[test]
    fn a_route_is_declared_and_its_host_is_not() {
        let route = |spec: &str| composed(spec).stage.spec.route.expect("a route");
        assert_eq!(route("ttl: 1h").type_, RouteType::Edge);
        let made = route("route: {type: Ingress, className: nginx, tlsSecret: wildcard, annotations: {a: b}}");
        assert_eq!((made.type_, made.class_name.as_deref()), (RouteType::Ingress, Some("nginx")));
        assert_eq!((made.tls_secret.as_deref(), made.annotations.len()), (Some("wildcard"), 1));
        assert_eq!(made.host.as_deref(), Some("pr-42-a8f9d2k1p4m7.preview.test"));
        let gateway = "route: {type: HTTPRoute, parentRefs: [{name: shared, namespace: infra}]}";
        let shared = Outside { own: false, ..OUTSIDE };
        let made = compose(&environment(gateway), &project(), None, SUBDOMAIN, shared).expect("usable");
        assert_eq!(made.stage.spec.route.expect("a route").parent_refs[0].name, "shared");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_field() {
        let wrong =
            |spec: &str| compose(&environment(spec), &project(), Some(&base()), SUBDOMAIN, OUTSIDE).expect_err(spec);
        assert!(wrong("base: prod").starts_with("spec.base: "), "{}", wrong("base: prod"));
        assert!(wrong("public: [worker]").starts_with("spec.public: "));
        assert!(wrong("public: [nobody]").starts_with("spec.public: "));
        let gateway = wrong("route: {type: HTTPRoute, parentRefs: [{name: shared}]}");
        assert!(gateway.starts_with("spec.route: ") && gateway.contains("isolation to Project"), "{gateway}");
        let nowhere = Outside { edge: false, ..OUTSIDE };
        let nobody = environment("route: {type: Ingress}");
        let nobody = compose(&nobody, &project(), None, SUBDOMAIN, nowhere).expect_err("nobody answers");
        assert!(nobody.contains("STAGEKEEPER_EDGE_SERVICE"), "{nobody}");
    }

    #[test]
    fn code_of_strangers_gets_no_secrets() {
        assert_eq!(composed("ttl: 1h").project.spec.secrets.len(), 1);
        assert_eq!(composed("secrets: None").project.spec.secrets, []);
        assert_eq!(composed("source: {pullRequest: 42, fork: true}").project.spec.secrets, []);
        assert_eq!(composed("source: {pullRequest: 42, fork: true}, secrets: Project").project.spec.secrets, []);
    }
}
