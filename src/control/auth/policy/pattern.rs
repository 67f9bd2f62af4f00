//! Texts with wildcards and variables: `arn:aws:lambda:*:*:function:${aws:username}-?`.
//!
//! `*` stands for any characters, `?` for one, `${key}` for the request's value of that key, `${key, 'default'}` for a
//! default where there is none, and `${*}`, `${?}`, `${$}` for these characters themselves. What comes from the request is
//! never a wildcard: a user whose name is `*` owns nothing more than that.
//!
//! A match steps through the text once and keeps the set of places in the pattern where it may be, so it takes at most
//! text × pattern steps, whatever the pattern: nothing is tried again.

use std::borrow::Cow;

use super::Context;

/// A text with wildcards and variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    form: Form,
    /// Whether upper and lower case are the same: then all of `form` is in lower case.
    fold: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    /// No wildcards and no variables, or as many as fit in front of `*`: most patterns are so.
    Exactly(String),
    Prefix(String),
    Glyphs(Vec<Glyph>),
    /// To be filled in with each request.
    Variable(Vec<Part>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Glyph {
    Is(char),
    /// `?`.
    One,
    /// `*`.
    Any,
    /// `?` in an ARN.
    OneButColon,
    /// `*` in an ARN that is not the end of its segment.
    AnyButColon,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Glyph(Glyph),
    Variable {
        key: String,
        default: Option<String>,
    },
}

/// How a pattern's characters are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Syntax {
    /// Every character is itself, but variables.
    Plain,
    /// With wildcards.
    Wild,
    /// With wildcards that keep to their segment, unless a `*` ends it: then it goes on beyond the colon (IAM User Guide,
    /// "IAM JSON policy elements: Resource").
    Resource,
}

/// How a pattern is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    pub(super) syntax: Syntax,
    /// Whether there are variables: there are none in policies of version 2008-10-17, where `${…}` is itself.
    pub(super) variables: bool,
    /// Whether upper and lower case are the same.
    pub(super) fold: bool,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    ///
    /// A `${` has no `}`, or what is between them is neither a key nor one of the three characters.
    pub(super) fn parse(text: &str, reading: Reading) -> Result<Self, String> {
        let Reading {
            syntax,
            variables,
            fold,
        } = reading;
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(character) = rest.chars().next() {
            if variables && let Some(inside) = rest.strip_prefix("${") {
                let (inside, after) = inside
                    .split_once('}')
                    .ok_or_else(|| format!("`{text}`: a `${{` has no `}}`"))?;
                parts.push(
                    variable(inside).ok_or_else(|| {
                        format!("`{text}`: `${{{inside}}}` is no policy variable")
                    })?,
                );
                rest = after;
                continue;
            }
            rest = &rest[character.len_utf8()..];
            let ends_segment = rest.is_empty() || rest.starts_with(':');
            parts.push(Part::Glyph(match (character, syntax) {
                ('*', Syntax::Wild) => Glyph::Any,
                ('?', Syntax::Wild) => Glyph::One,
                ('*', Syntax::Resource) if ends_segment => Glyph::Any,
                ('*', Syntax::Resource) => Glyph::AnyButColon,
                ('?', Syntax::Resource) => Glyph::OneButColon,
                _ if fold => {
                    parts.extend(character.to_lowercase().map(Glyph::Is).map(Part::Glyph));
                    continue;
                }
                _ => Glyph::Is(character),
            }));
        }
        let glyphs: Option<Vec<Glyph>> = parts
            .iter()
            .map(|part| match part {
                Part::Glyph(glyph) => Some(*glyph),
                Part::Variable { .. } => None,
            })
            .collect();
        let form = match glyphs {
            None => Form::Variable(parts),
            Some(glyphs) => Form::of(glyphs),
        };
        Ok(Self { form, fold })
    }

    /// Whether `text` is what the pattern stands for, with the variables that `context` has. `None` if it lacks one.
    pub(super) fn matches(&self, text: &str, context: &Context) -> Option<bool> {
        let text = folded(text, self.fold);
        Some(match &self.form {
            Form::Exactly(wanted) => *text == **wanted,
            Form::Prefix(wanted) => text.starts_with(wanted.as_str()),
            Form::Glyphs(glyphs) => matches(glyphs, &text),
            Form::Variable(parts) => matches(&fill(parts, context, self.fold)?, &text),
        })
    }
}

