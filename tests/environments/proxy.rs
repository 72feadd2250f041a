//! The built-in proxy as a process of its own, and how requests come to it through an Ingress.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use tokio::net::TcpListener;

use crate::cluster::{DEADLINE, Env};

/// A running edge.
pub struct Edge {
    child: Child,
    /// Where it takes requests.
    pub address: String,
    http: reqwest::Client,
}

impl Edge {
    /// Starts one that lets requests wait for two minutes.
    pub async fn start(env: &Env) -> Self {
        let (port, admin) = (free_port().await, free_port().await);
        let child = Command::new(env!("CARGO_BIN_EXE_stagekeeper"))
            .arg("edge")
            .env("DATABASE_URL", &env.database.url)
            .env("KUBECONFIG", &env.kubeconfig)
            .env("STAGEKEEPER_PORT", admin.to_string())
            .env("STAGEKEEPER_EDGE_PORT", port.to_string())
            .env("STAGEKEEPER_EDGE_WAKE_LIMIT", "120")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the edge starts");
        let http = reqwest::Client::builder().timeout(Duration::from_mins(3)).no_proxy().build().expect("a client");
        let edge = Self { child, address: format!("http://127.0.0.1:{port}"), http };
        let ready = format!("http://127.0.0.1:{admin}/readyz");
        env.wait("the edge is ready", DEADLINE, async || {
            let answer = edge.http.get(&ready).send().await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
        edge
    }

    /// What it answers for a host: the code and the first line, without the name of the pod.
    pub async fn get(&self, host: &str) -> Result<(u16, String), String> {
        let answer =
            self.http.get(&self.address).header("host", host).send().await.map_err(|error| error.to_string())?;
        let code = answer.status().as_u16();
        let text = answer.text().await.map_err(|error| error.to_string())?;
        let line = text.lines().next().unwrap_or_default();
        Ok((code, line.split(" on ").next().unwrap_or_default().to_owned()))
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    listener.local_addr().expect("its address").port()
}
