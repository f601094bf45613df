import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from worldblocks.diagnose import (
    image_checks,
    realised_return,
    reward_check,
    value_check,
    vector_checks,
)
from worldblocks.evaluate import Check, format_report, write_report

BATCH, CONTEXT, TIME = 2, 3, 19


def moving():
    """A bright dot that moves one pixel per row, so that repeating a frame is wrong."""
    truth = torch.zeros(BATCH, TIME, 4, 23, 1, dtype=torch.uint8)
    for t in range(TIME):
        truth[:, t, :, t] = 255
    return truth


def images(imagined, shuffled, truth=None):
    truth = moving() if truth is None else truth
    mean = truth.float().mean((0, 1)) / 255
    return image_checks(truth, imagined, shuffled, CONTEXT, mean)


def test_a_perfect_model_passes():
    real = moving().float() / 255
    checks = images(real, real.flip(1))
    assert [check.passed for check in checks] == [None, None, True, True]
    lines = format_report(checks).splitlines()
    assert lines[2] == (
        "PASS  open-loop image error at 15 steps: 0 < 0.087 repeat last frame, < 0.0412 mean frame"
    )
    assert lines[0].startswith("INFO  open-loop image error at 1 step: 0 < 0.087 repeat last frame")
    assert lines[3] == (
        "PASS  image error at 15 steps with the true actions: 0 < 0.087 with shuffled actions "
        "(gap ± 0)"
    )


def test_vectors_are_judged_as_images_are():
    """A ramp: a perfect model passes, and repeating the last row is 15 steps behind."""
    truth = torch.arange(TIME).float().reshape(1, TIME, 1).repeat(BATCH, 1, 4)
    checks = vector_checks(truth, truth, truth.flip(1), CONTEXT, truth.mean((0, 1)))
    assert [check.passed for check in checks] == [None, None, True, True]
    assert format_report(checks[2:]).splitlines() == [
        "PASS  open-loop vector error at 15 steps: 0 < 225 repeat last vector, < 64 mean vector",
        "PASS  vector error at 15 steps with the true actions: 0 < 256 with shuffled actions "
        "(gap ± 0)",
    ]
    late = truth.roll(1, 1)
    assert vector_checks(late, truth, truth, CONTEXT, truth[0, 0])[3].passed is False


def test_errors_by_hand():
    """The row at k steps is context + k - 1; error 0.1 k there gives 0.01 k^2."""
    truth = torch.zeros(BATCH, TIME, 4, 5, 3, dtype=torch.uint8)
    imagined = 0.1 * (torch.arange(TIME) - CONTEXT + 1).reshape(TIME, 1, 1, 1).expand(truth.shape)
    checks = images(imagined, imagined, truth)
    assert [check.detail.split()[0] for check in checks] == ["0.01", "0.25", "2.25", "2.25"]


def test_a_model_that_ignores_actions_fails():
    real = moving().float() / 255
    checks = images(real * 0.9, real * 0.9)
    assert [check.passed for check in checks] == [None, None, True, False]
    assert ">= 0.00" in checks[3].detail


def test_a_model_that_repeats_or_averages_fails():
    real = moving().float() / 255
    repeats = real[:, CONTEXT - 1 : CONTEXT].expand_as(real)
    mean = real.mean((0, 1)).expand_as(real)
    for guess in (repeats, mean, torch.full_like(real, torch.nan)):
        assert images(guess, real.flip(1))[2].passed is False


@pytest.mark.parametrize(("context", "rows"), [(4, 18), (0, 19)])
def test_too_short_to_judge(context, rows):
    truth = moving()[:, :rows]
    message = (
        f"at least one context row and 15 rows after it, got {rows} rows with context={context}"
    )
    with pytest.raises(ValueError, match=message):
        image_checks(truth, truth / 255, truth / 255, context, truth[0, 0] / 255)


def test_rewards():
    reward = torch.tensor([[0.0, 1.0, 0.0], [-2.0, 0.0, 0.0]])
    guess = torch.tensor([[9.0, 0.5, 9.0], [-1.0, 9.0, 9.0]])  # only rows 1 and 3 count
    check = reward_check(reward, guess)
    assert (check.passed, check.detail) == (True, "0.625 < 2.5 always zero (2 rewards)")
    assert reward_check(reward, torch.zeros_like(guess)).passed is False
    none = reward_check(torch.zeros(2, 3), guess)
    assert (none.passed, none.detail) == (None, "every reward of the held-out sequences is 0")


