//! The `CustomResourceDefinition`s as the API server gets them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;

use super::{Environment, Project, Stage};

/// The definitions of all kinds, in the order in which people should read them.
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![finished(Project::crd()), finished(Stage::crd()), finished(Environment::crd())]
}

/// One definition as a YAML document, with a line on top that says where it comes from.
pub fn to_yaml(crd: &CustomResourceDefinition) -> Result<String, serde_yaml::Error> {
    let body = serde_yaml::to_string(crd)?;
    Ok(format!("# Generated from the Rust types by `stagekeeper crds`; do not edit.\n{body}"))
}

/// What the derived definition lacks: the status that an object is born with, and a status schema that asks for
/// nothing of its own.
fn finished(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut crd.spec.versions {
        let schema = version.schema.as_mut().and_then(|s| s.open_api_v3_schema.as_mut());
        let Some(schema) = schema else { continue };
        visit(schema, &tidy);
        let status = schema.properties.as_mut().and_then(|p| p.get_mut("status"));
        let Some(status) = status else { continue };
        loosen(status);
        status.default = Some(JSON(serde_json::json!({"observedGeneration": -1})));
    }
    crd
}

/// Joins the lines of a description, and lets a `null` be dropped like a field that is left out.
fn tidy(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    schema.description = schema.description.take().map(|text| text.replace('\n', " "));
}

/// Takes away what would make a status unwritable: required fields and fixed words. Two things stay: the keys of
/// lists that are merged by key, and what a condition needs to be one for every reader.
fn loosen(status: &mut JSONSchemaProps) {
    for (name, property) in status.properties.iter_mut().flatten() {
        if name != "conditions" {
            visit(property, &|schema| {
                schema.required = None;
                schema.enum_ = None;
                let keys = schema.x_kubernetes_list_map_keys.clone();
                if let (Some(keys), Some(JSONSchemaPropsOrArray::Schema(items))) = (keys, &mut schema.items) {
                    items.required = Some(keys);
                }
            });
        }
    }
    status.required = None;
}

/// Calls `change` on every schema inside `schema`, then on itself.
fn visit(schema: &mut JSONSchemaProps, change: &impl Fn(&mut JSONSchemaProps)) {
    for property in schema.properties.iter_mut().flat_map(|p| p.values_mut()) {
        visit(property, change);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        visit(items, change);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        visit(values, change);
    }
    change(schema);
}
