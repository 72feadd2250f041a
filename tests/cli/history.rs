//! `stagekeeper history` and `stagekeeper get deploy`.

use serde_json::Value;

use crate::{
    binary::{Ended, on},
    shop::{Shop, id},
};

const NAMESPACE: &str = "acme";

fn history(shop: &Shop, arguments: &[&str]) -> Ended {
    let all: Vec<&str> = ["history", "-n", NAMESPACE].iter().chain(arguments).copied().collect();
    on(shop.url(), &all)
}

/// The numbers of the deploys that a list shows, in its order.
fn shown(out: &str) -> Vec<u8> {
    let number = |line: &str| (1..=9).find(|number| line.contains(&id(*number).to_string()[..13]));
    out.lines().filter_map(number).collect()
}

/// The cells of a table, those that are empty left out.
fn cells(table: &str) -> Vec<Vec<&str>> {
    table.lines().map(|line| line.split("   ").map(str::trim).filter(|cell| !cell.is_empty()).collect()).collect()
}

#[tokio::test]
async fn the_table_answers_what_when_why_and_who() {
    let shop = Shop::new(NAMESPACE).await;
    let table = history(&shop, &["shop"]).well();
    let expected: [&[&str]; 5] = [
        &["STAGE", "DEPLOY", "STATE", "IMAGES", "AGE", "TOOK", "ACTOR", "WHY"],
        &["prod", "0193522a-8c14", "success", "web 1.0.0", "9d23h", "7s", "policy", "web 1.0.0 is newer"],
        &["dev", "0193522a-8c13", "pending", "web 2.1.0", "9d23h", "policy", "web 2.1.0 is newer"],
        &[
            "dev",
            "0193522a-8c12",
            "rolled_back",
            "web 2.0.0",
            "9d23h",
            "14s",
            "policy",
            "GET /healthz answered 500, 5 times in a row",
        ],
        &["dev", "0193522a-8c11", "success", "web 1.0.0", "10d", "4s", "policy", "web 1.0.0 is newer"],
    ];
    assert_eq!(cells(&table), expected, "{table}");
    assert!(!table.contains('\u{1b}'), "colour without a terminal: {table}");
}

#[tokio::test]
async fn columns_that_say_the_same_everywhere_are_left_out() {
    let shop = Shop::new(NAMESPACE).await;
    let heading = |arguments: &[&str]| -> Vec<String> {
        let table = on(shop.url(), arguments).well();
        cells(&table)[0].iter().map(ToString::to_string).collect()
    };
    let stage = heading(&["history", "-n", NAMESPACE, "shop/dev"]);
    assert_eq!(stage[0], "DEPLOY");
    let everywhere = heading(&["history", "-A"]);
    assert_eq!(everywhere[..4], ["NAMESPACE", "PROJECT", "STAGE", "DEPLOY"]);
    let wide = heading(&["history", "-A", "-o", "wide"]);
    assert!(wide.contains(&"RELEASE".to_owned()), "{wide:?}");
}

#[tokio::test]
async fn filters_narrow_the_list() {
    let shop = Shop::new(NAMESPACE).await;
    let since = shop.at(100).to_string();
    let cases: &[(&[&str], &[u8])] = &[
        (&[], &[4, 3, 2, 1]),
        (&["shop"], &[4, 3, 2, 1]),
        (&["shop/dev"], &[3, 2, 1]),
        (&["shop/dev", "--state", "rolled_back"], &[2]),
        (&["--since", "1h"], &[]),
        (&["--since", "11d"], &[4, 3, 2, 1]),
        (&["--since", &since], &[4, 3]),
        (&["--image", "SHOP:1.0.0"], &[4, 1]),
        (&["shop/dev", "--image", "sha256:200"], &[2]),
    ];
    for (arguments, expected) in cases {
        let ended = history(&shop, arguments);
        assert_eq!(ended.code, 0, "{arguments:?}: {ended:?}");
        assert_eq!(shown(&ended.out), *expected, "{arguments:?}: {ended:?}");
        let note = if expected.is_empty() { "no deploys found\n" } else { "" };
        assert_eq!(ended.err, note, "{arguments:?}");
    }
    let cut = history(&shop, &["--limit", "2"]);
    assert_eq!(shown(&cut.out), [4, 3]);
    assert_eq!(cut.err, "there are older ones: raise --limit (now 2)\n");
}

