//! News from both sides, in every order.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::cluster::index::view::{Meta, ServiceView};
use crate::cluster::index::wire::AnyView;

const SERVICES: usize = 0;

fn memory() -> Memory {
    Memory::new([Coverage { kind: Kind::Service, namespace: None }])
}

fn service(stage: &str, name: &str, uid: u64, version: u64, selects: &str) -> Seen {
    Seen {
        stage: StageKey::new("shop", stage),
        version,
        view: AnyView::Service(ServiceView {
            meta: Meta { name: name.into(), uid: uid.to_string().into(), ..Meta::default() },
            selects: Some(selects.into()),
            ..ServiceView::default()
        }),
    }
}

fn dev() -> StageKey {
    StageKey::new("shop", "dev")
}

fn selects(memory: &Memory, stage: &StageKey, name: &str) -> Option<String> {
    let service = memory.stage(stage)?.service(name)?;
    service.selects.as_deref().map(str::to_owned)
}

#[test]
fn only_what_readers_can_see_counts_as_a_change() {
    let mut memory = memory();
    assert_eq!(memory.saw(SERVICES, service("dev", "web", 1, 10, "blue")), [dev()]);
    assert_eq!(memory.saw(SERVICES, service("dev", "web", 1, 11, "blue")), [], "only its version moved");
    assert_eq!(memory.saw(SERVICES, service("dev", "web", 1, 12, "green")), [dev()]);
    assert_eq!(memory.saw_deleted(SERVICES, &service("dev", "web", 1, 13, "green")), [dev()]);
    assert!(memory.stage(&dev()).is_none(), "a stage without children takes no room");
    assert!(memory.places.is_empty());
}

#[test]
fn an_older_event_never_overwrites_a_newer_reply() {
    let mut memory = memory();
    memory.saw(SERVICES, service("dev", "web", 1, 10, "blue"));
    assert_eq!(memory.wrote(Kind::Service, service("dev", "web", 1, 12, "green")), [dev()]);
    assert_eq!(memory.saw(SERVICES, service("dev", "web", 1, 11, "blue")), []);
    assert_eq!(selects(&memory, &dev(), "web").as_deref(), Some("green"));
    assert_eq!(memory.saw(SERVICES, service("dev", "web", 1, 12, "green")), [], "the echo of our own write");
}

#[test]
fn a_late_reply_does_not_bring_back_what_was_deleted_since() {
    let mut memory = memory();
    memory.saw(SERVICES, service("dev", "web", 1, 10, "blue"));
    memory.saw_deleted(SERVICES, &service("dev", "web", 1, 11, "blue"));
    assert_eq!(memory.wrote(Kind::Service, service("dev", "web", 1, 10, "blue")), []);
    assert!(memory.stage(&dev()).is_none());
}

#[test]
fn a_late_event_does_not_bring_back_what_we_deleted() {
    let mut memory = memory();
    memory.saw(SERVICES, service("dev", "web", 1, 10, "blue"));
    assert_eq!(memory.deleted(Kind::Service, "shop", "web", "1"), [dev()]);
    assert_eq!(memory.saw(SERVICES, service("dev", "web", 1, 11, "blue")), [], "an event from before the deletion");
    assert!(memory.stage(&dev()).is_none());
    assert_eq!(memory.saw_deleted(SERVICES, &service("dev", "web", 1, 12, "blue")), []);
    assert!(memory.deleted.is_empty(), "nothing more to wait for");
    assert_eq!(memory.saw(SERVICES, service("dev", "web", 2, 13, "blue")), [dev()], "another of that name");
}

#[test]
fn deleting_something_else_of_that_name_changes_nothing() {
    let mut memory = memory();
    memory.saw(SERVICES, service("dev", "web", 2, 10, "blue"));
    assert_eq!(memory.deleted(Kind::Service, "shop", "web", "1"), []);
    assert_eq!(memory.deleted(Kind::Service, "other", "web", "2"), []);
    assert!(memory.stage(&dev()).is_some());
    assert!(memory.deleted.is_empty());
}

