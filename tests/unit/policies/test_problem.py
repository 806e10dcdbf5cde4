"""Problems: said with place and hint, on one line, without echoing secrets at length."""

from policies.problem import Problem, did_you_mean, nearest, plain, printable, shown


def test_a_problem_in_one_line() -> None:
    said = Problem(kind="mesh", name="mesh", reason="is wrong")
    assert str(said) == "mesh/mesh: is wrong"
    said = Problem(kind="k", name="n", file="a.yaml", line=3, column=7, path="Routes[0]", reason="is x", hint="use y")
    assert str(said) == "a.yaml:3:7: Routes[0]: is x (use y)"
    assert str(Problem(kind="k", name="n", line=3, reason="is x")) == "k/n:3: is x"


def test_shown_text_is_cut_and_on_one_line() -> None:
    assert shown("a") == '"a"'
    assert shown('a"\n\x1b[31m') == '"a\\"\\n\\x1b[31m"'
    assert shown("x" * 1000) == '"' + "x" * 125 + '..."'
    assert printable("x\ud83d") == "x\\ud83d"


def test_the_nearest_name() -> None:
    known = ("RequestTimeout", "PerTryTimeout", "NumRetries")
    assert nearest("request_timout", known) == "RequestTimeout"
    assert nearest("zzz", known) == ""
    assert nearest("x" * 1000, known) == ""


def test_hints() -> None:
    assert did_you_mean("htp", ("http", "tcp")) == "did you mean http?"
    assert did_you_mean("zzz", ("http", "tcp")) == "known: http, tcp"
    assert did_you_mean("zzz", [f"name{i}" for i in range(20)]) == ""
    assert did_you_mean("zzz", ()) == ""


def test_spellings_of_one_name_are_equal() -> None:
    assert plain("PathPrefix") == plain("path_prefix") == plain("pathprefix")
