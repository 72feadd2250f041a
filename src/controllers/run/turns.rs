//! Passes that were asked for, by turns of the projects: whoever asks for a thousand does not make the others wait for them.
//!
//! The runtime takes passes in the order in which it hears of them. So it hears of no more than it can run at once, and the
//! rest waits here, in a line for each project. Who had the fewest turns lately is next.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{Stream, stream};
use kube::runtime::reflector::ObjectRef;
use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};

use crate::cluster::index::StageKey;

/// A pass that has not ended after this long is not waited for: others have its place. None takes nearly as long.
const LONGEST: Duration = Duration::from_mins(2);

/// Turns count for this long at least, and for twice as long at most.
const LATELY: Duration = Duration::from_secs(5);

/// A namespace and a project in it.
pub type Line = (Box<str>, Box<str>);

/// Who waits for a pass, and whose pass runs.
#[derive(Debug)]
pub struct Turns {
    inner: Mutex<Inner>,
    freed: Notify,
    /// Passes that may run at once.
    most: usize,
}

#[derive(Debug, Default)]
struct Inner {
    /// Those who wait, in the order in which they asked.
    lines: HashMap<Line, VecDeque<StageKey>>,
    /// Lines in which somebody waits. Whose turn it is comes first.
    order: VecDeque<Line>,
    waiting: HashSet<StageKey>,
    /// Whose pass was begun, when, and in which line that was.
    running: HashMap<StageKey, (Instant, Line)>,
    /// How many passes of a line run.
    of_line: HashMap<Line, usize>,
    had: Had,
}

/// How many turns each line had lately.
#[derive(Debug, Default)]
struct Had {
    now: HashMap<Line, u32>,
    before: HashMap<Line, u32>,
    since: Option<Instant>,
}

impl Turns {
    /// Nobody waits.
    pub fn new(most: usize) -> Self {
        Self { inner: Mutex::default(), freed: Notify::new(), most: most.max(1) }
    }

    /// Somebody wants a pass, of a line. Whoever waits already, waits on.
    pub fn ask(&self, key: StageKey, line: Line) {
        let mut inner = self.lock();
        if !inner.waiting.insert(key.clone()) {
            return;
        }
        let Inner { lines, order, .. } = &mut *inner;
        let theirs = lines.entry(line.clone()).or_default();
        if theirs.is_empty() {
            order.push_back(line);
        }
        theirs.push_back(key);
    }

    /// Whose turn it is, if there is room for another pass. A quarter of it no line has to itself: whoever comes then does not
    /// wait until somebody else's pass has ended.
    pub fn next(&self, now: Instant) -> Option<StageKey> {
        let mut inner = self.lock();
        if inner.order.is_empty() {
            return None;
        }
        inner.had.age(now);
        let mut at = inner.turn(self.most);
        if at.is_none() {
            inner.give_up(now);
            at = inner.turn(self.most);
        }
        let line = inner.order.remove(at?)?;
        let theirs = inner.lines.get_mut(&line)?;
        let key = theirs.pop_front()?;
        if theirs.is_empty() {
            inner.lines.remove(&line);
        } else {
            inner.order.push_back(line.clone());
        }
        inner.waiting.remove(&key);
        inner.stop(&key);
        *inner.had.now.entry(line.clone()).or_default() += 1;
        *inner.of_line.entry(line.clone()).or_default() += 1;
        inner.running.insert(key.clone(), (now, line));
        Some(key)
    }

    /// A pass has ended, or is not needed.
    pub fn ended(&self, key: &StageKey) {
        if self.lock().stop(key) {
            self.freed.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Which line's turn it is, by its place in the order.
    fn turn(&self, most: usize) -> Option<usize> {
        if self.running.len() >= most {
            return None;
        }
        let of_one = most - most / 4;
        let may = |line: &Line| self.of_line.get(line).is_none_or(|running| *running < of_one);
        let all = self.order.iter().enumerate().filter(|(_, line)| may(line));
        all.min_by_key(|(at, line)| (self.had.turns(line), *at)).map(|(at, _)| at)
    }

    /// A pass does not count any more. Says whether it did.
    fn stop(&mut self, key: &StageKey) -> bool {
        let Some((_, line)) = self.running.remove(key) else { return false };
        if let Some(running) = self.of_line.get_mut(&line) {
            *running -= 1;
            if *running == 0 {
                self.of_line.remove(&line);
            }
        }
        true
    }

    /// Those that take too long do not count any more.
    fn give_up(&mut self, now: Instant) {
        let late = self.running.iter().filter(|(_, (begun, _))| *begun + LONGEST <= now);
        for key in late.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            self.stop(&key);
        }
    }
}

impl Had {
    fn turns(&self, line: &Line) -> u32 {
        [&self.now, &self.before].iter().filter_map(|of| of.get(line)).sum()
    }

