//! What is rendered for which values, and what is refused.

use std::fs;

use serde_json::{Value, json};

use super::helm::{MATRIX, NAMESPACE, chart, documents, helm, named, objects, rendered};

#[test]
fn lint_finds_nothing() {
    let output = helm(&["lint", "--strict", &chart().to_string_lossy()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// A mistyped key is named, and so is a value that cannot be.
#[test]
fn what_is_mistyped_is_refused_by_name() {
    for (values, named) in [
        ("{mdoe: all}", "'mdoe' not allowed"),
        ("{api: {replica: 3}}", "at '/api': additional properties 'replica'"),
        ("{controller: {resources: {request: {}}}}", "at '/controller/resources': additional properties 'request'"),
        ("{mode: both}", "at '/mode'"),
        ("{rbac: {scope: namespaces}}", "at '/rbac/namespaces'"),
        ("{database: {type: external}}", "at '/database/external/existingSecret'"),
        ("{image: {digest: 'sha256:12'}}", "at '/image/digest'"),
        ("{edge: {wakeLimit: 601}}", "at '/edge/wakeLimit'"),
        ("{config: {publicUrl: stagekeeper.example.com}}", "at '/config/publicUrl'"),
        ("{config: {oidc: {issuer: 'https://i'}}}", "config.oidc.clientId"),
        ("{api: {ingress: {enabled: true}}}", "api.ingress.host"),
    ] {
        let said = rendered(NAMESPACE, values).expect_err(values);
        assert!(said.contains(named), "{values}: {said}");
    }
}

/// `additionalProperties: false` wherever the keys are known.
#[test]
fn the_schema_leaves_no_map_open_by_accident() {
    fn walk(path: &str, schema: &Value, open: &mut Vec<String>) {
        if schema["type"] == "object" && schema["additionalProperties"] != json!(false) {
            open.push(path.to_owned());
        }
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            walk(&format!("{path}/{name}"), property, open);
        }
    }
    let schema: Value = serde_json::from_str(&fs::read_to_string(chart().join("values.schema.json")).unwrap()).unwrap();
    let mut open = Vec::new();
    walk("", &schema, &mut open);
    // What Helm itself gives to charts.
    assert_eq!(open, ["/global"]);
}

/// Whoever renders twice gets the same, and nobody is asked: `helm template | kubectl apply` works, and so does keeping it in git.
#[test]
fn rendering_asks_nobody_and_throws_no_dice() {
    for entry in walk(&chart().join("templates")) {
        let text = fs::read_to_string(&entry).unwrap();
        for word in ["lookup ", "rand", "uuidv4", "genCA", "genSelfSigned", "genPrivateKey", " now "] {
            assert!(!text.contains(word), "{}: {word}", entry.display());
        }
    }
    for (name, values) in MATRIX {
        assert_eq!(rendered(NAMESPACE, values), rendered(NAMESPACE, values), "{name}");
    }
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

/// Names of the objects of a kind.
fn names(objects: &[Value], kind: &str) -> Vec<String> {
    let of_kind = objects.iter().filter(|object| object["kind"] == kind);
    of_kind.map(|object| object["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

fn environment<'a>(container: &'a Value, name: &str) -> Option<&'a Value> {
    container["env"].as_array()?.iter().find(|variable| variable["name"] == name)
}

#[test]
fn parts_run_apart_or_together() {
    let split = objects(NAMESPACE, "{edge: {enabled: true}}");
    assert_eq!(names(&split, "Deployment"), ["stagekeeper-api", "stagekeeper-controller", "stagekeeper-edge"]);
    let controller = &named(&split, "Deployment", "stagekeeper-controller")["spec"]["template"];
    let container = &controller["spec"]["containers"][0];
    assert_eq!(environment(container, "STAGEKEEPER_SERVE_API").unwrap()["value"], "false");
    // The Service of the API leads to the API alone, and so does the command line, which looks for this label.
    let service = &named(&split, "Service", "stagekeeper")["spec"]["selector"];
    assert_eq!(service["app.kubernetes.io/name"], "stagekeeper");
    assert_ne!(controller["metadata"]["labels"]["app.kubernetes.io/name"], "stagekeeper");

    let all = objects(NAMESPACE, "{mode: all, edge: {enabled: true}}");
    assert_eq!(names(&all, "Deployment"), ["stagekeeper"]);
    let pod = &named(&all, "Deployment", "stagekeeper")["spec"]["template"]["spec"];
    let parts: Vec<_> = pod["containers"].as_array().unwrap().iter().map(|container| &container["args"][0]).collect();
    assert_eq!(parts, ["controller", "edge"]);
    assert_eq!(environment(&pod["containers"][0], "STAGEKEEPER_SERVE_API").unwrap()["value"], "true");
    assert_eq!(environment(&pod["containers"][1], "STAGEKEEPER_PORT").unwrap()["value"], "8081");
    assert_eq!(names(&objects(NAMESPACE, "{mode: all}"), "Deployment"), ["stagekeeper"]);
}

/// Another version of the chart starts the operator again, and nothing else. What it starts with cannot be changed at all.
#[test]
fn the_database_goes_on_while_the_chart_is_upgraded() {
    let folder = concat!(env!("CARGO_TARGET_TMPDIR"), "/another-version");
    let path = chart().to_string_lossy().into_owned();
    let said = |output: std::process::Output| {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    said(helm(&["package", &path, "--version", "99.0.0", "--app-version", "99.0.0", "--destination", folder]));
    let package = format!("{folder}/stagekeeper-99.0.0.tgz");
    let text = said(helm(&["template", "stagekeeper", &package, "--namespace", NAMESPACE, "--kube-version", "1.36.3"]));
    let (now, later) = (objects(NAMESPACE, "{}"), documents(&text));
    let database = |all: &[Value]| named(all, "StatefulSet", "stagekeeper-postgres").clone();
    assert_eq!(database(&now)["spec"], database(&later)["spec"]);
    assert_ne!(database(&now)["metadata"], database(&later)["metadata"], "it is another version");
    let controller = |all: &[Value]| named(all, "Deployment", "stagekeeper-controller")["spec"]["template"].clone();
    assert_ne!(controller(&now), controller(&later));
}

/// The operator knows where its proxy is, and only routes of namespaces that are named may lead there.
#[test]
fn routes_lead_to_the_proxy_from_where_they_may() {
    let told = |all: &[Value]| {
        let pod = &named(all, "Deployment", "stagekeeper-controller")["spec"]["template"]["spec"];
        environment(&pod["containers"][0], "STAGEKEEPER_EDGE_SERVICE").map(|variable| variable["value"].clone())
    };
    let without = objects(NAMESPACE, "{edge: {routesFrom: [acme]}}");
    assert_eq!((told(&without), names(&without, "ReferenceGrant").len()), (None, 0), "there is no proxy");

    let nobody = objects(NAMESPACE, "{edge: {enabled: true}}");
    let service = format!("{NAMESPACE}/stagekeeper-edge:80");
    assert_eq!((told(&nobody), names(&nobody, "ReferenceGrant").len()), (Some(json!(service)), 0));

    let values = "{edge: {enabled: true, routesFrom: [acme, shop], service: {httpPort: 8000}}}";
    let all = objects(NAMESPACE, values);
    assert_eq!(told(&all), Some(json!(format!("{NAMESPACE}/stagekeeper-edge:8000"))));
    assert_eq!(named(&all, "Service", "stagekeeper-edge")["spec"]["ports"][0]["port"], 8000);
    let from = |namespace| json!({"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": namespace});
    assert_eq!(
        named(&all, "ReferenceGrant", "stagekeeper-edge")["spec"],
        json!({
            "from": [from("acme"), from("shop")],
            "to": [{"group": "", "kind": "Service", "name": "stagekeeper-edge"}],
        })
    );
}

#[test]
fn what_is_given_is_not_made() {
    let given = "{database: {type: external, external: {existingSecret: history}}, encryption: {existingSecret: keys}}";
    let all = objects(NAMESPACE, given);
    assert_eq!(names(&all, "StatefulSet"), [""; 0]);
    assert!(!names(&all, "Job").contains(&"stagekeeper-setup".to_owned()));
    let pod = &named(&all, "Deployment", "stagekeeper-controller")["spec"]["template"]["spec"];
    assert_eq!(pod["volumes"][0]["secret"]["secretName"], "keys");
    let url = environment(&pod["containers"][0], "DATABASE_URL").unwrap();
    assert_eq!(url["valueFrom"]["secretKeyRef"], json!({"name": "history", "key": "url"}));

    // Each of the two Secrets is made where it is not given, and only then.
    for (values, wanted) in [
        (
            "{}",
            vec![
                "setup",
                "--keys-secret=stagekeeper-encryption-keys",
                "--database-secret=stagekeeper-database",
                "--database-host=stagekeeper-postgres:5432",
            ],
        ),
        (
            "{encryption: {existingSecret: keys}}",
            vec!["setup", "--database-secret=stagekeeper-database", "--database-host=stagekeeper-postgres:5432"],
        ),
        ("{database: {type: cloudnativepg}}", vec!["setup", "--keys-secret=stagekeeper-encryption-keys"]),
    ] {
        let all = objects(NAMESPACE, values);
        let container = &named(&all, "Job", "stagekeeper-setup")["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["args"], json!(wanted), "{values}");
    }
}

#[test]
fn a_database_is_told_by_its_parts() {
    let all = objects(NAMESPACE, MATRIX.iter().find(|(name, _)| *name == "a database by parts").unwrap().1);
    for (deployment, number) in [("stagekeeper-controller", 0), ("stagekeeper-edge", 0)] {
        let container = &named(&all, "Deployment", deployment)["spec"]["template"]["spec"]["containers"][number];
        assert_eq!(environment(container, "DATABASE_URL").unwrap()["value"], "postgres:///");
        assert_eq!(environment(container, "PGPASSWORD").unwrap()["valueFrom"]["secretKeyRef"]["key"], "password");
        let mounts = container["volumeMounts"].as_array().unwrap();
        assert!(mounts.iter().any(|mount| mount["name"] == "database-ca"), "{deployment}: {mounts:?}");
    }
}

/// Neither the definitions nor what was made once goes with the release.
#[test]
fn what_people_cannot_make_again_is_kept() {
    let all = objects(NAMESPACE, "{}");
    let definitions: Vec<_> = all.iter().filter(|object| object["kind"] == "CustomResourceDefinition").collect();
    assert_eq!(definitions.len(), 3);
    for definition in definitions {
        assert_eq!(definition["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
    }
    assert_eq!(names(&all, "Secret"), [""; 0], "a Secret of the release would go with it");
    let job = named(&all, "Job", "stagekeeper-setup");
    assert_eq!(job["metadata"]["annotations"]["helm.sh/hook"], "pre-install,pre-upgrade");
    assert_eq!(names(&objects(NAMESPACE, "{crds: {install: false}}"), "CustomResourceDefinition"), [""; 0]);
}

#[test]
fn images_are_named_by_digest_where_one_is_given() {
    let wanted = format!("@sha256:{}", "0".repeat(64));
    let all = objects(NAMESPACE, MATRIX.iter().find(|(name, _)| *name == "by digest").unwrap().1);
    let mut seen = 0;
    for object in &all {
        let pod = if object["kind"] == "Pod" { &object["spec"] } else { &object["spec"]["template"]["spec"] };
        for container in ["containers", "initContainers"].iter().filter_map(|list| pod[list].as_array()).flatten() {
            assert!(container["image"].as_str().unwrap().ends_with(&wanted), "{container}");
            seen += 1;
        }
    }
    assert!(seen > 6, "{seen}");
}

/// Every pod says what it needs, may write nowhere, and takes no variables of Services for settings.
#[test]
fn pods_are_modest() {
    for (name, values) in MATRIX {
        for object in objects(NAMESPACE, values) {
            let pod = if object["kind"] == "Pod" { &object["spec"] } else { &object["spec"]["template"]["spec"] };
            for container in ["containers", "initContainers"].iter().filter_map(|list| pod[list].as_array()).flatten() {
                assert_eq!(pod["enableServiceLinks"], json!(false), "{name}: {object}");
                assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], json!(true), "{name}: {container}");
                assert!(container["resources"]["requests"]["memory"].is_string(), "{name}: {container}");
                assert!(container["resources"]["limits"]["memory"].is_string(), "{name}: {container}");
            }
        }
    }
}
