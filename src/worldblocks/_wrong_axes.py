"""Sentences about tensors of a call that do not fit: their dtypes, axes and sizes."""

import collections
import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

from worldblocks._wrong_call import as_tensor, described


class Argument(NamedTuple):
    """A tensor of a call, and the annotations of which one must hold.

    A field of a NamedTuple is an argument too, such as `carry.stoch`.
    """

    name: str
    value: Any
    expected: tuple[Any, ...]

    @property
    def sentence(self) -> str:
        """What it should be and what it is."""
        wanted = " or ".join(hint.__name__ for hint in self.expected)
        return f"{self.name} should be {wanted}, got {described(self.value)}"


def wrong_tensors(arguments: list[Argument]) -> str | None:
    """What is wrong with the tensors of a call; None if nothing is found."""
    for argument in arguments:
        if not isinstance(argument.value, Tensor):
            return f"{argument.sentence}; {as_tensor(argument.value, argument.name)}"
    for argument in arguments:
        if remedy := _dtype(argument) or _rank(argument):
            return f"{argument.sentence}; {remedy}"
    return _time_first(arguments) or _other_size(arguments)


def _dtype(argument: Argument) -> str | None:
    """How to get the dtype that is wanted, if it is another."""
    if any(_is_of(hint, argument.value) for hint in argument.expected):
        return None
    name, given = argument.name, str(argument.value.dtype).removeprefix("torch.")
    wanted = argument.expected[0].dtype.__name__
    if wanted.startswith("Float"):
        if given == "uint8":
            return f"use {name}.float(), for pixels {name}.float() / 255"
        if given.startswith(("int", "uint")):
            return f"use {name}.float(), for indices torch.nn.functional.one_hot({name}).float()"
        return f"use {name}.float()"
    if wanted == "UInt8" and "height" in argument.expected[0].dim_str:
        return f"an image is uint8 in 0…255: use (255 * {name}).byte() for numbers in 0…1"
    method = {"Bool": "bool", "UInt8": "byte", "Int64": "long"}.get(wanted)
    return f"use {name}.{method}()" if method else f"use a tensor of the kind {wanted}"


def _is_of(hint: Any, value: Tensor) -> bool:
    """True if a tensor has a dtype of an annotation; `Shaped` takes any."""
    kinds = hint.dtypes
    return not isinstance(kinds, tuple | list) or str(value.dtype).removeprefix("torch.") in kinds


def _rank(argument: Argument) -> str | None:
    """How to get the number of axes that is wanted, if it is another."""
    if any(_fits(hint, argument.value.ndim) for hint in argument.expected):
        return None
    given, axes = argument.value.ndim, [len(hint.dims) for hint in argument.expected]
    name, shape = argument.name, argument.value.shape
    if given < max(axes):
        return (
            f"it has {given} of {max(axes)} axes: {name}[None] adds one in front, "
            f"{name}[:, None] a second"
        )
    more = f"it has {given} axes instead of {max(axes)}: "
    if shape[-1] == 1:
        return more + f"{name}.squeeze(-1) removes the last"
    return more + f"{name}.flatten(0, 1) joins the first two, {name}[:, t] takes one row"


def _fits(hint: Any, axes: int) -> bool:
    """True if a tensor with that number of axes may have an annotation."""
    if hint.index_variadic is None:
        return axes == len(hint.dims)
    return axes >= len(hint.dims) - 1


def _sizes(argument: Argument, swapped: bool = False) -> dict[str, Any]:
    """The size of each named axis of a tensor; of `*axes` a tuple of sizes."""
    value = argument.value
    fit = [x for x in argument.expected if _fits(x, value.ndim) and _is_of(x, value)]
    words, shape = fit[0].dim_str.split(), list(value.shape)
    if swapped:
        place = words.index("batch")
        shape[place], shape[place + 1] = shape[place + 1], shape[place]
    sizes: dict[str, Any] = {}
    for place, word in enumerate(words):
        if word.startswith(("*", "...")):
            many = len(shape) - len(words) + 1
            sizes[word], shape[place : place + many] = tuple(shape[place : place + many]), [0]
        else:
            sizes[word] = shape[place]
    return {word: size for word, size in sizes.items() if not word.startswith(("...", "{", "_"))}


def _found(sizes: Mapping[str, dict[str, Any]]) -> dict[str, dict[Any, list[str]]]:
    """The axes of which sizes differ: for each size the arguments that have it."""
    found: dict[str, dict[Any, list[str]]] = collections.defaultdict(dict)
    for name, axes in sizes.items():
        for axis, size in axes.items():
            if axis.isdigit():
                found[axis].setdefault(int(axis), [])
            found[axis].setdefault(size, []).append(name)
    return {axis: by_size for axis, by_size in found.items() if len(by_size) > 1}


def _time_first(arguments: list[Argument]) -> str | None:
    """The fewest arguments that would fit if their axes batch and time were exchanged."""
    plain = {x.name: _sizes(x) for x in arguments}
    both = [x for x in arguments if "batch time" in " ".join(plain[x.name])]
    if not _found(plain):
        return None
    for count in range(1, len(both) + 1):
        for chosen in reversed(list(itertools.combinations(both, count))):
            if _found(plain | {x.name: _sizes(x, swapped=True) for x in chosen}):
                continue
            said = _joined([x.sentence for x in chosen])
            return f"{said}; time first? Here batch is first: use {chosen[0].name}.transpose(0, 1)"
    return None


def _other_size(arguments: list[Argument]) -> str | None:
    """The argument of which an axis has another size than that of most."""
    for axis, by_size in _found({x.name: _sizes(x) for x in arguments}).items():
        votes = {size: len({x.partition(".")[0] for x in by_size[size]}) for size in by_size}
        few = [size for size in by_size if votes[size] == min(v for v in votes.values() if v)]
        few = [size for size in few if votes[size]]
        fields = [size for size in few if "." in by_size[size][0]]
        own = (fields or few)[-1]
        blamed = next(x for x in arguments if x.name == by_size[own][0])
        others = _joined(
            [
                f"{_joined(names)} {'has' if len(names) == 1 else 'have'} {_size(size)}"
                if names
                else f"it must be {size}"
                for size, names in by_size.items()
                if size != own
            ]
        )
        said = f"{blamed.sentence}; its axis {axis} is {_size(own)}, {others}"
        if axis == "time" and any(abs(own - size) == 1 for size in by_size):
            long = by_size[max(by_size)][0]
            return (
                f"{said}: one row too many in {long}? Actions are chosen at the rows "
                f"{long}[:, :-1] and lead to the rows {long}[:, 1:]"
            )
        return said + (": nothing broadcasts" if axis.startswith("*") else "; they must be equal")
    return None


def _joined(parts: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))


def _size(size: Any) -> str:
    return str(list(size)) if isinstance(size, tuple) else str(size)
