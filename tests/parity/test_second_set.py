"""Every size is read from the arrays: a set of other sizes passes, and shows what is changed."""

import numpy as np
import pytest
import torch

from parity import RECIPE, Arrays, main, passed, recorded_set, run, text
from parity.recipe import load_recipe, set_up

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
