"""All mutants of a file, by the operators of mutmut.

mutmut alone leaves out every function with a decorator, which here is every `@typed` one. Its
operators and rules are used as they are, but for that one, and but for the words of error messages:
a string inside a `raise` stays as it is.
"""

import collections
import difflib
import functools
import hashlib
from pathlib import Path
from typing import NamedTuple

import libcst as cst
import libcst.matchers as m
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation import file_mutation
from mutmut.mutation.mutators import mutation_operators
from mutmut.mutation.pragma_handling import IgnoredCode

from mutation.parts import SRC


class Mutant(NamedTuple):
    """One change in one function; `number` counts those of the function.

    `lines` are those of the changed expression; of a changed default, of the whole function.
    """

    path: Path
    function: str
    number: int
    lines: range
    mutation: file_mutation.Mutation

    @property
    def name(self) -> str:
        return f"{self.path.relative_to(SRC)}:{self.function}:{self.number}"

    def source(self) -> str:
        """The text of the file with the change."""
        change = self.mutation
        module = parsed(self.path).module
        return file_mutation.deep_replace(module, change.original_node, change.mutated_node).code

    def change(self) -> tuple[str, str]:
        """The lines that differ, before and after."""
        before, after = (x.splitlines() for x in (self.path.read_text("utf-8"), self.source()))
        found = list(difflib.unified_diff(before, after, n=0, lineterm=""))[3:]
        removed, added = ([x[1:] for x in found if x[0] == sign] for sign in "-+")
        return " ".join(" ".join(removed).split()), " ".join(" ".join(added).split())

    def digest(self) -> str:
        """The same for the same change of the same file."""
        text = self.path.read_text("utf-8") + self.name
        return hashlib.sha1(text.encode()).hexdigest()[:12]


class Visitor(file_mutation.MutationVisitor):
    """mutmut's, into decorated functions too, and past the strings of error messages."""

    def __init__(self) -> None:
        super().__init__(mutation_operators, IgnoredCode(set(), set(), set()))
        self.messages: set[cst.CSTNode] = set()

    def _skip_node_and_children(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.FunctionDef):
            node = node.with_changes(decorators=())
        return super()._skip_node_and_children(node)

    def _create_mutations(self, node: cst.CSTNode) -> None:
        if isinstance(node, cst.Raise):
            self.messages.update(m.findall(node, m.SimpleString()))
        if node not in self.messages:
            super()._create_mutations(node)


class Parsed(NamedTuple):
    """A file as libcst sees it, and its mutants."""

    module: cst.Module
    mutants: list[Mutant]


@functools.cache
def parsed(path: Path) -> Parsed:
    """The mutants of a file, in the order of its text."""
    wrapper = MetadataWrapper(cst.parse_module(path.read_text("utf-8")))
    visitor = Visitor()
    wrapper.visit(visitor)
    places, names = wrapper.resolve(PositionProvider), functions(wrapper.module)
    mutants, counts = [], collections.Counter()
    for mutation in visitor.mutations:
        function = mutation.contained_by_top_level_function
        if function not in names:  # a constant of a module or of a class, which mutmut leaves alone
            continue
        counts[names[function]] += 1  # a property and its setter are of one name
        place = places[mutation.original_node]
        if place.start.line < places[function.body].start.line:
            place = places[function.body]
        lines = range(place.start.line, place.end.line + 1)
        name = names[function]
        mutants.append(Mutant(path, name, counts[name], lines, mutation))
    return Parsed(wrapper.module, mutants)


def functions(module: cst.Module) -> dict[cst.FunctionDef, str]:
    """The functions and methods of a file by their qualified names."""
    found = {}
    for node in module.body:
        inside = node.body.body if isinstance(node, cst.ClassDef) else ()
        for child, name in [(node, ""), *((child, f"{node.name.value}.") for child in inside)]:
            if isinstance(child, cst.FunctionDef):
                found[child] = name + child.name.value
    return found
