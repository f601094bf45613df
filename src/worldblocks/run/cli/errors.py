"""Errors of a user's request are a sentence; a bug shows its traceback."""

import dis
import sys
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from types import TracebackType

import torch

REQUESTS = (ValueError, TypeError, ImportError, LookupError, RuntimeError)
"""Expected where worldblocks, a recipe or a tool raises them: each `raise` there is a sentence."""
ANYWHERE = (OSError, UnicodeDecodeError, MemoryError, torch.OutOfMemoryError)
"""Expected wherever they come from: files, disks, connections, memory."""
PACKAGES = ("gymnasium.error", "tomllib")
"""Modules whose own error types are expected."""
OURS = ("worldblocks", "__main__")
DEBUG = "--debug"


@contextmanager
def sentences(*modules: str) -> Generator[None]:
    """Turn expected errors into `SystemExit` with their sentence, and Ctrl-C into exit code 130.

    A warning is one line without its place in the code.

    With `--debug` on the command line every error shows its traceback.

    Args:
        modules: further modules whose `raise` statements are sentences.
    """
    form = warnings.formatwarning
    if DEBUG not in sys.argv:
        warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    try:
        yield
    except KeyboardInterrupt:
        if DEBUG in sys.argv:
            raise
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except Exception as error:
        if DEBUG in sys.argv or not expected(error, modules):
            raise
        raise SystemExit(text_of(error)) from error
    finally:
        warnings.formatwarning = form


def expected(error: Exception, modules: tuple[str, ...] = ()) -> bool:
    """Whether an error is the answer to a user's request."""
    if isinstance(error, ANYWHERE) or type(error).__module__ in PACKAGES or _no_memory(error):
        return True
    if not isinstance(error, REQUESTS) or not (last := _innermost(error.__traceback__)):
        return False
    name = str(last.tb_frame.f_globals.get("__name__"))
    # `int("x")` in a function of ours is a bug; only a `raise` is a sentence.
    raised = last.tb_frame.f_code.co_code[last.tb_lasti] == dis.opmap["RAISE_VARARGS"]
    return raised and (name.split(".")[0].startswith(OURS) or name in modules)


def text_of(error: Exception) -> str:
    """The sentence of an error."""
    if isinstance(error, OSError) and error.strerror:
        return ": ".join(map(str, filter(None, (error.strerror, error.filename))))
    if isinstance(error, MemoryError) or _no_memory(error):
        told = str(error).rpartition("DefaultCPUAllocator: ")[2].partition(" Error code")[0]
        return f"out of memory: {told or 'no more can be had'}; ask for less, with smaller sizes"
    return str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)


def _no_memory(error: Exception) -> bool:
    """Whether torch got no memory for a tensor on the CPU, which has no error type of its own."""
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)


def _innermost(trace: TracebackType | None) -> TracebackType | None:
    while trace and trace.tb_next:
        trace = trace.tb_next
    return trace
