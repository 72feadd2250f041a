//! `stagekeeper registry`, the way a person uses it.

use std::fs;

use crate::{
    binary::{Ended, Folder, on},
    credentials::cells,
    postgres::TestDatabase,
};

struct Place {
    database: TestDatabase,
}

impl Place {
    fn run(&self, arguments: &[&str]) -> Ended {
        on(&self.database.url, &[&["registry"], arguments].concat())
    }
}

/// An authority, and a private key.
const AUTHORITY: &str = include_str!("../../src/registry/tests/tls/ca.pem");
const KEY: &str = include_str!("../../src/registry/tests/tls/localhost.key");

#[tokio::test]
async fn what_is_said_about_registries_is_kept_listed_and_forgotten() {
    let place = Place { database: TestDatabase::new().await };
    let folder = Folder::new();
    let ca = folder.path("ca.pem");
    fs::write(&ca, AUTHORITY.repeat(2)).unwrap();
    let ca = ca.to_str().unwrap();

    let insecure = ["set", "http://Registry.Local:5000/v2/", "--insecure", "--rate", "0.5"];
    let said = place.run(&insecure).well();
    let spoken = "over plain HTTP, with at most 0.5 requests per second";
    let risk = "whoever is on the way can read and change what is said, logins too";
    assert_eq!(said, format!("registry registry.local:5000 is spoken to {spoken}\n{risk}\n"));
    let said = place.run(&insecure).well();
    assert_eq!(said, format!("registry registry.local:5000 is spoken to {spoken} already\n{risk}\n"));
    let private = ["set", "r.test", "--ca", ca, "--realm", "b.test", "--realm", "A.test:5001", "--realm", "b.test"];
    let said = place.run(&private).well();
    let spoken = "over HTTPS, with 2 authorities of its own, with tokens from a.test:5001 and b.test";
    assert_eq!(said, format!("registry r.test is spoken to {spoken}\n"));

    let list = place.run(&["list"]).well();
    let rows: Vec<Vec<&str>> = list.lines().map(cells).collect();
    assert_eq!(rows[0], ["HOST", "SPOKEN TO", "WRITTEN", "BY"]);
    assert_eq!((rows[1][0], rows[1][1], rows[1][3]), ("r.test", spoken, "user:unknown"));
    assert_eq!(rows[2][0], "registry.local:5000");
    assert_eq!(place.run(&["list", "-o", "name"]).well(), "registry/r.test\nregistry/registry.local:5000\n");
    let json = place.run(&["list", "-o", "json"]).json();
    assert_eq!(json[0]["ca"], AUTHORITY.repeat(2));
    assert_eq!((&json[1]["requestsPerSecond"], &json[1]["insecure"]), (&0.5.into(), &true.into()));

    // Everything that was said before is replaced.
    assert_eq!(place.run(&["set", "r.test", "--rate", "9"]).code, 0);
    let json = place.run(&["list", "-o", "json"]).json();
    assert_eq!((&json[0]["ca"], &json[0]["realms"]), (&serde_json::Value::Null, &serde_json::json!([])));

    let said = place.run(&["delete", "R.test"]).well();
    assert_eq!(said, "registry r.test is spoken to like any other\n");
    let said = place.run(&["delete", "r.test"]).badly(1);
    assert!(said.contains("nothing was said about registry r.test") && said.contains("registry list"), "{said}");

    // What is refused, and stores nothing.
    let bundle = folder.path("bundle.pem");
    fs::write(&bundle, format!("{AUTHORITY}{KEY}")).unwrap();
    let broken = folder.path("broken.pem");
    fs::write(&broken, "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n").unwrap();
    let empty = folder.path("empty.pem");
    fs::write(&empty, "hunter2-canary").unwrap();
    let (bundle, broken, empty) = (bundle.to_str().unwrap(), broken.to_str().unwrap(), empty.to_str().unwrap());
    let cases = [
        ("a private key", vec!["set", "x.test", "--ca", bundle], "has a private key in it"),
        ("no certificate", vec!["set", "x.test", "--ca", broken], "has a certificate that is not usable"),
        ("no PEM", vec!["set", "x.test", "--ca", empty], "has no certificate in it"),
        ("no file", vec!["set", "x.test", "--ca", "/nonexistent/ca"], "/nonexistent/ca cannot be read"),
        ("nothing", vec!["set", "x.test"], "nothing is said about x.test"),
        ("both", vec!["set", "x.test", "--insecure", "--ca", ca], "cannot be used with"),
        ("no host", vec!["set", "a b", "--insecure"], "is not a registry"),
        ("no realm", vec!["set", "x.test", "--realm", "a b"], "is not a registry"),
        ("no rate", vec!["set", "x.test", "--rate", "0"], "expected requests per second"),
        ("an endless rate", vec!["set", "x.test", "--rate", "inf"], "expected requests per second"),
    ];
    for (name, arguments, expected) in cases {
        let said = place.run(&arguments).badly(2);
        assert!(said.contains(expected), "{name}: {said}");
        assert!(!said.contains("hunter2-canary"), "{name}: {said}");
    }
    assert_eq!(place.run(&["list", "-o", "name"]).well(), "registry/registry.local:5000\n");
}
