//! Runs Lua as Argo CD does: with the libraries that it has there, and the object as `obj`.

use std::{collections::BTreeMap, fs};

use mlua::{Lua, LuaOptions, LuaSerdeExt as _, StdLib};
use serde_json::Value;
use stagekeeper::domain::{
    annotation::{Of, Written},
    request::Action,
};

use crate::customizations;

/// A script of ours.
pub struct Script {
    path: String,
    text: String,
}

impl Script {
    pub fn of(kind: &str, name: &str) -> Self {
        let path = customizations().join(kind).join(name);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { path: path.display().to_string(), text }
    }

    fn run(&self, object: &Value) -> Value {
        // Argo CD gives its scripts no more than these, and of `os` only `time` and `date`.
        let lua = Lua::new_with(StdLib::TABLE | StdLib::PACKAGE | StdLib::OS, LuaOptions::default()).expect("Lua");
        let object = lua.to_value(object).expect("a table");
        lua.globals().set("obj", object).expect("obj");
        let answer: mlua::Value = lua.load(&self.text).set_name(&self.path).eval().expect("it runs");
        lua.from_value(answer).expect("JSON")
    }

    /// The object that an action gives back.
    pub fn object(&self, object: &Value) -> Value {
        self.run(object)
    }

    /// The actions that are offered, and whether they are enabled.
    pub fn actions(&self, object: &Value) -> BTreeMap<String, bool> {
        let all = self.run(object);
        let all = all.as_object().expect("a table");
        all.iter().map(|(name, one)| (name.clone(), !one["disabled"].as_bool().expect("disabled"))).collect()
    }
}

/// What Argo CD says of an object, and why.
pub fn health(object: &Value) -> (String, String) {
    let answer = Script::of(object["kind"].as_str().expect("a kind"), "health.lua").run(object);
    let text = |key: &str| answer[key].as_str().unwrap_or_else(|| panic!("{key} of {answer}")).to_owned();
    (text("status"), text("message"))
}

/// Names of the actions there are for a kind.
pub fn shipped(kind: &str) -> Vec<String> {
    let Ok(folder) = fs::read_dir(customizations().join(kind).join("actions")) else { return Vec::new() };
    let folders = folder.map(|entry| entry.expect("an entry")).filter(|entry| entry.path().is_dir());
    let mut names: Vec<String> = folders.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// What an object asks of the operator.
pub fn asked(object: &Value) -> Action {
    let annotation = |key: &str| object["metadata"]["annotations"][format!("stagekeeper.dev/{key}")].as_str();
    let of = if object["kind"] == "Environment" { Of::Environment } else { Of::Stage };
    let written = Written {
        of,
        word: annotation("request").expect("a word"),
        nonce: annotation("request-nonce"),
        reason: annotation("request-reason"),
        arguments: annotation("request-arguments"),
        user: annotation("request-user"),
        groups: annotation("request-groups"),
    };
    written.read().expect("the operator understands it").action
}
