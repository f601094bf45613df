"""Every recorded array of the official code, through the rows of the parity table."""

import functools
import re

import pytest

from golden_folder import GOLDEN
from parity import RECIPE, Arrays, Row, notes, passed, text
from parity.command import families

# Arrays that no row looks at, and why.
NOT_COMPARED = {
    r"a_twohot pred_naive_sum": "what a careless sum would give",
    r"b_lambda_return \w+\.val": "an argument that the reference does not use",
    r"d_rssm_\w+ (obs1|obs1_reset|img1)\.stoch": "a sample of the reference's generator",
    r"d_rssm_\w+ seq_sampled\.carry\.stoch": "the same",
    r"g_optimizer (nesterov|linear|cosine)\..*": "options that are not offered",
    r"g_optimizer \w+\.updates\..*": "differences of rounded float32",
    r"g_optimizer \w+\.config\.anneal": "of those options",
    r"h_normalize none\..*": "no normaliser",
    r"j_imag_loss \w+\.config\.horizon": "used without contdisc only",
    r"j_repl_loss \w+\.config\.slowtar": "does not change the target here",
    r"k_agent_\w+ .*(consec|stepid)": "bookkeeping of the reference's replay",
    r"k_agent_\w+ start_state\.slowval_count/value": "starts at 0",
}

FILES = [
    (Arrays.load(path), family)
    for _, pattern, family in families(RECIPE)
    for path in sorted(GOLDEN.glob(f"{pattern}.npz"))
]
CHECKS = {f"{check.group} {check.case}": check for file, family in FILES for check in family(file)}


@functools.cache
def row(name: str) -> Row:
    return CHECKS[name].row()


def test_the_command_finds_these_files():
    assert len({file.name for file, _ in FILES}) == len(list(GOLDEN.glob("*.npz")))
    assert {name[0] for name in CHECKS} == set("abcdefghijklm")


@pytest.mark.parametrize("name", CHECKS)
def test_row(name):
    assert row(name).ok, text([row(name)])


def test_few_exceptions():
    """Each is a line of the table with its element count and cause."""
    rows = [row(name) for name in CHECKS]
    assert passed(rows)
    excepted = {r.case: r.excepted for r in rows if r.excepted}
    assert 2 <= len(excepted) <= 4
    assert excepted["l_replay windows"].elements == 40  # two windows of five rows, four arrays
    assert excepted["j_imag_loss norms"].elements == 1
    assert sum(e.elements for case, e in excepted.items() if "deltas" in case) < 30  # of 65,000
    assert all(len(e.cause) > 40 for e in excepted.values())


def test_every_array_is_read():
    for name in CHECKS:
        row(name)
    unread = [f"{file.name} {name}" for file, _ in FILES for name in file.unread()]
    left = [n for n in unread if not any(re.fullmatch(pattern, n) for pattern in NOT_COMPARED)]
    assert left == []
    idle = [p for p in NOT_COMPARED if not any(re.fullmatch(p, n) for n in unread)]
    assert idle == [], "these are read: no need to list them"


def test_options_that_are_not_offered_are_named():
    (note,) = notes(GOLDEN)
    assert note.startswith("Not compared: g_optimizer nesterov, linear, cosine")
