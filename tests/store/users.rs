//! Users that were seen: at most one write in an hour, and the list.

use stagekeeper::store::UserPage;

use crate::fixture::{Shop, at};

fn names(page: &UserPage) -> Vec<&str> {
    page.users.iter().map(|user| user.name.as_str()).collect()
}

#[tokio::test]
async fn a_busy_user_costs_one_write_an_hour() {
    let shop = Shop::new().await;
    let groups = ["dev".to_owned(), "admins".to_owned()];
    let seen =
        async |second: i64, groups: &[String]| shop.user_seen("jane@acme.test", groups, at(second)).await.unwrap();
    assert!(seen(0, &groups[..1]).await);
    assert!(!seen(1, &groups[..1]).await);
    assert!(!seen(3_599, &groups).await);
    assert!(seen(3_600, &groups).await);
    assert!(!seen(60, &groups).await, "a clock that is behind");
    let page = shop.users_list(None, None, 10).await.unwrap();
    let [jane] = &page.users[..] else { panic!("{page:?}") };
    assert_eq!((jane.first_seen_at, jane.last_seen_at), (at(0), at(3_600)));
    assert_eq!(jane.groups, groups);
}

#[tokio::test]
async fn who_was_seen_last_is_listed_first() {
    let shop = Shop::new().await;
    for (name, second) in [("a", 10), ("b", 30), ("c", 20), ("d", 20), ("nul\0", 5)] {
        shop.user_seen(name, &[], at(second)).await.unwrap();
    }
    let page = shop.users_list(None, None, 10).await.unwrap();
    assert_eq!(names(&page), ["b", "d", "c", "a", "nul\u{fffd}"]);
    assert_eq!(page.next, None);
    assert_eq!(names(&shop.users_list(Some(at(20)), None, 10).await.unwrap()), ["b", "d", "c"]);
    let (mut read, mut after) = (Vec::new(), None);
    loop {
        let page = shop.users_list(None, after.as_ref(), 2).await.unwrap();
        read.extend(page.users.into_iter().map(|user| user.name));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(read, ["b", "d", "c", "a", "nul\u{fffd}"]);
}
