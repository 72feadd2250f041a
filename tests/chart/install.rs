//! The whole life of an installation.

use std::{collections::BTreeSet, time::Instant};

use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    coordination::v1::Lease,
    core::v1::{PersistentVolumeClaim, Pod, Secret, Service},
    networking::v1::Ingress,
    rbac::v1::ClusterRole,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde::Deserialize as _;
use serde_json::{Value, json};
use stagekeeper::api::{Environment, Stage, conditions};

use crate::audit::{self, Asked};
use crate::ground::{Ground, block, field};

/// Rights that no part of the story takes.
const UNUSED: &[&str] = &[
    // What is not known to be ours is looked at before it is written: only where somebody was faster.
    "stagekeeper /configmaps get",
    "stagekeeper /limitranges get",
    "stagekeeper /persistentvolumeclaims get",
    "stagekeeper batch/jobs get",
    // A quota that the Environment asks for.
    "stagekeeper /resourcequotas create",
    "stagekeeper /resourcequotas get",
    "stagekeeper /resourcequotas patch",
    // An event that happens again.
    "stagekeeper events.k8s.io/events patch",
    // The cluster has no Gateway API.
    "stagekeeper gateway.networking.k8s.io/httproutes create",
    "stagekeeper gateway.networking.k8s.io/httproutes delete",
    "stagekeeper gateway.networking.k8s.io/httproutes get",
    "stagekeeper gateway.networking.k8s.io/httproutes patch",
    "stagekeeper gateway.networking.k8s.io/httproutes watch",
    "stagekeeper networking.k8s.io/networkpolicies get",
    // Environments of pull requests.
    "stagekeeper stagekeeper.dev/environments create",
    "stagekeeper stagekeeper.dev/environments delete",
    "stagekeeper stagekeeper.dev/environments get",
    // Asked for by an admission plugin (OwnerReferencesPermissionEnforcement) that not every cluster has.
    "stagekeeper stagekeeper.dev/environments/finalizers update",
    "stagekeeper stagekeeper.dev/stages/finalizers update",
    // Rehearsals of promotions.
    "stagekeeper-api stagekeeper.dev/projects list",
    "stagekeeper-api stagekeeper.dev/stages list",
];

/// No right of the whole cluster.
const NAMESPACED: &str =
    "--set rbac.scope=namespaces --set 'rbac.namespaces={stagekeeper,shop}' --set policies.install=false";

const OURS: &str = "stagekeeper";

/// How an installation is told from others.
const RELEASE: &str = "app.kubernetes.io/instance=stagekeeper";

impl Ground {
    /// Waits until the stage of the documentation runs an image and is well.
    async fn until_runs(&self, image: &str) {
        let stages = self.api::<Stage>("shop");
        self.wait(&format!("production runs {image}"), async || {
            let status = stages.get("production").await.unwrap().status?;
            let ready = conditions::get(&status.conditions, "Ready")?.status == "True";
            (ready && status.images.as_deref() == Some(image)).then_some(())
        })
        .await;
    }

    /// What the stage's Service answers.
    async fn shop(&self) -> String {
        let service = self.api::<Service>("shop").get("production-web").await.unwrap();
        let address = service.spec.unwrap().cluster_ip.unwrap();
        self.shell(&format!("curl --silent --fail --max-time 10 http://{address}:8080/")).await
    }

