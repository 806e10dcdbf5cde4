//! Which headers are ours, which end at each hop, and how names are compared.

/// The caller's SPIFFE identity, given to the app.
pub const SOURCE: &str = "x-meshd-source";
/// Marks a proxy's own answer to the next proxy, with its flag.
pub const ANSWER: &str = "x-meshd-answer";
/// Number of the attempt, told to the next proxy.
pub const ATTEMPT: &str = "x-meshd-attempt";
