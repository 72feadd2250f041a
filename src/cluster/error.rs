//! What the API server's refusals mean.

use std::time::Duration;

use kube::core::Status;
use kube::core::response::StatusDetails;

use super::client::call::NoAnswer;

/// Longest message kept, in characters: enough for a sentence from the API server, short enough for a condition.
const MESSAGE_CHARS: usize = 700;

/// What kind of trouble a call ran into, and so what can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// RBAC does not allow it: somebody must grant it.
    Forbidden,
    /// An admission policy or webhook refused the object: somebody must change one of the two.
    Denied,
    /// The namespace's quota is used up.
    Quota,
    /// The namespace is being deleted: nothing can be made in it any more.
    Terminating,
    /// The namespace does not exist.
    NamespaceMissing,
    /// The object does not exist.
    NotFound,
    /// The cluster does not serve this kind: its CRD is not installed.
    NotServed,
    /// The object is not the one, or not in the version, that the call was meant for.
    Conflict,
    /// Somebody else has an object of that name.
    Taken,
    /// The object is not acceptable to the API server: the input must change.
    Invalid,
    /// Worth trying again: overload, restart, timeout, lost connection, expired credentials.
    Transient,
}

impl Class {
    /// One `CamelCase` word for conditions, events and metric labels.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Forbidden => "Forbidden",
            Self::Denied => "AdmissionDenied",
            Self::Quota => "QuotaExceeded",
            Self::Terminating => "NamespaceTerminating",
            Self::NamespaceMissing => "NamespaceMissing",
            Self::NotFound => "NotFound",
            Self::NotServed => "KindNotServed",
            Self::Conflict => "Conflict",
            Self::Taken => "NameTaken",
            Self::Invalid => "Invalid",
            Self::Transient => "ApiServerUnavailable",
        }
    }
}

/// What a call was about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The verbs of RBAC that the call needs: `create and patch`.
    pub verbs: &'static str,
    /// The kind's API group, empty for the core group.
    pub group: String,
    /// Plural name of the kind, with the subresource if there is one.
    pub resource: String,
    /// The namespace, if the kind has one.
    pub namespace: Option<String>,
    /// The object's name; empty for a collection.
    pub name: String,
}

impl Target {
    fn place(&self) -> String {
        self.namespace.as_ref().map_or_else(|| "in the cluster".to_owned(), |ns| format!("in namespace {ns}"))
    }

    fn object(&self) -> String {
        let of = if self.name.is_empty() { String::new() } else { format!(" {}", self.name) };
        format!("{}{of} {}", self.resource, self.place())
    }

    /// Messages about Secrets may quote what is in them.
    fn is_confidential(&self) -> bool {
        self.group.is_empty() && self.resource.starts_with("secrets")
    }
}

/// A call to the API server that did not succeed. The message says what was tried, why it failed and what to do;
/// for Secrets it never quotes the server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    class: Class,
    code: u16,
    message: String,
    retry_after: Option<Duration>,
}

impl ApiError {
    /// What kind of trouble it is.
    pub const fn class(&self) -> Class {
        self.class
    }

