//! Which pull requests get an environment.

use std::fmt;

use super::{Provider, PullRequest};

/// What becomes of pull requests from other repositories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Forks {
    /// They get no environment.
    Never,
    /// They get one, without secrets, with this label.
    Label(String),
}

/// Which pull requests of a repository get an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gate {
    /// Whose they are.
    pub provider: Provider,
    /// Only those with this label.
    pub label: Option<String>,
    /// Only those that want to go into one of these branches; none stands for any. `*` stands for any characters.
    pub branches: Vec<String>,
    /// What becomes of those from other repositories.
    pub forks: Forks,
}

/// Why a pull request gets no environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused<'a> {
    /// It is not open.
    Closed,
    /// It has not the label.
    Label(&'a str),
    /// It wants to go into another branch.
    Branch,
    /// It comes from another repository, and those get none.
    Fork,
    /// It comes from another repository, and has not the label for that.
    ForkLabel(&'a str),
    /// It has the label for pull requests from other repositories, and nobody knows that anybody but its author set it.
    ForkLabelUnproven(&'a str),
}

impl fmt::Display for Refused<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("it is not open"),
            Self::Label(label) => write!(f, "it has not the label {label}"),
            Self::Branch => f.write_str("it wants to go into a branch that spec.previews.branches does not name"),
            Self::Fork => f.write_str("it comes from a fork, and spec.previews.forks is Never"),
            Self::ForkLabel(label) => write!(f, "it comes from a fork, and has not the label {label}"),
            Self::ForkLabelUnproven(label) => {
                write!(f, "it comes from a fork, and its label {label} may have been set by its author")
            }
        }
    }
}

impl Gate {
    /// Whether a pull request gets an environment.
    ///
    /// # Errors
    /// Why not.
    pub fn admit(&self, pull_request: &PullRequest) -> Result<(), Refused<'_>> {
        if !pull_request.state.is_open() {
            return Err(Refused::Closed);
        }
        if pull_request.fork {
            let Forks::Label(label) = &self.forks else { return Err(Refused::Fork) };
            if !pull_request.labels.contains(label) {
                return Err(Refused::ForkLabel(label));
            }
            if !self.provider.labels_are_for_maintainers() && !pull_request.vouched.contains(label) {
                return Err(Refused::ForkLabelUnproven(label));
            }
        }
        if let Some(label) = self.label.as_ref().filter(|label| !pull_request.labels.contains(*label)) {
            return Err(Refused::Label(label));
        }
        let named = self.branches.iter().any(|pattern| covers(pattern, &pull_request.target));
        if named || self.branches.is_empty() { Ok(()) } else { Err(Refused::Branch) }
    }
}

/// Whether a pattern, in which `*` stands for any characters, covers a text.
fn covers(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let parts: Vec<&str> = rest.split('*').collect();
    let Some((last, between)) = parts.split_last() else { return true };
    for part in between {
        // The first place is as good as any later one: what follows has more room.
        let Some(at) = text.find(part) else { return false };
        text = &text[at + part.len()..];
    }
    text.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{PullState, laws::pull_request},
        *,
    };

    fn gate() -> Gate {
        Gate { provider: Provider::GitHub, label: None, branches: Vec::new(), forks: Forks::Never }
    }

    fn labelled(labels: &[&str]) -> PullRequest {
        PullRequest { labels: labels.iter().map(|label| (*label).to_owned()).collect(), ..pull_request(7, 1) }
    }

    #[test]
    fn patterns_of_branches_know_one_wildcard() {
        for (pattern, text, want) in [
            ("main", "main", true),
            ("main", "main2", false),
            ("main", "a/main", false),
            ("*", "", true),
            ("*", "a/b", true),
            ("release/*", "release/1/2", true),
            ("release/*", "release", false),
            ("*-stable", "v1-stable", true),
            ("*-stable", "v1-stable2", false),
            ("a*b*c", "abc", true),
            ("a*b*c", "aXbXbXc", true),
            ("a*b*c", "acb", false),
            ("ab*ba", "aba", false),
            ("a**a", "aa", true),
            ("v?", "v1", false),
            ("[ab]", "a", false),
            ("é*", "écu", true),
        ] {
            assert_eq!(covers(pattern, text), want, "{pattern} {text}");
        }
    }

    #[test]
    fn label_branch_and_state_are_asked_for() {
        let one = labelled(&["preview"]);
        assert_eq!(gate().admit(&one), Ok(()));
        let gate = Gate { label: Some("preview".into()), branches: vec!["main".into(), "release/*".into()], ..gate() };
        assert_eq!(gate.admit(&one), Ok(()));
        assert_eq!(gate.admit(&labelled(&["Preview", "previews"])), Err(Refused::Label("preview")));
        assert_eq!(gate.admit(&PullRequest { target: "dev".into(), ..one.clone() }), Err(Refused::Branch));
        assert_eq!(gate.admit(&PullRequest { target: "release/2".into(), ..one.clone() }), Ok(()));
        for state in [PullState::Closed, PullState::Merged] {
            assert_eq!(gate.admit(&PullRequest { state, ..one.clone() }), Err(Refused::Closed));
        }
    }

    #[test]
    fn a_fork_without_the_label_gets_nothing() {
        let fork = PullRequest { fork: true, ..labelled(&["preview"]) };
        assert_eq!(gate().admit(&fork), Err(Refused::Fork));
        let gate = Gate { label: Some("preview".into()), forks: Forks::Label("safe".into()), ..gate() };
        assert_eq!(gate.admit(&fork), Err(Refused::ForkLabel("safe")));
        let fork = PullRequest { fork: true, ..labelled(&["preview", "safe"]) };
        assert_eq!(gate.admit(&fork), Ok(()));
        assert_eq!(gate.admit(&PullRequest { fork: true, ..labelled(&["safe"]) }), Err(Refused::Label("preview")));
    }

    #[test]
    fn a_label_of_the_forks_author_does_not_count() {
        let gate = Gate { provider: Provider::Gitea, forks: Forks::Label("safe".into()), ..gate() };
        let mut fork = PullRequest { fork: true, ..labelled(&["safe"]) };
        assert_eq!(gate.admit(&fork), Err(Refused::ForkLabelUnproven("safe")));
        fork.vouched.insert("safe".into());
        assert_eq!(gate.admit(&fork), Ok(()));
        fork.labels.clear();
        assert_eq!(gate.admit(&fork), Err(Refused::ForkLabel("safe")));
    }
}
