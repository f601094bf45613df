"""The case set, and the table of selectors from the committed cache."""

import json
import math
from pathlib import Path

import pytest
from benchmarks.learning.selectors import (
    METHODS,
    answers,
    load_cases,
    main,
    mistakes,
    table,
)
from hypothesis import given
from hypothesis import strategies as st

import worldblocks as wb
from benchmarks import ROOT
from worldblocks.envs import BODIES
from worldblocks.language.ranking.selector import SHOTS
from worldblocks.testing import ScriptedLM

CACHE = Path(__file__).parent / "selector_cache"
PAGE = ROOT / "docs" / "blocks" / "language.md"


class Lookup(dict):
    """Scores and vectors computed from the text: the phrase of the instruction is best."""

    def __contains__(self, question):
        return True

    def __getitem__(self, question):
        if isinstance(question, str):
            return [1.0, float(len(question))]
        context, completion = question
        asked = context.rsplit("Instruction: ", 1)[-1].removesuffix("\nGoal:")
        return 0.0 if completion.strip() == asked else -1.0 - len(completion) / 100


# ----------------------------------------------------------------------------------------- cases


def test_the_cases_are_at_least_a_hundred_of_every_kind():
    cases = load_cases()
    assert len(cases) == 126
    kinds = [(case.kind, case.style) for case in cases]
    for kind in ("goal", "term"):
        for style in ("literal", "paraphrase", "inference"):
            assert kinds.count((kind, style)) >= 10


def test_the_menus_of_terms_are_those_of_the_bodies():
    for case in load_cases():
        if case.kind == "term":
            assert sorted(case.candidates) == sorted(BODIES[case.world].phrases), case.id


def test_the_examples_of_the_prompt_are_not_in_the_cases():
    texts = {text for case in load_cases() for text in (case.instruction, *case.candidates)}
    assert texts.isdisjoint({text for shot in SHOTS for text in shot})


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("no json", "line 1 of .* is not a case"),
        ('{"id": "a"}', "is not a case .*the keys are"),
        (["right", ["c"]], "some but not all of the candidates must be right"),
        (["kind", "x"], "kind must be one of"),
    ],
)
def test_lines_that_are_not_cases(line, reason, tmp_path):
    case = load_cases()[0]._asdict()
    text = line if isinstance(line, str) else json.dumps(case | {line[0]: line[1]})
    file = tmp_path / "cases.jsonl"
    file.write_text(text + "\n")
    with pytest.raises(ValueError, match=reason):
        load_cases(file)
    file.write_text((json.dumps(case) + "\n") * 2)
    with pytest.raises(ValueError, match=r"an id occurs twice in "):
        load_cases(file)


# ----------------------------------------------------------------------------------------- table


def test_intervals_by_hand():
    """All of 10: from 10 / (10 + 1.96²) = 0.72246 to 1."""
    assert wb.evaluate.wilson(10, 10) == pytest.approx((0.72246, 1.0), abs=1e-5)
    assert wb.evaluate.wilson(0, 10) == pytest.approx((0.0, 0.27754), abs=1e-5)
    with pytest.raises(ValueError, match=r"at least one trial .* got 3 successes in 2 trials"):
        wb.evaluate.wilson(3, 2)


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_ends_of_an_interval_are_z_deviations_off(counts):
    """Wilson's definition: |p - end| = z √(end (1 - end) / n)."""
    right, n = counts
    for end in wb.evaluate.wilson(right, n):
        deviation = 1.96 * math.sqrt(max(end * (1 - end), 0) / n)
        assert abs(right / n - end) == pytest.approx(deviation, abs=1e-7)


def test_places_and_counts():
    """With a model that knows literal instructions only."""
    cases = [case for case in load_cases() if case.world in ("walker", "hopper")]
    model, encoder = ScriptedLM(scores=Lookup(x=0)), ScriptedLM(vectors=Lookup(x=0))
    found = answers(cases, model, encoder)
    assert len(found) == len(cases) * (len(METHODS) + 2)
    literal = [a for a in found if a.method == "raw likelihood" and a.case.style == "literal"]
    assert [a.place for a in literal] == [1] * 7
    lines = table(found).splitlines()
    assert lines[0].startswith("| method | goals | terms | literal | paraphrase | inference |")
    assert [line.split(" | ")[0][2:] for line in lines[2:]] == ["random", "word overlap", *METHODS]
    (line,) = [line for line in lines if line.startswith("| raw likelihood |")]
    assert " | 7/7 | " in line
    wrong = mistakes(found, "raw likelihood")
    assert len(wrong) == sum(a.place > 1 for a in found if a.method == "raw likelihood")
    assert "-> " in wrong[0]


def test_the_table_of_the_page_is_that_of_the_committed_cache(capsys):
    assert main(["--cache", str(CACHE), "--offline"]) == 0
    made = capsys.readouterr().out.strip()
    assert made in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--offline"], "offline replays a cache, and got none; give --cache FOLDER"),
        (["--offline", "--cache", "nowhere"], "nowhere/smollm2.jsonl"),
    ],
)
def test_errors_are_sentences(arguments, reason, capsys):
    assert main(arguments) == 2
    assert reason in capsys.readouterr().err
