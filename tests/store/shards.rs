//! The parts of the namespaces, as the database counts them.

use std::collections::BTreeSet;

use sqlx::{Connection as _, PgConnection};
use stagekeeper::domain::share::Share;

use crate::postgres::TestDatabase;

#[tokio::test]
async fn the_database_counts_shards_as_the_program_does() {
    let database = TestDatabase::new().await;
    let mut sql = PgConnection::connect(&database.url).await.unwrap();
    let names: Vec<String> = (0..200).map(|number| format!("team-{number}")).collect();
    let lists = [None, Some(names[..50].to_vec())];
    for of in [1_u16, 2, 3, 16] {
        for shards in [BTreeSet::from([0]), BTreeSet::from([0, of - 1]), BTreeSet::from([of / 2])] {
            for list in &lists {
                let share = Share::of(list.clone()).sharded(&shards, of);
                let covered: Vec<String> = sqlx::query_scalar(
                    "SELECT name FROM unnest($1::text[]) WITH ORDINALITY AS all_names (name, number)
                     WHERE in_share(name, $2, $3, $4) ORDER BY number",
                )
                .bind(&names)
                .bind(share.listed())
                .bind(share.shards())
                .bind(share.count())
                .fetch_all(&mut sql)
                .await
                .unwrap();
                let want: Vec<String> = names.iter().filter(|name| share.covers(name)).cloned().collect();
                assert_eq!(covered, want, "{share:?}");
                assert!(!want.is_empty(), "{share:?} says nothing");
            }
        }
    }
}
