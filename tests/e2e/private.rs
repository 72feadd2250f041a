//! A registry that lets nobody read without a login: a second one over the images of the first, with basic authentication.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use k8s_openapi::api::events::v1::Event;
use stagekeeper::api::{Project, Stage, conditions};
use tokio::net::TcpListener;

use crate::{
    cluster::{DEADLINE, Env},
    lab::{project, stage},
    operator::Operator,
};

const PASSWORD: &str = "hunter2-right";
const WRONG: &str = "hunter2-wrong";
/// What `htpasswd -B` makes of the password.
const ROBOT: &str = "robot:$2b$04$abcdefghijklmnopqrstuu3tUrEzDrHMhe7zvYlg0KkzRkYpGn/j.\n";

/// Ended with this value.
struct Private {
    child: Child,
    host: String,
}

impl Private {
    async fn start(env: &Env) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("registry-{}", env.namespace));
        fs::create_dir_all(&folder).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let host = format!("127.0.0.1:{port}");
        let cluster = std::env::var("STAGEKEEPER_TEST_CLUSTER_DIR").expect("STAGEKEEPER_TEST_CLUSTER_DIR is not set");
        let images = PathBuf::from(cluster).join("registry");
        let users = folder.join("htpasswd");
        fs::write(&users, ROBOT).unwrap();
        let config = format!(
            "version: 0.1\nlog: {{level: warn, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{host}\", secret: {port}}}\n\
             auth: {{htpasswd: {{realm: private, path: {}}}}}\n",
            images.display(),
            users.display()
        );
        let file = folder.join("config.yml");
        fs::write(&file, config).unwrap();
        let log = fs::File::create(folder.join("log")).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(file).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let private = Self { child: command.spawn().expect("docker-registry starts"), host };
        env.wait("the private registry refuses who has no login", DEADLINE, async || {
            let answer = env.http.get(format!("http://{}/v2/", private.host)).send().await.ok()?;
            (answer.status().as_u16() == 401).then_some(())
        })
        .await;
        private
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reason and message of `Ready`, and the newest tag that is known.
async fn told(env: &Env) -> Option<(String, String, Option<String>)> {
    let status = env.api::<Project>().get("shop").await.unwrap().status?;
    let ready = conditions::get(&status.conditions, conditions::READY)?;
    let tag = status.services.first().and_then(|service| service.latest_tag.clone());
    Some((ready.reason.clone(), ready.message.clone(), tag))
}

async fn until(env: &Env, reason: &str) -> (String, Option<String>) {
    env.wait(&format!("the Project says {reason}"), DEADLINE, async || {
        told(env).await.filter(|(word, _, _)| word == reason).map(|(_, message, tag)| (message, tag))
    })
    .await
}

/// The command line of a person who has the key.
fn stagekeeper(env: &Env, key: &str, arguments: &[&str], input: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stagekeeper"));
    command.args(["--namespace", &env.namespace]).args(arguments);
    command.env("DATABASE_URL", &env.database.url).env("STAGEKEEPER_ENCRYPTION_KEYS", key).env("USER", "jane");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout).into_owned() + &String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{arguments:?}: {said}");
    said
}

#[tokio::test]
async fn a_private_registry_is_read_with_the_projects_credential_and_nothing_tells_the_password() {
    let env = Env::new("private").await;
    env.push("web", "1.0.0", &[]).await;
    let private = Private::start(&env).await;
    let key = format!("2026:{}", "5a".repeat(32));
    let operator = Operator::start_with(&env, &[("STAGEKEEPER_ENCRYPTION_KEYS", &key)]).await;
    let open = project("shop", "web").replace("REGISTRY", &format!("{}/{}", private.host, env.namespace));
    env.apply(&(open + &stage("live", "shop", "  suspend: true"))).await;

    until(&env, "RegistryDenied").await;
    let closed = project("shop", "web").replace("REGISTRY", &format!("{}/{}", private.host, env.namespace));
    env.apply(&closed.replace("insecure: true", "insecure: true, credential: private")).await;
    let (message, _) = until(&env, "CredentialMissing").await;
    let next = format!("stagekeeper credential set shop private --host {} --user NAME", private.host);
    assert!(message.contains(&next), "{message}");

    let set = ["credential", "set", "shop", "private", "--user", "robot", "--host"];
    let mut said = stagekeeper(&env, &key, &[&set[..], &["127.0.0.1:1"]].concat(), WRONG);
    until(&env, "CredentialForAnotherHost").await;
    said += &stagekeeper(&env, &key, &[&set[..], &[&*private.host]].concat(), WRONG);
    let (message, _) = until(&env, "RegistryDenied").await;
    assert!(message.contains("does not accept the user and password"), "{message}");
    // Corrected, and nothing else done.
    said += &stagekeeper(&env, &key, &[&set[..], &[&*private.host]].concat(), PASSWORD);
    assert_eq!(until(&env, "ImagesKnown").await.1.as_deref(), Some("1.0.0"));
    env.push("web", "1.1.0", &[]).await;
    env.wait("a newer tag is found", DEADLINE, async || {
        told(&env).await.filter(|(_, _, tag)| tag.as_deref() == Some("1.1.0")).map(drop)
    })
    .await;
    let tested = stagekeeper(&env, &key, &["credential", "test", "shop", "private", "--insecure"], "");
    assert_eq!(tested, format!("{}: accepts robot\n", private.host));
    let used = stagekeeper(&env, &key, &["credential", "show", "shop", "private"], "");
    assert!(used.contains("version: 3") && !used.contains("lastUsedAt: null"), "{used}");

    said += &used;
    said += &operator.metrics().await;
    said += &serde_json::to_string(&env.list::<Event>().await).unwrap();
    said += &serde_json::to_string(&env.list::<Project>().await).unwrap();
    said += &serde_json::to_string(&env.list::<Stage>().await).unwrap();
    let dump = Command::new("pg_dump").arg(&env.database.url).output().expect("pg_dump starts");
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    said += &String::from_utf8_lossy(&dump.stdout);
    said += &fs::read_to_string(&operator.log).unwrap();
    assert!(
        said.contains("credential_uses") && said.contains("stagekeeper_scan_total"),
        "there is something to search"
    );
    for secret in [PASSWORD, WRONG, &"5a".repeat(32)] {
        let encoded = hex::encode(secret);
        let at = said.find(secret).or_else(|| said.find(&encoded));
        assert!(at.is_none(), "{secret}: {}", at.map_or("", |at| said.get(at.saturating_sub(200)..at).unwrap_or("")));
    }
    operator.stop().await;
}
