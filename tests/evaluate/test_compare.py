import re

import pytest
import torch
from matplotlib.figure import Figure

from worldblocks.evaluate import compare
from worldblocks.evaluate.compare.__main__ import main
from worldblocks.run import Checkpoint, Logger, Session, run_folder


def make(folder, scores, **config):
    """A run whose episodes end at steps 10, 20, …"""
    config = {"recipe": "dreamerv3_gym", "env": "CartPole-v1", "seed": 0, **config}
    run_folder(folder, {**config, "logdir": str(folder)}, resume=False)
    logger = Logger(folder, sinks=[])
    for i, score in enumerate(scores, 1):
        logger.episode(10 * i, score=float(score), length=10)
    if scores:
        logger.write(10 * len(scores), {"updates": 5.0})
        logger.timing(10, {"seconds": 3000.0})
        logger.timing(20, {"seconds": 661.0})
    logger.close()


def cells(text):
    """The columns of each line below the heading."""
    return [re.split(r" {2,}", line.strip()) for line in text.splitlines()[2:]]


@pytest.fixture
def figure(monkeypatch):
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path: figures.append(self))
    return figures


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make("a/seed-10", [3.0] * 12, seed=10, repeat=2)
    make("a/seed-2", [1.0] * 4 + [30.0] * 10 + [1.0] * 10, seed=2, repeat=2)
    make("a/seed-3", [5.0] * 20, seed=3, repeat=2)
    make("b", [7.0, 8.0], env="Acrobot-v1")
    make("c", [])
    return tmp_path


def test_a_row_for_each_run_and_the_spread_of_seeds(runs):
    rows = cells(compare(["a", "b", "c"]))
    assert rows == [
        ["a/seed-2", "dreamerv3_gym", "CartPole-v1", "2", "480", "5", "1", "30", "1:01:01"],
        ["a/seed-3", "dreamerv3_gym", "CartPole-v1", "3", "400", "5", "5", "5", "1:01:01"],
        ["a/seed-10", "dreamerv3_gym", "CartPole-v1", "10", "240", "5", "3", "3", "1:01:01"],
        ["a", "3 seeds", "1 – 3 – 5", "3 – 5 – 30"],
        ["b", "dreamerv3_gym", "Acrobot-v1", "0", "20", "5", "7.5", "7.5", "1:01:01"],
        ["c", "dreamerv3_gym", "CartPole-v1", "0", "0", "–", "no episodes yet", "–", "–"],
    ]


def test_a_run_that_is_given_twice_has_one_row(runs):
    assert len(cells(compare(["b", runs / "b", "."]))) == 6


def test_counts_are_those_of_the_checkpoint(runs):
    parts = {"agent": torch.nn.Linear(2, 1)}
    Session(Checkpoint("b"), parts).save(step=29, updates=11, carry=torch.zeros(1))
    assert cells(compare(["b"]))[0][4:6] == ["29", "11"]


def test_seeds_that_share_a_digit_are_not_named_after_one(runs):
    make("c/seed-1", [2.0], seed=1)
    make("c/seed-10", [2.0], seed=10)
    assert cells(compare(["c"]))[-1][0] == "c"


def test_other_settings_are_other_groups(runs):
    make("a/other", [2.0], seed=4, repeat=2, lr=0.1)
    rows = cells(compare(["a"]))
    assert [row[0] for row in rows] == ["a/other", "a/seed-2", "a/seed-3", "a/seed-10", "a"]


def test_curves(runs, figure):
    compare(["a", "b", "c"], "all.png")
    cart, acrobot = figure[0].axes
    assert [axes.get_title("left") for axes in (cart, acrobot)] == ["CartPole-v1", "Acrobot-v1"]
    *thin, median = cart.lines
    assert [line.get_xdata()[-1] for line in thin] == [480, 400, 240]
    # At step 2 · 140, the last ten episodes of seed 2 have score 30; the four before have 1.
    assert thin[0].get_ydata()[13] == pytest.approx(30)
    assert (median.get_xdata()[0], median.get_xdata()[-1]) == (20, 240)
    assert (median.get_ydata()[0], median.get_ydata()[-1]) == (3, 5)
    assert [text.get_text() for text in cart.get_legend().get_texts()] == ["a (3 seeds)"]
    assert acrobot.lines[0].get_xdata().tolist() == [10, 20]


def test_curves_without_an_episode(runs, figure):
    compare(["c"], "c.png")
    assert figure[0].axes[0].texts[0].get_text() == "no finished episode yet"


def test_the_command(runs, capsys):
    assert main(["b", "c", "--output", "pictures/two.png"]) == 0
    out = capsys.readouterr().out
    assert "no episodes yet" in out
    assert out.endswith("curves: pictures/two.png\n")
    assert (runs / "pictures" / "two.png").stat().st_size > 0


def test_a_folder_without_a_run(runs, capsys):
    with pytest.raises(FileNotFoundError, match="no run in nowhere: neither it nor a folder below"):
        compare(["a", "nowhere"])
    with pytest.raises(SystemExit, match="2"):
        main(["nowhere"])
    assert "error: no run in nowhere" in capsys.readouterr().err


def test_one_lucky_first_episode_is_not_the_best_ten(runs):
    """The first mean of ten is over 100 and nine times 1; with fewer episodes, over all of them."""
    make("lucky", [100.0, *[1.0] * 9, *[2.0] * 5])
    assert cells(compare(["lucky"]))[0][6:8] == ["1.5", "10.9"]
    make("short", [100.0, 1.0])
    assert cells(compare(["short"]))[0][6:8] == ["50.5", "50.5"]


def test_the_tasks_of_a_run_are_never_averaged(tmp_path, monkeypatch, figure):
    monkeypatch.chdir(tmp_path)
    for seed, scores in ((0, {"walk": 900.0, "balance": 10.0}), (1, {"walk": 700.0, "swim": 3.0})):
        make(f"m/seed-{seed}", [], recipe="multitask_dmc", env=None, tasks=["walk", "balance"])
        run = tmp_path / "m" / f"seed-{seed}"
        logger = Logger(run, sinks=[])
        for task, score in scores.items():
            logger.episode(10, score=score, length=10, task=task)
        logger.close()
    rows = [(row[0], row[2], row[-3]) for row in cells(compare(["m"], tmp_path / "m.png"))]
    assert [row for row in rows if row[0] != "m"] == [
        ("m/seed-0", "walk", "900"),
        ("m/seed-1", "walk", "700"),
        ("m/seed-0", "balance", "10"),
        ("m/seed-1", "balance", "no episodes yet"),
        ("m/seed-1", "swim", "3"),
    ]
    assert [axes.get_title(loc="left") for axes in figure[0].axes] == ["walk", "balance", "swim"]


def test_a_picture_that_cannot_be_written_is_said_first(runs, capsys):
    (runs / "file").touch()
    with pytest.raises(SystemExit):
        main(["a", "--output", "file/compare.png"])
    assert "file is not a folder; give --output in another folder" in capsys.readouterr().err
