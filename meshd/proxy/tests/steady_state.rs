//! In steady state a request over one plain hop touches no heap: buffers are lent, heads are offsets, handles cached.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(unsafe_code, reason = "a counting allocator cannot be written without")]

use meshd_proxy::access_log::Writer;
use meshd_proxy::config::frames::Update;
use meshd_proxy::control::Holder;
use meshd_proxy::events::Events;
use meshd_proxy::listener::{Purpose, bind};
use meshd_proxy::runtime::{Common, Threads};
use meshd_proxy::snapshot::{Registry, Snapshot};
use serde_json::value::RawValue;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// Allocations of the data thread.
static COUNT: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// 0: not known yet, 1: another thread, 2: the data thread.
    static WHO: Cell<u8> = const { Cell::new(0) };
}

struct Counting;

fn is_data_thread() -> bool {
    WHO.with(|w| {
        if w.get() == 0 {
            // no allocation in here: the name is read by the kernel's means
            let comm = std::fs::File::open("/proc/thread-self/comm").and_then(|mut f| {
                let mut b = [0; 16];
                f.read(&mut b).map(|n| b[..n].starts_with(b"data-"))
            });
            w.set(if comm.unwrap_or(false) { 2 } else { 1 });
        }
        w.get() == 2
    })
}

// SAFETY: everything is handed on to the system's allocator unchanged
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, l: Layout) -> *mut u8 {
        if MEASURING.load(Relaxed) != 0 && is_data_thread() {
            COUNT.fetch_add(1, Relaxed);
        }
        // SAFETY: the caller's promises are passed on
        unsafe { System.alloc(l) }
    }

    unsafe fn dealloc(&self, p: *mut u8, l: Layout) {
        // SAFETY: the caller's promises are passed on
        unsafe { System.dealloc(p, l) }
    }

    unsafe fn realloc(&self, p: *mut u8, l: Layout, n: usize) -> *mut u8 {
        if MEASURING.load(Relaxed) != 0 && is_data_thread() {
            COUNT.fetch_add(1, Relaxed);
        }
        // SAFETY: the caller's promises are passed on
        unsafe { System.realloc(p, l, n) }
    }
}

static MEASURING: AtomicU64 = AtomicU64::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn app() -> u16 {
    let l = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = l.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for s in l.incoming() {
            let mut s = s.unwrap();
            std::thread::spawn(move || {
                let mut b = [0; 4096];
                while s.read(&mut b).is_ok_and(|n| n > 0) {
                    s.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").unwrap();
                }
            });
        }
    });
    port
}

fn resources(app: u16, port: u16) -> Vec<Box<RawValue>> {
    [
        r#"{"kind":"service","name":"api","protocol":"http","upstream":{"allow_plaintext":true}}"#.to_owned(),
        format!(
            r#"{{"kind":"endpoint","name":"api/x/1","id":"1","service":"api","node":"x","address":"127.0.0.1:{app}"}}"#
        ),
        format!(
            r#"{{"kind":"listener","name":"web/a/1:api","address":"127.0.0.1","port":{port},"instance":"web/a/1","service":"api"}}"#
        ),
    ]
    .map(|t| RawValue::from_string(t).unwrap())
    .to_vec()
}

#[test]
fn a_request_in_steady_state_allocates_nothing() {
    let sockets = bind("127.0.0.1:0".parse().unwrap(), 1).unwrap();
    let port = sockets[0].local_addr().unwrap().port();
    let put = resources(app(), port);
    let update = Update { update: 1, full: true, put, delete: Vec::new() };
    let candidate = Holder::default().prepare(&update).unwrap();
    let first = Arc::new(Registry::default().snapshot(candidate.tables.clone(), &Snapshot::default()).unwrap());
    let (events, _queue) = Events::channel();
    let common = Common { start: Instant::now(), unix_at_start_ms: 0, events, log: Writer::start().unwrap(), first };
    let threads = Threads::start(1, &common).unwrap();
    threads.listen(&Purpose::Upstream("web/a/1:api".into()), sockets);

    let mut s = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut ask = |n: u32| {
        for _ in 0..n {
            s.write_all(b"GET /x?q=1 HTTP/1.1\r\nhost: api\r\nuser-agent: t\r\naccept: */*\r\n\r\n").unwrap();
            let (mut got, mut b) = (Vec::with_capacity(512), [0; 512]);
            while !got.ends_with(b"hello") {
                let n = s.read(&mut b).unwrap();
                assert!(n > 0, "{}", String::from_utf8_lossy(&got));
                got.extend_from_slice(&b[..n]);
            }
            assert!(got.starts_with(b"HTTP/1.1 200"));
        }
    };
    MEASURING.store(1, Relaxed);
    ask(200);
    let opening = COUNT.swap(0, Relaxed);
    assert!(opening > 0, "the counter works: opening connections allocates");
    ask(1000);
    MEASURING.store(0, Relaxed);
    let n = COUNT.load(Relaxed);
    // the ticker and the event loop may grow something once; a request may not
    assert!(n < 20, "{n} allocations in 1000 requests");
}
