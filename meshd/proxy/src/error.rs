//! What can go wrong with a request: whose fault it is, whether it may be tried again, its flag, status and text.

use crate::http1::Sender;

/// Why the proxy answered itself, or what was special about a request; the `flags` label and access log field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Flag {
    /// No route, or nothing known of the service.
    NoRoute,
    /// No endpoint may be used.
    NoEndpoint,
    /// Denied by an intention, or the caller is not known.
    Denied,
    /// Request or attempt timed out.
    Timeout,
    /// Connecting failed.
    ConnectFailure,
    /// All retries failed, or the budget is spent.
    RetriesExhausted,
    /// The request cannot be read.
    BadRequest,
    /// A limit was reached.
    RateLimited,
    /// Delayed by a fault.
    FaultDelay,
    /// Aborted by a fault.
    FaultAbort,
    /// The upstream's connection ended too early, or its response cannot be read.
    UpstreamClosed,
    /// The client went away.
    ClientClosed,
    /// This proxy drains.
    Draining,
}

impl Flag {
    pub const ALL: [Flag; 13] = [
        Flag::NoRoute,
        Flag::NoEndpoint,
        Flag::Denied,
        Flag::Timeout,
        Flag::ConnectFailure,
        Flag::RetriesExhausted,
        Flag::BadRequest,
        Flag::RateLimited,
        Flag::FaultDelay,
        Flag::FaultAbort,
        Flag::UpstreamClosed,
        Flag::ClientClosed,
        Flag::Draining,
    ];

    pub fn code(self) -> &'static str {
        match self {
            Flag::NoRoute => "NR",
            Flag::NoEndpoint => "UH",
            Flag::Denied => "UAEX",
            Flag::Timeout => "UT",
            Flag::ConnectFailure => "UF",
            Flag::RetriesExhausted => "URX",
            Flag::BadRequest => "DPE",
            Flag::RateLimited => "RL",
            Flag::FaultDelay => "DI",
            Flag::FaultAbort => "FI",
            Flag::UpstreamClosed => "UC",
            Flag::ClientClosed => "DC",
            Flag::Draining => "DR",
        }
    }

    /// Reads a code, as a peer proxy's answer carries it.
    pub fn parse(code: &[u8]) -> Option<Flag> {
        Flag::ALL.into_iter().find(|f| f.code().as_bytes() == code)
    }

    pub fn fault(self) -> Fault {
        match self {
            Flag::BadRequest | Flag::ClientClosed => Fault::Client,
            Flag::NoRoute | Flag::Denied | Flag::RateLimited | Flag::FaultDelay | Flag::FaultAbort => Fault::Policy,
            Flag::NoEndpoint | Flag::Timeout | Flag::ConnectFailure | Flag::RetriesExhausted | Flag::UpstreamClosed => {
                Fault::Upstream
            }
            Flag::Draining => Fault::Proxy,
        }
    }

    /// Whether another endpoint may be tried after a peer proxy answered with this flag.
    pub fn retry(self) -> Retry {
        match self {
            Flag::ConnectFailure | Flag::NoEndpoint | Flag::Draining => Retry::Always,
            Flag::UpstreamClosed | Flag::Timeout => Retry::IfIdempotent,
            _ => Retry::Never,
        }
    }
}

/// Whose fault a failure is; only the upstream's counts for ejection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Client,
    Policy,
    Upstream,
    Proxy,
}

/// `Always`: the app was not reached, so any request whose body is still held may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    Always,
    IfIdempotent,
    Never,
}

/// The proxy's own answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer<'a> {
    pub status: u16,
    pub flag: Flag,
    /// What the caller is told, in one line without line breaks; see [`Answer::text`] for the parts.
    pub reason: &'a str,
    /// Named in the body when not empty.
    pub service: &'a str,
    /// Named in the body when not empty: set it only if denials are to be explained.
    pub origin: &'a str,
}

