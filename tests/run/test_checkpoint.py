import json
import os
import pickle
import shutil
import sys

import numpy as np
import pytest
import torch
from torch import nn

from worldblocks.run import Checkpoint, load_module_state
from worldblocks.run.saves.durable import fingerprint


class Rows:
    """A store of numbers: one file per two numbers, written once."""

    def __init__(self, rows=()):
        self.rows = list(rows)
        self.written = []

    def save(self, folder):
        files = {}
        for start in range(0, len(self.rows), 2):
            part = self.rows[start : start + 2]
            name = f"rows-{start}-{len(part)}.json"
            if not (folder / name).exists():
                (folder / name).write_text(json.dumps(part))
                self.written.append(name)
            files[name] = fingerprint(folder / name)
        return {"files": files, "count": len(self.rows)}

    def load(self, folder, manifest):
        parts = [json.loads((folder / name).read_text()) for name in manifest["files"]]
        self.rows = [row for part in parts for row in part]


def state(n):
    return {
        "agent": {"encoder.weight": torch.full((3, 2), float(n)), "bias": torch.arange(5.0)},
        "optim": {0: {"step": torch.tensor(n), "betas": (0.9, 0.99)}, 1: {}},
        "env": [b"\x00\x01" * n, np.arange(n, dtype=np.uint16), None],
        "step": n,
        "sampler": 2**120 + n,
    }


def names(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_round_trip(tmp_path):
    saver = Checkpoint(tmp_path)
    assert not saver.exists()
    saver.save(state(3))
    assert saver.exists()
    loaded = Checkpoint(tmp_path).load()
    assert str(loaded) == str(state(3))
    assert list(loaded["optim"]) == [0, 1]
    assert loaded["env"][1].dtype == np.uint16
    loaded["agent"]["bias"].add_(1)  # writable, without changing the file
    assert str(Checkpoint(tmp_path).load()) == str(state(3))


def test_every_dtype_through_the_file(tmp_path):
    dtypes = ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "c8"]
    saved = {
        "arrays": {dtype: np.arange(6).reshape(2, 3).astype(dtype) for dtype in dtypes},
        "scalars": [np.float32(0.1), np.uint64(2**63), np.bool_(True)],
        "empty": [torch.zeros(0), torch.zeros(3, 0), b"", np.zeros(0, np.int8), {}, [], ()],
        "tensors": [torch.tensor(2.5), torch.ones(3, 2).T, torch.ones(2, dtype=torch.bfloat16)],
        "tied": [torch.ones(2)] * 2,
        "numbers": [0.1, float("inf"), 2**127, -1, True, None, "text λ"],
    }
    Checkpoint(tmp_path).save(saved)
    loaded = Checkpoint(tmp_path).load()
    assert str(loaded) == str(saved)
    assert [a.dtype for a in loaded["arrays"].values()] == [np.dtype(d) for d in dtypes]
    assert [type(x) for x in loaded["scalars"]] == [np.float32, np.uint64, np.bool_]
    assert [type(x) for x in loaded["numbers"]] == [type(x) for x in saved["numbers"]]


def test_a_save_replaces_the_one_before(tmp_path):
    saver = Checkpoint(tmp_path)
    saver.save(state(1))
    saver.save(state(2))
    assert names(saver.folder) == ["manifest.json", "state-0000002.safetensors"]
    assert saver.load()["step"] == 2
    assert Checkpoint(tmp_path).load()["step"] == 2


def test_keeping_more_than_one(tmp_path):
    saver, rows = Checkpoint(tmp_path, keep=2), Rows()
    for n in range(1, 5):
        rows.rows = list(range(n))
        saver.save(state(n), stores={"rows": rows})
    assert [saver.load(back)["step"] for back in (0, 1)] == [4, 3]
    older = Rows()
    saver.load_stores({"rows": older}, back=1)
    assert older.rows == [0, 1, 2]
    with pytest.raises(ValueError, match=r"back=2 was requested, but .* keeps 2 saves"):
        saver.load(2)
    with pytest.raises(ValueError, match="keep is the number of saves to keep, at least 1, got 0"):
        Checkpoint(tmp_path, keep=0)


def test_stores(tmp_path):
    saver, rows = Checkpoint(tmp_path), Rows([4, 5, 6])
    saver.save(state(1), stores={"rows": rows})
    rows.rows += [7, 8]
    saver.save(state(2), stores={"rows": rows})
    assert rows.written == ["rows-0-2.json", "rows-2-1.json", "rows-2-2.json", "rows-4-1.json"]
    assert names(saver.folder / "rows") == ["rows-0-2.json", "rows-2-2.json", "rows-4-1.json"]
    loaded = Rows()
    Checkpoint(tmp_path).load_stores({"rows": loaded})
    assert loaded.rows == [4, 5, 6, 7, 8]
    with pytest.raises(KeyError, match=r"no store 'replay' in .*this checkpoint has \['rows'\]"):
        saver.load_stores({"rows": loaded, "replay": loaded})