impl Form {
    fn of(glyphs: Vec<Glyph>) -> Self {
        let literal = |glyphs: &[Glyph]| -> Option<String> {
            glyphs
                .iter()
                .map(|glyph| match glyph {
                    Glyph::Is(character) => Some(*character),
                    Glyph::One | Glyph::Any | Glyph::OneButColon | Glyph::AnyButColon => None,
                })
                .collect()
        };
        if let Some(text) = literal(&glyphs) {
            return Self::Exactly(text);
        }
        match glyphs.split_last() {
            Some((Glyph::Any, before)) => match literal(before) {
                Some(text) => Self::Prefix(text),
                None => Self::Glyphs(glyphs),
            },
            _ => Self::Glyphs(glyphs),
        }
    }
}

/// What is between `${` and `}`.
fn variable(inside: &str) -> Option<Part> {
    if let "*" | "?" | "$" = inside {
        return inside
            .chars()
            .next()
            .map(|character| Part::Glyph(Glyph::Is(character)));
    }
    let (key, default) = match inside.split_once(',') {
        None => (inside, None),
        Some((key, default)) => {
            let quoted = default.trim().strip_prefix('\'')?.strip_suffix('\'')?;
            (key, Some(quoted.to_owned()))
        }
    };
    let key = key.trim();
    let fits = key.contains(':') && !key.contains(['*', '?', '$', '{', '\'']);
    fits.then(|| Part::Variable {
        key: key.to_ascii_lowercase(),
        default,
    })
}

fn fill(parts: &[Part], context: &Context, fold: bool) -> Option<Vec<Glyph>> {
    let mut glyphs = Vec::with_capacity(parts.len());
    for part in parts {
        match part {
            Part::Glyph(glyph) => glyphs.push(*glyph),
            Part::Variable { key, default } => {
                let value = context.single(key).or(default.as_deref())?;
                glyphs.extend(folded(value, fold).chars().map(Glyph::Is));
            }
        }
    }
    Some(glyphs)
}

/// Steps through the text with the set of places in the pattern, in order, that what was read so far leads to.
fn matches(glyphs: &[Glyph], text: &str) -> bool {
    let mut places = Vec::new();
    reach(&mut places, glyphs, 0);
    let mut next = Vec::new();
    for character in text.chars() {
        for &place in &places {
            let Some(glyph) = glyphs.get(place) else {
                continue;
            };
            match glyph {
                Glyph::Is(wanted) if *wanted == character => reach(&mut next, glyphs, place + 1),
                Glyph::One => reach(&mut next, glyphs, place + 1),
                Glyph::OneButColon if character != ':' => reach(&mut next, glyphs, place + 1),
                Glyph::Any => reach(&mut next, glyphs, place),
                Glyph::AnyButColon if character != ':' => reach(&mut next, glyphs, place),
                Glyph::Is(_) | Glyph::OneButColon | Glyph::AnyButColon => {}
            }
        }
        if next.is_empty() {
            return false;
        }
        std::mem::swap(&mut places, &mut next);
        next.clear();
    }
    places.last() == Some(&glyphs.len())
}

/// Adds a place, and those behind it that cost no character. Places come in order, so what is there already is the last.
fn reach(places: &mut Vec<usize>, glyphs: &[Glyph], mut place: usize) {
    while places.last().is_none_or(|last| *last < place) {
        places.push(place);
        match glyphs.get(place) {
            Some(Glyph::Any | Glyph::AnyButColon) => place += 1,
            Some(Glyph::Is(_) | Glyph::One | Glyph::OneButColon) | None => return,
        }
    }
}

