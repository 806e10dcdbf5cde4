"""The five figures of the control plane, each beside its baseline in the same run, on real etcd and Consul servers.

propagation    a key written -> the first request decided by it, beside a bare client's watch
subscriptions  what a host pays for services that it does not call: 100, 1,000, 10,000 in the mesh
fanout         50 changes a second to 200 hosts: nothing lost, how late, and what the store pays
reconnect      200 hosts come back after the store was restarted
endpoints      one change among 10,000 endpoints of one service, through meshd into a real proxy

    .venv/bin/python -m tests.bench.control                     # all, minutes
    .venv/bin/python -m tests.bench.control endpoints --short   # one, seconds
"""
