//! Just enough of Rust's grammar to find every path that leaves a file: tokens without comments and
//! literals, `use` trees, and how deep in inline modules a path stands.

/// Where a path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A room of this crate.
    Room(String),
    /// Another crate, or a name in scope: only names of known crates are judged.
    Crate(String),
}

/// The tokens of a file.
pub struct Source {
    tokens: Vec<(usize, Token)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Name(String),
    PathSeparator,
    Mark(char),
}

impl Source {
    /// Splits a file into names and marks; comments, literals and lifetimes are dropped.
    pub fn read(text: &str) -> Self {
        let mut reader = Reader { rest: text.chars().collect(), at: 0, line: 1 };
        let mut tokens = Vec::new();
        while let Some(token) = reader.next_token() {
            tokens.push(token);
        }
        Self { tokens }
    }

    /// The names of all functions, with their lines.
    pub fn functions(&self) -> impl Iterator<Item = (usize, &str)> {
        self.tokens.windows(2).filter_map(|pair| match pair {
            [(_, Token::Name(keyword)), (line, Token::Name(name))] if keyword == "fn" => Some((*line, name.as_str())),
            _ => None,
        })
    }

    /// Where every path of the file leads. `depth` is how many modules deep the file is: 1 for a room's own.
    pub fn origins(&self, depth: usize) -> Vec<(usize, Origin)> {
        let mut found = Vec::new();
        let mut braces = 0_usize;
        let mut modules: Vec<usize> = Vec::new();
        let mut at = 0;
        while let Some((_, token)) = self.tokens.get(at) {
            match token {
                Token::Mark('{') => {
                    braces += 1;
                    if at >= 2 && self.is_name(at - 2, "mod") {
                        modules.push(braces);
                    }
                }
                Token::Mark('}') => {
                    if modules.last() == Some(&braces) {
                        modules.pop();
                    }
                    braces = braces.saturating_sub(1);
                }
                Token::Name(name) if name == "use" => {
                    let mut paths = Vec::new();
                    at = self.tree(at + 1, &mut Vec::new(), &mut paths);
                    found.extend(resolve(paths, depth + modules.len()));
                    continue;
                }
                Token::Name(_) if self.starts_path(at) => {
                    let mut paths = Vec::new();
                    at = self.tree(at, &mut Vec::new(), &mut paths);
                    found.extend(resolve(paths, depth + modules.len()));
                    continue;
                }
                _ => {}
            }
            at += 1;
        }
        found
    }

    fn is_name(&self, at: usize, expected: &str) -> bool {
        matches!(self.tokens.get(at), Some((_, Token::Name(name))) if name == expected)
    }

    fn is(&self, at: usize, expected: &Token) -> bool {
        self.tokens.get(at).is_some_and(|(_, token)| token == expected)
    }

    /// A name that `::` follows and that does not itself follow `::` or a dot.
    fn starts_path(&self, at: usize) -> bool {
        let inside = at > 0
            && (self.is(at - 1, &Token::PathSeparator) && at > 1 && self.continues(at - 2)
                || self.is(at - 1, &Token::Mark('.')));
        self.is(at + 1, &Token::PathSeparator) && !inside
    }

    /// Whether the token before `::` belongs to the same path; otherwise the path is absolute.
    fn continues(&self, at: usize) -> bool {
        match self.tokens.get(at) {
            Some((_, Token::Name(name))) => !matches!(name.as_str(), "use" | "return" | "in"),
            Some((_, Token::Mark(mark))) => *mark == '>',
            _ => false,
        }
    }

    /// Reads a path or `use` tree from `at`; gives back where it ends.
    fn tree(&self, mut at: usize, prefix: &mut Vec<String>, paths: &mut Vec<(usize, Vec<String>)>) -> usize {
        let kept = prefix.len();
        let mut line = self.tokens.get(at).map_or(0, |(line, _)| *line);
        loop {
            match self.tokens.get(at) {
                Some((_, Token::PathSeparator)) => at += 1,
                Some((here, Token::Name(name))) => {
                    line = *here;
                    prefix.push(name.clone());
                    at += 1;
                    if !self.is(at, &Token::PathSeparator) {
                        break;
                    }
                }
                Some((_, Token::Mark('{'))) => {
                    at += 1;
                    while at < self.tokens.len() && !self.is(at, &Token::Mark('}')) {
                        let end = self.tree(at, prefix, paths);
                        // `as NAME`, `,` and anything unforeseen: on to the next item.
                        at = end.max(at + 1);
                        while at < self.tokens.len()
                            && !self.is(at, &Token::Mark(','))
                            && !self.is(at, &Token::Mark('}'))
                        {
                            at += 1;
                        }
                        if self.is(at, &Token::Mark(',')) {
                            at += 1;
                        }
                    }
                    prefix.truncate(kept);
                    return at + 1;
                }
                Some((_, Token::Mark('*'))) => {
                    at += 1;
                    break;
                }
                _ => break,
            }
        }
        if prefix.len() > kept || kept > 0 {
            paths.push((line, prefix.clone()));
        }
        prefix.truncate(kept);
        at
    }
}

