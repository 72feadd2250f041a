//! Ranges of versions, in the notation that Helm, npm and the updaters of the field share.

use std::cmp::Ordering;
use std::str::FromStr;

use semver::{Prerelease, Version};

/// Longest range, in bytes.
const MAX_LENGTH: usize = 256;

/// A set of versions: alternatives separated by `||`, each a list of conditions that hold together.
///
/// Pre-releases are opt-in: an alternative accepts them only if one of its own conditions names one, as in
/// `>=1.2.0-0`. An upper bound such as `<2` never accepts the pre-releases of `2.0.0`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Range {
    text: String,
    alternatives: Vec<Alternative>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Alternative {
    conditions: Vec<Condition>,
    pre_releases: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Condition {
    AtLeast(Version),
    Above(Version),
    AtMost(Version),
    Below(Version),
    /// Below this release and all its pre-releases.
    Before(Release),
    Not(Vec<Condition>),
}

type Release = (u64, u64, u64);

/// Whether a version belongs to a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    Within,
    /// It would, if the range asked for pre-releases.
    PreRelease,
    Outside,
}

impl Range {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_LENGTH {
            return Err(format!("the range is longer than {MAX_LENGTH} bytes"));
        }
        let alternatives = text.split("||").map(Alternative::parse).collect::<Result<_, _>>()?;
        Ok(Self { text: text.trim().to_owned(), alternatives })
    }

    /// The range as it was written.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn fit(&self, version: &Version) -> Fit {
        let mut fit = Fit::Outside;
        for alternative in &self.alternatives {
            if alternative.conditions.iter().all(|condition| condition.holds(version)) {
                if version.pre.is_empty() || alternative.pre_releases {
                    return Fit::Within;
                }
                fit = Fit::PreRelease;
            }
        }
        fit
    }
}

impl Condition {
    fn holds(&self, version: &Version) -> bool {
        match self {
            Self::AtLeast(bound) => version.cmp_precedence(bound) != Ordering::Less,
            Self::Above(bound) => version.cmp_precedence(bound) == Ordering::Greater,
            Self::AtMost(bound) => version.cmp_precedence(bound) != Ordering::Greater,
            Self::Below(bound) => version.cmp_precedence(bound) == Ordering::Less,
            Self::Before(release) => (version.major, version.minor, version.patch) < *release,
            Self::Not(conditions) => !conditions.iter().all(|condition| condition.holds(version)),
        }
    }
}

impl Alternative {
    fn parse(text: &str) -> Result<Self, String> {
        let mut alternative = Self { conditions: Vec::new(), pre_releases: false };
        if let Some((from, to)) = text.split_once(" - ") {
            alternative.add(">=", from.trim())?;
            alternative.add("<=", to.trim())?;
            return Ok(alternative);
        }
        let mut rest = text.trim_start_matches(separates);
        if rest.is_empty() {
            return Err("a range is missing: `*` accepts every release, `>=1.2 <2` those from 1.2 up to 2".into());
        }
        while !rest.is_empty() {
            let operator = rest.find(|c| !"<>=!~^".contains(c)).unwrap_or(rest.len());
            let (operator, after) = rest.split_at(operator);
            let after = after.trim_start();
            let end = after.find(|c| separates(c) || "<>=!~^".contains(c)).unwrap_or(after.len());
            alternative.add(operator, &after[..end])?;
            rest = after[end..].trim_start_matches(separates);
        }
        Ok(alternative)
    }

    fn add(&mut self, operator: &str, operand: &str) -> Result<(), String> {
        let partial: Partial = operand.parse()?;
        self.pre_releases |= !partial.pre.is_empty();
        self.conditions.extend(partial.conditions(operator)?);
        Ok(())
    }
}

fn separates(c: char) -> bool {
    c == ',' || c.is_whitespace()
}

/// A version of a range: `1`, `1.x`, `1.2`, `1.2.3`, `1.2.3-rc.1`, `*`.
struct Partial {
    text: String,
    major: Option<u64>,
    minor: Option<u64>,
    patch: Option<u64>,
    pre: Prerelease,
}

