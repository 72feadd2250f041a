//! How the operator finds out whether a service is healthy.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::duration::Duration;
use super::rules;

/// The operator's own probe of a service, made against the new instance before it gets the stage's traffic.
/// Exactly one of `http` and `tcp`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.http) != has(self.tcp)").message("health needs exactly one of http and tcp")
)]
pub struct Health {
    /// Healthy when a GET request answers with an expected status code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpProbe>,
    /// Healthy when a connection is accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpProbe>,
    /// Time between two probes.
    #[serde(default = "default_interval")]
    #[x_kube(validation = rules::duration("100ms", "1h"))]
    pub interval: Duration,
    /// A probe without an answer for this long has failed.
    #[serde(default = "default_timeout")]
    #[x_kube(validation = rules::duration("10ms", "5m"))]
    pub timeout: Duration,
    /// So many successes in a row make the service healthy.
    #[serde(default = "default_success_threshold")]
    #[schemars(range(min = 1, max = 100))]
    pub success_threshold: i32,
    /// So many failures in a row make the deploy fail.
    #[serde(default = "default_failure_threshold")]
    #[schemars(range(min = 1, max = 100))]
    pub failure_threshold: i32,
}

/// A probe over HTTP. Redirects are not followed.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HttpProbe {
    /// Path and query of the request.
    #[serde(default = "default_path")]
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(
        validation = Rule::new("self.startsWith('/') && !self.contains(' ') && !self.contains('#')")
            .message("path must start with '/' and hold neither spaces nor '#', such as /healthz")
    )]
    pub path: String,
    /// Name of one of the service's ports. Left out, its first port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 15))]
    pub port: Option<String>,
    /// Status codes of a healthy answer: codes and ranges, separated by commas.
    #[serde(default = "default_expect")]
    #[schemars(length(min = 3, max = 64))]
    #[x_kube(
        validation = Rule::new("self.matches('^[1-5][0-9][0-9](-[1-5][0-9][0-9])?(,[1-5][0-9][0-9](-[1-5][0-9][0-9])?)*$')")
            .message("expect must be status codes or ranges separated by commas, such as 200-399 or 200,204")
    )]
    pub expect: String,
}

/// A probe that opens a connection and closes it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TcpProbe {
    /// Name of one of the service's ports. Left out, its first port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 15))]
    pub port: Option<String>,
}

impl Health {
    /// The port that the probe names, if it names one.
    pub fn port_name(&self) -> Option<&str> {
        let http = self.http.as_ref().and_then(|http| http.port.as_deref());
        http.or_else(|| self.tcp.as_ref().and_then(|tcp| tcp.port.as_deref()))
    }
}

fn default_interval() -> Duration {
    Duration::from_secs(2)
}

fn default_timeout() -> Duration {
    Duration::from_secs(1)
}

fn default_success_threshold() -> i32 {
    2
}

fn default_failure_threshold() -> i32 {
    5
}

fn default_path() -> String {
    "/".to_owned()
}

fn default_expect() -> String {
    "200-399".to_owned()
}