#[test]
fn a_list_replaces_everything_but_what_is_newer() {
    let mut memory = memory();
    memory.saw(SERVICES, service("dev", "kept", 1, 10, "blue"));
    memory.saw(SERVICES, service("dev", "missed", 2, 11, "blue"));
    memory.wrote(Kind::Service, service("dev", "newer", 3, 30, "blue"));
    let list = vec![service("dev", "kept", 1, 10, "blue"), service("test", "new", 4, 15, "blue")];
    let mut changed = memory.listed(SERVICES, 20, list);
    changed.sort();
    assert_eq!(changed, [dev(), StageKey::new("shop", "test")]);
    let names: Vec<_> = memory.stage(&dev()).unwrap().services().map(|s| s.meta.name.to_string()).collect();
    assert_eq!(names, ["kept", "newer"]);
}

#[test]
fn a_list_concerns_only_its_own_namespace_and_kind() {
    let coverage = |kind, ns: &str| Coverage { kind, namespace: Some(ns.into()) };
    let mut memory = Memory::new([coverage(Kind::Service, "shop"), coverage(Kind::Service, "bank")]);
    memory.saw(0, service("dev", "web", 1, 10, "blue"));
    assert_eq!(memory.listed(1, 20, Vec::new()), []);
    assert!(memory.stage(&dev()).is_some());
    assert_eq!(memory.listed(0, 20, Vec::new()), [dev()]);
    let elsewhere = Seen { stage: StageKey::new("elsewhere", "dev"), ..service("dev", "web", 1, 30, "blue") };
    assert_eq!(memory.wrote(Kind::Service, elsewhere), [], "nobody would tell us of its end");
}

#[test]
fn a_restored_backup_is_believed() {
    let mut memory = memory();
    memory.saw(SERVICES, service("dev", "web", 1, 100, "green"));
    memory.saw(SERVICES, service("dev", "gone", 2, 101, "green"));
    memory.listed(SERVICES, 50, vec![service("dev", "web", 1, 40, "blue")]);
    assert_eq!(selects(&memory, &dev(), "web").as_deref(), Some("blue"));
    assert_eq!(selects(&memory, &dev(), "gone"), None);
    assert_eq!(memory.saw(SERVICES, service("dev", "web", 1, 51, "green")), [dev()], "time goes on from there");
}

#[test]
fn a_relabelled_object_moves_to_its_new_stage() {
    let mut memory = memory();
    memory.saw(SERVICES, service("dev", "web", 1, 10, "blue"));
    let mut changed = memory.saw(SERVICES, service("test", "web", 1, 11, "blue"));
    changed.sort();
    assert_eq!(changed, [dev(), StageKey::new("shop", "test")]);
    assert!(memory.stage(&dev()).is_none());
}

#[test]
fn what_was_handed_out_does_not_change() {
    let mut memory = memory();
    memory.saw(SERVICES, service("dev", "web", 1, 10, "blue"));
    let before = memory.stage(&dev()).unwrap().clone();
    memory.saw(SERVICES, service("dev", "web", 1, 11, "green"));
    assert_eq!(before.service("web").unwrap().selects.as_deref(), Some("blue"));
    assert_eq!(selects(&memory, &dev(), "web").as_deref(), Some("green"));
}

/// One step of a history: something happens at the API server, or news of it arrives here.
#[derive(Debug, Clone)]
enum Step {
    /// Somebody writes an object, making it if need be. Of our own writes we get a reply.
    Write { name: u8, value: u8, ours: bool },
    /// Somebody deletes an object. Of our own deletions we get a reply.
    Delete { name: u8, ours: bool },
    /// The next watch event arrives.
    Event,
    /// The n-th outstanding reply arrives.
    Reply(u8),
    /// The watch is lost; a list is made now and arrives at once.
    Relist,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..3_u8, 0..3_u8, any::<bool>()).prop_map(|(name, value, ours)| Step::Write { name, value, ours }),
        2 => (0..3_u8, any::<bool>()).prop_map(|(name, ours)| Step::Delete { name, ours }),
        4 => Just(Step::Event),
        3 => (0..4_u8).prop_map(Step::Reply),
        1 => Just(Step::Relist),
    ]
}

