//! meshd-proxy: carries every request byte. Modules in request order; `stack` composes them.
//!
//! Stages: `listener identity route authorize retry balance connect exchange`; none imports a later one. Beside the
//! path: `stream` (bytes), `downstream` (an accepted connection), `http1`, `headers`, `fault`, `clock`, `worker` (a
//! data thread's own), `snapshot` (what threads share), `suspect` and `probe` (endpoints that only their own identity
//! speaks for), `proxy` (the control thread), `runtime` (the threads).
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking"))]

pub mod access_log;
pub mod authorize;
pub mod balance;
pub mod clock;
pub mod config;
pub mod connect;
pub mod control;
pub mod downstream;
pub mod error;
pub mod events;
pub mod exchange;
pub mod explain;
pub mod fault;
pub mod headers;
pub mod http1;
pub mod identity;
pub mod listener;
pub mod logging;
pub mod metrics;
pub mod probe;
pub mod proxy;
pub mod retry;
pub mod route;
pub mod runtime;
pub mod snapshot;
pub mod spiffe;
pub mod stack;
pub mod stream;
pub mod suspect;
pub mod sys;
pub mod tables;
pub mod worker;
