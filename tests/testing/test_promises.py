"""Promises: how they are tested, and the message about broken ones."""

import math
import sys

import pytest
import torch
from hypothesis import strategies as st

from worldblocks import testing
from worldblocks.returns import lambda_return
from worldblocks.testing.promise import NotApplicable, Promises, Violation, for_all, searching
from worldblocks.testing.promise.compare import (
    compiled,
    difference,
    expect_compiles,
    expect_untouched,
    perturbed,
)


def known():
    """A check of a number: it is even, and small."""
    promise = Promises()

    @promise("even", "The number is even.", "the factor 2")
    def even(number):
        if number % 2:
            raise Violation("it is odd", example=number, difference=1.0, allowed=0.5)

    @promise("small", "The number is below 10.", "the size")
    def small(number):
        if number >= 10:
            raise ZeroDivisionError("too large")

    @promise("positive", "The number is positive.", "the sign")
    def positive(number):
        if number == 0:
            raise NotApplicable("0 has no sign")

    @promise.check
    def check_number(number, *, only=(), skip=()):
        return promise.run(number, number, only, skip)

    return check_number


def test_a_report_says_what_was_kept_and_what_did_not_apply():
    report = known()(0)
    assert report.kept == ("even", "small")
    assert report.skipped == {"positive": "0 has no sign"}


def test_a_broken_promise_is_a_sentence_for_a_person():
    with pytest.raises(testing.BrokenPromise) as error:
        known()(11)
    assert error.value.names == ("even", "small")
    assert str(error.value).splitlines() == [
        "int breaks 2 of the promises of check_number",
        "",
        "even: The number is even.",
        "  found: it is odd",
        "  smallest example: 11",
        "  largest difference: 1 (allowed: 0.5)",
        "  look at: the factor 2",
        "",
        "small: The number is below 10.",
        "  found: ZeroDivisionError: too large",
        "  look at: the size",
    ]


def test_promises_are_chosen_by_name():
    check = known()
    assert check(11, skip=["even", "small"]).kept == ("positive",)
    assert check(4, only="even").kept == ("even",)
    with searching(first_only=True), pytest.raises(testing.BrokenPromise) as error:
        check(11)
    assert error.value.names == ("even",)
    message = r"check_number has no promise \['odd'\]; it has even, small, positive"
    with pytest.raises(ValueError, match=message):
        check(1, only="odd")
    with pytest.raises(ValueError, match=message):
        testing.suite(check, 1, skip="odd")


test_a_suite_has_a_test_for_each = testing.suite(
    testing.check_return,
    lambda reward, discount, value: lambda_return(reward, discount, value, 1.0),
    cuts=False,
    skip="compiles",
)


def test_the_suite_is_parametrised_by_promise():
    [mark] = test_a_suite_has_a_test_for_each.pytestmark
    names = [promise.name for promise in testing.promises(testing.check_return)]
    assert [*mark.args[1], "compiles"] == names


def test_the_smallest_example_is_shown_with_the_largest_difference():
    def body(number):
        if number >= 3:
            raise Violation("three or more", difference=float(number))

    with pytest.raises(Violation) as error:
        for_all(st.integers(0, 1000), body)
    assert error.value.example == 3
    assert error.value.difference > 3
    with pytest.raises(Violation) as error:
        for_all(st.just(0), body, also=[0, 7])
    assert error.value.example == 7


def test_examples_are_the_same_in_every_run():
    seen = []
    for _ in range(2):
        drawn = []
        for_all(st.integers(), drawn.append)
        seen.append(drawn)
    assert seen[0] == seen[1]
    assert len(seen[0]) >= 4


def test_differences():
    """Relative for large numbers, absolute for small ones, infinite where only one is NaN."""
    x = torch.tensor([1.0, 200.0])
    assert difference([x], [x + 2]) == pytest.approx(2 / 202)
    assert difference([x / 1000], [x / 1000 + 0.1]) == pytest.approx(0.1)
    nan = torch.tensor([math.nan, 200.0])
    assert (difference([x], [nan]), difference([nan], [nan])) == (math.inf, 0.0)
    with pytest.raises(Violation, match="got 1 tensors where 2 were expected"):
        difference([x], [x, x])
    with pytest.raises(Violation, match=r"got a tensor of shape \(2,\) where \(1,\) was expected"):
        difference([x], [x[:1]])


def test_a_perturbed_block_is_the_same_every_time_and_leaves_the_random_state():
    torch.manual_seed(1)
    expected = torch.rand(())
    torch.manual_seed(1)
    first, second = (perturbed(lambda: torch.nn.Linear(2, 3)) for _ in range(2))
    assert torch.equal(first.weight, second.weight)
    assert torch.equal(torch.rand(()), expected)


def test_what_cannot_be_captured_or_writes_is_found():
    def branch(x):
        return x + 1 if x.sum() > 0 else x - 1

    with pytest.raises(Exception, match=r"[Dd]ata-dependent"):
        expect_compiles(branch, [torch.ones(3)], "a branch")
    with pytest.raises(Violation, match="it wrote"):
        expect_untouched(lambda x: x.add_(1), [torch.ones(3)], "it wrote")


@pytest.mark.parametrize("name", ["trajectories", "parameters"])
def test_a_missing_extra_is_named(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    message = rf"wb.testing.{name} needs the extra 'testing': pip install -e \"\.\[testing\]"
    with pytest.raises(ImportError, match=message):
        getattr(testing, name)(*[2] * (name == "parameters"))


def test_compiling_leaves_no_record_in_the_log(caplog):
    """pytest would print all of them below a broken promise."""
    with compiled(lambda x: 2 * x) as graph:
        assert graph(torch.ones(3)).tolist() == [2, 2, 2]
    assert not [record for record in caplog.records if record.name == "torch.__trace"]
