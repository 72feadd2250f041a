//! `stagekeeper updates`, the way a person uses it.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use stagekeeper::domain::{
    actor::Actor,
    clock::{Clock as _, SystemClock},
    image::Digest,
    update::SeenUpdate,
};

use crate::{
    binary::{Ended, run, stagekeeper},
    credentials::cells,
    postgres::TestDatabase,
};

struct Place {
    database: TestDatabase,
    /// Ten days and a bit ago, so that ages do not change while a test runs.
    start: Timestamp,
}

impl Place {
    /// Three images that no project watches on the host `vm`, and one of the stage `acme/dev`.
    async fn new() -> Self {
        let place =
            Self { database: TestDatabase::new().await, start: SystemClock.now() - SignedDuration::from_mins(14_410) };
        let nginx = place.seen("docker.io/library/nginx:1.29", "vm", "1");
        let shop = SeenUpdate {
            platform: String::new(),
            tag: Some("1.4.2".into()),
            old_digest: Some(Digest::of(b"0")),
            provider: String::new(),
            link: None,
            seen_by: Actor::Policy,
            ..place.seen("ghcr.io/acme/shop", "acme/dev", "2")
        };
        let (api, jobs) =
            (place.seen("ghcr.io/acme/api:main", "vm", "3"), place.seen("ghcr.io/acme/jobs:main", "vm", "4"));
        for (second, seen) in (0..).zip([nginx, shop, api, jobs]) {
            let seen = SeenUpdate { at: place.start + SignedDuration::from_secs(second), ..seen };
            assert_eq!(place.database.store.updates_see(&[seen]).await, Ok(1));
        }
        place
    }

    fn seen(&self, image: &str, host: &str, new: &str) -> SeenUpdate {
        SeenUpdate {
            image: image.into(),
            host: host.into(),
            platform: "linux/amd64".into(),
            tag: image.rsplit_once(':').map(|(_, tag)| tag.to_owned()),
            old_digest: None,
            new_digest: Digest::of(new.as_bytes()),
            created: Some(self.start - SignedDuration::from_hours(48)),
            provider: "docker".into(),
            link: Some("https://hub.docker.com/_/nginx".into()),
            seen_by: Actor::Webhook("diun".into()),
            at: self.start,
        }
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        let mut command = stagekeeper(&[&["updates"], arguments].concat());
        run(command.env("DATABASE_URL", &self.database.url).env("USER", "jane"))
    }

    /// The images of the list with these arguments, newest first.
    fn images(&self, arguments: &[&str]) -> Vec<String> {
        let json = self.run(&[&["list", "-o", "json"], arguments].concat()).json();
        let items = json["items"].as_array().unwrap().iter();
        items.map(|item| item["image"].as_str().unwrap().to_owned()).collect()
    }
}

#[tokio::test]
async fn the_list_shows_what_is_newer_where_and_since_when() {
    let place = Place::new().await;
    let list = place.run(&["list"]).well();
    let rows: Vec<Vec<&str>> = list.lines().map(cells).collect();
    assert_eq!(rows[0], ["ID", "IMAGE", "NEW", "HOST", "PLATFORM", "AGE", "STATE", "TAGS"]);
    assert_eq!(rows[3], ["2", "ghcr.io/acme/shop", "1.4.2", "acme/dev", "10d", "pending"]);
    let digest = Digest::of(b"1").to_string();
    assert_eq!(
        rows[4],
        ["1", "docker.io/library/nginx:1.29", &digest[..19], "vm", "linux/amd64", "10d", "pending"],
        "the tag is in the name already"
    );
    let wide = place.run(&["list", "-o", "wide", "--host", "vm", "--image", "*nginx*"]).well();
    for part in [&digest, "12d ago", "webhook:diun", "docker", "https://hub.docker.com/_/nginx"] {
        assert!(wide.contains(part), "{part}: {wide}");
    }
    assert_eq!(place.run(&["list", "-o", "name", "--limit", "2"]).well(), "update/4\nupdate/3\n");
    let less = place.run(&["list", "--limit", "2"]);
    assert_eq!((less.code, less.err.as_str()), (0, "there are older ones: raise --limit (now 2)\n"));

    let item = &place.run(&["list", "--host", "acme/dev", "-o", "json"]).json()["items"][0];
    let at = place.start + SignedDuration::from_secs(1);
    let micros = Timestamp::from_microsecond(at.as_microsecond()).unwrap();
    assert_eq!(item["firstSeenAt"].as_str().unwrap().parse::<Timestamp>().unwrap(), micros);
    let mut rest = item.clone();
    for key in ["firstSeenAt", "lastSeenAt", "created"] {
        assert!(rest.as_object_mut().unwrap().remove(key).is_some(), "{key}: {item}");
    }
    assert_eq!(
        rest,
        json!({
            "id": 2, "image": "ghcr.io/acme/shop", "host": "acme/dev", "platform": "", "pending": true, "tag": "1.4.2",
            "oldDigest": Digest::of(b"0").to_string(), "newDigest": Digest::of(b"2").to_string(), "provider": "",
            "link": null, "seenBy": "policy", "acknowledged": null, "tags": [],
        })
    );
    let none = place.run(&["list", "--search", "postgres"]);
    assert_eq!((none.code, none.out.as_str(), none.err.as_str()), (0, "", "no updates found\n"));
    assert_eq!(
        place.images(&["--search", "ACME", "--host", "vm"]),
        ["ghcr.io/acme/jobs:main", "ghcr.io/acme/api:main"]
    );
}