    /// The pods of the shop that do not end, by UID.
    async fn shop_pods(&self) -> BTreeSet<String> {
        let pods = self.list::<Pod>("shop", "").await;
        pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).filter_map(|pod| pod.uid()).collect()
    }

    /// UIDs of what is made once.
    async fn made_once(&self) -> Vec<Option<String>> {
        let secrets = self.api::<Secret>(OURS);
        let mut found = Vec::new();
        for name in ["stagekeeper-encryption-keys", "stagekeeper-database"] {
            found.push(secrets.get(name).await.unwrap().uid());
        }
        found.push(self.api::<PersistentVolumeClaim>(OURS).get("data-stagekeeper-postgres-0").await.unwrap().uid());
        found
    }

    /// Deploys of the shop by state, oldest first.
    async fn history(&self) -> String {
        let of_the_shop = "SELECT d.state FROM deploys d JOIN stages s ON s.id = d.target_id WHERE s.namespace = 'shop' ORDER BY d.sequence";
        self.query(of_the_shop).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_chart_is_installed_tried_out_upgraded_and_removed() {
    let policy = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/chart/audit-policy.yaml");
    let ground = Ground::new("install", &["--audit", policy]).await;
    for tag in ["0.1.0", "0.2.0"] {
        ground.push_operator(tag, env!("CARGO_BIN_EXE_stagekeeper")).await;
    }
    ground.shell(&format!("hack/postgres-image push {}/postgres:15", ground.registry)).await;
    ground.push_shop("1.0.0", "").await;

    let started = Instant::now();
    let said = ground.follow("Install it", "").await;
    println!("installed and tried out in {:?}", started.elapsed());
    assert!(said.contains("http://stagekeeper:8080 is ready") && said.contains("is removed"), "{said}");
    let keys = ground.made_once().await;

    the_main_job(&ground).await;
    who_calls_is_known_by_the_api_alone(&ground).await;
    let asked = nothing_was_forbidden(&ground, 6).await;
    assert!(asked.contains("api") && asked.contains("controller"), "{asked:?}");
    everything_that_the_operator_may_do(&ground).await;
    an_upgrade_in_the_middle_of_a_deploy(&ground).await;
    the_database_is_started_again(&ground).await;
    rights_are_used_and_no_others_are_missed(&ground).await;
    the_way_to_another_database(&ground).await;
    what_stays_and_what_goes(&ground).await;
    assert_eq!(ground.made_once().await, keys);
    another_installation_goes_on(&ground).await;
    nothing_was_forbidden(&ground, 1).await;
    assert_eq!(ground.made_once().await, keys);
}

/// The Project and the Stage of the documentation, with an image of this registry.
async fn the_main_job(ground: &Ground) {
    let shop = block("The first Project and Stage", "yaml")
        .replace("ghcr.io/acme/shop", &format!("{}/shop/web", ground.inside))
        .replace("interval: 1m", "interval: 1s\n      insecure: true");
    ground.write("shop.yaml", &shop);
    ground.follow("The first Project and Stage", "").await;
    ground.until_runs("web:1.0.0").await;
    assert!(ground.shop().await.starts_with("shop 1.0.0"));
}

/// A caller is asked for a token and for rights; the controller serves no API.
async fn who_calls_is_known_by_the_api_alone(ground: &Ground) {
    let service = ground.api::<Service>(OURS).get("stagekeeper").await.unwrap();
    let address = service.spec.unwrap().cluster_ip.unwrap();
    let code = "--silent --output answer --write-out '%{http_code}' --max-time 10";
    let path = ":8080/api/v1/namespaces/shop/deploys";
    assert_eq!(ground.shell(&format!("curl {code} http://{address}{path}")).await, "401");
    ground.shell("kubectl create serviceaccount jane --namespace shop").await;
    ground.shell("kubectl create rolebinding jane --namespace shop --clusterrole=stagekeeper-viewer --serviceaccount=shop:jane").await;
    let token = ground.shell("kubectl create token jane --namespace shop --audience stagekeeper").await;
    let asked = format!("curl {code} --header 'Authorization: Bearer {}' http://{address}{path}", token.trim());
    assert_eq!(ground.shell(&asked).await, "200", "{}", ground.shell("cat answer").await);

    let controllers = ground.list::<Pod>(OURS, "app.kubernetes.io/name=stagekeeper-controller").await;
    let controller = field(&controllers[0], "/status/podIP").as_str().unwrap().to_owned();
    assert_eq!(ground.shell(&format!("curl {code} http://{controller}{path}")).await, "503");
}

/// Whatever the rights are for, from the first image to the end of all of it.
async fn everything_that_the_operator_may_do(ground: &Ground) {
    let push = async |tag: &str, switches: &str| {
        ground.shell(&format!("hack/image push {}/thorough/web:{tag} {switches}", ground.registry)).await;
    };
    push("1.0.0", "").await;
    ground.shell("kubectl create namespace thorough").await;
    ground.apply(&include_str!("thorough.yaml").replace("REGISTRY", &ground.inside)).await;
    let stages = ground.api::<Stage>("thorough");
    let routes = ground.api::<Ingress>("thorough");
    let until = async |what: &str, condition: &str| {
        ground
            .wait(what, async || {
                // Nobody else here accepts routes.
                for route in routes.list(&ListParams::default()).await.unwrap() {
                    let accepted =
                        Patch::Merge(json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}}));
                    // It may be gone by now.
                    let _ = routes.patch_status(&route.name_any(), &PatchParams::default(), &accepted).await;
                }
                let status = stages.get("all").await.unwrap().status?;
                let found = conditions::get(&status.conditions, condition)?;
                (found.status == "True").then_some(())
            })
            .await;
    };
    until("the stage with everything is ready", "Ready").await;
    let environments = ground.api::<Environment>("thorough");
    ground
        .wait("the environment is ready", async || {
            let status = environments.get("try").await.unwrap().status?;
            (status.phase.as_deref() == Some("Ready")).then_some(())
        })
        .await;
    push("2.0.0", "--env APP_FAIL=start").await;
    until("what cannot start is rolled back", "Stalled").await;
    ground.shell("kubectl delete environment,stage,project --all --namespace thorough --timeout=4m").await;
}

