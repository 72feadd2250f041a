//! Nodes pull private images: with the project's credential, in a pull secret of the instance that follows it.

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use stagekeeper::{api::labels, domain::deploy::State};

use crate::{
    cluster::{DEADLINE, Env},
    lab::{WEB, serves, stage},
    operator::Operator,
    private_registry::{Login, PASSWORD, PrivateRegistry, USER, private_registry},
    secrets::key,
};

const WRONG: &str = "hunter2-wrong";

/// The shop with its images in this registry, chosen so.
fn shop_at(env: &Env, private: &PrivateRegistry, which: &str) -> String {
    let web = WEB.replace("REGISTRY/IMAGE", &format!("{}/{}/web", private.host, env.namespace)).replace(
        "policy: {semver: '>=1.0.0'}, interval: 1s, insecure: true",
        &format!("{which}, credential: private, insecure: true"),
    );
    format!(
        "---\napiVersion: stagekeeper.dev/v1alpha1\nkind: Project\nmetadata: {{name: shop}}\nspec:\n  services:{web}\n"
    )
}

fn set(env: &Env, private: &PrivateRegistry, password: &str) {
    env.person(&["credential", "set", "shop", "private", "--user", USER, "--host", &private.host], password);
}

/// The pull secrets that Stagekeeper made for the stage.
async fn pull_secrets(env: &Env) -> Vec<Secret> {
    let mut secrets = env.list::<Secret>().await;
    secrets.retain(|secret| secret.type_.as_deref() == Some("kubernetes.io/dockerconfigjson"));
    secrets
}

/// Registries and passwords that a pull secret holds.
fn logins(secret: &Secret) -> Vec<(String, String)> {
    let text = &secret.data.as_ref().unwrap()[".dockerconfigjson"].0;
    let config: serde_json::Value = serde_json::from_slice(text).unwrap();
    let auths = config["auths"].as_object().unwrap();
    auths.iter().map(|(host, auth)| (host.clone(), auth["password"].as_str().unwrap().to_owned())).collect()
}

#[tokio::test]
async fn a_deploy_with_a_wrong_password_waits_in_pulling_and_goes_on_when_it_is_corrected() {
    let env = Env::new("pulled").await;
    let digest = env.push("web", "1.0.0", &[]).await;
    let private = private_registry(&env, Login::Htpasswd).await;
    let operator = Operator::start_with(&env, &[("STAGEKEEPER_ENCRYPTION_KEYS", &key())]).await;
    // A digest needs no answer of the registry before there is a deploy, so that it is the node which is refused.
    env.apply(&(shop_at(&env, &private, &format!("digest: '{digest}'")) + &stage("live", "shop", ""))).await;
    let status = env
        .until("live", "it waits for the credential", |status| {
            let deploy = status.deploy.as_ref();
            deploy.is_some_and(|it| {
                it.state == "Pulling" && it.message.as_deref().unwrap_or_default().contains("is not stored")
            })
        })
        .await;
    let message = status.deploy.unwrap().message.unwrap();
    assert!(message.contains("stagekeeper credential set shop private"), "{message}");

    set(&env, &private, WRONG);
    env.until("live", "the deploy waits with the registry's answer", |status| {
        let deploy = status.deploy.as_ref().filter(|it| it.state == "Pulling");
        let said = deploy.and_then(|it| it.message.as_deref()).unwrap_or_default();
        said.contains("ImagePull") && (said.contains("401") || said.contains("authorization failed"))
    })
    .await;
    let before = pull_secrets(&env).await;
    assert_eq!(before.len(), 1);
    assert_eq!(logins(&before[0]), [(private.host.clone(), WRONG.to_owned())]);

    set(&env, &private, PASSWORD);
    env.until("live", "it serves", |status| status.history.first().is_some_and(|it| it.state == "Success")).await;
    let after = pull_secrets(&env).await;
    assert_eq!(after[0].uid(), before[0].uid(), "it was changed in place");
    assert_eq!(logins(&after[0]), [(private.host.clone(), PASSWORD.to_owned())]);
    let deploys = env.deploys("live").await;
    assert_eq!(deploys.len(), 1, "by itself, and no other deploy");
    let log = env.transitions(deploys[0].stored.deploy.id).await;
    let said = format!("{log:?} {:?}", env.log(deploys[0].stored.deploy.id).await);
    assert!(!said.contains("hunter2"), "{said}");

    // Another password while nothing is deployed: pods that are made later have to be pulled too.
    set(&env, &private, "hunter2-next");
    env.wait("the pull secret follows", DEADLINE, async || {
        let next = [(private.host.clone(), "hunter2-next".to_owned())];
        pull_secrets(&env).await.iter().any(|secret| logins(secret) == next).then_some(())
    })
    .await;
    assert_eq!(env.deploys("live").await.len(), 1);
    operator.stop().await;
}

// The token service runs in this process, and must answer while a command is waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_pull_from_a_registry_with_tokens_and_each_instance_has_a_pull_secret_of_its_own() {
    let env = Env::new("pulledtokens").await;
    env.push("web", "1.0.0", &[]).await;
    let private = private_registry(&env, Login::Token).await;
    let operator = Operator::start_with(&env, &[("STAGEKEEPER_ENCRYPTION_KEYS", &key())]).await;
    let followed = shop_at(&env, &private, "policy: {semver: '*'}, interval: 1s");
    env.apply(&(followed + &stage("live", "shop", "  rollback: {keepPrevious: 0s}"))).await;
    env.until_credentials("False", "CredentialMissing").await;
    set(&env, &private, PASSWORD);
    env.until("live", "1.0.0 serves", |status| serves(status, "web 1.0.0")).await;
    let first = pull_secrets(&env).await;
    assert_eq!(first.len(), 1);
    let instance = first[0].labels().get(labels::INSTANCE).cloned().expect("of an instance");

    env.push("web", "1.1.0", &[]).await;
    env.until("live", "1.1.0 serves", |status| serves(status, "web 1.1.0")).await;
    env.wait("the first instance's pull secret went with it", DEADLINE, async || {
        let now = pull_secrets(&env).await;
        (now.len() == 1 && now[0].labels().get(labels::INSTANCE) != Some(&instance)).then_some(())
    })
    .await;
    let deploys = env.deploys("live").await;
    assert!(deploys.iter().all(|it| it.stored.deploy.state == State::Success));
    assert!(private.given_to_nodes() > 0, "it was the node that pulled, with a token of its own");
    operator.stop().await;
}
