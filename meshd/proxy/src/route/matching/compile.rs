//! Compiling a `Match`: everything that can be wrong with it is found here, not at request time.

use regex::bytes::{Regex, RegexBuilder};

use super::header::HeaderTest;
use super::query::QueryTest;
use super::{Matcher, PathTest};
use crate::config::Match;
use crate::http1::path::{Normal, normalize};
use crate::tables::Rejection;

/// Bytes of a compiled regular expression: an operator's typo must not eat the host's memory.
const REGEX_SIZE: usize = 1 << 20;

impl Matcher {
    /// Compiles; an error's path is relative to the match.
    pub fn compile(config: &Match) -> Result<Matcher, Rejection> {
        let fold = config.case_insensitive;
        let path = match (&config.path_exact, &config.path_prefix, &config.path_regex) {
            (None, None, None) => PathTest::Any,
            (Some(exact), None, None) => PathTest::Exact(exact_path(exact)?),
            (None, Some(prefix), None) => PathTest::Prefix(prefix_path(prefix)?),
            (None, None, Some(text)) => PathTest::Regex(regex(text, fold, "path_regex")?),
            _ => return Err(Rejection::new("", "", "more than one of path_exact, path_prefix, path_regex")),
        };
        let headers = config.headers.iter().enumerate().map(|(i, h)| HeaderTest::compile(h, &format!("headers[{i}]")));
        let query = config.query.iter().enumerate().map(|(i, q)| QueryTest::compile(q, &format!("query[{i}]")));
        Ok(Matcher {
            path,
            case_insensitive: fold,
            methods: config.methods.iter().map(|m| m.as_bytes().into()).collect(),
            headers: headers.collect::<Result<_, _>>()?,
            query: query.collect::<Result<_, _>>()?,
        })
    }
}

/// Requests are compared in normal form, so the rule's path is brought to it too: else a deny rule for `/a//b` would
/// never match anything.
fn exact_path(path: &str) -> Result<Box<[u8]>, Rejection> {
    normal(path, "path_exact")
}

/// As `exact_path`; a last segment `.` or `..` is the beginning of a name.
fn prefix_path(path: &str) -> Result<Box<[u8]>, Rejection> {
    let (parents, last) =
        path.rsplit_once('/').ok_or_else(|| Rejection::new("", "path_prefix", "a path begins with /"))?;
    if !matches!(last, "." | "..") {
        return normal(path, "path_prefix");
    }
    let mut prefix = normal(&format!("{parents}/"), "path_prefix")?.into_vec();
    prefix.extend_from_slice(last.as_bytes());
    Ok(prefix.into())
}

fn normal(path: &str, field: &str) -> Result<Box<[u8]>, Rejection> {
    let mut out = Vec::new();
    match normalize(path.as_bytes(), &mut out) {
        Ok(Normal::Same) => Ok(path.as_bytes().into()),
        Ok(Normal::Changed) => Ok(out.into()),
        Err(_) => Err(Rejection::new("", field, format!("{path:?} has no normal form: no request can have it"))),
    }
}

/// RE2-like: linear in the input whatever the pattern. The whole text must match.
pub(super) fn regex(text: &str, fold: bool, field: &str) -> Result<Regex, Rejection> {
    let build = |pattern: &str| {
        RegexBuilder::new(pattern)
            .case_insensitive(fold)
            .size_limit(REGEX_SIZE)
            .dfa_size_limit(REGEX_SIZE)
            .build()
            .map_err(|e| Rejection::new("", field, format!("bad regular expression: {e}")))
    };
    // Alone first: `a)|(b` would be valid inside the group.
    build(text)?;
    build(&format!(r"\A(?:{text})\z"))
}
