//! `stagekeeper doctor`: everything that Stagekeeper needs, each line a pass or what to do.

mod database;
mod definitions;
mod logins;
pub mod permissions;
mod registries;
mod report;

use std::io::Write;

use clap::Args;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::{Api, Client, api::PostParams};

use self::{logins::Logins, report::Report};
use super::{
    Context,
    failure::{Code, Failure},
    output::{self, Format},
};
use crate::{
    cluster::error::chain,
    config::{
        Config, ConfigErrors, Namespaces,
        settings::{ControllerArgs, DATABASE_URL},
    },
};

/// What `doctor` takes: the settings of the operator whose environment is examined.
#[derive(Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    settings: ControllerArgs,
    /// Form of the output.
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    output: Format,
}

/// Examines everything and prints what it found.
///
/// # Errors
/// One of the checks failed.
pub async fn examine(context: &Context, arguments: &DoctorArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let mut report = Report::default();
    let values = arguments.settings.values();
    let parsed = Config::parse(&values, context.cluster.access());
    configuration(&mut report, &parsed);
    // Where it works does not depend on where its database is.
    let elsewhere = values.with(&DATABASE_URL, Some("postgres://unknown/unknown".into()));
    let place =
        Place::of(context, parsed.or_else(|_| Config::parse(&elsewhere, context.cluster.access())).ok().as_ref());
    if let Some(client) = cluster(&mut report, context).await {
        definitions::check(&mut report, &client).await;
        permissions::check(&mut report, &client, &place).await;
        let logins = Logins::open(&arguments.settings.keys, &arguments.settings.database).await;
        registries::check(&mut report, &client, &place, &logins).await;
    } else {
        for check in ["crd", "permission", "registry"] {
            report.skipped(check, "the cluster cannot be asked");
        }
    }
    database::check(&mut report, &arguments.settings.database).await;
    match arguments.output {
        Format::Json => output::print_value(out, &report.findings(), false)?,
        Format::Yaml => output::print_value(out, &report.findings(), true)?,
        Format::Table | Format::Wide | Format::Name => write!(out, "{}", report.table())?,
    }
    if report.has_failed() {
        return Err(Failure::Told(Code::Failed));
    }
    Ok(())
}

/// Where the operator works.
struct Place {
    /// The namespaces; `None` stands for all of them.
    namespaces: Vec<Option<String>>,
    /// Where its Lease is; `None` stands for the client's own namespace.
    lease: Option<String>,
}

impl Place {
    fn of(context: &Context, config: Option<&Config>) -> Self {
        let namespaces = match (&context.namespace, config.map(|config| &config.namespaces)) {
            (Some(name), _) => vec![Some(name.clone())],
            (None, Some(Namespaces::Only(names))) => names.iter().cloned().map(Some).collect(),
            (None, Some(Namespaces::All) | None) => vec![None],
        };
        Self { namespaces, lease: config.and_then(|config| config.lease.namespace.clone()) }
    }
}

fn configuration(report: &mut Report, parsed: &Result<Config, ConfigErrors>) {
    match parsed {
        Ok(config) => {
            let namespaces = match &config.namespaces {
                Namespaces::All => "all namespaces".to_owned(),
                Namespaces::Only(names) => {
                    format!("namespaces {}", names.iter().cloned().collect::<Vec<_>>().join(", "))
                }
            };
            report.passed("configuration", format!("complete; {namespaces}"));
        }
        Err(errors) => {
            for problem in &errors.0 {
                let next = "set it where the operator is started";
                report.failed("configuration", problem.to_string(), next);
            }
        }
    }
}

/// Asks the API server for its version and for our name there.
async fn cluster(report: &mut Report, context: &Context) -> Option<Client> {
    const CHECK: &str = "cluster";
    let config = match context.cluster_config().await {
        Ok(config) => config,
        Err(error) => {
            report.failed(CHECK, error.to_string(), "");
            return None;
        }
    };
    let address = config.cluster_url.to_string();
    let client = match Context::client(config) {
        Ok(client) => client,
        Err(error) => {
            report.failed(CHECK, error.to_string(), "");
            return None;
        }
    };
    let version = match client.apiserver_version().await {
        Ok(version) => version.git_version,
        Err(error) => {
            let what = format!("{address} does not answer: {}", chain(&error));
            let next = "check the kubeconfig's server, its certificate and the network between";
            report.failed(CHECK, what, next);
            return None;
        }
    };
    let name = match name_in(&client).await {
        Ok(name) => name,
        Err(error) => {
            let what = format!("{address} does not know us: {}", chain(&error));
            report.failed(CHECK, what, "check the kubeconfig's credentials");
            return None;
        }
    };
    report.passed(CHECK, format!("{address} answers, {version}, as {name}"));
    Some(client)
}

async fn name_in(client: &Client) -> kube::Result<String> {
    let review = Api::<SelfSubjectReview>::all(client.clone())
        .create(&PostParams::default(), &SelfSubjectReview::default())
        .await?;
    let user = review.status.and_then(|status| status.user_info);
    Ok(user.and_then(|user| user.username).unwrap_or_else(|| "nobody".into()))
}

impl Report {
    /// Adds what was found, or what is wrong and what to do.
    fn found(&mut self, check: &'static str, found: Result<String, (String, String)>) {
        match found {
            Ok(detail) => self.passed(check, detail),
            Err((what, next)) => self.failed(check, what, next),
        }
    }
}
