//! Whose turn it is: many stages, slow hosts, hosts at rest, hints.

use super::*;

/// A registry that tells when it was asked, and takes its time.
pub(super) struct Line {
    asked: Mutex<Vec<(Instant, Arc<Question>)>>,
    takes: Box<dyn Fn(&Question) -> Duration + Send + Sync>,
    rests: Mutex<HashMap<String, Instant>>,
}

impl Line {
    pub(super) fn new(takes: impl Fn(&Question) -> Duration + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { asked: Mutex::default(), takes: Box::new(takes), rests: Mutex::default() })
    }

    /// When each question of a host was asked, in milliseconds after `begun`.
    pub(super) fn times(&self, host: &str, begun: Instant) -> Vec<u128> {
        let asked = self.asked.lock().unwrap();
        let of = asked.iter().filter(|(_, question)| question.repository.registry() == host);
        of.map(|(at, _)| at.duration_since(begun).as_millis()).collect()
    }

    pub(super) fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    /// How often a repository was asked.
    fn count_of(&self, question: &Question) -> usize {
        self.asked.lock().unwrap().iter().filter(|(_, asked)| **asked == *question).count()
    }
}

impl Asker for Line {
    fn ask(&self, asked: Asked) -> BoxFuture<'static, Result<Reply, Refusal>> {
        let takes = (self.takes)(&asked.question);
        self.asked.lock().unwrap().push((Instant::now(), asked.question));
        async move {
            tokio::time::sleep(takes).await;
            Ok(tags(&["1.0.0"]))
        }
        .boxed()
    }

    fn ready_at(&self, repository: &Repository) -> Option<Instant> {
        self.rests.lock().unwrap().get(repository.registry()).copied()
    }
}

pub(super) fn of(repository: &str) -> Question {
    Question { repository: repository.parse().unwrap(), ..question() }
}

pub(super) fn hourly() -> Wish {
    Wish::every(Some(Duration::from_hours(1)))
}

pub(super) struct Bench {
    pub(super) book: Arc<ImageBook>,
    stop: CancellationToken,
    worker: tokio::task::JoinHandle<()>,
}

impl Bench {
    pub(super) fn start(book: ImageBook, line: &Arc<Line>, places: usize) -> Self {
        let book = Arc::new(book);
        let stop = CancellationToken::new();
        let run = book.clone().run(line.clone(), Arc::new(SystemClock), Arc::new(|_| {}), places, stop.clone());
        Self { book, stop, worker: tokio::spawn(run) }
    }

    pub(super) async fn end(self) {
        self.stop.cancel();
        self.worker.await.unwrap();
    }
}

async fn seconds(number: u64) {
    tokio::time::sleep(Duration::from_secs(number)).await;
}

