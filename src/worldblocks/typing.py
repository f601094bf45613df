"""Shape checks for public functions (`typed`) and the vocabulary of axis names.

The project uses these axis names and no others: `batch time horizon height width channel action
embed deter groups classes feature bins token task env`.
"""

import collections.abc
import functools
import inspect
import os
import re
import threading
from collections.abc import Callable, Iterator
from types import UnionType
from typing import Annotated, Any, ParamSpec, TypeVar, Union, get_args, get_origin

import torch
from beartype import BeartypeConf, beartype
from jaxtyping import TypeCheckError, jaxtyped

from worldblocks._wrong_axes import Argument, wrong_tensors
from worldblocks._wrong_call import readable, wrong_place, wrong_type

P = ParamSpec("P")
R = TypeVar("R")

REMEMBERED = 4096  # cached layouts per function, to bound memory

_checker = beartype(conf=BeartypeConf(is_pep484_tower=True))  # `float` accepts an int


def typed(function: Callable[P, R]) -> Callable[P, R]:
    """Check the shapes and dtypes of a function's tensors when it is called eagerly.

    Annotations are jaxtyping's. Axes of the same name must agree across all arguments, the result
    and the fields of every NamedTuple among them. `Annotated[Carry, "batch"]` substitutes `batch`
    for `*batch` in the fields of `Carry`. If the annotation is a protocol, the fields of the actual
    NamedTuple are checked. While compiling, the bare function runs. `JAXTYPING_DISABLE=1` turns all
    checks off.

    Layouts (types, dtypes and shapes of arguments and result) that have passed are cached and not
    checked again. Annotations that depend on more than the layout, such as a `Literal` or an axis
    `{self.size}`, are checked at every call.

    Raises:
        jaxtyping.TypeCheckError: names the argument (`carry.stoch`), its expected and actual shape,
            and what would work.
        TypeError: an argument is missing or unknown.
        RuntimeError: PyTorch refused an operation, because an argument is on another device or of
            another float dtype than the module or the other arguments.
    """
    ready = threading.local()  # the result, when only that is left to check
    checked = _checked(function, ready)
    remember = _decided_by_layout(function)
    passed: dict[Any, set[Any]] = {}  # layout of the arguments to layouts of the result

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        if torch.compiler.is_compiling() or _off():
            return function(*args, **kwargs)
        try:
            given = layout(args), layout(kwargs)
            if given not in passed:
                out = checked(*args, **kwargs)
                if not remember:
                    return out
                if len(passed) >= REMEMBERED:
                    passed.clear()
                passed[given] = {layout(out)}
                return out
            out = function(*args, **kwargs)
            returned = layout(out)
            if returned not in passed.get(given, ()):
                ready.result = out
                try:
                    checked(*args, **kwargs)
                finally:
                    ready.__dict__.clear()
                passed.setdefault(given, set()).add(returned)
            return out
        except (TypeError, RuntimeError) as error:
            said = _explained(function, args, kwargs, error)
            if said is None:
                raise
            raise said from (error if isinstance(error, RuntimeError) else None)

    return wrapper


