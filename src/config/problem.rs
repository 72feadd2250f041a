//! Everything that is wrong with a configuration, collected before anything is said.

use std::fmt;

use super::settings::{Setting, Values};

/// One missing or invalid value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The setting that is wrong.
    pub setting: Setting,
    /// What was found: `None` when nothing was; already without secrets.
    pub found: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Setting { name, flag, expected, .. } = self.setting;
        f.write_str(name)?;
        if let Some(flag) = flag {
            write!(f, " (--{flag})")?;
        }
        match &self.found {
            None => write!(f, " is missing: expected {expected}"),
            Some(found) => write!(f, " {found}: expected {expected}"),
        }
    }
}

/// All problems of a configuration; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<Problem>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration is not usable:")?;
        self.0.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl std::error::Error for ConfigErrors {}

/// Stands for a value whose problem has been noted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reported;

/// Reads values and notes what is wrong with them.
pub(super) struct Problems<'a> {
    values: &'a Values,
    noted: Vec<Problem>,
}

type Parser<T> = fn(&str) -> Result<T, String>;

impl<'a> Problems<'a> {
    pub(super) fn new(values: &'a Values) -> Self {
        Self { values, noted: Vec::new() }
    }

    pub(super) fn into_errors(self) -> ConfigErrors {
        ConfigErrors(self.noted)
    }

    /// The first of `settings` that has a value; the first one is named when none has.
    pub(super) fn required<T>(&mut self, settings: &[&Setting], parser: Parser<T>) -> Result<T, Reported> {
        match self.optional(settings, parser)? {
            Some(value) => Ok(value),
            None => Err(self.note(settings[0], None)),
        }
    }

    /// The first of `settings` that has a value, if any.
    pub(super) fn optional<T>(&mut self, settings: &[&Setting], parser: Parser<T>) -> Result<Option<T>, Reported> {
        let given = settings.iter().find_map(|setting| Some((*setting, self.values.get(setting)?)));
        let Some((setting, text)) = given else {
            return Ok(None);
        };
        match parser(text) {
            Ok(value) => Ok(Some(value)),
            Err(detail) => Err(self.note(setting, Some((text, &detail)))),
        }
    }

    pub(super) fn or_default<T>(&mut self, setting: &Setting, default: &str, parser: Parser<T>) -> Result<T, Reported> {
        let text = self.values.get(setting).unwrap_or(default);
        parser(text).map_err(|detail| self.note(setting, Some((text, &detail))))
    }

    fn note(&mut self, setting: &Setting, found: Option<(&str, &str)>) -> Reported {
        self.noted
            .push(Problem { setting: *setting, found: found.map(|(text, detail)| describe(setting, text, detail)) });
        Reported
    }
}

/// A value as it may be shown: secrets not at all, long ones cut.
fn describe(setting: &Setting, text: &str, detail: &str) -> String {
    const SHOWN: usize = 80;
    // An `@` may follow a password, whatever the setting was meant for.
    let shown = if setting.secret || text.contains('@') {
        "is not usable (its value is not shown)".to_owned()
    } else if text.chars().count() > SHOWN {
        format!("is `{}…`", text.chars().take(SHOWN).collect::<String>())
    } else {
        format!("is `{text}`")
    };
    if detail.is_empty() { shown } else { format!("{shown}, {detail}") }
}
