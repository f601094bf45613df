import pytest
import torch

from worldblocks.run import Captured


class Recorder:
    """What a graph does, without a GPU: the same function on the same memory, at each launch."""

    def __init__(self):
        self.launches = 0

    def __call__(self, function):
        before = torch.get_rng_state()
        result = function()
        torch.set_rng_state(before)

        def replay():
            self.launches += 1
            for old, new in zip(result.values(), function().values(), strict=True):
                old.copy_(new)

        return replay, result


def doubled(batch):
    return {"x": 2 * batch["x"] + batch["y"], "n": batch["y"].sum()}


def batch(value, size=3):
    return {"x": torch.full((2, size), float(value)), "y": torch.ones(size), "row": None}


def test_away_from_cuda_a_call_is_a_call():
    calls = []
    captured = Captured(lambda batch: calls.append(batch) or 7)
    given = batch(1)
    assert captured(given) == 7
    assert calls == [given]


def test_it_warms_up_then_records_once_then_launches():
    recorder = Recorder()
    captured = Captured(doubled, warmup=2, record=recorder)
    results = [captured(batch(value)) for value in range(5)]
    assert [out["x"][0, 0].item() for out in results] == [1, 3, 5, 7, 9]
    assert recorder.launches == 3


def test_results_stay_when_the_next_call_writes_over_the_recorded_ones():
    captured = Captured(doubled, warmup=1, record=Recorder())
    results = [captured(batch(value))["x"] for value in (1, 2, 3)]
    assert [x[0, 0].item() for x in results] == [3, 5, 7]


def test_inputs_are_copied_so_that_the_caller_may_change_them():
    captured, given = Captured(doubled, warmup=1, record=Recorder()), batch(1)
    captured(given)
    out = captured(given)
    given["x"].zero_()
    assert captured(batch(5))["x"][0, 0] == 11
    assert out["x"][0, 0] == 3


def test_other_shapes_than_the_recorded_are_refused():
    captured = Captured(doubled, warmup=1, record=Recorder())
    for value in range(2):
        captured(batch(value))
    message = r"captured for inputs .*float32\[2, 3\].* given .*float32\[2, 4\].* same shapes"
    with pytest.raises(ValueError, match=message):
        captured(batch(1, size=4))
    with pytest.raises(ValueError, match="was captured for inputs"):
        captured({**batch(1), "row": torch.zeros(1)})


def test_a_capture_warms_up():
    with pytest.raises(ValueError, match="at least 1 call to warm up, got 0"):
        Captured(doubled, warmup=0)
