//! Matching of requests: one engine for routes, faults and intentions.

mod compile;
mod header;
mod query;

use header::HeaderTest;
use query::QueryTest;
use regex::bytes::Regex;

use crate::http1::fields;

/// A request as the deciders see it.
#[derive(Debug, Clone, Copy)]
pub struct RequestView<'a> {
    pub method: &'a [u8],
    /// Normal form, without the query.
    pub path: &'a [u8],
    /// Without the `?`.
    pub query: &'a [u8],
    /// As sent, and checked (`http1::host`): conditions on it see its canonical form.
    pub host: &'a [u8],
    pub headers: HeaderLines<'a>,
}

/// Where header lines are read from, only when a matcher needs them.
#[derive(Debug, Clone, Copy)]
pub enum HeaderLines<'a> {
    /// The header lines of a head that `http1` accepted (what `RequestHead::headers` spans).
    Head(&'a [u8]),
    Pairs(&'a [(String, String)]),
}

impl<'a> HeaderLines<'a> {
    /// Calls `each` with name and value of every line.
    pub fn for_each(self, mut each: impl FnMut(&'a [u8], &'a [u8])) {
        match self {
            HeaderLines::Head(bytes) => fields::lines(bytes).for_each(|l| each(l.name, l.value)),
            HeaderLines::Pairs(pairs) => pairs.iter().for_each(|(n, v)| each(n.as_bytes(), v.trim().as_bytes())),
        }
    }

    pub fn contains(self, name: &[u8]) -> bool {
        let mut found = false;
        self.for_each(|n, _| found |= n.eq_ignore_ascii_case(name));
        found
    }
}

/// The request's bytes do not allow a sure answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MatchError;

/// How what is ambiguous is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Lines of one header are joined with `,`; the first of several query parameters counts.
    Route,
    /// As above, and whatever two receivers could read differently is an error.
    Policy,
}

#[derive(Debug)]
enum PathTest {
    Any,
    Exact(Box<[u8]>),
    Prefix(Box<[u8]>),
    Regex(Regex),
}

/// A compiled `Match`.
#[derive(Debug)]
pub struct Matcher {
    path: PathTest,
    case_insensitive: bool,
    methods: Vec<Box<[u8]>>,
    headers: Vec<HeaderTest>,
    query: Vec<QueryTest>,
}

impl Matcher {
    /// For routes and faults. An error means "no match" to them.
    pub fn matches(&self, view: &RequestView<'_>) -> Result<bool, MatchError> {
        self.decide(view, Mode::Route)
    }

    /// For intentions: an error must be taken as a match by a rule that denies, as none by a rule that allows.
    pub fn matches_strictly(&self, view: &RequestView<'_>) -> Result<bool, MatchError> {
        self.decide(view, Mode::Policy)
    }

    /// Whether the path alone matches, and how many bytes of it a prefix rewrite replaces.
    pub fn rewritten_bytes(&self, path: &[u8]) -> Option<usize> {
        match &self.path {
            PathTest::Any => Some(1),
            PathTest::Exact(_) => Some(path.len()),
            PathTest::Prefix(prefix) => Some(prefix.len().min(path.len())),
            PathTest::Regex(_) => None,
        }
    }

    /// What is surely false decides, before what is not sure.
    fn decide(&self, view: &RequestView<'_>, mode: Mode) -> Result<bool, MatchError> {
        if !self.path_matches(view.path) {
            return Ok(false);
        }
        let mut sure = true;
        let tests = [self.method_matches(view.method, mode)]
            .into_iter()
            .chain(self.headers.iter().map(|h| h.matches(view, mode)))
            .chain(self.query.iter().map(|q| q.matches(view.query, mode)));
        for result in tests {
            match result {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(MatchError) => sure = false,
            }
        }
        if sure { Ok(true) } else { Err(MatchError) }
    }

    fn path_matches(&self, path: &[u8]) -> bool {
        let same = |a: &[u8], b: &[u8]| if self.case_insensitive { a.eq_ignore_ascii_case(b) } else { a == b };
        match &self.path {
            PathTest::Any => true,
            PathTest::Exact(exact) => same(path, exact),
            PathTest::Prefix(prefix) => path.get(..prefix.len()).is_some_and(|start| same(start, prefix)),
            PathTest::Regex(regex) => regex.is_match(path),
        }
    }

    fn method_matches(&self, method: &[u8], mode: Mode) -> Result<bool, MatchError> {
        if self.methods.is_empty() || self.methods.iter().any(|m| **m == *method) {
            return Ok(true);
        }
        // `get` is another method than GET, but not to every backend.
        let similar = self.methods.iter().any(|m| m.eq_ignore_ascii_case(method));
        if similar && mode == Mode::Policy { Err(MatchError) } else { Ok(false) }
    }
}
