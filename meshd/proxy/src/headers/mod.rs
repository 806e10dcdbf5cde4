//! Headers: hygiene, edits, trace context, and the building of forwarded heads.

pub mod build;
pub mod edit;
pub mod names;
#[cfg(test)]
mod tests;
pub mod trace;
