//! A real API server takes what is rendered: every field is known and valid, and pods pass the restricted Pod Security
//! level unless a pod template loosens them. Nothing is stored: every write is a dry run.
#![expect(clippy::expect_used, reason = "a test stops at what it cannot make")]

use std::{collections::BTreeMap, fmt::Debug};

use k8s_openapi::{
    ByteString, NamespaceResourceScope,
    api::{
        batch::v1::Job,
        core::v1::{Namespace, Pod, PodTemplateSpec, Secret, ServiceAccount},
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::{
    Api, Client, Config, Resource, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, PostParams, ValidationDirective},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde::{Deserialize as _, Serialize, de::DeserializeOwned};
use stagekeeper::{
    api::{Project, Stage, labels},
    domain::{
        deploy::Phase,
        release::{Release, ReleaseImage},
        secret::{SecretId, SecretVersions},
    },
    render::{self, Context, Identity, Manifests, RouteObject, SecretContent, SecretManifest, Snapshot},
};
use uuid::Uuid;

const PHASES: [Phase; 4] = [Phase::BeforeStart, Phase::BeforeTraffic, Phase::Verify, Phase::AfterSuccess];

/// A namespace that refuses pods above `level`.
struct Place {
    client: Client,
    namespace: String,
}

impl Place {
    async fn new(level: &str) -> Self {
        let path = std::env::var("STAGEKEEPER_TEST_KUBECONFIG")
            .expect("STAGEKEEPER_TEST_KUBECONFIG names the kubeconfig of a cluster for tests: `make test` sets it");
        let kubeconfig = Kubeconfig::read_from(path).expect("a kubeconfig");
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
        let client = Client::try_from(config.expect("a cluster")).expect("a client");
        let namespace = Namespace {
            metadata: ObjectMeta {
                generate_name: Some("render-".into()),
                labels: Some(BTreeMap::from([("pod-security.kubernetes.io/enforce".to_owned(), level.to_owned())])),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        };
        let namespaces = Api::<Namespace>::all(client.clone());
        let made = namespaces.create(&PostParams::default(), &namespace).await;
        let place = Self { client, namespace: made.expect("a namespace").name_any() };
        // Pods need their account, which a controller makes at some time.
        for name in ["default", "shop"] {
            let account = ServiceAccount {
                metadata: ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() },
                ..ServiceAccount::default()
            };
            let params = PatchParams::apply("test").force();
            let accounts = place.api::<ServiceAccount>();
            let applied = accounts.patch(name, &params, &Patch::Apply(&account)).await;
            applied.expect("a service account");
        }
        place
    }

    async fn remove(self) {
        let namespaces = Api::<Namespace>::all(self.client);
        let params = DeleteParams::default();
        let removed = namespaces.delete(&self.namespace, &params).await;
        removed.expect("the namespace goes");
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Applies one object as the operator does, but for the storing.
    async fn apply<K>(&self, object: &K)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
    {
        let params = PatchParams {
            dry_run: true,
            field_validation: Some(ValidationDirective::Strict),
            ..PatchParams::apply(labels::FIELD_MANAGER).force()
        };
        let name = object.name_any();
        let applied = self.api::<K>().patch(&name, &params, &Patch::Apply(object)).await;
        applied.unwrap_or_else(|error| panic!("{} {name}: {error}", K::kind(&())));
    }

    /// Creates a pod from a template, but for the storing.
    async fn pod(&self, template: &PodTemplateSpec) -> kube::Result<Pod> {
        let mut metadata = template.metadata.clone().unwrap_or_default();
        metadata.name = Some("pod".into());
        let pod = Pod { metadata, spec: template.spec.clone(), status: None };
        let params = PostParams { dry_run: true, ..PostParams::default() };
        self.api::<Pod>().create(&params, &pod).await
    }

    fn read(&self, text: &str) -> (Snapshot, Stage) {
        let mut documents = serde_yaml::Deserializer::from_str(text);
        let mut next = || documents.next().expect("a document");
        let project = Project::deserialize(next()).expect("a project");
        let stage = Stage::deserialize(next()).expect("a stage");
        let identity = Identity {
            namespace: self.namespace.clone(),
            home: None,
            project: project.name_any(),
            stage: stage.name_any(),
        };
        let images = project.spec.services.iter().map(|service| {
            let image = ReleaseImage {
                repository: service.image.repository.clone(),
                tag: None,
                digest: format!("sha256:{}", "a".repeat(64)),
            };
            (service.name.clone(), image)
        });
        let release = Release(images.collect());
        let declared = project
            .spec
            .secrets
            .iter()
            .map(|declared| SecretId { name: declared.name.clone(), service: declared.service.clone() });
        let secrets: SecretVersions = declared.zip(1..).collect();
        let snapshot = Snapshot::build(identity, &project.spec, &stage.spec, release, &secrets);
        (snapshot.unwrap_or_else(|problems| panic!("{problems}")), stage)
    }
}

fn context() -> Context {
    Context {
        owner: OwnerReference {
            api_version: "stagekeeper.dev/v1alpha1".into(),
            kind: "Stage".into(),
            name: "the-stage".into(),
            uid: "11111111-2222-3333-4444-555555555555".into(),
            ..OwnerReference::default()
        },
        deploy: Uuid::from_u128(7),
        service_ips: BTreeMap::new(),
        credentials: std::sync::Arc::default(),
        edge: std::collections::BTreeMap::new(),
        fallback: None,
    }
}

/// Renders with an address for every Service.
fn instance(snapshot: &Snapshot) -> (Manifests, Context) {
    let mut ctx = context();
    let first = render::instance(snapshot, &snapshot.instance(), &ctx).expect("rendered");
    for (at, service) in first.services().filter_map(|it| it.service.as_ref()).enumerate() {
        let address = format!("10.96.0.{}", at + 1);
        ctx.service_ips.insert(service.name_any(), address);
    }
    let manifests = render::instance(snapshot, &snapshot.instance(), &ctx).expect("rendered");
    (manifests, ctx)
}

fn jobs(snapshot: &Snapshot, ctx: &Context) -> Vec<Job> {
    let hooks = PHASES.into_iter().flat_map(|phase| {
        let hooks = snapshot.hooks(phase).iter();
        hooks.map(move |hook| {
            let instance = snapshot.instance();
            render::hook(snapshot, &instance, hook, phase, ctx).expect("rendered").job
        })
    });
    hooks.collect()
}

/// The object with any values.
fn filled(manifest: &SecretManifest) -> Secret {
    match &manifest.content {
        SecretContent::Values(values) => {
            let values = values.keys().map(|key| (key.clone(), ByteString(b"value".to_vec())));
            manifest.with_values(values.collect())
        }
        SecretContent::Logins(_) => manifest.with_docker_config(ByteString(br#"{"auths": {}}"#.to_vec())),
    }
}

const FIXTURES: [(&str, &str); 8] = [
    ("single", include_str!("../src/render/fixtures/single.yaml")),
    ("database", include_str!("../src/render/fixtures/database.yaml")),
    ("volumes", include_str!("../src/render/fixtures/volumes.yaml")),
    ("overlay", include_str!("../src/render/fixtures/overlay.yaml")),
    ("rolling", include_str!("../src/render/fixtures/rolling.yaml")),
    ("instances", include_str!("../src/render/fixtures/instances.yaml")),
    ("hooks", include_str!("../src/render/fixtures/hooks.yaml")),
    ("secrets", include_str!("../src/render/fixtures/secrets.yaml")),
];

#[tokio::test]
async fn an_api_server_takes_every_object() {
    let place = Place::new("privileged").await;
    for (_, text) in FIXTURES {
        let (snapshot, stage) = place.read(text);
        let (manifests, ctx) = instance(&snapshot);
        for pull in &manifests.pull {
            place.apply(&filled(&pull.manifest)).await;
        }
        for service in manifests.services() {
            for claim in &service.claims {
                place.apply(claim).await;
            }
            if let Some(config) = &service.config {
                place.apply(config).await;
            }
            if let Some(secret) = &service.secret {
                place.apply(&filled(secret)).await;
            }
            if let Some(service) = &service.service {
                place.apply(service).await;
            }
            place.apply(&service.workload).await;
        }
        for job in jobs(&snapshot, &ctx) {
            place.apply(&job).await;
        }
        let active = snapshot.instance();
        for service in render::stage_services(&snapshot, Some(&active), &ctx) {
            place.apply(&service).await;
        }
        if let Some(route) = &stage.spec.route {
            let own = render::stage_route(&snapshot, route, &ctx);
            let theirs = render::instance_route(&snapshot, route, &active, &ctx);
            for route in own.iter().chain(&theirs) {
                // The Gateway API is not part of Kubernetes, and the server does not know it.
                if let RouteObject::Ingress(ingress) = route {
                    place.apply(&**ingress).await;
                }
            }
        }
    }
    place.remove().await;
}

#[tokio::test]
async fn pods_pass_the_restricted_level_unless_they_are_loosened() {
    let restricted = Place::new("restricted").await;
    let baseline = Place::new("baseline").await;
    for (name, text) in FIXTURES {
        let (snapshot, _) = restricted.read(text);
        let (manifests, ctx) = instance(&snapshot);
        let workloads = manifests.services().map(|service| &service.workload);
        let templates = workloads.map(|workload| workload.spec.as_ref().expect("a spec").template.clone());
        let jobs = jobs(&snapshot, &ctx);
        let hooks = jobs.into_iter().map(|job| job.spec.expect("a spec").template);
        for template in templates.chain(hooks) {
            let strict = restricted.pod(&template).await;
            if name == "overlay" {
                let error = strict.expect_err("a loosened pod").to_string();
                assert!(error.contains("runAsNonRoot != true"), "{error}");
                let loose = baseline.pod(&template).await;
                loose.unwrap_or_else(|error| panic!("{name}: {error}"));
            } else {
                strict.unwrap_or_else(|error| panic!("{name}: {error}"));
            }
        }
    }
    restricted.remove().await;
    baseline.remove().await;
}
