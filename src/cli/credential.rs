//! `stagekeeper credential set|list|show|test|delete`: what Stagekeeper logs in with.

use std::{io::Write, sync::Arc};

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde::Serialize;
use zeroize::Zeroizing;

use super::{
    Context,
    failure::{Code, Failure},
    keys::Opened,
    output::{self, Columns, Format},
    owner::{owner, person, project},
    remote::{Call, Remote, Sent},
    source::Source,
    spans,
    value::given,
};
use crate::{
    config::settings::DatabaseArgs,
    controllers::scan::masked,
    crypto::Plaintext,
    domain::{
        clock::SystemClock,
        credential::{self, CredentialKind},
        image::Repository,
    },
    http::api::{credentials::Credential, cursor::Page},
    registry::{self, Access, Registry, RegistryOptions},
    safe::{
        Deposit, Kept,
        login::{self, Login},
    },
};

/// What `credential` takes.
#[derive(Args)]
pub struct CredentialArgs {
    #[command(subcommand)]
    command: CredentialCommand,
}

#[derive(Subcommand)]
enum CredentialCommand {
    /// Store a credential, sealed. Its value is read from standard input, or asked for on a terminal: never an argument.
    Set(SetArgs),
    /// List a project's credentials, without their values.
    List(ListArgs),
    /// Show everything about a credential but its value.
    Show(NamedArgs),
    /// Log in to every registry that a credential is for, and say what each answers; exit code 1 if one does not accept it.
    Test(TestArgs),
    /// Delete a credential: its value is gone at once.
    Delete(NamedArgs),
}

#[derive(Args)]
struct SetArgs {
    /// The project.
    #[arg(value_name = "PROJECT")]
    project: String,
    /// Name of the credential.
    #[arg(value_name = "NAME", value_parser = credential::name)]
    name: String,
    /// What it is for: registry, webhook, git, cluster or generic.
    #[arg(long, alias = "type", value_name = "KIND", default_value = "registry")]
    kind: CredentialKind,
    /// The registry that it is for, as HOST[:PORT]. Without it, the value is a docker configuration with logins for
    /// several, such as ~/.docker/config.json.
    #[arg(long, value_name = "HOST", requires = "login")]
    host: Option<String>,
    /// The user whose password or token the value is.
    #[arg(long, value_name = "NAME", requires = "host", group = "login")]
    user: Option<String>,
    /// The value is a token that goes without a user of its own: the user that this registry expects beside it is stored
    /// with it.
    #[arg(long, requires = "host", group = "login")]
    token: bool,
    /// When it stops to be accepted: 90d, or 2027-01-31T00:00:00Z.
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,
    #[command(flatten)]
    opened: Opened,
}

#[derive(Args)]
struct ListArgs {
    /// The project.
    #[arg(value_name = "PROJECT")]
    project: String,
    /// Form of the output.
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    output: Format,
    #[command(flatten)]
    database: DatabaseArgs,
}

#[derive(Args)]
struct TestArgs {
    /// The project.
    #[arg(value_name = "PROJECT")]
    project: String,
    /// Name of the credential.
    #[arg(value_name = "NAME")]
    name: String,
    /// Speak plain HTTP. Only for a registry on a network that you trust.
    #[arg(long)]
    insecure: bool,
    #[command(flatten)]
    opened: Opened,
}

#[derive(Args)]
struct NamedArgs {
    /// The project.
    #[arg(value_name = "PROJECT")]
    project: String,
    /// Name of the credential.
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// A credential as programs read it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CredentialView {
    name: String,
    kind: String,
    hosts: Vec<String>,
    version: i64,
    origin: String,
    created_by: String,
    created_at: Timestamp,
    updated_by: String,
    updated_at: Timestamp,
    expires_at: Option<Timestamp>,
    last_used_at: Option<Timestamp>,
}

impl From<Credential> for CredentialView {
    fn from(credential: Credential) -> Self {
        let Credential {
            name,
            kind,
            version,
            hosts,
            origin,
            expires_at,
            created_by,
            updated_by,
            created_at,
            updated_at,
            last_used_at,
        } = credential;
        Self {
            name,
            kind,
            hosts,
            version,
            origin,
            created_by,
            created_at,
            updated_by,
            updated_at,
            expires_at,
            last_used_at,
        }
    }
}

impl CredentialArgs {
    /// Whether a registry is to be asked, with a value that only the safe gives.
    pub fn is_test(&self) -> bool {
        matches!(self.command, CredentialCommand::Test(_))
    }
}

