//! Which stage takes its releases from which, and what can be wrong with that.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The names in `spec.promotion.from`, by the name of the stage that has them. Every stage of the project is in it.
pub type Edges = BTreeMap<String, Vec<String>>;

/// A circle that the releases of `stage` would come out of: the shortest through the stage itself, or else one among the
/// stages that it takes them from. In the direction in which releases would move, the first name again at the end.
pub fn cycle(stage: &str, edges: &Edges) -> Option<Vec<String>> {
    let reached = reached(stage, edges);
    let mut found = round(stage, edges);
    for name in reached.keys() {
        if found.is_some() {
            break;
        }
        found = round(name, edges);
    }
    found
}

/// The nearest stage that `stage` takes releases from, at once or by way of others, and that is not there: the way from
/// it to `stage`.
pub fn unknown(stage: &str, edges: &Edges) -> Option<Vec<String>> {
    let reached = reached(stage, edges);
    let missing = reached.iter().filter(|(name, _)| !edges.contains_key(**name));
    let (_, way) = missing.min_by_key(|(name, way)| (way.len(), **name))?;
    Some(way.iter().rev().map(|name| (*name).to_owned()).collect())
}

/// The shortest circle through a stage.
fn round(stage: &str, edges: &Edges) -> Option<Vec<String>> {
    let way = reached(stage, edges).remove(stage)?;
    Some(way.iter().rev().map(|name| (*name).to_owned()).collect())
}

/// Everything that a stage takes releases from, each with the shortest way to it, the stage itself first.
fn reached<'e>(stage: &'e str, edges: &'e Edges) -> BTreeMap<&'e str, Vec<&'e str>> {
    let mut ways: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut next = VecDeque::from([vec![stage]]);
    while let Some(way) = next.pop_front() {
        let sources = way.last().and_then(|last| edges.get(*last));
        for source in sources.into_iter().flatten().map(String::as_str).collect::<BTreeSet<_>>() {
            if !ways.contains_key(source) {
                let way: Vec<&str> = way.iter().copied().chain([source]).collect();
                ways.insert(source, way.clone());
                next.push_back(way);
            }
        }
    }
    ways
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edges(all: &[(&str, &[&str])]) -> Edges {
        let named = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        all.iter().map(|(stage, from)| ((*stage).to_owned(), named(from))).collect()
    }

    #[test]
    fn ways_are_told_as_releases_move() {
        let told = |way: Option<Vec<String>>| way.map(|way| way.join(" → "));
        let line = edges(&[("dev", &[]), ("staging", &["dev"]), ("production", &["staging", "dev"])]);
        assert_eq!((cycle("production", &line), unknown("production", &line)), (None, None));

        let round = edges(&[("a", &["c"]), ("b", &["a"]), ("c", &["b"]), ("after", &["c"])]);
        assert_eq!(told(cycle("a", &round)).as_deref(), Some("a → b → c → a"));
        assert_eq!(told(cycle("after", &round)).as_deref(), Some("a → b → c → a"), "it comes after a circle");
        assert_eq!(told(cycle("self", &edges(&[("self", &["self"])]))).as_deref(), Some("self → self"));

        let hole = edges(&[("staging", &["qa"]), ("production", &["staging"])]);
        assert_eq!(told(unknown("production", &hole)).as_deref(), Some("qa → staging → production"));
        assert_eq!(told(unknown("staging", &hole)).as_deref(), Some("qa → staging"));
    }
}
