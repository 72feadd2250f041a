//! The command line: one file per command.
//!
//! Commands write what they found to standard output and return a [`Failure`] for everything else; only [`run`]
//! turns that into words on standard error and an exit code.

mod ask;
mod audit;
mod cluster;
mod completions;
mod controller;
mod crds;
mod credential;
mod database;
mod deploys;
mod doctor;
mod edge;
mod env;
mod export;
mod failure;
mod get;
mod groups;
mod history;
mod images;
mod keys;
mod logs;
mod migrate;
mod output;
mod owner;
mod place;
mod registry;
mod remote;
mod secret;
mod selftest;
mod setup;
mod source;
mod spans;
mod stats;
mod updates;
mod users;
mod value;
mod webhook;
mod why;

use std::{
    ffi::OsString,
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use clap_complete::Shell;

pub use self::{
    controller::Gates,
    doctor::permissions,
    failure::{Code, Failure},
};
use crate::{
    config::{
        edge::EdgeArgs,
        settings::{ClusterArgs, ControllerArgs},
    },
    domain::clock::{Clock as _, SystemClock},
};

const EXIT_CODES: &str = "\
Exit codes: 0 it worked; 1 it failed, or what was asked for does not exist; 2 the command line or the configuration
is wrong; 3 the API, the cluster or the database cannot be reached; 4 what was asked of a stage was refused; with --wait: 5 the
deploy failed, 6 it was stopped or superseded, 7 it has not ended in time.";

/// Continuous delivery for Kubernetes that remembers.
#[derive(Parser)]
#[command(name = "stagekeeper", version, after_help = EXIT_CODES, max_term_width = 110)]
struct Cli {
    #[command(flatten)]
    cluster: ClusterArgs,
    #[command(flatten)]
    server: remote::ServerArgs,
    /// Namespace [default: that of the kubeconfig's context].
    #[arg(short, long, global = true, value_name = "NAME")]
    namespace: Option<String>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the operator.
    Controller(Box<ControllerArgs>),
    /// Serve the API and webhooks in a process of their own, beside controllers with --serve-api=false.
    Api(Box<ControllerArgs>),
    /// Run the edge: the proxy that leads visitors to environments and stages, and wakes what sleeps.
    Edge(Box<EdgeArgs>),
    /// Make what an installation needs once: Secrets that are not there yet.
    Setup(setup::SetupArgs),
    /// Try an installation out: wait until it is ready, deploy a stage, remove it.
    Selftest(selftest::SelftestArgs),
    /// Bring the database's schema to this version, or back.
    Migrate(migrate::MigrateArgs),
    /// List what was deployed, newest first: when, why and by whom.
    History(history::HistoryArgs),
    /// Tell how well delivery goes: deploy frequency, lead time, change failure rate, time to restore (DORA).
    Stats(stats::StatsArgs),
    /// Show one thing closely.
    Get(get::GetArgs),
    /// Print what was seen while a deploy ran.
    Logs(logs::LogsArgs),
    /// Tell what a stage waits for, what failed last, and what would open the way.
    Why(why::WhyArgs),
    /// List what is newer than what runs, acknowledge it, group it by tags.
    Updates(updates::UpdatesArgs),
    /// List who did what, and check that the record is as it was written.
    Audit(audit::AuditArgs),
    /// List who was seen.
    Users(users::UsersArgs),
    /// Explain which images are chosen and why, list what is watched, accept a listing that shrank.
    Images(images::ImagesArgs),
    /// List what was asked of several stages at once, and how far it has come.
    Groups(groups::GroupsArgs),
    #[command(flatten)]
    Ask(Box<ask::Ask>),
    /// List, make, wake and end environments: copies of a project that live for a while.
    Env(env::EnvArgs),
    /// Write the manifests that make what runs run again: projects and stages, pinned to what they serve.
    Export(export::ExportArgs),
    /// Store, list and delete what Stagekeeper logs in with.
    Credential(credential::CredentialArgs),
    /// Store, list and delete what workloads get without its standing in a Project.
    Secret(secret::SecretArgs),
    /// Say how single registries are spoken to: over plain HTTP, with an authority of their own, how fast.
    Registry(registry::RegistryArgs),
    /// Show what webhooks said, have it worked on again, change where they are sent to.
    Webhook(webhook::WebhookArgs),
    /// Make, list, check and change the keys that credentials and secrets are sealed with.
    Keys(keys::KeysArgs),
    /// Print the custom resource definitions of this version as YAML.
    Crds,
    /// Check everything that Stagekeeper needs: each line passes or says what to do.
    Doctor(Box<doctor::DoctorArgs>),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

impl Command {
    /// What a command is called that goes to the database, whatever is said of the API.
    fn only_database(&self) -> Option<&'static str> {
        match self {
            Self::Migrate(_) => Some("migrate"),
            Self::Audit(arguments) => arguments.is_verify().then_some("audit verify"),
            Self::Images(_) => Some("images"),
            Self::Credential(arguments) => arguments.is_test().then_some("credential test"),
            Self::Secret(arguments) => arguments.is_import().then_some("secret import"),
            Self::Registry(_) => Some("registry"),
            Self::Webhook(_) => Some("webhook"),
            Self::Keys(_) => Some("keys"),
            _ => None,
        }
    }
}

/// Runs a command line: the whole program.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    if let Some(code) = completions::answered(&arguments, || command(arguments.first())) {
        return code;
    }
    let mut command = command(arguments.first());
    let matches = match command.try_get_matches_from_mut(&arguments) {
        Ok(matches) => matches,
        Err(error) => {
            // Help and version are errors to clap; when they cannot be printed there is nobody to tell.
            let _unprintable = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Code::Usage as u8));
        }
    };
    match perform(&matches, &mut command, &mut io::stdout()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let said = failure.to_string();
            if !said.is_empty() {
                let _unprintable = writeln!(io::stderr(), "{said}");
            }
            failure.exit_code()
        }
    }
}

