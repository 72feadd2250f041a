//! Registries that let nobody read without a login, asked with the project's credential.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use k8s_openapi::api::events::v1::Event;
use stagekeeper::{
    api::{Project, Stage, conditions},
    store::HistoryEntry,
};

use crate::{
    cluster::{DEADLINE, Env},
    lab::{project, stage},
    operator::Operator,
    private_registry::{Login, PASSWORD, PrivateRegistry, USER, private_registry},
};

const WRONG: &str = "hunter2-wrong";

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

/// The shop, with its images in this registry.
fn shop_at(env: &Env, private: &PrivateRegistry) -> String {
    project("shop", "web").replace("REGISTRY", &format!("{}/{}", private.host, env.namespace))
}

/// The command line of a person who has the key.
pub fn stagekeeper(env: &Env, key: &str, arguments: &[&str], input: &str) -> String {
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
    let private = private_registry(&env, Login::Htpasswd).await;
    let key = format!("2026:{}", "5a".repeat(32));
    let operator = Operator::start_with(&env, &[("STAGEKEEPER_ENCRYPTION_KEYS", &key)]).await;
    let open = shop_at(&env, &private);
    env.apply(&(open + &stage("live", "shop", "  suspend: true"))).await;

    until(&env, "RegistryDenied").await;
    env.apply(&shop_at(&env, &private).replace("insecure: true", "insecure: true, credential: private")).await;
    let (message, _) = until(&env, "CredentialMissing").await;
    let next = format!("stagekeeper credential set shop private --host {} --user NAME", private.host);
    assert!(message.contains(&next), "{message}");

    let set = ["credential", "set", "shop", "private", "--user", USER, "--host"];
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

// The token service runs in this process, and must answer while a command is waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_with_tokens_is_read_with_one_token_and_a_wrong_password_is_told_on_the_stage() {
    let env = Env::new("tokens").await;
    let digest = env.push("web", "1.0.0", &[]).await;
    let private = private_registry(&env, Login::Token).await;
    let key = format!("2026:{}", "6b".repeat(32));
    let operator = Operator::start_with(&env, &[("STAGEKEEPER_ENCRYPTION_KEYS", &key)]).await;
    let closed = shop_at(&env, &private).replace("insecure: true", "insecure: true, credential: private");
    env.apply(&(closed + &stage("live", "shop", ""))).await;

    let says = async |part: &str| {
        env.until("live", &format!("the message says {part}"), |status| {
            conditions::get(&status.conditions, conditions::READY).is_some_and(|ready| ready.message.contains(part))
        })
        .await
    };
    says("has no credential private").await;
    let set = ["credential", "set", "shop", "private", "--user", USER, "--host", &private.host];
    stagekeeper(&env, &key, &set, WRONG);
    let refused = format!("`{} (token service of {}/{}/web)`", private.host, private.host, env.namespace);
    says(&refused).await;
    says("it does not accept the credential").await;
    assert!(private.refused() > 0 && private.given().is_empty(), "{:?}", private.given());

    // Corrected, and nothing else done: the newest tag is found, and what it stands for.
    stagekeeper(&env, &key, &set, PASSWORD);
    let deploy = |entry: &HistoryEntry| {
        let image = &entry.stored.release.0.get("web").unwrap();
        (image.tag.clone().unwrap_or_default(), image.digest.clone())
    };
    env.wait("a deploy of the image", DEADLINE, async || {
        env.deploys("live")
            .await
            .iter()
            .map(deploy)
            .any(|image| image == ("1.0.0".into(), digest.clone()))
            .then_some(())
    })
    .await;
    let newer = env.push("web", "1.1.0", &[]).await;
    env.wait("a deploy of the newer image", DEADLINE, async || {
        env.deploys("live").await.iter().map(deploy).any(|image| image == ("1.1.0".into(), newer.clone())).then_some(())
    })
    .await;
    let tested = stagekeeper(&env, &key, &["credential", "test", "shop", "private", "--insecure"], "");
    assert_eq!(tested, format!("{}: accepts {USER}\n", private.host));

    // Tags were listed every second, and both were resolved: all with one token. The test of the login had another one.
    let scope = format!("repository:{}/web:pull", env.namespace);
    assert_eq!(private.given().into_iter().collect::<Vec<_>>(), [(String::new(), 1), (scope, 1)]);
    operator.stop().await;
}

#[tokio::test]
async fn a_key_file_that_changes_is_read_again_while_the_operator_runs() {
    let env = Env::new("reload").await;
    env.push("web", "1.0.0", &[]).await;
    let private = private_registry(&env, Login::Htpasswd).await;
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("keys-{}", env.namespace));
    let entry = |id: &str, digits: &str| format!("{id}:{}\n", digits.repeat(32));
    let (old, new, stranger) = (entry("2025", "5a"), entry("2026", "6b"), entry("2025", "7c"));
    // Swapped as a whole, as Kubernetes does it.
    let write = |text: &str| {
        fs::write(file.with_extension("new"), text).unwrap();
        fs::rename(file.with_extension("new"), &file).unwrap();
    };
    write(&old);
    let path = file.to_str().unwrap();
    let operator = Operator::start_with(&env, &[("STAGEKEEPER_ENCRYPTION_KEYS_FILE", path)]).await;
    let closed = shop_at(&env, &private).replace("insecure: true", "insecure: true, credential: private");
    env.apply(&(closed + &stage("live", "shop", "  suspend: true"))).await;
    until(&env, "CredentialMissing").await;
    let log = || fs::read_to_string(&operator.log).unwrap();
    let logged = async |what: &str| {
        env.wait(&format!("the log says: {what}"), DEADLINE, async || log().contains(what).then_some(())).await;
    };
    let set = ["credential", "set", "shop", "private", "--user", USER, "--host", &private.host];
    stagekeeper(&env, &old, &set, WRONG);
    until(&env, "RegistryDenied").await;

    // Wrong ones are refused, with what is wrong, and the old one still opens.
    write("2026:12\n");
    logged("the key 2026 is not 64 hexadecimal digits").await;
    write(&format!("{new}{stranger}"));
    logged("the key 2025 is not the one that this database was sealed with").await;
    write(&new);
    logged("values were sealed with the key 2025, which is not in the keyring").await;

    write(&format!("{new}{old}"));
    logged("the encryption keys have changed, and are in use").await;
    let said = stagekeeper(&env, &format!("{new}{old}"), &set, PASSWORD);
    assert!(said.contains("sealed with 2026"), "{said}");
    assert_eq!(until(&env, "ImagesKnown").await.1.as_deref(), Some("1.0.0"));
    for digits in ["5a5a", "6b6b", "7c7c"] {
        assert!(!log().contains(digits), "a key is in the log");
    }
    operator.stop().await;
}
