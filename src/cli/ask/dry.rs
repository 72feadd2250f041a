//! `promote --dry-run`: what each gate would say.

use std::io::Write;

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    api::{Project, Stage},
    cli::{
        Context,
        failure::Failure,
        output::{self, Columns, Format},
        why::{GateFact, read},
    },
    controllers::stage::rehearse::{Rehearsal, Wish, rehearse as ask_the_gates},
    store::Store,
};

/// What would become of it, as scripts see it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct View {
    stage: String,
    release: String,
    summary: String,
    gates: Vec<GateFact>,
}

/// Tells what each gate says now of a promotion that is not asked for.
///
/// # Errors
/// There is no such stage, or nothing to promote; the cluster or the database is away.
pub(super) async fn rehearse(
    context: &Context,
    store: &Store,
    name: &str,
    wish: Wish<'_>,
    format: Format,
    now: Timestamp,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let namespace = context.namespace().await?;
    let client = Context::client(context.cluster_config().await?)?;
    let missing = || {
        Failure::failed(
            format!("there is no Stage {name} in namespace {namespace} that the operator has taken up"),
            "`kubectl get stages -A` lists them",
        )
    };
    let stage: Stage = read(&client, &namespace, name).await?.ok_or_else(missing)?;
    let project: Option<Project> = read(&client, &namespace, &stage.spec.project).await?;
    let targets = store.targets_load(Some(std::slice::from_ref(&namespace))).await?;
    let target = targets.into_iter().find(|target| target.name == name).ok_or_else(missing)?;
    let state = store.target_state_load(target.id).await?.ok_or_else(missing)?;
    let suspended = if stage.spec.suspend {
        Some(format!("stage {name}"))
    } else {
        project.filter(|project| project.spec.suspend).map(|_| format!("project {}", stage.spec.project))
    };
    let found = ask_the_gates(store, &stage, suspended.as_deref(), state, wish, now).await;
    let found = found.map_err(|error| Failure::failed(error.to_string(), ""))?;
    let Rehearsal { release, gates } = found.map_err(|why| Failure::failed(why, "nothing was asked for"))?;
    let view = View {
        stage: name.to_owned(),
        release: release.id().0,
        summary: release.summary(),
        gates: gates.iter().map(GateFact::from).collect(),
    };
    match format {
        Format::Json => output::print_value(out, &view, false),
        Format::Yaml => output::print_value(out, &view, true),
        Format::Name => Ok(writeln!(out, "release/{}", view.release)?),
        Format::Table | Format::Wide => {
            writeln!(out, "{} would come to {name}; nothing was asked for", view.summary)?;
            let mut columns = Columns::new(&["GATE", "VERDICT", "WHY"]);
            for gate in &view.gates {
                let opens = if gate.opens.is_empty() { String::new() } else { format!("; {}", gate.opens) };
                let until = gate.until.map(|until| format!(" until {until}")).unwrap_or_default();
                let verdict = format!("{}{until}", gate.verdict);
                columns.row([gate.name.clone(), verdict, format!("{}{opens}", gate.message)]);
            }
            Ok(write!(out, "{}", columns.render())?)
        }
    }
}
