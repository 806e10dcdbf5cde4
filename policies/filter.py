"""Filter expressions of subsets: `Service.Meta.version == "2" and "canary" not in Service.Tags`.

The part of Consul's language (https://developer.hashicorp.com/consul/api-docs/features/filtering) that subsets use:
`==`, `!=`, `in`, `not in`, `and`, `or`, `not`, parentheses. As there, a missing map key is equal to nothing and in
nothing. Parsed once into a tree, evaluated without any engine for expressions.
"""

import re
from dataclasses import dataclass
from typing import Literal

from policies.problem import did_you_mean, shown
from registry.model import Instance

MAX_LENGTH = 2048
MAX_DEPTH = 32

_LATER = ("contains", "matches", "is")
_KEYWORDS = ("and", "or", "not", "in", *_LATER)
_TEXTS = ("Service.ID", "Service.Service", "Service.Address", "Service.Port", "Node.Node")
_MAPS = ("Service.Meta", "Node.Meta")
_LISTS = ("Service.Tags",)
SELECTORS = (*_TEXTS, *_MAPS, *_LISTS)
_LATER_SELECTORS = ("Node.ID", "Node.Address", "Node.Datacenter", "Service.Weights", "Service.Kind", "Checks")

_TOKEN = re.compile(
    r"""\s*(?:(?P<sign>==|!=|\(|\))|(?P<quoted>"(?:[^"\\]|\\["\\])*"|`[^`]*`)|(?P<word>[^\s()=!"`\[\]]+)|(?P<index>\[))"""
)


@dataclass(frozen=True)
class Selector:
    """`of`: one of SELECTORS; `key`: of a map, None: the map (or list, or text) itself."""

    of: str
    key: str | None = None

    def __str__(self) -> str:
        return self.of if self.key is None else f"{self.of}.{self.key}"


@dataclass(frozen=True)
class Equal:
    selector: Selector
    value: str


@dataclass(frozen=True)
class In:
    """`value` is an item of the list, a key of the map, or a part of the text that the selector names."""

    selector: Selector
    value: str


@dataclass(frozen=True)
class Not:
    inner: "Expression"


@dataclass(frozen=True)
class Several:
    """All of them, or any."""

    join: Literal["and", "or"]
    parts: tuple["Expression", ...]


Expression = Equal | In | Not | Several


@dataclass(frozen=True)
class Fault:
    """Why a text is no filter. `at`: offset of the character, from 0."""

    reason: str
    at: int
    hint: str = ""


def holds(expression: Expression, instance: Instance) -> bool:
    """Does the filter hold for this instance?"""
    match expression:
        case Equal(selector, value):
            return _text(selector, instance) == value
        case In(selector, value):
            return value in _members(selector, instance)
        case Not(inner):
            return not holds(inner, instance)
        case Several("and", parts):
            return all(holds(part, instance) for part in parts)
        case Several(_, parts):
            return any(holds(part, instance) for part in parts)


def _text(selector: Selector, instance: Instance) -> str | None:
    """None: a map without that key."""
    match selector.of:
        case "Service.ID":
            return instance.id
        case "Service.Service":
            return instance.service
        case "Service.Address":
            return instance.address
        case "Service.Port":
            return str(instance.port)
        case "Node.Node":
            return instance.node
        case "Service.Meta":
            return instance.meta.get(selector.key or "")
        case _:
            return instance.node_meta.get(selector.key or "")


def _members(selector: Selector, instance: Instance) -> tuple[str, ...] | str | dict[str, str]:
    if selector.of in _LISTS:
        return instance.tags
    if selector.of in _MAPS and selector.key is None:
        return instance.meta if selector.of == "Service.Meta" else instance.node_meta
    return _text(selector, instance) or ()


def parse(text: str) -> Expression | Fault:
    """Read a filter; a bad one yields a Fault with its position."""
    if len(text) > MAX_LENGTH:
        return Fault(f"a filter is longer than {MAX_LENGTH} characters", MAX_LENGTH)
    try:
        reader = _Reader(_tokens(text), len(text.rstrip()))
        expression = reader.disjunction()
        if reader.more:
            raise _Bad(f"{shown(reader.token.text)} is out of place", reader.token.at, "join parts with and, or")
        return expression
    except _Bad as bad:
        return Fault(bad.reason, bad.at, bad.hint)


@dataclass(frozen=True)
class _Token:
    text: str
    at: int
    quoted: bool = False


class _Bad(Exception):
    def __init__(self, reason: str, at: int, hint: str = "") -> None:
        super().__init__(reason)
        self.reason, self.at, self.hint = reason, at, hint


