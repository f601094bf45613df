"""The table and the command, and a second set of arrays with other sizes."""

import shutil

import numpy as np
import pytest
import torch

from golden_folder import GOLDEN
from parity import (
    RECIPE,
    Arrays,
    Check,
    Error,
    Excepted,
    Record,
    Row,
    compare,
    main,
    markdown,
    passed,
    recipe,
    recorded_set,
    run,
    text,
)
from parity.agent import excuse
from parity.recipe import load_recipe, set_up


def check(run, case="case"):
    return Check("z", case, "something", run)


def test_error_by_hand():
    """max |difference| over max |reference|: 0.5 / 4."""
    error = compare("x", torch.tensor([1.0, -4.5]), np.array([1.0, -4.0]), 1e-1)
    assert (error.error, error.elements, error.ok) == (0.125, 2, False)


def test_an_array_of_zeros_is_compared_absolutely():
    assert compare("x", [0.0, 3e-6], [0.0, 0.0], 1e-5).error == 3e-6


@pytest.mark.parametrize("ours", [[1.0, np.nan], [1.0, np.inf]])
def test_what_is_not_finite_is_beyond_any_tolerance(ours):
    assert compare("x", ours, [1.0, 2.0], 1e9).error == np.inf


def test_shapes_do_not_broadcast():
    error = compare("x", np.zeros((3, 1)), np.zeros(3), 1.0)
    assert error.error == np.inf
    assert error.cause == "our shape is (3, 1), the reference's (3,)"


def test_nothing_to_compare_in_an_empty_array():
    assert compare("x", np.zeros(0), np.zeros(0), 1e-5).ok


def test_a_row_needs_something_compared():
    row = check(lambda record: None).row()
    assert not row.ok
    assert "FAIL  case: nothing was compared" in text([row])


def test_the_array_at_fault_is_named_worst_first():
    def compared(record: Record):
        record.value("good", [1.0], [1.0])
        record.value("bad", [1.01], [1.0])
        record.gradient("worse", None, [1.0, 2.0])

    row = check(compared).row()
    assert [fault.array for fault in row.faults] == ["worse", "bad"]
    out = text([row])
    assert "FAIL  case: worse: error 1.0e+00 > 1e-04, 2 elements" in out
    assert "FAIL  case: bad: error 1.0e-02 > 1e-05, 1 elements" in out
    assert "0 of 1 rows within tolerance" in out


def test_what_is_raised_becomes_the_problem_of_the_row():
    file = Arrays({"a.b": np.ones(2)}, name="file")
    row = check(lambda record: record.value("a.c", 1, file.at("a")["c"])).row()
    assert row.problem == "KeyError: 'file has no array a.c'"
    assert "FAIL  case: KeyError" in text([row])


def test_arrays_below_a_path():
    file = Arrays({"a.b.c": np.ones(2), "a.d": np.zeros(()), "ab": np.ones(1)}, name="file")
    assert list(file.at("a")) == ["b.c", "d"]
    assert (file.parts(), file.at("a").parts(), len(file.at("a"))) == (["a", "ab"], ["b", "d"], 2)
    assert file.at("a").at("b").tensor("c").tolist() == [1, 1]
    assert file.at("a").number("d") == 0
    assert file.unread() == ["ab"]
    assert "d" in file.at("a")
    assert "x" not in file.at("a")


def exception_rows(count):
    fine = Error("x", 3, 0.0, 1e-5)
    return [Row("z", f"case{i}", "w", (fine,), (), Excepted(7, "a cause")) for i in range(count)]


def test_an_exception_is_a_line_with_count_and_cause():
    rows = exception_rows(5)
    assert passed(rows)
    assert "7 elements: a cause" in text(rows)
    assert text(rows).count("exception\n") == 5


def test_six_exceptions_are_too_many():
    rows = exception_rows(6)
    assert not passed(rows)
    assert "FAIL  6 exceptions; 5 are allowed" in text(rows)


def test_no_rows_are_no_success():
    assert not passed([])


def test_markdown_has_a_line_for_each_row():
    row = check(lambda record: record.value("x", 1.0, 1.0), case="a|b").row()
    lines = markdown([row], ["A note."]).splitlines()
    assert lines[0].endswith("e3f02248693a79dc8b0ebd62c93683888ddaccfe`.")
    assert "| z | a\\|b | something | 1 | 0.0e+00 | - | 1e-05 | ok |" in lines
    assert lines[-1] == "A note."


