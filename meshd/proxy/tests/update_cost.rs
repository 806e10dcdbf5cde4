//! What one change costs a proxy that knows ten thousand endpoints of one service: a measurement, not a test.
//!
//!     cargo test --release --locked --test update_cost -- --ignored --nocapture
//!
//! `MESHD_PROXY_BIN` names another binary to measure. From the first byte of the Update until Applied is read.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

struct Proxy {
    child: Child,
    socket: UnixStream,
    run_dir: PathBuf,
    update: u64,
}

impl Proxy {
    fn start() -> Proxy {
        let run_dir = std::env::temp_dir().join(format!("meshd-proxy-cost-{}", std::process::id()));
        std::fs::create_dir_all(&run_dir).unwrap();
        let binary = std::env::var("MESHD_PROXY_BIN").unwrap_or(env!("CARGO_BIN_EXE_meshd-proxy").into());
        let child = Command::new(binary)
            .args(["run", "--generation", "1", "--threads", "2", "--run-dir"])
            .arg(&run_dir)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let socket = dial(&run_dir.join("proxy-1.sock"));
        Proxy { child, socket, run_dir, update: 0 }
    }

    /// How long it took until requests see it.
    fn update(&mut self, full: bool, put: &[Value], delete: &[String]) -> Duration {
        self.update += 1;
        let frame = json!({"type": "update", "update": self.update, "full": full, "put": put, "delete": delete});
        let json = frame.to_string();
        let mut bytes = (json.len() as u32).to_be_bytes().to_vec();
        bytes.extend_from_slice(json.as_bytes());
        let began = Instant::now();
        self.socket.write_all(&bytes).unwrap();
        loop {
            let answer = self.read();
            assert_ne!(answer["type"], "rejected", "{answer}");
            if answer["type"] == "applied" {
                return began.elapsed();
            }
        }
    }

    fn read(&mut self) -> Value {
        let mut length = [0; 4];
        self.socket.read_exact(&mut length).unwrap();
        let mut json = vec![0; u32::from_be_bytes(length) as usize];
        self.socket.read_exact(&mut json).unwrap();
        serde_json::from_slice(&json).unwrap()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.run_dir);
    }
}

fn dial(path: &Path) -> UnixStream {
    let began = Instant::now();
    loop {
        match UnixStream::connect(path) {
            Ok(s) => return s,
            Err(e) => assert!(began.elapsed() < Duration::from_secs(10), "{e}"),
        }
    }
}

fn endpoint(i: usize, weight: usize) -> Value {
    let ip = format!("10.{}.{}.{}", i >> 16 & 255, i >> 8 & 255, i & 255);
    json!({"kind": "endpoint", "name": format!("api/n{i}/1"), "id": "1", "service": "api", "node": format!("n{i}"),
           "address": format!("{ip}:80"), "inbound": format!("{ip}:15443"), "sni": format!("i-{i:032x}.mesh"),
           "spiffe": format!("spiffe://td/svc/api/n/n{i}/i/1"), "weight": weight})
}

#[test]
#[ignore = "a measurement"]
fn one_change_beside_many_endpoints() {
    for n in [100, 1_000, 10_000] {
        let mut proxy = Proxy::start();
        let mut all: Vec<Value> = (0..n).map(|i| endpoint(i, 1)).collect();
        all.push(json!({"kind": "service", "name": "api", "protocol": "http"}));
        let whole = proxy.update(true, &all, &[]);
        let mut took: Vec<Duration> = (0..300)
            .map(|k| {
                let i = k * 7919 % n;
                match k % 3 {
                    0 => proxy.update(false, &[endpoint(i, 2 + k % 5)], &[]),
                    1 => proxy.update(false, &[], &[format!("endpoint/api/n{i}/1")]),
                    _ => proxy.update(false, &[endpoint(n + k, 1)], &[]),
                }
            })
            .collect();
        took.sort_unstable();
        println!(
            "{n} endpoints: whole {whole:.1?}; one change: median {:.2?}, p90 {:.2?}, longest {:.2?}",
            took[150], took[270], took[299]
        );
    }
}
