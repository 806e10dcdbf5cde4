"""What routes, permissions and faults match on: paths, headers, query parameters, methods.

Source: Consul's `ServiceRouteHTTPMatch` and `IntentionHTTPPermission`
(https://developer.hashicorp.com/consul/docs/connect/config-entries/service-router).
"""

import re
from dataclasses import dataclass

from policies.problem import shown
from policies.schema import regex, values
from policies.schema.shape import Field, Refused, Shape, list_of, scalar
from policies.schema.tree import Scalar

_UNRESERVED = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_DOTS = re.compile(r"\.\.?(;|%3B|\Z)")  # with parameters too: some servers resolve `/..;x/`
_PATH = _UNRESERVED | set("!$&'()*+,;=:@/%")  # RFC 3986 section 3.3


@dataclass(frozen=True, kw_only=True)
class HeaderMatch:
    """Exactly one of present, exact, prefix, suffix, contains, regex (validated)."""

    name: str
    present: bool = False
    exact: str | None = None
    prefix: str | None = None
    suffix: str | None = None
    contains: str | None = None
    regex: str | None = None
    invert: bool = False


@dataclass(frozen=True, kw_only=True)
class QueryMatch:
    """Exactly one of present, exact, regex (validated)."""

    name: str
    present: bool = False
    exact: str | None = None
    regex: str | None = None


@dataclass(frozen=True, kw_only=True)
class HttpMatch:
    """At most one of the three paths (validated). Nothing set: every request."""

    path_exact: str | None = None
    path_prefix: str | None = None
    path_regex: str | None = None
    case_insensitive: bool = False
    header: tuple[HeaderMatch, ...] = ()
    query_param: tuple[QueryMatch, ...] = ()
    methods: tuple[str, ...] = ()

    @property
    def paths(self) -> tuple[str, ...]:
        """Names of the path conditions that are set."""
        pairs = (("PathExact", self.path_exact), ("PathPrefix", self.path_prefix), ("PathRegex", self.path_regex))
        return tuple(name for name, value in pairs if value is not None)

    @property
    def everything(self) -> bool:
        return not (self.paths or self.header or self.query_param or self.methods)


def pattern(value: Scalar) -> str:
    """A regular expression that the proxy's engine takes."""
    text = values.string(value)
    reason = regex.fault(text)
    if reason is not None:
        raise Refused(reason)
    return text


def path(value: Scalar) -> str:
    """A path in the normal form in which the proxy compares: another spelling would never match."""
    text = values.string(value)
    if not text.startswith("/"):
        raise Refused(f"{shown(text)} is no path", "it begins with /")
    strange = next((char for char in text if char not in _PATH), None)
    if strange is not None:
        raise Refused(f"{shown(strange)} is not part of a path", "paths are compared percent-encoded, without query")
    if "//" in text or any(_DOTS.match(segment) for segment in text.split("/")):
        raise Refused("is not in normal form and would never match", "no //, /./ or /../")
    reason = _escapes(text)
    if reason:
        raise Refused(reason, "write letters, digits and -._~ as they are and other escapes with capitals")
    return text


def _escapes(text: str) -> str | None:
    for part in text.split("%")[1:]:
        digits = part[:2]
        if len(digits) != 2 or any(digit not in "0123456789ABCDEF" for digit in digits):
            return f"{shown('%' + digits)} is no percent-encoding in normal form"
        if digits in ("2F", "5C", "00") or chr(int(digits, 16)) in _UNRESERVED:
            return f"{shown('%' + digits)} never occurs in a path in normal form"
    return None


def nonempty(value: Scalar) -> str:
    text = values.string(value)
    if not text:
        raise Refused("is empty")
    return text


_TEXT = scalar(values.string)
_PATTERN = scalar(pattern)
_SET = scalar(values.optional(values.string))
_PATH_FIELD = scalar(values.optional(path))
_PATH_PATTERN = scalar(values.optional(pattern))

HEADER = Shape(
    HeaderMatch,
    (
        Field("Name", "name", scalar(values.header_name), required=True),
        Field("Present", "present", scalar(values.boolean)),
        Field("Exact", "exact", _SET),
        Field("Prefix", "prefix", _SET),
        Field("Suffix", "suffix", _SET),
        Field("Contains", "contains", _SET),
        Field("Regex", "regex", _PATH_PATTERN),
        Field("Invert", "invert", scalar(values.boolean)),
    ),
    later=("IgnoreCase",),
)

QUERY = Shape(
    QueryMatch,
    (
        Field("Name", "name", scalar(nonempty), required=True),
        Field("Present", "present", scalar(values.boolean)),
        Field("Exact", "exact", _SET),
        Field("Regex", "regex", _PATH_PATTERN),
    ),
)

_PATHS = (
    Field("PathExact", "path_exact", _PATH_FIELD),
    Field("PathPrefix", "path_prefix", _PATH_FIELD),
    Field("PathRegex", "path_regex", _PATH_PATTERN),
)
_HEADER_AND_METHODS = (
    Field("Header", "header", list_of(HEADER)),
    Field("Methods", "methods", list_of(scalar(values.method))),
)

HTTP = Shape(
    HttpMatch,
    (
        *_PATHS,
        *_HEADER_AND_METHODS,
        Field("CaseInsensitive", "case_insensitive", scalar(values.boolean)),
        Field("QueryParam", "query_param", list_of(QUERY)),
    ),
)

PERMISSION_HTTP = Shape(HttpMatch, (*_PATHS, *_HEADER_AND_METHODS), later=("CaseInsensitive", "QueryParam"))
