//! Registries that let nobody read without a login: over the images of the cluster's own one, with basic authentication or
//! with tokens.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tokio::net::TcpListener;

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
    /// Where it is, as references name it.
    pub host: String,
}

/// Starts a registry over the images of the cluster's own one.
pub async fn private_registry(env: &Env, login: Login) -> PrivateRegistry {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("registry-{}", env.namespace));
    fs::create_dir_all(&folder).unwrap();
    let port = free_port().await;
    let address = format!("127.0.0.1:{port}");
    let cluster = std::env::var("STAGEKEEPER_TEST_CLUSTER_DIR").expect("STAGEKEEPER_TEST_CLUSTER_DIR is not set");
    let images = PathBuf::from(cluster).join("registry");
    let (auth, tokens) = match login {
        Login::Htpasswd => {
            let users = folder.join("htpasswd");
            fs::write(&users, HTPASSWD).unwrap();
            (format!("htpasswd: {{realm: private, path: {}}}", users.display()), None)
        }
        Login::Token => {
            let signing = certificate(&folder);
            let tokens = TokenServer::start(env.http.clone(), address.clone(), &signing).await;
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
    let registry = PrivateRegistry { child, tokens, host };
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
    }
}

/// A port that was free a moment ago.
async fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}
