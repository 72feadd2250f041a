//! `.env` files: one `NAME=VALUE` a line, read strictly. What is not understood is refused with the number of its line and
//! nothing of what stands there.
//!
//! ```text
//! # a comment
//! PLAIN=value up to the end of the line, or to a blank and a hash   # comment
//! export EXPORTED=the same
//! SINGLE='exactly what stands here: \n and $HOME too'
//! DOUBLE="escapes: \n \r \t \" \\ \$ \`; and line
//! breaks as they are"
//! ```
//!
//! Nothing is substituted: a `$` is a `$`.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use crate::{
    crypto::{MAX_PLAINTEXT, Plaintext},
    domain::secret,
};

/// A value with its name.
pub struct Entry {
    /// The name.
    pub name: String,
    /// The value.
    pub value: Plaintext,
}

/// Why a file was refused. It says nothing of what stands in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct EnvFileError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub why: String,
}

/// Where the reader is in the text.
struct Reader<'a> {
    text: &'a str,
    at: usize,
    line: usize,
}

/// Reads a whole file, in the order of its lines.
///
/// # Errors
/// The first thing that is not understood.
pub fn parse(bytes: &[u8]) -> Result<Vec<Entry>, EnvFileError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|_| {
        let good = bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid());
        EnvFileError { line: 1 + good.matches('\n').count(), why: "it is not UTF-8".into() }
    })?;
    let mut reader = Reader { text, at: 0, line: 1 };
    let mut entries: Vec<Entry> = Vec::new();
    let mut lines: BTreeMap<String, usize> = BTreeMap::new();
    while !reader.rest().is_empty() {
        let line = reader.line;
        let Some((name, value)) = reader.entry()? else { continue };
        if let Some(first) = lines.insert(name.clone(), line) {
            return Err(EnvFileError { line, why: format!("the name stands in line {first} already") });
        }
        if value.len() > MAX_PLAINTEXT {
            let why = format!("a value of {} bytes is too long: {MAX_PLAINTEXT} are the most", value.len());
            return Err(EnvFileError { line, why });
        }
        if value.expose().contains(&0) {
            return Err(EnvFileError { line, why: "there is a NUL character in the value".into() });
        }
        entries.push(Entry { name, value });
    }
    Ok(entries)
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn refused<T>(&self, why: impl Into<String>) -> Result<T, EnvFileError> {
        Err(EnvFileError { line: self.line, why: why.into() })
    }

    /// Goes on by so many bytes, which end no character in the middle.
    fn pass(&mut self, bytes: usize) -> &'a str {
        let passed = &self.rest()[..bytes];
        self.at += bytes;
        self.line += passed.matches('\n').count();
        passed
    }

    /// What is left of the line, without its end; the next line is next.
    fn rest_of_line(&mut self) -> &'a str {
        let length = self.rest().find('\n').map_or(self.rest().len(), |end| end + 1);
        let line = self.pass(length);
        let line = line.strip_suffix('\n').unwrap_or(line);
        line.strip_suffix('\r').unwrap_or(line)
    }

    /// Whether there were any.
    fn pass_blanks(&mut self) -> bool {
        let blanks = self.rest().len() - self.rest().trim_start_matches([' ', '\t']).len();
        !self.pass(blanks).is_empty()
    }

    /// One line, or several when a value in quotes has several; none when there is nothing in it.
    fn entry(&mut self) -> Result<Option<(String, Plaintext)>, EnvFileError> {
        self.pass_blanks();
        if self.rest().starts_with(['#', '\n']) || self.rest().starts_with("\r\n") || self.rest().is_empty() {
            self.rest_of_line();
            return Ok(None);
        }
        let line = self.rest().split('\n').next().unwrap_or_default();
        let Some(equals) = line.find('=') else {
            return self.refused("there is no `=`: expected NAME=VALUE");
        };
        let word = line[..equals].trim_matches([' ', '\t']);
        let exported = word.strip_prefix("export").filter(|rest| rest.starts_with([' ', '\t']));
        let word = exported.map_or(word, |rest| rest.trim_start_matches([' ', '\t']));
        let name = match secret::name(word) {
            Ok(name) => name,
            Err(why) => return self.refused(why),
        };
        self.pass(equals + 1);
        let blank = self.pass_blanks();
        let value = match self.rest().as_bytes().first() {
            Some(b'#') if blank => {
                self.rest_of_line();
                Plaintext::from(Vec::new())
            }
            Some(b'\'') => self.single_quoted()?,
            Some(b'"') => self.double_quoted()?,
            _ => bare(self.rest_of_line()),
        };
        Ok(Some((name, value)))
    }

    fn single_quoted(&mut self) -> Result<Plaintext, EnvFileError> {
        let Some(end) = self.rest()[1..].find('\'') else {
            return self.refused("a `'` opens here and nothing closes it");
        };
        self.pass(1);
        let value = unix_lines(self.pass(end));
        self.pass(1);
        self.after_quotes()?;
        Ok(value)
    }

    fn double_quoted(&mut self) -> Result<Plaintext, EnvFileError> {
        // The end first: what the value is copied to is made in its size, and never moved.
        let mut escaped = false;
        let end = self.rest().bytes().skip(1).position(|byte| {
            let ends = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            ends
        });
        let Some(end) = end else { return self.refused("a `\"` opens here and nothing closes it") };
        self.pass(1);
        let mut value = Zeroizing::new(String::with_capacity(end));
        let until = self.at + end;
        while self.at < until {
            let plain = self.text[self.at..until].find(['\\', '\r']).unwrap_or(until - self.at);
            value.push_str(self.pass(plain));
            if self.at == until {
                break;
            }
            if self.rest().starts_with('\r') {
                // The end of a line is one character, however the file writes it.
                let written = if self.rest().starts_with("\r\n") { "" } else { "\r" };
                self.pass(1);
                value.push_str(written);
                continue;
            }
            let letter = match self.rest().as_bytes().get(1) {
                Some(b'n') => '\n',
                Some(b'r') => '\r',
                Some(b't') => '\t',
                Some(byte @ (b'"' | b'\\' | b'$' | b'`')) => char::from(*byte),
                _ => {
                    return self.refused(
                        "after a `\\` in double quotes comes one of n r t \" \\ $ `: write `\\\\` for the character itself, or \
                         use single quotes",
                    );
                }
            };
            value.push(letter);
            self.pass(2);
        }
        self.pass(1);
        self.after_quotes()?;
        Ok(Plaintext::from(value.as_bytes().to_vec()))
    }

    /// After the closing quote comes nothing but a comment.
    fn after_quotes(&mut self) -> Result<(), EnvFileError> {
        let line = self.line;
        let rest = self.rest_of_line();
        let bare = rest.trim_start_matches([' ', '\t']);
        if bare.is_empty() || (bare.starts_with('#') && bare.len() < rest.len()) {
            Ok(())
        } else {
            Err(EnvFileError { line, why: "something stands behind the closing quote".into() })
        }
    }
}