/// Runs a `credential` command.
///
/// # Errors
/// There is no such project or credential, a value is not usable, or the database is away.
pub async fn credential(
    context: &Context,
    arguments: &CredentialArgs,
    now: Timestamp,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    match &arguments.command {
        CredentialCommand::Set(arguments) => set(context, arguments, now, out).await,
        CredentialCommand::List(arguments) => {
            let all = all_of(context, &arguments.database, &arguments.project).await?;
            list(all, arguments.output, now, out)
        }
        CredentialCommand::Show(arguments) => {
            let all = all_of(context, &arguments.database, &arguments.project).await?;
            let found = all.into_iter().find(|one| one.name == arguments.name);
            let found = found.ok_or_else(|| unknown(&arguments.project, &arguments.name))?;
            output::print_value(out, &CredentialView::from(found), true)
        }
        CredentialCommand::Test(arguments) => test(context, arguments, out).await,
        CredentialCommand::Delete(arguments) => {
            let NamedArgs { project: of, name, database } = arguments;
            match context.source(database).await? {
                Source::Database(store) => {
                    let project = project(context, &store, of).await?;
                    if !store.credential_delete(project.id, name, &person(), now).await? {
                        return Err(unknown(of, name));
                    }
                }
                Source::Api(remote) => {
                    let path = ["namespaces", &remote.namespace, "projects", of, "credentials", name];
                    remote.delete(Call::new(&path, format!("credential {name} of {of}"))).await?;
                }
            }
            Ok(writeln!(out, "credential {name} of {of} is deleted")?)
        }
    }
}

/// The credentials of a project.
async fn all_of(context: &Context, database: &DatabaseArgs, of: &str) -> Result<Vec<Credential>, Failure> {
    match context.source(database).await? {
        Source::Database(store) => {
            let project = project(context, &store, of).await?;
            Ok(store.credentials_list(project.id).await?.into_iter().map(Credential::from).collect())
        }
        Source::Api(remote) => {
            let path = ["namespaces", &remote.namespace, "projects", of, "credentials"];
            let call = Call::new(&path, format!("project {of} in namespace {}", remote.namespace));
            Ok(remote.get::<Page<Credential>>(call).await?.items)
        }
    }
}

async fn set(context: &Context, arguments: &SetArgs, now: Timestamp, out: &mut dyn Write) -> Result<(), Failure> {
    let SetArgs { project: of, name, kind, host, user, token, expires, opened } = arguments;
    let expires_at = expires.as_deref().map(|text| spans::until(text, now)).transpose();
    let expires_at = expires_at.map_err(|what| Failure::usage(format!("--expires: {what}"), ""))?;
    let host = host.as_deref().map(login::host).transpose();
    let host = host.map_err(|error| Failure::usage(format!("--host: {error}"), ""))?;
    let user = match (&host, token) {
        (Some(host), true) => Some(login::token_user(host).map_err(|error| {
            Failure::usage(format!("--token: {error}"), "give --user NAME, the user that the token was made for")
        })?),
        _ => user.as_deref(),
    };
    if let Some(remote) = context.remote(opened.database()).await? {
        let same = set_through(&remote, arguments, host.as_deref().zip(user), expires_at).await?;
        if same {
            writeln!(out, "credential {name} of {of} is what it was: nothing was written")?;
        } else {
            writeln!(out, "credential {name} of {of} is stored, sealed by the operator")?;
        }
        return expected_user(user.filter(|_| *token), out);
    }
    let (store, safe) = opened.open().await?;
    let project = project(context, &store, of).await?;
    safe.ready().await?;
    let (value, hosts) = valued(*kind, host.zip(user.map(str::to_owned)), given(name)?)?;
    let deposit =
        Deposit { name, kind: *kind, value: &value, hosts, origin: "command line".into(), expires_at, actor: person() };
    match safe.put(&owner(&project), &deposit).await? {
        Kept::Same => writeln!(out, "credential {name} of {} is what it was: nothing was written", project.name)?,
        Kept::Changed(_) => {
            writeln!(out, "credential {name} of {} is stored, sealed with {}", project.name, safe.primary())?;
        }
    }
    expected_user(user.filter(|_| *token), out)
}

fn expected_user(user: Option<&str>, out: &mut dyn Write) -> Result<(), Failure> {
    if let Some(user) = user {
        writeln!(out, "its user is `{user}`, which this registry expects beside a token")?;
    }
    Ok(())
}

/// A value on its way to the API, which seals it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    kind: String,
    #[serde(flatten)]
    sent: Sent<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
}

/// Stores a credential through the API; says whether it was there already.
async fn set_through(
    remote: &Remote,
    arguments: &SetArgs,
    login: Option<(&str, &str)>,
    expires_at: Option<Timestamp>,
) -> Result<bool, Failure> {
    let SetArgs { project: of, name, kind, .. } = arguments;
    let path = ["namespaces", &remote.namespace, "projects", of, "credentials"];
    let about = format!("project {of} in namespace {}", remote.namespace);
    let before = remote.get::<Page<Credential>>(Call::new(&path, &about)).await?.items;
    let before = before.into_iter().find(|one| one.name == *name).map(|one| one.version);
    let value = given(name)?;
    let (host, user) = login.unzip();
    let body = Written { kind: kind.to_string(), sent: (&value).into(), host, user, expires_at };
    let path = ["namespaces", &remote.namespace, "projects", of, "credentials", name];
    let after: Credential = remote.put(Call::new(&path, &about), &body).await?;
    Ok(before == Some(after.version))
}

