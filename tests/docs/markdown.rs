//! Markdown as far as the tests need it: headings, links, code.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use regex::Regex;

/// A page, line by line, knowing which lines are inside a fenced block.
pub struct Page {
    /// Where it is.
    pub path: PathBuf,
    /// The same, below the repository.
    pub name: String,
    text: String,
}

/// A fenced block.
pub struct Block {
    /// The line of its first content line.
    pub line: usize,
    /// What stands after the opening fence.
    pub info: String,
    /// What it holds.
    pub text: String,
}

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every page that people read.
pub fn pages() -> Vec<Page> {
    let mut found = Vec::new();
    for name in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "bench/README.md"] {
        found.push(root().join(name));
    }
    collect(&root().join("docs"), "md", &mut found);
    found.iter().map(|path| Page::read(path)).collect()
}

/// All code and scripts in one text, to look for names in.
pub fn sources() -> String {
    let mut found = vec![root().join("Makefile")];
    for (folder, extension) in [("src", "rs"), ("examples", "go"), ("hack", ""), ("bench", ""), (".ci", "")] {
        collect(&root().join(folder), extension, &mut found);
    }
    found.iter().map(|path| fs::read_to_string(path).unwrap_or_default()).collect()
}

/// The program's code without one of its folders.
pub fn sources_without(left_out: &str) -> String {
    let mut found = Vec::new();
    collect(&root().join("src"), "rs", &mut found);
    let left_out = root().join(left_out);
    let kept = found.iter().filter(|path| !path.starts_with(&left_out));
    kept.map(|path| fs::read_to_string(path).unwrap()).collect()
}

fn collect(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut entries: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            collect(&path, extension, found);
        } else if path.extension().unwrap_or_default() == extension {
            found.push(path);
        }
    }
}

impl Page {
    /// Reads it.
    pub fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let name = path.strip_prefix(root()).unwrap_or(path).to_string_lossy().into_owned();
        Self { path: path.to_owned(), name, text }
    }

    /// A path as this page's links mean it.
    pub fn beside(&self, path: &str) -> PathBuf {
        self.path.parent().unwrap().join(path)
    }

    /// Its lines, numbered from 1.
    pub fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(at, line)| (at + 1, line))
    }

    /// Its fenced blocks.
    pub fn blocks(&self) -> Vec<Block> {
        self.split().1
    }

    /// Lines outside of fenced blocks, and the blocks.
    fn split(&self) -> (Vec<(usize, &str)>, Vec<Block>) {
        let (mut prose, mut blocks) = (Vec::new(), Vec::<Block>::new());
        let mut open = false;
        for (number, line) in self.lines() {
            match line.trim_start().strip_prefix("```") {
                Some(info) if !open => {
                    open = true;
                    blocks.push(Block { line: number + 1, info: info.trim().into(), text: String::new() });
                }
                Some(_) => open = false,
                None if open => {
                    let block = blocks.last_mut().unwrap();
                    block.text.push_str(line);
                    block.text.push('\n');
                }
                None => prose.push((number, line)),
            }
        }
        assert!(!open, "{}: a fenced block does not end", self.name);
        (prose, blocks)
    }

    /// Targets of its links.
    pub fn links(&self) -> Vec<(usize, String)> {
        let link = Regex::new(r"\]\(([^)\s]+)\)").unwrap();
        let code = Regex::new(r"`[^`]*`").unwrap();
        let mut found = Vec::new();
        for (number, line) in self.split().0 {
            let line = code.replace_all(line, "``");
            found.extend(link.captures_iter(&line).map(|it| (number, it[1].to_owned())));
        }
        found
    }

    /// Inline code, and the lines of fenced blocks.
    pub fn codes(&self) -> Vec<(usize, String)> {
        let code = Regex::new(r"`([^`]+)`").unwrap();
        let (prose, blocks) = self.split();
        let inline = prose
            .into_iter()
            .flat_map(|(number, line)| code.captures_iter(line).map(move |it| (number, it[1].to_owned())));
        let mut found: Vec<_> = inline.collect();
        for block in blocks {
            found.extend(block.text.lines().enumerate().map(|(at, line)| (block.line + at, line.to_owned())));
        }
        found
    }

    /// What `#` may be followed by in links to this page, by GitHub's rules.
    pub fn anchors(&self) -> BTreeSet<String> {
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let mut found = BTreeSet::new();
        for (_, line) in self.split().0 {
            let title = line.trim_start_matches('#');
            if title.len() == line.len() || !title.starts_with(' ') {
                continue;
            }
            let slug: String = title
                .trim()
                .to_lowercase()
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
                .map(|c| if c == ' ' { '-' } else { c })
                .collect();
            let times = seen.entry(slug.clone()).or_default();
            found.insert(if *times == 0 { slug } else { format!("{slug}-{times}") });
            *times += 1;
        }
        found
    }
}
