//! What the checks found.

use serde::Serialize;

use crate::cli::output::Columns;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It is as it must be.
    Pass,
    /// It is not known whether it is as it must be.
    Warn,
    /// Somebody must do something.
    Fail,
    /// It could not be looked at, because something before it failed.
    Skipped,
}

impl Verdict {
    const fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
            Self::Skipped => "skipped",
        }
    }
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at, in one word.
    pub check: &'static str,
    /// How it ended.
    pub result: Verdict,
    /// What was found.
    pub detail: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub next: String,
}

/// All findings, in the order of the checks.
#[derive(Debug, Default)]
pub struct Report(Vec<Finding>);

impl Report {
    /// Adds a pass.
    pub fn passed(&mut self, check: &'static str, detail: impl Into<String>) {
        self.add(check, Verdict::Pass, detail, "");
    }

    /// Adds a failure with what to do; the empty text when `detail` says that already.
    pub fn failed(&mut self, check: &'static str, detail: impl Into<String>, next: impl Into<String>) {
        self.add(check, Verdict::Fail, detail, next);
    }

    /// Adds what could be found out in part only, with what to do to know the rest.
    pub fn warned(&mut self, check: &'static str, detail: impl Into<String>, next: impl Into<String>) {
        self.add(check, Verdict::Warn, detail, next);
    }

    /// Adds a check that could not be made.
    pub fn skipped(&mut self, check: &'static str, why: &str) {
        self.add(check, Verdict::Skipped, why, "");
    }

    fn add(&mut self, check: &'static str, result: Verdict, detail: impl Into<String>, next: impl Into<String>) {
        self.0.push(Finding { check, result, detail: detail.into(), next: next.into() });
    }

    /// What was found.
    pub fn findings(&self) -> &[Finding] {
        &self.0
    }

    /// Whether any check failed.
    pub fn has_failed(&self) -> bool {
        self.0.iter().any(|finding| finding.result == Verdict::Fail)
    }

    /// As a table for people; what to do stands under what was found.
    pub fn table(&self) -> String {
        let mut columns = Columns::new(&["RESULT", "CHECK", "FOUND"]);
        for finding in &self.0 {
            columns.row([finding.result.word().into(), finding.check.into(), finding.detail.clone()]);
            if !finding.next.is_empty() {
                let next = format!("-> {}", finding.next);
                columns.row([String::new(), String::new(), next]);
            }
        }
        columns.render()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_stands_above_its_remedy() {
        let mut report = Report::default();
        report.passed("cluster", "it answers");
        report.warned("registry", "it was not logged in to", "give the keys");
        assert!(!report.has_failed());
        report.failed("crd", "stages are missing", "apply them");
        report.skipped("registry", "there is no project");
        assert!(report.has_failed());
        let expected = "\
RESULT    CHECK      FOUND
pass      cluster    it answers
warn      registry   it was not logged in to
                     -> give the keys
FAIL      crd        stages are missing
                     -> apply them
skipped   registry   there is no project
";
        assert_eq!(report.table(), expected);
    }
}
