//! Whether a failed try is made again: the rule, the method, whether the app was reached, the budget.

pub mod budget;

use crate::error::{Flag, Retry as Marked};
use crate::tables::Retry;

/// Bodies up to this are kept for another try.
pub const KEPT_BODY: usize = 64 * 1024;

/// How a try failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// No connection: nothing reached the app.
    Connect,
    /// The connection ended before a response head.
    Reset,
    /// No response head within the try's own time.
    Timeout,
    /// A response; `marked`: a peer proxy made it, with its flag.
    Status { status: u16, marked: Option<Flag> },
}

/// Methods that may be sent twice (RFC 9110, 9.2.2), as the mesh's own rule lists them.
pub fn is_idempotent(method: &[u8]) -> bool {
    matches!(method, b"GET" | b"HEAD" | b"OPTIONS" | b"PUT" | b"DELETE")
}

/// Whether the rule wants this failure tried again (attempts left, body and budget are other questions).
pub fn wanted(rule: &Retry, idempotent: bool, failed: Failed) -> bool {
    // an operator's rule covers all methods; the mesh's own only those that may run twice
    let again = idempotent || !rule.default;
    match failed {
        Failed::Connect => rule.on.connect_failure,
        Failed::Reset => rule.on.reset && again,
        Failed::Timeout => (rule.on.reset || rule.on.server_error || rule.on.gateway_error) && again,
        Failed::Status { status, marked } => status_wanted(rule, again, status, marked),
    }
}

fn status_wanted(rule: &Retry, again: bool, status: u16, marked: Option<Flag>) -> bool {
    // the app's connection reset at the peer is a reset; the peer's other failures are its 503
    let failed_there = |flag| rule.on.peer_503 && status == 503 || rule.on.reset && flag == Flag::UpstreamClosed;
    if let Some(flag) = marked
        && failed_there(flag)
    {
        match flag.retry() {
            // it never reached the app
            Marked::Always => return true,
            Marked::IfIdempotent if again => return true,
            _ => {}
        }
    }
    // a refusal by policy is an answer, not a failure
    if marked.is_some_and(|f| f.retry() == Marked::Never) {
        return false;
    }
    let listed = rule.status_codes.contains(&status)
        || (rule.on.server_error && (500..600).contains(&status))
        || (rule.on.gateway_error && (502..=504).contains(&status))
        || (rule.on.retriable_4xx && status == 409);
    listed && again
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::RetryOn;

    fn own() -> Retry {
        Retry {
            attempts: 2,
            on: RetryOn { connect_failure: true, reset: true, peer_503: true, ..RetryOn::default() },
            status_codes: Vec::new(),
            budget_percent: 2000,
            budget_min_per_second: 10,
            default: true,
            origin: "default#retry".into(),
        }
    }

    #[test]
    fn the_own_rule_repeats_what_is_safe() {
        let rule = own();
        let marked = |f| Failed::Status { status: 503, marked: Some(f) };
        for (idempotent, failed, want) in [
            (true, Failed::Connect, true),
            (false, Failed::Connect, true),
            (true, Failed::Reset, true),
            (false, Failed::Reset, false),
            (true, marked(Flag::ConnectFailure), true),
            (false, marked(Flag::ConnectFailure), true),
            (false, marked(Flag::UpstreamClosed), false),
            (true, marked(Flag::UpstreamClosed), true),
            (true, Failed::Status { status: 502, marked: Some(Flag::UpstreamClosed) }, true),
            (false, Failed::Status { status: 502, marked: Some(Flag::UpstreamClosed) }, false),
            (true, Failed::Status { status: 504, marked: Some(Flag::Timeout) }, false),
            (true, Failed::Status { status: 502, marked: None }, false),
            (true, marked(Flag::Denied), false),
            (true, Failed::Status { status: 503, marked: None }, false),
            (true, Failed::Status { status: 500, marked: None }, false),
        ] {
            assert_eq!(wanted(&rule, idempotent, failed), want, "{idempotent} {failed:?}");
        }
    }

    #[test]
    fn an_operators_rule_says_which_statuses_and_covers_all_methods() {
        let on = RetryOn { gateway_error: true, ..RetryOn::default() };
        let rule = Retry { on, status_codes: vec![429], default: false, ..own() };
        for (status, marked, want) in
            [(502, None, true), (500, None, false), (429, None, true), (503, Some(Flag::RateLimited), false)]
        {
            assert_eq!(wanted(&rule, false, Failed::Status { status, marked }), want, "{status}");
        }
        assert!(!wanted(&rule, true, Failed::Connect));
    }
}
