"""Every topology that can be measured, by name."""

from collections.abc import Callable, Mapping

from tests.bench import hosts, peers
from tests.bench.stage import Stage, Target

TOPOLOGIES: Mapping[str, Callable[[Stage], Target]] = {
    "direct": peers.direct,
    "meshd-hop": hosts.hop,
    "nginx-hop": peers.nginx_hop,
    "haproxy-hop": peers.haproxy_hop,
    "meshd-pair": hosts.pair,
    "nginx-pair": peers.nginx_pair,
    "haproxy-pair": peers.haproxy_pair,
}
