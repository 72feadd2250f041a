//! What is believed of pull requests, and when something else is.
//!
//! The provider's own time decides: what is older than what is known changes nothing. Within one of its seconds, closed goes
//! before open, whichever comes first, so that a pull request that was opened and closed at once leaves a tombstone and no
//! ghost. Only the answer to a question about that one pull request may say otherwise.
//!
//! That a pull request is not in a list is no proof of anything: it is asked about by its number.

use std::collections::{BTreeMap, BTreeSet};

use super::{Provider, PullRequest, PullState};

/// So many answers in a row that there is no such pull request count as that it is closed.
pub const ABSENCES: u32 = 3;

/// Questions about single pull requests that one listing leads to at most.
const LOOKS: usize = 50;

/// What is known of a pull request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Whose it is.
    pub provider: Provider,
    /// Its repository, in lower case.
    pub repository: String,
    /// What was told last.
    pub facts: PullRequest,
    /// How often in a row it was said that there is none of this number.
    pub absences: u32,
    /// The environment that was made for it, or is about to be.
    pub made: Option<Made>,
}

/// The environment of a pull request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Its name.
    pub name: String,
    /// UID of its object; none until that was seen.
    pub uid: Option<String>,
    /// The commit that it was made or last changed for.
    pub commit: String,
}

/// How good a word is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// A webhook or a list told it.
    Told,
    /// A webhook told it because somebody else than its author has changed its labels.
    Labelled,
    /// It is the answer to a question about this one pull request.
    Asked,
}

/// What a provider answered when it was asked for its open pull requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Nothing that could be used.
    Unknown,
    /// These are open.
    Listed {
        /// What is open.
        open: Vec<PullRequest>,
        /// Whether these are all. There may be more than anybody wants to read.
        complete: bool,
    },
}

/// What a provider answered when it was asked about one pull request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// This is how it stands.
    Found(Box<PullRequest>),
    /// There is none of this number.
    Absent,
}

/// What follows from a list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sweep {
    /// What is believed anew.
    pub news: Vec<PullRequest>,
    /// Numbers that have to be asked about one by one, those that were asked about least first.
    pub look: Vec<i64>,
}

impl Known {
    /// A pull request of which nothing was known.
    pub fn new(provider: Provider, repository: &str, facts: PullRequest) -> Self {
        let mut known = Self { provider, repository: repository.to_ascii_lowercase(), facts, absences: 0, made: None };
        known.keep_vouched(BTreeSet::new());
        known
    }

    /// Takes in what was told; false if that changes nothing.
    pub fn hear(&mut self, news: &PullRequest, word: Word) -> bool {
        let (was, is) = (self.facts.updated_at.as_second(), news.updated_at.as_second());
        let reopens = news.state.is_open() && !self.facts.state.is_open();
        if is < was || (is == was && reopens && word != Word::Asked) {
            return false;
        }
        let before = self.clone();
        let mut vouched = self.facts.vouched.clone();
        if word == Word::Labelled {
            // What was there before may be its author's.
            vouched.extend(news.labels.difference(&self.facts.labels).cloned());
        }
        self.facts = news.clone();
        self.keep_vouched(vouched);
        if self.facts.author.is_empty() {
            // GitLab names the author only in what the author does.
            self.facts.author.clone_from(&before.facts.author);
        }
        self.absences = 0;
        *self != before
    }

    /// What is vouched for is a label of it still.
    fn keep_vouched(&mut self, before: BTreeSet<String>) {
        let PullRequest { labels, vouched, .. } = &mut self.facts;
        vouched.extend(before);
        vouched.retain(|label| labels.contains(label));
    }

    /// Takes in the answer to a question about it; false if that changes nothing.
    pub fn looked(&mut self, look: &Look) -> bool {
        match look {
            Look::Found(news) => self.hear(news, Word::Asked),
            Look::Absent if !self.facts.state.is_open() => false,
            Look::Absent => {
                self.absences += 1;
                if self.absences >= ABSENCES {
                    self.facts.state = PullState::Closed;
                }
                true
            }
        }
    }
}

/// What follows from a provider's list of open pull requests. An answer that cannot be used changes nothing; neither does
/// what is missing from a list, before it was asked about.
pub fn sweep(known: &[Known], answer: &Answer) -> Sweep {
    let Answer::Listed { open, complete } = answer else { return Sweep::default() };
    let listed: BTreeMap<i64, &PullRequest> = open.iter().map(|one| (one.number, one)).collect();
    let by_number: BTreeMap<i64, &Known> = known.iter().map(|one| (one.facts.number, one)).collect();
    let mut look = Vec::new();
    let mut news = Vec::new();
    for (number, one) in &listed {
        let Some(known) = by_number.get(number) else {
            news.push((*one).clone());
            continue;
        };
        if (*known).clone().hear(one, Word::Told) {
            news.push((*one).clone());
        } else if !known.facts.state.is_open() && one.updated_at.as_second() == known.facts.updated_at.as_second() {
            // Opened again within the second in which it was closed, or a list from before that.
            look.push((known.absences, *number));
        }
    }
    if *complete {
        let missing = known.iter().filter(|one| one.facts.state.is_open() && !listed.contains_key(&one.facts.number));
        look.extend(missing.map(|one| (one.absences, one.facts.number)));
    }
    look.sort_unstable();
    look.truncate(LOOKS);
    Sweep { news, look: look.into_iter().map(|(_, number)| number).collect() }
}
