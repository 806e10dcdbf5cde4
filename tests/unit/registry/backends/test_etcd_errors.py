"""What etcd's refusals mean."""

import pytest
from grpc import StatusCode

from registry.backends import etcd_errors
from registry.errors import Denied, NotFound, RegistryError, TooLarge, Unavailable


@pytest.mark.parametrize(
    ("code", "details", "kind"),
    [
        (StatusCode.PERMISSION_DENIED, "etcdserver: permission denied", Denied),
        (StatusCode.UNAUTHENTICATED, "etcdserver: invalid auth token", Denied),
        (StatusCode.INVALID_ARGUMENT, "etcdserver: user name is empty", Denied),
        (StatusCode.INVALID_ARGUMENT, "etcdserver: authentication failed, invalid user ID or password", Denied),
        (StatusCode.INVALID_ARGUMENT, "etcdserver: request is too large", TooLarge),
        (StatusCode.INVALID_ARGUMENT, "etcdserver: too many operations in txn request", TooLarge),
        (StatusCode.RESOURCE_EXHAUSTED, "grpc: received message larger than max (3 vs. 2)", TooLarge),
        (StatusCode.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded", Unavailable),
        (StatusCode.NOT_FOUND, "etcdserver: requested lease not found", NotFound),
        (StatusCode.OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted", NotFound),
        (StatusCode.UNAVAILABLE, "etcdserver: no leader", Unavailable),
        (StatusCode.DEADLINE_EXCEEDED, "", Unavailable),
    ],
)
def test_each_refusal_is_what_a_caller_can_act_on(code: StatusCode, details: str, kind: type[RegistryError]) -> None:
    error = etcd_errors.error_of(code, details, "Range at a:1")
    assert type(error) is kind
    assert str(error) == f"Range at a:1: {details or code.name}"


def test_only_a_refused_token_is_worth_a_login() -> None:
    assert etcd_errors.stale_token(StatusCode.UNAUTHENTICATED, "anything")
    assert etcd_errors.stale_token(StatusCode.INVALID_ARGUMENT, "etcdserver: revision of auth store is old")
    assert not etcd_errors.stale_token(StatusCode.INVALID_ARGUMENT, "etcdserver: request is too large")
    assert not etcd_errors.stale_token(StatusCode.PERMISSION_DENIED, "etcdserver: permission denied")


def test_a_write_may_go_elsewhere_only_when_it_cannot_have_been_applied() -> None:
    assert etcd_errors.untouched(StatusCode.UNAVAILABLE, "etcdserver: no leader")
    assert etcd_errors.untouched(StatusCode.UNAVAILABLE, "failed to connect to all addresses; last error: ...")
    assert not etcd_errors.untouched(StatusCode.UNAVAILABLE, "Socket closed")
    assert not etcd_errors.untouched(StatusCode.UNAVAILABLE, "etcdserver: request timed out")
    assert not etcd_errors.untouched(StatusCode.DEADLINE_EXCEEDED, "failed to connect")
    assert etcd_errors.retriable(StatusCode.UNAVAILABLE)
    assert not etcd_errors.retriable(StatusCode.PERMISSION_DENIED)
