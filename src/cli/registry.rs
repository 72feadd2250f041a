//! `stagekeeper registry set|list|delete`: how single registries are spoken to.

use std::{fs::File, io::Write, path::PathBuf};

use clap::{Args, Subcommand};
use jiff::Timestamp;
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use serde::Serialize;

use super::{
    database,
    failure::Failure,
    output::{self, Columns, Format},
    owner::person,
    spans, value,
};
use crate::{
    config::settings::DatabaseArgs,
    safe::login,
    store::{RegistrySettings, StoredRegistry},
};

/// Longest file of certificates, in bytes.
const MAX_FILE: usize = 1 << 20;

/// What `registry` takes.
#[derive(Args)]
pub struct RegistryArgs {
    #[command(subcommand)]
    command: RegistryCommand,
}

#[derive(Subcommand)]
enum RegistryCommand {
    /// Say how a registry is spoken to, in place of everything that was said before. The operator follows at once.
    Set(SetArgs),
    /// List the registries that something was said about.
    List(ListArgs),
    /// Forget what was said about a registry.
    Delete(DeleteArgs),
}

#[derive(Args)]
struct SetArgs {
    /// The registry, as HOST[:PORT].
    #[arg(value_name = "HOST", value_parser = host)]
    host: String,
    /// Speak plain HTTP. Only for a registry on a network that you trust.
    #[arg(long, conflicts_with = "ca")]
    insecure: bool,
    /// A file with certificates (PEM) to trust for it, besides those of the machine.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Requests per second at most.
    #[arg(long, value_name = "REQUESTS_PER_SECOND", value_parser = rate)]
    rate: Option<f64>,
    /// Another host that a login for it may be sent to for a token, as HOST[:PORT]. May be given several times.
    #[arg(long = "realm", value_name = "HOST", value_parser = host)]
    realms: Vec<String>,
    #[command(flatten)]
    database: DatabaseArgs,
}

#[derive(Args)]
struct ListArgs {
    /// Form of the output.
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    output: Format,
    #[command(flatten)]
    database: DatabaseArgs,
}

#[derive(Args)]
struct DeleteArgs {
    /// The registry, as HOST[:PORT].
    #[arg(value_name = "HOST", value_parser = host)]
    host: String,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// A registry as programs read it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RegistryView {
    host: String,
    insecure: bool,
    ca: Option<String>,
    requests_per_second: Option<f64>,
    realms: Vec<String>,
    created_at: Timestamp,
    updated_by: String,
    updated_at: Timestamp,
}

impl From<StoredRegistry> for RegistryView {
    fn from(stored: StoredRegistry) -> Self {
        let StoredRegistry { settings, updated_by, created_at, updated_at } = stored;
        let RegistrySettings { host, insecure, ca_pem: ca, requests_per_second, token_realms: realms } = settings;
        Self { host, insecure, ca, requests_per_second, realms, created_at, updated_by, updated_at }
    }
}

/// Runs a `registry` command.
///
/// # Errors
/// What was said is not usable, there is no such registry, or the database is away.
pub async fn registry(arguments: &RegistryArgs, now: Timestamp, out: &mut dyn Write) -> Result<(), Failure> {
    match &arguments.command {
        RegistryCommand::Set(arguments) => set(arguments, now, out).await,
        RegistryCommand::List(arguments) => {
            let store = database::connect(&arguments.database).await?;
            list(store.registries_list().await?, arguments.output, now, out)
        }
        RegistryCommand::Delete(DeleteArgs { host, database }) => {
            let store = database::connect(database).await?;
            if !store.registry_delete(host, &person(), now).await? {
                return Err(Failure::failed(
                    format!("nothing was said about registry {host}"),
                    "see `stagekeeper registry list`",
                ));
            }
            Ok(writeln!(out, "registry {host} is spoken to like any other")?)
        }
    }
}