    fn age(&mut self, now: Instant) {
        let since = *self.since.get_or_insert(now);
        if now >= since + LATELY {
            self.before = std::mem::take(&mut self.now);
            self.since = Some(now);
        }
        if now >= since + LATELY * 2 {
            self.before.clear();
        }
    }
}

/// What is asked for, by turns. `line` says in whose.
pub fn by_turns<K>(
    queue: mpsc::UnboundedReceiver<ObjectRef<K>>,
    turns: Arc<Turns>,
    line: impl Fn(&ObjectRef<K>) -> Line,
) -> impl Stream<Item = ObjectRef<K>>
where
    K: kube::Resource<DynamicType = ()>,
{
    stream::unfold((queue, turns, line), |(mut queue, turns, line)| async move {
        let ask = |wanted: &ObjectRef<K>| {
            turns.ask(
                StageKey::new(wanted.namespace.as_deref().unwrap_or_default(), wanted.name.as_str()),
                line(wanted),
            );
        };
        loop {
            while let Ok(wanted) = queue.try_recv() {
                ask(&wanted);
            }
            if let Some(StageKey { namespace, name }) = turns.next(Instant::now()) {
                return Some((ObjectRef::new(&name).within(&namespace), (queue, turns, line)));
            }
            tokio::select! {
                wanted = queue.recv() => ask(&wanted?),
                () = turns.freed.notified() => {}
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(project: &str) -> Line {
        ("acme".into(), project.into())
    }

    fn key(name: &str) -> StageKey {
        StageKey::new("acme", name)
    }

    fn names(turns: &Turns, count: usize) -> Vec<String> {
        let next = std::iter::from_fn(|| turns.next(Instant::now())).take(count);
        next.map(|key| key.name.to_string()).collect()
    }

    #[test]
    fn each_project_has_its_turn_however_much_another_asks_for() {
        let turns = Turns::new(100);
        for number in 0..50 {
            turns.ask(key(&format!("greedy-{number}")), line("greedy"));
        }
        for name in ["a-1", "a-2"] {
            turns.ask(key(name), line("a"));
        }
        turns.ask(key("b-1"), line("b"));
        assert_eq!(names(&turns, 8), ["greedy-0", "a-1", "b-1", "greedy-1", "a-2", "greedy-2", "greedy-3", "greedy-4"]);
        turns.ask(key("b-2"), line("b"));
        assert_eq!(names(&turns, 2), ["b-2", "greedy-5"], "it had fewer");
        assert_eq!(names(&turns, 100).len(), 44);
    }

    #[tokio::test(start_paused = true)]
    async fn who_had_fewer_turns_lately_is_next_and_older_ones_are_forgotten() {
        let turns = Turns::new(100);
        let ask = |project: &str, numbers: std::ops::Range<usize>| {
            numbers.for_each(|number| turns.ask(key(&format!("{project}-{number}")), line(project)));
        };
        ask("greedy", 0..50);
        assert_eq!(names(&turns, 10).len(), 10);
        tokio::time::advance(LATELY).await;
        ask("a", 0..4);
        assert_eq!(names(&turns, 4), ["a-0", "a-1", "a-2", "a-3"]);
        tokio::time::advance(LATELY * 2).await;
        ask("a", 4..6);
        assert_eq!(names(&turns, 4), ["greedy-10", "a-4", "greedy-11", "a-5"]);
        assert_eq!(turns.lock().had.before.len(), 0);
    }

    #[test]
    fn no_project_has_all_room_to_itself() {
        let turns = Turns::new(8);
        for number in 0..50 {
            turns.ask(key(&format!("greedy-{number}")), line("greedy"));
        }
        assert_eq!(names(&turns, 50).len(), 6);
        turns.ask(key("a-1"), line("a"));
        turns.ask(key("a-2"), line("a"));
        turns.ask(key("a-3"), line("a"));
        assert_eq!(names(&turns, 50), ["a-1", "a-2"], "nobody's pass had to end for them");
        turns.ended(&key("greedy-0"));
        turns.ended(&key("greedy-1"));
        assert_eq!(names(&turns, 50), ["a-3", "greedy-6"]);
        assert_eq!(turns.lock().of_line.values().sum::<usize>(), 8);
    }

    #[test]
    fn no_more_are_given_out_than_run_at_once_and_nobody_waits_twice() {
        let turns = Turns::new(2);
        for name in ["a", "b", "c", "a", "c"] {
            turns.ask(key(name), line("p"));
        }
        assert_eq!(names(&turns, 9), ["a", "b"]);
        turns.ask(key("a"), line("p"));
        turns.ended(&key("b"));
        assert_eq!(names(&turns, 9), ["c"], "who runs and asks again has its turn when others had theirs");
        turns.ended(&key("c"));
        assert_eq!(names(&turns, 9), ["a"]);
        turns.ended(&key("a"));
        turns.ended(&key("a"));
        assert_eq!(names(&turns, 9), Vec::<String>::new());
    }

    #[tokio::test(start_paused = true)]
    async fn a_pass_that_never_ends_keeps_its_place_for_a_while_only() {
        let turns = Turns::new(1);
        turns.ask(key("a"), line("p"));
        turns.ask(key("b"), line("p"));
        assert_eq!(names(&turns, 9), ["a"]);
        tokio::time::advance(LONGEST).await;
        assert_eq!(names(&turns, 9), ["b"]);
    }

    #[tokio::test]
    async fn the_stream_goes_on_when_a_pass_ends_and_ends_with_whoever_asks() {
        use futures::StreamExt as _;
        let (ask, queue) = mpsc::unbounded_channel();
        let turns = Arc::new(Turns::new(1));
        let stream = by_turns(queue, turns.clone(), |_: &ObjectRef<crate::api::Stage>| line("p"));
        tokio::pin!(stream);
        for name in ["a", "b"] {
            ask.send(ObjectRef::new(name).within("acme")).unwrap();
        }
        assert_eq!(stream.next().await.map(|wanted| wanted.name), Some("a".into()));
        assert!(futures::poll!(stream.next()).is_pending());
        turns.ended(&key("a"));
        assert_eq!(stream.next().await.map(|wanted| wanted.name), Some("b".into()));
        turns.ended(&key("b"));
        drop(ask);
        assert_eq!(stream.next().await.map(|wanted| wanted.name), None);
    }
}
