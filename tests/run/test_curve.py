import json
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

from worldblocks.run import Logger, plot_curve, run_folder, running_mean
from worldblocks.run.curve.__main__ import main


@pytest.fixture
def figure(monkeypatch):
    """The saved figure."""
    figures = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, path: figures.append(self) or save(self, path)
    )
    return figures


def test_running_mean_by_hand():
    assert running_mean(np.array([1.0, 3.0, 5.0, 9.0]), 2).tolist() == [1.0, 2.0, 4.0, 7.0]


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=30), st.integers(1, 12))
def test_running_mean_against_a_loop(values, count):
    expected = [np.mean(values[max(0, i + 1 - count) : i + 1]) for i in range(len(values))]
    assert np.allclose(running_mean(np.array(values), count), expected, atol=1e-9)


def test_a_run(tmp_path, figure):
    logger = Logger(tmp_path, sinks=[])
    for step in range(100, 1600, 100):
        logger.episode(step, score=step / 100, length=100)
        logger.write(step, {"loss/image": 1e3 / step, "loss/actor": float("nan"), "rate": 2.0})
    logger.close()
    path = plot_curve(tmp_path, title="boxing")
    with Image.open(path) as picture:
        assert (picture.format, picture.size) == ("PNG", (990, 770))
    upper, lower = figure[0].axes
    dots, mean = upper.lines
    assert dots.get_ydata().tolist() == list(range(1, 16))
    assert mean.get_ydata()[-1] == pytest.approx(10.5)
    assert [line.get_label() for line in lower.lines] == ["image"]  # a NaN is null: not drawn
    assert figure[0].get_suptitle() == "boxing"


def test_chosen_losses(tmp_path, figure):
    lines = [{"step": 1, "a": 2.0}, {"step": 2, "a": 1.0, "b": 5.0}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    plot_curve(tmp_path, losses=("b", "a", "c"))
    drawn = figure[0].axes[1].lines
    assert [line.get_label() for line in drawn] == ["b", "a"]
    assert [list(line.get_xdata()) for line in drawn] == [[2], [1, 2]]


def test_a_run_without_episodes_says_so(tmp_path, figure):
    plot_curve(tmp_path)
    words = [axes.texts[0].get_text() for axes in figure[0].axes]
    assert words == ["no finished episode yet", "no losses yet"]


def test_no_state_of_pyplot_is_touched(tmp_path):
    before = sys.modules.pop("matplotlib.pyplot", None)
    plot_curve(tmp_path)
    assert "matplotlib.pyplot" not in sys.modules
    if before:
        sys.modules["matplotlib.pyplot"] = before


def test_a_missing_package_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"plot_curve needs the extra 'run' \(matplotlib\): pip"):
        plot_curve(tmp_path)


def test_the_command_draws_a_run_that_is_still_going(tmp_path, capsys):
    run = run_folder(tmp_path / "run", {"seed": 0}, resume=False)
    assert main([str(run)]) == 0
    assert capsys.readouterr().out == f"{run / 'curve.png'}\n"
    assert (run / "curve.png").stat().st_size > 0
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path)])
    assert f"error: {tmp_path} holds no run" in capsys.readouterr().err