async fn set(arguments: &SetArgs, now: Timestamp, out: &mut dyn Write) -> Result<(), Failure> {
    let SetArgs { host, insecure, ca, rate, realms, database } = arguments;
    let ca_pem = ca.as_ref().map(authorities).transpose()?;
    if !insecure && ca_pem.is_none() && rate.is_none() && realms.is_empty() {
        return Err(Failure::usage(
            format!("nothing is said about {host}"),
            format!(
                "give --insecure, --ca, --rate or --realm; `stagekeeper registry delete {host}` forgets what was said"
            ),
        ));
    }
    let mut token_realms = realms.clone();
    token_realms.sort();
    token_realms.dedup();
    let (host, insecure) = (host.clone(), *insecure);
    let settings = RegistrySettings { host, insecure, ca_pem, requests_per_second: *rate, token_realms };
    let store = database::connect(database).await?;
    if store.registry_put(&settings, &person(), now).await? {
        writeln!(out, "registry {} is spoken to {}", settings.host, spoken(&settings))?;
    } else {
        writeln!(out, "registry {} is spoken to {} already", settings.host, spoken(&settings))?;
    }
    if settings.insecure {
        writeln!(out, "whoever is on the way can read and change what is said, logins too")?;
    }
    Ok(())
}

fn list(all: Vec<StoredRegistry>, format: Format, now: Timestamp, out: &mut dyn Write) -> Result<(), Failure> {
    match format {
        Format::Json | Format::Yaml => {
            let all: Vec<RegistryView> = all.into_iter().map(RegistryView::from).collect();
            output::print_value(out, &all, format == Format::Yaml)
        }
        Format::Name => Ok(all.iter().try_for_each(|one| writeln!(out, "registry/{}", one.settings.host))?),
        Format::Table | Format::Wide => {
            let mut columns = Columns::new(&["HOST", "SPOKEN TO", "WRITTEN", "BY"]);
            for one in all {
                let spoken = spoken(&one.settings);
                let written = format!("{} ago", spans::short(now.duration_since(one.updated_at)));
                columns.row([one.settings.host, spoken, written, one.updated_by]);
            }
            Ok(write!(out, "{}", columns.render())?)
        }
    }
}

/// How, in words.
fn spoken(settings: &RegistrySettings) -> String {
    let mut all = vec![if settings.insecure { "over plain HTTP" } else { "over HTTPS" }.to_owned()];
    if let Some(pem) = &settings.ca_pem {
        let number = pem.matches("-----BEGIN CERTIFICATE-----").count();
        all.push(format!("with {number} {} of its own", if number == 1 { "authority" } else { "authorities" }));
    }
    if let Some(rate) = settings.requests_per_second {
        all.push(format!("with at most {rate} requests per second"));
    }
    if !settings.token_realms.is_empty() {
        all.push(format!("with tokens from {}", settings.token_realms.join(" and ")));
    }
    all.join(", ")
}

/// Reads certificates, and nothing else: what is said about registries is not sealed.
fn authorities(path: &PathBuf) -> Result<String, Failure> {
    let refused =
        |why: String| Failure::usage(format!("--ca: {} {why}", path.display()), "expected certificates in PEM");
    let file = File::open(path).and_then(|file| value::at_most(file, MAX_FILE + 1));
    let bytes = file.map_err(|error| refused(format!("cannot be read: {error}")))?;
    let text = std::str::from_utf8(&bytes).ok().filter(|_| bytes.len() <= MAX_FILE);
    let text = text.ok_or_else(|| refused("is no text of at most 1 MiB".into()))?;
    if text.contains("PRIVATE KEY") {
        return Err(refused("has a private key in it, which is nobody's business here".into()));
    }
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        let trusted = certificate.map_err(|_| "it is no PEM".to_owned());
        let trusted = trusted.and_then(|certificate| roots.add(certificate).map_err(|error| error.to_string()));
        trusted.map_err(|error| refused(format!("has a certificate that is not usable: {error}")))?;
    }
    if roots.is_empty() { Err(refused("has no certificate in it".into())) } else { Ok(text.to_owned()) }
}

fn host(text: &str) -> Result<String, String> {
    login::host(text).map_err(|error| error.to_string())
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().ok().filter(|rate| rate.is_finite() && *rate > 0.0);
    rate.ok_or_else(|| "expected requests per second, such as 5 or 0.5".into())
}