#[tokio::test]
async fn other_namespaces_and_names_are_not_found() {
    let shop = Shop::new(NAMESPACE).await;
    for (arguments, expected) in [
        (&["history", "shop"][..], "project default/shop does not exist"),
        (&["history", "-n", NAMESPACE, "shop/qa"], "stage acme/shop/qa does not exist"),
    ] {
        let said = on(shop.url(), arguments).badly(1);
        assert!(said.contains(expected), "{said}");
    }
}

#[tokio::test]
async fn programs_get_the_whole_story() {
    let shop = Shop::new(NAMESPACE).await;
    let list = history(&shop, &["shop/dev", "-o", "json"]).json();
    let failed = &list["items"][1];
    for (key, expected) in [
        ("id", Value::from(id(2).to_string())),
        ("namespace", NAMESPACE.into()),
        ("project", "shop".into()),
        ("stage", "dev".into()),
        ("sequence", 2.into()),
        ("state", "rolled_back".into()),
        ("actor", "policy".into()),
        ("cause", "web 2.0.0 is newer".into()),
        ("reason", "ProbeFailed".into()),
        ("waitedSeconds", 3.0.into()),
        ("workedSeconds", 14.0.into()),
    ] {
        assert_eq!(failed[key], expected, "{key}: {failed}");
    }
    assert_eq!(failed["images"]["web"]["tag"], "2.0.0", "{failed}");
    let states: Vec<&Value> = failed["transitions"].as_array().unwrap().iter().map(|step| &step["to"]).collect();
    let way = ["pending", "pulling", "starting", "configuring_proxy", "health_checking", "failed", "rolled_back"];
    assert_eq!(states, way);

    let yaml = history(&shop, &["shop/dev", "-o", "yaml"]).well();
    let yaml: Value = serde_yaml::from_str(&yaml).unwrap();
    assert_eq!(yaml["items"][1]["id"], failed["id"]);

    let names = history(&shop, &["shop/dev", "-o", "name"]).well();
    let expected: String = [3, 2, 1].map(|number| format!("deploy/{}\n", id(number))).concat();
    assert_eq!(names, expected);

    let nothing = history(&shop, &["--since", "1h", "-o", "json"]).json();
    assert_eq!(nothing, serde_json::json!({"items": []}));
}

#[tokio::test]
async fn one_deploy_is_found_by_the_beginning_of_its_id() {
    let shop = Shop::new(NAMESPACE).await;
    let whole = id(2).to_string();
    let name = format!("deploy/{whole}");
    for given in [&whole[..13], &whole, &name, "0193522A8C12"] {
        let found = on(shop.url(), &["get", "deploy", given, "-o", "name"]).well();
        assert_eq!(found, format!("{name}\n"), "{given}");
    }
    let several = on(shop.url(), &["get", "deploy", "0193522a"]).badly(1);
    assert!(several.contains("several deploys begin with `0193522a`"), "{several}");
    assert!(several.contains(&whole), "{several}");
    for given in ["ff", "", "zz", "0193522a-8c12-7000-8000-0000000000001"] {
        let none = on(shop.url(), &["get", "deploy", given]).badly(1);
        assert!(none.contains("there is no deploy whose id begins with"), "{none}");
    }
}

#[tokio::test]
async fn one_deploy_is_told_with_all_its_steps() {
    let shop = Shop::new(NAMESPACE).await;
    let text = on(shop.url(), &["get", "deploy", &id(2).to_string()]).well();
    for expected in [
        "Stage:       shop/dev in namespace acme, deploy number 2\n",
        "Reason:      ProbeFailed: GET /healthz answered 500, 5 times in a row\n",
        "Took:        14s, after waiting 3s\n",
        "Before it:   web 1.0.0 (success), deploy 0193522a-8c11-7000-8000-000000000000\n",
        "beforeStart   migrate   succeeded   1s",
    ] {
        assert!(text.contains(expected), "{expected:?} is missing:\n{text}");
    }
    let steps: Vec<&str> = text
        .lines()
        .skip_while(|line| *line != "Steps:")
        .skip(2)
        .take(7)
        .map(|line| line.split_whitespace().nth(1).unwrap())
        .collect();
    assert_eq!(steps[0], "pending", "{text}");
    assert_eq!(steps[6], "rolled_back", "{text}");

    let json = on(shop.url(), &["get", "deploy", &id(2).to_string(), "-o", "json"]).json();
    assert_eq!(json["hooks"][0]["succeeded"], true, "{json}");
    assert_eq!(json["predecessor"]["id"], id(1).to_string(), "{json}");
}
