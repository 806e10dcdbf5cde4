//! Header conditions.

use regex::bytes::Regex;

use super::compile::regex;
use super::{MatchError, Mode, RequestView};
use crate::config::HeaderMatch;
use crate::http1::host;
use crate::tables::Rejection;

#[derive(Debug)]
enum Test {
    Present,
    Exact(Box<[u8]>),
    Prefix(Box<[u8]>),
    Suffix(Box<[u8]>),
    Contains(Box<[u8]>),
    Regex(Regex),
}

#[derive(Debug)]
pub(super) struct HeaderTest {
    /// Lower case.
    name: Box<[u8]>,
    test: Test,
    invert: bool,
}

impl HeaderTest {
    pub(super) fn compile(config: &HeaderMatch, path: &str) -> Result<HeaderTest, Rejection> {
        let bytes = |text: &String| text.as_bytes().into();
        let regex_test = match &config.regex {
            Some(text) => Some(Test::Regex(regex(text, false, &format!("{path}.regex"))?)),
            None => None,
        };
        let mut tests = [
            config.present.then_some(Test::Present),
            config.exact.as_ref().map(|t| Test::Exact(bytes(t))),
            config.prefix.as_ref().map(|t| Test::Prefix(bytes(t))),
            config.suffix.as_ref().map(|t| Test::Suffix(bytes(t))),
            config.contains.as_ref().map(|t| Test::Contains(bytes(t))),
            regex_test,
        ]
        .into_iter()
        .flatten();
        let (Some(test), None) = (tests.next(), tests.next()) else {
            let reason = "exactly one of present, exact, prefix, suffix, contains, regex is needed";
            return Err(Rejection::new("", path, reason));
        };
        if config.name.is_empty() {
            return Err(Rejection::new("", format!("{path}.name"), "empty"));
        }
        Ok(HeaderTest { name: config.name.to_ascii_lowercase().into_bytes().into(), test, invert: config.invert })
    }

    pub(super) fn matches(&self, view: &RequestView<'_>, mode: Mode) -> Result<bool, MatchError> {
        Ok(self.holds(view, mode)? != self.invert)
    }

    fn holds(&self, view: &RequestView<'_>, mode: Mode) -> Result<bool, MatchError> {
        if *self.name == *b"host" {
            // one host, however it is spelled: case, a dot at the end, the default port
            let mut canonical = Vec::new();
            host::canonical(view.host, &mut canonical);
            return self.value_holds(&canonical);
        }
        let (mut first, mut count, mut alias) = (None, 0, false);
        view.headers.for_each(|name, value| {
            if name.eq_ignore_ascii_case(&self.name) {
                count += 1;
                first = first.or(Some(value));
            } else if mode == Mode::Policy && loose_alias(name, &self.name) {
                alias = true;
            }
        });
        if alias {
            // `x_user` is `x-user` to some backends.
            return Err(MatchError);
        }
        match first {
            None => Ok(false),
            Some(value) if count == 1 => self.value_holds(value),
            Some(_) => self.lines_hold(view, mode),
        }
    }

    /// Several lines. For policy every reading (joined, or any single line) must agree.
    fn lines_hold(&self, view: &RequestView<'_>, mode: Mode) -> Result<bool, MatchError> {
        let (mut joined, mut single) = (Vec::new(), Vec::new());
        view.headers.for_each(|name, value| {
            if !name.eq_ignore_ascii_case(&self.name) {
                return;
            }
            if !single.is_empty() {
                joined.push(b',');
            }
            joined.extend_from_slice(value);
            single.push(self.value_holds(value));
        });
        let whole = self.value_holds(&joined)?;
        if mode == Mode::Policy && single.into_iter().any(|one| one != Ok(whole)) {
            return Err(MatchError);
        }
        Ok(whole)
    }

    fn value_holds(&self, value: &[u8]) -> Result<bool, MatchError> {
        Ok(match &self.test {
            Test::Present => true,
            Test::Exact(text) => *value == **text,
            Test::Prefix(text) => value.starts_with(text),
            Test::Suffix(text) => value.ends_with(text),
            Test::Contains(text) => memchr::memmem::find(value, text).is_some(),
            // `.` does not match half a character: an answer would be "no match" for bytes that the app may accept.
            Test::Regex(_) if !value.is_ascii() => return Err(MatchError),
            Test::Regex(regex) => regex.is_match(value),
        })
    }
}

/// The same name but for case and `_`.
fn loose_alias(name: &[u8], lower: &[u8]) -> bool {
    let dashed = |b: &u8| if *b == b'_' { b'-' } else { b.to_ascii_lowercase() };
    name.len() == lower.len() && name.iter().map(dashed).eq(lower.iter().map(dashed))
}
