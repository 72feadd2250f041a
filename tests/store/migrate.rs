//! Migrations: up, down and up again, twice, two at once, and a broken one.

use std::{
    fs, io,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use stagekeeper::store::{MIGRATIONS, MigrationState, Migrations, Store, StoreError};

use crate::{fixture::Shop, server::Empty};

/// Everything in the schema that people can name, with its definition.
async fn schema(shop: &sqlx::PgPool) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT format('%s.%s %s %s %s', table_name, column_name, data_type, is_nullable, column_default)
         FROM information_schema.columns WHERE table_schema = 'public' AND table_name NOT LIKE '\\_sqlx%'
         UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename NOT LIKE '\\_sqlx%'
         UNION ALL SELECT conrelid::regclass || conname || pg_get_constraintdef(oid) FROM pg_constraint
             WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text NOT LIKE '\\_sqlx%'
         UNION ALL SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace
         UNION ALL SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
         ORDER BY 1",
    )
    .fetch_all(shop)
    .await
    .unwrap()
}

#[tokio::test]
async fn down_is_the_way_back() {
    let shop = Shop::new().await;
    let whole = schema(&shop.sql).await;
    assert!(whole.len() > 200, "{}", whole.len());
    let status = shop.migrate_status().await.unwrap();
    let versions: Vec<i64> = status.iter().map(|migration| migration.version).collect();
    let targets: Vec<i64> = versions.iter().rev().skip(1).copied().chain([0]).collect();
    for target in &targets {
        let undone = shop.migrate_down(*target).await.unwrap();
        assert_eq!(undone.len(), 1, "{undone:?}");
        assert_eq!(shop.schema_is_current().await, Ok(false));
    }
    assert_eq!(schema(&shop.sql).await, Vec::<String>::new());
    assert_eq!(shop.migrate_down(0).await, Ok(Vec::new()));
    let done = shop.migrate_up().await.unwrap();
    assert_eq!(done.len(), versions.len());
    assert_eq!(schema(&shop.sql).await, whole);
    assert_eq!(shop.schema_is_current().await, Ok(true));
    // Everything at once, with rows in the tables.
    shop.project_upsert(crate::fixture::id(1), "acme", "shop").await.unwrap();
    assert_eq!(shop.migrate_down(0).await.unwrap().len(), versions.len());
    assert_eq!(schema(&shop.sql).await, Vec::<String>::new());
}

#[tokio::test]
async fn up_twice_is_up_once() {
    let empty = Empty::new().await;
    let status = empty.store.migrate_status().await.unwrap();
    assert!(status.iter().all(|migration| migration.state == MigrationState::Pending));
    assert_eq!(empty.store.schema_is_current().await, Ok(false));
    let done = empty.store.migrate_up().await.unwrap();
    let files: Vec<String> = status.iter().map(|migration| migration.file.clone()).collect();
    assert_eq!(done, files);
    assert_eq!(empty.store.migrate_up().await, Ok(Vec::new()));
    let status = empty.store.migrate_status().await.unwrap();
    for migration in status {
        assert_eq!(migration.state, MigrationState::Applied);
        assert!(migration.applied_at.is_some());
    }
}

#[tokio::test]
async fn of_two_processes_one_migrates() {
    let empty = Empty::new().await;
    let other = Store::connect(&empty.url).await.unwrap();
    let (one, two) = tokio::join!(empty.store.migrate_up(), other.migrate_up());
    let (one, two) = (one.unwrap(), two.unwrap());
    assert!(one.is_empty() != two.is_empty(), "{one:?} {two:?}");
    assert_eq!(empty.store.schema_is_current().await, Ok(true));
}

/// Our migrations and one more.
fn folder_with(name: &str, up: &str, down: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("stagekeeper-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    for file in fs::read_dir(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("migrations")).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), folder.join(file.file_name())).unwrap();
    }
    fs::write(folder.join("9000_one_more.up.sql"), up).unwrap();
    fs::write(folder.join("9000_one_more.down.sql"), down).unwrap();
    folder
}

async fn set_with(name: &str, up: &str, down: &str) -> Migrations {
    let folder = folder_with(name, up, down);
    let set = Migrations::from_folder(&folder).await.unwrap();
    fs::remove_dir_all(&folder).unwrap();
    set
}

