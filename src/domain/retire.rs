//! Which instances may go: the ones that neither serve nor are being started, once their time is over.

use std::time::Duration;

use jiff::Timestamp;

/// An instance that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its name.
    pub name: String,
    /// Why it exists.
    pub role: Role,
}

/// Why an instance exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It serves, or an open deploy or rollback is working on it.
    Needed,
    /// It served until another took over at this instant.
    Previous {
        /// When the traffic went to what serves now.
        since: Timestamp,
        /// When it was made: the newest stay longest.
        made: Timestamp,
    },
    /// Its deploy failed or was stopped and nothing went back to it. `keep` while there is nothing better to look at.
    Failed {
        /// When its deploy ended.
        since: Timestamp,
        /// Whether it is the only thing there is, kept a while for whoever debugs it.
        keep: bool,
    },
    /// Nothing is recorded about it, and nothing recorded serves. It stays: the database may have lost its last rows,
    /// and then the cluster knows better.
    Unknown,
}

/// What to remove now and when to look again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Retirement {
    /// Names of the instances whose objects go now.
    pub remove: Vec<String>,
    /// When the next one is due.
    pub wake: Option<Timestamp>,
}

/// Decides. `keep_previous` is how long an instance stays after traffic left it; with `max_instances` > 1 that many
/// serving and previous instances stay for good, the longest-retired go first.
pub fn retire(instances: &[Kept], keep_previous: Duration, max_instances: usize, now: Timestamp) -> Retirement {
    let mut out = Retirement::default();
    let due = |since: Timestamp, name: &str, out: &mut Retirement| {
        let at = since.saturating_add(keep_previous).unwrap_or(Timestamp::MAX);
        if at <= now {
            out.remove.push(name.to_owned());
        } else {
            out.wake = Some(out.wake.map_or(at, |wake| wake.min(at)));
        }
    };
    let mut previous: Vec<(&str, Timestamp, Timestamp)> = Vec::new();
    let mut needed = 0;
    for instance in instances {
        match instance.role {
            Role::Needed => needed += 1,
            Role::Previous { since, made } => previous.push((&instance.name, since, made)),
            Role::Failed { since, keep: true } => due(since, &instance.name, &mut out),
            Role::Failed { keep: false, .. } => out.remove.push(instance.name.clone()),
            Role::Unknown => {}
        }
    }
    previous.sort_by_key(|(name, _, made)| (std::cmp::Reverse(*made), *name));
    let places = if max_instances > 1 { max_instances.saturating_sub(needed) } else { 0 };
    for (name, since, _) in previous.into_iter().skip(places) {
        due(since, name, &mut out);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP: Duration = Duration::from_mins(1);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn kept(name: &str, role: Role) -> Kept {
        Kept { name: name.into(), role }
    }

    #[test]
    fn instances_go_when_their_time_is_over_and_not_before() {
        let previous = |since| Role::Previous { since: at(since), made: at(since) };
        let cases: [(&str, Vec<Kept>, usize, &[&str], Option<i64>); 7] = [
            ("what serves stays", vec![kept("a", Role::Needed)], 1, &[], None),
            (
                "the previous one stays a while",
                vec![kept("a", Role::Needed), kept("b", previous(50))],
                1,
                &[],
                Some(110),
            ),
            ("and goes", vec![kept("a", Role::Needed), kept("b", previous(40))], 1, &["b"], None),
            (
                "a failed one goes at once when something serves",
                vec![kept("f", Role::Failed { since: at(99), keep: false })],
                1,
                &["f"],
                None,
            ),
            (
                "and stays for whoever debugs it",
                vec![kept("f", Role::Failed { since: at(99), keep: true })],
                1,
                &[],
                Some(159),
            ),
            ("unknown ones stay", vec![kept("u", Role::Unknown)], 1, &[], None),
            (
                "several stay side by side, the oldest is evicted",
                vec![
                    kept("a", Role::Needed),
                    kept("b", previous(30)),
                    kept("c", previous(20)),
                    kept("d", previous(10)),
                ],
                3,
                &["d"],
                None,
            ),
        ];
        for (name, instances, max, remove, wake) in cases {
            let got = retire(&instances, KEEP, max, at(100));
            assert_eq!(got.remove, remove, "{name}");
            assert_eq!(got.wake, wake.map(at), "{name}");
        }
    }
}