def test_files_of_other_people_stay(tmp_path):
    saver = Checkpoint(tmp_path)
    saver.save(state(1))
    (saver.folder / "notes.txt").write_text("mine")
    saver.save(state(2), stores={"rows": Rows([1])})
    saver.save(state(3))
    assert "notes.txt" in names(saver.folder)
    assert "rows/rows-0-1.json" in names(saver.folder)  # a store that is not saved keeps its files


def test_weights(tmp_path):
    saver = Checkpoint(tmp_path)
    saver.save({"agent": {"a/b": torch.ones(2), "c.d": torch.zeros(3)}, "agents": torch.ones(1)})
    weights = saver.weights("agent")
    assert {name: list(t.shape) for name, t in weights.items()} == {"a/b": [2], "c.d": [3]}
    assert saver.weights("agent/").keys() == weights.keys()
    with pytest.raises(
        KeyError, match=r"no tensors under 'agnet/' in .*it has \['agent', 'agents'"
    ):
        saver.weights("agnet/")


def test_weights_and_header_of_a_run_without_its_replay(tmp_path):
    saver = Checkpoint(tmp_path)
    saved = {"agent": {"w": torch.ones(2)}, "raw": [b"\x01", 3], "position": {"step": [64]}}
    saver.save(saved, stores={"replay": Rows([1, 2, 3])})
    shutil.rmtree(saver.folder / "replay")
    assert saver.weights("agent")["w"].tolist() == [1.0, 1.0]
    nothing = {"agent": {"w": None}, "raw": [None, 3], "position": {"step": [64]}}
    assert saver.header() == nothing
    with pytest.raises(FileNotFoundError, match=r"the checkpoint needs .*rows-0-2.json, which is"):
        saver.load()


def test_nothing_is_unpickled(tmp_path, monkeypatch):
    def forbidden(*args, **kwargs):
        raise AssertionError("pickle would execute code")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, forbidden)
    monkeypatch.setattr(torch, "load", forbidden)
    saver, rows = Checkpoint(tmp_path), Rows()
    saver.save(state(2), stores={"rows": Rows([1, 2, 3])})
    saver.load_stores({"rows": rows})
    assert (str(saver.load()), rows.rows) == (str(state(2)), [1, 2, 3])


@pytest.fixture
def saved(tmp_path):
    saver = Checkpoint(tmp_path)
    saver.save(state(2), stores={"rows": Rows([1, 2, 3])})
    return saver


def fails(saver, error, message):
    with pytest.raises(error, match=message):
        saver.load()


def test_no_checkpoint(tmp_path):
    message = "no checkpoint in .*: nothing has been saved there; start the run without --resume"
    fails(Checkpoint(tmp_path), FileNotFoundError, message)


@pytest.mark.parametrize("name", ["state-0000001.safetensors", "rows/rows-2-1.json"])
def test_a_missing_file(saved, name):
    (saved.folder / name).unlink()
    fails(saved, FileNotFoundError, f"the checkpoint needs .*{name}, which is missing; restore it")


@pytest.mark.parametrize("name", ["state-0000001.safetensors", "rows/rows-2-1.json"])
def test_a_truncated_file(saved, name):
    path = saved.folder / name
    size = path.stat().st_size
    os.truncate(path, size - 1)
    message = f"{name} is truncated: it has {size - 1} bytes, but {size} were saved; restore"
    fails(saved, ValueError, message)


def test_a_file_that_grew(saved):
    with (saved.folder / "state-0000001.safetensors").open("ab") as file:
        file.write(b"x")
    fails(saved, ValueError, "state-0000001.safetensors is too long: it has")


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_any_flipped_byte_of_the_state(saved):
    path = saved.folder / "state-0000001.safetensors"
    size = path.stat().st_size
    for at in (0, 7, 8, 20, size // 2, size - 1):
        flip(path, at)
        fails(saved, ValueError, "is corrupted: its CRC32 is [0-9a-f]{8}, but [0-9a-f]{8} was")
        with pytest.raises(ValueError, match="is corrupted"):
            saved.weights("agent/")
        flip(path, at)
    assert saved.load()["step"] == 2


def test_any_flipped_byte_of_the_manifest(saved):
    path = saved.folder / "manifest.json"
    for at in range(path.stat().st_size):
        flip(path, at)
        with pytest.raises(
            ValueError, match=r"manifest.json (is corrupted: it is not the li|has for)"
        ):
            saved.load()
        flip(path, at)
    assert saved.load()["step"] == 2


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', "null"])
def test_a_manifest_that_is_none(saved, text):
    (saved.folder / "manifest.json").write_text(text)
    fails(
        saved, ValueError, "manifest.json is corrupted: it is not the list of files that was saved"
    )
    with pytest.raises(ValueError, match=r"manifest\.json is corrupted"):
        saved.save(state(3))
    assert "state-0000001.safetensors" in names(saved.folder)  # still nothing lost


def test_another_format_version(saved):
    path = saved.folder / "manifest.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    fails(
        saved, ValueError, "has format version 2; this version of worldblocks reads 1: load it wi"
    )


