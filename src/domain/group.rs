//! Group actions: what is asked of several stages at once. Their deploys leave pending together or not at all; what becomes
//! of the others when one fails after that is declared with the request. Pure.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{deploy::State, request::RequestState};

/// Most stages of one group: they begin in one transaction.
pub const MOST: usize = 20;

/// How a sentence begins that says that a group cannot begin; what follows is the reason, once for all its members.
const BROKEN: &str = "its group cannot begin: ";

/// What becomes of the others when a deploy of a group does not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OnFailure {
    /// Nothing: each stage ends on its own.
    #[default]
    Keep,
    /// Those that run are stopped, and those that succeeded go back to what served before.
    Rollback,
}

impl OnFailure {
    /// The word in SQL, JSON and on the command line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Rollback => "rollback",
        }
    }
}

impl fmt::Display for OnFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for OnFailure {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let all = [Self::Keep, Self::Rollback];
        let found = all.into_iter().find(|one| one.word() == word);
        found.ok_or_else(|| format!("`{word}` is no answer to a failure: write `keep` or `rollback`"))
    }
}

/// One stage of a group, as far as it has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Name of the stage.
    pub stage: String,
    /// The stage was deleted.
    pub gone: bool,
    /// Whether the leader has taken up what was asked of it.
    pub request: RequestState,
    /// What became of that, in one sentence.
    pub message: Option<String>,
    /// The deploy that came of it.
    pub deploy: Option<MemberDeploy>,
}

/// The deploy of one stage of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberDeploy {
    /// Its row.
    pub id: Uuid,
    /// How far it is.
    pub state: State,
    /// Why it did not succeed, in one sentence.
    pub message: Option<String>,
    /// Nothing more will happen to it.
    pub finished: bool,
    /// A later deploy goes back from it.
    pub undone: bool,
}

/// How far a group has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Not all of them can begin yet.
    Forming,
    /// They cannot begin together any more, and so none of them does; the sentence says why.
    Broken(String),
    /// They have begun, and nothing has failed so far.
    Begun,
    /// They have begun, and one of them did not succeed; the sentence says which.
    Failed(String),
    /// All of them have succeeded.
    Over,
}

/// How far a group has come, by its members. `begun`: they have left pending.
pub fn phase(members: &[Member], begun: bool) -> Phase {
    if !begun {
        return members.iter().find_map(broken).map_or(Phase::Forming, Phase::Broken);
    }
    if let Some(why) = members.iter().find_map(failed) {
        return Phase::Failed(why);
    }
    let succeeded = |member: &Member| member.deploy.as_ref().is_none_or(|deploy| deploy.state == State::Success);
    if members.iter().all(succeeded) { Phase::Over } else { Phase::Begun }
}

/// What a member is told when its group cannot begin.
pub fn told(why: &str) -> String {
    format!("{BROKEN}{why}")
}

/// Why a group cannot begin because of this member.
fn broken(member: &Member) -> Option<String> {
    let Member { stage, gone, request, message, deploy } = member;
    if *gone {
        return Some(format!("stage {stage} was deleted"));
    }
    match (request, deploy) {
        (RequestState::Pending, _) => None,
        (RequestState::Refused, _) => {
            let why = message.as_deref().unwrap_or("what was asked was refused");
            Some(why.strip_prefix(BROKEN).map_or_else(|| format!("{stage}: {why}"), Into::into))
        }
        (RequestState::Done, None) => Some(format!("{stage}: its deploy is not there any more")),
        (RequestState::Done, Some(deploy)) => (deploy.state != State::Pending).then(|| ended(stage, deploy)),
    }
}

/// How this member did not succeed.
fn failed(member: &Member) -> Option<String> {
    let deploy = member.deploy.as_ref()?;
    let bad = matches!(deploy.state, State::Failed | State::RolledBack | State::Aborted | State::Superseded);
    bad.then(|| ended(&member.stage, deploy))
}