/// A value without quotes: up to a comment, without the blanks at its ends.
fn bare(line: &str) -> Plaintext {
    let comment = line.match_indices('#').find(|(at, _)| line[..*at].ends_with([' ', '\t']));
    let value = comment.map_or(line, |(at, _)| &line[..at]);
    Plaintext::from(value.trim_matches([' ', '\t']).as_bytes().to_vec())
}

fn unix_lines(text: &str) -> Plaintext {
    let mut value = Vec::with_capacity(text.len());
    let mut lines = text.split("\r\n");
    value.extend_from_slice(lines.next().unwrap_or_default().as_bytes());
    for line in lines {
        value.push(b'\n');
        value.extend_from_slice(line.as_bytes());
    }
    Plaintext::from(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(String, String)>, String> {
        read_bytes(text.as_bytes())
    }

    fn read_bytes(bytes: &[u8]) -> Result<Vec<(String, String)>, String> {
        let entries = parse(bytes).map_err(|error| error.to_string())?;
        let text = |value: &Plaintext| value.expose_text().expect("text").to_owned();
        Ok(entries.iter().map(|entry| (entry.name.clone(), text(&entry.value))).collect())
    }

    #[test]
    fn values_are_what_they_look_like() {
        let cases = [
            ("nothing", "", ""),
            ("plain", "value", "value"),
            ("blanks around", " \t a  b \t ", "a  b"),
            ("a comment", "value # and more", "value"),
            ("a comment after a tab", "value\t#more", "value"),
            ("a hash in a word", "a#b", "a#b"),
            ("a hash at the beginning", "#value", "#value"),
            ("nothing but a comment", " # value", ""),
            ("an equals sign", "a=b==", "a=b=="),
            ("a dollar is a dollar", "$HOME ${HOME} $(ls)", "$HOME ${HOME} $(ls)"),
            ("backslashes", r"C:\new\t", r"C:\new\t"),
            ("quotes inside", r#"it's "so""#, r#"it's "so""#),
            ("not ASCII", "ключ 🔑", "ключ 🔑"),
            ("single quotes", r"'a # b \n $HOME \'", r"a # b \n $HOME \"),
            ("double quotes in single quotes", r#"'say "so"'"#, r#"say "so""#),
            ("single quotes, nothing in them", "''", ""),
            ("single quotes and a comment", "'a' # b", "a"),
            ("single quotes over lines", "'a\nb'", "a\nb"),
            ("double quotes", r#""a # b 'c' $HOME""#, "a # b 'c' $HOME"),
            ("escapes", r#""\n\r\t\"\\\$\`""#, "\n\r\t\"\\$`"),
            ("a backslash at the end", r#""a\\""#, "a\\"),
            (
                "double quotes over lines",
                "\"-----BEGIN-----\nabc=\n\n# no comment\n-----END-----\n\" # end",
                "-----BEGIN-----\nabc=\n\n# no comment\n-----END-----\n",
            ),
            ("a carriage return of its own", "\"a\rb\"", "a\rb"),
            ("not ASCII in quotes", r#""ключ \n 🔑""#, "ключ \n 🔑"),
        ];
        for (name, written, value) in cases {
            let expected = |value: &str| {
                Ok(vec![("BEFORE".into(), "1".into()), ("KEY".into(), value.to_owned()), ("AFTER".into(), "2".into())])
            };
            let unix = format!("BEFORE=1\nKEY={written}\nAFTER=2\n");
            assert_eq!(read(&unix), expected(value), "{name}");
            assert_eq!(read(unix.trim_end()), expected(value), "{name}, without an end");
            assert_eq!(read(&unix.replace('\n', "\r\n")), expected(value), "{name}, with CRLF");
        }
    }

    #[test]
    fn what_is_no_value_is_passed_over() {
        let one = Ok(vec![("KEY".to_owned(), "a".to_owned())]);
        let cases = [
            ("a byte order mark", "\u{feff}KEY=a"),
            ("export", "export KEY=a"),
            ("export with tabs", "\texport\t KEY =\ta"),
            ("blanks around the name", "  KEY  =  a"),
            ("empty lines and comments", "\n \n# KEY=b\n  # \"\n\r\nKEY=a\n\n"),
        ];
        for (name, text) in cases {
            assert_eq!(read(text), one, "{name}");
        }
        assert_eq!(read(""), Ok(Vec::new()));
        assert_eq!(read("\u{feff}"), Ok(Vec::new()));
        assert_eq!(read("exported=a"), Ok(vec![("exported".into(), "a".into())]));
        assert_eq!(read("export=a"), Ok(vec![("export".into(), "a".into())]));
    }

    #[test]
    fn what_is_not_understood_is_named_by_its_line_alone() {
        let long = format!("\nKEY={}", "x".repeat(MAX_PLAINTEXT + 1));
        let cases = [
            ("no equals sign", "A=1\nhunter2", "line 2: there is no `=`"),
            ("export alone", "export hunter2", "line 1: there is no `=`"),
            ("no name", "A=1\n\n=hunter2", "line 3: a secret's name has"),
            ("no name for a variable", "hunter2+=1", "line 1: a secret's name has"),
            ("two words", "hunter2 hunter2=1", "line 1: a secret's name has"),
            ("a digit first", "2hunter2=1", "line 1: a secret's name has"),
            ("single quotes stay open", "A=1\nB='hunter2\nC=2", "line 2: a `'` opens here"),
            ("double quotes stay open", "A=\"x\ny\"\nB=\"hunter2\nC=2\\\"", "line 3: a `\"` opens here"),
            ("behind single quotes", "A='x'hunter2", "line 1: something stands behind"),
            ("a hash right behind quotes", "A='x'#hunter2", "line 1: something stands behind"),
            ("behind double quotes", "A=1\nB=\"x\ny\" hunter2", "line 3: something stands behind"),
            ("an unknown escape", "A=\"x\n\\hunter2\"", "line 2: after a `\\`"),
            ("a backslash before a line's end", "A=\"hunter2\\\nx\"", "line 1: after a `\\`"),
            ("twice", "A=hunter2\nB=\"\n\"\nexport A=hunter2", "line 4: the name stands in line 1 already"),
            ("NUL", "A=hunter2\0", "line 1: there is a NUL"),
            ("too long", &long, "line 2: a value of 1048577 bytes is too long: 1048576"),
        ];
        for (name, text, expected) in cases {
            for text in [text.to_owned(), text.replace('\n', "\r\n")] {
                let said = read(&text).expect_err(name);
                assert!(said.starts_with(expected), "{name}: {said}");
                assert!(!said.contains("hunter2"), "{name}: {said}");
            }
        }
        let said = read_bytes(b"A=1\nB=hunter2\xff\n").expect_err("not UTF-8");
        assert_eq!(said, "line 2: it is not UTF-8");
    }

    proptest::proptest! {
        /// Whatever stands there, it is read or refused, and what is quoted comes out as it went in.
        #[test]
        fn any_text_is_read_or_refused(text in "(?s).{0,60}", pieces in "[A=\"'\\\\# \r\n$x]{0,40}") {
            let _read = read(&text);
            let _read = read(&pieces);
            let mut quoted = String::from("A=\"");
            for letter in text.chars().filter(|letter| *letter != '\0') {
                match letter {
                    '"' | '\\' => quoted.extend(['\\', letter]),
                    '\r' => quoted.push_str("\\r"),
                    _ => quoted.push(letter),
                }
            }
            quoted.push('"');
            proptest::prop_assert_eq!(read(&quoted), Ok(vec![("A".to_owned(), text.replace('\0', ""))]));
        }
    }
}