impl FromStr for Partial {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("`{text}` in the range is not a version: {why}");
        let plain = text.strip_prefix(['v', 'V']).unwrap_or(text);
        let plain = plain.split_once('+').map_or(plain, |(version, _build)| version);
        let (core, pre) = plain.split_once('-').map_or((plain, None), |(core, pre)| (core, Some(pre)));
        let mut numbers = [None; 3];
        for (index, part) in core.split('.').enumerate() {
            if index == 3 {
                return Err(wrong("it has more than three parts"));
            }
            if matches!(part, "x" | "X" | "*") {
                continue;
            }
            if !part.bytes().all(|b| b.is_ascii_digit()) || part.is_empty() {
                return Err(wrong("write numbers, as in `1.2.3`, `1.2` or `1.x`"));
            }
            if index > 0 && numbers[index - 1].is_none() {
                return Err(wrong("after `x` only `x` may follow"));
            }
            numbers[index] = Some(part.parse().map_err(|_| wrong("a number is too large"))?);
        }
        let [major, minor, patch] = numbers;
        let pre = match pre {
            None => Prerelease::EMPTY,
            Some(_) if patch.is_none() => {
                return Err(wrong("a pre-release needs all three numbers before it"));
            }
            Some("") => return Err(wrong("the pre-release after `-` is empty")),
            Some(pre) => Prerelease::new(pre).map_err(|_| wrong("the pre-release has letters that are not allowed"))?,
        };
        Ok(Self { text: text.to_owned(), major, minor, patch, pre })
    }
}

impl Partial {
    /// The lowest version that it stands for.
    fn floor(&self) -> Version {
        let number = |n: Option<u64>| n.unwrap_or(0);
        let mut version = Version::new(number(self.major), number(self.minor), number(self.patch));
        version.pre = self.pre.clone();
        version
    }

    fn is_exact(&self) -> bool {
        self.patch.is_some()
    }

    /// The first release after all that it stands for, when it is not exact. None: there is no such release.
    fn after(&self) -> Result<Option<Release>, String> {
        match (self.major, self.minor) {
            (None, _) => Ok(None),
            (Some(major), None) => Ok(Some((self.next(major)?, 0, 0))),
            (Some(major), Some(minor)) => Ok(Some((major, self.next(minor)?, 0))),
        }
    }

    fn next(&self, number: u64) -> Result<u64, String> {
        number.checked_add(1).ok_or_else(|| format!("`{}` in the range has a number that is too large", self.text))
    }

