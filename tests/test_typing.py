import inspect
from typing import Annotated, Literal, NamedTuple, Optional, Protocol, Union, runtime_checkable

import numpy as np
import pytest
import torch
from beartype.vale import Is
from jaxtyping import Bool, Float, TypeCheckError
from torch import Tensor

from worldblocks.typing import typed


class Memory(NamedTuple):
    deter: Float[Tensor, "*batch deter"]
    stoch: Float[Tensor, "*batch groups classes"]
    note: str = ""


@runtime_checkable
class Carried(Protocol):
    @property
    def deter(self) -> Tensor: ...


def memory(batch=(3,), deter=7, groups=5, classes=2):
    return Memory(torch.zeros(*batch, deter), torch.zeros(*batch, groups, classes))


@typed
def scale(x: Float[Tensor, "batch time"], by: float) -> Float[Tensor, "batch time"]:
    """Multiply by a number."""
    return x * by


@typed
def step(
    carry: Annotated[Memory, "batch"],
    embed: Float[Tensor, "batch embed"],
    reset: Bool[Tensor, " batch"] | None = None,
) -> Annotated[Memory, "batch"]:
    return Memory(carry.deter + embed.sum(-1, keepdim=True), carry.stoch)


def test_right_shapes_pass():
    assert scale(torch.ones(2, 3), 2.0).sum() == 12
    assert step(memory(), torch.ones(3, 4), torch.ones(3) > 0).deter.eq(4).all()


def test_float_takes_an_int():
    assert scale(torch.ones(2, 3), 2).sum() == 12


def test_it_keeps_name_docstring_and_signature():
    assert (scale.__name__, scale.__doc__) == ("scale", "Multiply by a number.")
    assert list(inspect.signature(scale).parameters) == ["x", "by"]


def test_axes_of_a_name_agree_between_arguments():
    @typed
    def add(a: Float[Tensor, "batch time"], b: Float[Tensor, "batch time"]):
        return a + b

    with pytest.raises(TypeCheckError, match=r"add: b should be .*batch time.*got float32\[3\]"):
        add(torch.zeros(2, 3), torch.zeros(3))


def test_a_dtype_is_part_of_the_shape():
    with pytest.raises(TypeCheckError, match=r"x should be Float.*got int64\[2, 3\]"):
        scale(torch.zeros(2, 3, dtype=torch.int64), 1.0)


@pytest.mark.parametrize(
    ("carry", "message"),
    [
        (memory(batch=(4,)), r"step: carry.deter should be .*batch deter.*got float32\[4, 7\]"),
        (memory()._replace(deter=memory().stoch), r"carry.deter should .*got float32\[3, 5, 2\]"),
        (memory()._replace(deter=torch.zeros(7)), r"carry.deter should be .*got float32\[7\]"),
        (memory()._replace(stoch=torch.zeros(3, 10)), r"carry.stoch .*groups.*float32\[3, 10\]"),
        (memory()._replace(deter=torch.zeros(3, 7) > 0), r"carry.deter .*got bool\[3, 7\]"),
        (memory()._replace(deter=None), r"carry.deter should be .*got None"),
    ],
    ids=["batch", "swapped", "missing", "flat", "dtype", "none"],
)
def test_a_wrong_field_is_named(carry, message):
    with pytest.raises(TypeCheckError, match=message):
        step(carry, torch.zeros(3, 4))


class Ring(NamedTuple):
    key: Float[Tensor, "*batch token feature"]
    valid: Bool[Tensor, "*batch token"]


class Inner(NamedTuple):
    ring: Ring
    plain: object = ()


class Held(NamedTuple):
    memory: object
    stoch: Float[Tensor, "*batch stoch"] | Float[Tensor, "*batch groups classes"]


def held(memory=None, stoch=(5,)):
    ring = Ring(torch.zeros(3, 4, 2), torch.zeros(3, 4, dtype=torch.bool))
    return Held(ring if memory is None else memory, torch.zeros(3, *stoch))


@typed
def keep(carry: Annotated[Held, "batch"], embed: Float[Tensor, "batch embed"]) -> int:
    return len(embed)


def test_a_field_may_have_one_of_several_shapes():
    embed = torch.zeros(3, 6)
    assert [keep(held(stoch=shape), embed) for shape in ((5,), (5, 2))] == [3, 3]
    union = (
        r"keep: carry.stoch should be Float\[Tensor, 'batch stoch'\] or "
        r"Float\[Tensor, 'batch groups classes'\], got "
    )
    for stoch, got in (
        (torch.zeros(3), r"float32\[3\]"),
        (torch.zeros(3, 5, 2, 1), r"float32\[3, 5, 2, 1\]"),
        (torch.zeros(4, 5), r"float32\[4, 5\]"),
        (torch.zeros(3, 5) > 0, r"bool\[3, 5\]"),
        (None, "None"),
    ):
        with pytest.raises(TypeCheckError, match=union + got):
            keep(held()._replace(stoch=stoch), embed)


