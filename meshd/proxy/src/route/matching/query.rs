//! Query parameter conditions, after percent-decoding.

use regex::bytes::Regex;

use super::compile::regex;
use super::{MatchError, Mode};
use crate::config::QueryMatch;
use crate::tables::Rejection;

#[derive(Debug)]
enum Test {
    Present,
    Exact(Box<[u8]>),
    Regex(Regex),
}

#[derive(Debug)]
pub(super) struct QueryTest {
    name: Box<[u8]>,
    test: Test,
}

impl QueryTest {
    pub(super) fn compile(config: &QueryMatch, path: &str) -> Result<QueryTest, Rejection> {
        let test = match (config.present, &config.exact, &config.regex) {
            (true, None, None) => Test::Present,
            (false, Some(text), None) => Test::Exact(text.as_bytes().into()),
            (false, None, Some(text)) => Test::Regex(regex(text, false, &format!("{path}.regex"))?),
            _ => return Err(Rejection::new("", path, "exactly one of present, exact, regex is needed")),
        };
        Ok(QueryTest { name: config.name.as_bytes().into(), test })
    }

    /// The first parameter of the name counts; for policy all of them must agree and all names must be readable.
    pub(super) fn matches(&self, query: &[u8], mode: Mode) -> Result<bool, MatchError> {
        let mut answer = None;
        for pair in query.split(|&b| b == b'&') {
            let at = memchr::memchr(b'=', pair).unwrap_or(pair.len());
            let (name, value) = (&pair[..at], pair.get(at + 1..).unwrap_or_default());
            match same(name, &self.name) {
                Ok(false) => continue,
                Ok(true) => {}
                Err(e) if mode == Mode::Policy => return Err(e),
                Err(_) => continue,
            }
            let holds = self.value_holds(value)?;
            if mode == Mode::Route {
                return Ok(holds);
            }
            if answer.replace(holds).is_some_and(|before| before != holds) {
                return Err(MatchError);
            }
        }
        Ok(answer.unwrap_or(false))
    }

    fn value_holds(&self, value: &[u8]) -> Result<bool, MatchError> {
        match &self.test {
            Test::Present => Ok(true),
            Test::Exact(text) => same(value, text),
            Test::Regex(regex) => {
                let decoded: Vec<u8> = decoded(value).collect::<Result<_, _>>()?;
                if decoded.is_ascii() { Ok(regex.is_match(&decoded)) } else { Err(MatchError) }
            }
        }
    }
}

/// Compares an encoded text with a plain one. A broken `%` is an error, wherever it is.
fn same(encoded: &[u8], plain: &[u8]) -> Result<bool, MatchError> {
    let (mut rest, mut equal) = (plain.iter(), true);
    for byte in decoded(encoded) {
        let byte = byte?;
        equal &= rest.next() == Some(&byte);
    }
    Ok(equal && rest.next().is_none())
}

fn decoded(text: &[u8]) -> impl Iterator<Item = Result<u8, MatchError>> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let byte = *text.get(at)?;
        at += 1;
        if byte != b'%' {
            return Some(Ok(byte));
        }
        let digit = |i: usize| text.get(i).and_then(|b| (*b as char).to_digit(16));
        let Some((high, low)) = digit(at).zip(digit(at + 1)) else {
            at = text.len();
            return Some(Err(MatchError));
        };
        at += 2;
        Some(Ok((high * 16 + low) as u8))
    })
}
