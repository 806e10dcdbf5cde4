#!/bin/sh
# Foreign programs for tests and benchmarks: tools.sh [consul] [py-consul] [etcd] [etcdctl] [nginx] [haproxy] [wrk]
# [dockerd]. What is there is left alone. consul (Debian bullseye's 1.8.7), etcd and etcdctl (bookworm's 3.4.23) are
# unpacked into .cache/tools without touching the system; py-consul (a Python package that cannot stand beside
# python-consul2: both are called `consul`) goes to .cache/py-consul, pinned by hash; the others are installed with
# apt-get. Exit 78, naming what is missing, when that cannot be done: not root, no apt-get, or offline.
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

fetch_py_consul() {
    made=.cache/py-consul/.made-from
    want=$(sha256sum <deploy/requirements-py-consul.txt)
    if [ -f "$made" ] && [ "$(cat "$made")" = "$want" ]; then
        return
    fi
    [ -x .venv/bin/python ] || give_up py-consul "no .venv: run make venv first"
    echo "set-up: installing py-consul into .cache/py-consul" >&2
    rm -rf .cache/py-consul
    set -- --quiet --target .cache/py-consul --no-deps --require-hashes -r deploy/requirements-py-consul.txt
    if command -v uv >/dev/null 2>&1; then
        uv pip install --python .venv/bin/python "$@" >&2 || give_up py-consul "uv pip install failed: offline?"
    else
        .venv/bin/python -m pip install --disable-pip-version-check "$@" >&2 ||
            give_up py-consul "pip install failed: offline?"
    fi
    echo "$want" >"$made"
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

packages=
for name; do
    command -v "$name" >/dev/null 2>&1 && continue
    case $name in
    consul) fetch consul bullseye ;;
    etcd) fetch etcd-server bookworm ;;
    etcdctl) fetch etcd-client bookworm ;;
    py-consul) fetch_py_consul ;;
    nginx | haproxy | wrk) packages="$packages $name" ;;
    dockerd) packages="$packages docker.io iptables" ;; # tests start their own, with its own directories
    *) give_up "$name" "set-up does not know it" ;;
    esac
done
# shellcheck disable=SC2086  # words on purpose: one name each
[ -z "$packages" ] || install_packages $packages
