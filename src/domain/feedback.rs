//! What a pull request is told of its environment: one comment, which is edited, and the status of its commit. Pure.
//!
//! What is told comes from the status of the Environment, and so has passed the screens that keep values out of it. Here it
//! is made fit for other people's pages: one line, no markup of its own, nobody mentioned.

use std::fmt::Write as _;

use super::excerpt::excerpt;

/// Longest reason that is repeated, in characters.
const MAX_REASON: usize = 300;

/// Digits of a commit that are shown.
const SHORT: usize = 7;

/// How a commit's environment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitState {
    /// It is being made.
    Pending,
    /// It runs, or would with the next visit.
    Success,
    /// It does not run.
    Failure,
}

impl CommitState {
    /// The word for it in what is stored.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Success => "success",
            Self::Failure => "failure",
        }
    }

    /// The state of this word.
    pub fn of(word: &str) -> Option<Self> {
        [Self::Pending, Self::Success, Self::Failure].into_iter().find(|state| state.word() == word)
    }
}

/// The status of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitStatus {
    /// How it stands.
    pub state: CommitState,
    /// What the status is about: a later one of the same name takes its place.
    pub context: String,
    /// One sentence.
    pub description: String,
    /// Where it leads.
    pub url: Option<String>,
}

/// Where an environment is in its life, as far as others are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It is being made.
    Preparing,
    /// It waits until there is room.
    Queued,
    /// It runs.
    Ready,
    /// It sleeps until somebody looks.
    Asleep,
    /// It does not run.
    Failed,
    /// It is no more.
    Ended,
}

impl Phase {
    /// What is told of a phase of an Environment.
    pub fn of(word: Option<&str>) -> Self {
        match word {
            Some("Queued") => Self::Queued,
            Some("Ready") => Self::Ready,
            Some("Asleep") => Self::Asleep,
            Some("Failed") => Self::Failed,
            Some("Ending") => Self::Ended,
            _ => Self::Preparing,
        }
    }
}

/// What is told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview<'a> {
    /// Name of the environment.
    pub environment: &'a str,
    /// The commit that it runs or is to run.
    pub commit: &'a str,
    /// Where it is in its life.
    pub phase: Phase,
    /// Where it is served.
    pub url: Option<&'a str>,
    /// Why it is not ready, in one sentence.
    pub reason: Option<&'a str>,
}

impl Preview<'_> {
    /// The comment. `mark` tells it from all others, and is not shown.
    pub fn comment(&self, mark: &str) -> String {
        let mut text = format!("{mark}\n**Preview** {}", self.sentence());
        if let Some(url) = self.link().filter(|_| self.phase != Phase::Ended) {
            _ = write!(text, "\n\n{url}");
        }
        if let Some(reason) = self.told() {
            _ = write!(text, "\n\n`{reason}`");
        }
        _ = write!(text, "\n\nEnvironment `{}`", plain(self.environment, 63));
        text
    }

    /// The status of the commit; none once there is no environment.
    pub fn status(&self, context: &str) -> Option<CommitStatus> {
        let state = match self.phase {
            Phase::Preparing | Phase::Queued => CommitState::Pending,
            Phase::Ready | Phase::Asleep => CommitState::Success,
            Phase::Failed => CommitState::Failure,
            Phase::Ended => return None,
        };
        let description = match self.told() {
            Some(reason) => reason,
            None => format!("the preview {}", self.state()),
        };
        Some(CommitStatus { state, context: context.to_owned(), description, url: self.link().map(str::to_owned) })
    }

    fn sentence(&self) -> String {
        let commit: String = self.commit.chars().filter(char::is_ascii_hexdigit).take(SHORT).collect();
        match self.phase {
            Phase::Ended => {
                format!("has ended. The next commit after `{commit}` brings it back while the pull request is open.")
            }
            _ => format!("of `{commit}` {}.", self.state()),
        }
    }

    fn state(&self) -> &'static str {
        match self.phase {
            Phase::Preparing => "is being prepared",
            Phase::Queued => "waits until there is room",
            Phase::Ready => "is ready",
            Phase::Asleep => "is asleep, and wakes with the first visit",
            Phase::Failed => "does not run",
            Phase::Ended => "has ended",
        }
    }

    /// Why it is not ready.
    fn told(&self) -> Option<String> {
        let tells = matches!(self.phase, Phase::Preparing | Phase::Queued | Phase::Failed);
        self.reason.filter(|_| tells).map(|reason| plain(reason, MAX_REASON)).filter(|reason| !reason.is_empty())
    }

    /// Only addresses of pages are links.
    fn link(&self) -> Option<&str> {
        let is_page = |url: &&str| ["http://", "https://"].iter().any(|scheme| url.starts_with(scheme));
        let is_plain = |url: &&str| url.bytes().all(|byte| byte.is_ascii_graphic() && !b"<>()[]`\"".contains(&byte));
        self.url.filter(is_page).filter(is_plain)
    }
}

