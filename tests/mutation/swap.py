"""Put a mutant in its place: the code of a function that is already imported is exchanged.

Whoever holds the function holds the mutant, through any decorator: `@typed` doors, properties,
methods of NamedTuples, names that other modules have imported.
"""

import ast
import functools
import gc
import types
from collections.abc import Iterator
from typing import Any

Place = tuple[str, str, int]  # file, qualified name, first line


@functools.cache
def functions() -> dict[Place, list[types.FunctionType]]:
    """Every function of this process by where it is written."""
    found: dict[Place, list[types.FunctionType]] = {}
    frozen = gc.get_freeze_count()
    gc.unfreeze()  # what is set aside is not among the objects
    for function in gc.get_objects():
        if type(function) is types.FunctionType:
            found.setdefault(place(function.__code__), []).append(function)
    if frozen:
        gc.freeze()
    return found


def place(code: types.CodeType) -> Place:
    return code.co_filename, code.co_qualname, code.co_firstlineno


def codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """All code objects inside one, in the order of the text."""
    for part in code.co_consts:
        if isinstance(part, types.CodeType):
            yield part
            yield from codes(part)


def definitions(node: ast.AST) -> Iterator[ast.FunctionDef]:
    """All functions of a module, in the order of `codes`."""
    return (child for child in ast.walk(node) if isinstance(child, ast.FunctionDef))


def put(file: str, before: str, after: str) -> int:
    """Turn the functions that `before` defines into those of `after`; how many functions changed.

    Inner functions are part of the code of the function around them.
    """
    old, new = (list(codes(compile(text, file, "exec"))) for text in (before, after))
    known = functions()
    changed = 0
    by_place = {place(code): code for code in new}
    for code in old:
        mutant = by_place.get(place(code), code)
        if mutant == code:
            continue
        if mutant.co_freevars != code.co_freevars:  # a call of `super` that is gone
            mutant = mutant.replace(co_freevars=code.co_freevars)
        for function in known.get(place(code), ()):
            function.__code__ = mutant
            changed += 1
    return changed + put_defaults(file, before, after)


def put_defaults(file: str, before: str, after: str) -> int:
    """Change the defaults of arguments that differ."""
    changed = 0
    for old, new in zip(*(definitions(ast.parse(text)) for text in (before, after)), strict=True):
        if ast.dump(old.args) == ast.dump(new.args):
            continue
        line = min([old.lineno, *(node.lineno for node in old.decorator_list)])
        for (path, name, first), found in functions().items():
            if (path, first) == (file, line) and name.split(".")[-1] == old.name:
                for function in found:
                    set_defaults(function, new.args)
                    changed += 1
    return changed


def set_defaults(function: types.FunctionType, arguments: ast.arguments) -> None:
    def value(node: ast.expr) -> Any:
        return eval(ast.unparse(node), function.__globals__)

    function.__defaults__ = tuple(map(value, arguments.defaults)) or None
    keywords = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    function.__kwdefaults__ = {key.arg: value(node) for key, node in keywords if node} or None
