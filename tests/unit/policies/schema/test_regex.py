"""Regular expressions: what the proxy's engine takes, decided without running one."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.schema.regex import MAX_LENGTH, fault

GOOD = [
    "",
    "/v[0-9]+/.*",
    "a|b|",
    "(a|b)*c+?d{2}e{2,}f{2,3}?",
    "(?:x)(?i:y)(?i-s:z)()",
    r"\d\D\w\W\s\S\b\B\A\z\n\t\.\\\/\-",
    "^a$",
    "[^a-z]",
    "[]a]",
    "[^]a]",
    "[a-]",
    r"[\d\]\-\n]",
    "[[:alpha:][:^digit:]_]",
    "a]b}",
    r"[!\--]",
    "é+",
    ".{0,100}",
    r"\w{20}",
    r"[\w.-]{20}",
    r"\d{100}",
]

BAD = [
    ("(?=a)", "look-around"),
    ("(?!a)", "look-around"),
    ("(?<=a)", "look-around"),
    ("(?<!a)b", "look-around"),
    (r"(a)\1", "backreference"),
    (r"(?P<n>a)", "only"),
    (r"(?<n>a)", "only"),
    (r"\k<n>", "backreference"),
    ("(?>a)", "only"),
    ("(?i)a", "only"),
    ("(?ii:a)", "only"),
    ("(?-:a)", "only"),
    ("(?#c)", "only"),
    ("a*+", "possessive"),
    ("a**", "possessive"),
    ("*a", "nothing to repeat"),
    ("(*a)", "nothing to repeat"),
    ("a|*", "nothing to repeat"),
    ("^*", "nothing to repeat"),
    ("{2}", "nothing to repeat"),
    ("a{", "repetition"),
    ("a{x}", "repetition"),
    ("a{2", "ends too early"),
    ("a{2;}", "repetition"),
    ("a{3,2}", "counts up to"),
    ("a{1001}", "counts up to"),
    ("((a{100}){100}){100}", "too large"),
    (r"\w{40}", "too large"),
    (r"[^\w]{40}", "too large"),
    ("|".join([r"\w{20}"] * 3), "too large"),
    ("(", "not closed"),
    ("(?", "only"),
    ("a)", "closes nothing"),
    ("[a", "ends too early"),
    ("[]", "ends too early"),
    ("[z-a]", "range"),
    (r"[a-\d]", "range"),
    ("[a&&b]", "set operations"),
    ("[a--b]", "set operations"),
    ("[!--]", "set operations"),
    ("[a-&&]", "set operations"),
    ("[[a]]", "class"),
    ("[[:alpa:]]", "class"),
    ("\\", "ends too early"),
    (r"\q", "escape"),
    (r"\pL", "escape"),
    (r"[\b]", "escape"),
    ("(" * 20 + ")" * 20, "nest deeper"),
    ("a" * (MAX_LENGTH + 1), "longer"),
]


@pytest.mark.parametrize("pattern", GOOD)
def test_taken(pattern: str) -> None:
    assert fault(pattern) is None


@pytest.mark.parametrize(("pattern", "reason"), BAD)
def test_refused(pattern: str, reason: str) -> None:
    assert reason in (fault(pattern) or "")


@given(st.text(alphabet="ab01[]()^$|*+?{},-\\.:=!<>&~dwsbi", max_size=12))
def test_what_is_taken_compiles_elsewhere_too(pattern: str) -> None:
    """Python's dialect takes everything that both engines read alike; nothing raises for what is refused."""
    text = re.sub(r"\[:\^?[a-z]+:\]", "a", pattern).replace("\\z", "\\Z")
    if fault(pattern) is None:
        re.compile(text)
