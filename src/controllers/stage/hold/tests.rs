//! What holds make of what policies and people want.

use uuid::Uuid;

use super::*;
use crate::{
    controllers::{
        fixture::{SHOP, at, read, release},
        stage::sources::sources,
    },
    domain::actor::Actor,
    render::Identity,
};

fn shop(pin: &str) -> (Vec<Source>, impl Fn(u8) -> Release) {
    let (project, stage) = read(&SHOP.replace("  project: shop\n", &format!("  project: shop\n  pin: {pin}\n")));
    let identity = Identity { namespace: "acme".into(), home: None, project: "shop".into(), stage: "dev".into() };
    let sources = sources(&identity, &project.spec, &stage.spec).unwrap();
    (sources, move |minor| release(&project, minor))
}

fn found(release: Release) -> Resolution {
    Resolution { release, ..Resolution::default() }
}

/// A hold by hand.
fn by_hand() -> Hold {
    Hold {
        id: Uuid::nil(),
        target: Uuid::nil(),
        owner: "ada".into(),
        actor: Actor::User("ada".into()),
        reason: "the sale".into(),
        at: at(1),
        expires_at: None,
        from: None,
        settled_on: None,
        declared: None,
    }
}

/// One that a rollback made.
fn of_rollback(sources: &[Source], left: Release) -> Hold {
    Hold { from: Some(left), settled_on: Some("as-now".into()), declared: Some(declared(sources)), ..by_hand() }
}

#[test]
fn without_a_hold_what_is_found_comes() {
    let (sources, version) = shop("{}");
    assert_eq!(keep(&[], &sources, &found(version(3)), None, Some(&version(2)), false), Kept::Free);
    let hold = by_hand();
    assert_eq!(keep(&[&hold], &sources, &found(version(3)), None, None, false), Kept::Free, "nothing runs to be kept");
}

#[test]
fn a_rollback_is_not_undone_by_what_was_left_and_is_by_what_is_newer() {
    let (sources, version) = shop("{}");
    let hold = of_rollback(&sources, version(3));
    let keep = |beyond: u8, insisted| {
        keep(&[&hold], &sources, &found(version(3)), Some(&found(version(beyond))), Some(&version(2)), insisted)
    };
    let Kept::Stays { release, settled, drift } = keep(3, false) else { panic!("it was undone") };
    assert_eq!(release, version(2));
    assert!(settled.covers("as-now") && !settled.covers("another configuration"));
    assert_eq!(drift.map(|drift| drift.contains("service db")), Some(true), "the db of the Project is fixed");
    assert!(matches!(keep(4, false), Kept::Over { release, .. } if release == version(4)));
    assert!(matches!(keep(3, true), Kept::Over { release, .. } if release == version(3)), "somebody insisted");
}

#[test]
fn a_configuration_that_was_gone_back_from_is_held_until_there_is_a_newer_image() {
    let (sources, version) = shop("{}");
    let hold = of_rollback(&sources, version(3));
    let keep =
        |beyond| keep(&[&hold], &sources, &found(version(3)), Some(&found(version(beyond))), Some(&version(3)), false);
    assert!(matches!(keep(3), Kept::Stays { settled: Settled::On(_), .. }));
    assert!(matches!(keep(4), Kept::Over { release, .. } if release == version(4)));
}

#[test]
fn what_is_not_known_is_not_newer() {
    let (sources, version) = shop("{}");
    let hold = of_rollback(&sources, version(3));
    let asking = Resolution { asking: true, ..found(Release::default()) };
    let kept = keep(&[&hold], &sources, &found(version(3)), Some(&asking), Some(&version(2)), false);
    assert!(matches!(kept, Kept::Stays { release, .. } if release == version(2)));
}

#[test]
fn another_pin_is_a_wish_of_its_own_and_the_same_pin_is_drift() {
    let (before, version) = shop("{web: 1.3.0}");
    let hold = of_rollback(&before, version(3));
    let kept = keep(&[&hold], &before, &found(version(3)), None, Some(&version(2)), false);
    let Kept::Stays { release, drift: Some(drift), .. } = kept else { panic!("{kept:?}") };
    assert_eq!(release, version(2));
    let digest = |minor: u8| version(minor).0.get("web").unwrap().digest.clone();
    assert!(drift.contains(&digest(2)) && drift.contains(&digest(3)), "{drift}");
    let (after, _) = shop("{web: 1.1.0}");
    let kept = keep(&[&hold], &after, &found(version(1)), None, Some(&version(2)), false);
    assert!(matches!(kept, Kept::Over { release, .. } if release == version(1)));
}

#[test]
fn a_hold_by_hand_keeps_policies_away_and_lets_people_through() {
    let (sources, version) = shop("{db: 1.3.0}");
    let hold = by_hand();
    let kept = keep(&[&hold], &sources, &found(version(3)), None, Some(&version(2)), false);
    let Kept::Stays { release, settled: Settled::Never, drift: None } = kept else { panic!("{kept:?}") };
    assert_eq!(
        (&release.0.get("web").unwrap(), &release.0.get("db").unwrap()),
        (&version(2).0.get("web").unwrap(), &version(3).0.get("db").unwrap())
    );
    // Together with that of a rollback: something newer does not end both.
    let rollback = of_rollback(&sources, version(3));
    let newer = found(version(4));
    let kept = keep(&[&hold, &rollback], &sources, &found(version(3)), Some(&newer), Some(&version(2)), false);
    assert!(matches!(kept, Kept::Stays { release, .. } if release == version(2)));
}

#[test]
fn what_has_expired_holds_nothing() {
    let hold = Hold { expires_at: Some(at(10)), ..by_hand() };
    let all = [hold.clone(), by_hand()];
    assert_eq!(active(&all, at(9)).count(), 2);
    assert_eq!(active(&all, at(10)).count(), 1);
}
