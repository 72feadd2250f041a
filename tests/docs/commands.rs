//! Command lines of ours in the pages, and whether the program would take them.

use super::markdown::Page;

/// Every command line of ours: in blocks of `sh`, which are whole, and inline code that begins with the program's name,
/// which may only name a command.
pub fn of(page: &Page) -> Vec<(usize, Vec<String>, bool)> {
    let mut found = Vec::new();
    for block in page.blocks().into_iter().filter(|block| block.info == "sh") {
        let mut whole = String::new();
        for (at, line) in block.text.lines().enumerate() {
            whole.push_str(line.trim_end_matches('\\'));
            if !line.ends_with('\\') {
                found.extend(ours(&whole).into_iter().map(|words| (block.line + at, words, true)));
                whole.clear();
            }
        }
    }
    let inline = page.codes().into_iter().filter(|(_, code)| code.starts_with("stagekeeper "));
    found.extend(inline.flat_map(|(line, code)| ours(&code).into_iter().map(move |words| (line, words, false))));
    found
}

/// The commands of ours in one line of shell.
fn ours(line: &str) -> Vec<Vec<String>> {
    let commands = split(line).into_iter().filter_map(|words| {
        let is_ours = |word: &String| word == "stagekeeper" || word.ends_with("/stagekeeper");
        let is_before = |word: &String| word.contains('=') || ["sudo", "env", "exec"].contains(&word.as_str());
        let first = words.iter().position(|word| !is_before(word))?;
        is_ours(&words[first]).then(|| words[first..].to_vec())
    });
    commands.collect()
}

/// Words of each command of a line, quotes taken off. What follows `#` and redirections is left out.
fn split(line: &str) -> Vec<Vec<String>> {
    let mut commands = vec![Vec::new()];
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut skipping = false;
    for c in line.chars().chain(['\n']) {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (Some(_), _) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, ' ' | '\n' | '|' | ';' | '&' | '>' | '<') => {
                let done = word.take();
                if !skipping {
                    commands.last_mut().unwrap().extend(done.clone());
                }
                skipping = skipping && done.is_none();
                if matches!(c, '|' | ';' | '&') {
                    commands.push(Vec::new());
                    skipping = false;
                } else if matches!(c, '>' | '<') {
                    skipping = true;
                }
            }
            (None, _) => word.get_or_insert_default().push(c),
        }
    }
    commands.extend(word.map(|word| vec![word]));
    commands
}

/// Whether the grammar takes the words; arguments may be missing where they are not `whole`.
pub fn parse(words: &[String], whole: bool) -> Result<(), String> {
    use clap::error::ErrorKind::{
        DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion, MissingRequiredArgument,
        MissingSubcommand,
    };
    match stagekeeper::cli::grammar().try_get_matches_from(words) {
        Ok(_) => Ok(()),
        Err(error) => match error.kind() {
            DisplayHelp | DisplayVersion => Ok(()),
            MissingRequiredArgument | MissingSubcommand | DisplayHelpOnMissingArgumentOrSubcommand if !whole => Ok(()),
            _ => Err(error.to_string()),
        },
    }
}

#[test]
fn shell_is_understood_as_far_as_it_is_used() {
    let cases: [(&str, &[&[&str]]); 6] = [
        ("stagekeeper crds | kubectl apply -f - # now", &[&["stagekeeper", "crds"]]),
        ("A=b sudo ./x/stagekeeper why web", &[&["./x/stagekeeper", "why", "web"]]),
        ("stagekeeper logs 0a --search 'exit code' > file", &[&["stagekeeper", "logs", "0a", "--search", "exit code"]]),
        (
            "stagekeeper migrate up && stagekeeper doctor",
            &[&["stagekeeper", "migrate", "up"], &["stagekeeper", "doctor"]],
        ),
        ("kubectl get stages", &[]),
        ("echo stagekeeper why web", &[]),
    ];
    for (line, wanted) in cases {
        assert_eq!(ours(line), wanted, "{line}");
    }
    let takes = |words: &[&str], whole| parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>(), whole);
    assert!(takes(&["stagekeeper", "whyever"], false).is_err());
    assert!(takes(&["stagekeeper", "why", "--all"], false).is_err());
    assert!(takes(&["stagekeeper", "why"], true).is_err());
    assert!(takes(&["stagekeeper", "why"], false).is_ok());
    assert!(takes(&["stagekeeper", "--help"], true).is_ok());
}
