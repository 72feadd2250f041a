//! What goes on the update list, from what serves, what was found and what was told.

use std::sync::Arc;

use super::*;
use crate::{
    api::{Project, Stage},
    controllers::{
        fixture::{SHOP, at, read, release},
        images::{About, Answer, Listing},
    },
};

const POLICY: &str = "policy: {semver: '>=1.0'}";

fn digest(minor: u8) -> Digest {
    format!("sha256:{}", format!("{minor:02x}").repeat(32)).parse().unwrap()
}

/// A registry with the versions `1.0.0` to `1.LAST.0`; `main` is the last one.
fn registry(last: u8) -> impl Fn(&Question) -> Known + Copy {
    move |question| {
        let answer = match &question.about {
            About::Tags => {
                let tags = (0..=last).map(|minor| format!("1.{minor}.0")).collect();
                Answer::Tags(Arc::new(Listing::new(tags)))
            }
            About::Dates(_) => unreachable!("no policy here goes by date"),
            About::Tag(tag, _) if tag == "main" => Answer::Digest(digest(last)),
            About::Tag(tag, _) => Answer::Digest(digest(tag.split('.').nth(1).unwrap().parse().unwrap())),
        };
        Known { answer: Some(answer), ..Known::default() }
    }
}

struct Scene {
    project: Project,
    stage: Stage,
    serves: Option<Release>,
    told: Told,
}

impl Scene {
    /// Version 1.1.0 serves, as the shop with this change declares it.
    fn new(from: &str, to: &str) -> Self {
        let (project, stage) = read(&SHOP.replace(from, to));
        let serves = Some(release(&project, 1));
        Self { project, stage, serves, told: Told::default() }
    }

    fn look(&self, last: u8) -> (Vec<Newer>, Resolution) {
        let identity = Identity { namespace: "acme".into(), home: None, project: "shop".into(), stage: "dev".into() };
        let (project, stage, serves) = (&self.project.spec, &self.stage.spec, self.serves.as_ref());
        let sources = sources::sources(&identity, project, stage).unwrap();
        let mut resolution = wanted::resolve(&sources, serves, registry(last));
        let place = Place { identity: &identity, project, stage, serves, now: at(5) };
        let newer = place.newer(&sources, &mut resolution, &self.told, registry(last));
        (newer, resolution)
    }

    fn digests(&self, last: u8) -> Vec<Digest> {
        self.look(last).0.iter().map(|one| one.update.new_digest).collect()
    }
}

#[test]
fn a_newer_image_is_told_with_where_it_would_run() {
    let scene = Scene::new(POLICY, "platform: linux/arm64, policy: {semver: '>=1.0'}");
    let (newer, _) = scene.look(2);
    let update = SeenUpdate {
        image: "ghcr.io/acme/shop".into(),
        host: "acme/dev".into(),
        platform: "linux/arm64".into(),
        tag: Some("1.2.0".into()),
        old_digest: Some(digest(1)),
        new_digest: digest(2),
        created: None,
        provider: String::new(),
        link: None,
        seen_by: Actor::Policy,
        at: at(5),
    };
    assert_eq!(newer, [Newer { service: "web".into(), update }]);
}

#[test]
fn a_followed_tag_is_named_with_the_image() {
    let scene = Scene::new(POLICY, "policy: {digest: main}");
    let (newer, _) = scene.look(2);
    assert_eq!(newer[0].update.image, "ghcr.io/acme/shop:main");
    assert_eq!((newer[0].update.platform.as_str(), newer[0].update.tag.as_deref()), ("", Some("main")));
}

#[test]
fn nothing_is_newer_than_nothing_or_the_same() {
    let scene = Scene::new("", "");
    assert_eq!(scene.digests(1), []);
    assert_eq!(scene.digests(0), [], "an older one");
    assert_eq!(Scene { serves: None, ..scene }.digests(2), [], "the first deploy");
    let mut moved = Scene::new("", "");
    let image = moved.serves.as_mut().unwrap().0.get_mut("web").unwrap();
    image.repository = "r.test/acme/shop".into();
    assert_eq!(moved.digests(2), [], "another repository is another image");
    assert_eq!(Scene::new(POLICY, "tag: 1.2.0").digests(2), [], "nobody follows a fixed tag");
}

#[test]
fn each_digest_is_told_once_until_there_is_another() {
    let mut scene = Scene::new("", "");
    scene.told.add(scene.look(2).0);
    assert_eq!(scene.digests(2), []);
    assert_eq!(scene.digests(3), [digest(3)]);
    scene.told.add(scene.look(3).0);
    assert_eq!(scene.digests(2), [digest(2)], "one that is back is told again");
}

#[test]
fn a_pin_hides_no_update() {
    for pin in ["pin: {web: 1.1.0}", "services: {web: {tag: 1.1.0}}"] {
        let scene = Scene::new("  project: shop\n", &format!("  project: shop\n  {pin}\n"));
        let (newer, resolution) = scene.look(3);
        assert_eq!(newer.iter().map(|one| one.update.new_digest).collect::<Vec<_>>(), [digest(3)], "{pin}");
        assert_eq!(resolution.release.0.get("web").unwrap().tag.as_deref(), Some("1.1.0"), "{pin} holds");
        let intervals: Vec<bool> = resolution.questions.values().map(|wish| wish.interval.is_some()).collect();
        assert_eq!(intervals, [true, true], "{pin}: the tags and the newest of them, as often as the policy says");
    }
    let fixed = Scene::new(POLICY, "tag: 1.0.0");
    let stage = StageSpec { pin: [("web".to_owned(), "1.1.0".to_owned())].into(), ..fixed.stage.spec.clone() };
    let fixed = Scene { stage: Stage { spec: stage, ..fixed.stage }, ..fixed };
    let (newer, resolution) = fixed.look(3);
    assert_eq!((newer, resolution.questions.len()), (Vec::new(), 0), "beneath this pin nothing is followed");
}
