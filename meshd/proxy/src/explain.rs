//! `meshd-proxy explain`: the proxy's own decisions on a request that is not sent.

use crate::config::frames::{ExplainInput, Explanation};
use crate::tables::Rejection;

/// Walks a request through the stages. `now_unix_ms` decides which faults still run.
pub fn explain(input: &ExplainInput, now_unix_ms: u64) -> Result<Explanation, Rejection> {
    let _ = (input, now_unix_ms);
    Ok(Explanation { verdict: "unavailable".into(), decisions: Vec::new() })
}
