"""The reward language: values of expressions, and the refusal of anything else."""

import ast
import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from worldblocks.language import Expression, ExpressionError, RewardSpec, RewardTerm
from worldblocks.language.rewards.expression import MOST_DEPTH
from worldblocks.language.rewards.operators import FUNCTIONS

NAMES = ("speed", "height", "open_door")
ROWS = {
    "speed": torch.tensor([[-1.0, 0.5, 2.0], [0.0, 3.0, -2.0]]),
    "height": torch.tensor([[0.5, 1.0, 1.5], [1.2, 0.0, 0.25]]),
    "open_door": torch.tensor([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0]]),
}


def value(text, rows=ROWS, **options):
    return Expression(text, NAMES)(rows, **options)


# ---------------------------------------------------------------------------------------- by hand


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2 * speed - height / 0.5", [-3.0, -1.0, 1.0]),
        ("-speed ** 2", [-1.0, -0.25, -4.0]),
        ("+speed", [-1.0, 0.5, 2.0]),
        ("speed > 0 and height >= 1", [0.0, 1.0, 1.0]),
        ("speed > 0 or height < 1", [1.0, 1.0, 1.0]),
        ("not open_door", [1.0, 0.0, 0.0]),
        ("0 < speed <= 1", [0.0, 1.0, 0.0]),
        ("speed == 2", [0.0, 0.0, 1.0]),
        ("speed != 2", [1.0, 1.0, 0.0]),
        ("height if open_door else 7", [7.0, 1.0, 1.5]),
        ("where(open_door, 1, -1)", [-1.0, 1.0, 1.0]),
        ("min(speed, height)", [-1.0, 0.5, 1.5]),
        ("max(speed, height, 1)", [1.0, 1.0, 2.0]),
        ("abs(speed)", [1.0, 0.5, 2.0]),
        ("exp(0 * speed)", [1.0, 1.0, 1.0]),
        ("clip(speed, 0, 1)", [0.0, 0.5, 1.0]),
        ("above(speed, 0.5)", [0.0, 1.0, 1.0]),
        ("above(speed, 2, 4)", [0.25, 0.625, 1.0]),
        ("below(speed, 0.5)", [1.0, 1.0, 0.0]),
        ("below(speed, 0, 1)", [1.0, 0.5, 0.0]),
        ("rise(open_door)", [0.0, 1.0, 0.0]),
        ("delta(height)", [0.0, 0.5, 0.5]),
        ("3", [3.0, 3.0, 3.0]),
    ],
)
def test_values_by_hand(text, expected):
    torch.testing.assert_close(value(text)[0], torch.tensor(expected))


def test_near_is_a_gaussian():
    """exp(-1/2) at one width, exp(-2) at two."""
    near = value("near(speed, 0.5, 1.5)")[0]
    torch.testing.assert_close(near, torch.tensor([-0.5, 0.0, -0.5]).exp())


def test_events_are_zero_in_the_first_row():
    first = torch.tensor([[False, True, False], [True, False, True]])
    assert value("rise(open_door)", is_first=first).tolist() == [[0, 0, 0], [0, 0, 0]]
    assert value("delta(height)", is_first=first)[0].tolist() == [0.0, 0.0, 0.5]


def test_only_events_need_time():
    assert not Expression("speed + 1", NAMES).temporal
    assert Expression("speed + delta(height)", NAMES).temporal


def test_a_number_is_true_above_one_half():
    rows = {name: torch.tensor([0.4, 0.6]) for name in NAMES}
    assert value("open_door and 1", rows).tolist() == [0.0, 1.0]
    assert value("rise(open_door)", rows).tolist() == [0.0, 1.0]


def test_shapes_and_dtypes():
    rows = {name: torch.rand(2, 3, 5, dtype=torch.bfloat16) for name in NAMES}
    assert value("speed + 1", rows).shape == value("1", rows).shape == (2, 3, 5)
    assert value("speed + 1", rows).dtype == torch.float32
    assert value("speed", {name: x[0, 0, 0] for name, x in rows.items()}).shape == ()


def test_a_missing_feature_is_named():
    with pytest.raises(KeyError, match=r"'speed \+ 1' needs the features \['speed'\]"):
        Expression("speed + 1", NAMES)({"height": torch.zeros(3)})


# ---------------------------------------------------------------------------------------- oracle


