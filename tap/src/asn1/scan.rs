//! Reads the outline of a module from its text: what is defined and imported, and on which line.

use crate::error::SchemaError;

/// A word or sign of a module with its line.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Token<'a> {
    text: &'a str,
    line: usize,
}

/// What a module's text defines and imports.
#[derive(Debug)]
pub(super) struct Outline<'a> {
    pub(super) file: &'a str,
    pub(super) module: String,
    pub(super) imports: Vec<Imported>,
    pub(super) definitions: Vec<Defined<'a>>,
}

/// A name that a module imports.
#[derive(Debug)]
pub(super) struct Imported {
    pub(super) name: String,
    pub(super) from: String,
    pub(super) line: usize,
}

/// A type definition with its words.
#[derive(Debug)]
pub(super) struct Defined<'a> {
    pub(super) name: String,
    pub(super) line: usize,
    tokens: Vec<Token<'a>>,
}

impl Defined<'_> {
    /// Line of the first mention of `name` in the definition, or that of the definition itself.
    pub(super) fn line_of(&self, name: &str) -> usize {
        self.tokens.iter().find(|token| token.text == name).map_or(self.line, |token| token.line)
    }
}

impl Outline<'_> {
    /// The definition of `name`.
    pub(super) fn definition(&self, name: &str) -> Option<&Defined<'_>> {
        self.definitions.iter().find(|defined| defined.name == name)
    }

    /// The line of `word` in the definition of `name`.
    pub(super) fn line(&self, name: &str, word: &str) -> usize {
        self.definition(name).map_or(0, |defined| defined.line_of(word))
    }
}

/// The outline of the one module in `text`.
pub(super) fn outline<'a>(file: &'a str, text: &'a str) -> Result<Outline<'a>, SchemaError> {
    let tokens = tokens(text);
    let at = |index: usize| tokens.get(index).map_or("", |token| token.text);
    let line = |index: usize| tokens.get(index).or(tokens.last()).map_or(1, |token| token.line);
    let begin = tokens.iter().position(|token| token.text == "BEGIN").unwrap_or(0);
    if begin < 3 || at(1) != "DEFINITIONS" || at(begin - 1) != "::=" {
        return Err(SchemaError::new(
            file,
            line(0),
            "a module begins with its name, DEFINITIONS IMPLICIT TAGS ::= BEGIN",
        ));
    }
    if at(2) != "IMPLICIT" {
        return Err(SchemaError::new(file, line(2), "write IMPLICIT TAGS, as TAP and RAP are defined"));
    }
    if tokens.last().is_none_or(|token| token.text != "END") {
        return Err(SchemaError::new(file, line(tokens.len()), "the module does not end with END"));
    }
    let mut next = begin + 1;
    let imports = imports(file, &tokens, &mut next)?;
    let starts: Vec<usize> =
        (next..tokens.len().saturating_sub(1)).filter(|&index| at(index + 1) == "::=").collect();
    if starts.first() != Some(&next) {
        return Err(SchemaError::new(file, line(next), "a type definition is expected here"));
    }
    let ends = starts.iter().skip(1).copied().chain([tokens.len() - 1]);
    let definitions = starts.iter().zip(ends).map(|(&start, end)| Defined {
        name: at(start).to_owned(),
        line: line(start),
        tokens: tokens[start + 2..end].to_vec(),
    });
    Ok(Outline { file, module: at(0).to_owned(), imports, definitions: definitions.collect() })
}

/// Reads `IMPORTS a, b FROM M c FROM N ;`, and moves `next` behind it.
fn imports(file: &str, tokens: &[Token<'_>], next: &mut usize) -> Result<Vec<Imported>, SchemaError> {
    let mut found = Vec::new();
    if tokens[*next].text != "IMPORTS" {
        return Ok(found);
    }
    *next += 1;
    let mut names: Vec<&Token<'_>> = Vec::new();
    while let Some(token) = tokens.get(*next) {
        *next += 1;
        match token.text {
            ";" => return Ok(found),
            "," => {}
            "FROM" => {
                let from = tokens.get(*next).map_or("", |token| token.text);
                *next += 1;
                found.extend(names.drain(..).map(|token| Imported {
                    name: token.text.to_owned(),
                    from: from.to_owned(),
                    line: token.line,
                }));
            }
            _ => names.push(token),
        }
    }
    let line = tokens.last().map_or(1, |token| token.line);
    Err(SchemaError::new(file, line, "IMPORTS does not end with a semicolon"))
}

/// The words and signs of a module, without comments.
fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let mut rest = line;
        while !rest.is_empty() {
            if let Some(comment) = rest.strip_prefix("--") {
                // A comment ends with the line, or with the next two hyphens.
                rest = comment.find("--").map_or("", |end| &comment[end + 2..]);
                continue;
            }
            let length = token_length(rest);
            if !rest.as_bytes()[0].is_ascii_whitespace() {
                found.push(Token { text: &rest[..length], line: number + 1 });
            }
            rest = &rest[length..];
        }
    }
    found
}

/// Bytes of the token at the beginning of `text`.
fn token_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let is_word = |at: usize| {
        let hyphen = bytes[at] == b'-' && bytes.get(at + 1).is_some_and(u8::is_ascii_alphanumeric);
        bytes[at].is_ascii_alphanumeric() || hyphen && at > 0
    };
    let word = (0..bytes.len()).take_while(|&at| is_word(at)).count();
    if word > 0 {
        word
    } else if text.starts_with("::=") || text.starts_with("...") {
        3
    } else {
        text.chars().next().map_or(1, char::len_utf8)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const MODULE: &str = "-- A comment with A ::= B in it.\nM-1 DEFINITIONS IMPLICIT TAGS ::= BEGIN\n\
         IMPORTS\n  X, Y FROM N-2;\n\nA ::= SEQUENCE { -- one -- a X OPTIONAL,\n  b-c Y, ...\n}\nB ::= INTEGER\nEND\n";

    #[test]
    fn the_outline_of_a_module() {
        let outline = outline("m.asn1", MODULE).unwrap();
        assert_eq!(outline.module, "M-1");
        let imports: Vec<_> =
            outline.imports.iter().map(|i| (i.name.as_str(), i.from.as_str(), i.line)).collect();
        assert_eq!(imports, [("X", "N-2", 4), ("Y", "N-2", 4)]);
        let names: Vec<_> = outline.definitions.iter().map(|d| (d.name.as_str(), d.line)).collect();
        assert_eq!(names, [("A", 6), ("B", 9)]);
        assert_eq!(outline.definition("A").unwrap().line_of("b-c"), 7);
        assert_eq!(outline.definition("A").unwrap().line_of("nowhere"), 6);
    }

    #[test]
    fn what_is_no_module_is_refused_by_line() {
        for (text, line, part) in [
            ("", 1, "begins with"),
            ("M DEFINITIONS ::= BEGIN A ::= INTEGER END", 1, "IMPLICIT TAGS"),
            ("M DEFINITIONS IMPLICIT TAGS ::= BEGIN\nA ::= INTEGER\n", 2, "END"),
            ("M DEFINITIONS IMPLICIT TAGS ::= BEGIN\nIMPORTS A FROM N\nB ::= INTEGER\nEND", 4, "semicolon"),
            ("M DEFINITIONS IMPLICIT TAGS ::= BEGIN\n\n{ A ::= INTEGER\nEND", 3, "expected here"),
        ] {
            let error = outline("m.asn1", text).unwrap_err();
            assert!(error.why.contains(part) && error.line == line, "{error}");
        }
    }
}