def _tokens(text: str) -> tuple[_Token, ...]:
    tokens: list[_Token] = []
    at = 0
    end = len(text.rstrip())
    while at < end:
        found = _TOKEN.match(text, at)
        if found is None:
            place = at + len(text[at:]) - len(text[at:].lstrip())
            raise _Bad(f"cannot read {shown(text[place : place + 10])}", place)
        if found["quoted"]:
            tokens.append(_Token(_unquoted(found["quoted"]), found.start("quoted"), True))
        else:
            group = found.lastgroup or ""
            tokens.append(_Token(found[group], found.start(group)))
        at = found.end()
        if tokens[-1].text == "[" and not tokens[-1].quoted:
            at = _index(text, at, tokens)
    return tuple(tokens)


def _index(text: str, at: int, tokens: list[_Token]) -> int:
    """`Service.Meta["key"]`: the bracket joins the word before it."""
    found = re.compile(r'"((?:[^"\\]|\\["\\])*)"\]').match(text, at)
    bracket = tokens.pop()
    if found is None or not tokens or tokens[-1].quoted or tokens[-1].text not in _MAPS:
        raise _Bad('a [ is only for map keys, as in Service.Meta["key"]', bracket.at)
    before = tokens.pop()
    tokens.append(_Token(f"{before.text}.{_unquoted(found[0][:-1])}", before.at))
    return found.end()


def _unquoted(text: str) -> str:
    if text.startswith("`"):
        return text[1:-1]
    return text[1:-1].replace('\\"', '"').replace("\\\\", "\\")


@dataclass
class _Reader:
    """Recursive descent; `not` binds tightest, then `and`, then `or`."""

    tokens: tuple[_Token, ...]
    end: int
    at: int = 0
    depth: int = 0

    @property
    def more(self) -> bool:
        return self.at < len(self.tokens)

    @property
    def token(self) -> _Token:
        if not self.more:
            raise _Bad("the filter ends too early", self.end)
        return self.tokens[self.at]

    def word(self, *expected: str) -> bool:
        """Take the next token if it is one of these, unquoted."""
        found = self.more and not self.token.quoted and self.token.text in expected
        self.at += found
        return found

    def disjunction(self) -> Expression:
        parts = [self.conjunction()]
        while self.word("or"):
            parts.append(self.conjunction())
        return parts[0] if len(parts) == 1 else Several("or", tuple(parts))

    def conjunction(self) -> Expression:
        parts = [self.negation()]
        while self.word("and"):
            parts.append(self.negation())
        return parts[0] if len(parts) == 1 else Several("and", tuple(parts))

    def negation(self) -> Expression:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _Bad(f"a filter nests deeper than {MAX_DEPTH}", self.token.at)
        if self.word("not"):
            inner: Expression = Not(self.negation())
        elif self.word("("):
            inner = self.disjunction()
            if not self.word(")"):
                at = self.token.at if self.more else self.end
                raise _Bad("a ( is not closed", at)
        else:
            inner = self.comparison()
        self.depth -= 1
        return inner

    def comparison(self) -> Expression:
        left = self.operand()
        operator = self.token
        self.at += 1
        if operator.quoted or operator.text not in ("==", "!=", "in", "not"):
            raise _unknown_operator(operator)
        if operator.text == "not" and not self.word("in"):
            raise _unknown_operator(self.token if self.more else operator)
        right = self.operand()
        if operator.text in ("==", "!="):
            selector = _selector(left)
            if selector.of in _LISTS or (selector.of in _MAPS and selector.key is None):
                raise _Bad(f"{shown(left.text)} is no single value", left.at, f'use "..." in {selector.of}')
            equal = Equal(selector, right.text)
            return equal if operator.text == "==" else Not(equal)
        within = In(_selector(right), left.text)
        return within if operator.text == "in" else Not(within)

    def operand(self) -> _Token:
        token = self.token
        if not token.quoted and (token.text in _KEYWORDS or token.text in ("(", ")", "==", "!=")):
            raise _Bad(f"{shown(token.text)} stands where a name or value is expected", token.at)
        self.at += 1
        return token


def _unknown_operator(token: _Token) -> _Bad:
    if not token.quoted and token.text in _LATER:
        return _Bad(f"{token.text} is not supported yet in filters", token.at, "use ==, !=, in, not in")
    return _Bad(f"{shown(token.text)} is no operator", token.at, "use ==, !=, in, not in")


def _selector(token: _Token) -> Selector:
    if token.quoted:
        raise _Bad(f"{shown(token.text)} is a value where a selector is expected", token.at, "as Service.Meta.version")
    if token.text in SELECTORS:
        return Selector(token.text)
    for of in _MAPS:
        if token.text.startswith(of + ".") and len(token.text) > len(of) + 1:
            return Selector(of, token.text[len(of) + 1 :])
    if any(token.text == later or token.text.startswith(later + ".") for later in _LATER_SELECTORS):
        raise _Bad(f"{shown(token.text)} is not supported yet in filters", token.at)
    raise _Bad(f"{shown(token.text)} is no selector", token.at, did_you_mean(token.text, SELECTORS))