    /// One `CamelCase` word for conditions, events and metric labels.
    pub const fn reason(&self) -> &'static str {
        self.class.reason()
    }

    /// The HTTP status code; 0 if there was no answer.
    pub const fn code(&self) -> u16 {
        self.code
    }

    /// How long the server asked to wait.
    pub const fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Reads a failed call.
    pub(crate) fn new(target: &Target, err: &kube::Error) -> Self {
        match err {
            kube::Error::Api(status) => Self::from_status(target, status),
            kube::Error::Service(source) if source.is::<NoAnswer>() => {
                Self::transient(format!("{}: {source}", target.object()))
            }
            kube::Error::SerdeError(_) => {
                // serde quotes the value that it could not read.
                Self::transient(format!("{}: the API server's answer is not what was expected", target.object()))
            }
            _ => Self::transient(format!("{}: cannot reach the API server: {}", target.object(), chain(err))),
        }
    }

    /// The whole call took longer than it may.
    pub(crate) fn timed_out(target: &Target, after: Duration) -> Self {
        Self::transient(format!("{}: the API server did not finish its answer within {after:?}", target.object()))
    }

    /// The request could not even be built: a name that no path can hold, a body that is not JSON.
    pub(crate) fn unbuildable(target: &Target, err: &kube::core::request::Error) -> Self {
        let said = if target.is_confidential() { String::from("it cannot be sent") } else { err.to_string() };
        Self::invalid(format!("{} is not valid: {said}", target.object()))
    }

    /// The object lacks a name or a namespace.
    pub(crate) fn nameless(target: &Target) -> Self {
        Self::invalid(format!("{} is not valid: it needs a name and a namespace", target.object()))
    }

    /// The name belongs to an object that we did not make.
    pub(crate) fn taken(target: &Target) -> Self {
        let message = format!(
            "{} exists and is not ours: it lacks the labels that Stagekeeper gives its objects, and is left alone. \
             Delete or rename it, or give the stage or the service another name",
            target.object()
        );
        Self { class: Class::Taken, code: 0, message: cut(&message), retry_after: None }
    }

    /// The process does not lead any more, so it must not write.
    pub(crate) fn deposed(target: &Target) -> Self {
        let message = format!("{} is left to the next leader: leadership was lost", target.object());
        Self { class: Class::Conflict, code: 0, message: cut(&message), retry_after: None }
    }

    fn invalid(message: String) -> Self {
        Self { class: Class::Invalid, code: 0, message: cut(&message), retry_after: None }
    }

    fn transient(message: String) -> Self {
        Self { class: Class::Transient, code: 0, message: cut(&message), retry_after: None }
    }

    pub(crate) fn from_status(target: &Target, status: &Status) -> Self {
        let class = classify(status);
        let said = if target.is_confidential() { fields(status) } else { status.message.clone() };
        let object = target.object();
        let Target { verbs, resource, .. } = target;
        let group = if target.group.is_empty() { "core" } else { &target.group };
        let place = target.place();
        let message = match class {
            Class::Forbidden => format!(
                "the operator may not {verbs} {resource} {place}: its Role must allow the verbs {verbs} on {resource} \
                 (API group {group}). The API server said: {said}"
            ),
            Class::Denied => format!("{object} was refused by an admission policy: {said}"),
            Class::Quota => format!("{object} does not fit the namespace's quota: {said}"),
            Class::Terminating => {
                format!("{object} cannot be made: the namespace is being deleted")
            }
            Class::NamespaceMissing => {
                format!("{object} cannot be made: the namespace does not exist")
            }
            Class::NotFound => format!("{object} does not exist"),
            Class::NotServed => {
                format!(
                    "the cluster does not serve {resource} (API group {group}): install its CustomResourceDefinition"
                )
            }
            Class::Conflict => format!("{object} was changed or replaced meanwhile: {said}"),
            Class::Invalid | Class::Taken => format!("{object} is not valid: {said}"),
            Class::Transient => {
                format!("{object}: the API server answered {}: {said}", status.code)
            }
        };
        let retry_after = status.details.as_ref().map(|d| d.retry_after_seconds).filter(|s| *s > 0);
        Self {
            class,
            code: status.code,
            message: cut(&message),
            retry_after: retry_after.map(|s| Duration::from_secs(s.into())),
        }
    }
}

