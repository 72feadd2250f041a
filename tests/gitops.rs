//! `GitOps` tools read our kinds alike: one table of situations, judged by the rules of kstatus (Flux, Helm, `kubectl wait`)
//! and by the Lua that Argo CD is given. `UPDATE=1` writes the files that follow from it.
#![expect(clippy::expect_used, reason = "a test stops at what it did not expect")]

#[path = "gitops/argocd.rs"]
mod argocd;
#[path = "gitops/situations.rs"]
mod situations;

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use stagekeeper::api::kstatus;

use self::{
    argocd::{Script, health},
    situations::{Situation, situations},
};

/// Where everything for Argo CD is, as its own repository arranges customizations.
fn customizations() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/gitops/argocd/resource_customizations/stagekeeper.dev")
}

const KINDS: [&str; 3] = ["Project", "Stage", "Environment"];

/// Compares a file with what it has to be, or writes it.
fn written(path: &Path, wanted: &str) {
    if std::env::var_os("UPDATE").is_some() {
        fs::create_dir_all(path.parent().expect("a folder")).expect("the folder");
        fs::write(path, wanted).expect("the file");
    }
    let found = fs::read_to_string(path).unwrap_or_default();
    assert!(found == wanted, "{} is not what it has to be: run `UPDATE=1 cargo test --test gitops`", path.display());
}

fn yaml(value: &Value) -> String {
    serde_yaml::to_string(value).expect("YAML")
}

#[test]
fn every_situation_is_read_alike_by_all_tools() {
    for Situation { name, object, progress, argo } in situations() {
        assert_eq!(kstatus::compute(&object), progress, "{name}: kstatus");
        let (status, message) = health(&object);
        assert_eq!(status, argo, "{name}: Argo CD says {message}");
        assert!(!message.is_empty(), "{name}: and says why");
    }
}

/// Nothing that waits for people is trouble, and nothing that is trouble is hidden.
#[test]
fn what_kstatus_takes_for_failed_is_degraded_and_nothing_else_is() {
    for Situation { name, progress, argo, .. } in situations() {
        assert_eq!(progress == kstatus::Progress::Failed, argo == "Degraded", "{name}");
        assert!(argo != "Healthy" || progress == kstatus::Progress::Current, "{name}");
    }
}

#[test]
fn the_fixtures_for_argo_cd_are_those_situations() {
    for kind in KINDS {
        let folder = customizations().join(kind);
        let script = fs::read_to_string(folder.join("health.lua")).expect("the script");
        assert!(script == fs::read_to_string(customizations().join("Stage/health.lua")).unwrap(), "{kind}: one script");
        let mut tests = String::from("tests:\n");
        let mut names = vec![];
        for Situation { name, object, argo, .. } in situations().into_iter().filter(|one| one.object["kind"] == kind) {
            let file = format!("testdata/{}.yaml", name.replace(' ', "_"));
            written(&folder.join(&file), &yaml(&object));
            let message = serde_json::to_string(&health(&object).1).expect("text");
            write!(tests, "- healthStatus:\n    status: {argo}\n    message: {message}\n  inputPath: {file}\n")
                .expect("text");
            names.push(file);
        }
        assert!(!names.is_empty(), "{kind} has situations");
        written(&folder.join("health_test.yaml"), &tests);
        for entry in fs::read_dir(folder.join("testdata")).unwrap() {
            let file = format!("testdata/{}", entry.unwrap().file_name().to_string_lossy());
            assert!(names.contains(&file), "{kind}: {file} is of no situation: remove it");
        }
    }
}

#[test]
fn actions_ask_what_the_operator_understands_and_change_no_spec() {
    let objects =
        [situations::stage("actions", "{project: shop, promotion: {from: [dev]}}"), situations::environment("actions")];
    for before in objects {
        let kind = before["kind"].as_str().unwrap();
        let offered = Script::of(kind, "actions/discovery.lua").actions(&before);
        let shipped: Vec<String> = argocd::shipped(kind);
        assert_eq!(offered.keys().cloned().collect::<Vec<_>>(), shipped, "{kind}: what is offered is what there is");
        for action in shipped {
            let after = Script::of(kind, &format!("actions/{action}/action.lua")).object(&before);
            assert_eq!(after["spec"], before["spec"], "{kind} {action}: GitOps would undo it");
            assert_eq!(after["status"], before["status"], "{kind} {action}");
            assert_eq!(argocd::asked(&after).word(), action, "{kind}");
        }
    }
}

#[test]
fn actions_are_offered_where_they_can_do_something() {
    let offered = |object: &Value| -> Vec<String> {
        let all = Script::of(object["kind"].as_str().unwrap(), "actions/discovery.lua").actions(object);
        all.into_iter().filter(|(_, enabled)| *enabled).map(|(name, _)| name).collect()
    };
    let of = |wanted: &str| {
        situations()
            .into_iter()
            .find(|one| one.name == wanted)
            .unwrap_or_else(|| panic!("no situation {wanted}"))
            .object
    };
    assert_eq!(offered(&of("stage just made")), ["hold"]);
    assert_eq!(offered(&of("stage serves")), ["hold", "rollback"]);
    assert_eq!(offered(&of("stage deploys")), ["abort", "hold", "rollback"]);
    assert_eq!(offered(&of("stage rolled back")), ["hold", "retry", "rollback"]);
    assert_eq!(offered(&of("stage held")), ["resume", "rollback"]);
    assert_eq!(offered(&of("stage waits for approval")), ["abort", "hold", "promote", "rollback"]);
    assert_eq!(offered(&of("environment ready")), ["pin", "sleep", "unpin"]);
    assert_eq!(offered(&of("environment asleep")), ["pin", "unpin", "wake"]);
}

/// What goes into Argo CD's `ConfigMap`: the scripts, as they are.
#[test]
fn the_settings_of_argo_cd_hold_these_scripts() {
    let mut text = String::from(
        "# Generated from resource_customizations/ beside it. Merge it into Argo CD's own ConfigMap:\n\
         #   kubectl patch configmap argocd-cm -n argocd --patch-file docs/gitops/argocd/argocd-cm.yaml\n\
         apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: argocd-cm\n  namespace: argocd\n  labels:\n    \
         app.kubernetes.io/name: argocd-cm\n    app.kubernetes.io/part-of: argocd\ndata:\n",
    );
    let indented = |text: &str, by: usize| -> String {
        let margin = " ".repeat(by);
        text.lines().map(|line| if line.is_empty() { "\n".to_owned() } else { format!("{margin}{line}\n") }).collect()
    };
    for kind in KINDS {
        let read = |path: &str| fs::read_to_string(customizations().join(kind).join(path)).expect("the script");
        write!(
            text,
            "  resource.customizations.health.stagekeeper.dev_{kind}: |\n{}",
            indented(&read("health.lua"), 4)
        )
        .expect("text");
        let shipped = argocd::shipped(kind);
        if shipped.is_empty() {
            continue;
        }
        write!(text, "  resource.customizations.actions.stagekeeper.dev_{kind}: |\n    discovery.lua: |\n")
            .expect("text");
        text += &indented(&read("actions/discovery.lua"), 6);
        text += "    definitions:\n";
        for action in shipped {
            let script = indented(&read(&format!("actions/{action}/action.lua")), 8);
            write!(text, "    - name: {action}\n      action.lua: |\n{script}").expect("text");
        }
    }
    let settings: Value = serde_yaml::from_str(&text).expect("YAML");
    for value in settings["data"].as_object().unwrap().values() {
        assert!(value.is_string(), "Argo CD reads texts");
    }
    written(&customizations().join("../../argocd-cm.yaml"), &text);
}
