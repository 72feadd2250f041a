//! The secrets of a project: which values its services get, and where they find them.

use std::fmt;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rules;

/// A value that services get without its standing in the Project. It is stored with `stagekeeper secret set`, or copied
/// from a Kubernetes Secret, and kept sealed in the database. Another value is another deploy.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.__as__ != 'env' || !self.name.startsWith('STAGEKEEPER_')")
        .message("name must not begin with STAGEKEEPER_, whose variables are set by Stagekeeper: choose another name"),
    validation = Rule::new("self.__as__ != 'file' || has(self.path)")
        .message("as: file needs a path, such as /etc/shop/tls.key"),
    validation = Rule::new("self.__as__ == 'file' || !has(self.path)")
        .message("path is where a file stands: set as to file, or remove path"),
    validation = Rule::new("self.__as__ == 'file' || !has(self.mode)")
        .message("mode says who may read a file: set as to file, or remove mode")
)]
pub struct SecretDeclaration {
    /// Name of the secret: that of the variable, and the one to store its value under.
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = rules::secret_name())]
    pub name: String,
    /// The one service that gets it. Left out, all of them do. A service that has a declaration of its own with this
    /// name follows that one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 40))]
    pub service: Option<String>,
    /// How services get it: `env` as an environment variable with its name, `file` as a file at `path`.
    #[serde(default, rename = "as")]
    pub as_: SecretForm,
    /// Absolute path of the file in the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 255))]
    #[x_kube(validation = rules::file_path("path"))]
    pub path: Option<String>,
    /// Permissions of the file, as four octal digits. Left out, `0444`: containers do not run as root, to whom the file
    /// belongs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4))]
    #[x_kube(
        validation = Rule::new("self.matches('^0[0-7]{3}$')")
            .message("mode must be four octal digits that begin with 0, such as 0440")
    )]
    pub mode: Option<String>,
    /// The Kubernetes Secret that the value is copied from, whenever it changes there. Without `key`, the key with the
    /// secret's name is taken. Left out, the value is stored with `stagekeeper secret set`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
}

/// How services get a secret: `env` as an environment variable, `file` as a file.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum SecretForm {
    /// As an environment variable.
    #[default]
    Env,
    /// As a file.
    File,
}

/// A Kubernetes Secret in the Project's namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::kubernetes_name("name"))]
    pub name: String,
    /// Which of its keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(
        validation = Rule::new("self.matches('^[-._a-zA-Z0-9]+$')")
            .message("key must be letters, digits, '-', '_' and '.', such as password")
    )]
    pub key: Option<String>,
}

impl SecretDeclaration {
    /// Permissions of a file whose declaration names none.
    pub const MODE: i32 = 0o444;

    /// The file's permissions, as a number.
    pub fn file_mode(&self) -> i32 {
        let given = self.mode.as_deref().and_then(|mode| i32::from_str_radix(mode, 8).ok());
        given.unwrap_or(Self::MODE)
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            None => f.write_str(&self.name),
            Some(key) => write!(f, "{}[{key}]", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> SecretDeclaration {
        serde_yaml::from_str(yaml).unwrap_or_else(|error| panic!("{yaml}: {error}"))
    }

    #[test]
    fn modes_are_octal_and_files_can_be_read_without_one() {
        assert_eq!(read("{name: a, as: file, path: /a, mode: '0400'}").file_mode(), 0o400);
        assert_eq!(read("{name: a, as: file, path: /a}").file_mode(), 0o444);
    }

    #[test]
    fn a_secret_is_a_variable_unless_it_says_otherwise() {
        assert_eq!(read("{name: a}").as_, SecretForm::Env);
        let written = serde_json::to_value(read("{name: a, as: file, path: /a}")).expect("JSON");
        assert_eq!(written, serde_json::json!({"name": "a", "as": "file", "path": "/a"}));
    }

    #[test]
    fn a_reference_is_told_with_its_key() {
        let told = |key: Option<&str>| SecretRef { name: "shop".into(), key: key.map(str::to_owned) }.to_string();
        assert_eq!((told(None), told(Some("key"))), ("shop".into(), "shop[key]".into()));
    }
}
