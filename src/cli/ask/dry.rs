//! `promote --dry-run`: what each gate would say.

use std::io::Write;

use jiff::Timestamp;

use crate::{
    api::{Project, Stage},
    cli::{
        Context,
        controller::Gates,
        failure::Failure,
        output::{self, Columns, Format},
        remote::Call,
        source::Source,
        why::read,
    },
    http::api::rehearsal::{Rehearsal, Rehearse as _, Supposed, suspended},
    store::Store,
};

/// Tells what each gate says now of a promotion that is not asked for.
///
/// # Errors
/// There is no such stage, or nothing to promote; the API, the cluster or the database is away.
pub(super) async fn rehearse(
    context: &Context,
    source: &Source,
    name: &str,
    supposed: Supposed,
    format: Format,
    now: Timestamp,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let namespace = context.namespace().await?;
    let view = match source {
        Source::Database(store) => on_the_spot(context, store, &namespace, name, supposed, now).await?,
        Source::Api(remote) => {
            let path = ["namespaces", &namespace, "stages", name, "promotion"];
            let call = Call::new(&path, format!("stage {name} in namespace {namespace}"))
                .with_some("release", supposed.release)
                .with_some("from", supposed.from)
                .with_some("emergency", supposed.emergency.then_some(true));
            remote.get::<Rehearsal>(call).await?
        }
    };
    print(&view, format, out)
}

/// Asks the gates from here: with the Stage of the cluster, and what the database knows.
async fn on_the_spot(
    context: &Context,
    store: &Store,
    namespace: &str,
    name: &str,
    supposed: Supposed,
    now: Timestamp,
) -> Result<Rehearsal, Failure> {
    let client = Context::client(context.cluster_config().await?)?;
    let missing = || {
        Failure::failed(
            format!("there is no Stage {name} in namespace {namespace} that the operator has taken up"),
            "`kubectl get stages -A` lists them",
        )
    };
    let stage: Stage = read(&client, namespace, name).await?.ok_or_else(missing)?;
    let project: Option<Project> = read(&client, namespace, &stage.spec.project).await?;
    let target = store.stage_get(namespace, name).await?.ok_or_else(missing)?;
    let state = store.target_state_load(target.id).await?.ok_or_else(missing)?;
    let suspended = suspended(name, &stage, project.as_ref());
    let told = Gates.rehearse(store, &stage, suspended, state, supposed, now).await;
    Ok(Rehearsal::new(name, told.map_err(|error| Failure::failed(error, ""))?))
}

fn print(view: &Rehearsal, format: Format, out: &mut dyn Write) -> Result<(), Failure> {
    if let Some(why) = &view.refused {
        return Err(Failure::failed(why, "nothing was asked for"));
    }
    let release = view.release.as_deref().unwrap_or_default();
    match format {
        Format::Json => output::print_value(out, view, false),
        Format::Yaml => output::print_value(out, view, true),
        Format::Name => Ok(writeln!(out, "release/{release}")?),
        Format::Table | Format::Wide => {
            let summary = output::one_line(view.summary.as_deref().unwrap_or(release));
            writeln!(out, "{summary} would come to {}; nothing was asked for", view.stage)?;
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
