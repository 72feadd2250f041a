//! Validation rules that several fields share, in the API server's expression language (CEL).
//!
//! The messages are written for the person who typed the field: what is expected, and an example.

use kube::core::Rule;
use schemars::{Schema, SchemaGenerator, json_schema};

/// A lower-case name that may become part of a child object's name.
pub fn name(subject: &str) -> Rule {
    rule(
        "self.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
        &format!(
            "{subject} must be lower-case letters, digits and '-', start with a letter and end with a letter or digit, such as web-1"
        ),
    )
}

/// The rule for `metadata.name` of our kinds, which becomes part of the names and labels of children.
pub fn object_name(kind: &str) -> Rule {
    rule(
        "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$') && self.metadata.name.size() <= 40",
        &format!(
            "metadata.name of a {kind} must be at most 40 lower-case letters, digits and '-', start with a letter and end with a letter or digit"
        ),
    )
}

/// The name of a secret, which becomes that of a variable, or of a key in a Kubernetes Secret.
pub fn secret_name() -> Rule {
    rule(
        "self.matches('^[A-Za-z_][A-Za-z0-9_.-]*$')",
        "name must be letters, digits, '_', '-' and '.', and start with a letter or '_', such as STRIPE_KEY",
    )
}

/// The name of a credential.
pub fn credential_name(subject: &str) -> Rule {
    rule(
        "self.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?$')",
        &format!("{subject} must be the name of one: lower-case letters, digits and -, such as ghcr"),
    )
}

/// The name of an object of Kubernetes' own.
pub fn kubernetes_name(subject: &str) -> Rule {
    rule(
        "self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')",
        &format!("{subject} must be the name of an object: lower-case letters, digits, '-' and '.', such as shop-keys"),
    )
}

/// An absolute path of a file in a container, in its plainest form, so that equal files have equal paths.
pub fn file_path(subject: &str) -> Rule {
    rule(
        "self.matches('^(/[^/:[:cntrl:]]+)+$') && !self.split('/').exists(part, part in ['.', '..'])",
        &format!("{subject} must be the absolute path of a file without '.', '..' and ':', such as /etc/shop/tls.key"),
    )
}

/// A deadline, interval or window between `min` and `max`, both as CEL durations.
pub fn duration(min: &str, max: &str) -> Rule {
    rule(
        &format!(
            "self.matches('^([0-9]+(h|m|s|ms))+$') && duration(self) >= duration('{min}') && duration(self) <= duration('{max}')"
        ),
        &format!("must be a duration between {min} and {max}, such as 30s, 5m or 1h30m"),
    )
}

/// A mutable name of an image inside its repository.
pub fn tag() -> Rule {
    rule(
        "self.matches('^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$')",
        "must be a tag: letters, digits, '_', '.' and '-', at most 128, such as 1.4.2",
    )
}

/// A content address of an image.
pub fn digest() -> Rule {
    rule("self.matches('^sha256:[a-f0-9]{64}$')", "must be a digest: sha256: and 64 hexadecimal digits in lower case")
}

/// A host name for a route.
pub fn host() -> Rule {
    rule(
        "self.matches('^([a-z0-9]([-a-z0-9]*[a-z0-9])?[.])*[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
        "must be a host name in lower case without scheme, port or path, such as shop.example.com",
    )
}

/// Who needs a Gateway names it.
pub fn route_gateway() -> Rule {
    rule(
        "self.type != 'HTTPRoute' || has(self.parentRefs) && self.parentRefs.size() > 0",
        "route.parentRefs must name the Gateway for route.type HTTPRoute",
    )
}

/// Who needs no Gateway names none.
pub fn route_no_gateway() -> Rule {
    rule(
        "self.type == 'HTTPRoute' || !has(self.parentRefs) || self.parentRefs.size() == 0",
        "route.parentRefs is only for route.type HTTPRoute: set that type, or remove it",
    )
}

/// What only an Ingress knows.
pub fn route_ingress() -> Rule {
    rule(
        "self.type == 'Ingress' || !has(self.className) && !has(self.tlsSecret)",
        "route.className and route.tlsSecret are only for route.type Ingress: set that type, or remove them",
    )
}

/// An amount such as `10Gi`.
pub fn quantity() -> Rule {
    rule(
        "isQuantity(self) && quantity(self).isGreaterThan(quantity('0'))",
        "must be an amount above zero, such as 10Gi",
    )
}

/// What something costs, as a decimal number.
pub fn price(subject: &str) -> Rule {
    rule(
        "self.matches('^[0-9]{1,6}([.][0-9]{1,9})?$')",
        &format!("{subject} must be a price as a decimal number, such as 0.034"),
    )
}

/// Schema of an amount that has to be a string, so that its rule knows the type.
pub fn quantity_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "maxLength": 32})
}

/// Schema of an object whose content is Kubernetes' business, not ours.
pub fn free_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

fn rule(expression: &str, message: &str) -> Rule {
    Rule::new(expression).message(message)
}