/// By code, since an answer that did not come from the API server itself has no reason that means anything: a proxy's,
/// or that of a path which does not exist.
fn classify(status: &Status) -> Class {
    let says = |part: &str| status.message.contains(part);
    let details = status.details.as_ref();
    let caused_by = |reason: &str| details.is_some_and(|d| d.causes.iter().any(|c| c.reason == reason));
    if says("admission webhook") && says("denied the request") {
        return Class::Denied;
    }
    match status.code {
        403 if caused_by("NamespaceTerminating") => Class::Terminating,
        403 if says("exceeded quota") || says("failed quota") => Class::Quota,
        403 if says(" cannot ") && says(" resource ") => Class::Forbidden,
        403 => Class::Denied,
        404 => match details {
            Some(StatusDetails { kind, .. }) if kind == "namespaces" => Class::NamespaceMissing,
            Some(StatusDetails { name, .. }) if !name.is_empty() => Class::NotFound,
            _ => Class::NotServed,
        },
        409 => Class::Conflict,
        // How an update is told that its object was deleted and made anew.
        422 if details.is_some_and(|d| d.causes.iter().any(|c| c.field == "metadata.uid")) => Class::Conflict,
        401 | 408 | 410 | 429 => Class::Transient,
        400..=499 => Class::Invalid,
        // The structured merge of server-side apply reports what does not fit the schema as an internal error.
        _ if says("failed to create typed patch object") || says("not declared in schema") => Class::Invalid,
        // So it does with a quantity that is none.
        _ if says("unable to convert unstructured object") => Class::Invalid,
        _ => Class::Transient,
    }
}

/// The fields that a refusal names, without their values.
fn fields(status: &Status) -> String {
    let causes = status.details.as_ref().map(|d| d.causes.as_slice()).unwrap_or_default();
    let fields: Vec<_> = causes.iter().map(|c| c.field.as_str()).filter(|f| !f.is_empty()).collect();
    if fields.is_empty() { status.reason.clone() } else { format!("{} at {}", status.reason, fields.join(", ")) }
}

/// An error with its causes: the outermost rarely says what happened.
pub fn chain(err: &dyn std::error::Error) -> String {
    let mut said = err.to_string();
    let mut source = err.source();
    while let Some(err) = source {
        let more = err.to_string();
        if !said.contains(&more) {
            said = format!("{said}: {more}");
        }
        source = err.source();
    }
    said
}

fn cut(message: &str) -> String {
    super::cut(message, MESSAGE_CHARS)
}

#[cfg(test)]
mod tests {
    use kube::core::response::StatusCause;

    use super::*;

    fn target(resource: &str) -> Target {
        Target {
            verbs: "create and patch",
            group: if resource == "deployments" { "apps".into() } else { String::new() },
            resource: resource.into(),
            namespace: Some("shop".into()),
            name: "web".into(),
        }
    }

    fn status(code: u16, reason: &str, message: &str) -> Status {
        Status::failure(message, reason).with_code(code)
    }

    fn cause(reason: &str, field: &str) -> StatusCause {
        StatusCause { reason: reason.into(), message: String::new(), field: field.into() }
    }

    fn details(kind: &str, name: &str, reason: &str) -> StatusDetails {
        StatusDetails {
            name: name.into(),
            group: String::new(),
            kind: kind.into(),
            uid: String::new(),
            causes: [cause(reason, "data[password]")].into_iter().filter(|_| !reason.is_empty()).collect(),
            retry_after_seconds: 0,
        }
    }