impl<'a> Answer<'a> {
    pub fn new(status: u16, flag: Flag, reason: &'a str, service: &'a str) -> Answer<'a> {
        Answer { status, flag, reason, service, origin: "" }
    }

    pub fn no_rule(service: &'a str) -> Answer<'a> {
        Answer::new(404, Flag::NoRoute, "no route matches", service)
    }

    pub fn unknown_service(service: &'a str) -> Answer<'a> {
        Answer::new(503, Flag::NoRoute, "unknown service", service)
    }

    /// A leg that cannot be served; `why` from the rule.
    pub fn broken(service: &'a str, why: &'a str) -> Answer<'a> {
        Answer::new(503, Flag::NoRoute, why, service)
    }

    pub fn no_endpoint(service: &'a str) -> Answer<'a> {
        Answer::new(503, Flag::NoEndpoint, "no endpoint available", service)
    }

    /// `origin` is told only if `explain`.
    pub fn denied(service: &'a str, origin: &'a str, explain: bool) -> Answer<'a> {
        let origin = if explain { origin } else { "" };
        Answer { status: 403, flag: Flag::Denied, reason: "denied", service, origin }
    }

    pub fn timeout(service: &'a str) -> Answer<'a> {
        Answer::new(504, Flag::Timeout, "timed out", service)
    }

    pub fn connect_failure(service: &'a str) -> Answer<'a> {
        Answer::new(503, Flag::ConnectFailure, "could not connect", service)
    }

    pub fn retries_exhausted(service: &'a str) -> Answer<'a> {
        Answer::new(503, Flag::RetriesExhausted, "retries exhausted", service)
    }

    pub fn upstream_closed(service: &'a str) -> Answer<'a> {
        Answer::new(502, Flag::UpstreamClosed, "bad or unfinished response", service)
    }

    pub fn fault(status: u16, service: &'a str) -> Answer<'a> {
        Answer::new(status, Flag::FaultAbort, "fault injected", service)
    }

    /// A head or body that cannot be read; the connection closes after it.
    pub fn refused(refused: crate::http1::Refused) -> Answer<'static> {
        Answer::new(refused.status, Flag::BadRequest, refused.reason, "")
    }

    /// Writes head and body. `to` a peer proxy the answer is marked as ours; `head_only` leaves the body out.
    pub fn write(&self, out: &mut Vec<u8>, to: Sender, close: bool, head_only: bool) {
        let mut length = 0;
        self.body(|part| length += part.len());
        out.extend_from_slice(b"HTTP/1.1 ");
        push_number(out, u64::from(self.status));
        out.push(b' ');
        out.extend_from_slice(reason_phrase(self.status).as_bytes());
        out.extend_from_slice(b"\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: ");
        push_number(out, length as u64);
        if to == Sender::Peer {
            out.extend_from_slice(b"\r\nx-meshd-answer: ");
            out.extend_from_slice(self.flag.code().as_bytes());
        }
        out.extend_from_slice(if close { b"\r\nconnection: close\r\n\r\n" } else { b"\r\n\r\n" });
        if !head_only {
            self.body(|part| out.extend_from_slice(part.as_bytes()));
        }
    }

    /// `meshd: service "api": denied [UAEX] by service-intentions/api#Sources[1]@5`
    fn body(&self, mut part: impl FnMut(&str)) {
        part("meshd: ");
        if !self.service.is_empty() {
            part("service \"");
            part(self.service);
            part("\": ");
        }
        part(self.reason);
        part(" [");
        part(self.flag.code());
        part("]");
        if !self.origin.is_empty() {
            part(" by ");
            part(self.origin);
        }
        part("\n");
    }
}

/// Decimal digits without an allocation.
pub(crate) fn push_number(out: &mut Vec<u8>, mut n: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// The phrase of a status that the proxy itself sends; a class name for others.
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => match status / 100 {
            2 => "OK",
            3 => "Redirect",
            4 => "Client Error",
            _ => "Server Error",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, Fault, Flag, Retry};
    use crate::http1::Sender;
    use crate::http1::response::response;

    fn text(answer: Answer<'_>, to: Sender, head_only: bool) -> String {
        let mut out = Vec::new();
        answer.write(&mut out, to, true, head_only);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn answers_name_the_service_and_the_intention_only_when_asked() {
        let told = text(Answer::denied("api", "service-intentions/api#Sources[1]@5", true), Sender::App, false);
        assert!(
            told.ends_with("\r\n\r\nmeshd: service \"api\": denied [UAEX] by service-intentions/api#Sources[1]@5\n")
        );
        assert!(!text(Answer::denied("api", "secret", false), Sender::App, false).contains("secret"));
        assert!(text(Answer::no_endpoint("api"), Sender::App, false).contains("\"api\""));
    }

    #[test]
    fn answers_are_whole_responses_marked_for_proxies_only() {
        for head_only in [false, true] {
            let bytes = text(Answer::unknown_service("x"), Sender::Peer, head_only);
            let head = response(bytes.as_bytes(), Sender::Peer, head_only).unwrap().unwrap();
            assert_eq!((head.status, head.close), (503, true));
            assert_eq!(head.answer.map(|a| a.of(bytes.as_bytes())), Some(&b"NR"[..]));
            let left = (bytes.len() - head.len) as u64;
            assert_eq!(head.framing, crate::http1::framing::Framing::length(left));
        }
        assert!(!text(Answer::timeout("x"), Sender::App, false).contains("x-meshd"));
    }

    #[test]
    fn flags_have_one_code_each_and_only_what_never_reached_the_app_is_always_retried() {
        for flag in Flag::ALL {
            assert_eq!(Flag::parse(flag.code().as_bytes()), Some(flag));
            let never_reached = matches!(flag, Flag::ConnectFailure | Flag::NoEndpoint | Flag::Draining);
            assert_eq!(flag.retry() == Retry::Always, never_reached, "{flag:?}");
        }
        assert_eq!(Flag::parse(b"XX"), None);
        assert_eq!((Flag::Denied.fault(), Flag::Timeout.fault()), (Fault::Policy, Fault::Upstream));
    }
}
