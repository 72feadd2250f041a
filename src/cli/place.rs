//! Where things are: `PROJECT[/STAGE]` and the namespace that is meant when none is named.

use std::str::FromStr;

/// `PROJECT` or `PROJECT/STAGE` on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectPath {
    /// Name of the project.
    pub project: String,
    /// Name of one of its stages.
    pub stage: Option<String>,
}

impl FromStr for ProjectPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (project, stage) = match text.split_once('/') {
            Some((project, stage)) => (project, Some(stage)),
            None => (text, None),
        };
        let is_name = |part: &str| !part.is_empty() && !part.contains('/');
        if !is_name(project) || !stage.is_none_or(is_name) {
            return Err("expected PROJECT or PROJECT/STAGE".into());
        }
        Ok(Self { project: project.into(), stage: stage.map(Into::into) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_or_two_names() {
        let path =
            |project: &str, stage: Option<&str>| ProjectPath { project: project.into(), stage: stage.map(Into::into) };
        assert_eq!("shop".parse(), Ok(path("shop", None)));
        assert_eq!("shop/prod".parse(), Ok(path("shop", Some("prod"))));
        for text in ["", "/", "shop/", "/prod", "a/b/c"] {
            assert!(text.parse::<ProjectPath>().is_err(), "{text:?}");
        }
    }
}
