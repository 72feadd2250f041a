//! Names that are there now: of stages and of deploys. Whatever stands in the way, nothing is said of it and nothing offered.

use std::{ffi::OsStr, time::Duration};

use clap::parser::ValueSource;
use clap_complete::CompletionCandidate;
use jiff::Timestamp;
use kube::{Api, api::ListParams};

use crate::{
    api::Stage,
    cli::{
        Context, command,
        failure::Failure,
        remote::{Call, Remote, ServerArgs},
        source::{Flags, Source, scoped},
    },
    config::settings::{ClusterArgs, DatabaseArgs},
    domain::clock::{Clock as _, SystemClock},
    http::api::{cursor::Page, stages::StageBrief, views::Deploy},
    store::HistoryFilter,
};

/// Who presses a key waits no longer.
const PATIENCE: Duration = Duration::from_millis(1500);

/// Names that are looked at.
const MOST: i64 = 200;

/// Stages of the namespace that is meant.
pub fn stages(current: &OsStr) -> Vec<CompletionCandidate> {
    let found = asked(async |context, database| stage_names(&context, &database).await);
    let found = found.into_iter().map(|name| (name, None));
    offered(found, current)
}

/// Deploys of the namespace that is meant, the newest first.
pub fn deploys(current: &OsStr) -> Vec<CompletionCandidate> {
    let found = asked(async |context, database| recent(&context, &database, SystemClock.now()).await);
    let found = found.into_iter().map(|(id, about)| (id, Some(about)));
    offered(found, current)
}

fn offered(found: impl Iterator<Item = (String, Option<String>)>, current: &OsStr) -> Vec<CompletionCandidate> {
    let Some(begun) = current.to_str() else { return Vec::new() };
    let fits = found.filter(|(name, _)| name.starts_with(begun));
    let candidate = |(at, (name, about)): (usize, (String, Option<String>))| {
        CompletionCandidate::new(name).help(about.map(Into::into)).display_order(Some(at))
    };
    fits.enumerate().map(candidate).collect()
}

/// Asks with what the command line says so far, and for a moment only.
fn asked<T>(ask: impl AsyncFnOnce(Context, DatabaseArgs) -> Result<Vec<T>, Failure>) -> Vec<T> {
    let words: Vec<String> = std::env::args_os()
        .skip_while(|word| word != "--")
        .skip(2)
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let (context, database) = said(&words);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else { return Vec::new() };
    let found = runtime.block_on(async { tokio::time::timeout(PATIENCE, ask(context, database)).await });
    runtime.shutdown_background();
    found.ok().and_then(Result::ok).unwrap_or_default()
}

/// What a line that is not finished says of where to ask: flags with their values, wherever they stand.
fn said(words: &[String]) -> (Context, DatabaseArgs) {
    let value = |long: &str, short: Option<&str>| {
        let mut found = None;
        let mut rest = words.iter();
        while let Some(word) = rest.next() {
            if word == long || short.is_some_and(|short| word == short) {
                found = rest.next().cloned();
            } else if let Some(value) = word.strip_prefix(long).and_then(|rest| rest.strip_prefix('=')) {
                found = Some(value.to_owned());
            }
        }
        found
    };
    // The grammar knows which variable stands for which flag.
    let matches = command(None).ignore_errors(true).try_get_matches_from(["stagekeeper"]).ok();
    let of_environment = |id: &str| {
        let matches = matches.as_ref()?;
        let is_set = matches.try_contains_id(id).ok()? && matches.value_source(id) == Some(ValueSource::EnvVariable);
        is_set.then(|| matches.get_raw(id)?.next()?.to_str().map(str::to_owned)).flatten()
    };
    let flag = |long: &str, id: &str| value(long, None).or_else(|| of_environment(id));
    let by_flag = |long: &str| value(long, None).is_some();
    let server = ServerArgs {
        server: flag("--server", "server"),
        server_ca: flag("--server-ca", "server_ca").map(Into::into),
        operator_namespace: flag("--operator-namespace", "operator_namespace"),
        token_file: flag("--token-file", "token_file").map(Into::into),
        as_service_account: flag("--as-service-account", "as_service_account"),
        audience: flag("--audience", "audience"),
    };
    let cluster =
        ClusterArgs { kubeconfig: value("--kubeconfig", None).map(Into::into), context: value("--context", None) };
    let database_url = value("--database-url", None).or_else(|| std::env::var("DATABASE_URL").ok());
    let flags = Flags {
        api: ["--server", "--operator-namespace", "--token-file", "--as-service-account"].into_iter().any(by_flag),
        database: by_flag("--database-url"),
    };
    let context = Context { cluster, server, namespace: value("--namespace", Some("-n")), flags };
    (context, DatabaseArgs { database_url })
}

