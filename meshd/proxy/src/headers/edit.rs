//! Header edits of rules and legs, compiled.

use super::names;
use crate::config::HeaderEdit;
use crate::http1::framing::is_token;
use crate::tables::Rejection;

/// Compiled edits, applied in the order remove, set, add.
#[derive(Debug, Default)]
pub struct Edits {
    /// Lower-case names of lines that go: removed and set ones.
    drop: Vec<Box<[u8]>>,
    /// The lines that come, with CRLF.
    lines: Vec<u8>,
}

impl Edits {
    /// Checks names and values; an error's path is relative to the edit.
    pub fn compile(config: &HeaderEdit) -> Result<Edits, Rejection> {
        let mut edits = Edits::default();
        for (i, name) in config.remove.iter().enumerate() {
            check_name(name, &format!("remove[{i}]"))?;
            edits.drop.push(name.to_ascii_lowercase().into_bytes().into());
        }
        for (i, (name, value)) in config.set.iter().enumerate() {
            edits.line(name, value, &format!("set[{i}]"))?;
            edits.drop.push(name.to_ascii_lowercase().into_bytes().into());
        }
        for (i, (name, value)) in config.add.iter().enumerate() {
            edits.line(name, value, &format!("add[{i}]"))?;
        }
        Ok(edits)
    }

    fn line(&mut self, name: &str, value: &str, path: &str) -> Result<(), Rejection> {
        check_name(name, path)?;
        if !value.bytes().all(|b| b == b'\t' || (b >= b' ' && b != 0x7f)) {
            return Err(Rejection::new("", path, "control character in a header value"));
        }
        for part in [name, ": ", value.trim(), "\r\n"] {
            self.lines.extend_from_slice(part.as_bytes());
        }
        Ok(())
    }

    /// Whether lines of this name go.
    pub(super) fn drops(&self, name: &[u8]) -> bool {
        self.drop.iter().any(|n| names::loose_eq(name, n))
    }

    /// The lines that come.
    pub(super) fn lines(&self) -> &[u8] {
        &self.lines
    }
}

fn check_name(name: &str, path: &str) -> Result<(), Rejection> {
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(Rejection::new("", path, format!("bad header name {name:?}")));
    }
    let bytes = name.as_bytes();
    let trace = names::loose_eq(bytes, b"traceparent");
    if names::is_internal(bytes) || names::is_framing(bytes) || names::is_hop_by_hop(bytes) || trace {
        return Err(Rejection::new("", path, format!("header {name:?} is the proxy's own")));
    }
    Ok(())
}
