"""Calls of py-consul, in a process of its own: `python py_consul_client.py NAME PORT`.

Its import name is python-consul2's too, so it never shares a process with our own client; `PYTHONPATH` chooses it.
Each function is one story; a mistake ends the process with a traceback and exit 1.
"""

import sys
import threading

import consul
import pytest


def registration(client: consul.Consul) -> None:
    ttl = consul.Check.ttl("30s")
    register = client.agent.service.register
    assert register("web", service_id="web-1", port=8080, tags=["v2"], check=ttl, meta={"a": "b"}, weights=None)
    assert list(client.agent.services()) == ["web-1"]
    assert client.health.service("web", passing=True)[1] == []
    assert client.agent.check.ttl_pass("service:web-1", "fine")
    index, [entry] = client.health.service("web", passing=True, tag="v2")
    assert (entry["Service"]["ID"], entry["Service"]["Port"], entry["Service"]["Meta"]) == ("web-1", 8080, {"a": "b"})
    assert int(index) > 0
    assert client.agent.checks()["service:web-1"]["Status"] == "passing"
    assert client.agent.check.ttl_warn("service:web-1")
    assert len(client.health.state("warning")[1]) == 1
    assert client.agent.service.maintenance("web-1", True, "upgrade")
    assert any(one["Notes"] == "upgrade" for one in client.health.node("n1")[1])
    assert client.agent.service.deregister("web-1")
    assert client.catalog.services()[1] == {}


def probes(client: consul.Consul) -> None:
    """Every check that this host may run for somebody else, as the package writes it."""
    written = {
        "http": consul.Check.http("http://127.0.0.1:80/healthz", "10s", timeout="1s", header={"x": ["y"]}),
        "tcp": consul.Check.tcp("127.0.0.1", 80, "10s"),
        "grpc": consul.Check.grpc("127.0.0.1:80/shop.Cart", "10s", use_tls=False, tls_skip_verify=False),
    }
    for name, check in written.items():
        assert client.agent.service.register(name, port=80, check=check)
        assert client.agent.checks()[f"service:{name}"]["Type"] == name
    with pytest.raises(consul.ConsulException, match="runs a program"):
        client.agent.service.register("bad", port=80, check=consul.Check.script(["id"], "10s"))


def catalogue(client: consul.Consul) -> None:
    client.agent.service.register("web", port=80, tags=["x"])
    assert client.catalog.services()[1] == {"web": ["x"]}
    assert [one["ServicePort"] for one in client.catalog.service("web")[1]] == [80]
    assert [one["Node"] for one in client.catalog.nodes()[1]] == ["n1"]
    assert list(client.catalog.node("n1")[1]["Services"]) == ["web"]
    assert client.catalog.datacenters() == ["dc1"]
    assert client.agent.self()["Config"]["NodeName"] == "n1"
    assert [one["Name"] for one in client.agent.members()] == ["n1"]
    assert ":" in client.status.leader()


def kv(client: consul.Consul) -> None:
    assert client.kv.put("a/b", b"\x00\xff", flags=7)
    _, pair = client.kv.get("a/b")
    assert (pair["Value"], pair["Flags"]) == (b"\x00\xff", 7)
    assert client.kv.put("a/b", "x", cas=1) is False
    assert client.kv.put("a/b", "x", cas=pair["ModifyIndex"])
    assert client.kv.get("a/", keys=True)[1] == ["a/b"]
    assert client.kv.get("none")[1] is None
    done = client.txn.put([{"KV": {"Verb": "set", "Key": "t/1", "Value": "eA=="}}])
    assert done["Errors"] is None
    assert client.kv.delete("a/", recurse=True)
    assert client.kv.get("a/", recurse=True)[1] is None


def blocking(client: consul.Consul) -> None:
    index, _ = client.kv.get("w")
    writer = threading.Timer(0.1, client.kv.put, ("w", "now"))
    writer.start()
    after, pair = client.kv.get("w", index=index, wait="30s")
    writer.join()
    assert (pair["Value"], int(after) > int(index)) == (b"now", True)


def sessions(client: consul.Consul) -> None:
    session = client.session.create("job", behavior="delete", ttl=10, lock_delay=0)
    assert client.kv.put("lock", "mine", acquire=session)
    other = client.session.create()
    assert client.kv.put("lock", "yours", acquire=other) is False
    assert client.session.renew(session)["TTL"] == "10s"
    assert client.session.info(session)[1]["Behavior"] == "delete"
    assert {one["ID"] for one in client.session.list()[1]} >= {session, other}
    assert client.session.destroy(session)
    assert client.kv.get("lock")[1] is None


STORIES = {story.__name__: story for story in (registration, probes, catalogue, kv, blocking, sessions)}

if __name__ == "__main__":
    print(consul.__file__)
    STORIES[sys.argv[1]](consul.Consul(host="127.0.0.1", port=int(sys.argv[2])))
