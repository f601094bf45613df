"""Sentences about wrong calls: which argument, what it should be, what it is, what would work.

A call that is right runs nothing here: sentences are made after one has failed.
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import numpy as np
import torch
from torch import Tensor, nn


def described(value: Any) -> str:
    """The dtype and shape of a tensor or array, the keys of a dict, a number, or a type.

    >>> described(torch.zeros(2, 3)), described({"x": 1}), described([1]), described(0.5)
    ('float32[2, 3]', "a dict with the keys ['x']", 'a list', '0.5')
    """
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    if isinstance(value, np.ndarray):
        return f"a NumPy array {value.dtype}{list(value.shape)}"
    if isinstance(value, Mapping):
        return f"a {type(value).__name__} with the keys {list(value)}"
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    return f"a {type(value).__name__}"


def as_tensor(value: Any, name: str) -> str:
    """How to make a tensor of something else."""
    if isinstance(value, Mapping):
        keys = list(value)
        return f"give one of its values, such as {name}[{keys[0]!r}]" if keys else "it is empty"
    if hasattr(value, "nll") and hasattr(value, "mean"):
        drawn = (
            "a sample of it, .sample(), or its .mean" if hasattr(value, "sample") else "its mean"
        )
        return f"give {drawn}"
    if hasattr(value, "feature"):
        return "give a tensor of it, such as .feature()"
    if isinstance(value, np.ndarray) and value.dtype == np.float64:
        return f"use torch.as_tensor({name}, dtype=torch.float32)"
    if value is None:
        return "it cannot be left out"
    return f"make it a tensor, such as torch.as_tensor({name})"


def did_you_mean(name: Any, known: Iterable[str]) -> str:
    """A question after an unknown name, or nothing.

    >>> did_you_mean("imge", ["image", "speed"])
    "; did you mean 'image'?"
    """
    near = difflib.get_close_matches(str(name), list(known), 1)
    return f"; did you mean {near[0]!r}?" if near else ""


def wrong_type(name: str, value: Any, annotation: Any) -> str:
    """What is wrong with an argument that is not a tensor, or should not be one."""
    said = f"{name} should be {readable(annotation)}, got {described(value)}"
    kind = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    if isinstance(value, Tensor) and hasattr(kind, "nll"):
        return f"{said}; wrap it, such as wb.distributions.OneHot(logits, event=1)"
    if "Carry" in readable(annotation):
        if hasattr(type(value), "carry"):
            return f"{said}; use {name}.carry"
        return f"{said}; a carry is initial(batch) of the block, or state.carry of its last state"
    if kind is int and isinstance(value, float):
        return f"{said}; use int({name})"
    if isinstance(value, Tensor) and kind in (int, float):
        return f"{said}; a number of the host, such as 0.95"
    return f"{said}; see the Args of its docstring"


def readable(annotation: Any) -> str:
    """An annotation without the names of modules."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, UnionType):
        return " or ".join(map(readable, get_args(annotation)))
    if annotation is type(None):
        return "None"
    plain = isinstance(annotation, type) and get_origin(annotation) is None
    return annotation.__name__ if plain else re.sub(r"(\w+\.)+(?=\w)", "", str(annotation))


def wrong_place(arguments: Mapping[str, Any], error: str) -> str | None:
    """Which tensor of a call is on another device or of another float dtype, if an error says so.

    The parameters of the module `self` say what is right, without one the first tensor.
    """
    if not re.search("(same|expected) (dtype|device)|scalar type|tensors to be on", error):
        return None
    block = arguments.get("self")
    tensors = list(_tensors("", {k: v for k, v in arguments.items() if k != "self"}))
    first = next(block.parameters(), None) if isinstance(block, nn.Module) else None
    like = f"the parameters of this {type(block).__name__} are"
    if first is None:
        like, first = (f"{tensors[0][0]} is", tensors[0][1]) if tensors else ("", torch.empty(0))
    for name, value in tensors:
        if value.device != first.device:
            return (
                f"{name} is on the device {value.device}, {like} on {first.device}; "
                f"use {name}.to({str(first.device)!r})"
            )
        if value.is_floating_point() and value.dtype != first.dtype:
            given, wanted = (str(x.dtype).removeprefix("torch.") for x in (value, first))
            return f"{name} is {given}, {like} {wanted}; use {name}.to({first.dtype})"
    return None


def _tensors(prefix: str, value: Any) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a value by name."""
    if isinstance(value, Tensor):
        yield prefix, value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from _tensors(f"{prefix}[{key!r}]" if prefix else str(key), part)
    elif hasattr(value, "_fields"):
        for key in value._fields:
            yield from _tensors(f"{prefix}.{key}", getattr(value, key))


def not_negative(what: str, numbers: Mapping[str, Any]) -> None:
    """Raise unless these arguments of `what` are numbers from 0 up, not flags."""
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int | float | Tensor):
            raise TypeError(f"{what} takes {name} as a number, got {value!r}; such as {name}=0.3")
        if value < 0:
            raise ValueError(f"{what} needs {name} >= 0, got {value}")


def parameters_of(what: str, params: Any) -> list[Any]:
    """Parameters or parameter groups as a list.

    Raises:
        TypeError: they are a module, a tensor or a dict.
        ValueError: there are none.
    """
    if isinstance(params, nn.Module | Tensor | Mapping) or not isinstance(params, Iterable):
        way = "module.parameters()" if isinstance(params, nn.Module) else "a list of them"
        raise TypeError(f"{what} takes several parameters, got {described(params)}; use {way}")
    found = list(params)
    if not found:
        raise ValueError(
            f"{what} got no parameters; a generator such as module.parameters() is used up after "
            f"one pass: call module.parameters() again, or keep a list"
        )
    return found