def placed(function: Callable[P, R]) -> Callable[P, R]:
    """Name the argument on another device, or of another float dtype, if a call fails by it."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        if torch.compiler.is_compiling():
            return function(*args, **kwargs)
        try:
            return function(*args, **kwargs)
        except RuntimeError as error:
            said = _explained(function, args, kwargs, error)
            if said is None:
                raise
            raise said from error

    return wrapper


def _checked(function: Callable[P, R], ready: threading.local) -> Callable[P, R]:
    """The function with all its checks. A result in `ready` is checked instead of a new call."""
    signature = inspect.signature(function)
    tuples = {
        name: found
        for name, parameter in signature.parameters.items()
        if (found := _tuple(parameter.annotation))
    }
    result = _tuple(signature.return_annotation)

    def inside(*args: P.args, **kwargs: P.kwargs) -> R:
        if tuples:
            bound = signature.bind(*args, **kwargs).arguments
            for name, found in tuples.items():
                _check(function, name, bound.get(name), *found)
        is_ready = hasattr(ready, "result")
        out = ready.__dict__.pop("result") if is_ready else function(*args, **kwargs)
        if result:
            _check(function, "the result", out, *result)
        return out

    functools.update_wrapper(inside, function)
    return jaxtyped(typechecker=_checker)(inside)


def _explained(
    function: Callable[..., Any], args: Any, kwargs: Any, error: Exception
) -> Exception | None:
    """A sentence in place of an error, if this call was wrong and not one inside."""
    signature, where, text = inspect.signature(function), function.__qualname__, str(error)
    try:
        bound = signature.bind(*args, **kwargs).arguments
    except TypeError as unbound:
        names = ", ".join(name for name in signature.parameters if name != "self")
        return TypeError(f"{where}: {unbound}; it takes {names}")
    if isinstance(error, RuntimeError):
        said = wrong_place(bound, text)
        return RuntimeError(f"{where}: {said}") if said else None
    in_field = text.startswith(f"{where}: ")  # by `_check`
    if not in_field and f" of {function.__module__}.{where}.\n" not in text:
        return None
    if "whilst checking the return value" in text:
        hint = signature.return_annotation
        given = re.search(r"Actual value: (.*)", text)
        return TypeCheckError(
            f"{where}: the result should be {readable(hint)}, got {given and given[1]}"
        )
    tensors = [
        argument
        for name, value in bound.items()
        for argument in _arguments(name, value, signature.parameters[name].annotation)
    ]
    blamed = re.search(r"parameter '(\w+)'", text)
    name = blamed[1] if blamed else ""
    said = None
    if ": the result." not in text and (in_field or name in [x.name for x in tensors]):
        said = wrong_tensors(tensors)
    if said is None and name:
        said = wrong_type(name, bound.get(name), signature.parameters[name].annotation)
    return TypeCheckError(f"{where}: {said}") if said else None


def _arguments(name: str, value: Any, annotation: Any) -> Iterator[Argument]:
    """The tensors that a parameter should be or have as fields, with their annotations."""
    union = get_origin(annotation) in (Union, UnionType)
    members = get_args(annotation) if union else (annotation,)
    hints = tuple(hint for hint in members if hasattr(hint, "dim_str"))
    if hints and (isinstance(value, torch.Tensor) or len(hints) == len(members)):
        yield Argument(name, value, hints)
    elif (found := _tuple(annotation)) and hasattr(value, "_fields"):
        yield from _of_fields(name, value, *found)


def _of_fields(name: str, value: Any, kind: type | None, axes: str | None) -> Iterator[Argument]:
    """The fields of a NamedTuple that are annotated as tensors, also of NamedTuples within."""
    for field, hints in _fields(kind or type(value), axes).items():
        yield Argument(f"{name}.{field}", getattr(value, field), hints)
    for field in getattr(value, "_fields", ()):
        part = getattr(value, field)
        if hasattr(part, "_fields"):
            yield from _of_fields(f"{name}.{field}", part, None, axes)


def layout(value: Any) -> Any:
    """A hashable description of types, dtypes and shapes: all that a check depends on.

    >>> layout((torch.zeros(2, 3), 0.5))
    (<class 'tuple'>, (torch.float32, torch.Size([2, 3])), <class 'float'>)
    """
    kind = type(value)
    if isinstance(value, torch.Tensor):
        return value.dtype, value.shape
    if isinstance(value, tuple | list):
        return kind, *map(layout, value)
    if isinstance(value, dict):
        return kind, *((key, layout(part)) for key, part in value.items())
    return kind


def _decided_by_layout(function: Callable[..., Any]) -> bool:
    """True if the checks of a function depend on the layout of its arguments and result only."""
    signature = inspect.signature(function)
    hints = [parameter.annotation for parameter in signature.parameters.values()]
    return all(map(_layout_decides, [*hints, signature.return_annotation]))


def _layout_decides(hint: Any) -> bool:
    """True if a layout is enough to check an annotation."""
    if hasattr(hint, "dim_str"):
        return issubclass(hint.array_type, torch.Tensor) and "{" not in hint.dim_str
    if hint in (None, Any, inspect.Parameter.empty) or isinstance(hint, TypeVar):
        return True
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:  # the fields of a NamedTuple, and their axes
        return _tuple(hint) is not None and _layout_decides(parts[0])
    if origin in (Union, UnionType, tuple, list, dict):
        return all(_layout_decides(part) for part in parts if part is not ...)
    if origin is collections.abc.Callable:
        return True
    return inspect.isclass(hint) and origin is None


def _off() -> bool:
    return os.environ.get("JAXTYPING_DISABLE", "0").lower() in ("1", "true")


def _tuple(annotation: Any) -> tuple[type | None, str | None] | None:
    """The NamedTuple type of an annotation (None: use the value's type) and its axes, or None."""
    if get_origin(annotation) in (Union, UnionType):  # `Carry | None`
        members = [member for member in get_args(annotation) if member is not type(None)]
        annotation = members[0] if len(members) == 1 else None
    axes = None
    if get_origin(annotation) is Annotated:
        annotation, axes, *_ = get_args(annotation)
    if not (inspect.isclass(annotation) and issubclass(annotation, tuple)):
        return (None, axes) if isinstance(axes, str) else None
    return (annotation, axes) if _fields(annotation, axes) else None


@functools.cache
def _fields(kind: type, axes: str | None) -> dict[str, tuple[Any, ...]]:
    """The shapes that fields of a NamedTuple may have, with `*batch` replaced by `axes`."""
    fields = {}
    for name, annotation in getattr(kind, "__annotations__", {}).items():
        union = get_origin(annotation) in (Union, UnionType)
        hints = get_args(annotation) if union else (annotation,)
        if all(hasattr(hint, "dim_str") for hint in hints):
            shapes = [hint.dim_str.replace("*batch", axes or "*batch") for hint in hints]
            pairs = zip(hints, shapes, strict=True)
            fields[name] = tuple(hint.dtype[hint.array_type, shape] for hint, shape in pairs)
    return fields


def _check(
    function: Callable[..., Any], name: str, value: Any, kind: type | None, axes: str | None
) -> None:
    """Check fields inside the scope opened by `jaxtyped`, so that axis names are shared."""
    if value is None:
        return
    for argument in _of_fields(name, value, kind, axes):
        if not any(isinstance(argument.value, hint) for hint in argument.expected):
            raise TypeCheckError(f"{function.__qualname__}: {argument.sentence}")
