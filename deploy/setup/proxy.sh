#!/bin/sh
# target/release/meshd-proxy, built once per content of the crate. Needs no toolchain when it is there already.
# Exit 78: no (or too old a) Rust toolchain.
set -eu
cd "$(dirname "$0")/../.."
if [ -n "${MESHD_PROXY_BIN:-}" ]; then
    echo "set-up: using MESHD_PROXY_BIN=$MESHD_PROXY_BIN, nothing is built" >&2
    exit 0
fi
mkdir -p .cache
exec 9>.cache/proxy.lock
flock 9

binary=target/release/meshd-proxy
made=target/release/.made-from
# Both ends are in it, sources and result: a binary that another build left there is not taken for this one.
sources() {
    find meshd/proxy/src meshd/proxy/Cargo.toml meshd/proxy/Cargo.lock .cargo/config.toml -type f -print0 |
        sort -z | xargs -0 sha256sum
}
state() { { sources; sha256sum "$binary"; } 2>/dev/null | sha256sum | cut -d' ' -f1; }
if [ -x "$binary" ] && [ -f "$made" ] && [ "$(cat "$made")" = "$(state)" ]; then
    exit 0
fi

need=88 # rust-version of the crate is 1.88
minor=$(cargo --version 2>/dev/null | sed -n 's/^cargo 1\.\([0-9]*\)\..*/\1/p')
if [ "${minor:-0}" -lt "$need" ]; then
    echo "meshd-proxy needs Rust >= 1.$need: install it with rustup (https://rustup.rs) or, on Debian 12, apt-get install rustc-web cargo-web" >&2
    exit 78
fi
echo "set-up: building meshd-proxy (some minutes, once)" >&2
cargo build --release --locked --quiet --manifest-path meshd/proxy/Cargo.toml
state >"$made"
