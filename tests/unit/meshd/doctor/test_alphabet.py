from meshd.doctor.alphabet import judge


def test_keys_that_every_store_writes() -> None:
    assert judge(["mesh/v1/policy/service-router/web-*", "mesh/v1/store-id"]).verdict == "ok"


def test_others_are_named_a_few_of_them() -> None:
    check = judge([f"mesh/v1/policy/fault/a b{n}" for n in range(7)])
    assert check.verdict == "warn"
    assert "'mesh/v1/policy/fault/a b0'" in check.seen
    assert "and 2 more" in check.seen