class Slow(ast.NodeVisitor):
    """The value of one row in float64, by Python's own arithmetic."""

    def __init__(self, row):
        self.row = row

    def visit_Constant(self, node):
        return float(node.value)

    def visit_Name(self, node):
        return self.row[node.id]

    def visit_BinOp(self, node):
        a, b = self.visit(node.left), self.visit(node.right)
        return {"Add": a + b, "Sub": a - b, "Mult": a * b}[type(node.op).__name__]

    def visit_BoolOp(self, node):
        values = [self.visit(part) > 0.5 for part in node.values]
        return float(all(values) if isinstance(node.op, ast.And) else any(values))

    def visit_UnaryOp(self, node):
        inner = self.visit(node.operand)
        return -inner if isinstance(node.op, ast.USub) else float(inner <= 0.5)

    def visit_Compare(self, node):
        a, b = self.visit(node.left), self.visit(node.comparators[0])
        return float(a < b if isinstance(node.ops[0], ast.Lt) else a >= b)

    def visit_IfExp(self, node):
        return self.visit(node.body if self.visit(node.test) > 0.5 else node.orelse)

    def visit_Call(self, node):
        args = [self.visit(part) for part in node.args]
        name = node.func.id
        if name in ("min", "max"):
            return {"min": min, "max": max}[name](args)
        if name == "abs":
            return abs(args[0])
        return float(np.clip(1 + (args[0] - args[1]) / args[2], 0, 1))  # above


leaves = st.sampled_from([*NAMES, "0", "1", "0.5", "2"])


def grow(inner):
    pair = st.tuples(inner, inner)
    return st.one_of(
        st.tuples(inner, st.sampled_from("+-*"), inner).map(lambda x: "({} {} {})".format(*x)),
        st.tuples(inner, st.sampled_from(["<", ">=", "and", "or"]), inner).map(
            lambda x: "({} {} {})".format(*x)
        ),
        inner.map(lambda x: f"(not {x})"),
        inner.map(lambda x: f"(-{x})"),
        st.tuples(inner, inner, inner).map(lambda x: "({} if {} else {})".format(*x)),
        pair.map(lambda x: "min({}, {})".format(*x)),
        pair.map(lambda x: "max({}, {})".format(*x)),
        inner.map(lambda x: f"abs({x})"),
        pair.map(lambda x: "above({}, {}, 2)".format(*x)),
    )


@given(st.recursive(leaves, grow, max_leaves=6).filter(lambda text: len(text) <= 200))
def test_values_agree_with_a_slow_interpreter(text):
    rows = {name: x.flatten() for name, x in ROWS.items()}
    ours = value(text, rows)
    body = ast.parse(text, mode="eval").body
    for i in range(6):
        row = {name: x[i].item() for name, x in rows.items()}
        assert ours[i].item() == pytest.approx(Slow(row).visit(body), rel=1e-5, abs=1e-5)


# --------------------------------------------------------------------------------------- hostile

HOSTILE = {
    "import": "__import__('os').system('echo')",
    "open a file": "open('passwd')",
    "evaluate": "eval('1')",
    "execute": "exec('x')",
    "compile": "compile('1', 'f', 'eval')",
    "builtins": "__builtins__",
    "globals": "globals()",
    "getattr": "getattr(speed, 1)",
    "breakpoint": "breakpoint()",
    "exit": "exit()",
    "print": "print(speed)",
    "attribute": "speed.data",
    "class": "speed.__class__",
    "method": "speed.numpy()",
    "attribute of a number": "1 .real",
    "class walk": "().__class__.__bases__[0].__subclasses__()",
    "index": "speed[0]",
    "slice": "speed[:]",
    "lambda": "(lambda: speed)()",
    "assignment": "speed = 3",
    "walrus": "(speed := 3)",
    "string": "'speed'",
    "bytes": "b'speed'",
    "f-string": "f'{speed}'",
    "list": "[speed]",
    "dict": "{1: speed}",
    "set": "{speed}",
    "tuple": "(speed, height)",
    "comprehension": "[x for x in speed]",
    "generator": "max(x for x in speed)",
    "starred": "min(*speed)",
    "named argument": "near(speed, 1, width=1)",
    "await": "await speed",
    "yield": "(yield speed)",
    "statement": "import os",
    "two statements": "speed; height",
    "two lines": "speed\nheight",
    "backslash": "speed \\\n + 1",
    "comment": "speed # all of it",
    "null byte": "speed\x00",
    "letters that look alike": "ｓpeed",
    "other alphabet": "sреed",
    "tower of powers": "9**9**9",
    "power of a power": "((speed**99)**99)**99",
    "a large shift": "1 << 9999999",
    "repetition": "'a' * 10**10",
    "factorial by name": "factorial(1000)",
    "overflow": "exp(exp(exp(speed * 100)))",
    "not a number": "speed / (speed - speed)",
    "root of a negative number": "(0 - abs(speed)) ** 0.5",
    "division by zero": "1 / (0 * speed)",
    "infinite constant": "1e999 * speed",
    "large constant": "1e30 * speed",
    "long constant": "9" * 390,
    "imaginary": "1j * speed",
    "true": "True",
    "none": "None",
    "ellipsis": "... + speed",
    "parentheses": "(" * 199 + "speed" + ")" * 196,
    "minus signs": "-" * 390 + "speed",
    "nots": "not " * 90 + "speed",
    "nested calls": "abs(" * 90 + "speed" + ")" * 90,
    "nested choices": "1 if speed else " * 20 + "0",
    "too long": "speed + " * 60 + "speed",
    "empty": "",
    "spaces": "   ",
    "floor division": "speed // 2",
    "remainder": "speed % 2",
    "matrix product": "speed @ height",
    "bits": "speed & height",
    "inversion": "~speed",
    "identity": "speed is height",
    "membership": "speed in height",
    "function as a value": "near",
    "function of a function": "near(near, 1, 1)",
    "call of a number": "3(speed)",
    "call of a feature": "speed(3)",
    "call of a call": "abs(speed)(1)",
    "one argument of min": "min(speed)",
    "many arguments": "max(" + ", ".join(["speed"] * 20) + ")",
    "width of zero": "near(speed, 1, 0)",
    "negative width": "near(speed, 1, -1)",
    "width that varies": "near(speed, 1, height)",
    "wrong name": "velocity * 2",
    "constant": "1 + 1",
    "always the same": "speed - speed",
}


