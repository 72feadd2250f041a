//! Parts of pages that are written from the code, between two comments.

use std::{collections::BTreeMap, env, fs};

use super::markdown::root;

/// Holds each block (`file`, `name`, text) to what stands in its page, or rewrites it when asked to.
pub fn hold(blocks: &[(&str, &str, String)]) {
    let mut pages: BTreeMap<&str, String> = BTreeMap::new();
    let mut old = Vec::new();
    for (file, name, wanted) in blocks {
        let page = pages
            .entry(file)
            .or_insert_with(|| fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}")));
        let (begin, end) = (format!("<!-- generated: {name} -->\n"), format!("<!-- end: {name} -->\n"));
        let from = page.find(&begin).unwrap_or_else(|| panic!("{file}: there is no `{}`", begin.trim())) + begin.len();
        let to = from + page[from..].find(&end).unwrap_or_else(|| panic!("{file}: there is no `{}`", end.trim()));
        let wanted = format!("\n{}\n\n", wanted.trim());
        if page[from..to] != wanted {
            old.push(format!("{file}, {name}"));
            page.replace_range(from..to, &wanted);
        }
    }
    if env::var_os("UPDATE").is_some() {
        for (file, text) in pages {
            fs::write(root().join(file), text).unwrap();
        }
    } else {
        assert!(old.is_empty(), "not what the code says: {old:?}; run `UPDATE=1 cargo test --test docs`, and commit");
    }
}