    #[test]
    fn each_refusal_has_its_class_and_says_what_to_do() {
        struct Case {
            name: &'static str,
            status: Status,
            class: Class,
            says: &'static str,
        }
        let cases = [
            Case {
                name: "rbac",
                status: status(
                    403,
                    "Forbidden",
                    "deployments.apps \"web\" is forbidden: User \"sk\" cannot patch resource \"deployments\" in API \
                     group \"apps\" in the namespace \"shop\"",
                ),
                class: Class::Forbidden,
                says: "must allow the verbs create and patch on deployments (API group apps)",
            },
            Case {
                name: "quota",
                status: status(403, "Forbidden", "services \"web\" is forbidden: exceeded quota: small, requested: 1"),
                class: Class::Quota,
                says: "exceeded quota: small",
            },
            Case {
                name: "policy",
                status: status(403, "Forbidden", "ValidatingAdmissionPolicy 'p' denied request: no"),
                class: Class::Denied,
                says: "admission policy",
            },
            Case {
                name: "webhook",
                status: status(400, "", "admission webhook \"x.y\" denied the request: no latest tags"),
                class: Class::Denied,
                says: "no latest tags",
            },
            Case {
                name: "terminating",
                status: status(403, "Forbidden", "unable to create new content in namespace shop")
                    .with_details(details("", "", "NamespaceTerminating")),
                class: Class::Terminating,
                says: "being deleted",
            },
            Case {
                name: "no namespace",
                status: status(404, "NotFound", "namespaces \"shop\" not found").with_details(details(
                    "namespaces",
                    "shop",
                    "",
                )),
                class: Class::NamespaceMissing,
                says: "namespace does not exist",
            },
            Case {
                name: "no object",
                status: status(404, "NotFound", "x").with_details(details("deployments", "web", "")),
                class: Class::NotFound,
                says: "deployments web in namespace shop does not exist",
            },
            Case {
                name: "no kind",
                status: status(404, "Failed to parse error data", "404 page not found"),
                class: Class::NotServed,
                says: "CustomResourceDefinition",
            },
            Case {
                name: "conflict",
                status: status(409, "Conflict", "the object has been modified"),
                class: Class::Conflict,
                says: "meanwhile",
            },
            Case {
                name: "another of that name",
                status: status(422, "Invalid", "metadata.uid: Invalid value: field is immutable").with_details(
                    StatusDetails { causes: vec![cause("FieldValueInvalid", "metadata.uid")], ..details("", "", "") },
                ),
                class: Class::Conflict,
                says: "replaced meanwhile",
            },
            Case {
                name: "invalid",
                status: status(422, "Invalid", "spec.replicas: Invalid value: -1"),
                class: Class::Invalid,
                says: "spec.replicas",
            },
            Case {
                name: "does not fit the schema",
                status: status(
                    500,
                    "InternalError",
                    "failed to create typed patch object: .spec.x: field not declared",
                ),
                class: Class::Invalid,
                says: ".spec.x",
            },
            Case {
                name: "no quantity",
                status: status(
                    500,
                    "InternalError",
                    "failed to convert new object (shop/environment; /v1, Kind=ResourceQuota) to proper version: unable to \
                     convert unstructured object to /v1, Kind=ResourceQuota: quantities must match the regular expression",
                ),
                class: Class::Invalid,
                says: "quantities must match",
            },
            Case {
                name: "overload",
                status: status(429, "TooManyRequests", "try again"),
                class: Class::Transient,
                says: "429",
            },
            Case {
                name: "broken webhook",
                status: status(500, "InternalError", "failed calling webhook \"x\": connection refused"),
                class: Class::Transient,
                says: "failed calling webhook",
            },
        ];
        for Case { name, status, class, says } in cases {
            let err = ApiError::from_status(&target("deployments"), &status);
            assert_eq!(err.class(), class, "{name}");
            assert!(err.to_string().contains(says), "{name}: {err}");
        }
    }

    #[test]
    fn what_is_in_a_secret_is_never_quoted() {
        let refusal = status(422, "Invalid", "data[password]: Invalid value: \"hunter2\": too short")
            .with_details(details("secrets", "web", "FieldValueInvalid"));
        let err = ApiError::from_status(&target("secrets"), &refusal);
        assert!(!format!("{err:?} {err}").contains("hunter2"), "{err}");
        assert!(err.to_string().contains("data[password]"), "{err}");

        let unreadable = serde_json::from_str::<u32>("\"hunter2\"").unwrap_err();
        let err = ApiError::new(&target("secrets"), &kube::Error::SerdeError(unreadable));
        assert!(!format!("{err:?} {err}").contains("hunter2"), "{err}");
    }

    #[test]
    fn the_server_may_say_when_to_come_back() {
        let busy = StatusDetails { retry_after_seconds: 7, ..details("", "", "") };
        let err = ApiError::from_status(&target("pods"), &status(429, "TooManyRequests", "x").with_details(busy));
        assert_eq!(err.retry_after(), Some(Duration::from_secs(7)));
    }

    #[test]
    fn messages_are_bounded() {
        let err = ApiError::from_status(&target("pods"), &status(422, "Invalid", &"é".repeat(5_000)));
        assert_eq!(err.to_string().chars().count(), MESSAGE_CHARS);
        assert!(err.to_string().ends_with('…'));
    }
}
