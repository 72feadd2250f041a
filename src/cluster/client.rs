//! Clients for the API server whose every call ends.
//!
//! Left to its defaults, the Kubernetes client retries any call up to fifteen times, creations included, and waits
//! without end for an answer. A reconcile that hangs is worse than one that fails: it can be retried by whoever
//! knows what it was for. So nothing is retried here and each call has a deadline. There is no client-side rate
//! limit: the API server's priority and fairness is the one place that decides who waits.

pub mod call;

use std::path::PathBuf;
use std::time::Duration;

use http::header::USER_AGENT;
use http::{HeaderValue, Request, Response};
use kube::client::{Body, ClientBuilder};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tower::{BoxError, Service};

use call::{CallLayer, OnCall};

/// Where the API server's address and our credentials come from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Access {
    /// The pod's service account inside a cluster, the usual kubeconfig (`KUBECONFIG`, `~/.kube/config`) elsewhere.
    #[default]
    Infer,
    /// A kubeconfig file; its current context unless one is named.
    Kubeconfig {
        /// The file; the usual places if absent.
        path: Option<PathBuf>,
        /// The context in it.
        context: Option<String>,
    },
}

/// Why no client could be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The kubeconfig cannot be read or lacks what is needed.
    #[error("cannot use the kubeconfig: {0}. Set KUBECONFIG to a readable file whose current context names a cluster")]
    Kubeconfig(#[source] kube::config::KubeconfigError),
    /// The pod's service account is not usable.
    #[error(
        "cannot use the pod's service account: {0}. Check that the pod's automountServiceAccountToken is not false"
    )]
    InCluster(#[source] kube::config::InClusterError),
    /// The credentials or certificates in the configuration are not usable.
    #[error("cannot make a client for the API server: {0}. Check the certificates and credentials of the kubeconfig")]
    Client(#[source] kube::Error),
}

/// How long the parts of a call may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// TCP and TLS handshake.
    pub connect: Duration,
    /// From sending a request until its answer begins.
    pub answer: Duration,
    /// From asking for a watch until it is open; an API server that fills its cache lets one wait.
    pub watch_open: Duration,
    /// Silence on a connection that is expected to speak. Longer than any watch asks to last.
    pub silence: Duration,
}

impl Deadlines {
    /// For everything but the lease.
    pub const GENERAL: Self = Self {
        connect: Duration::from_secs(5),
        answer: Duration::from_secs(10),
        watch_open: Duration::from_secs(20),
        silence: Duration::from_secs(65),
    };

    /// For the lease, where a late answer is worth nothing.
    pub const LEASE: Self = Self {
        connect: Duration::from_secs(3),
        answer: Duration::from_secs(5),
        watch_open: Duration::from_secs(5),
        silence: Duration::from_secs(20),
    };
}

/// The two clients of a process. They share no connection, so a busy one cannot delay a renewal of the other.
#[derive(Clone)]
pub struct Clients {
    /// For everything but the lease.
    pub general: Client,
    /// For the lease only.
    pub lease: Client,
}

impl std::fmt::Debug for Clients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Clients").field("namespace", &self.namespace()).finish_non_exhaustive()
    }
}

impl Clients {
    /// Reads the configuration and makes both clients. No call is made yet.
    ///
    /// # Errors
    /// When the configuration is missing or unusable; the message says which part and what to do.
    pub async fn connect(access: &Access, on_call: OnCall) -> Result<Self, ConnectError> {
        Self::from_config(config(access).await?, on_call)
    }

    /// Makes both clients from a configuration.
    ///
    /// # Errors
    /// When its certificates or credentials are not usable.
    pub fn from_config(config: Config, on_call: OnCall) -> Result<Self, ConnectError> {
        Ok(Self {
            general: builder(config.clone(), Deadlines::GENERAL, on_call.clone())?.build(),
            lease: builder(config, Deadlines::LEASE, on_call)?.build(),
        })
    }

    /// The namespace of the kubeconfig's context or of the pod.
    pub fn namespace(&self) -> &str {
        self.general.default_namespace()
    }
}