def refused(text):
    """The message of the refusal, which takes less than a second."""
    start = time.process_time()
    with pytest.raises(ExpressionError) as caught:
        RewardSpec((RewardTerm(text),)).compile(ROWS)
    assert time.process_time() - start < 1.0
    return str(caught.value)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_expressions_are_refused_readably(name):
    reason = refused(HOSTILE[name])
    assert reason.startswith(("refused ", "an expression is", "a reward spec got"))
    assert 30 < len(reason) < 400
    assert "Traceback" not in reason


@pytest.mark.parametrize("thing", [None, 3, 2.5, ["speed"], {"speed": 1}, b"speed"])
def test_other_types_are_refused(thing):
    with pytest.raises(ExpressionError, match="a text of 1 to 400 characters, got"):
        Expression(thing, NAMES)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("sped * 2", "there is no feature 'sped'; did you mean 'speed'?"),
        ("zzz", "there is no feature 'zzz'; there are speed, height, open_door"),
        ("nar(speed, 1, 1)", "it calls nar; did you mean 'near'?"),
        ("min(speed)", "min with 1 arguments; call it as min(a, b)"),
        ("near(speed, 1, 0)", "the width 0; use a positive number: near(x, target, width)"),
        ("speed // 2", "it has floor div; the operators are + - * / **"),
        ("speed is 1", "it has is; the comparisons are < <= > >= == !="),
        ("speed.data", "it has attribute; use numbers, features, operators"),
        ("abs", "abs is a function; call it: abs(x)"),
        ("speed[0]", "'[' has no meaning here; use numbers, names"),
        ("1e7", "the constant 10000000.0; use a number up to 1e+06"),
        ("speed +", "this is not an expression (invalid syntax)"),
        ("-" * 30 + "speed", f"it is nested more than {MOST_DEPTH} deep"),
        ("1 / (0 * speed)", "it is not finite on the sample; divide by something that is never 0"),
        ("exp(5 * speed)", "it is 4.54e-05 to 3.27e+06 on the sample; stay within ±1000"),
        ("2", "it is 2 everywhere on the sample; a reward has to depend on the state"),
    ],
)
def test_messages_suggest_a_fix(text, reason):
    assert reason in refused(text)


@pytest.mark.parametrize("names", [[], ["a b"], ["near"], ["x" * 61], ["ünd"], ["1a"]])
def test_names_of_features(names):
    with pytest.raises(ExpressionError, match="feature"):
        Expression("1", names)


TOKENS = [*NAMES, *FUNCTIONS, *"()+-*/<>=.,", "**", "==", "and", "or", "not", "if", "else"]
TOKENS += ["1", "0.5", "1e9", "__class__", "lambda", ":", "[", "]", "'", "import", "is", "in", "%"]


@given(st.lists(st.sampled_from(TOKENS), min_size=1, max_size=40).map(" ".join))
def test_any_sequence_of_tokens_compiles_or_is_refused(text):
    """A compiled reward is finite on the sample."""
    start = time.process_time()
    try:
        reward = RewardSpec((RewardTerm(text),)).compile(ROWS)
    except ExpressionError as error:
        reason = str(error)
    else:
        reason = ""
        assert reward(ROWS).isfinite().all()
    assert len(reason) < 400
    assert time.process_time() - start < 1.0


@given(st.text(max_size=40))
def test_any_text_compiles_or_is_refused(text):
    reason = ""
    try:
        Expression(text, NAMES)
    except ExpressionError as error:
        reason = str(error)
    assert len(reason) < 400
