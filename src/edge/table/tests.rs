//! Objects in, hosts out.

use proptest::prelude::*;

use super::*;

fn key(namespace: &str, name: &str) -> Key {
    (namespace.into(), name.into())
}

fn service(created: i64, hosts: &[&str]) -> ServiceView {
    let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
    ServiceView { created, hosts, port: "http".into(), project: Some("shop".into()) }
}

fn endpoint(address: &str, ready: bool, lingers: bool) -> EndpointView {
    EndpointView { address: address.parse().unwrap(), ready, lingers }
}

fn slice(service: &str, endpoints: Vec<EndpointView>) -> SliceView {
    SliceView { service: service.into(), endpoints, ports: vec![("metrics".into(), 9090), ("http".into(), 8080)] }
}

fn environment(created: i64, place: &str, host: &str) -> EnvironmentView {
    EnvironmentView {
        created,
        place: place.into(),
        project: "shop".into(),
        pull_request: Some(42),
        subdomain: host.split('.').next().unwrap().into(),
        hosts: vec![host.into()],
        phase: Phase::Ready,
        awake: true,
        ..EnvironmentView::default()
    }
}

fn build(objects: &Objects) -> Table {
    Table::build(objects, &Table::default(), Instant::now())
}

fn leads_to(table: &Table, host: &str) -> Option<String> {
    let (namespace, name) = table.route(host)?.service.clone()?;
    Some(format!("{namespace}/{name}"))
}

#[test]
fn the_oldest_service_has_a_host_and_the_others_are_told_about() {
    let mut objects = Objects::default();
    objects.services.insert(key("b", "young"), service(20, &["shop.test", "only.test"]));
    objects.services.insert(key("b", "old"), service(10, &["Shop.test.", "shop.test"]));
    objects.services.insert(key("a", "twin"), service(10, &["shop.test"]));
    objects.services.insert(key("c", "odd"), service(1, &["no host", "*.test", ""]));
    let table = build(&objects);
    assert_eq!(leads_to(&table, "shop.test").as_deref(), Some("b/old"), "of one age: the first by name");
    assert_eq!(leads_to(&table, "only.test").as_deref(), Some("b/young"));
    assert_eq!(table.len(), 2);
    let told: Vec<(&str, &str)> =
        table.conflicts.iter().map(|conflict| (conflict.has.as_str(), conflict.lost.as_str())).collect();
    assert_eq!(told, [("Service b/old", "Service a/twin"), ("Service b/old", "Service b/young")]);
}

#[test]
fn a_host_of_an_environment_leads_into_its_namespace_only() {
    let mut objects = Objects::default();
    objects.environments.insert(key("acme", "pr-42"), environment(5, "home-42", "pr-42-x.preview.test"));
    objects.services.insert(key("evil", "web"), service(1, &["pr-42-x.preview.test"]));
    let table = build(&objects);
    assert_eq!(leads_to(&table, "pr-42-x.preview.test"), None, "nobody else's Service, however old");
    assert_eq!(table.conflicts.len(), 1);
    assert!(table.route("pr-42-x.preview.test").unwrap().preview.is_some(), "its page is shown");

    objects.services.insert(key("home-42", "web"), service(9, &["pr-42-x.preview.test"]));
    let table = build(&objects);
    assert_eq!(leads_to(&table, "pr-42-x.preview.test").as_deref(), Some("home-42/web"));
    let marks: Vec<String> =
        table.route("pr-42-x.preview.test").unwrap().marks.iter().map(|(_, v)| v.to_str().unwrap().into()).collect();
    assert_eq!(marks, ["pr-42", "shop", "42"]);
}

#[test]
fn of_two_environments_the_older_has_the_host() {
    let mut objects = Objects::default();
    objects.environments.insert(key("a", "young"), environment(9, "a", "x.preview.test"));
    objects.environments.insert(key("a", "zold"), environment(5, "a", "x.preview.test"));
    let table = build(&objects);
    assert_eq!(table.route("x.preview.test").unwrap().preview.as_ref().unwrap().key, key("a", "zold"));
    assert_eq!(table.conflicts.len(), 1);
}

#[test]
fn the_named_port_of_ready_endpoints_is_where_requests_go() {
    let mut objects = Objects::default();
    objects.services.insert(key("a", "web"), service(1, &["shop.test"]));
    let table = |objects: &Objects| build(objects).route("shop.test").unwrap().endpoints.clone();
    let at = |addresses: &[&str]| addresses.iter().map(|one| one.parse().unwrap()).collect::<Vec<SocketAddr>>();
    assert_eq!(table(&objects), []);
    objects.slices.insert(
        key("a", "web-1"),
        slice(
            "web",
            vec![
                endpoint("10.0.0.2", true, false),
                endpoint("10.0.0.1", true, false),
                endpoint("10.0.0.3", false, true),
                endpoint("10.0.0.4", false, false),
            ],
        ),
    );
    // Of another namespace, and of another Service.
    objects.slices.insert(key("b", "web-1"), slice("web", vec![endpoint("10.0.0.9", true, false)]));
    objects.slices.insert(key("a", "db-1"), slice("db", vec![endpoint("10.0.0.8", true, false)]));
    // On its way from one slice to another.
    objects.slices.insert(
        key("a", "web-2"),
        slice("web", vec![endpoint("10.0.0.1", true, false), endpoint("fd00::1", true, false)]),
    );
    assert_eq!(table(&objects), at(&["10.0.0.1:8080", "10.0.0.2:8080", "[fd00::1]:8080"]));
    objects.slices.remove(&key("a", "web-2"));
    objects.slices.get_mut(&key("a", "web-1")).unwrap().endpoints.drain(..2);
    assert_eq!(table(&objects), at(&["10.0.0.3:8080"]), "what lingers is better than nothing");
    objects.services.get_mut(&key("a", "web")).unwrap().port = "other".into();
    assert_eq!(table(&objects), []);
}

