//! The field reference in `docs/api/`, made from a definition: one row per field, its rules beside it.

use std::collections::BTreeMap;
use std::fmt::Write;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};

/// Fields whose inside is Kubernetes' own and described there.
const FOREIGN: [(&str, &str); 3] =
    [("env", "EnvVar"), ("resources", "ResourceRequirements"), ("conditions", "Condition")];

/// The whole page of one kind.
pub fn page(crd: &CustomResourceDefinition) -> String {
    let names = &crd.spec.names;
    let version = &crd.spec.versions[0];
    let root = version.schema.as_ref().and_then(|s| s.open_api_v3_schema.as_ref()).expect("a schema");
    let mut page = format!(
        "<!-- Generated from crds/ by tests/crds.rs; `UPDATE=1 cargo test --test crds` rewrites it. -->\n# {}\n\n{}\n\n",
        names.kind,
        sentence(root)
    );
    writeln!(
        page,
        "API version `{}/{}`, namespaced. `kubectl get {}`, short `{}`; `kubectl get {}` lists every kind of Stagekeeper.\n",
        crd.spec.group,
        version.name,
        names.plural,
        names.short_names.iter().flatten().cloned().collect::<Vec<_>>().join("`, `"),
        names.categories.iter().flatten().cloned().collect::<Vec<_>>().join("`, `"),
    )
    .unwrap();
    for part in ["spec", "status"] {
        let schema = &root.properties.as_ref().expect("properties")[part];
        write!(page, "## {part}\n\n{}\n\n", sentence(schema)).unwrap();
        page.push_str("| Field | Type | Default | Meaning |\n|---|---|---|---|\n");
        let mut rows = Rows::default();
        rows.below("", schema);
        page.push_str(&rows.text);
        page.push('\n');
    }
    page.push_str("## Columns of `kubectl get`\n\n| Column | Shown | Meaning |\n|---|---|---|\n");
    for column in version.additional_printer_columns.iter().flatten() {
        let shown = if column.priority.unwrap_or(0) > 0 { "with `-o wide`" } else { "always" };
        writeln!(page, "| {} | {shown} | {} |", column.name, column.description.as_deref().unwrap_or_default())
            .unwrap();
    }
    page
}

/// Rows of fields, each structure told once.
#[derive(Default)]
struct Rows<'a> {
    text: String,
    told: Vec<(String, &'a BTreeMap<String, JSONSchemaProps>)>,
}

impl<'a> Rows<'a> {
    /// One row for each field below `schema`, depth first, required fields first.
    fn below(&mut self, path: &str, schema: &'a JSONSchemaProps) {
        let required = |name: &String| schema.required.iter().flatten().any(|r| r == name);
        let mut fields: Vec<_> = schema.properties.iter().flatten().collect();
        fields.sort_by_key(|(name, _)| !required(name));
        for (name, field) in fields {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            let (path_inside, inside) = inside(&path, field);
            let foreign = FOREIGN.iter().find(|(known, _)| known == name).map(|(_, kind)| *kind);
            let same = self.told.iter().find(|(_, told)| Some(*told) == inside.properties.as_ref());
            let mut meaning = sentence(field);
            if let Some((told, _)) = same {
                write!(meaning, "<br>Fields as in `{told}`.").unwrap();
            }
            let kind = match foreign {
                Some(kind) if field.items.is_some() => {
                    format!("list{} of `{kind}`", limit(field.max_items, ""))
                }
                Some(kind) => format!("`{kind}`"),
                None => kind(field),
            };
            let default = match &field.default {
                _ if required(name) => "**required**".to_owned(),
                Some(value) if !value.0.is_object() && value.0 != "" => format!("`{}`", value.0).replace('"', ""),
                _ => String::new(),
            };
            writeln!(self.text, "| `{path}` | {} | {default} | {} |", cell(&kind), cell(&meaning)).unwrap();
            if foreign.is_none() && same.is_none() {
                self.told.extend(inside.properties.as_ref().map(|fields| (path_inside.clone(), fields)));
                self.below(&path_inside, inside);
            }
        }
    }
}

/// What a field holds, behind lists and maps, and the path of that.
fn inside<'a>(path: &str, field: &'a JSONSchemaProps) -> (String, &'a JSONSchemaProps) {
    match (&field.items, &field.additional_properties) {
        (Some(JSONSchemaPropsOrArray::Schema(item)), _) => (format!("{path}[]"), item),
        (_, Some(JSONSchemaPropsOrBool::Schema(value))) => (format!("{path}.*"), value),
        _ => (path.to_owned(), field),
    }
}

/// The description, and what the rules say.
fn sentence(schema: &JSONSchemaProps) -> String {
    let mut text = schema.description.clone().unwrap_or_default();
    let (_, inside) = inside("", schema);
    let of_entries = inside.x_kubernetes_validations.iter().flatten().filter(|_| !std::ptr::eq(inside, schema));
    for rule in schema.x_kubernetes_validations.iter().flatten().chain(of_entries) {
        let message = rule.message.as_deref().expect("every rule explains itself");
        write!(text, "<br>Rule: {message}.").unwrap();
    }
    text
}

/// What a value may be, in words.
fn kind(schema: &JSONSchemaProps) -> String {
    if let Some(words) = &schema.enum_ {
        return words.iter().map(|word| format!("`{}`", word.0).replace('"', "")).collect::<Vec<_>>().join(" or ");
    }
    match (schema.type_.as_deref(), &schema.items, &schema.additional_properties) {
        (Some("array"), Some(JSONSchemaPropsOrArray::Schema(item)), _) => {
            format!("list{} of {}", limit(schema.max_items, ""), kind(item))
        }
        (Some("object"), _, Some(JSONSchemaPropsOrBool::Schema(value))) => {
            format!("map{} to {}", limit(schema.max_properties, ""), kind(value))
        }
        (Some("integer"), ..) => match (schema.minimum, schema.maximum) {
            (Some(min), Some(max)) => format!("integer, {min} to {max}"),
            _ => "integer".to_owned(),
        },
        (Some("string"), ..) if schema.format.as_deref() == Some("date-time") => "time".to_owned(),
        (Some("string"), ..) => format!("string{}", limit(schema.max_length, " characters")),
        (Some(other), ..) => other.to_owned(),
        (None, ..) => "integer or string".to_owned(),
    }
}

/// How much of something there may be, in words.
fn limit(max: Option<i64>, unit: &str) -> String {
    max.map(|max| format!(" (at most {max}{unit})")).unwrap_or_default()
}

/// Text that does not end a table's cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