/// From the API server's own record: nothing was forbidden to any account of the release, and each right was used but those that
/// are named here.
async fn rights_are_used_and_no_others_are_missed(ground: &Ground) {
    let manifest = ground.shell("helm get manifest stagekeeper --namespace stagekeeper").await;
    let hooks = ground.shell("helm get hooks stagekeeper --namespace stagekeeper").await;
    let documents = serde_yaml::Deserializer::from_str(&manifest).chain(serde_yaml::Deserializer::from_str(&hooks));
    let objects: Vec<Value> = documents.map(|document| Value::deserialize(document).unwrap()).collect();
    let granted = audit::granted(&objects);
    assert!(granted.len() > 80, "{granted:?}");
    let asked = Asked::read(&ground.audit);
    assert_eq!(asked.forbidden, BTreeSet::new());
    let unused: Vec<String> = granted
        .difference(&asked.used)
        .map(|right| format!("{} {}/{} {}", right.account, right.group, right.resource, right.verb))
        .collect();
    let unnamed: Vec<&String> = unused.iter().filter(|right| !UNUSED.contains(&right.as_str())).collect();
    assert!(unnamed.is_empty(), "nobody needs these: {unnamed:#?}");
}

/// A deploy takes a while; meanwhile the release is upgraded, and the leader's pod is deleted.
async fn an_upgrade_in_the_middle_of_a_deploy(ground: &Ground) {
    ground.push_shop("1.1.0", "--env APP_HEALTH=ok-after:25s").await;
    let open = "SELECT d.id FROM deploys d JOIN stages s ON s.id = d.target_id WHERE s.namespace = 'shop' AND d.state = 'starting'";
    let deploy = ground
        .wait("the deploy has started", async || Some(ground.query(open).await).filter(|id| !id.is_empty()))
        .await;
    let leader = ground.api::<Lease>(OURS).get("stagekeeper").await.unwrap().spec.unwrap().holder_identity.unwrap();
    let pods = ground.api::<Pod>(OURS);
    let at_once = DeleteParams::default();
    let (_, deleted) =
        tokio::join!(ground.follow("Upgrade it", "--set image.tag=0.2.0"), pods.delete(&leader, &at_once));
    deleted.unwrap();
    assert!(ground.shop().await.starts_with("shop 1."), "somebody serves all the time");
    ground.until_runs("web:1.1.0").await;
    assert!(ground.shop().await.starts_with("shop 1.1.0"));
    assert_eq!(ground.history().await, "success\nsuccess");
    let steps = format!(
        "SELECT count(*) = count(DISTINCT to_state) AND count(*) > 4 FROM deploy_transitions WHERE deploy_id = '{deploy}'"
    );
    assert_eq!(ground.query(&steps).await, "t", "each step was made once");
    let now = ground.api::<Lease>(OURS).get("stagekeeper").await.unwrap().spec.unwrap().holder_identity.unwrap();
    assert_ne!(now, leader);
    // The upgrade has waited: there is nobody else any more.
    for pod in ground
        .list::<Pod>(OURS, &format!("{RELEASE},app.kubernetes.io/name in (stagekeeper,stagekeeper-controller)"))
        .await
    {
        let image = field(&pod, "/spec/containers/0/image");
        let ends = pod.metadata.deletion_timestamp.is_some();
        assert!(ends || image.as_str().unwrap().ends_with(":0.2.0"), "{}: {image}", pod.name_any());
    }
}

/// What the database has is on its volume, and everybody finds it again.
async fn the_database_is_started_again(ground: &Ground) {
    let before = ground.api::<Pod>(OURS).get("stagekeeper-postgres-0").await.unwrap().uid();
    ground.shell("kubectl delete pod stagekeeper-postgres-0 --namespace stagekeeper").await;
    ground.shell("kubectl rollout status statefulset/stagekeeper-postgres --namespace stagekeeper --timeout=4m").await;
    assert_ne!(ground.api::<Pod>(OURS).get("stagekeeper-postgres-0").await.unwrap().uid(), before);
    for deployment in ["stagekeeper-controller", "stagekeeper-api"] {
        let deployments = ground.api::<Deployment>(OURS);
        ground
            .wait(&format!("{deployment} is ready again"), async || {
                let found = deployments.get(deployment).await.unwrap();
                (field(&found, "/status/readyReplicas") == 2).then_some(())
            })
            .await;
    }
    assert_eq!(ground.history().await, "success\nsuccess");
}

