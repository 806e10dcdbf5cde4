"""The house rules that no linter knows, as checks of the tree: `python -m tests.repo [ROOT]` (part of `make lint`).

A rule is a function from a `Tree` to findings; `rules.RULES` names them all. `test_planted.py` plants a violation of
each in a copy of the tree and wants the rule's name in what is printed.

An exception carries its reason at its place: `# budget: why` for sizes, a text after `# noqa: X - why` and
`# type: ignore[x]  # why`, an entry of `covered.toml` for a file without a twin test.
"""