/// The grammar of the command line, under the program's own name: what the documentation is written from and held to.
pub fn grammar() -> clap::Command {
    command(None)
}

/// The grammar, under the name by which the program was called: kubectl finds plugins by theirs.
fn command(program: Option<&OsString>) -> clap::Command {
    let is_plugin =
        program.and_then(|path| Path::new(path).file_stem()).is_some_and(|name| name == "kubectl-stagekeeper");
    if is_plugin { Cli::command().bin_name("kubectl stagekeeper") } else { Cli::command() }
}

fn perform(matches: &ArgMatches, command: &mut clap::Command, out: &mut dyn Write) -> Result<(), Failure> {
    let cli = Cli::from_arg_matches(matches).map_err(|error| Failure::usage(error.to_string(), "see --help"))?;
    let context = Context {
        cluster: cli.cluster,
        server: cli.server,
        namespace: cli.namespace,
        flags: source::Flags::of(matches),
    };
    let Some(chosen) = cli.command else {
        return Ok(write!(out, "{}", command.render_help())?);
    };
    if let Some(name) = chosen.only_database().filter(|_| context.flags.api) {
        return Err(Failure::usage(
            format!("`{name}` works on the database itself: the API has nothing like it"),
            "leave out the flags of the API, and give --database-url or set DATABASE_URL",
        ));
    }
    let now = SystemClock.now();
    match chosen {
        Command::Controller(arguments) => controller::start(&context, &arguments, controller::Part::Controller),
        Command::Api(arguments) => controller::start(&context, &arguments, controller::Part::Api),
        Command::Edge(arguments) => edge::start(&context, &arguments),
        Command::Setup(arguments) => in_runtime(setup::setup(&context, &arguments, now, out)),
        Command::Selftest(arguments) => in_runtime(selftest::selftest(&context, &arguments, out)),
        Command::Migrate(arguments) => in_runtime(migrate::migrate(&arguments, out)),
        Command::History(arguments) => in_runtime(history::list(&context, &arguments, now, out)),
        Command::Stats(arguments) => in_runtime(stats::print(&context, &arguments, now, out)),
        Command::Audit(arguments) => in_runtime(audit::audit(&context, &arguments, now, out)),
        Command::Users(arguments) => in_runtime(users::users(&context, &arguments, now, out)),
        Command::Groups(arguments) => in_runtime(groups::groups(&context, &arguments, out)),
        Command::Get(arguments) => in_runtime(get::get(&context, &arguments, now, out)),
        Command::Logs(arguments) => in_runtime(logs::print(&context, &arguments, out)),
        Command::Why(arguments) => in_runtime(why::tell(&context, &arguments, now, out)),
        Command::Updates(arguments) => in_runtime(updates::updates(&context, &arguments, now, out)),
        Command::Images(arguments) => in_runtime(images::images(&context, &arguments, now, out)),
        Command::Ask(asked) => in_runtime(ask::ask(&context, &asked, now, out)),
        Command::Env(arguments) => in_runtime(env::env(&context, &arguments, now, out)),
        Command::Export(arguments) => in_runtime(export::export(&context, &arguments, now, out)),
        Command::Credential(arguments) => in_runtime(credential::credential(&context, &arguments, now, out)),
        Command::Secret(arguments) => in_runtime(secret::secret(&context, &arguments, now, out)),
        Command::Webhook(arguments) => in_runtime(webhook::webhook(&context, &arguments, now, out)),
        Command::Registry(arguments) => in_runtime(registry::registry(&arguments, now, out)),
        Command::Keys(arguments) => in_runtime(keys::keys(&arguments, now, out)),
        Command::Crds => crds::print(out),
        Command::Doctor(arguments) => in_runtime(doctor::examine(&context, &arguments, out)),
        Command::Completions { shell } => completions::print(shell, out),
    }
}

/// What the flags that every command has say.
struct Context {
    cluster: ClusterArgs,
    server: remote::ServerArgs,
    namespace: Option<String>,
    flags: source::Flags,
}

/// Commands that look things up need no more than one thread.
fn in_runtime<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("no runtime can be made: {error}"), ""))?
        .block_on(work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_plugin_is_called_through_kubectl() {
        for (program, usage) in [
            ("/usr/local/bin/stagekeeper", "Usage: stagekeeper "),
            ("/home/me/.krew/bin/kubectl-stagekeeper", "Usage: kubectl stagekeeper "),
            ("kubectl-stagekeeper.exe", "Usage: kubectl stagekeeper "),
        ] {
            let help = command(Some(&program.into())).render_help().to_string();
            assert!(help.contains(usage), "{program}: {help}");
        }
    }

    #[test]
    fn no_secret_of_the_environment_is_in_the_help() {
        let mut command = Cli::command();
        let controller = command.find_subcommand_mut("controller").expect("the controller command");
        let shown: Vec<&str> = controller
            .get_arguments()
            .filter(|argument| !argument.is_hide_env_values_set())
            .filter_map(|argument| argument.get_env()?.to_str())
            .collect();
        assert!(!shown.contains(&"DATABASE_URL"), "{shown:?}");
        assert!(shown.contains(&"STAGEKEEPER_PORT"), "{shown:?}");
    }
}