/// The roles are enough: the API server has refused nothing to any of the pods. Tells which containers have asked it anything.
async fn nothing_was_forbidden(ground: &Ground, pods: usize) -> BTreeSet<String> {
    let mut asked = BTreeSet::new();
    let mut looked_at = 0;
    for pod in ground.list::<Pod>(OURS, &format!("{RELEASE},app.kubernetes.io/name!=stagekeeper-postgres")).await {
        if pod.metadata.deletion_timestamp.is_some() || field(&pod, "/status/phase") != "Running" {
            continue;
        }
        looked_at += 1;
        let address = field(&pod, "/status/podIP").as_str().unwrap().to_owned();
        for container in field(&pod, "/spec/containers").as_array().unwrap() {
            let port = container["ports"][0]["containerPort"].as_u64().unwrap();
            let url = format!("http://{address}:{port}/metrics");
            let metrics = ground.shell(&format!("curl --silent --fail --max-time 10 {url}")).await;
            for line in metrics.lines().filter(|line| line.starts_with("rest_client_requests_total{")) {
                assert!(!line.contains("code=\"403\""), "{} {}: {line}", pod.name_any(), container["name"]);
                asked.insert(container["name"].as_str().unwrap().to_owned());
            }
        }
    }
    assert_eq!(looked_at, pods);
    asked
}

/// The release goes; definitions, what people declared, what runs, keys and data stay.
async fn what_stays_and_what_goes(ground: &Ground) {
    let pods = ground.shop_pods().await;
    ground.follow("Remove it", "").await;
    assert_eq!(ground.list::<Deployment>(OURS, RELEASE).await.len(), 0);
    assert_eq!(ground.list::<StatefulSet>(OURS, RELEASE).await.len(), 0);
    let roles: Api<ClusterRole> = Api::all(ground.client.clone());
    assert_eq!(roles.list(&ListParams::default().labels(RELEASE)).await.unwrap().items.len(), 0);
    let definitions: Api<CustomResourceDefinition> = Api::all(ground.client.clone());
    for name in ["projects", "stages", "environments"] {
        let definition = definitions.get(&format!("{name}.stagekeeper.dev")).await.unwrap();
        assert!(definition.metadata.deletion_timestamp.is_none(), "{name}");
    }
    assert!(ground.api::<Stage>("shop").get("production").await.unwrap().metadata.deletion_timestamp.is_none());
    assert_eq!(ground.shop_pods().await, pods);
    assert!(ground.shop().await.starts_with("shop 1.1.0"));
}

/// The same keys, the same history, and nothing is deployed anew; everything in one pod this time, with
/// rights in two namespaces only.
async fn another_installation_goes_on(ground: &Ground) {
    let install = block("Install it", "sh").lines().find(|line| line.starts_with("helm install")).unwrap().to_owned();
    ground
        .run(&install, &format!("--set image.tag=0.2.0 --set mode=all --set controller.replicas=1 {NAMESPACED}"))
        .await;
    ground.push_shop("1.2.0", "").await;
    ground.until_runs("web:1.2.0").await;
    assert!(ground.shop().await.starts_with("shop 1.2.0"));
    assert_eq!(ground.history().await, "success\nsuccess\nsuccess");
    ground.shell("helm test stagekeeper --namespace stagekeeper --timeout 4m").await;
}

/// A dump, and a restore into another server: everything is there.
async fn the_way_to_another_database(ground: &Ground) {
    let server = ground.cluster.postgres().to_owned();
    ground
        .shell(&format!("psql '{server}' --command='DROP DATABASE IF EXISTS moved' --command='CREATE DATABASE moved'"))
        .await;
    let moved = server.replace("/postgres", "/moved").replace("//moved", "//postgres");
    for line in block("From the embedded database to another", "sh").lines() {
        ground.shell(&format!("export DATABASE_URL='{moved}'; {line}")).await;
    }
    let count = "SELECT (SELECT count(*) FROM deploys), (SELECT count(*) FROM deploy_transitions), (SELECT count(*) FROM encryption_keys)";
    let there = ground.shell(&format!("psql '{moved}' --no-align --tuples-only --command='{count}'")).await;
    assert_eq!(there.trim(), ground.query(count).await);
    assert!(!there.starts_with("0|"), "{there}");
}