#[test]
fn addresses_are_remembered_for_a_moment_and_not_of_what_sleeps() {
    let mut objects = Objects::default();
    objects.services.insert(key("home", "web"), service(1, &["x.preview.test"]));
    objects.slices.insert(key("home", "web-1"), slice("web", vec![endpoint("10.0.0.1", true, false)]));
    objects.environments.insert(key("acme", "pr-1"), environment(1, "home", "x.preview.test"));
    let now = Instant::now();
    let first = Table::build(&objects, &Table::default(), now);
    let route = |table: &Table| table.route("x.preview.test").unwrap().clone();
    assert_eq!(route(&first).addresses(now).len(), 1);

    objects.slices.clear();
    let bare = Table::build(&objects, &first, now);
    let again = Table::build(&objects, &bare, now + Duration::from_secs(4));
    for table in [&bare, &again] {
        assert_eq!(route(table).addresses(now + Duration::from_secs(4)).len(), 1);
        assert_eq!(route(table).addresses(now + STALE), [], "counted from when they went");
    }

    objects.environments.get_mut(&key("acme", "pr-1")).unwrap().phase = Phase::Asleep;
    let asleep = Table::build(&objects, &bare, now);
    assert_eq!(route(&asleep).addresses(now), []);
}

#[test]
fn what_ends_does_not_answer_for_what_sleeps() {
    let mut objects = Objects::default();
    objects.services.insert(key("home", "web"), service(1, &["x.preview.test"]));
    objects.slices.insert(key("home", "web-1"), slice("web", vec![endpoint("10.0.0.1", false, true)]));
    objects.environments.insert(key("acme", "pr-1"), environment(1, "home", "x.preview.test"));
    let count = |objects: &Objects| build(objects).route("x.preview.test").unwrap().endpoints.len();
    assert_eq!(count(&objects), 1, "awake: it is better than nothing");
    let cases = [(Phase::Asleep, false), (Phase::Ready, false), (Phase::Ending, true)];
    for (phase, awake) in cases {
        let view = objects.environments.get_mut(&key("acme", "pr-1")).unwrap();
        (view.phase, view.awake) = (phase, awake);
        assert_eq!(count(&objects), 0, "{phase:?}");
    }
}

#[test]
fn memory_lasts_as_long_as_the_subdomain() {
    let mut objects = Objects::default();
    objects.environments.insert(key("a", "pr-1"), environment(1, "a", "x.preview.test"));
    let first = build(&objects);
    let activity = |table: &Table| table.previews().next().unwrap().activity.clone();
    objects.environments.get_mut(&key("a", "pr-1")).unwrap().phase = Phase::Failed;
    let second = Table::build(&objects, &first, Instant::now());
    assert!(Arc::ptr_eq(&activity(&first), &activity(&second)));
    assert_eq!(second.gone(&first).count(), 0);
    // The same name with another life.
    objects.environments.insert(key("a", "pr-1"), environment(2, "a", "y.preview.test"));
    let third = Table::build(&objects, &second, Instant::now());
    assert!(!Arc::ptr_eq(&activity(&second), &activity(&third)));
    assert_eq!(third.gone(&second).collect::<Vec<_>>(), ["x"]);
}

proptest! {
    /// Whatever claims whatever: each host leads to somebody who claims it, nobody older was passed over, and the order in
    /// which objects came changes nothing.
    #[test]
    fn each_host_has_the_oldest_who_may(
        claims in prop::collection::vec((0_u8..4, 0_u8..4, 0_i64..5, prop::collection::vec(0_u8..5, 0..3)), 0..12),
        owned in prop::collection::vec((0_u8..5, 0_u8..4), 0..3),
    ) {
        let mut objects = Objects::default();
        for (namespace, name, created, hosts) in &claims {
            let hosts: Vec<String> = hosts.iter().map(|host| format!("h{host}.test")).collect();
            let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
            objects.services.insert(key(&format!("n{namespace}"), &format!("s{name}")), service(*created, &hosts));
        }
        for (at, (host, place)) in owned.iter().enumerate() {
            let view = environment(i64::try_from(at).unwrap(), &format!("n{place}"), &format!("h{host}.test"));
            objects.environments.insert(key("acme", &format!("e{at}")), view);
        }
        let table = build(&objects);
        for host in (0..5).map(|host| format!("h{host}.test")) {
            let place = owned.iter().find(|(owned, _)| format!("h{owned}.test") == host).map(|(_, place)| format!("n{place}"));
            let expected = objects
                .services
                .iter()
                .filter(|((namespace, _), view)| view.hosts.contains(&host) && place.as_ref().is_none_or(|place| place == namespace))
                .min_by_key(|((namespace, name), view)| (view.created, name.clone(), namespace.clone()))
                .map(|(key, _)| key.clone());
            prop_assert_eq!(table.route(&host).and_then(|route| route.service.clone()), expected);
            prop_assert_eq!(table.route(&host).is_some_and(|route| route.preview.is_some()), place.is_some());
        }
    }
}