fn ended(stage: &str, deploy: &MemberDeploy) -> String {
    if let Some(why) = deploy.message.as_deref().and_then(|message| message.strip_prefix(BROKEN)) {
        return why.to_owned();
    }
    let why = deploy.message.as_ref().map_or_else(String::new, |message| format!(": {message}"));
    format!("{stage} is {}{why}", deploy.state)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn member(stage: &str, request: RequestState, deploy: Option<State>) -> Member {
        let deploy = deploy.map(|state| MemberDeploy {
            id: Uuid::nil(),
            state,
            message: None,
            finished: state.is_terminal(),
            undone: false,
        });
        Member { stage: stage.into(), gone: false, request, message: None, deploy }
    }

    fn done(stage: &str, state: State) -> Member {
        member(stage, RequestState::Done, Some(state))
    }

    #[test]
    fn a_group_forms_until_something_breaks_it() {
        let (waits, asked) = (done("eu", State::Pending), member("us", RequestState::Pending, None));
        assert_eq!(phase(&[waits.clone(), asked.clone()], false), Phase::Forming);
        let refused =
            Member { message: Some("web 1.0.0 serves already".into()), ..member("us", RequestState::Refused, None) };
        let gone = Member { gone: true, ..asked };
        let stopped = done("us", State::Aborted);
        let lost = member("us", RequestState::Done, None);
        for (other, why) in [
            (refused, "us: web 1.0.0 serves already"),
            (gone, "stage us was deleted"),
            (stopped, "us is aborted"),
            (lost, "us: its deploy is not there any more"),
        ] {
            assert_eq!(phase(&[waits.clone(), other], false), Phase::Broken(why.into()));
        }
    }

    #[test]
    fn what_broke_a_group_is_told_once_whoever_is_asked() {
        let why = "us: web 1.0.0 serves already";
        let first =
            Member { message: Some("web 1.0.0 serves already".into()), ..member("us", RequestState::Refused, None) };
        let refused = Member { message: Some(told(why)), ..member("eu", RequestState::Refused, None) };
        let mut stopped = done("ap", State::Aborted);
        stopped.deploy.as_mut().unwrap().message = Some(told(why));
        for members in [[&first, &refused, &stopped], [&stopped, &first, &refused], [&refused, &stopped, &first]] {
            assert_eq!(phase(&members.map(Clone::clone), false), Phase::Broken(why.into()));
        }
    }

    #[test]
    fn a_group_that_has_begun_fails_with_the_first_of_its_members() {
        let (runs, good) = (done("eu", State::Starting), done("us", State::Success));
        assert_eq!(phase(&[runs.clone(), good.clone()], true), Phase::Begun);
        assert_eq!(phase(&[good.clone(), done("eu", State::Success)], true), Phase::Over);
        let failed = Member {
            deploy: Some(MemberDeploy {
                id: Uuid::nil(),
                state: State::RolledBack,
                message: Some("GET /healthz answers 500".into()),
                finished: true,
                undone: false,
            }),
            ..done("ap", State::Pending)
        };
        let why = "ap is rolled_back: GET /healthz answers 500";
        assert_eq!(phase(&[runs, failed, good], true), Phase::Failed(why.into()));
    }

    fn any_state() -> impl Strategy<Value = State> {
        proptest::sample::select(State::ALL.to_vec())
    }

    proptest! {
        /// Only a group of which every member waits is one that can begin; nothing else is taken for it.
        #[test]
        fn only_what_waits_everywhere_forms(states in prop::collection::vec(any_state(), 2..6)) {
            let members: Vec<Member> = states.iter().map(|state| done("s", *state)).collect();
            let forms = states.iter().all(|state| *state == State::Pending);
            prop_assert_eq!(phase(&members, false) == Phase::Forming, forms);
        }

        /// A group is over exactly if all succeeded, and failed exactly if one did not and ended, in whatever order.
        #[test]
        fn the_order_of_members_does_not_matter(states in prop::collection::vec(any_state(), 2..6)) {
            let members: Vec<Member> = states.iter().map(|state| done("s", *state)).collect();
            let turned: Vec<Member> = members.iter().rev().cloned().collect();
            let kind = |phase: &Phase| std::mem::discriminant(phase);
            prop_assert_eq!(kind(&phase(&members, true)), kind(&phase(&turned, true)));
            let all_good = states.iter().all(|state| *state == State::Success);
            prop_assert_eq!(phase(&members, true) == Phase::Over, all_good);
        }
    }
}
