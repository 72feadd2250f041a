//! Where the statements of a script begin: only for naming the line of one that failed.

/// The line (from 1) of a character position (from 1), as Postgres reports it.
pub(super) fn line_at(sql: &str, position: usize) -> usize {
    let before = sql.chars().take(position.saturating_sub(1));
    before.filter(|letter| *letter == '\n').count() + 1
}

/// The line (from 1) on which the statement after `finished` others begins: what is known when Postgres reports no
/// position. The last statement's line when there are not so many.
pub(super) fn line_of(sql: &str, finished: usize) -> usize {
    let starts = starts(sql);
    let start = starts.get(finished).or(starts.last()).copied();
    sql[..start.unwrap_or(0)].matches('\n').count() + 1
}

/// Byte offsets at which statements begin; blanks, comments and empty statements do not count.
fn starts(sql: &str) -> Vec<usize> {
    let mut starts = Vec::new();
    let mut inside = false;
    let mut at = 0;
    while let Some(rest) = sql.get(at..).filter(|rest| !rest.is_empty()) {
        if let Some(length) = comment(rest) {
            at += length;
            continue;
        }
        let length = quoted(rest).unwrap_or_else(|| rest.chars().next().map_or(1, char::len_utf8));
        if rest.starts_with(';') {
            inside = false;
        } else if !inside && !rest.starts_with(char::is_whitespace) {
            starts.push(at);
            inside = true;
        }
        at += length;
    }
    starts
}

/// The length of the comment that `rest` begins with. Block comments nest.
fn comment(rest: &str) -> Option<usize> {
    if rest.starts_with("--") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if !rest.starts_with("/*") {
        return None;
    }
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        let here = rest.as_bytes().get(at..at + 2);
        match here {
            Some(b"/*") => depth += 1,
            Some(b"*/") => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return Some(at);
        }
    }
    Some(rest.len())
}

/// The length of the quoted thing that `rest` begins with: `'…'`, `"…"` or `$tag$…$tag$`. A doubled quote ends one and
/// begins the next, which comes to the same.
fn quoted(rest: &str) -> Option<usize> {
    let first = rest.chars().next()?;
    if matches!(first, '\'' | '"') {
        let end = rest[1..].find(first);
        return Some(end.map_or(rest.len(), |end| end + 2));
    }
    if first != '$' {
        return None;
    }
    let tag_end = rest[1..].find(|letter: char| !letter.is_alphanumeric() && letter != '_')? + 1;
    if !rest[tag_end..].starts_with('$') || rest[1..].starts_with(|letter: char| letter.is_ascii_digit()) {
        return None;
    }
    let tag = &rest[..=tag_end];
    let end = rest[tag.len()..].find(tag);
    Some(end.map_or(rest.len(), |end| end + 2 * tag.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "-- a; comment
CREATE TABLE a (t text DEFAULT ';');

/* another; /* nested; */ one */ CREATE FUNCTION f() RETURNS text LANGUAGE plpgsql AS $body$
BEGIN
    RETURN $$;$$ || 'it''s;';
END
$body$;
;
INSERT INTO \"odd;name\" VALUES ($1);
DROP TABLE a";

    #[test]
    fn statements_begin_where_a_reader_sees_them() {
        let lines: Vec<usize> = (0..5).map(|finished| line_of(SCRIPT, finished)).collect();
        assert_eq!(lines, [2, 4, 10, 11, 11]);
    }

    #[test]
    fn a_position_counts_characters() {
        assert_eq!(line_at("äö\nü", 1), 1);
        assert_eq!(line_at("äö\nü", 4), 2);
        assert_eq!(line_at("", 1), 1);
    }

    #[test]
    fn unfinished_scripts_do_not_confuse_it() {
        for script in ["", ";", "SELECT 'x", "/* x", "$x$", "SELECT $1", "--", "$"] {
            assert_eq!(line_of(script, 3), 1, "{script}");
        }
    }
}
