//! A TOML text that remembers where each key stands, and the problems found in it.

use std::{
    fmt,
    ops::Range,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;
use toml::{
    Spanned,
    de::{DeArray, DeTable, DeValue},
};

use super::super::text::nearest;

/// More problems than this help nobody.
const MAX_PROBLEMS: usize = 20;

/// A line longer than this is not shown.
const MAX_LINE: usize = 200;

/// What is wrong with a manifest: at least one problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestError {
    /// The file, as it was named.
    pub path: PathBuf,
    /// The problems, in the order of the file.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// The key, such as `functions.hello.memory`; empty where there is none.
    pub key: String,
    /// What is wrong, and what to do.
    pub message: String,
    /// The line's text.
    text: String,
    /// How many characters of it are meant.
    width: usize,
}

impl std::error::Error for ManifestError {}

impl fmt::Display for ManifestError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                write!(formatter, "\n\n")?;
            }
            write!(formatter, "{}:{problem}", self.path.display())?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, column, .. } = self;
        write!(formatter, "{line}:{column}: ")?;
        if !self.key.is_empty() {
            write!(formatter, "{}: ", self.key)?;
        }
        formatter.write_str(&self.message)?;
        if self.text.len() > MAX_LINE {
            return Ok(());
        }
        let number = line.to_string();
        let gutter = " ".repeat(number.len());
        // Tabs stay tabs, so that the mark stands below what it marks.
        let indent: String = self
            .text
            .chars()
            .take(column - 1)
            .map(|letter| if letter == '\t' { '\t' } else { ' ' })
            .collect();
        let mark = "^".repeat(self.width.max(1));
        write!(
            formatter,
            "\n{gutter} |\n{number} | {}\n{gutter} | {indent}{mark}",
            self.text
        )
    }
}

/// A TOML text, read.
pub(super) struct Document<'a> {
    text: &'a str,
    path: &'a Path,
    root: Spanned<DeTable<'a>>,
}

impl<'a> Document<'a> {
    pub(super) fn parse(text: &'a str, path: &'a Path) -> Result<Self, ManifestError> {
        let (root, errors) = DeTable::parse_recoverable(text);
        let document = Self { text, path, root };
        let problems = errors
            .iter()
            .map(|error| document.problem_at(&error.span().unwrap_or(0..0), error.message().into()))
            .collect();
        document.finish((), problems)?;
        Ok(document)
    }

    /// The value, unless there are problems.
    pub(super) fn finish<T>(
        &self,
        value: T,
        mut problems: Vec<Problem>,
    ) -> Result<T, ManifestError> {
        if problems.is_empty() {
            return Ok(value);
        }
        problems.sort_by_key(|problem| (problem.line, problem.column));
        problems.dedup();
        problems.truncate(MAX_PROBLEMS);
        Err(ManifestError {
            path: self.path.to_owned(),
            problems,
        })
    }

    /// The document as a `T`. As serde stops at the first error, what is wrong is taken out and the rest is read again.
    pub(super) fn read<T: DeserializeOwned>(&mut self) -> Result<T, ManifestError> {
        let mut remaining = self.root.clone();
        let mut problems = Vec::new();
        let mut removed: Vec<Vec<String>> = Vec::new();
        loop {
            let error = match T::deserialize(toml::Deserializer::from(remaining.clone())) {
                Ok(table) => return self.finish(table, problems),
                Err(error) => error,
            };
            let span = error.span().unwrap_or(0..0);
            let key = if span == self.root.span() {
                Vec::new()
            } else {
                key_at(self.root.get_ref(), span.start)
            };
            // What was taken out is then missing, which is no second problem.
            let missing = missing_key(error.message());
            let follows = missing.is_some_and(|missing| {
                removed.iter().any(|removed| {
                    removed
                        .split_last()
                        .is_some_and(|(last, parent)| last == missing && *parent == *key)
                })
            });
            if !follows {
                problems.push(self.problem(&span, &key, in_our_words(error.message())));
            }
            if key.is_empty()
                || problems.len() == MAX_PROBLEMS
                || !remove_at(remaining.get_mut(), span.start)
            {
                return Err(self
                    .finish((), problems)
                    .expect_err("the first error made a problem"));
            }
            removed.push(key);
        }
    }

    /// A problem with the value of a key; if it has none, with the nearest that is there.
    pub(super) fn problem_with(&self, key: &[impl AsRef<str>], message: String) -> Problem {
        let span = span_of(self.root.get_ref(), key).unwrap_or(0..0);
        let key: Vec<String> = key.iter().map(|part| part.as_ref().to_owned()).collect();
        self.problem(&span, &key, message)
    }

    fn problem_at(&self, span: &Range<usize>, message: String) -> Problem {
        let key = key_at(self.root.get_ref(), span.start);
        self.problem(span, &key, message)
    }

    fn problem(&self, span: &Range<usize>, key: &[String], message: String) -> Problem {
        let start = self.text.floor_char_boundary(span.start);
        let end = self.text.floor_char_boundary(span.end).max(start);
        let before = &self.text[..start];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = self.text[line_start..].lines().next().unwrap_or_default();
        let line_end = line_start + line.len();
        let marked = self.text.get(start..end.min(line_end)).unwrap_or_default();
        Problem {
            line: before.matches('\n').count() + 1,
            column: self.text[line_start..start].chars().count() + 1,
            key: written(self.root.get_ref(), key),
            message,
            text: line.to_owned(),
            width: marked.chars().count(),
        }
    }
}