def test_excused_elements_by_hand():
    """One place of 4 is 4.8e-7: that is excused, and one small element in 250; more is not."""
    reference, parameter = torch.full((500,), 1e-3), torch.full((500,), 0.1)
    ours = reference.clone()
    parameter[0], ours[0] = 4.0, ours[0] + 4.7e-7
    ours[1:3] += 9e-6
    assert excuse(ours, reference, parameter).nonzero().flatten().tolist() == [0, 1, 2]
    ours[3] += 9e-6
    assert excuse(ours, reference, parameter).nonzero().flatten().tolist() == [0]
    assert not excuse(reference + 2e-5, reference, torch.ones(500)).any()


def test_command_passes_on_the_recorded_arrays(capsys):
    assert main(["--groups", "ab"]) == 0
    out = capsys.readouterr().out
    assert "e3f02248693a79dc8b0ebd62c93683888ddaccfe" in out
    assert "8 of 8 rows within tolerance, 0 exceptions" in out


def test_markdown_command(capsys):
    assert main(["--groups", "b", "--markdown"]) == 0
    assert capsys.readouterr().out.count("| b | ") == 6


def test_a_changed_array_in_markdown_is_on_stderr(tmp_path, capsys):
    shutil.copy(GOLDEN / "b_lambda_return.npz", tmp_path)
    with np.load(tmp_path / "b_lambda_return.npz") as file:
        changed = dict(file)
    changed["ones.ret"] = changed["ones.ret"] + 1e-3
    np.savez(tmp_path / "b_lambda_return.npz", **changed)
    assert main(["--golden", str(tmp_path), "--groups", "b", "--markdown"]) == 1
    assert "FAIL  b_lambda_return ones: ones.ret: error" in capsys.readouterr().err


def test_a_missing_file_is_a_failing_row(tmp_path):
    rows = run(tmp_path, tmp_path, "d")
    assert [row.problem for row in rows] == [
        f"FileNotFoundError: there is no d_rssm_*.npz in {tmp_path}"
    ]


def test_a_missing_folder(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["--golden", str(tmp_path / "none")])
    assert "--golden takes a folder" in capsys.readouterr().err


def test_the_blocks_compute_on_the_device_that_is_named(capsys):
    """On the meta device every comparison fails with a message that names it."""
    rows = run(GOLDEN, recipe.RECIPE, "b", device="meta")
    assert rows
    assert all("meta" in row.problem for row in rows)
    assert main(["--golden", str(GOLDEN), "--groups", "b", "--device", "meta"]) == 1
    assert "meta" in capsys.readouterr().out


GROUPS = "bdfjkl"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(1)
    rng, path = np.random.default_rng(1), tmp_path_factory.mktemp("golden")
    rssm, core = recorded_set.dynamics()
    files = {"b_lambda_return": recorded_set.lambda_returns(rng)}
    files |= {"d_rssm_other": rssm, "f_blockgru_other": core}
    files |= {"j_repl_loss": recorded_set.replayed_loss(rng), "l_replay": recorded_set.replay(rng)}
    files["k_agent_other"] = recorded_set.whole_agent(load_recipe(RECIPE))
    for name, arrays in files.items():
        np.savez(path / f"{name}.npz", **arrays)
    return path


@pytest.mark.parametrize("group", GROUPS)
def test_other_sizes_pass(folder, group):
    rows = [row for row in run(folder, RECIPE, group) if row.case != "j_imag_loss"]
    assert passed(rows), text(rows)
    assert sum(len(row.values) for row in rows) > 0


def test_the_horizon_is_found(folder):
    setup = set_up(Arrays.load(folder / "k_agent_other.npz"), RECIPE)
    assert setup.cfg.horizon == 7
    assert (setup.cfg.units, setup.cfg.deter, setup.cfg.hidden, setup.cfg.depth) == (10, 24, 9, 2)
    assert (setup.cfg.groups, setup.cfg.classes, setup.cfg.blocks) == (3, 5, 4)


# One array of each file, changed by a thousandth.
CHANGED = {
    "b_lambda_return": "slow.ret",
    "d_rssm_other": "seq_mode.grads.dyn/dyngru/kernel",
    "f_blockgru_other": "out",
    "j_repl_loss": "other.losses.repval",
    "k_agent_other": "step2.replay.dyn/deter",
    "l_replay": "writeback.lat",
}


@pytest.mark.parametrize("file", CHANGED)
def test_one_changed_array_fails_and_is_named(folder, tmp_path, capsys, file):
    with np.load(folder / f"{file}.npz") as arrays:
        changed = dict(arrays)
    name = CHANGED[file]
    changed[name] = changed[name] * np.float32(1 + 1e-3)
    np.savez(tmp_path / f"{file}.npz", **changed)
    group = "j_imag" if file == "j_repl_loss" else file[0]
    code = main(["--golden", str(tmp_path), "--groups", group[0]])
    faults = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAIL")]
    assert code == 1
    assert any(f" {name}: error 1.0e-03 > 1e-0" in line for line in faults), faults
    assert all(name in line or "j_imag_loss" in line for line in faults)