def test_values():
    value = torch.tensor([1.0, 2.0, 3.0, 50.0])
    valid = torch.tensor([True, True, True, False])
    check = value_check(value, torch.tensor([2.0, 4.0, 6.0, -9.0]), valid)
    assert (check.passed, check.detail) == (True, "1.000 > 0 (3 rows)")
    check = value_check(value, torch.tensor([2.0, 0.0, 1.0, 9.0]), valid)
    assert (check.passed, check.detail) == (False, "-0.500 not > 0 (3 rows)")
    assert value_check(value, torch.ones(4), valid).passed is None
    assert value_check(value, value, valid & False).detail == "the 0 known returns are all equal"
    assert value_check(torch.ones(4), value, valid).passed is False


def test_a_report_is_written_as_lines_and_as_data(tmp_path):
    real = moving().float() / 255
    row = torch.tensor([0.0, 1.0, 3.0])
    known = torch.ones(1, 3, dtype=torch.bool)
    checks = [*images(real, real.flip(1)), reward_check(row, row)]
    checks += [value_check(row[None], row[None], known), Check("score", None, "not judged")]
    text = write_report(tmp_path, checks)
    assert [line[:4] for line in text.splitlines()] == ["INFO"] * 2 + ["PASS"] * 4 + ["INFO"]
    assert text.endswith("INFO  score: not judged")
    assert (tmp_path / "report.txt").read_text() == text + "\n"
    entries = json.loads((tmp_path / "report.json").read_text())
    assert [Check(**entry) for entry in entries] == checks


def flags(*rows, time=6):
    out = torch.zeros(1, time, dtype=torch.bool)
    out[0, list(rows)] = True
    return out


def test_realised_return_by_hand():
    reward = torch.tensor([[7.0, 1.0, 2.0, 4.0, 8.0, 16.0]])
    returns, known = realised_return(reward, flags(), flags(), 0.5, horizon=2)
    assert returns[known].tolist() == [2.0, 4.0, 8.0, 16.0]
    assert known.tolist() == [[True] * 4 + [False] * 2]
    # Row 3 is terminal: no reward comes after it, and row 3 itself has no return.
    returns, known = realised_return(reward, flags(3), flags(3), 0.5, horizon=2)
    assert known.tolist() == [[True, True, True, False, False, False]]
    assert returns[known].tolist() == [2.0, 4.0, 4.0]
    # Row 3 is a time limit: returns across it are not known.
    returns, known = realised_return(reward, flags(3), flags(), 0.5, horizon=2)
    assert known.tolist() == [[True, True, False, False, False, False]]


def test_the_horizon_is_that_of_the_discount():
    reward = torch.ones(1, 30)
    none = flags(time=30)
    assert realised_return(reward, none, none, 0.9)[1].sum() == 20
    assert realised_return(reward, none, none, 0.99)[1].sum() == 0
    assert realised_return(reward, flags(29, time=30), flags(29, time=30), 0.99)[1].sum() == 29


@given(st.data(), st.integers(1, 9))
def test_realised_return_against_a_loop(data, horizon):
    time = 8
    kinds = data.draw(st.lists(st.sampled_from("...tl"), min_size=time, max_size=time))
    torch.manual_seed(data.draw(st.integers(0, 99)))
    reward = torch.randn(1, time)
    last = torch.tensor([[kind != "." for kind in kinds]])
    terminal = torch.tensor([[kind == "t" for kind in kinds]])
    returns, known = realised_return(reward, last, terminal, 0.7, horizon=horizon)
    for t in range(time):
        total, fine = 0.0, kinds[t] == "."
        for k in range(1, horizon + 1):
            if not fine or t + k >= time:
                fine = False
                break
            total += 0.7 ** (k - 1) * float(reward[0, t + k])
            if kinds[t + k] == "t":
                break
            fine = kinds[t + k] != "l" or k == horizon
        assert bool(known[0, t]) == fine
        if fine:
            assert float(returns[0, t]) == pytest.approx(total, abs=1e-5)


@pytest.mark.parametrize(("gamma", "horizon"), [(1.0, 3), (-0.1, None), (0.9, 0)])
def test_discounts_that_make_no_sense(gamma, horizon):
    message = (
        f"0 <= gamma < 1 and a horizon of at least one row, got gamma={gamma}, horizon={horizon}"
    )
    with pytest.raises(ValueError, match=message):
        realised_return(torch.zeros(1, 6), flags(), flags(), gamma, horizon=horizon)
