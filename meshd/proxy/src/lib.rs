//! meshd-proxy: carries every request byte. Modules in request order; `stack` composes them.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking"))]

pub mod authorize;
pub mod config;
pub mod control;
pub mod error;
pub mod explain;
pub mod fault;
pub mod headers;
pub mod http1;
pub mod route;
pub mod spiffe;
pub mod tables;
