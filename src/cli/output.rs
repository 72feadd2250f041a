//! What commands print: tables for people, JSON and YAML for programs, names for pipes.

use std::{borrow::Cow, io::Write};

use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use super::failure::Failure;

/// The form of a command's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// A table for people.
    #[default]
    Table,
    /// The same with more columns.
    Wide,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// One `kind/name` per line.
    Name,
}

/// Rows under headings, as `kubectl` shows them: no borders, three blanks between columns.
pub struct Columns {
    table: Table,
}

impl Columns {
    /// A table with these headings.
    pub fn new(headings: &[&str]) -> Self {
        let mut table = Table::new();
        table
            .load_style(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Disabled)
            .set_header(headings.iter().copied());
        let mut columns = Self { table };
        columns.pad();
        columns
    }

    /// Adds a row; what is not printable in a cell is replaced.
    pub fn row<I>(&mut self, cells: I)
    where
        I: IntoIterator<Item = String>,
    {
        self.table.add_row(cells.into_iter().map(|cell| one_line(&cell).into_owned()));
    }

    /// The finished text, without blanks at line ends.
    pub fn render(mut self) -> String {
        self.pad();
        let mut text = self.table.trim_fmt();
        text.push('\n');
        text
    }

    fn pad(&mut self) {
        for column in self.table.column_iter_mut() {
            column.set_padding((0, 3));
        }
    }
}

/// `Name:   value` lines, as `kubectl describe` shows them.
pub fn fields(fields: &[(&str, String)]) -> String {
    let width = fields.iter().map(|(name, _)| name.len()).max();
    let width = width.unwrap_or_default() + 4;
    let mut text = String::new();
    for (name, value) in fields {
        text.push_str(name);
        text.push(':');
        text.extend(std::iter::repeat_n(' ', width - name.len() - 1));
        text.push_str(&one_line(value));
        text.push('\n');
    }
    text
}

/// Prints a value as JSON or YAML.
pub fn print_value(out: &mut dyn Write, value: &impl Serialize, yaml: bool) -> Result<(), Failure> {
    let written = if yaml {
        serde_yaml::to_string(value).map_err(|error| error.to_string())
    } else {
        serde_json::to_string_pretty(value).map(|text| text + "\n").map_err(|error| error.to_string())
    };
    let text = written.map_err(|error| Failure::failed(format!("the answer cannot be written: {error}"), ""))?;
    out.write_all(text.as_bytes())?;
    Ok(())
}

/// A text from outside as one harmless line: it may not move the cursor or set colours on a terminal.
pub fn one_line(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unprintable) {
        return Cow::Borrowed(text);
    }
    let mut line = String::with_capacity(text.len());
    for letter in text.trim_end().chars() {
        match letter {
            '\n' | '\r' | '\t' => line.push(' '),
            _ if is_unprintable(letter) => line.push(char::REPLACEMENT_CHARACTER),
            _ => line.push(letter),
        }
    }
    Cow::Owned(line)
}

fn is_unprintable(letter: char) -> bool {
    // Beside control characters, those that reverse the direction of writing can fake a text.
    letter.is_control() || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_look_like_those_of_kubectl() {
        let mut columns = Columns::new(&["NAME", "STATE", "WHY"]);
        columns.row(["prod".into(), "success".into(), String::new()]);
        columns.row(["staging-eu".into(), "failed".into(), "probe answered 500\nx".into()]);
        let expected = "\
NAME         STATE     WHY
prod         success
staging-eu   failed    probe answered 500 x
";
        assert_eq!(columns.render(), expected);
    }

    #[test]
    fn fields_stand_in_line() {
        let text = fields(&[("Id", "1".into()), ("Stage", "shop\u{1b}/dev".into())]);
        assert_eq!(text, "Id:      1\nStage:   shop\u{fffd}/dev\n");
    }

    #[test]
    fn texts_from_outside_cannot_steer_a_terminal() {
        assert_eq!(one_line("plain é 🦀"), "plain é 🦀");
        assert_eq!(one_line("a\u{1b}[31mred\u{7}\tb\n"), "a\u{fffd}[31mred\u{fffd} b");
        assert_eq!(one_line("a\u{202e}b"), "a\u{fffd}b");
    }
}
