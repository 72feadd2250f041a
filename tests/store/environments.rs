//! Lives of environments: their subdomains, their sleep, their end.

use stagekeeper::store::{Class, Environment, EnvironmentRow, NewEnvironment, NewStage, Recorded};

use crate::fixture::{Shop, at, id};

pub(crate) fn new_environment(shop: &Shop, number: u32, name: &str, subdomain: &str) -> NewEnvironment {
    NewEnvironment {
        stage: NewStage {
            id: id(number),
            project_id: shop.project,
            namespace: "acme".into(),
            name: name.into(),
            uid: format!("uid-{number}"),
        },
        subdomain: subdomain.into(),
        place: format!("shop-{subdomain}"),
        born: at(i64::from(number)),
    }
}

impl Shop {
    async fn lives(&self, new: &NewEnvironment) -> Environment {
        match self.environment_open(new).await.unwrap() {
            Recorded::Known(life) => *life,
            other @ Recorded::SubdomainTaken => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_life_begins_once_and_another_object_begins_another() {
    let shop = Shop::new().await;
    let first = shop.lives(&new_environment(&shop, 2, "demo", "demo-aaaaaaaaaaaa")).await;
    assert_eq!((first.subdomain.as_str(), first.born, first.active), ("demo-aaaaaaaaaaaa", at(2), at(2)));
    let again = NewEnvironment { subdomain: "demo-bbbbbbbbbbbb".into(), ..new_environment(&shop, 2, "demo", "x") };
    assert_eq!(shop.lives(&again).await, first, "the same object has the same life");

    shop.environment_sleeps(first.id, Some(at(5))).await.unwrap();
    shop.environment_ends(first.id, at(6), "its time is over").await.unwrap();
    shop.environment_ends(first.id, at(7), "another reason").await.unwrap();
    let ending = shop.environment_get(first.id).await.unwrap().unwrap();
    assert_eq!(ending.ending, Some((at(6), "its time is over".into())), "the first reason stays");

    let second = shop.lives(&new_environment(&shop, 9, "demo", "demo-cccccccccccc")).await;
    assert_eq!(second.id, first.id, "it continues its history");
    assert_eq!((second.ending, second.asleep, second.born), (None, None, at(9)), "and begins anew");
    assert_eq!(shop.subdomains_ended(10).await.unwrap(), ["demo-aaaaaaaaaaaa"]);
}

#[tokio::test]
async fn a_subdomain_is_never_given_out_twice_not_even_after_a_purge() {
    let shop = Shop::new().await;
    shop.lives(&new_environment(&shop, 2, "one", "x-aaaaaaaaaaaa")).await;
    let taken = shop.environment_open(&new_environment(&shop, 3, "two", "x-aaaaaaaaaaaa")).await;
    assert_eq!(taken, Ok(Recorded::SubdomainTaken));
    shop.run("DELETE FROM projects").await.unwrap();
    let project = shop.project_upsert(id(40), "acme", "shop").await.unwrap();
    let mut anew = new_environment(&shop, 4, "one", "x-aaaaaaaaaaaa");
    anew.stage.project_id = project.id;
    assert_eq!(shop.environment_open(&anew).await, Ok(Recorded::SubdomainTaken));
}

#[tokio::test]
async fn a_stage_and_an_environment_cannot_have_one_name() {
    let shop = Shop::new().await;
    shop.stage(2, "dev").await;
    let refused = shop.environment_open(&new_environment(&shop, 3, "dev", "dev-aaaaaaaaaaaa")).await.unwrap_err();
    assert_eq!((refused.class(), refused.reason()), (Class::Taken, "NameTaken"));
    shop.lives(&new_environment(&shop, 4, "demo", "demo-aaaaaaaaaaaa")).await;
    let stage = NewStage { id: id(5), ..new_environment(&shop, 5, "demo", "x").stage };
    assert_eq!(shop.stage_upsert(&stage).await.unwrap_err().class(), Class::Taken);
    // What is gone keeps nobody from its name.
    shop.stage_soft_delete("acme", "demo").await.unwrap();
    shop.stage_upsert(&stage).await.unwrap();
    assert_eq!(shop.environment_find("acme", "demo").await.unwrap().map(|life| life.uid), Some("uid-4".into()));
}

#[tokio::test]
async fn use_only_grows_and_waking_is_asked_once() {
    let shop = Shop::new().await;
    let life = shop.lives(&new_environment(&shop, 2, "demo", "demo-aaaaaaaaaaaa")).await;
    let seen = |second| [("demo-aaaaaaaaaaaa".to_owned(), at(second)), ("nobody-s".to_owned(), at(second))];
    shop.environments_touch(&seen(60)).await.unwrap();
    shop.environments_touch(&seen(30)).await.unwrap();
    let now = async || shop.environment_get(life.id).await.unwrap().unwrap();
    assert_eq!(now().await.active, at(60), "an older word changes nothing");

    shop.environment_sleeps(life.id, Some(at(100))).await.unwrap();
    for second in 110..120 {
        shop.environment_wake("demo-aaaaaaaaaaaa", at(second)).await.unwrap();
    }
    let asked = now().await;
    assert_eq!((asked.wake_asked, asked.active), (Some(at(110)), at(110)), "the first one counts until it is awake");
    shop.environment_sleeps(life.id, None).await.unwrap();
    shop.environment_sleeps(life.id, Some(at(200))).await.unwrap();
    shop.environment_wake("demo-aaaaaaaaaaaa", at(210)).await.unwrap();
    assert_eq!(now().await.wake_asked, Some(at(210)));
    shop.environment_ends(life.id, at(220), "over").await.unwrap();
    shop.environment_sleeps(life.id, None).await.unwrap();
    shop.environment_sleeps(life.id, Some(at(230))).await.unwrap();
    shop.environment_wake("demo-aaaaaaaaaaaa", at(240)).await.unwrap();
    assert_eq!(now().await.wake_asked, Some(at(210)), "nothing wakes what ends");
}

#[tokio::test]
async fn they_are_listed_by_name_and_project() {
    let shop = Shop::new().await;
    for (number, name) in [(2, "b"), (3, "a"), (4, "c")] {
        shop.lives(&new_environment(&shop, number, name, &format!("{name}-aaaaaaaaaaaa"))).await;
    }
    shop.stage(5, "dev").await;
    let names = |rows: Vec<EnvironmentRow>| rows.into_iter().map(|row| row.name).collect::<Vec<_>>();
    assert_eq!(names(shop.environments_list("acme", None, None, 10).await.unwrap()), ["a", "b", "c"]);
    assert_eq!(names(shop.environments_list("acme", Some("shop"), Some("a"), 1).await.unwrap()), ["b"]);
    assert_eq!(names(shop.environments_list("acme", Some("blog"), None, 10).await.unwrap()), [""; 0]);
}