class Turned(NamedTuple):
    x: Float[Tensor, "*batch high wide wide"] | Float[Tensor, "*batch wide high feature"]


def test_a_shape_that_did_not_fit_fixes_no_axis():
    """The first has fixed `high` and a `wide` of its own before it fails at the second `wide`."""

    @typed
    def beside(carry: Annotated[Turned, "batch"], x: Float[Tensor, "batch wide"]) -> int:
        return x.shape[1]

    assert beside(Turned(torch.zeros(3, 5, 2, 4)), torch.zeros(3, 5)) == 5
    assert beside(Turned(torch.zeros(3, 5, 2, 2)), torch.zeros(3, 2)) == 2
    with pytest.raises(
        TypeCheckError, match=r"beside: carry.x should be .*got float32\[3, 5, 2, 4\]"
    ):
        beside(Turned(torch.zeros(3, 5, 2, 4)), torch.zeros(3, 2))


class Written(NamedTuple):
    stoch: Union[Float[Tensor, "*batch stoch"], Float[Tensor, "*batch groups classes"]]  # noqa: UP007


def test_a_union_is_checked_however_it_is_written():
    @typed
    def read(carry: Annotated[Written, "batch"]) -> int:
        return len(carry.stoch)

    assert read(Written(torch.zeros(3, 5))) == 3
    with pytest.raises(TypeCheckError, match=r"read: carry.stoch should be .*got float32\[3\]"):
        read(Written(torch.zeros(3)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"key": torch.zeros(3, 4)},
            r"key should be .*'batch token feature'\], got float32\[3, 4\]",
        ),
        ({"key": torch.zeros(2, 4, 2)}, r"key should be .*got float32\[2, 4, 2\]"),
        ({"valid": torch.zeros(3, 4)}, r"valid should be Bool\[.*got float32\[3, 4\]"),
        ({"valid": torch.zeros(3, 5) > 0}, r"valid should be .*'batch token'\], got bool\[3, 5\]"),
        ({"key": None}, r"key should be .*got None"),
    ],
    ids=["missing", "batch", "dtype", "tokens", "none"],
)
def test_a_tuple_within_a_tuple_is_checked_and_named(change, message):
    ring = held().memory._replace(**change)
    with pytest.raises(TypeCheckError, match=rf"keep: carry.memory.{message}"):
        keep(held(ring), torch.zeros(3, 6))
    with pytest.raises(TypeCheckError, match=rf"keep: carry.memory.ring.{message}"):
        keep(held(Inner(ring)), torch.zeros(3, 6))


def test_what_is_no_named_tuple_within_one_is_left_alone():
    embed = torch.zeros(3, 6)
    for memory in (
        torch.zeros(9),
        (torch.zeros(9),),
        {"key": torch.zeros(9)},
        Inner(held().memory),
    ):
        assert keep(held(memory), embed) == 3


def test_a_tuple_within_the_result_is_checked():
    @typed
    def forget(carry: Annotated[Held, "batch"]) -> Annotated[Held, "batch"]:
        return carry._replace(memory=carry.memory._replace(valid=carry.memory.valid[1:]))

    with pytest.raises(TypeCheckError, match=r"forget: the result.memory.valid .*bool\[2, 4\]"):
        forget(held())


def test_a_layout_that_passed_says_what_is_within():
    """The same types outside, other ones inside: that is another layout."""
    embed = torch.zeros(3, 6)
    for _ in range(2):
        assert keep(held(), embed) == 3
        wrong = held().memory._replace(valid=torch.zeros(3, 4))
        with pytest.raises(TypeCheckError, match=r"carry.memory.valid should be Bool"):
            keep(held(wrong), embed)


def test_a_field_that_is_no_tensor_is_left_alone():
    assert step(memory()._replace(note="any"), torch.zeros(3, 4)).note == ""


def test_the_fields_of_the_result_are_checked():
    @typed
    def swapped(carry: Annotated[Memory, "batch"]) -> Annotated[Memory, "batch"]:
        return Memory(carry.deter.T, carry.stoch)

    with pytest.raises(TypeCheckError, match=r"swapped: the result.deter .*got float32\[7, 3\]"):
        swapped(memory())


def test_other_axes_may_stand_for_the_batch():
    @typed
    def sequence(states: Annotated[Memory, "batch time"], flag: Float[Tensor, "batch time"]):
        return states.deter

    assert sequence(memory((3, 6)), torch.zeros(3, 6)).shape == (3, 6, 7)
    with pytest.raises(TypeCheckError, match=r"states.deter should be .*'batch time deter'"):
        sequence(memory((6, 4)), torch.zeros(3, 6))


def test_without_axes_batch_is_any_number_of_axes():
    @typed
    def free(states: Memory, other: Memory) -> None:
        return None

    free(memory((2, 3)), memory((2, 3)))
    with pytest.raises(TypeCheckError, match=r"other.deter should be .*got float32\[3, 7\]"):
        free(memory((2, 3)), memory((3,)))


