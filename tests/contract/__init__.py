"""What every registry promises (`registry.store`), proven on each of them.

Backends: SQLite in process; the embedded registry over HTTP; Consul 1.8 and 1.13, etcd 3.4 and 3.7 as real servers with
TLS (clients show a certificate) and ACLs or authentication. `make tools` brings the servers; without Go the newer two
are skipped, visibly, and never in CI. One server per version and test process, except where a case destroys it.

    case                                            file                    not on, and why
    keys that are prefixes, compare-and-set         test_keys_and_values
    limits are TooLarge; large values, 5,000 keys   test_limits             transactions: SQLite (its API has the bound)
    leases, locks                                   test_leases             expiry: Consul (20 s), etcd (its own)
    watch: ordered, unique, reliable, resumable     test_watch, _histories
    history forgotten: compaction                   the same (`forget`)     Consul (keeps no history)
    cancelled at every await point, 100 times       test_cancellation       watchers at the server: Consul (tells none)
    applied, and the answer is lost                 test_ambiguous_writes   SQLite (in process)
    killed, stopped, frozen for 20 s, wiped *       test_outages            SQLite (as the embedded registry's process)
    no leader: two of three servers are killed *    test_no_leader          SQLite, embedded (one server)
    whom a store believes; replaced files *         test_tls                SQLite; embedded (its port: tests/mesh)
    denied, tokens revoked and expired              test_consul_access,     SQLite; embedded (its rights: ./api)
                                                    test_etcd_access *
    the native catalogue *                          test_consul_catalog     all but Consul

* in `make outages`, of test_tls the replaced files alone, and of test_ambiguous_writes the answer that never comes.
Everything else is in `make test`. Values of 1 MiB: etcd alone, the others take 512 KiB.

Each promised word has a validator (`validators`), run over what a watch told; `test_validators` breaks each of them.
"""
