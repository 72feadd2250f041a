//! The text that a regular expression's groups are put into: `$name`, `${name}`, `$1`, `$$`.

use regex::{Captures, Regex};

/// Longest template, in bytes.
const MAX_LENGTH: usize = 256;

/// A template whose groups are known to exist, so that a misspelt name is an error and not an empty text.
#[derive(Debug, Clone)]
pub(super) struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Group(usize),
}

impl Template {
    pub(super) fn parse(text: &str, regex: &Regex) -> Result<Self, String> {
        if text.len() > MAX_LENGTH {
            return Err(format!("it is longer than {MAX_LENGTH} bytes"));
        }
        let group = |name: &str| {
            let by_name = regex.capture_names().position(|known| known == Some(name));
            let by_number = name.parse().ok().filter(|number| *number < regex.captures_len());
            by_name.or(by_number).map(Part::Group).ok_or_else(|| format!("the pattern has no group `{name}`"))
        };
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((literal, after)) = rest.split_once('$') {
            parts.push(Part::Literal(literal.to_owned()));
            if let Some(after) = after.strip_prefix('$') {
                parts.push(Part::Literal("$".to_owned()));
                rest = after;
            } else if let Some(braced) = after.strip_prefix('{') {
                let (name, after) = braced.split_once('}').ok_or("a `${` lacks its `}`")?;
                parts.push(group(name)?);
                rest = after;
            } else {
                let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
                if end == 0 {
                    return Err("after `$` must stand the name or number of a group; `$$` is a dollar sign".into());
                }
                parts.push(group(&after[..end])?);
                rest = &after[end..];
            }
        }
        parts.push(Part::Literal(rest.to_owned()));
        parts.retain(|part| *part != Part::Literal(String::new()));
        if !parts.iter().any(|part| matches!(part, Part::Group(_))) {
            return Err(
                "it names no group of the pattern, so that all tags would be equal: write for example `$1`".into()
            );
        }
        Ok(Self(parts))
    }

    pub(super) fn expand(&self, captures: &Captures<'_>) -> String {
        let text = |part| match part {
            &Part::Group(index) => captures.get(index).map_or("", |group| group.as_str()),
            Part::Literal(literal) => literal.as_str(),
        };
        self.0.iter().map(text).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_put_into_the_text() {
        let regex = Regex::new(r"^(?P<branch>[a-z]+)-(\d+)(?:-(?P<extra>x))?$").unwrap();
        let captures = regex.captures("main-42").unwrap();
        let cases = [
            ("$2", Ok("42")),
            ("${branch}", Ok("main")),
            ("$branch.$2", Ok("main.42")),
            ("${branch}s-$$$2", Ok("mains-$42")),
            ("$2$extra", Ok("42")),
            ("$branchs", Err("no group `branchs`")),
            ("$4", Err("no group `4`")),
            ("${branch", Err("lacks its")),
            ("$-", Err("after `$`")),
            ("$", Err("after `$`")),
            ("42", Err("names no group")),
            ("", Err("names no group")),
        ];
        for (text, want) in cases {
            match (Template::parse(text, &regex).map(|template| template.expand(&captures)), want) {
                (Ok(got), Ok(want)) => assert_eq!(got, want, "{text}"),
                (Err(got), Err(want)) => assert!(got.contains(want), "{text}: {got}"),
                (got, want) => panic!("{text}: {got:?}, wanted {want:?}"),
            }
        }
        assert!(Template::parse(&"$2".repeat(200), &regex).unwrap_err().contains("longer"));
    }
}
