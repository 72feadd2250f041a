//! A registry that says aloud whatever password it is sent: in the status line, in a header and in the body.

use std::{fs, path::PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    cluster::Env,
    private_registry::{near_the_node, tell_the_node},
};

/// Ended with this value.
pub struct HostileRegistry {
    /// Where it is, as references name it.
    pub host: String,
    told: PathBuf,
    _serving: AbortOnDropHandle<()>,
}

impl HostileRegistry {
    /// Starts one that the operator and the node reach.
    pub async fn start(env: &Env) -> Self {
        let listener = TcpListener::bind((near_the_node(env).await, 0)).await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let told = tell_the_node(&host);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream));
            }
        });
        Self { host, told, _serving: AbortOnDropHandle::new(serving) }
    }
}

impl Drop for HostileRegistry {
    fn drop(&mut self) {
        // It may be gone with the cluster.
        let _ = fs::remove_dir_all(&self.told);
    }
}

/// Answers one request and hangs up. Whoever breaks off is of no interest.
async fn answer(mut stream: TcpStream) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let sent = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": Basic ")?;
        name.eq_ignore_ascii_case("authorization").then(|| value.trim().to_owned())
    });
    let reply = match sent {
        None => "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"mine\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned(),
        Some(basic) => {
            let login = String::from_utf8(STANDARD.decode(&basic).ok()?).ok()?;
            let (_, password) = login.split_once(':')?;
            let body = format!(r#"{{"errors": [{{"code": "DENIED", "message": "not with {password}, nor {basic}"}}]}}"#);
            let body = if head.starts_with("HEAD") { String::new() } else { body };
            format!(
                "HTTP/1.1 403 {password}\r\nContent-Type: application/json\r\nX-Heard: {password}\r\n\
                 Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            )
        }
    };
    stream.write_all(reply.as_bytes()).await.ok()
}