#[tokio::test]
async fn updates_are_acknowledged_one_by_one_and_by_the_dozen() {
    let place = Place::new().await;
    assert_eq!(place.run(&["ack", "1"]).well(), "acknowledged 1 update\n");
    assert_eq!(place.run(&["ack", "update/1"]).well(), "acknowledged no update\n");
    assert_eq!(place.images(&["--pending"]).len(), 3);
    assert_eq!(place.run(&["ack", "--host", "vm", "--image", "ghcr.io/acme/*"]).well(), "acknowledged 2 updates\n");
    assert_eq!(place.images(&["--pending"]), ["ghcr.io/acme/shop"]);
    let known = &place.run(&["list", "--image", "*nginx*", "-o", "json"]).json()["items"][0]["acknowledged"];
    assert_eq!((&known["by"], &known["digest"]), (&json!("user:jane"), &json!(Digest::of(b"1").to_string())));
    assert_eq!(place.run(&["unack", "--search", "nginx"]).well(), "opened 1 update again\n");
    assert_eq!(place.run(&["ack", "--all"]).well(), "acknowledged 2 updates\n");
    assert_eq!(place.run(&["unack", "--all"]).well(), "opened 4 updates again\n");

    for command in ["ack", "unack"] {
        let said = place.run(&[command]).badly(2);
        assert!(said.contains("nothing says which updates are meant") && said.contains("--all"), "{said}");
        for both in [["1", "--all"], ["1", "--host=vm"], ["--all", "--host=vm"], ["--", "0"], ["--", "-1"], ["x", "2"]]
        {
            place.run(&[&[command], &both[..]].concat()).badly(2);
        }
        let said = place.run(&[command, "1", "77"]).badly(1);
        assert_eq!(said, "error: update 77 does not exist\n  see `stagekeeper updates list`\n");
        let said = place.run(&[command, "--tag", "edge"]).badly(1);
        assert_eq!(said, "error: tag edge does not exist\n  see `stagekeeper updates tag list`\n");
    }
    assert_eq!(place.images(&["--pending"]).len(), 4, "what is refused changes nothing");
}

#[tokio::test]
async fn tags_group_updates() {
    let place = Place::new().await;
    assert_eq!(place.run(&["tag", "create", "Backend"]).well(), "tag Backend made\n");
    assert_eq!(place.run(&["tag", "create", "edge"]).well(), "tag edge made\n");
    let said = place.run(&["tag", "create", "BACKEND"]).badly(1);
    assert!(said.contains("there is a tag `BACKEND` already") && said.contains("updates tag list"), "{said}");
    let said = place.run(&["tag", "create", "two words"]).badly(2);
    assert!(said.contains("names no tag"), "{said}");
    let filter = ["--image", "ghcr.io/acme/*"];
    assert_eq!(
        place.run(&[&["tag", "assign", "backend"], &filter[..]].concat()).well(),
        "tag backend given to 3 updates\n"
    );
    assert_eq!(place.run(&["tag", "assign", "backend", "--tag", "backend"]).well(), "tag backend given to no update\n");
    assert_eq!(place.run(&["tag", "assign", "edge", "1", "2"]).well(), "tag edge given to 2 updates\n");
    assert_eq!(place.images(&["--tag", "EDGE"]), ["ghcr.io/acme/shop", "docker.io/library/nginx:1.29"]);
    let list = place.run(&["list", "--host", "acme/dev"]).well();
    assert!(list.contains("Backend,edge"), "{list}");
    assert_eq!(place.run(&["ack", "--tag", "backend"]).well(), "acknowledged 3 updates\n");
    let tags = place.run(&["tag", "list"]).well();
    let rows: Vec<Vec<&str>> = tags.lines().map(cells).collect();
    assert_eq!(rows[0], ["NAME", "UPDATES", "PENDING", "AGE", "BY"]);
    assert_eq!((&rows[1][..3], rows[1][4]), (&["Backend", "3", "0"][..], "user:jane"));
    assert_eq!(&rows[2][..3], ["edge", "2", "1"]);
    assert_eq!(place.run(&["tag", "rename", "backend", "team-a"]).well(), "tag backend is called team-a now\n");
    assert_eq!(place.run(&["tag", "list", "-o", "name"]).well(), "tag/edge\ntag/team-a\n");
    assert_eq!(place.run(&["tag", "unassign", "team-a", "--host", "vm"]).well(), "tag team-a taken from 2 updates\n");
    let json = place.run(&["tag", "list", "-o", "json"]).json();
    assert_eq!((&json["items"][1]["name"], &json["items"][1]["updates"]), (&json!("team-a"), &json!(1)));
    assert_eq!(place.run(&["tag", "delete", "team-a"]).well(), "tag team-a deleted; 1 update had it\n");
    for gone in [
        vec!["tag", "delete", "team-a"],
        vec!["tag", "rename", "team-a", "x"],
        vec!["tag", "assign", "team-a", "1"],
        vec!["tag", "unassign", "team-a", "--all"],
        vec!["list", "--tag", "team-a"],
    ] {
        let said = place.run(&gone).badly(1);
        assert_eq!(said, "error: tag team-a does not exist\n  see `stagekeeper updates tag list`\n", "{gone:?}");
    }
    assert_eq!(place.images(&[]).len(), 4, "the updates stay");
    place.run(&["tag", "assign", "edge"]).badly(2);
}
