//! Whether the database answers, and whether its schema is this version's.

use super::report::Report;
use crate::{
    cli::database,
    config::{DatabaseUrl, settings::DatabaseArgs},
    store::{MigrationState, MigrationStatus},
};

const DATABASE: &str = "database";
const MIGRATIONS: &str = "migrations";

/// Connects, writes nothing, and reads which migrations were run.
pub async fn check(report: &mut Report, arguments: &DatabaseArgs) {
    // What is wrong with the URL itself is among the findings about the configuration.
    let Ok(url) = DatabaseUrl::parse(&arguments.values()) else {
        report.skipped(DATABASE, "there is no usable URL");
        report.skipped(MIGRATIONS, "the database cannot be asked");
        return;
    };
    let store = match database::open(&url).await {
        Ok(store) => store,
        Err(error) => {
            let next = "check that the server runs and that DATABASE_URL points at it";
            report.failed(DATABASE, error.to_string(), next);
            report.skipped(MIGRATIONS, "the database cannot be asked");
            return;
        }
    };
    match store.ping().await {
        Ok(()) => report.passed(DATABASE, format!("{url} answers and can be written")),
        Err(error) => report.failed(DATABASE, error.to_string(), ""),
    }
    match store.migrate_status().await {
        Ok(migrations) => report.found(MIGRATIONS, judge(&migrations)),
        Err(error) => report.failed(MIGRATIONS, error.to_string(), ""),
    }
}

fn judge(migrations: &[MigrationStatus]) -> Result<String, (String, String)> {
    let files = |state: MigrationState| -> Vec<&str> {
        migrations
            .iter()
            .filter(|migration| migration.state == state)
            .map(|migration| migration.file.as_str())
            .collect()
    };
    let modified = files(MigrationState::Modified);
    if !modified.is_empty() {
        return Err((
            format!("{} changed after it was run", modified.join(", ")),
            "restore the file and put the change into a new migration".into(),
        ));
    }
    let pending = files(MigrationState::Pending);
    if !pending.is_empty() {
        return Err((
            format!("{} of {} are pending", pending.len(), migrations.len()),
            "run `stagekeeper migrate up`; the operator does so when it starts".into(),
        ));
    }
    let newer = files(MigrationState::Newer).len();
    let note = if newer == 0 { String::new() } else { format!(", {newer} of a newer version, which do no harm") };
    Ok(format!("{} applied{note}", migrations.len() - newer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_complete_schema_passes() {
        use MigrationState::{Applied, Modified, Newer, Pending};
        let cases: &[(&[MigrationState], Result<&str, &str>)] = &[
            (&[Applied, Applied], Ok("2 applied")),
            (&[Applied, Newer], Ok("1 applied, 1 of a newer version, which do no harm")),
            (&[Applied, Pending], Err("1 of 2 are pending")),
            (&[Modified, Pending], Err("m1 changed after it was run")),
        ];
        for (states, expected) in cases {
            let migrations: Vec<MigrationStatus> = states
                .iter()
                .zip(1..)
                .map(|(state, version)| MigrationStatus {
                    version,
                    file: format!("m{version}"),
                    state: *state,
                    applied_at: None,
                })
                .collect();
            let found = judge(&migrations).map_err(|(what, _)| what);
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(found, expected, "{states:?}");
        }
    }
}