#[tokio::test]
async fn a_broken_migration_names_file_and_line_and_changes_nothing() {
    let cases = [
        ("syntax", "CREATE TABLE extra (id int);\n\nCREATE TABLE\n    broken (id nonsense);\n", 4),
        ("taken", "CREATE TABLE extra (id int);\n-- no position\nCREATE TABLE projects (id int);", 3),
        ("data", "CREATE TABLE extra (id int NOT NULL);\nSELECT 1;\n\n\nINSERT INTO extra\nVALUES (NULL);", 5),
        (
            "function",
            "CREATE TABLE extra (id int);\nDO $$\nBEGIN\n    RAISE EXCEPTION 'no; never';\nEND\n$$;\nSELECT 1;",
            2,
        ),
    ];
    let empty = Empty::new().await;
    for (name, up, line) in cases {
        let set = set_with(name, up, "").await;
        let error = empty.store.migrate_up_with(&set).await.unwrap_err();
        assert!(matches!(error, StoreError::Migration(_)), "{name}: {error:?}");
        let want = format!("migrations/9000_one_more.up.sql, line {line}: ");
        assert!(error.to_string().starts_with(&want), "{name}: {error}");
        assert_eq!(schema(&empty.sql).await, Vec::<String>::new(), "{name}");
    }
    // It left no lock behind, and the good ones still run.
    assert!(!empty.store.migrate_up().await.unwrap().is_empty());
    let whole = schema(&empty.sql).await;
    let set = set_with("later", "DROP TABLE vetoes;\nSELECT broken;", "").await;
    let error = empty.store.migrate_up_with(&set).await.unwrap_err();
    assert!(error.to_string().contains("line 2"), "{error}");
    assert_eq!(schema(&empty.sql).await, whole);
    assert_eq!(empty.store.schema_is_current().await, Ok(true));
}

#[tokio::test]
async fn a_broken_way_back_changes_nothing() {
    let shop = Shop::new().await;
    let set = set_with("down", "CREATE TABLE extra (id int);", "DROP TABLE extra;\nDROP TABLE extra;").await;
    shop.migrate_up_with(&set).await.unwrap();
    let whole = schema(&shop.sql).await;
    let error = shop.migrate_down_with(&set, 0).await.unwrap_err();
    let want = "migrations/9000_one_more.down.sql, line 2: ";
    assert!(error.to_string().starts_with(want), "{error}");
    assert_eq!(schema(&shop.sql).await, whole);
}

#[tokio::test]
async fn a_newer_schema_does_not_stop_an_older_program() {
    let shop = Shop::new().await;
    let newer = set_with("newer", "CREATE TABLE extra (id int);", "DROP TABLE extra;").await;
    shop.migrate_up_with(&newer).await.unwrap();
    assert_eq!(shop.migrate_up().await, Ok(Vec::new()));
    assert_eq!(shop.schema_is_current().await, Ok(true));
    let status = shop.migrate_status_with(&MIGRATIONS).await.unwrap();
    assert_eq!(status.last().unwrap().state, MigrationState::Newer);
    let error = shop.migrate_down(0).await.unwrap_err();
    assert!(error.to_string().contains("newer version"), "{error}");
    let last = status.iter().rfind(|one| one.state == MigrationState::Applied).unwrap().version;
    let undone = shop.migrate_down_with(&newer, last).await.unwrap();
    assert_eq!(undone, ["migrations/9000_one_more.down.sql"]);
    let error = shop.migrate_down(last + 1).await.unwrap_err();
    assert!(error.to_string().contains(&format!("there is no migration {}", last + 1)), "{error}");
}

#[tokio::test]
async fn a_changed_migration_is_refused() {
    let shop = Shop::new().await;
    let first = set_with("first", "CREATE TABLE extra (id int);", "DROP TABLE extra;").await;
    shop.migrate_up_with(&first).await.unwrap();
    let changed = set_with("changed", "CREATE TABLE extra (id bigint);", "DROP TABLE extra;").await;
    for error in
        [shop.migrate_up_with(&changed).await.unwrap_err(), shop.migrate_down_with(&changed, 0).await.unwrap_err()]
    {
        let text = error.to_string();
        assert!(text.starts_with("migrations/9000_one_more.up.sql has changed"), "{text}");
    }
    let status = shop.migrate_status_with(&changed).await.unwrap();
    assert_eq!(status.last().unwrap().state, MigrationState::Modified);
}

/// What was logged.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl io::Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn migrating_what_is_migrated_says_nothing() {
    let shop = Shop::new().await;
    let logged = Logged::default();
    let writer = logged.clone();
    let subscriber =
        tracing_subscriber::fmt().with_env_filter("info,sqlx::query=off").with_writer(move || writer.clone()).finish();
    let listening = tracing::subscriber::set_default(subscriber);
    tracing::info!("heard");
    assert_eq!(shop.migrate_up().await, Ok(Vec::new()));
    drop(listening);
    let text = String::from_utf8(logged.0.lock().unwrap().clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
}