enum News {
    Saw(Seen),
    Deleted(Seen),
}

/// An API server with one kind, and what it has not told us yet.
#[derive(Default)]
struct Server {
    version: u64,
    objects: BTreeMap<u8, Seen>,
    events: VecDeque<News>,
    replies: VecDeque<News>,
}

impl Server {
    fn write(&mut self, name: u8, value: u8, ours: bool) {
        self.version += 1;
        let uid = match self.objects.get(&name) {
            Some(seen) => seen.view.meta().uid.parse().unwrap(),
            None => self.version,
        };
        let seen = service("dev", &name.to_string(), uid, self.version, &value.to_string());
        self.objects.insert(name, seen.clone());
        if ours {
            self.replies.push_back(News::Saw(seen.clone()));
        }
        self.events.push_back(News::Saw(seen));
    }

    fn delete(&mut self, name: u8, ours: bool) {
        let Some(seen) = self.objects.remove(&name) else {
            return;
        };
        self.version += 1;
        let seen = Seen { version: self.version, ..seen };
        if ours {
            self.replies.push_back(News::Deleted(seen.clone()));
        }
        self.events.push_back(News::Deleted(seen));
    }
}

fn deliver_event(memory: &mut Memory, news: News) {
    match news {
        News::Saw(seen) => memory.saw(SERVICES, seen),
        News::Deleted(seen) => memory.saw_deleted(SERVICES, &seen),
    };
}

fn deliver_reply(memory: &mut Memory, news: News) {
    match news {
        News::Deleted(seen) => {
            let meta = seen.view.meta();
            memory.deleted(Kind::Service, "shop", &meta.name, &meta.uid);
        }
        News::Saw(seen) => {
            let (name, version) = (seen.view.meta().name.clone(), seen.version);
            let uid = seen.view.meta().uid.clone();
            let position = memory.feeds[SERVICES].1;
            let deleted = memory.deleted.contains(&(Kind::Service, uid));
            memory.wrote(Kind::Service, seen);
            let known = memory.stage(&dev()).and_then(|c| c.version(Kind::Service, &name));
            assert!(
                known.is_some_and(|known| known >= version) || position >= version || deleted,
                "what was written is what is read: {known:?} after {version}"
            );
        }
    }
}

proptest! {
    /// Whatever the order in which events and replies arrive: when all have, the memory is what the server has.
    #[test]
    fn the_memory_ends_as_the_server(steps in prop::collection::vec(step(), 1..60)) {
        let mut server = Server::default();
        let mut memory = memory();
        for step in steps {
            match step {
                Step::Write { name, value, ours } => server.write(name, value, ours),
                Step::Delete { name, ours } => server.delete(name, ours),
                Step::Event => {
                    if let Some(news) = server.events.pop_front() {
                        deliver_event(&mut memory, news);
                    }
                }
                Step::Reply(n) => {
                    let at = usize::from(n).min(server.replies.len().saturating_sub(1));
                    if let Some(news) = server.replies.remove(at) {
                        deliver_reply(&mut memory, news);
                    }
                }
                Step::Relist => {
                    server.events.clear();
                    memory.listed(SERVICES, server.version, server.objects.values().cloned().collect());
                }
            }
        }
        while let Some(news) = server.events.pop_front() {
            deliver_event(&mut memory, news);
        }
        while let Some(news) = server.replies.pop_back() {
            deliver_reply(&mut memory, news);
        }

        let want: Vec<_> = server.objects.values().map(|s| (s.view.meta().name.to_string(), s.version)).collect();
        let got: Vec<_> = memory.stage(&dev()).map_or(Vec::new(), |c| {
            c.services().map(|s| (s.meta.name.to_string(), c.version(Kind::Service, &s.meta.name).unwrap())).collect()
        });
        prop_assert_eq!(got, want);
        prop_assert_eq!(memory.places.len(), server.objects.len());
        prop_assert!(memory.deleted.is_empty(), "every deletion was confirmed");
    }
}
