//! A hook that ends when the test says so.
//!
//! The stage has a service that keeps files, once for all instances; the hook asks it for the file `gate` until it says
//! that the gate is open.

use crate::cluster::Env;

/// A gate of one stage.
pub struct Gate<'a> {
    env: &'a Env,
    stage: &'static str,
}

impl<'a> Gate<'a> {
    /// The gate of a stage. Shut it before a hook asks for it.
    pub async fn new(env: &'a Env, stage: &'static str) -> Self {
        env.push("gate", "1", &[("APP_DATA", "/data")]).await;
        Self { env, stage }
    }

    /// The service, as another one of the project.
    pub fn service() -> String {
        "
  - name: gate
    image: {repository: REGISTRY/gate, tag: '1', insecure: true}
    ports: [{name: http, port: 8080}]
    health: {http: {path: /healthz}, interval: 250ms, timeout: 10s}
    volumes: [{name: data, mountPath: /data, emptyDir: {}}]
"
        .replace("\n\n", "\n")
    }

    /// Arguments of a hook that waits for the gate.
    pub fn args() -> String {
        "[-get, 'http://$(STAGEKEEPER_SERVICE_GATE_HOST):8080/data/gate', -every, 200ms, -until, opened, -for, 3m]"
            .into()
    }

    /// Hooks that ask from now on wait.
    pub async fn shut(&self) {
        self.env.tell(&self.service_name(), "gate", "shut").await;
    }

    /// Hooks that wait go on.
    pub async fn open(&self) {
        self.env.tell(&self.service_name(), "gate", "opened").await;
    }

    fn service_name(&self) -> String {
        format!("{}-gate", self.stage)
    }
}
