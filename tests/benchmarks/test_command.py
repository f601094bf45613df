"""The command line, and one small real measurement of worldblocks alone."""

import dataclasses

import pytest
from benchmarks.__main__ import main
from benchmarks.options import Options
from benchmarks.subject import NAMES, chosen, subject
from benchmarks.work import SIZES, Work

from benchmarks import figures


def test_return_estimators_alone(tmp_path, capsys):
    words = ["--only", "returns", "--peers", "none", "--rounds", "2", "--turn", "0.01"]
    out = tmp_path / "figures.json"
    assert main([*words, "--env", "A_SETTING=1", "--out", str(out)]) == 0
    run = figures.read(out)["latest"]
    assert run["origin"]["environment"] == {"A_SETTING": "1"}
    assert run["origin"]["command"].startswith("python -m benchmarks --only returns")
    data = run["returns"]
    plain, checked = data["contestants"].values()
    assert plain["environment"] == {"JAXTYPING_DISABLE": "1"}
    assert (plain["mode"], checked["mode"]) == ("eager", "eager, shapes checked")
    assert list(data["cases"]) == ["64x1024", "error 64x1024", "16x64", "error 16x64"]
    assert 0 < data["cases"]["64x1024"]["sides"]["worldblocks"]["figure"] < 1e6
    assert data["cases"]["error 64x1024"]["sides"]["worldblocks"]["figure"] < 1e-4
    assert "\nλ-return, 16 rows × 64\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["--only", "update,speed"],
            "--only names speed; only may name update, rssm, returns, rep",
        ),
        (["--peers", "torchrl,tianshou"], "--peers names tianshou; peers may name torchrl, sheep"),
        (["--size", "huge"], "--size names huge; size may name size1m, size12m, size25m"),
        (["--env", "MALLOC"], "--env takes KEY=VALUE, got 'MALLOC'"),
        (["--r2dreamer", "/nowhere"], "--r2dreamer is /nowhere, which is not a folder; give a ch"),
        (["--rounds", "0"], "--rounds must be at least 1, got 0"),
        (["--image-steps", "64"], "--image-steps must be at least 1040, got 64"),
        (["--page", "--out", "none.json"], "there are no figures at none.json; `python -m bench"),
        (["profile"], "unknown command 'profile'; the command is compare, and without one the"),
    ],
)
def test_what_is_wrong_with_the_options_is_one_sentence(words, sentence, capsys):
    assert main(words) == 2
    assert capsys.readouterr().err.startswith(f"benchmarks: {sentence}")


def test_an_unknown_size_of_work():
    with pytest.raises(ValueError, match=r"unknown size 'huge'; known are size1m, size12m"):
        _ = Work(size="huge").sizes
    assert SIZES["size1m"]["deter"] == 512
    assert SIZES["size200m"]["deter"] == 8192


def test_who_takes_part(tmp_path):
    """Peers of the package index always, checkouts if their path is given."""
    options = Options(python="peers/python", r2dreamer=str(tmp_path), r2dreamer_compile=True)
    names = {name: [job.name for job in subject(name).jobs(options)] for name in NAMES}
    own = ["worldblocks", "worldblocks (strided)"]
    agents = ["torchrl", "sheeprl", "r2dreamer", "r2dreamer (compiled)"]
    assert names["update"] == [*own, *agents]
    assert {"flashbax", "cpprb", "stable-baselines3", "copy floor"} <= set(names["replay"])
    assert "rlax" in names["returns"]
    few = dataclasses.replace(options, peers="r2dreamer", r2dreamer_python="own/python")
    update = subject("update").jobs(few)
    assert [job.name for job in update if not job.ours] == ["r2dreamer", "r2dreamer (compiled)"]
    assert update[-1].arguments == {"compile": True, "repo": str(tmp_path)}
    assert update[-1].python == "own/python"
    assert [job.ours for job in subject("imports").jobs(few)] == [True]
    torchrl = subject("update").jobs(options)[2]
    assert (torchrl.python, torchrl.requirement) == ("peers/python", "torchrl>=0.14")
    assert torchrl.adapter == "benchmarks.peers.torchrl:update"


def test_the_work_is_in_the_titles():
    work = Work(size="size12m", batch=2, length=16)
    assert subject("update").cases(work)["step"].title == "step, size12m, 2 × 16, horizon 15"
    update = subject("imports").cases(work)["update"]
    assert update == ("import, build, first update (size12m, 2 × 16), fresh process", "s")
    assert [one.name for one in chosen("returns, update")] == ["returns", "update"]
    assert [one.name for one in chosen("")] == list(NAMES)
