//! How long a policy takes to choose among the tags of a large repository.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};
use stagekeeper::domain::{
    image::Digest,
    policy::{Dated, Order, PolicySpec, TagPolicy},
};

use crate::Failure;

#[derive(Args)]
pub struct Choose {
    /// Tags of the repository.
    #[arg(long, default_value_t = 100_000)]
    tags: usize,
    /// How often each rule chooses.
    #[arg(long, default_value_t = 25)]
    rounds: u32,
}

impl Choose {
    pub fn run(&self) -> Result<Value, Failure> {
        let versions: Vec<String> =
            (0..self.tags).map(|at| format!("v{}.{}.{}", at / 10_000, at / 100 % 100, at % 100)).collect();
        let builds: Vec<String> =
            (0..self.tags).map(|at| format!("main-{:07x}-{at}", at * 2_654_435_761 % (1 << 28))).collect();
        let numbers: Vec<String> = (0..self.tags).map(|at| at.to_string()).collect();
        let spec = PolicySpec::default;
        let named = [
            ("semver", PolicySpec { semver: Some(">=1.2 <9".into()), ..spec() }, &versions),
            ("glob", PolicySpec { glob: Some("main-*".into()), ..spec() }, &builds),
            (
                "regex",
                PolicySpec {
                    regex: Some("^main-[0-9a-f]{7}-(?P<run>[0-9]+)$".into()),
                    extract: Some("$run".into()),
                    order: Some(Order::Numeric),
                    ..spec()
                },
                &builds,
            ),
            ("numeric", PolicySpec { numeric: true, ..spec() }, &numbers),
        ];
        let mut rules = serde_json::Map::new();
        for (name, spec, tags) in named {
            let policy = TagPolicy::parse(&spec)?;
            let running = tags.last().map(String::as_str);
            let times = self.timed(|| {
                black_box(policy.choose(black_box(tags), running));
            });
            rules.insert(name.into(), times);
        }
        let policy = TagPolicy::parse(&PolicySpec { newest: Some("main-*".into()), ..spec() })?;
        let mut dated = Vec::new();
        for (at, tag) in (0..).zip(&builds) {
            let (digest, created) = (Digest::of(tag.as_bytes()), Some(Timestamp::from_second(at)?));
            dated.push(Dated { tag: tag.clone(), digest, created });
        }
        let times = self.timed(|| {
            black_box(policy.choose_dated(black_box(&dated), dated.last()));
        });
        rules.insert("newest".into(), times);
        let floor = self.timed(|| {
            black_box(black_box(&versions).iter().max());
        });
        Ok(json!({"kind": "choose", "tags": self.tags, "rules": rules, "floor": floor}))
    }

    /// Milliseconds of each round.
    fn timed(&self, choose: impl Fn()) -> Value {
        let round = |_| {
            let begun = Instant::now();
            choose();
            begun.elapsed()
        };
        let times: Vec<Duration> = (0..self.rounds).map(round).collect();
        times.iter().map(|time| time.as_secs_f64() * 1000.0).collect()
    }
}
