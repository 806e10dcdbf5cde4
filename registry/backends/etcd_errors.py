"""What etcd's refusals mean, as our errors. Decides only.

Texts are those of etcd's api/v3rpc/rpctypes/error.go; they are stable over 3.4 to 3.7 and the codes alone do not tell.
"""

from grpc import StatusCode

from registry.errors import Denied, NotFound, RegistryError, TooLarge, Unavailable

# Answers given before anything is proposed to the cluster: the write was not applied, another member may take it.
UNTOUCHED = ("etcdserver: no leader", "failed to connect", "connection refused", "connect failed", "name resolution")
STALE = ("invalid auth token", "auth token is not provided", "revision of auth store is old", "user name is empty")
TOO_LARGE = ("request is too large", "too many operations", "larger than max", "too large lease TTL", "message size")
LEADERLESS = ("etcdserver: no leader", "etcdserver: request timed out")
NO_AUTH = "authentication is not enabled"


def stale_token(code: StatusCode, details: str) -> bool:
    """Logging in (again) can help: the token has expired, was lost with a restart, or auth was switched on."""
    return code is StatusCode.UNAUTHENTICATED or (
        code is StatusCode.INVALID_ARGUMENT and any(text in details for text in STALE)
    )


def retriable(code: StatusCode) -> bool:
    """The member, not the request, is at fault: another one may answer."""
    return code in (StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED, StatusCode.CANCELLED, StatusCode.UNKNOWN)


def untouched(code: StatusCode, details: str) -> bool:
    """The request cannot have been applied."""
    text = details.lower()
    return code is StatusCode.UNAVAILABLE and any(known in text for known in UNTOUCHED)


def leaderless(said: str) -> bool:
    """An error's text: a member is there, but the cluster has no leader (or not enough members to follow one)."""
    return any(text in said for text in LEADERLESS)


def error_of(code: StatusCode, details: str, what: str) -> RegistryError:
    """`what` names the call and the member that was asked."""
    text = f"{what}: {details or code.name}"
    if any(known in details for known in TOO_LARGE):
        return TooLarge(text)
    if code in (StatusCode.UNAUTHENTICATED, StatusCode.PERMISSION_DENIED) or stale_token(code, details):
        return Denied(text)
    if code is StatusCode.INVALID_ARGUMENT and "authentication failed" in details:
        return Denied(text)
    if code in (StatusCode.NOT_FOUND, StatusCode.OUT_OF_RANGE):  # a lease; a revision, compacted or of the future
        return NotFound(text)
    return Unavailable(text)