@pytest.mark.parametrize("hint", [Annotated[Memory, "batch"] | None, Optional[Memory]])  # noqa: UP045
def test_an_optional_tuple_may_be_none_and_is_checked_where_it_is_not(hint):
    @typed
    def start(x: Float[Tensor, " batch"], carry: hint = None) -> int:
        return 0 if carry is None else 1

    x = torch.zeros(3)
    assert [start(x), start(x, None), start(x, memory())] == [0, 0, 1]
    with pytest.raises(TypeCheckError, match=r"carry.stoch should .*got float32\[3, 10\]"):
        start(x, memory()._replace(stoch=torch.zeros(3, 10)))


def test_another_tuple_is_refused():
    with pytest.raises(TypeCheckError, match="carry should be"):
        step((torch.zeros(3, 7), torch.zeros(3, 5, 2)), torch.zeros(3, 4))


@pytest.mark.parametrize("value", ["1", "true", "True"])
def test_the_off_switch(monkeypatch, value):
    monkeypatch.setenv("JAXTYPING_DISABLE", value)
    assert scale(torch.ones(2, 3, 4), 2.0).shape == (2, 3, 4)
    assert step(memory(batch=(4,)), torch.zeros(1, 6)).deter.shape == (4, 7)


def test_a_graph_has_no_checks(same_when_compiled):
    same_when_compiled(lambda x: step(memory(), x), torch.randn(3, 4))
    torch.compiler.reset()
    compiled = torch.compile(lambda x: scale(x, 2.0), fullgraph=True, backend="aot_eager")
    assert compiled(torch.ones(2, 3, 4)).shape == (2, 3, 4)


def test_a_layout_that_passed_is_checked_no_more_and_any_other_is():
    """For arguments and results: the same arguments may give another result."""
    given = []

    @typed
    def wide(x: Float[Tensor, "batch time"], by: float) -> Float[Tensor, "batch time"]:
        given.append(x)
        return x if by else x.T

    for _ in range(2):
        assert wide(torch.zeros(2, 3), 1.0).shape == (2, 3)
        with pytest.raises(TypeCheckError, match=r"the result should be .*got f32\[3,2\]"):
            wide(torch.zeros(2, 3), 0.0)
        with pytest.raises(TypeCheckError, match=r"x should be"):
            wide(torch.zeros(2, 3, 4), 1.0)
        with pytest.raises(TypeCheckError, match=r"by should be float, got '1'"):
            wide(torch.zeros(2, 3), "1")
    assert len(given) == 4, "a result is checked without a second call"


def test_an_axis_that_a_module_fixes_is_checked_at_each_call():
    class Part:
        def __init__(self, size):
            self.size = size

        @typed
        def __call__(self, x: Float[Tensor, "batch {self.size}"]) -> Float[Tensor, ""]:
            return x.sum()

    assert Part(3)(torch.ones(2, 3)) == 6
    with pytest.raises(TypeCheckError, match="x should be"):
        Part(4)(torch.ones(2, 3))


def sized(x: Float[np.ndarray, "batch time"]):
    return x


def chosen(x: Literal["sum", "mean"]):
    return x


def positive(x: Annotated[int, Is[lambda n: n > 0]]):
    return x


def numbers(x: set[int]):
    return x


@pytest.mark.parametrize(
    ("function", "right", "wrong"),
    [
        (sized, np.zeros((2, 3), np.float32), np.zeros((2, 3, 4), np.float32)),
        (chosen, "sum", "median"),
        (positive, 1, -1),
        (numbers, {1}, {"a"}),
    ],
    ids=["array", "literal", "validator", "set"],
)
def test_what_a_layout_does_not_show_is_checked_each_time(function, right, wrong):
    checked = typed(function)
    assert checked(right) is right
    with pytest.raises(TypeCheckError):
        checked(wrong)


class Numbers(NamedTuple):
    deter: Float[Tensor, "*batch deter"]


@typed
def any_step(
    carry: Annotated[Carried, "batch"], embed: Float[Tensor, "batch embed"]
) -> Annotated[Carried, "batch"]:
    return carry._replace(deter=carry.deter * embed.sum())


def test_where_a_protocol_stands_the_fields_of_what_is_given_are_checked():
    embed = torch.ones(3, 4)
    for carry in (memory(), Numbers(torch.ones(3, 7))):
        assert type(any_step(carry, embed)) is type(carry)
    wrong = r"any_step: carry.deter should be .*'batch deter'.*got float32\[2, 7\]"
    for carry in (memory(batch=(2,)), Numbers(torch.ones(2, 7))):
        with pytest.raises(TypeCheckError, match=wrong):
            any_step(carry, embed)
    with pytest.raises(TypeCheckError, match=r"carry.stoch should be .*got float32\[3, 10\]"):
        any_step(memory()._replace(stoch=torch.zeros(3, 10)), embed)
    with pytest.raises(TypeCheckError, match="carry should be"):
        any_step(torch.ones(3, 7), embed)
