//! Registries that let nobody read without a login: over the images of the cluster's own one, with basic authentication or
//! with tokens.

use std::{
    collections::BTreeMap,
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use k8s_openapi::api::core::v1::Node;
use kube::{Api, api::ListParams};
use tokio::net::{TcpListener, UdpSocket};

use crate::{
    cluster::{DEADLINE, Env},
    token_server::{TokenServer, certificate},
};

/// The user that is let in.
pub const USER: &str = "robot";
/// Its password.
pub const PASSWORD: &str = "hunter2-right";
/// What `htpasswd -B` makes of both.
const HTPASSWD: &str = "robot:$2b$04$abcdefghijklmnopqrstuu3tUrEzDrHMhe7zvYlg0KkzRkYpGn/j.\n";

/// How a registry wants to be logged in to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login {
    /// With user and password at the registry itself.
    Htpasswd,
    /// With a token, which user and password are exchanged for.
    Token,
}

/// A registry that is ended with this value.
pub struct PrivateRegistry {
    child: Child,
    tokens: Option<TokenServer>,
    /// What the node's containerd is told of it.
    told: PathBuf,
    /// Where it is, as references name it.
    pub host: String,
}

/// Starts a registry over the images of the cluster's own one.
pub async fn private_registry(env: &Env, login: Login) -> PrivateRegistry {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("registry-{}", env.namespace));
    fs::create_dir_all(&folder).unwrap();
    let ip = near_the_node(env).await;
    let port = free_port(ip).await;
    let address = format!("{ip}:{port}");
    let images = cluster().join("registry");
    let (auth, tokens) = match login {
        Login::Htpasswd => {
            let users = folder.join("htpasswd");
            fs::write(&users, HTPASSWD).unwrap();
            (format!("htpasswd: {{realm: private, path: {}}}", users.display()), None)
        }
        Login::Token => {
            let signing = certificate(&folder);
            let tokens = TokenServer::start(env.http.clone(), ip, address.clone(), &signing).await;
            let auth = format!(
                "token: {{realm: \"http://{}/token\", service: {address}, issuer: tokens, rootcertbundle: {}}}",
                tokens.host,
                signing.certificate.display()
            );
            (auth, Some(tokens))
        }
    };
    let config = format!(
        "version: 0.1\nlog: {{level: warn, accesslog: {{disabled: true}}}}\n\
         storage: {{filesystem: {{rootdirectory: {}}}}}\n\
         http: {{addr: \"{address}\", secret: {port}, relativeurls: true}}\nauth: {{{auth}}}\n",
        images.display(),
    );
    let file = folder.join("config.yml");
    fs::write(&file, config).unwrap();
    let log = fs::File::create(folder.join("log")).unwrap();
    let mut command = Command::new("docker-registry");
    command.arg("serve").arg(file).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    let child = command.spawn().expect("docker-registry starts");
    let host = tokens.as_ref().map_or(address, |tokens| tokens.host.clone());
    let told = tell_the_node(&host);
    let registry = PrivateRegistry { child, tokens, told, host };
    env.wait("the private registry refuses who has no login", DEADLINE, async || {
        let answer = env.http.get(format!("http://{}/v2/", registry.host)).send().await.ok()?;
        (answer.status().as_u16() == 401).then_some(())
    })
    .await;
    registry
}

impl PrivateRegistry {
    /// How many tokens were given to Stagekeeper, by scope.
    pub fn given(&self) -> BTreeMap<String, u32> {
        self.tokens.as_ref().expect("a registry with tokens").given()
    }

    /// How many tokens were given to nodes.
    pub fn given_to_nodes(&self) -> u32 {
        self.tokens.as_ref().expect("a registry with tokens").given_to_nodes()
    }

    /// How many logins its token service did not accept.
    pub fn refused(&self) -> u32 {
        self.tokens.as_ref().expect("a registry with tokens").refused()
    }
}

impl Drop for PrivateRegistry {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.told);
    }
}

/// Folder of the cluster.
pub fn cluster() -> PathBuf {
    std::env::var("STAGEKEEPER_TEST_CLUSTER_DIR").expect("STAGEKEEPER_TEST_CLUSTER_DIR is not set").into()
}

/// Tells the node's containerd that this registry speaks plain HTTP. Gives the folder in which that stands.
pub fn tell_the_node(host: &str) -> PathBuf {
    let told = cluster().join("node/registries").join(host);
    fs::create_dir_all(&told).unwrap();
    let plain =
        format!("server = \"http://{host}\"\n[host.\"http://{host}\"]\n  capabilities = [\"pull\", \"resolve\"]\n");
    fs::write(told.join("hosts.toml"), plain).unwrap();
    told
}

/// The address of this machine that the node reaches: its own loopback is another.
pub async fn near_the_node(env: &Env) -> IpAddr {
    let nodes = Api::<Node>::all(env.client.clone()).list(&ListParams::default()).await.unwrap();
    let addresses = nodes.items[0].status.iter().flat_map(|status| status.addresses.iter().flatten());
    let mut internal = addresses.filter(|address| address.type_ == "InternalIP");
    let node: IpAddr = internal.next().expect("a node with an address").address.parse().unwrap();
    // Nothing is sent: this only asks which way it would go.
    let socket = UdpSocket::bind("0.0.0.0:0").await.unwrap();
    socket.connect((node, 9)).await.unwrap();
    socket.local_addr().unwrap().ip()
}

/// A port that was free a moment ago.
pub async fn free_port(ip: IpAddr) -> u16 {
    TcpListener::bind((ip, 0)).await.unwrap().local_addr().unwrap().port()
}