/// Turns paths into origins; those that stay inside their room's files lead nowhere.
fn resolve(paths: Vec<(usize, Vec<String>)>, depth: usize) -> impl Iterator<Item = (usize, Origin)> {
    paths.into_iter().filter_map(move |(line, path)| {
        let ups = path.iter().take_while(|part| *part == "super").count();
        let origin = match path.first()?.as_str() {
            "crate" | "stagekeeper" => Origin::Room(path.get(1)?.clone()),
            "super" if ups >= depth => Origin::Room(path.get(ups)?.clone()),
            "super" | "self" | "Self" => return None,
            other => Origin::Crate(other.into()),
        };
        Some((line, origin))
    })
}

struct Reader {
    rest: Vec<char>,
    at: usize,
    line: usize,
}

impl Reader {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.rest.get(self.at + ahead).copied()
    }

    fn step(&mut self) {
        if self.peek(0) == Some('\n') {
            self.line += 1;
        }
        self.at += 1;
    }

    fn next_token(&mut self) -> Option<(usize, Token)> {
        loop {
            let line = self.line;
            match (self.peek(0)?, self.peek(1)) {
                ('/', Some('/')) => {
                    while self.peek(0).is_some_and(|mark| mark != '\n') {
                        self.step();
                    }
                }
                ('/', Some('*')) => self.skip_comment(),
                ('"', _) => self.skip_string(),
                ('\'', _) => self.skip_quote(),
                (':', Some(':')) => {
                    self.at += 2;
                    return Some((line, Token::PathSeparator));
                }
                (mark, _) if mark.is_alphanumeric() || mark == '_' => {
                    if let Some(name) = self.word() {
                        return Some((line, Token::Name(name)));
                    }
                }
                (mark, _) => {
                    self.step();
                    if !mark.is_whitespace() {
                        return Some((line, Token::Mark(mark)));
                    }
                }
            }
        }
    }

    /// A name; `None` when the word was the prefix of a literal or a number.
    fn word(&mut self) -> Option<String> {
        let start = self.at;
        while self.peek(0).is_some_and(|mark| mark.is_alphanumeric() || mark == '_') {
            self.at += 1;
        }
        let word: String = self.rest[start..self.at].iter().collect();
        let raw = matches!(word.as_str(), "r" | "br" | "cr");
        match self.peek(0) {
            Some('"') if raw => self.skip_raw_string(),
            Some('#') if raw && matches!(self.peek(1), Some('"' | '#')) => self.skip_raw_string(),
            Some('"') if matches!(word.as_str(), "b" | "c") => self.skip_string(),
            Some('\'') if word == "b" => self.skip_quote(),
            // `r#type`: the name follows.
            Some('#') if word == "r" => self.at += 1,
            _ if word.starts_with(|mark: char| mark.is_ascii_digit()) => {}
            _ => return Some(word),
        }
        None
    }

    fn skip_comment(&mut self) {
        let mut open = 0_usize;
        while let Some(mark) = self.peek(0) {
            match (mark, self.peek(1)) {
                ('/', Some('*')) => {
                    open += 1;
                    self.at += 2;
                }
                ('*', Some('/')) => {
                    open -= 1;
                    self.at += 2;
                    if open == 0 {
                        return;
                    }
                }
                _ => self.step(),
            }
        }
    }

    fn skip_string(&mut self) {
        self.step();
        while let Some(mark) = self.peek(0) {
            self.step();
            match mark {
                '\\' => self.step(),
                '"' => return,
                _ => {}
            }
        }
    }

    fn skip_raw_string(&mut self) {
        let mut hashes = 0;
        while self.peek(0) == Some('#') {
            hashes += 1;
            self.at += 1;
        }
        self.step();
        while let Some(mark) = self.peek(0) {
            self.step();
            if mark == '"' && (0..hashes).all(|ahead| self.peek(ahead) == Some('#')) {
                self.at += hashes;
                return;
            }
        }
    }

    /// A character literal or a lifetime.
    fn skip_quote(&mut self) {
        self.step();
        if self.peek(0) == Some('\\') {
            self.at += 2;
            while self.peek(0).is_some_and(|mark| mark != '\'') {
                self.step();
            }
            self.step();
        } else if self.peek(1) == Some('\'') {
            self.step();
            self.step();
        } else {
            while self.peek(0).is_some_and(|mark| mark.is_alphanumeric() || mark == '_') {
                self.at += 1;
            }
        }
    }
}
