//! `stagekeeper promote|rollback|approve|abort|retry|hold|resume|veto|unveto STAGE`: asks something of a stage, tells what
//! became of it, and with `--wait` how the deploy ends.

mod dry;
pub mod together;
mod wait;

use std::{io::Write, str::FromStr, time::Duration};

use clap::{Args, Subcommand};
use clap_complete::ArgValueCompleter;
use jiff::{Span, Timestamp, ToSpan as _, tz::TimeZone};
use serde::Serialize;
use tokio::time::Instant;
use uuid::Uuid;

use self::together::{Together, TogetherArgs};
use super::{
    Context,
    completions::{deploys, stages},
    failure::{Code, Failure},
    output::{self, Format, one_line},
    owner::person,
    remote::{Call, Remote},
    source::Source,
};
use crate::{
    config::settings::DatabaseArgs,
    domain::{
        clock::{Ids as _, SystemIds},
        request::{Action, Destination, Origin, RequestState, Via},
    },
    http::api::{rehearsal::Supposed, requests::Request},
    store::{Asked, NewRequest},
};

/// How long the operator gets to act on a request before the command goes on without it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Pause between looks where the server does not wait.
const PAUSE: Duration = Duration::from_secs(1);

/// What every one of these commands takes.
#[derive(Args)]
pub struct AskArgs {
    /// The stage.
    #[arg(value_name = "STAGE", add = ArgValueCompleter::new(stages))]
    stage: String,
    /// Why: it stays in the history and the audit log.
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// Wait until the deploy has ended, telling how far it is. The exit code says how it ended.
    #[arg(short, long)]
    wait: bool,
    /// The longest wait, such as `10m`.
    #[arg(long, value_name = "TIME", default_value = "30m", value_parser = span)]
    timeout: Span,
    /// Form of the output.
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    output: Format,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// What is asked.
#[derive(Subcommand)]
pub enum Ask {
    /// Bring a release to a stage that the stages before it have proven, or to several as one.
    Promote {
        #[command(flatten)]
        ask: AskArgs,
        #[command(flatten)]
        together: TogetherArgs,
        /// The release: its hash, or at least eight digits of it. Left out, the newest that may come.
        #[arg(long, value_name = "HASH")]
        release: Option<String>,
        /// The stage that it comes from, where there are several.
        #[arg(long, value_name = "STAGE", add = ArgValueCompleter::new(stages))]
        from: Option<String>,
        /// Pass over soak, approvals and windows; needs --reason.
        #[arg(long)]
        emergency: bool,
        /// Only tell what each gate would say of it.
        #[arg(long)]
        dry_run: bool,
    },
    /// Start again what a stage ran before, exactly as it was, and hold it; or what several did, as one.
    Rollback {
        #[command(flatten)]
        ask: AskArgs,
        #[command(flatten)]
        together: TogetherArgs,
        /// `previous`, the id of a deploy, or `last-good-before TIME` as in `last-good-before=2026-01-31T12:00:00Z`.
        #[arg(long, value_name = "WHERE", default_value = "previous", add = ArgValueCompleter::new(deploys))]
        to: String,
    },
    /// Agree that a release comes to a stage.
    Approve {
        #[command(flatten)]
        ask: AskArgs,
        /// The release: its hash, or the beginning of it. Left out, the one that waits.
        #[arg(long, value_name = "HASH")]
        release: Option<String>,
    },
    /// Stop the deploy that runs, or else the one that waits.
    Abort {
        #[command(flatten)]
        ask: AskArgs,
        /// Only this deploy.
        #[arg(long, value_name = "ID", add = ArgValueCompleter::new(deploys))]
        deploy: Option<String>,
    },
    /// Try a failed deploy again, with what it was rendered from.
    Retry {
        #[command(flatten)]
        ask: AskArgs,
        /// Which one. Left out, the last that failed.
        #[arg(long, value_name = "ID", add = ArgValueCompleter::new(deploys))]
        deploy: Option<String>,
    },
    /// Let no policy bring anything to a stage; needs --reason.
    Hold {
        #[command(flatten)]
        ask: AskArgs,
        /// Whose hold it is; each owner has one. Left out, yours.
        #[arg(long, value_name = "NAME")]
        owner: Option<String>,
        /// Until when: a time such as `2026-01-31T12:00:00Z`, or from now, such as `4h`.
        #[arg(long, value_name = "TIME")]
        until: Option<String>,
    },
    /// End the holds of a stage: policies go on.
    Resume {
        #[command(flatten)]
        ask: AskArgs,
        /// Only the hold of this owner.
        #[arg(long, value_name = "NAME")]
        owner: Option<String>,
    },
    /// Keep a release from coming to a stage by itself; needs --reason.
    Veto {
        #[command(flatten)]
        ask: AskArgs,
        /// The release: its hash, or the beginning of it. Left out, the one that waits.
        #[arg(long, value_name = "HASH")]
        release: Option<String>,
    },
    /// Let a vetoed release come again.
    Unveto {
        #[command(flatten)]
        ask: AskArgs,
        /// The release: its hash, or the beginning of it.
        #[arg(long, value_name = "HASH")]
        release: String,
    },
}

/// Asks, and tells what became of it.
///
/// # Errors
/// There is no such stage, the request is refused, or the deploy did not end well; the exit code tells which.
pub async fn ask(context: &Context, asked: &Ask, now: Timestamp, out: &mut dyn Write) -> Result<(), Failure> {
    let arguments = asked.arguments();
    let source = context.source(&arguments.database).await?;
    if let Ask::Promote { release, from, emergency, dry_run: true, .. } = asked {
        for stage in asked.stages() {
            let supposed =
                Supposed { release: release.clone(), from: from.clone(), emergency: *emergency, actor: person() };
            dry::rehearse(context, &source, stage, supposed, arguments.output, now, out).await?;
        }
        return Ok(());
    }
    let action = asked.action(&source, now).await?;
    if action.needs_reason() && arguments.reason.trim().is_empty() {
        let word = action.word();
        return Err(Failure::usage(
            format!("{word} needs a reason"),
            "say why with --reason TEXT: others will read it",
        ));
    }
    let limit =
        Duration::try_from(arguments.timeout.to_duration(now.to_zoned(TimeZone::UTC).date()).unwrap_or_default());
    let limit = limit.unwrap_or_default();
    if let Some(together) = asked.together().filter(|together| !together.more.is_empty()) {
        let together = Together {
            stages: asked.stages().into_iter().map(Into::into).collect(),
            action,
            on_failure: together.on_failure,
            reason: &arguments.reason,
            wait: arguments.wait.then_some(limit),
            format: arguments.output,
        };
        return together::ask(context, &source, together, now, out).await;
    }
    let namespace = context.namespace().await?;
    let settled = source.ask("stages", (&namespace, &arguments.stage), action, &arguments.reason, now).await?;
    tell(&settled, arguments.output, out)?;
    let id = settled.id;
    match (settled.state, settled.deploy) {
        (RequestState::Refused, _) => Err(Failure::Told(Code::Refused)),
        (RequestState::Done, Some(deploy)) if arguments.wait => {
            wait::until_ended(&source, deploy, limit, arguments.output, out).await
        }
        (RequestState::Done, _) => Ok(()),
        (RequestState::Pending, _) => Err(Failure::unavailable(
            format!("the operator has not acted on request {id} yet"),
            "it stays asked; `stagekeeper doctor` says whether the operator runs",
        )),
    }
}

/// Prints what became of a request.
pub(super) fn tell(view: &RequestView, format: Format, out: &mut dyn Write) -> Result<(), Failure> {
    match format {
        Format::Json => output::print_value(out, view, false),
        Format::Yaml => output::print_value(out, view, true),
        Format::Name => {
            let name = view.deploy.map(|deploy| format!("deploy/{deploy}"));
            Ok(writeln!(out, "{}", name.unwrap_or_else(|| format!("request/{}", view.id)))?)
        }
        Format::Table | Format::Wide => {
            let message = one_line(view.message.as_deref().unwrap_or("it waits for the operator"));
            Ok(writeln!(out, "{} of {}/{}: {}: {message}", view.action, view.namespace, view.stage, view.state)?)
        }
    }
}

/// A request as scripts see it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RequestView {
    id: Uuid,
    namespace: String,
    stage: String,
    action: String,
    actor: String,
    reason: String,
    state: RequestState,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deploy: Option<Uuid>,
    at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    settled_at: Option<Timestamp>,
}

