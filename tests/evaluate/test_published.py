import json

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from worldblocks.evaluate import plot_published, read_published, score_curves


@pytest.fixture
def figure(monkeypatch):
    """The figures that are saved."""
    figures = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, path: figures.append(self) or save(self, path)
    )
    return figures


@pytest.fixture
def curve(tmp_path):
    """A published curve of three bins of 10 environment steps."""
    rows = [[10, 1.0, 0.5, 5], [20, 4.0, 1.0, 5], [30, 6.0, 2.0, 4]]
    path = tmp_path / "published.json"
    path.write_text(json.dumps({"source": "a paper", "tasks": {"walk": rows}}))
    return path


def run(folder, episodes, **config):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"repeat": 2, "train_ratio": 64.0, **config}))
    lines = [json.dumps({"step": step, "score": score}) + "\n" for step, score in episodes]
    (folder / "episodes.jsonl").write_text("".join(lines))
    return folder


@pytest.fixture
def runs(tmp_path):
    """Three seeds with repeat 2: an episode at control step 5 is in the bin up to 10."""
    scores = {0: (0.0, 2.0), 1: (3.0, 4.0), 2: (1.0, 9.0)}
    return [run(tmp_path / f"seed-{n}", [(5, a), (9, b), (10, b)]) for n, (a, b) in scores.items()]


def test_a_published_curve(curve):
    walk = read_published(curve, "walk")
    assert (walk.task, walk.source, walk.width) == ("walk", "a paper", 10)
    assert walk.mean.tolist() == [1, 4, 6]
    assert walk.seeds.tolist() == [5, 5, 4]
    with pytest.raises(KeyError, match=r"no task 'wlak' in .*published.json; did you mean 'walk'"):
        read_published(curve, "wlak")


def test_curves_in_environment_steps(runs):
    steps, scores = score_curves(runs, 10)
    assert steps.tolist() == [10, 20]
    assert scores.tolist() == [[0, 2], [3, 4], [1, 9]]


def test_a_run_without_an_episode_has_no_curve(tmp_path, runs):
    with pytest.raises(ValueError, match=r"empty has no finished episode, so there is no score"):
        score_curves([*runs, run(tmp_path / "empty", [])], 10)


def test_fewer_than_five_seeds_are_all_drawn(tmp_path, curve, runs, figure):
    path = plot_published(
        runs,
        tmp_path / "figures" / "walk.png",
        published=read_published(curve, "walk"),
        others={"PPO": runs[:1]},
        parameters=312_000,
    )
    with Image.open(path) as picture:
        assert picture.size == (880, 528)
    (axes,) = figure[0].axes
    words = [text.get_text() for text in axes.get_legend().get_texts()]
    assert words == [
        "DreamerV3, published: mean ± std of 5 seeds",
        "PPO: 1 seed",
        "worldblocks: median and range of 3 seeds",
    ]
    assert axes.get_title(loc="left") == "0.31M parameters, train ratio 64, repeat 2"
    assert figure[0].get_suptitle() == "walk"
    drawn = [line.get_ydata().tolist() for line in axes.lines]
    assert [own for own in drawn if own in ([0, 2], [3, 4], [1, 9])] == [
        [0, 2],
        [0, 2],
        [3, 4],
        [1, 9],
    ]
    assert drawn[-1] == [1, 4]  # medians of 0 3 1 and of 2 4 9
    ranges = axes.collections[-1].get_paths()[0].vertices
    assert ranges[:, 1].min() == 0
    assert ranges[:, 1].max() == 9


def test_five_seeds_are_drawn_as_mean_and_standard_deviation(tmp_path, figure):
    runs = [run(tmp_path / f"seed-{n}", [(5, float(n))]) for n in range(5)]
    plot_published(runs, tmp_path / "many.png", width=10, title="many")
    (axes,) = figure[0].axes
    assert axes.lines[-1].get_ydata().tolist() == [2]
    assert axes.lines[-1].get_label() == "worldblocks: mean ± std of 5 seeds"
    low = axes.collections[-1].get_paths()[0].vertices[:, 1].min()
    assert low == pytest.approx(2 - np.sqrt(2))


def test_a_seed_without_an_episode_is_left_out(tmp_path, figure):
    runs = [run(tmp_path / "one", [(5, 1.0)]), run(tmp_path / "new", [])]
    plot_published(runs, tmp_path / "two.png", width=10, others={"theirs": runs[::-1]})
    (axes,) = figure[0].axes
    labels = {line.get_label() for line in axes.lines}
    assert {"worldblocks: 1 seed", "theirs: 1 seed"} <= labels


def test_a_run_that_has_just_begun(tmp_path, figure):
    plot_published([run(tmp_path / "new", [])], tmp_path / "new.png")
    assert [text.get_text() for text in figure[0].axes[0].texts] == ["no finished episode yet"]
