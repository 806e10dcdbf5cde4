#!/bin/sh
# Roles of the mesh in etcd. etcdctl finds the cluster and the root account by its ETCDCTL_* variables.
#   roles.sh common                 what all hosts, the authority and the operators need, once
#   roles.sh host NODE [SERVICE...] a host's own keys, and those of the services that it serves
# Then give accounts their roles: etcdctl user add web-17; etcdctl user grant-role web-17 mesh-host-web-17
set -eu
export ETCDCTL_API=3
prefix=mesh/v1

role() { etcdctl role get "$1" >/dev/null 2>&1 || etcdctl role add "$1"; }
below() { etcdctl role grant-permission "$1" "$2" "$prefix/$3/" --prefix=true; }
# One key with what lies behind it (a zero byte): flags and locks of keys that have some.
key() { etcdctl role grant-permission "$1" readwrite "$prefix/$2" "$(printf '%s\001' "$prefix/$2")"; }

common() {
    role mesh-read # nothing in it is secret: keys and tokens are never stored
    etcdctl role grant-permission mesh-read read "$prefix/" --prefix=true
    role mesh-authority # the host with Roles: [ca], beside its own role
    below mesh-authority readwrite ca
    below mesh-authority readwrite history
    key mesh-authority store-id
    role mesh-operator # who edits policy; "intentions only" is policy/service-intentions/ alone
    for part in policy config history revocations; do
        below mesh-operator readwrite "$part"
    done
    key mesh-operator store-id # `meshctl registry adopt`: which store is to be believed
}

host() {
    name=mesh-host-$1
    node=$1
    shift
    role "$name"
    for own in leases nodes status/proxies; do
        key "$name" "$own/$node"
    done
    for service; do
        below "$name" readwrite "services/$service/$node"
    done
}

"$@"