impl RequestView {
    /// How far it has come.
    pub(super) fn state(&self) -> RequestState {
        self.state
    }
}

impl TryFrom<Request> for RequestView {
    type Error = Failure;

    fn try_from(request: Request) -> Result<Self, Failure> {
        let Request { id, namespace, stage, action, actor, reason, state, message, deploy, at, settled_at, .. } =
            request;
        let state = state.parse().map_err(|_| {
            Failure::failed(
                format!("the request is `{state}`, which this version does not know"),
                "use the operator's version",
            )
        })?;
        let action = action["action"].as_str().unwrap_or_default().to_owned();
        Ok(Self { id, namespace, stage, action, actor, reason, state, message, deploy, at, settled_at })
    }
}

impl Source {
    /// Asks, and gives the operator a while to act on it.
    pub(super) async fn ask(
        &self,
        kind: &str,
        (namespace, stage): (&str, &str),
        action: Action,
        reason: &str,
        now: Timestamp,
    ) -> Result<RequestView, Failure> {
        let request = match self {
            Self::Api(remote) => asked_through(remote, kind, (namespace, stage), &action, reason).await?,
            Self::Database(store) => {
                let new = NewRequest {
                    id: SystemIds.next(),
                    namespace: namespace.to_owned(),
                    stage: stage.to_owned(),
                    action,
                    actor: person(),
                    groups: Vec::new(),
                    reason: reason.to_owned(),
                    origin: Origin { via: Via::Cli, verified: false, source: None, request_id: None },
                    idempotency_key: None,
                    group: None,
                    at: now,
                };
                let id = match store.request_create(&new).await? {
                    Asked::Made(made) | Asked::Repeated(made) => made.id,
                    Asked::Reused => return Err(Failure::failed("the request's id was used before", "try again")),
                };
                store.request_settled(id, PATIENCE).await?.into()
            }
        };
        request.try_into()
    }
}