async fn stage_names(context: &Context, database: &DatabaseArgs) -> Result<Vec<String>, Failure> {
    let namespace = context.namespace().await?;
    if context.server.server.is_none() && !context.flags.database && database.database_url.is_none() {
        // The cluster knows them too, and is asked in one step.
        let client = Context::client(context.cluster_config().await?)?;
        let some = ListParams::default().limit(u32::try_from(MOST).unwrap_or(u32::MAX));
        let listed = Api::<Stage>::namespaced(client, &namespace).list_metadata(&some).await;
        let listed = listed.map_err(|error| Failure::unavailable(error.to_string(), ""))?;
        return Ok(listed.items.into_iter().filter_map(|stage| stage.metadata.name).collect());
    }
    match context.source(database).await? {
        Source::Database(store) => {
            let stages = store.stages_list(&namespace, None, None, MOST).await?;
            Ok(stages.into_iter().map(|stage| stage.name).collect())
        }
        Source::Api(remote) => {
            let path = scoped(Some(&namespace), &["stages"]);
            let page: Page<StageBrief> = remote.get(Call::new(&path, "stages").with("limit", MOST)).await?;
            Ok(page.items.into_iter().map(|stage| stage.name).collect())
        }
    }
}

async fn recent(context: &Context, database: &DatabaseArgs, now: Timestamp) -> Result<Vec<(String, String)>, Failure> {
    let namespace = context.namespace().await?;
    let deploys = match context.source(database).await? {
        Source::Database(store) => {
            let filter = HistoryFilter { namespace: Some(namespace), limit: MOST, ..HistoryFilter::default() };
            let page = store.history_list(&filter).await?;
            page.entries.iter().map(|entry| Deploy::new(entry, now)).collect()
        }
        Source::Api(remote) => newest(&remote, &namespace).await?,
    };
    let about = |deploy: Deploy| {
        let about = format!("{}/{} {}: {}", deploy.project, deploy.stage, deploy.brief.summary, deploy.brief.state);
        (deploy.brief.id.to_string(), about)
    };
    Ok(deploys.into_iter().map(about).collect())
}

async fn newest(remote: &Remote, namespace: &str) -> Result<Vec<Deploy>, Failure> {
    let path = scoped(Some(namespace), &["deploys"]);
    let page: Page<Deploy> = remote.get(Call::new(&path, "deploys").with("limit", MOST)).await?;
    Ok(page.items)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unfinished_line_says_where_to_ask() {
        let words: Vec<String> =
            "promote -n shop --server=https://x --context c --database-url".split(' ').map(str::to_owned).collect();
        let (context, _) = said(&words);
        assert_eq!(context.namespace.as_deref(), Some("shop"));
        assert_eq!(context.server.server.as_deref(), Some("https://x"));
        assert_eq!(context.cluster.context.as_deref(), Some("c"));
        assert!(context.flags.api && !context.flags.database);
    }

    #[test]
    fn only_what_fits_is_offered_in_its_order() {
        let found = ["staging", "dev", "stable"].map(|name| (name.to_owned(), None));
        let offered = offered(found.into_iter(), OsStr::new("sta"));
        let names: Vec<_> = offered.iter().map(CompletionCandidate::get_value).collect();
        assert_eq!(names, ["staging", "stable"]);
    }
}
