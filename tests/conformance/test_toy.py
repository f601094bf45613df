"""The page on blocks of one's own: its toy passes, its twins fail with the words it shows."""

import functools
from pathlib import Path

import pytest
import toy_twins
from toy_rssm import ToyRSSM

import worldblocks as wb

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"
SIZES = {"embed_dim": 6, "action_dim": 3}
make = functools.partial(ToyRSSM, 6, 3)

test_toy_rssm = wb.testing.suite(
    wb.testing.check_dynamics,
    make,
    prior=ToyRSSM.prior,
    latent=lambda state: state.stoch,
    **SIZES,
)


@pytest.mark.parametrize(
    ("twin", "promise", "word"),
    [
        (toy_twins.KeepsItsSample, "reset-forgets", "is_first"),
        (toy_twins.ActsTooEarly, "action-of-its-row", "prev_action"),
        (toy_twins.SamplesWithoutGradient, "gradients-of-features", "no gradient"),
    ],
)
def test_a_twin_is_named(twin, promise, word):
    with pytest.raises(wb.testing.BrokenPromise) as error:
        wb.testing.check_dynamics(functools.partial(twin, 6, 3), only=[promise], **SIZES)
    said = str(error.value)
    assert word in said
    page = PAGE.read_text(encoding="utf-8")
    for line in said.splitlines():
        if "largest difference" not in line:
            assert line in page, line


def test_the_toy_is_as_short_as_the_page_says():
    code = Path(__file__).with_name("toy_rssm.py").read_text(encoding="utf-8")
    body = code.split("class ToyRSSM")[1].splitlines()
    assert sum(bool(line.strip()) for line in body) <= 40
