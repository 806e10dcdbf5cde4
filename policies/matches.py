"""Conditions on requests, from the schema's form to the proxy's."""

from policies.compiled import HeaderMatch, Match, QueryMatch
from policies.schema import matching


def compiled_match(http: matching.HttpMatch | None) -> Match | None:
    """None: every request."""
    if http is None or http.everything:
        return None
    return Match(
        path_exact=http.path_exact,
        path_prefix=http.path_prefix,
        path_regex=http.path_regex,
        case_insensitive=http.case_insensitive,
        headers=tuple(_header(header) for header in http.header),
        query=tuple(_query(parameter) for parameter in http.query_param),
        methods=tuple(sorted(http.methods)),
    )


def _header(header: matching.HeaderMatch) -> HeaderMatch:
    return HeaderMatch(
        name=header.name,
        present=header.present,
        exact=header.exact,
        prefix=header.prefix,
        suffix=header.suffix,
        contains=header.contains,
        regex=header.regex,
        invert=header.invert,
    )


def _query(parameter: matching.QueryMatch) -> QueryMatch:
    return QueryMatch(
        name=parameter.name,
        present=parameter.present,
        exact=parameter.exact,
        regex=parameter.regex,
    )
