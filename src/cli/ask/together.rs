//! The same asked of several stages, which begin together or not at all.

use std::{io::Write, time::Duration};

use clap::Args;
use clap_complete::ArgValueCompleter;
use jiff::Timestamp;
use serde_json::json;
use tokio::time::Instant;
use uuid::Uuid;

use super::PATIENCE;
use crate::{
    cli::{
        Context,
        completions::stages,
        failure::{Code, Failure},
        output::{self, Columns, Format, one_line},
        owner::person,
        remote::Call,
        source::Source,
    },
    domain::{
        clock::{Ids as _, SystemIds},
        group::{MOST, OnFailure},
        request::{Action, Origin, RequestState, Via},
    },
    http::api::groups::{Group, GroupMember},
    store::{NewGroup, StoreError},
};

/// Pause between looks.
const PAUSE: Duration = Duration::from_millis(700);

/// Further stages of a command.
#[derive(Args)]
pub struct TogetherArgs {
    /// More stages of the namespace: all of them begin together, or none does.
    #[arg(value_name = "STAGE", add = ArgValueCompleter::new(stages))]
    pub more: Vec<String>,
    /// What becomes of the others when one of several stages fails: `keep` leaves them, `rollback` takes them back too.
    #[arg(long, value_name = "WHAT", default_value = "keep", requires = "more")]
    pub on_failure: OnFailure,
}

/// What is asked of whom.
pub(super) struct Together<'a> {
    pub(super) stages: Vec<String>,
    pub(super) action: Action,
    pub(super) on_failure: OnFailure,
    pub(super) reason: &'a str,
    /// How long to follow their deploys, if at all.
    pub(super) wait: Option<Duration>,
    pub(super) format: Format,
}

/// Asks, tells what became of it, and follows their deploys to the end if that is wished.
///
/// # Errors
/// One of them cannot do it, so that none does, or their deploys do not end well; the exit code tells which.
pub(super) async fn ask(
    context: &Context,
    source: &Source,
    asked: Together<'_>,
    now: Timestamp,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    if asked.stages.len() > MOST {
        let many = asked.stages.len();
        return Err(Failure::usage(format!("{many} stages are too many at once"), format!("name at most {MOST}")));
    }
    let namespace = context.namespace().await?;
    let mut group = source.ask_together(&namespace, &asked, now).await?;
    let deadline = Instant::now() + PATIENCE;
    while group.state == "waiting" && group.members.iter().any(is_pending) && Instant::now() < deadline {
        tokio::time::sleep(PAUSE).await;
        group = source.group(&namespace, group.id).await?;
    }
    tell(&group, asked.format, out)?;
    if group.state == "refused" {
        return Err(Failure::Told(Code::Refused));
    }
    if group.members.iter().any(is_pending) {
        return Err(Failure::unavailable(
            format!("the operator has not acted on group {} yet", group.id),
            "it stays asked; `stagekeeper doctor` says whether the operator runs",
        ));
    }
    match asked.wait {
        Some(limit) => follow(source, &namespace, group, limit, asked.format, out).await,
        None => Ok(()),
    }
}

fn is_pending(member: &GroupMember) -> bool {
    member.request == RequestState::Pending.word()
}

/// Prints a group.
///
/// # Errors
/// Nobody reads it any more.
pub fn tell(group: &Group, format: Format, out: &mut dyn Write) -> Result<(), Failure> {
    match format {
        Format::Json => output::print_value(out, group, false),
        Format::Yaml => output::print_value(out, group, true),
        Format::Name => Ok(writeln!(out, "group/{}", group.id)?),
        Format::Table | Format::Wide => {
            let why = group.message.as_deref().map(|why| format!(": {}", one_line(why))).unwrap_or_default();
            writeln!(out, "group {} is {}{why}", group.id, group.state)?;
            let mut columns = Columns::new(&["STAGE", "REQUEST", "STATE", "MESSAGE"]);
            for member in &group.members {
                let state = member.state.map(|state| state.to_string()).unwrap_or_default();
                let message = one_line(member.message.as_deref().unwrap_or_default()).into_owned();
                columns.row([member.stage.clone(), member.request.clone(), state, message]);
            }
            Ok(write!(out, "{}", columns.render())?)
        }
    }
}

/// Tells each change until nothing of the group is under way any more.
async fn follow(
    source: &Source,
    namespace: &str,
    mut group: Group,
    limit: Duration,
    format: Format,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let deadline = Instant::now() + limit;
    let people = matches!(format, Format::Table | Format::Wide);
    loop {
        if group.state == "refused" || group.members.iter().all(|member| member.finished) {
            return ended(&group);
        }
        if Instant::now() >= deadline {
            return Err(Failure::Said {
                code: Code::TimedOut,
                what: format!("group {} is {} still", group.id, group.state),
                next: Some("it goes on; `stagekeeper why STAGE` says what each stage waits for".into()),
            });
        }
        tokio::time::sleep(PAUSE).await;
        let now = source.group(namespace, group.id).await?;
        for (before, after) in group.members.iter().zip(&now.members).filter(|_| people) {
            if let Some(state) = after.state.filter(|state| Some(*state) != before.state) {
                writeln!(out, "  {}: {state}", after.stage)?;
            }
        }
        out.flush()?;
        group = now;
    }
}

fn ended(group: &Group) -> Result<(), Failure> {
    let code = match group.state.as_str() {
        "succeeded" => return Ok(()),
        "refused" => Code::Stopped,
        _ => Code::DeployFailed,
    };
    let why = group.message.as_deref().map(one_line).unwrap_or_default();
    Err(Failure::Said { code, what: format!("it ended {}: {why}", group.state), next: None })
}

impl Source {
    /// A group of stages.
    ///
    /// # Errors
    /// There is none in this namespace.
    pub async fn group(&self, namespace: &str, id: Uuid) -> Result<Group, Failure> {
        match self {
            Self::Api(remote) => {
                let name = id.to_string();
                let path = ["namespaces", namespace, "groups", &name];
                remote.get(Call::new(&path, format!("group {id} in namespace {namespace}"))).await
            }
            Self::Database(store) => {
                let found = store.group_get(id).await?.filter(|found| found.namespace == namespace);
                Ok(found.ok_or_else(|| StoreError::NotFound { what: "group", id: id.to_string() })?.into())
            }
        }
    }

    async fn ask_together(&self, namespace: &str, asked: &Together<'_>, now: Timestamp) -> Result<Group, Failure> {
        let Together { stages, action, on_failure, reason, .. } = asked;
        match self {
            Self::Api(remote) => {
                // Words and numbers: this cannot fail.
                let mut body = serde_json::to_value(action).unwrap_or_default();
                body["stages"] = json!(stages);
                body["onFailure"] = json!(on_failure.word());
                if !reason.is_empty() {
                    body["reason"] = json!(reason);
                }
                let about = format!("one of the stages {} in namespace {namespace}", stages.join(", "));
                remote.post(Call::new(&["namespaces", namespace, "groups"], about), &body).await
            }
            Self::Database(store) => {
                let new = NewGroup {
                    id: SystemIds.next(),
                    namespace: namespace.to_owned(),
                    action: action.clone(),
                    on_failure: *on_failure,
                    actor: person(),
                    groups: Vec::new(),
                    reason: (*reason).to_owned(),
                    origin: Origin { via: Via::Cli, verified: false, source: None, request_id: None },
                    stages: stages.iter().map(|stage| (stage.clone(), SystemIds.next())).collect(),
                    at: now,
                };
                store.group_create(&new).await?;
                self.group(namespace, new.id).await
            }
        }
    }
}