#[tokio::test(start_paused = true)]
async fn a_repository_is_asked_once_for_all_stages_of_all_projects() {
    let line = Line::new(|_| Duration::from_millis(20));
    let bench = Bench::start(ImageBook::new(|_| {}), &line, 8);
    let login =
        |project: &str| Some(LoginRef { namespace: "acme".into(), project: project.into(), credential: "ghcr".into() });
    for number in 0..50 {
        let wanted = BTreeMap::from([(of("r.test/shop/web"), hourly())]);
        bench.book.subscribe(&(format!("project-{}", number % 5), format!("stage-{number}")), &wanted);
    }
    seconds(60).await;
    assert_eq!(line.count(), 1);
    for project in ["shop", "blog"] {
        let private = Question { login: login(project), ..of("r.test/shop/web") };
        bench.book.subscribe(&stage(project), &BTreeMap::from([(private, hourly())]));
    }
    seconds(60).await;
    assert_eq!(line.count(), 3, "once more for each credential: what one may read is nothing to the other");
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_host_takes_nobody_elses_turn() {
    let line = Line::new(|question| match question.repository.registry() {
        "fast.test" => Duration::from_millis(20),
        _ => Duration::from_mins(10),
    });
    let bench = Bench::start(ImageBook::new(|_| {}), &line, 8);
    let begun = Instant::now();
    let many =
        |host: &str| (0..40).map(|n| (of(&format!("{host}/shop/web-{n}")), hourly())).collect::<BTreeMap<_, _>>();
    bench.book.subscribe(&stage("slow"), &many("slow.test"));
    seconds(1).await;
    assert_eq!(line.times("slow.test", begun).len(), 6, "three quarters of the places at most");
    bench.book.subscribe(&stage("fast"), &many("fast.test"));
    seconds(1).await;
    assert_eq!(line.times("fast.test", begun).len(), 40, "the other host is served at once");
    // A second slow host: what takes long holds no place any more.
    bench.book.subscribe(&stage("lazy"), &many("lazy.test"));
    seconds(20).await;
    for number in 0..5 {
        bench.book.subscribe(&stage("more"), &BTreeMap::from([(of(&format!("fast.test/more/{number}")), hourly())]));
        seconds(1).await;
        assert_eq!(line.times("fast.test", begun).len(), 41 + number);
    }
    let slow = line.times("slow.test", begun).len() + line.times("lazy.test", begun).len();
    assert!(slow <= 12, "{slow}: a host that is slow is asked no more than it has answered");
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_host_at_rest_is_passed_over_until_it_may_be_asked() {
    let line = Line::new(|_| Duration::from_millis(20));
    let begun = Instant::now();
    line.rests.lock().unwrap().insert("busy.test".into(), begun + Duration::from_secs(90));
    let bench = Bench::start(ImageBook::new(|_| {}), &line, 2);
    let minute = Wish::every(Some(Duration::from_mins(1)));
    let wanted = ["busy.test/a", "busy.test/b", "busy.test/c", "other.test/a"].map(|name| (of(name), minute.clone()));
    bench.book.subscribe(&stage("dev"), &BTreeMap::from(wanted));
    seconds(89).await;
    let other = line.times("other.test", begun);
    assert!(other.len() == 2 && other[0] < 100 && (60_000..67_000).contains(&other[1]), "on schedule: {other:?}");
    assert_eq!(line.times("busy.test", begun), [], "not before it said");
    // Whoever hints does not change that.
    bench.book.hint(&"busy.test/a".parse().unwrap());
    seconds(2).await;
    let busy = line.times("busy.test", begun);
    assert!(busy.len() == 3 && busy.iter().all(|at| (90_000..90_200).contains(at)), "{busy:?}");
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_repository_that_is_hinted_at_all_the_time_starves_nobody() {
    let line = Line::new(|_| Duration::from_millis(500));
    let bench = Bench::start(ImageBook::new(|_| {}), &line, 1);
    let wanted: BTreeMap<_, _> = (0..40).map(|n| (of(&format!("r.test/shop/web-{n:02}")), hourly())).collect();
    bench.book.subscribe(&stage("dev"), &wanted);
    for _ in 0..250 {
        bench.book.hint(&"r.test/shop/web-00".parse().unwrap());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let asked = |question: &&Question| line.count_of(question) == 0;
    assert_eq!(wanted.keys().filter(asked).count(), 0, "each had its turn within 25 s");
    assert!(line.count_of(&of("r.test/shop/web-00")) > 1);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_hundred_hints_cost_one_scan() {
    let line = Line::new(|_| Duration::from_secs(1));
    let bench = Bench::start(ImageBook::new(|_| {}), &line, 8);
    let (web, fixed) = (of("r.test/shop/web"), Question { about: About::Tag("1.0.0".into(), None), ..question() });
    bench.book.subscribe(&stage("dev"), &BTreeMap::from([(web.clone(), hourly()), (fixed, Wish::every(None))]));
    bench.book.subscribe(&stage("live"), &BTreeMap::from([(of("r.test/shop/api"), hourly())]));
    seconds(10).await;
    assert_eq!(line.count(), 3);
    for _ in 0..100 {
        assert_eq!(bench.book.hint(&web.repository), 1, "what is answered for good is not asked again");
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(line.count(), 4);
    for _ in 0..100 {
        bench.book.hint(&web.repository);
    }
    seconds(30).await;
    assert_eq!((line.count(), line.count_of(&web)), (5, 3), "once more, because it may have been asked too early");
    let begun = Instant::now();
    for _ in 0..100 {
        bench.book.hint(&web.repository);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let times = line.times("r.test", begun - Duration::from_mins(1)).split_off(5);
    assert!((4..=6).contains(&times.len()), "every two seconds: {times:?}");
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 2000), "{times:?}");
    assert_eq!(bench.book.hint(&"r.test/nobody/asks".parse().unwrap()), 0);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn thousands_of_questions_are_asked_each_in_its_interval() {
    let line = Line::new(|_| Duration::from_millis(1));
    let bench = Bench::start(ImageBook::new(|_| {}), &line, 8);
    let begun = Instant::now();
    let minutes = Wish::every(Some(Duration::from_mins(10)));
    let wanted: BTreeMap<_, _> = (0..3000).map(|n| (of(&format!("r.test/shop/web-{n}")), minutes.clone())).collect();
    bench.book.subscribe(&stage("dev"), &wanted);
    seconds(1200).await;
    let times = line.times("r.test", begun);
    assert_eq!(times.len(), 6000, "the first round and the second");
    let second = &times[3000..];
    let busiest = second.chunk_by(|a, b| a / 1000 == b / 1000).map(<[u128]>::len).max().unwrap();
    assert!(second[0] >= 600_000 && second[2999] <= 662_000, "{} {}", second[0], second[2999]);
    assert!(busiest < 150, "spread over a minute, not {busiest} in a second");
    bench.end().await;
}

#[test]
fn equal_intervals_are_spread_by_repository_and_by_credential() {
    let interval = Duration::from_mins(5);
    let login = |n: usize| LoginRef { namespace: "acme".into(), project: format!("p-{n}"), credential: "ghcr".into() };
    let by_path: BTreeSet<Duration> = (0..100).map(|n| jittered(interval, &of(&format!("r.test/web-{n}")))).collect();
    let by_login: BTreeSet<Duration> =
        (0..100).map(|n| jittered(interval, &Question { login: Some(login(n)), ..question() })).collect();
    for spread in [by_path, by_login] {
        assert!(spread.len() > 80, "{}", spread.len());
        assert!(*spread.first().unwrap() >= interval && *spread.last().unwrap() <= interval * 11 / 10);
    }
}

/// A registry with one turn a second that has to be taken: who comes without one is sent away.
struct Paced {
    next: Mutex<Instant>,
    asked: AtomicUsize,
    sent_away: AtomicUsize,
}

impl Asker for Paced {
    fn ask(&self, _: Asked) -> BoxFuture<'static, Result<Reply, Refusal>> {
        let mut next = self.next.lock().unwrap();
        let early = *next > Instant::now();
        if early {
            self.sent_away.fetch_add(1, Ordering::SeqCst);
        } else {
            *next = Instant::now() + Duration::from_secs(1);
            self.asked.fetch_add(1, Ordering::SeqCst);
        }
        async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            Ok(if early { Reply::Later } else { tags(&["1.0.0"]) })
        }
        .boxed()
    }

    fn ready_at(&self, repository: &Repository) -> Option<Instant> {
        let next = *self.next.lock().unwrap();
        (repository.registry() == "honest.test" && next > Instant::now()).then_some(next)
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_its_turn_is_no_failure_and_is_asked_when_it_is() {
    for (host, most) in [("honest.test", 0), ("silent.test", 700)] {
        let paced = Arc::new(Paced {
            next: Mutex::new(Instant::now()),
            asked: AtomicUsize::new(0),
            sent_away: AtomicUsize::new(0),
        });
        let book = Arc::new(ImageBook::new(|_| {}));
        let stop = CancellationToken::new();
        let counted = Arc::new(Mutex::new(BTreeSet::new()));
        let words = counted.clone();
        let counted_word = Arc::new(move |word: &'static str| {
            words.lock().unwrap().insert(word);
        });
        let run = book.clone().run(paced.clone(), Arc::new(SystemClock), counted_word, 8, stop.clone());
        let worker = tokio::spawn(run);
        let wanted: BTreeMap<_, _> = (0..20).map(|n| (of(&format!("{host}/shop/web-{n}")), hourly())).collect();
        book.subscribe(&stage("dev"), &wanted);
        seconds(30).await;
        assert_eq!(paced.asked.load(Ordering::SeqCst), 20, "{host}");
        assert!(paced.sent_away.load(Ordering::SeqCst) <= most, "{host}");
        for question in wanted.keys() {
            let known = book.known(question);
            assert_eq!((known.refusal, known.answer), (None, listed(&["1.0.0"])), "{host}");
        }
        assert!(counted.lock().unwrap().iter().all(|word| ["success", "postponed"].contains(word)));
        stop.cancel();
        worker.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn dates_are_looked_up_until_all_are_known_and_new_tags_at_once() {
    struct Calendar(Mutex<Vec<usize>>);
    impl Asker for Calendar {
        fn ask(&self, asked: Asked) -> BoxFuture<'static, Result<Reply, Refusal>> {
            let mut dates = (*asked.dates).clone();
            dates.keep(&asked.dated);
            for tag in asked.dated.iter().filter(|tag| asked.dates.get(tag).is_none()).take(2) {
                let looked_at = Timestamp::UNIX_EPOCH;
                dates.saw(tag, Sighting { digest: None, created: None, unfit: None, looked_at });
            }
            self.0.lock().unwrap().push(dates.read(&asked.dated));
            async move { Ok(Reply::Dates(dates)) }.boxed()
        }
    }
    let told = Arc::new(AtomicUsize::new(0));
    let count = told.clone();
    let book = Arc::new(ImageBook::new(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
    }));
    let (calendar, stop) = (Arc::new(Calendar(Mutex::default())), CancellationToken::new());
    let run = book.clone().run(calendar.clone(), Arc::new(SystemClock), Arc::new(|_| {}), 8, stop.clone());
    let worker = tokio::spawn(run);
    let wish = |tags: &[&str]| {
        let dated = Some(tags.iter().map(|tag| (*tag).to_owned()).collect());
        BTreeMap::from([(Question { about: About::Dates(None), ..question() }, Wish { dated, ..hourly() })])
    };
    book.subscribe(&stage("dev"), &wish(&["e", "d", "c"]));
    book.subscribe(&stage("live"), &wish(&["c", "b", "a"]));
    seconds(60).await;
    assert_eq!(*calendar.0.lock().unwrap(), [2, 4, 5], "and then rests for its interval");
    let before = told.load(Ordering::SeqCst);
    book.subscribe(&stage("dev"), &wish(&["f", "e", "d", "c"]));
    seconds(1).await;
    assert_eq!(*calendar.0.lock().unwrap(), [2, 4, 5, 6], "a new tag is looked at at once");
    assert_eq!(told.load(Ordering::SeqCst), before + 2);
    seconds(4000).await;
    assert_eq!(calendar.0.lock().unwrap().len(), 5);
    assert_eq!(told.load(Ordering::SeqCst), before + 2, "the same dates are no news");
    stop.cancel();
    worker.await.unwrap();
}