/// Asks through the API, which makes sure of who asks.
async fn asked_through(
    remote: &Remote,
    kind: &str,
    (namespace, stage): (&str, &str),
    action: &Action,
    reason: &str,
) -> Result<Request, Failure> {
    // Words and numbers: this cannot fail.
    let mut body = serde_json::to_value(action).unwrap_or_default();
    if !reason.is_empty() {
        body["reason"] = reason.into();
    }
    let about = format!("{} {stage} in namespace {namespace}", kind.trim_end_matches('s'));
    let path = ["namespaces", namespace, kind, stage, "requests"];
    let call = Call::new(&path, &about).with("wait", PATIENCE.as_secs());
    let mut request: Request = remote.post(call, &body).await?;
    let deadline = Instant::now() + PATIENCE;
    // A server where many wait answers without waiting.
    while request.state == RequestState::Pending.word() && Instant::now() < deadline {
        tokio::time::sleep(PAUSE).await;
        let id = request.id.to_string();
        let path = ["namespaces", namespace, "requests", &id];
        request = remote.get(Call::new(&path, &about).with("wait", PAUSE.as_secs())).await?;
    }
    Ok(request)
}

impl Ask {
    fn arguments(&self) -> &AskArgs {
        match self {
            Self::Promote { ask, .. }
            | Self::Rollback { ask, .. }
            | Self::Approve { ask, .. }
            | Self::Abort { ask, .. }
            | Self::Retry { ask, .. }
            | Self::Hold { ask, .. }
            | Self::Resume { ask, .. }
            | Self::Veto { ask, .. }
            | Self::Unveto { ask, .. } => ask,
        }
    }

    /// Every stage that it is asked of, each once.
    fn stages(&self) -> Vec<&str> {
        let more = self.together().into_iter().flat_map(|together| &together.more);
        let mut all = vec![self.arguments().stage.as_str()];
        for stage in more {
            if !all.contains(&stage.as_str()) {
                all.push(stage);
            }
        }
        all
    }

    fn together(&self) -> Option<&TogetherArgs> {
        match self {
            Self::Promote { together, .. } | Self::Rollback { together, .. } => Some(together),
            _ => None,
        }
    }

    async fn action(&self, source: &Source, now: Timestamp) -> Result<Action, Failure> {
        Ok(match self {
            Self::Promote { release, from, emergency, .. } => {
                Action::Promote { release: release.clone(), from: from.clone(), emergency: *emergency }
            }
            Self::Rollback { to, .. } => Action::Rollback { to: destination(source, to).await? },
            Self::Approve { release, .. } => Action::Approve { release: release.clone() },
            Self::Abort { deploy, .. } => Action::Abort { deploy: deploy_of(source, deploy.as_deref()).await? },
            Self::Retry { deploy, .. } => Action::Retry { deploy: deploy_of(source, deploy.as_deref()).await? },
            Self::Hold { owner, until, .. } => {
                let until = until.as_deref().map(|text| instant(text, now)).transpose()?;
                Action::Hold { owner: owner.clone(), until }
            }
            Self::Resume { owner, .. } => Action::Resume { owner: owner.clone() },
            Self::Veto { release, .. } => Action::Veto { release: release.clone() },
            Self::Unveto { release, .. } => Action::Unveto { release: release.clone() },
        })
    }
}

async fn deploy_of(source: &Source, name: Option<&str>) -> Result<Option<Uuid>, Failure> {
    match name {
        Some(name) => source.deploy_named(name).await.map(Some),
        None => Ok(None),
    }
}

async fn destination(source: &Source, to: &str) -> Result<Destination, Failure> {
    if to == "previous" {
        return Ok(Destination::Previous);
    }
    match to.strip_prefix("last-good-before=") {
        Some(text) => text.parse().map(Destination::LastGoodBefore).map_err(|error| {
            Failure::usage(format!("--to: `{text}` is not a time: {error}"), "write it as 2026-01-31T12:00:00Z")
        }),
        None => source.deploy_named(to).await.map(Destination::Deploy),
    }
}

/// A time, or a span from now.
pub(super) fn instant(text: &str, now: Timestamp) -> Result<Timestamp, Failure> {
    if let Ok(at) = text.parse() {
        return Ok(at);
    }
    let wrong = || {
        Failure::usage(
            format!("--until: `{text}` is neither a time nor a span"),
            "write it as 2026-01-31T12:00:00Z, or as 4h",
        )
    };
    let span = Span::from_str(text).map_err(|_| wrong())?;
    now.to_zoned(TimeZone::UTC).checked_add(span).map(|at| at.timestamp()).map_err(|_| wrong())
}

fn span(text: &str) -> Result<Span, String> {
    let span = Span::from_str(text).map_err(|_| "expected a span such as 10m or 1h30m".to_owned())?;
    if span.is_negative() || span == 0.seconds().fieldwise() {
        Err("expected more than nothing".into())
    } else {
        Ok(span)
    }
}
