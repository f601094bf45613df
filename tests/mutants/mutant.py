"""A mutant: a deliberate fault in a copy of a block, with a sentence that describes it."""

import inspect
import sys
import types
from collections.abc import Callable
from typing import Any, NamedTuple


class Mutant(NamedTuple):
    """A fault in a kind of block.

    `subject` is the first argument of the check of that kind: a factory, or a function.
    """

    name: str
    kind: str
    sentence: str
    subject: Any


MUTANTS: list[Mutant] = []


def mutant(kind: str, sentence: str) -> Callable[[Any], Any]:
    """Add a factory or a function to the catalogue, under its own name."""

    def enter(subject: Any) -> Any:
        name = subject.__name__.removeprefix("Mutant").strip("_").replace("_", "-")
        assert name not in {other.name for other in MUTANTS}, name
        MUTANTS.append(Mutant(name, kind, sentence, subject))
        return subject

    return enter


def changed(function: Any, *changes: tuple[str, str]) -> Any:
    """A copy of a function with changed source; its module is not changed.

    Raises:
        AssertionError: an old text does not occur exactly once.
    """
    return getattr(changed_module(function.__module__, *changes), function.__name__)


def changed_module(name: str, *changes: tuple[str, str]) -> types.ModuleType:
    """A copy of a module with changed source."""
    original = sys.modules[name]
    source = inspect.getsource(original)
    for old, new in changes:
        assert source.count(old) == 1, f"{name} has {source.count(old)} times {old!r}"
        source = source.replace(old, new)
    module = types.ModuleType(f"{name}_mutant_{abs(hash(changes))}")
    module.__dict__["__file__"] = original.__file__
    sys.modules[module.__name__] = module
    exec(compile(source, module.__name__, "exec"), module.__dict__)
    return module
