//! The paths of one host: a tree with a level for each segment.

use std::collections::HashMap;

use http::Method;

use super::{Conflict, Match, Miss};
use crate::model::{RoutePattern, Segment};

/// All patterns that begin alike.
///
/// A look-up visits a node at most once, so its cost is bounded by the patterns there are, whatever path a client
/// sends; and it goes no deeper than the longest pattern.
#[derive(Debug)]
pub(super) struct Tree<T> {
    literals: HashMap<Box<str>, Tree<T>>,
    parameter: Option<Box<Tree<T>>>,
    rest: Vec<Entry<T>>,
    end: Vec<Entry<T>>,
}

/// Routes of one path differ in their methods.
#[derive(Debug)]
struct Entry<T> {
    pattern: RoutePattern,
    target: T,
}

impl<T> Default for Tree<T> {
    fn default() -> Self {
        Self {
            literals: HashMap::new(),
            parameter: None,
            rest: Vec::new(),
            end: Vec::new(),
        }
    }
}

impl<T> Tree<T> {
    pub(super) fn insert(&mut self, pattern: &RoutePattern, target: T) -> Result<(), Conflict> {
        let entries = self.entries(pattern.path.segments());
        let rival = entries
            .iter()
            .find(|entry| entry.pattern.shares_methods(pattern));
        if let Some(entry) = rival {
            return Err(Conflict {
                first: entry.pattern.clone().into(),
                second: pattern.clone().into(),
            });
        }
        entries.push(Entry {
            pattern: pattern.clone(),
            target,
        });
        Ok(())
    }

    /// Where the routes of a pattern stand; the way there is made.
    fn entries(&mut self, segments: &[Segment]) -> &mut Vec<Entry<T>> {
        match segments.split_first() {
            None => &mut self.end,
            Some((Segment::Rest(_), _)) => &mut self.rest,
            Some((Segment::Parameter(_), following)) => {
                self.parameter.get_or_insert_default().entries(following)
            }
            Some((Segment::Literal(literal), following)) => self
                .literals
                .entry(literal.clone())
                .or_default()
                .entries(following),
        }
    }

    /// The route for a path, or none if no pattern has it.
    pub(super) fn find<'path>(
        &self,
        method: &Method,
        path: &'path str,
    ) -> Option<Result<Match<'_, 'path, T>, Miss>> {
        let entries = self.at(Some(path.strip_prefix('/')?))?;
        Some(match select(entries, method) {
            Some(entry) => Ok(Match {
                target: &entry.target,
                parameters: entry.pattern.path.parameters(path),
            }),
            None => Err(Miss::Method(allowed(entries))),
        })
    }

    /// The routes of the most specific pattern for what is left of a path: what follows a slash, or nothing.
    fn at(&self, path: Option<&str>) -> Option<&[Entry<T>]> {
        let Some(path) = path else {
            return (!self.end.is_empty()).then_some(&*self.end);
        };
        let (segment, following) = match path.split_once('/') {
            Some((segment, following)) => (segment, Some(following)),
            None => (path, None),
        };
        let literal = self.literals.get(segment);
        let parameter = self.parameter.as_deref().filter(|_| !segment.is_empty());
        literal
            .and_then(|tree| tree.at(following))
            .or_else(|| parameter.and_then(|tree| tree.at(following)))
            .or_else(|| (!self.rest.is_empty()).then_some(&*self.rest))
    }
}

/// The route that lists the method, or `GET` for `HEAD` (RFC 9110 section 9.3.2), or the one for all methods.
fn select<'a, T>(entries: &'a [Entry<T>], method: &Method) -> Option<&'a Entry<T>> {
    let listing = |method: &Method| {
        entries
            .iter()
            .find(|entry| entry.pattern.methods.contains(method))
    };
    listing(method)
        .or_else(|| (*method == Method::HEAD).then(|| listing(&Method::GET))?)
        .or_else(|| {
            entries
                .iter()
                .find(|entry| entry.pattern.methods.is_empty())
        })
}

fn allowed<T>(entries: &[Entry<T>]) -> Vec<Method> {
    let mut allowed = Vec::new();
    for method in entries.iter().flat_map(|entry| &entry.pattern.methods) {
        if !allowed.contains(method) {
            allowed.push(method.clone());
        }
        if *method == Method::GET && !allowed.contains(&Method::HEAD) {
            allowed.push(Method::HEAD);
        }
    }
    allowed
}
