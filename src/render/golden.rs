//! Golden manifests: the YAML that a cluster would get, for a reviewer to read.

use std::fmt::Write as _;

use k8s_openapi::ByteString;
use serde::Serialize;

use super::{
    Context, Fallback, HookManifests, Manifests, RouteObject, SecretContent, SecretManifest, Snapshot,
    fallback_service,
    fixture::{self, Fixture},
    instance_route, instance_url, stage_route, stage_services, stage_url,
};

/// Objects as YAML documents, in the order in which they are applied.
#[derive(Default)]
struct Documents(String);

impl Documents {
    fn push(&mut self, object: &impl Serialize) {
        let text = serde_yaml::to_string(object).expect("YAML");
        write!(self.0, "---\n{text}").expect("a string takes everything");
    }

    fn heading(&mut self, text: &str) {
        writeln!(self.0, "# {text}").expect("a string takes everything");
    }

    fn instance(&mut self, manifests: &Manifests) {
        self.heading(&format!("instance {}", manifests.instance));
        for pull in &manifests.pull {
            self.heading(&format!("logins of scope {:?}", pull.scope));
            self.secret(&pull.manifest);
        }
        for (at, wave) in manifests.waves.iter().enumerate() {
            for service in &wave.services {
                self.heading(&format!(
                    "wave {at}: {}, scope {:?}, revision {}",
                    service.name, service.scope, service.revision
                ));
                service.claims.iter().for_each(|claim| self.push(claim));
                service.config.iter().for_each(|config| self.push(config));
                service.secret.iter().for_each(|secret| self.secret(secret));
                service.service.iter().for_each(|service| self.push(service));
                self.push(&service.workload);
            }
        }
    }

    /// The object with words in place of its values.
    fn secret(&mut self, manifest: &SecretManifest) {
        let object = match &manifest.content {
            SecretContent::Values(values) => {
                let filled = values.iter().map(|(key, (id, version))| {
                    let words = format!("version {version} of {id}");
                    (key.clone(), ByteString(words.into_bytes()))
                });
                manifest.with_values(filled.collect())
            }
            SecretContent::Logins(logins) => {
                manifest.with_docker_config(ByteString(serde_json::to_vec(logins).expect("JSON")))
            }
        };
        let mut object = serde_json::to_value(&object).expect("JSON");
        for value in object["data"].as_object_mut().expect("data").values_mut() {
            let encoded: ByteString = serde_json::from_value(value.clone()).expect("bytes");
            *value = String::from_utf8(encoded.0).expect("words").into();
        }
        self.push(&object);
    }

    fn hook(&mut self, hook: &HookManifests) {
        self.heading("hook");
        hook.claims.iter().for_each(|claim| self.push(claim));
        hook.config.iter().for_each(|config| self.push(config));
        hook.pull.iter().for_each(|pull| self.secret(&pull.manifest));
        hook.secret.iter().for_each(|secret| self.secret(secret));
        self.push(&hook.job);
    }

    fn route(&mut self, route: Option<&RouteObject>) {
        match route {
            Some(RouteObject::Ingress(ingress)) => self.push(ingress),
            Some(RouteObject::HttpRoute(route)) => self.push(route),
            None => self.heading("no route"),
        }
    }
}

fn stage(documents: &mut Documents, fixture: &Fixture, snapshot: &Snapshot) {
    let ctx = fixture::context();
    let instance = snapshot.instance();
    let route = fixture.stage.spec.route.as_ref();
    let url = |url: Option<String>| url.unwrap_or("none".into());
    documents.heading(&format!("stage, at {}", url(stage_url(snapshot, route))));
    for service in stage_services(snapshot, Some(&instance), &ctx) {
        documents.push(&service);
    }
    if let Some(route) = route {
        documents.route(stage_route(snapshot, route, &ctx).as_ref());
        documents.heading(&format!("instance, at {}", url(instance_url(snapshot, Some(route), &instance))));
        documents.route(instance_route(snapshot, route, &instance, &ctx).as_ref());
    }
}

/// The same route while nothing of the stage can answer.
fn away(documents: &mut Documents, fixture: &Fixture, snapshot: &Snapshot) {
    let fallback = Fallback { namespace: "stagekeeper".into(), name: "stagekeeper-edge".into(), port: 80 };
    let ctx = Context { fallback: Some(fallback.clone()), ..fixture::context() };
    documents.heading("away, to the proxy");
    documents.push(&fallback_service(snapshot, &fallback, &ctx));
    let route = fixture.stage.spec.route.as_ref().expect("a route");
    documents.route(stage_route(snapshot, route, &ctx).as_ref());
}

macro_rules! golden {
    ($($name:ident: $($part:ident)+;)+) => {$(
        #[test]
        fn $name() {
            let fixture = Fixture::read(include_str!(concat!("fixtures/", stringify!($name), ".yaml")));
            let snapshot = fixture.snapshot();
            let mut documents = Documents::default();
            $(golden!(@$part documents fixture snapshot);)+
            insta::with_settings!({prepend_module_to_snapshot => false}, {
                insta::assert_snapshot!(stringify!($name), documents.0);
            });
        }
    )+};
    (@instance $documents:ident $fixture:ident $snapshot:ident) => {
        $documents.instance(&fixture::instance(&$snapshot, &$snapshot.instance()).0);
    };
    (@hooks $documents:ident $fixture:ident $snapshot:ident) => {
        let (_, ctx) = fixture::instance(&$snapshot, &$snapshot.instance());
        for hook in fixture::hooks(&$snapshot, &$snapshot.instance(), &ctx) {
            $documents.hook(&hook);
        }
    };
    (@away $documents:ident $fixture:ident $snapshot:ident) => {
        away(&mut $documents, &$fixture, &$snapshot);
    };
    (@stage $documents:ident $fixture:ident $snapshot:ident) => {
        stage(&mut $documents, &$fixture, &$snapshot);
    };
}

golden! {
    single: instance stage away;
    database: instance stage;
    volumes: instance hooks;
    overlay: instance hooks;
    rolling: instance stage away;
    instances: stage;
    hooks: hooks;
    secrets: instance hooks;
}
