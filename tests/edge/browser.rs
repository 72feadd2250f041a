//! A real browser without a window: Chromium, told what to do over a pipe (the `DevTools` protocol).
//!
//! Which pages it was given is what the network said of them, and how they are read out is what its accessibility tree says.

use std::{path::PathBuf, process::Stdio, time::Duration};

use serde_json::{Value, json};
use stagekeeper::domain::clock::{Ids as _, SystemIds};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use super::lab::in_time;

/// Its protocol is on descriptors 3 and 4: here its input and its output.
const START: &str = "exec chromium \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1";

/// One tab of a browser of its own. All hosts are on this machine, and certificates are not looked at.
pub struct Browser {
    child: Child,
    group: u32,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    profile: PathBuf,
    session: Option<String>,
    calls: u64,
    events: Vec<Value>,
}

/// What the network said of a document.
#[derive(Debug)]
pub struct Document {
    pub url: String,
    pub status: u64,
    pub headers: Value,
}

impl Browser {
    pub async fn new() -> Self {
        let profile = std::env::temp_dir().join(format!("stagekeeper-browser-{}", SystemIds.next().simple()));
        let flags = [
            "--headless=new",
            // Tests may run as root, for whom there is no sandbox. All that is shown is made by the tests.
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-breakpad",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-features=HttpsUpgrades,HttpsFirstBalancedModeAutoEnable",
            "--no-first-run",
            "--no-proxy-server",
            "--ignore-certificate-errors",
            "--host-resolver-rules=MAP * 127.0.0.1",
            "--remote-debugging-pipe",
        ];
        let mut child = Command::new("bash")
            .args(["-c", START, "chromium"])
            .args(flags)
            .arg(format!("--user-data-dir={}", profile.display()))
            .arg("about:blank")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("bash starts");
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let group = child.id().expect("it runs");
        let mut browser = Self { child, group, input, output, profile, session: None, calls: 0, events: Vec::new() };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"})).await;
        let attached = json!({"targetId": target["targetId"], "flatten": true});
        let session = browser.call("Target.attachToTarget", attached).await;
        browser.session = session["sessionId"].as_str().map(Into::into);
        for domain in ["Page", "Runtime", "Log", "Network", "Accessibility"] {
            browser.call(&format!("{domain}.enable"), json!({})).await;
        }
        browser
    }

    /// Ends the browser, and waits until it has.
    pub async fn close(mut self) {
        self.session = None;
        self.call("Browser.close", json!({})).await;
        in_time("the browser ends", self.child.wait()).await.unwrap();
    }

    /// Scripts of pages run, or do not.
    pub async fn scripts(&mut self, run: bool) {
        self.call("Emulation.setScriptExecutionDisabled", json!({"value": !run})).await;
    }

    /// The reader likes dark pages, or light ones.
    pub async fn dark(&mut self, dark: bool) {
        let value = if dark { "dark" } else { "light" };
        let feature = json!({"features": [{"name": "prefers-color-scheme", "value": value}]});
        self.call("Emulation.setEmulatedMedia", feature).await;
    }

    /// Goes to an address, and forgets what was seen before.
    pub async fn visit(&mut self, url: &str) {
        self.events.clear();
        let went = self.call("Page.navigate", json!({"url": url})).await;
        assert!(went.get("errorText").is_none(), "{url}: {went}");
        self.until("document.readyState === 'complete'").await;
    }

    /// The value of an expression; nothing while the page is another one by the time it was asked.
    pub async fn look(&mut self, expression: &str) -> Option<Value> {
        let asked = json!({"expression": expression, "returnByValue": true});
        let answer = self.tried("Runtime.evaluate", asked).await.ok()?;
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        Some(answer["result"]["value"].clone())
    }

    /// The value of an expression.
    pub async fn read(&mut self, expression: &str) -> Value {
        in_time(expression, async {
            loop {
                if let Some(value) = self.look(expression).await {
                    return value;
                }
            }
        })
        .await
    }

    /// Waits until an expression is true.
    pub async fn until(&mut self, expression: &str) {
        let waiting = async {
            while self.look(expression).await != Some(Value::Bool(true)) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        in_time(expression, waiting).await;
    }

    /// The documents that came since the last visit, in order.
    pub fn documents(&self) -> Vec<Document> {
        let received = self.events.iter().filter(|event| event["method"] == "Network.responseReceived");
        let documents = received.map(|event| &event["params"]).filter(|params| params["type"] == "Document");
        let read = documents.map(|params| {
            let response = &params["response"];
            Document {
                url: response["url"].as_str().unwrap().into(),
                status: response["status"].as_u64().unwrap(),
                headers: response["headers"].clone(),
            }
        });
        read.collect()
    }

    /// What pages complained about since the last visit: errors of scripts, what a policy forbade, what they logged. That a
    /// page has a code of 400 or more is no complaint.
    pub fn complaints(&self) -> Vec<String> {
        let complaints = self.events.iter().filter(|event| match event["method"].as_str().unwrap_or_default() {
            "Runtime.exceptionThrown" | "Runtime.consoleAPICalled" => true,
            "Log.entryAdded" => {
                let text = event["params"]["entry"]["text"].as_str().unwrap_or_default();
                !text.starts_with("Failed to load resource: the server responded with a status of")
            }
            _ => false,
        });
        complaints.map(|event| event["params"].to_string()).collect()
    }

    /// Role and name of everything that is read out.
    pub async fn outline(&mut self) -> Vec<(String, String)> {
        let tree = self.call("Accessibility.getFullAXTree", json!({})).await;
        let text = |value: &Value| value["value"].as_str().unwrap_or_default().to_owned();
        let nodes = tree["nodes"].as_array().unwrap().iter().filter(|node| node["ignored"] == false);
        nodes.map(|node| (text(&node["role"]), text(&node["name"]))).collect()
    }

    pub async fn call(&mut self, method: &str, params: Value) -> Value {
        self.tried(method, params).await.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    async fn tried(&mut self, method: &str, params: Value) -> Result<Value, Value> {
        self.calls += 1;
        let mut call = json!({"id": self.calls, "method": method, "params": params});
        if let Some(session) = &self.session {
            call["sessionId"] = json!(session);
        }
        let mut bytes = call.to_string().into_bytes();
        bytes.push(0);
        self.input.write_all(&bytes).await.expect("chromium runs; `hack/deps` installs it");
        loop {
            let mut message = Vec::new();
            in_time(method, self.output.read_until(0, &mut message)).await.unwrap();
            assert_eq!(message.pop(), Some(0), "chromium ended; `hack/deps` installs it");
            let message: Value = serde_json::from_slice(&message).unwrap();
            if message["id"] != self.calls {
                self.events.push(message);
            } else if let Some(error) = message.get("error") {
                return Err(error.clone());
            } else {
                return Ok(message["result"].clone());
            }
        }
    }
}

impl Drop for Browser {
    /// Whichever way the test ends, none of its processes and no file is left.
    fn drop(&mut self) {
        let group = format!("-{}", self.group);
        _ = std::process::Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
        _ = std::fs::remove_dir_all(&self.profile);
    }
}
