//! `stagekeeper secret set|import|list|unset`: what workloads get.

mod env_file;

use std::{
    collections::BTreeSet,
    fs::File,
    io::{IsTerminal as _, Write},
    path::PathBuf,
};

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde::Serialize;

use self::env_file::Entry;
use super::{
    Context,
    failure::Failure,
    keys::Opened,
    output::{self, Columns, Format},
    owner::{owner, person, project},
    remote::{Call, Remote, Sent},
    source::Source,
    spans, value,
};
use crate::{
    config::settings::DatabaseArgs,
    domain::secret::{self, SecretId},
    http::api::{cursor::Page, secrets::Secret},
    safe::{Kept, Safe, SecretDeposit},
    store::{Project, Store},
};

/// Longest file that is imported, in bytes.
const MAX_FILE: usize = 8 << 20;

/// What `secret` takes.
#[derive(Args)]
pub struct SecretArgs {
    #[command(subcommand)]
    command: SecretCommand,
}

#[derive(Subcommand)]
enum SecretCommand {
    /// Store a secret, sealed. Its value is read from standard input, or asked for on a terminal: never an argument.
    Set(SetArgs),
    /// Store every value of a `.env` file, all or none. Values that are there already are not written again.
    Import(ImportArgs),
    /// List a project's secrets, without their values.
    List(ListArgs),
    /// Delete a secret: the values of all its versions are gone at once.
    Unset(UnsetArgs),
}

#[derive(Args)]
struct SetArgs {
    /// The project.
    #[arg(value_name = "PROJECT")]
    project: String,
    /// Name of the secret.
    #[arg(value_name = "NAME", value_parser = secret::name)]
    name: String,
    /// The one service that it is for. Left out, it is for all of them; a service's own goes first.
    #[arg(long, value_name = "SERVICE", value_parser = service)]
    service: Option<String>,
    #[command(flatten)]
    opened: Opened,
}