async fn test(context: &Context, arguments: &TestArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let TestArgs { project: of, name, insecure, opened } = arguments;
    let (store, safe) = opened.open().await?;
    let project = project(context, &store, of).await?;
    let value = safe.take(&owner(&project), name, &person(), "credential test").await?;
    let value = value.ok_or_else(|| unknown(of, name))?;
    let logins = login::from_docker_config(&value).map_err(|error| {
        Failure::failed(
            format!("credential {name} is not for registries: {error}"),
            "there is nothing else to log in to yet",
        )
    })?;
    let registry = Registry::new(RegistryOptions::default(), Arc::new(SystemClock));
    let registry = registry.map_err(|error| Failure::failed(error.to_string(), ""))?;
    let mut accepted = true;
    for login in logins {
        let (said, good) = answer(&registry, login, *insecure).await;
        accepted &= good;
        writeln!(out, "{said}")?;
    }
    if accepted { Ok(()) } else { Err(Failure::Told(Code::Failed)) }
}

/// What one registry says to a login, and whether that is well.
async fn answer(registry: &Registry, login: Login, insecure: bool) -> (String, bool) {
    let Login { host, user, secret } = login;
    // No repository is asked for: the registry is asked about itself.
    let repository = match format!("{host}/any").parse::<Repository>() {
        Ok(repository) => repository,
        Err(error) => return (format!("{host}: {error}"), false),
    };
    let nobody = Access { credential: registry::Credential::Anonymous, insecure };
    if registry.ping(&repository, &nobody).await.is_ok() {
        return (format!("{host}: answers without a login, so nothing is known about {user}"), true);
    }
    let access = Access { credential: registry::Credential::Basic { user: user.clone(), secret }, insecure };
    match registry.ping(&repository, &access).await {
        Ok(()) => (format!("{host}: accepts {user}"), true),
        Err(error) => (format!("{host}: {}", masked(&error.to_string(), &access.credential)), false),
    }
}

/// The value as it is sealed, and the registries that it is for.
fn valued(
    kind: CredentialKind,
    login: Option<(String, String)>,
    given: Plaintext,
) -> Result<(Plaintext, Vec<String>), Failure> {
    if kind != CredentialKind::Registry {
        return match login {
            None => Ok((given, Vec::new())),
            Some(_) => Err(Failure::usage(
                "--host, --user and --token are for registries",
                "leave them out, or use --kind registry",
            )),
        };
    }
    let logins = match login {
        Some((host, user)) => {
            let secret = given.expose_text().map(|text| Zeroizing::new(text.to_owned()));
            let secret = secret.ok_or_else(|| Failure::usage("the password is not UTF-8", ""))?;
            vec![Login { host, user, secret }]
        }
        None => login::from_docker_config(&given).map_err(|error| {
            Failure::usage(
                format!("the value is not usable (it is not shown): {error}"),
                "give --host and --user (or --token) for a single password or token",
            )
        })?,
    };
    let hosts = logins.iter().map(|login| login.host.clone()).collect();
    Ok((login::to_value(&logins), hosts))
}

fn list(all: Vec<Credential>, format: Format, now: Timestamp, out: &mut dyn Write) -> Result<(), Failure> {
    match format {
        Format::Json | Format::Yaml => {
            let all: Vec<CredentialView> = all.into_iter().map(CredentialView::from).collect();
            output::print_value(out, &all, format == Format::Yaml)
        }
        Format::Name => Ok(all.iter().try_for_each(|one| writeln!(out, "credential/{}", one.name))?),
        Format::Table | Format::Wide => {
            let ago = |at: Timestamp| spans::short(now.duration_since(at));
            let mut columns = Columns::new(&["NAME", "KIND", "FOR", "WRITTEN", "BY", "LAST USED", "EXPIRES"]);
            for one in all {
                let used = one.last_used_at.map_or_else(|| "never".into(), |at| format!("{} ago", ago(at)));
                let expires = match one.expires_at {
                    None => String::new(),
                    Some(at) if at <= now => format!("{} ago", ago(at)),
                    Some(at) => format!("in {}", spans::short(at.duration_since(now))),
                };
                let written = format!("{} ago", ago(one.updated_at));
                columns.row([one.name, one.kind, one.hosts.join(","), written, one.updated_by, used, expires]);
            }
            Ok(write!(out, "{}", columns.render())?)
        }
    }
}

fn unknown(project: &str, name: &str) -> Failure {
    Failure::failed(
        format!("project {project} has no credential {name}"),
        format!("see `stagekeeper credential list {project}`"),
    )
}