/// `routes`, `2`, `path` is written `routes[2].path`.
fn written(table: &DeTable<'_>, key: &[String]) -> String {
    let mut written = String::new();
    let mut value = None;
    for part in key {
        match value.map(Spanned::get_ref) {
            None => written.push_str(part),
            Some(DeValue::Array(_)) => written.push_str(&format!("[{part}]")),
            Some(_) => written.push_str(&format!(".{part}")),
        }
        value = match value {
            None => table.get(part.as_str()),
            Some(value) => child(value, part),
        }
        .or(value);
    }
    written
}

/// What a table has under a key, or an array at an index.
fn child<'a, 'i>(value: &'a Spanned<DeValue<'i>>, part: &str) -> Option<&'a Spanned<DeValue<'i>>> {
    match value.get_ref() {
        // The name of a header field comes back in lower case.
        DeValue::Table(table) => table.get(part).or_else(|| {
            let mut pairs = table.iter();
            let alike = pairs.find(|(key, _)| key.get_ref().eq_ignore_ascii_case(part));
            alike.map(|(_, value)| value)
        }),
        DeValue::Array(array) => array.get(part.parse::<usize>().ok()?),
        _ => None,
    }
}

/// The key whose name or value stands at a place in the text; of a table inside a table, the innermost.
fn key_at(table: &DeTable<'_>, at: usize) -> Vec<String> {
    for (key, value) in table {
        if let Some(mut inner) = inside(value, at) {
            inner.insert(0, key.get_ref().to_string());
            return inner;
        }
        if key.span().contains(&at) {
            return vec![key.get_ref().to_string()];
        }
    }
    Vec::new()
}

/// Where in a value a place is; none if it is not there. The span of a `[table]` is its head alone, so that what is in
/// it has to be asked first.
fn inside(value: &Spanned<DeValue<'_>>, at: usize) -> Option<Vec<String>> {
    match value.get_ref() {
        DeValue::Table(table) => {
            let key = key_at(table, at);
            if !key.is_empty() {
                return Some(key);
            }
        }
        DeValue::Array(array) => {
            for (index, element) in array.iter().enumerate() {
                if let Some(mut inner) = inside(element, at) {
                    inner.insert(0, index.to_string());
                    return Some(inner);
                }
            }
        }
        _ => {}
    }
    value.span().contains(&at).then(Vec::new)
}

/// Takes out what [`key_at`] finds. False if there is nothing.
fn remove_at(table: &mut DeTable<'_>, at: usize) -> bool {
    let mut found = None;
    for (key, value) in table.iter_mut() {
        match remove_inside(value, at) {
            Removal::Done => return true,
            Removal::This => {}
            Removal::Elsewhere if key.span().contains(&at) => {}
            Removal::Elsewhere => continue,
        }
        found = Some(key.clone());
        break;
    }
    found.is_some_and(|key| table.remove(&key).is_some())
}

enum Removal {
    /// It was inside the value, and is gone.
    Done,
    /// It is the value itself, which its owner has to take out.
    This,
    Elsewhere,
}

fn remove_inside(value: &mut Spanned<DeValue<'_>>, at: usize) -> Removal {
    let span = value.span();
    if let DeValue::Table(table) = value.get_mut()
        && remove_at(table, at)
    {
        return Removal::Done;
    }
    if let DeValue::Array(array) = value.get_mut() {
        let mut found = None;
        for (index, element) in array.iter_mut().enumerate() {
            match remove_inside(element, at) {
                Removal::Done => return Removal::Done,
                Removal::This => found = Some(index),
                Removal::Elsewhere => {}
            }
        }
        if let Some(index) = found {
            let elements = std::mem::replace(array, DeArray::new()).into_iter();
            *array = elements
                .enumerate()
                .filter(|(at, _)| *at != index)
                .map(|(_, element)| element)
                .collect();
            return Removal::Done;
        }
    }
    if span.contains(&at) {
        Removal::This
    } else {
        Removal::Elsewhere
    }
}

/// Where the value of a key stands, or of the longest part of it that is there.
fn span_of(table: &DeTable<'_>, key: &[impl AsRef<str>]) -> Option<Range<usize>> {
    let (first, following) = key.split_first()?;
    let mut value = table.get(first.as_ref())?;
    for part in following {
        match child(value, part.as_ref()) {
            Some(child) => value = child,
            None => break,
        }
    }
    Some(value.span())
}

fn missing_key(message: &str) -> Option<&str> {
    message.strip_prefix("missing field `")?.strip_suffix('`')
}

/// What serde and toml say, in the words of the manifest; what is not known stays as it is.
fn in_our_words(message: &str) -> String {
    if let Some(key) = missing_key(message) {
        return format!("the key `{key}` is missing");
    }
    if let Some(rest) = message.strip_prefix("unknown field `")
        && let Some((key, expected)) = rest.split_once('`')
    {
        let known: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
        return match nearest(key, &known) {
            Some(near) => format!("unknown key; did you mean `{near}`?"),
            None => format!("unknown key; the keys here are {}", known.join(", ")),
        };
    }
    let message = ["invalid type: ", "invalid value: ", "unknown variant "]
        .iter()
        .find_map(|prefix| message.strip_prefix(prefix))
        .unwrap_or(message);
    let Some((found, expected)) = message.split_once(", expected ") else {
        return message.to_owned();
    };
    let expected = match expected {
        "a sequence" => "a list in brackets",
        "a map" => "a table",
        "path string" => "a path",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" => "a whole number from 0 up",
        expected => expected,
    };
    format!("{found} is not {expected}")
}