/// A text in the case that it is compared in.
fn folded(text: &str, fold: bool) -> Cow<'_, str> {
    match fold {
        // Each character for itself, as those of a pattern are.
        true => text.chars().flat_map(char::to_lowercase).collect(),
        false => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(pattern: &str, syntax: Syntax) -> Result<Pattern, String> {
        let reading = Reading {
            syntax,
            variables: true,
            fold: false,
        };
        Pattern::parse(pattern, reading)
    }

    fn check(syntax: Syntax, pattern: &str, text: &str) -> Option<bool> {
        let context = Context::default()
            .with("aws:username", "ann")
            .with("aws:userid", "*")
            .with("aws:TagKeys", "one")
            .with("aws:TagKeys", "two");
        read(pattern, syntax).unwrap().matches(text, &context)
    }

    #[test]
    fn what_patterns_match() {
        use Syntax::{Plain, Resource, Wild};
        for (syntax, pattern, text, expected) in [
            (Wild, "", "", Some(true)),
            (Wild, "", "a", Some(false)),
            (Wild, "*", "", Some(true)),
            (Wild, "a*c", "abbc", Some(true)),
            (Wild, "a*c", "abbd", Some(false)),
            (Wild, "a*b*c", "aXbXbXc", Some(true)),
            (Wild, "a?c", "aéc", Some(true)),
            (Wild, "a?c", "ac", Some(false)),
            (Wild, "?*?", "a", Some(false)),
            (Wild, "**", "anything", Some(true)),
            (Plain, "a*", "a*", Some(true)),
            (Plain, "a*", "ab", Some(false)),
            // A star that ends a segment goes on beyond it, any other keeps to its own.
            (
                Resource,
                "arn:aws:lambda:*",
                "arn:aws:lambda:r:1:function:f",
                Some(true),
            ),
            (
                Resource,
                "arn:*:function:f",
                "arn:aws:lambda:r:1:function:f",
                Some(true),
            ),
            (
                Resource,
                "arn:a*a:function:f",
                "arn:a:b:a:function:f",
                Some(false),
            ),
            (Resource, "function:a*b", "function:a-b", Some(true)),
            (Resource, "function:a*b", "function:a:b", Some(false)),
            (Resource, "function?f", "function:f", Some(false)),
            // Variables, and what looks like them.
            (Wild, "${aws:username}-*", "ann-1", Some(true)),
            (Wild, "${AWS:UserName}", "ann", Some(true)),
            (Wild, "${aws:nobody}", "ann", None),
            (Wild, "${aws:nobody, 'ann'}", "ann", Some(true)),
            (Wild, "${aws:username, 'bob'}", "bob", Some(false)),
            // Of several values none is the one.
            (Wild, "${aws:TagKeys}", "one", None),
            // A value is never a wildcard.
            (Wild, "${aws:userid}", "*", Some(true)),
            (Wild, "${aws:userid}", "ann", Some(false)),
            (Wild, "${*}${?}${$}", "*?$", Some(true)),
            (Wild, "${*}", "a", Some(false)),
            (Wild, "$a{b}", "$a{b}", Some(true)),
        ] {
            assert_eq!(check(syntax, pattern, text), expected, "{pattern} {text}");
        }
        for broken in [
            "${aws:username",
            "${}",
            "${user}",
            "${aws:a, b}",
            "${aws:*}",
        ] {
            assert!(read(broken, Syntax::Wild).is_err(), "{broken}");
        }
        let old = Reading {
            syntax: Syntax::Wild,
            variables: false,
            fold: true,
        };
        let literal = Pattern::parse("${AWS:username}", old).unwrap();
        let found = literal.matches("${aws:USERNAME}", &Context::default());
        assert_eq!(found, Some(true));
    }

    /// What made a backtracking matcher take longer than the world lasts.
    #[test]
    fn no_pattern_takes_long() {
        let text = "a".repeat(10_000);
        for pattern in [
            format!("{}b", "*a".repeat(1000)),
            format!("{}b", "*?".repeat(1000)),
            format!("{}b", "*".repeat(2000)),
            format!("*{}b*", "a?".repeat(1000)),
        ] {
            let pattern = read(&pattern, Syntax::Wild).unwrap();
            let began = std::time::Instant::now();
            assert_eq!(pattern.matches(&text, &Context::default()), Some(false));
            assert!(began.elapsed() < std::time::Duration::from_secs(10));
        }
    }

    /// The obvious way: a star is nothing, or a character and the star again.
    fn slow(pattern: &[char], text: &[char], resource: bool) -> bool {
        let Some((first, rest)) = pattern.split_first() else {
            return text.is_empty();
        };
        let beyond = !resource || rest.first().is_none_or(|next| *next == ':');
        match first {
            '*' => {
                slow(rest, text, resource)
                    || text.split_first().is_some_and(|(eaten, left)| {
                        (*eaten != ':' || beyond) && slow(pattern, left, resource)
                    })
            }
            '?' => text.split_first().is_some_and(|(eaten, left)| {
                (*eaten != ':' || !resource) && slow(rest, left, resource)
            }),
            wanted => text
                .split_first()
                .is_some_and(|(found, left)| found == wanted && slow(rest, left, resource)),
        }
    }

    proptest! {
        #[test]
        fn a_match_is_what_the_obvious_way_finds(
            pattern in "[ab:*?é]{0,9}", text in "[ab:é]{0,12}", resource: bool
        ) {
            let syntax = if resource { Syntax::Resource } else { Syntax::Wild };
            let (of, letters): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
            let parsed = read(&pattern, syntax).unwrap();
            let found = parsed.matches(&text, &Context::default());
            prop_assert_eq!(found, Some(slow(&of, &letters, resource)));
        }
    }
}
