//! Matching of requests: one engine for routes, faults and intentions.

use crate::config::Match;
use crate::tables::Rejection;

/// A request as the deciders see it.
#[derive(Debug, Clone, Copy)]
pub struct RequestView<'a> {
    pub method: &'a [u8],
    /// Normal form, without the query.
    pub path: &'a [u8],
    /// Without the `?`.
    pub query: &'a [u8],
    /// The canonical host (lower case, no trailing dot, with the port if there was one).
    pub host: &'a [u8],
    pub headers: HeaderLines<'a>,
}

/// Where header lines are read from, only when a matcher needs them.
#[derive(Debug, Clone, Copy)]
pub enum HeaderLines<'a> {
    /// The header lines of a head that `http1` accepted (from the first field name to the empty line, or more).
    Head(&'a [u8]),
    Pairs(&'a [(String, String)]),
}

/// The request's bytes do not allow a sure answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MatchError;

/// A compiled `Match`.
#[derive(Debug)]
pub struct Matcher {}

impl Matcher {
    /// Compiles; an error's path is relative to the match.
    pub fn compile(config: &Match) -> Result<Matcher, Rejection> {
        let _ = config;
        Ok(Matcher {})
    }

    /// For routes and faults: several lines of one header are joined with `,`.
    pub fn matches(&self, view: &RequestView<'_>) -> Result<bool, MatchError> {
        let _ = view;
        Err(MatchError)
    }
}
