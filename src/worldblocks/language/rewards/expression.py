"""An expression over named features, checked and turned into a torch function."""

import ast
import difflib
import operator
import re
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from worldblocks.language.rewards.operators import FUNCTIONS, Features, Rows, truth

MOST_CHARACTERS = 400
MOST_DEPTH = 16
LARGEST = 1e6  # of a constant
_CHARACTERS = re.compile(r"[A-Za-z0-9_ .,+\-*/()<>=!]*")
_ARITHMETIC = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_COMPARISONS = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_SIGNS = {ast.USub: operator.neg, ast.UAdd: operator.pos}

Value = Callable[[Rows], Tensor]


class ExpressionError(ValueError):
    """An expression or a reward spec is refused; the message says what would work."""


class Expression:
    """An expression of the reward language, as a function of batched features.

    The syntax is a subset of Python's: numbers, names of features, `+ - * / **`, comparisons,
    `and or not`, `a if c else b`, and the functions `min max abs exp clip where near above below
    rise delta`. A number is true above 1/2. A true value is 1, a false one 0.

    The constructor parses the text and checks every part of it; Python never evaluates it.
    `rise(x)` is 1 where x became true with this row, and `delta(x)` is x minus x of the row before.
    Both take the last axis as time (`temporal`) and are 0 in the first row of an episode.

    Args:
        text: at most 400 characters.
        names: the features it may use.

    Raises:
        ExpressionError: the text is not an expression of the language; may suggest a name.

    >>> speed = torch.tensor([0.0, 1.0, 2.0])
    >>> Expression("above(speed, 1) and not speed > 1.5", ["speed"])({"speed": speed}).tolist()
    [0.0, 1.0, 0.0]
    """

    def __init__(self, text: str, names: Sequence[str]) -> None:
        self.text = text
        self.known = check_names(names)
        self.names: set[str] = set()
        self.temporal = False
        self._value = self._build(self._parse(text), 1)

    def __call__(
        self, features: Features, is_first: Bool[Tensor, "*batch"] | None = None
    ) -> Float[Tensor, "*batch"]:
        """The value in each row, float32, in the shape of the features."""
        used = self.names or {self.known[0]}
        if not used <= features.keys():
            raise KeyError(f"{self.text!r} needs the features {sorted(used)}, got {list(features)}")
        floats = {name: features[name].float() for name in sorted(used)}
        return self._value(Rows(floats, is_first)).expand_as(next(iter(floats.values())))

    def _parse(self, text: Any) -> ast.expr:
        if not isinstance(text, str) or not 0 < len(text) <= MOST_CHARACTERS:
            size = f"{len(text)} characters" if isinstance(text, str) else repr(text)[:40]
            raise ExpressionError(
                f"an expression is a text of 1 to {MOST_CHARACTERS} characters, got {size}"
            )
        if not _CHARACTERS.fullmatch(text):
            strange = sorted({c for c in text if not _CHARACTERS.fullmatch(c)})
            self._refuse(
                f"{strange[0]!r} has no meaning here",
                "use numbers, names, + - * / **, comparisons, and, or, not, if and else",
            )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                return ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as cause:
            problem = getattr(cause, "msg", None) or "it is nested too deeply"
            self._refuse(
                f"this is not an expression ({problem})", "an example is near(speed, 1, 0.5)"
            )

    def _build(self, node: ast.AST, depth: int) -> Value:
        if depth > MOST_DEPTH:
            self._refuse(f"it is nested more than {MOST_DEPTH} deep", "write a flat sum of terms")
        builders: dict[type, Callable[[Any, int], Value]] = {
            ast.Constant: self._constant,
            ast.Name: self._name,
            ast.BinOp: self._arithmetic,
            ast.UnaryOp: self._sign,
            ast.BoolOp: self._logic,
            ast.Compare: self._comparison,
            ast.IfExp: self._choice,
            ast.Call: self._call,
        }
        if type(node) not in builders:
            self._refuse(
                f"it has {_described(node)}",
                "use numbers, features, operators and the functions " + " ".join(FUNCTIONS),
            )
        return builders[type(node)](node, depth + 1)

    def _constant(self, node: ast.Constant, depth: int) -> Value:
        value = node.value
        if not isinstance(value, int | float) or isinstance(value, bool) or abs(value) > LARGEST:
            self._refuse(f"the constant {repr(value)[:20]}", f"use a number up to {LARGEST:g}")
        constant = float(value)
        return lambda rows: next(iter(rows.features.values())).new_full((), constant)

    def _name(self, node: ast.Name, depth: int) -> Value:
        name = node.id
        if name in FUNCTIONS:
            self._refuse(f"{name} is a function", f"call it: {FUNCTIONS[name].usage}")
        if name not in self.known:
            self._refuse(f"there is no feature {name!r}", _nearest(name, self.known))
        self.names.add(name)
        return lambda rows: rows.features[name]

    def _arithmetic(self, node: ast.BinOp, depth: int) -> Value:
        operate = _ARITHMETIC.get(type(node.op))
        if operate is None:
            self._refuse(f"it has {_described(node.op)}", "the operators are + - * / **")
        left, right = self._build(node.left, depth), self._build(node.right, depth)
        return lambda rows: operate(left(rows), right(rows))

    def _sign(self, node: ast.UnaryOp, depth: int) -> Value:
        value = self._build(node.operand, depth)
        if isinstance(node.op, ast.Not):
            return lambda rows: (~truth(value(rows))).float()
        sign = _SIGNS.get(type(node.op))
        if sign is None:
            self._refuse(f"it has {_described(node.op)}", "the signs are + and -")
        return lambda rows: sign(value(rows))

    def _logic(self, node: ast.BoolOp, depth: int) -> Value:
        values = [self._build(value, depth) for value in node.values]
        join = torch.logical_and if isinstance(node.op, ast.And) else torch.logical_or
        return lambda rows: _folded(join, [truth(value(rows)) for value in values])

    def _comparison(self, node: ast.Compare, depth: int) -> Value:
        compare = [_COMPARISONS.get(type(op)) for op in node.ops]
        if None in compare:
            op = node.ops[compare.index(None)]
            self._refuse(f"it has {_described(op)}", "the comparisons are < <= > >= == !=")
        values = [self._build(value, depth) for value in (node.left, *node.comparators)]

        def compared(rows: Rows) -> Tensor:
            sides = [value(rows) for value in values]
            pairs = zip(compare, sides, sides[1:], strict=False)
            return _folded(torch.logical_and, [op(a, b) for op, a, b in pairs if op])

        return compared

    def _choice(self, node: ast.IfExp, depth: int) -> Value:
        parts = [self._build(part, depth) for part in (node.test, node.body, node.orelse)]
        return lambda rows: FUNCTIONS["where"].call(rows, *(part(rows) for part in parts))

    def _call(self, node: ast.Call, depth: int) -> Value:
        if not isinstance(node.func, ast.Name) or node.func.id not in FUNCTIONS:
            name = getattr(node.func, "id", "the result of something")
            self._refuse(f"it calls {name}", _nearest(name, FUNCTIONS))
        function = FUNCTIONS[node.func.id]
        given = node.args
        if node.keywords or not function.fewest <= len(given) <= function.most:
            count = "named arguments" if node.keywords else f"{len(given)} arguments"
            self._refuse(f"{node.func.id} with {count}", f"call it as {function.usage}")
        if function.width is not None and len(given) > function.width:
            width = getattr(given[function.width], "value", None)
            if not isinstance(width, int | float) or not 1e-6 <= width <= LARGEST:
                shown = ast.unparse(given[function.width])[:30]
                self._refuse(f"the width {shown}", f"use a positive number: {function.usage}")
        self.temporal |= function.temporal
        values = [self._build(value, depth) for value in given]
        return lambda rows: function.call(rows, *(value(rows) for value in values))

    def _refuse(self, problem: str, hint: str) -> NoReturn:
        shown = self.text if len(self.text) <= 60 else f"{self.text[:57]}..."
        raise ExpressionError(f"refused {shown!r}: {problem}; {hint}") from None


def check_names(names: Sequence[str]) -> tuple[str, ...]:
    """The names of features, in their order.

    Raises:
        ExpressionError: there is none, or one is not a valid name or is that of a function.
    """
    wrong = [n for n in names if not re.fullmatch(r"[A-Za-z_]\w{0,59}", n, re.A) or n in FUNCTIONS]
    if wrong or not names:
        raise ExpressionError(
            f"a feature's name has letters, digits and _ and is not a function's, got {wrong[0]!r}"
            if wrong
            else "an expression needs at least one feature, got none"
        )
    return tuple(names)


def _folded(join: Callable[[Tensor, Tensor], Tensor], masks: list[Tensor]) -> Tensor:
    result = masks[0]
    for mask in masks[1:]:
        result = join(result, mask)
    return result.float()


def _nearest(name: str, known: Sequence[str] | dict) -> str:
    close = difflib.get_close_matches(name[:60], list(known), 1, 0.5)
    return f"did you mean {close[0]!r}?" if close else f"there are {', '.join(list(known)[:20])}"


def _described(node: ast.AST) -> str:
    """A name for a part of Python that is not in the language, such as floor div."""
    return re.sub(r"(?<!^)([A-Z])", r" \1", type(node).__name__).lower()