/// The hidden mark of the comment in one pull request.
pub fn mark(pull_request: uuid::Uuid) -> String {
    format!("<!-- stagekeeper:preview:{pull_request} -->")
}

/// A text on one line that ends no code span.
fn plain(text: &str, limit: usize) -> String {
    let line: String = text.chars().map(|c| if c == '`' { '\'' } else { c }).collect();
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    excerpt(&line, limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREVIEW: Preview<'static> = Preview {
        environment: "shop-pr-42",
        commit: "0123456789abcdef",
        phase: Phase::Ready,
        url: Some("https://pr-42-a8f9d2k1p4m7.preview.test"),
        reason: None,
    };

    #[test]
    fn every_phase_is_told_in_a_sentence() {
        for (word, want, state) in [
            (None, "**Preview** of `0123456` is being prepared.", Some(CommitState::Pending)),
            (Some("Pending"), "**Preview** of `0123456` is being prepared.", Some(CommitState::Pending)),
            (Some("Deploying"), "**Preview** of `0123456` is being prepared.", Some(CommitState::Pending)),
            (Some("Queued"), "**Preview** of `0123456` waits until there is room.", Some(CommitState::Pending)),
            (Some("Ready"), "**Preview** of `0123456` is ready.", Some(CommitState::Success)),
            (
                Some("Asleep"),
                "**Preview** of `0123456` is asleep, and wakes with the first visit.",
                Some(CommitState::Success),
            ),
            (Some("Failed"), "**Preview** of `0123456` does not run.", Some(CommitState::Failure)),
            (
                Some("Ending"),
                "**Preview** has ended. The next commit after `0123456` brings it back while the pull request is open.",
                None,
            ),
        ] {
            let preview = Preview { phase: Phase::of(word), ..PREVIEW };
            let text = preview.comment("<!-- mark -->");
            assert_eq!(text.lines().nth(1), Some(want), "{word:?}");
            assert_eq!(preview.status("stagekeeper/shop").map(|status| status.state), state, "{word:?}");
            assert_eq!(text.contains("https://"), word != Some("Ending"), "{word:?}: {text}");
        }
    }

    #[test]
    fn a_reason_is_told_while_it_is_not_ready_and_is_no_markup() {
        let reason = Some("image `ghcr.io/acme/shop:pr-42` not\npushed yet, @acme/all <b>");
        let preview = Preview { phase: Phase::Preparing, reason, ..PREVIEW };
        let told = "image 'ghcr.io/acme/shop:pr-42' not pushed yet, @acme/all <b>";
        assert!(preview.comment("").contains(&format!("\n\n`{told}`\n")), "{}", preview.comment(""));
        assert_eq!(preview.status("c").expect("a status").description, told);
        let preview = Preview { phase: Phase::Ready, ..preview };
        assert!(!preview.comment("").contains("image"));
        let long = "x".repeat(5_000);
        let preview = Preview { phase: Phase::Failed, reason: Some(&long), ..PREVIEW };
        assert!(preview.comment("").len() < 800);
    }

    #[test]
    fn only_addresses_of_pages_are_links() {
        for url in ["javascript:alert(1)", "https://a/\n", "https://a/) [b](https://c", "ftp://a"] {
            let preview = Preview { url: Some(url), ..PREVIEW };
            assert_eq!(preview.status("c").expect("a status").url, None, "{url}");
            assert!(!preview.comment("").contains(url), "{url}");
        }
    }
}