    fn conditions(&self, operator: &str) -> Result<Vec<Condition>, String> {
        use Condition::{Above, AtLeast, AtMost, Before, Below, Not};
        let floor = self.floor();
        let nothing = || format!("`{operator}{}` accepts nothing", self.text);
        let before = |release: Option<Release>| release.map(Before);
        let from = |end: Option<Release>| [AtLeast(self.floor())].into_iter().chain(end.map(Before)).collect();
        Ok(match operator {
            "" | "=" | "==" if self.is_exact() => vec![AtLeast(floor.clone()), AtMost(floor)],
            "" | "=" | "==" => from(self.after()?),
            "!=" | "<" if self.major.is_none() => return Err(nothing()),
            "!=" => vec![Not(self.conditions("=")?)],
            ">" if self.is_exact() => vec![Above(floor)],
            ">" => {
                let (major, minor, patch) = self.after()?.ok_or_else(nothing)?;
                vec![AtLeast(Version::new(major, minor, patch))]
            }
            ">=" => vec![AtLeast(floor)],
            "<" if self.pre.is_empty() => vec![Before((floor.major, floor.minor, floor.patch))],
            "<" => vec![Below(floor)],
            "<=" if self.is_exact() => vec![AtMost(floor)],
            "<=" => before(self.after()?).into_iter().collect(),
            "~" | "~>" => match (self.major, self.minor) {
                (Some(major), Some(minor)) => from(Some((major, self.next(minor)?, 0))),
                _ => from(self.after()?),
            },
            "^" => match (self.major, self.minor, self.patch) {
                (Some(0), Some(0), Some(patch)) => from(Some((0, 0, self.next(patch)?))),
                (Some(0), Some(minor), _) => from(Some((0, self.next(minor)?, 0))),
                (Some(major), _, _) => from(Some((self.next(major)?, 0, 0))),
                (None, _, _) => from(None),
            },
            other => {
                return Err(format!("`{other}` is not an operator of a range: use =, !=, >, >=, <, <=, ~ or ^"));
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ranges_accept_what_their_notation_promises() {
        struct Case {
            range: &'static str,
            within: &'static [&'static str],
            pre_release: &'static [&'static str],
            outside: &'static [&'static str],
        }
        #[rustfmt::skip]
        let cases = [
            Case { range: ">=1.2 <2", within: &["1.2.0", "1.99.0"], pre_release: &["1.3.0-rc.1"], outside: &["1.1.9", "2.0.0", "2.0.0-rc.1", "1.2.0-rc.1"] },
            Case { range: ">=1.2, <2", within: &["1.2.0"], pre_release: &[], outside: &["2.0.0"] },
            Case { range: ">= 1.2 <2", within: &["1.2.0"], pre_release: &[], outside: &["2.0.0"] },
            Case { range: ">=1.2<2", within: &["1.2.0"], pre_release: &[], outside: &["2.0.0"] },
            Case { range: "1.x", within: &["1.0.0", "1.9.9"], pre_release: &["1.1.0-a"], outside: &["0.9.0", "2.0.0"] },
            Case { range: "1.x.x", within: &["1.0.0"], pre_release: &[], outside: &["2.0.0"] },
            Case { range: "1", within: &["1.0.0", "1.9.9"], pre_release: &[], outside: &["2.0.0"] },
            Case { range: "1.2", within: &["1.2.0", "1.2.9"], pre_release: &[], outside: &["1.3.0"] },
            Case { range: "1.2.3", within: &["1.2.3"], pre_release: &[], outside: &["1.2.4", "1.2.3-rc.1"] },
            Case { range: "=v1.2.3", within: &["1.2.3"], pre_release: &[], outside: &["1.2.4"] },
            Case { range: "*", within: &["0.0.0", "9.9.9"], pre_release: &["1.0.0-rc.1"], outside: &[] },
            Case { range: "~1.2", within: &["1.2.0", "1.2.9"], pre_release: &[], outside: &["1.3.0", "1.3.0-a"] },
            Case { range: "~1.2.3", within: &["1.2.3", "1.2.9"], pre_release: &[], outside: &["1.2.2", "1.3.0"] },
            Case { range: "~1", within: &["1.0.0", "1.9.0"], pre_release: &[], outside: &["2.0.0"] },
            Case { range: "^1.2.3", within: &["1.2.3", "1.9.0"], pre_release: &["1.3.0-a"], outside: &["1.2.2", "2.0.0", "2.0.0-a"] },
            Case { range: "^0.2.3", within: &["0.2.3", "0.2.9"], pre_release: &[], outside: &["0.3.0", "1.0.0"] },
            Case { range: "^0.0.3", within: &["0.0.3"], pre_release: &[], outside: &["0.0.4"] },
            Case { range: "^0.0", within: &["0.0.9"], pre_release: &[], outside: &["0.1.0"] },
            Case { range: "^0", within: &["0.9.0"], pre_release: &[], outside: &["1.0.0"] },
            Case { range: ">1.2", within: &["1.3.0", "2.0.0"], pre_release: &[], outside: &["1.2.9"] },
            Case { range: ">1.2.3", within: &["1.2.4"], pre_release: &[], outside: &["1.2.3"] },
            Case { range: "<1.2", within: &["1.1.9"], pre_release: &[], outside: &["1.2.0", "1.2.0-a"] },
            Case { range: "<=1.2", within: &["1.2.9"], pre_release: &[], outside: &["1.3.0", "1.3.0-a"] },
            Case { range: "<=*", within: &["1.2.9"], pre_release: &[], outside: &[] },
            Case { range: "1.2 - 1.4", within: &["1.2.0", "1.4.9"], pre_release: &[], outside: &["1.1.9", "1.5.0"] },
            Case { range: "1.x || >=3.1", within: &["1.5.0", "3.1.0"], pre_release: &["3.2.0-a"], outside: &["2.0.0", "3.0.0"] },
            Case { range: ">=1.2 !=1.3.1", within: &["1.3.0", "1.3.2"], pre_release: &[], outside: &["1.3.1"] },
            Case { range: ">=1.2 !=1.3.x", within: &["1.2.0", "1.4.0"], pre_release: &[], outside: &["1.3.1"] },
            Case { range: ">=1.2.0-0", within: &["1.2.0-rc.1", "1.3.0-a", "1.3.0"], pre_release: &[], outside: &["1.1.9"] },
            Case { range: ">=1.2.0-rc.2 <2", within: &["1.2.0-rc.2", "1.2.0-rc.10", "1.9.0-a"], pre_release: &[], outside: &["1.2.0-rc.1", "2.0.0-rc.1"] },
            Case { range: "<2.0.0-rc.2 >=1", within: &["2.0.0-rc.1"], pre_release: &[], outside: &["2.0.0-rc.2", "2.0.0"] },
            Case { range: ">=1.0.0-0 <1.1 || 2.x", within: &["1.0.1-a"], pre_release: &["2.1.0-a"], outside: &[] },
        ];
        for Case { range, within, pre_release, outside } in cases {
            let parsed = Range::parse(range).unwrap_or_else(|error| panic!("{range}: {error}"));
            for (versions, want) in [(within, Fit::Within), (pre_release, Fit::PreRelease), (outside, Fit::Outside)] {
                for version in versions {
                    assert_eq!(parsed.fit(&version.parse().unwrap()), want, "{range}: {version}");
                }
            }
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let long = ">=1 ".repeat(100);
        let cases = [
            ("", "a range is missing"),
            ("1 || ", "a range is missing"),
            (">=", "`` in the range"),
            (">=1.2 <banana", "`banana` in the range"),
            ("1.2.3.4", "more than three parts"),
            ("1.x.3", "after `x`"),
            (">=1.2-rc", "needs all three numbers"),
            ("1.2.3-", "is empty"),
            ("1.2.3-ä", "not allowed"),
            ("=>1.2", "`=>` is not an operator"),
            (">*", "accepts nothing"),
            ("<*", "accepts nothing"),
            ("!=*", "accepts nothing"),
            ("^18446744073709551615", "too large"),
            ("99999999999999999999", "too large"),
            (long.as_str(), "longer than"),
        ];
        for (range, want) in cases {
            let error = Range::parse(range).unwrap_err();
            assert!(error.contains(want), "{range}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in ".*", near in "[<>=!~^ ,.xv0-9|-]{0,20}") {
            let _answered = (Range::parse(&text).is_ok(), Range::parse(&near).is_ok());
        }

        #[test]
        fn caret_and_tilde_are_the_comparators_they_stand_for(a in 0u64..3, b in 0u64..3, c in 0u64..3, v in (0u64..4, 0u64..4, 0u64..4)) {
            let version = Version::new(v.0, v.1, v.2);
            let caret = Range::parse(&format!("^{a}.{b}.{c}")).unwrap();
            let tilde = Range::parse(&format!("~{a}.{b}.{c}")).unwrap();
            let reference = |text: String| semver::VersionReq::parse(&text).unwrap().matches(&version);
            prop_assert_eq!(caret.fit(&version) == Fit::Within, reference(format!("^{a}.{b}.{c}")));
            prop_assert_eq!(tilde.fit(&version) == Fit::Within, reference(format!("~{a}.{b}.{c}")));
        }
    }
}