#[derive(Args)]
struct ImportArgs {
    /// The project.
    #[arg(value_name = "PROJECT")]
    project: String,
    /// The file; `-` for standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The one service that they are for. Left out, they are for all of them.
    #[arg(long, value_name = "SERVICE", value_parser = service)]
    service: Option<String>,
    /// Store nothing, and tell what would be stored.
    #[arg(long)]
    dry_run: bool,
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
struct UnsetArgs {
    /// The project.
    #[arg(value_name = "PROJECT")]
    project: String,
    /// Name of the secret.
    #[arg(value_name = "NAME", value_parser = secret::name)]
    name: String,
    /// The one service whose it is.
    #[arg(long, value_name = "SERVICE", value_parser = service)]
    service: Option<String>,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// A secret as programs read it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SecretView {
    name: String,
    service: Option<String>,
    version: i64,
    origin: String,
    created_by: String,
    created_at: Timestamp,
    updated_by: String,
    updated_at: Timestamp,
    last_used_at: Option<Timestamp>,
}

impl From<Secret> for SecretView {
    fn from(one: Secret) -> Self {
        let Secret { name, service, version, origin, created_by, updated_by, created_at, updated_at, last_used_at } =
            one;
        Self { name, service, version, origin, created_by, created_at, updated_by, updated_at, last_used_at }
    }
}

impl SecretArgs {
    /// Whether a file is imported, all of it or nothing.
    pub fn is_import(&self) -> bool {
        matches!(self.command, SecretCommand::Import(_))
    }
}

/// Runs a `secret` command.
///
/// # Errors
/// There is no such project or secret, a value is not usable, or the database is away.
pub async fn secret(
    context: &Context,
    arguments: &SecretArgs,
    now: Timestamp,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    match &arguments.command {
        SecretCommand::Set(arguments) => set(context, arguments, out).await,
        SecretCommand::Import(arguments) => import(context, arguments, out).await,
        SecretCommand::List(arguments) => {
            let all = match context.source(&arguments.database).await? {
                Source::Database(store) => {
                    let project = project(context, &store, &arguments.project).await?;
                    store.secrets_list(project.id).await?.into_iter().map(Secret::from).collect()
                }
                Source::Api(remote) => all_of(&remote, &arguments.project).await?,
            };
            list(all, arguments.output, now, out)
        }
        SecretCommand::Unset(arguments) => unset(context, arguments, now, out).await,
    }
}

async fn set(context: &Context, arguments: &SetArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let SetArgs { project: of, name, service, opened } = arguments;
    let id = SecretId { name: name.clone(), service: service.clone() };
    if let Some(remote) = context.remote(opened.database()).await? {
        return set_through(&remote, of, &id, out).await;
    }
    let (store, safe) = opened.open().await?;
    let project = project(context, &store, of).await?;
    safe.ready().await?;
    let value = value::given(name)?;
    let known = known(&store, &project).await?;
    let deposit = SecretDeposit { id: id.clone(), value: &value, origin: "command line".into(), actor: person() };
    let kept = safe.secrets_put(&owner(&project), &[deposit]).await?;
    match kept.first() {
        Some(Kept::Changed(version)) => {
            let key = safe.primary();
            writeln!(out, "secret {id} of {} is stored as version {version}, sealed with {key}", project.name)?;
        }
        Some(Kept::Same) | None => {
            writeln!(out, "secret {id} of {} is what it was: nothing was written", project.name)?;
        }
    }
    if known.contains(&id) { Ok(()) } else { declare((&project.namespace, &project.name), &[&id], out) }
}

/// Stores a secret through the API, which seals it.
async fn set_through(remote: &Remote, of: &str, id: &SecretId, out: &mut dyn Write) -> Result<(), Failure> {
    let before = all_of(remote, of).await?.into_iter().find(|one| one.name == id.name && one.service == id.service);
    let value = value::given(&id.name)?;
    let path = ["namespaces", &remote.namespace, "projects", of, "secrets", &id.name];
    let about = format!("project {of} in namespace {}", remote.namespace);
    let call = Call::new(&path, about).with_some("service", id.service.as_ref());
    let after: Secret = remote.put(call, &Sent::from(&value)).await?;
    if before.as_ref().is_some_and(|before| before.version == after.version) {
        writeln!(out, "secret {id} of {of} is what it was: nothing was written")?;
    } else {
        writeln!(out, "secret {id} of {of} is stored as version {}, sealed by the operator", after.version)?;
    }
    if before.is_some() { Ok(()) } else { declare((&remote.namespace, of), &[id], out) }
}

/// The secrets of a project, through the API.
async fn all_of(remote: &Remote, of: &str) -> Result<Vec<Secret>, Failure> {
    let path = ["namespaces", &remote.namespace, "projects", of, "secrets"];
    let call = Call::new(&path, format!("project {of} in namespace {}", remote.namespace));
    Ok(remote.get::<Page<Secret>>(call).await?.items)
}

async fn import(context: &Context, arguments: &ImportArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let ImportArgs { project: of, file, service, dry_run, opened } = arguments;
    let entries = read(file)?;
    let (store, safe) = opened.open().await?;
    let project = project(context, &store, of).await?;
    let known = known(&store, &project).await?;
    let ids: Vec<SecretId> =
        entries.iter().map(|entry| SecretId { name: entry.name.clone(), service: service.clone() }).collect();
    let deposits: Vec<SecretDeposit<'_>> = entries
        .iter()
        .zip(&ids)
        .map(|(Entry { value, .. }, id)| SecretDeposit {
            id: id.clone(),
            value,
            origin: "command line".into(),
            actor: person(),
        })
        .collect();
    let same = written(&safe, &project, &deposits, *dry_run).await?;
    let new: Vec<&SecretId> = ids.iter().filter(|id| !known.contains(id)).collect();
    let unchanged = same.iter().filter(|same| **same).count();
    let changed = ids.len() - unchanged - new.len();
    let told = format!("{} new, {changed} changed, {unchanged} unchanged", new.len());
    if *dry_run {
        writeln!(out, "nothing is stored (--dry-run): of {} secrets {told}", ids.len())?;
    } else {
        writeln!(out, "{} secrets of {}: {told}", ids.len(), project.name)?;
    }
    let whose = service.as_ref().map_or_else(String::new, |service| format!(" of service {service}"));
    for (id, same) in ids.iter().zip(&same) {
        let what = match (known.contains(id), same) {
            (false, _) => "new",
            (true, true) => "unchanged",
            (true, false) => "changed",
        };
        writeln!(out, "  {}{whose}: {what}", id.name)?;
    }
    if new.is_empty() { Ok(()) } else { declare((&project.namespace, &project.name), &new, out) }
}

/// Stores what is to be stored; says of each value whether it was there already.
async fn written(
    safe: &Safe,
    project: &Project,
    deposits: &[SecretDeposit<'_>],
    dry_run: bool,
) -> Result<Vec<bool>, Failure> {
    if dry_run {
        safe.check().await?;
        return Ok(safe.secrets_same(&owner(project), deposits).await?);
    }
    safe.ready().await?;
    let kept = safe.secrets_put(&owner(project), deposits).await?;
    Ok(kept.into_iter().map(|kept| kept == Kept::Same).collect())
}

async fn unset(context: &Context, arguments: &UnsetArgs, now: Timestamp, out: &mut dyn Write) -> Result<(), Failure> {
    let UnsetArgs { project: of, name, service, database } = arguments;
    let id = SecretId { name: name.clone(), service: service.clone() };
    match context.source(database).await? {
        Source::Database(store) => {
            let project = project(context, &store, of).await?;
            if !store.secret_delete(project.id, &id, &person(), now).await? {
                return Err(Failure::failed(
                    format!("project {of} has no secret {id}"),
                    format!("see `stagekeeper secret list {of}`"),
                ));
            }
        }
        Source::Api(remote) => {
            let path = ["namespaces", &remote.namespace, "projects", of, "secrets", name];
            let call = Call::new(&path, format!("secret {id} of {of}"));
            remote.delete(call.with_some("service", service.as_ref())).await?;
        }
    }
    Ok(writeln!(out, "secret {id} of {of} is deleted")?)
}

/// Reads a file; none of its content is ever told.
fn read(file: &PathBuf) -> Result<Vec<Entry>, Failure> {
    let is_stdin = file.as_os_str() == "-";
    let called = if is_stdin { "standard input".to_owned() } else { file.display().to_string() };
    let unread = |error: std::io::Error| Failure::failed(format!("{called} cannot be read: {error}"), "");
    let bytes = if is_stdin {
        let stdin = std::io::stdin();
        if stdin.is_terminal() {
            return Err(Failure::usage("there is no file", "give one, or pass it on to standard input"));
        }
        value::at_most(stdin.lock(), MAX_FILE + 1).map_err(unread)?
    } else {
        value::at_most(File::open(file).map_err(unread)?, MAX_FILE + 1).map_err(unread)?
    };
    if bytes.len() > MAX_FILE {
        return Err(Failure::usage(format!("{called} has more than {MAX_FILE} bytes"), "import it in parts"));
    }
    let entries = env_file::parse(&bytes).map_err(|error| {
        Failure::usage(format!("{called}, {error}"), "nothing was stored; what stands in the file is not shown")
    })?;
    if entries.is_empty() {
        return Err(Failure::usage(format!("there are no values in {called}"), "expected lines as NAME=VALUE"));
    }
    Ok(entries)
}

/// The secrets that have a value.
async fn known(store: &Store, project: &Project) -> Result<BTreeSet<SecretId>, Failure> {
    Ok(store.secrets_list(project.id).await?.into_iter().map(|one| one.secret).collect())
}

/// What a Project has to say before its services get these.
fn declare((namespace, project): (&str, &str), new: &[&SecretId], out: &mut dyn Write) -> Result<(), Failure> {
    writeln!(
        out,
        "\nServices get what the Project names. This command does not look into the cluster: unless it stands there already,\n\
         add to spec.secrets of Project {namespace}/{project}:\n"
    )?;
    for id in new {
        writeln!(out, "- name: {}", id.name)?;
        id.service.iter().try_for_each(|service| writeln!(out, "  service: {service}"))?;
        // A name that is none for a variable in every shell and program is more likely that of a file.
        if id.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            writeln!(out, "  as: env")?;
        } else {
            writeln!(out, "  as: file\n  path: /run/secrets/{}", id.name)?;
        }
    }
    Ok(())
}

fn list(all: Vec<Secret>, format: Format, now: Timestamp, out: &mut dyn Write) -> Result<(), Failure> {
    match format {
        Format::Json | Format::Yaml => {
            let all: Vec<SecretView> = all.into_iter().map(SecretView::from).collect();
            output::print_value(out, &all, format == Format::Yaml)
        }
        Format::Name => Ok(all.iter().try_for_each(|one| match &one.service {
            None => writeln!(out, "secret/{}", one.name),
            Some(service) => writeln!(out, "secret/{service}/{}", one.name),
        })?),
        Format::Table | Format::Wide => {
            let ago = |at: Timestamp| format!("{} ago", spans::short(now.duration_since(at)));
            let mut columns = Columns::new(&["NAME", "SERVICE", "VERSION", "WRITTEN", "BY", "FROM", "LAST USED"]);
            for one in all {
                columns.row([
                    one.name,
                    one.service.unwrap_or_else(|| "(all)".into()),
                    one.version.to_string(),
                    ago(one.updated_at),
                    one.updated_by,
                    one.origin,
                    one.last_used_at.map_or_else(|| "never".into(), ago),
                ]);
            }
            Ok(write!(out, "{}", columns.render())?)
        }
    }
}

/// A service's name, as a Project gives it.
fn service(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = text.bytes().next().is_some_and(plain) && text.bytes().next_back().is_some_and(plain);
    if ends && text.len() <= 63 && text.bytes().all(|byte| plain(byte) || byte == b'-') {
        Ok(text.to_owned())
    } else {
        Err("a service's name has lower-case letters, digits and -, and begins and ends with a letter or digit".into())
    }
}
