"""What a mutant is: a deliberate fault in a copy of a block, and what it breaks in one sentence."""

import inspect
import sys
import types
from collections.abc import Callable
from typing import Any, NamedTuple


class Mutant(NamedTuple):
    """A fault of a kind of block.

    `subject` is what the check of that kind takes first: a factory, or a function.
    """

    name: str
    kind: str
    sentence: str
    subject: Any


MUTANTS: list[Mutant] = []


def mutant(kind: str, sentence: str) -> Callable[[Any], Any]:
    """Enter a factory or a function into the catalogue, under its own name."""

    def enter(subject: Any) -> Any:
        name = subject.__name__.removeprefix("Mutant").strip("_").replace("_", "-")
        assert name not in {other.name for other in MUTANTS}, name
        MUTANTS.append(Mutant(name, kind, sentence, subject))
        return subject

    return enter


def changed(function: Any, *changes: tuple[str, str]) -> Any:
    """A copy of a function whose source has other words; its module stays as it is.

    Raises:
        AssertionError: an old text does not stand there exactly once.
    """
    return getattr(changed_module(function.__module__, *changes), function.__name__)


def changed_module(name: str, *changes: tuple[str, str]) -> types.ModuleType:
    """A copy of a module whose source has other words."""
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