class Stopped(BaseException):
    pass


DURABLE = ("fsync", "replace", "unlink")


def stop_at(monkeypatch, count):
    """Raise from the `count`-th call on that changes the disk."""
    calls = [0]

    def stopping(real):
        def call(*args, **kwargs):
            calls[0] += 1
            if calls[0] >= count:
                raise Stopped
            return real(*args, **kwargs)

        return call

    for name in DURABLE:
        monkeypatch.setattr(os, name, stopping(getattr(os, name)))
    return calls


def test_stopped_anywhere_inside_a_save(tmp_path, monkeypatch):
    """The old checkpoint or the new one is complete, and the next save works."""
    steps, count = [], 0
    while True:
        count += 1
        folder = tmp_path / str(count)
        rows = Rows([1, 2, 3])
        Checkpoint(folder).save(state(1), stores={"rows": rows})
        rows.rows += [4]
        with monkeypatch.context() as patch:
            calls = stop_at(patch, count)
            try:
                Checkpoint(folder).save(state(2), stores={"rows": rows})
            except Stopped:
                pass
            else:
                break
        assert calls[0] >= count
        loaded, found = Checkpoint(folder).load(), Rows()
        Checkpoint(folder).load_stores({"rows": found})
        assert str(loaded) == str(state(loaded["step"]))
        assert found.rows == [1, 2, 3, 4][: loaded["step"] + 2]
        steps.append(loaded["step"])
        Checkpoint(folder).save(state(3), stores={"rows": rows})
        assert Checkpoint(folder).load()["step"] == 3
        assert len(names(folder / "checkpoint")) == 4
    assert steps == sorted(steps)
    assert set(steps) == {1, 2}


def test_a_state_that_cannot_be_saved_changes_nothing(saved):
    before = names(saved.folder)
    with pytest.raises(TypeError, match="'bad' is <class 'set'>"):
        saved.save({"bad": set()})
    assert names(saved.folder) == before
    assert saved.load()["step"] == 2


def test_a_store_that_fails_changes_nothing(saved):
    class Full:
        def save(self, folder):
            (folder / "half").write_text("x")
            raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space left"):
        saved.save(state(3), stores={"rows": Full()})
    assert saved.load()["step"] == 2
    saved.save(state(4), stores={"rows": Rows([1])})
    assert names(saved.folder / "rows") == ["rows-0-1.json"]


def test_a_missing_package_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(ImportError, match=r"Checkpoint needs the extra 'run' \(safetensors\): pip"):
        Checkpoint(tmp_path).save(state(1))


def model(width=4):
    return nn.Sequential(nn.Linear(3, width), nn.Linear(width, 2))


def test_weights_into_a_module(tmp_path):
    one, two = model(), model()
    saver = Checkpoint(tmp_path)
    saver.save({"agent": one.state_dict()})
    load_module_state(two, saver.weights("agent"))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            model(5),
            r"'0.weight' is \[5, 3\] in the checkpoint and \[4, 3\] in the model: a checkpoint "
            "of another model size; build it as the run's config.json says",
        ),
        (
            model()[:1],
            r"the model needs '1.weight' \[2, 4\], which the checkpoint does not have: a ch",
        ),
        (
            model().append(nn.Linear(2, 6)),
            r"the checkpoint has '2.weight' \[6, 2\], which the model ",
        ),
    ],
)
def test_weights_of_another_model(other, message):
    module = model()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        load_module_state(module, other.state_dict())
    assert all(torch.equal(before[name], t) for name, t in module.state_dict().items())


def test_a_missing_manifest_is_not_a_new_run(tmp_path):
    saver = Checkpoint(tmp_path)
    assert not saver.exists()
    for step in (1, 2):
        saver.save({"step": step})
    manifest = tmp_path / "checkpoint" / "manifest.json"
    text = manifest.read_text()
    manifest.unlink()
    with pytest.raises(FileNotFoundError, match=r"manifest.json is missing, though state-0000002"):
        saver.exists()
    manifest.write_text(text)
    assert saver.load() == {"step": 2}


def test_what_a_kill_in_the_first_save_leaves_is_a_new_run(tmp_path):
    saver = Checkpoint(tmp_path)
    saver.save({"step": 1})
    (tmp_path / "checkpoint" / "manifest.json").unlink()
    assert not saver.exists()
    saver.save({"step": 3})
    assert saver.load() == {"step": 3}