/// Reads the client configuration. In a pod the service account wins over a kubeconfig that happens to lie around.
///
/// # Errors
/// When it is missing or unusable.
pub async fn config(access: &Access) -> Result<Config, ConnectError> {
    let mut config = match access {
        Access::Infer => match Config::incluster() {
            Ok(config) => config,
            Err(kube::config::InClusterError::ReadEnvironmentVariable(_)) => kubeconfig(None, None).await?,
            Err(err) => return Err(ConnectError::InCluster(err)),
        },
        Access::Kubeconfig { path, context } => kubeconfig(path.as_ref(), context.clone()).await?,
    };
    config.headers.push((USER_AGENT, HeaderValue::from_static(concat!("stagekeeper/", env!("CARGO_PKG_VERSION")))));
    Ok(config)
}

async fn kubeconfig(path: Option<&PathBuf>, context: Option<String>) -> Result<Config, ConnectError> {
    let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
    match path {
        Some(path) => {
            let file = Kubeconfig::read_from(path).map_err(ConnectError::Kubeconfig)?;
            Config::from_custom_kubeconfig(file, &options).await
        }
        None => Config::from_kubeconfig(&options).await,
    }
    .map_err(ConnectError::Kubeconfig)
}

/// A client under construction, to which a test may add layers of its own.
///
/// # Errors
/// When the configuration's certificates or credentials are not usable.
pub fn builder(
    mut config: Config,
    deadlines: Deadlines,
    on_call: OnCall,
) -> Result<
    ClientBuilder<
        impl Service<
            Request<Body>,
            Response = Response<Box<kube::client::DynBody>>,
            Error = BoxError,
            Future: Send + 'static,
        > + Send
        + 'static,
    >,
    ConnectError,
> {
    install_tls();
    config.default_retry = false;
    config.connect_timeout = Some(deadlines.connect);
    config.read_timeout = Some(deadlines.silence);
    config.write_timeout = Some(deadlines.answer);
    config.reset_reader_on_write = true;
    let stack = ClientBuilder::try_from(config).map_err(ConnectError::Client)?;
    Ok(stack.with_layer(&CallLayer::new(deadlines, on_call)))
}

/// Chooses the TLS implementation for the whole process. With two of them in the tree, rustls refuses to guess.
pub fn install_tls() {
    // The only possible failure is that somebody chose before us, which serves as well.
    let _already = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::Api;
    use tokio::io::AsyncReadExt;

    use super::call::Call;
    use super::*;

    fn silent() -> OnCall {
        Arc::new(|_: &Call| {})
    }

    #[tokio::test]
    async fn a_server_that_never_answers_ends_as_an_error_and_is_asked_once() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = asked.clone();
        tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut buffer = [0_u8; 16];
                stream.read_exact(&mut buffer).await.unwrap();
                counter.fetch_add(1, Ordering::SeqCst);
                open.push(stream);
            }
        });
        let config = Config::new(format!("http://{address}").parse().unwrap());
        let deadlines = Deadlines { answer: Duration::from_millis(200), ..Deadlines::GENERAL };
        let client = builder(config, deadlines, silent()).unwrap().build();

        let api: Api<ConfigMap> = Api::namespaced(client, "shop");
        let err = tokio::time::timeout(Duration::from_secs(30), api.get("settings"))
            .await
            .expect("the deadline holds")
            .unwrap_err();

        assert!(matches!(&err, kube::Error::Service(e) if e.is::<call::NoAnswer>()), "{err:?}");
        assert_eq!(asked.load(Ordering::SeqCst), 1, "nothing is retried behind the caller's back");
    }

    #[tokio::test]
    async fn a_missing_kubeconfig_says_what_to_set() {
        let access = Access::Kubeconfig { path: Some("/nonexistent/kubeconfig".into()), context: None };
        let err = Clients::connect(&access, silent()).await.unwrap_err();
        assert!(err.to_string().contains("/nonexistent/kubeconfig"), "{err}");
        assert!(err.to_string().contains("KUBECONFIG"), "{err}");
    }
}
