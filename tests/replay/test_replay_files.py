import copy
import json
import pickle
import sys
from collections import namedtuple

import pytest
import torch
from replay_rows import Packed, equal, filled, identity, packed, row

import worldblocks as wb
from worldblocks.replay import SequenceReplay
from worldblocks.replay.storage import files

# Streams keep 8 + 5 + 1 - 1 = 13 rows; with small chunks, rows 0-2, 3-5, … are separate files.
SIZES = {"capacity": 24, "streams": 3, "length": 5}
pytestmark = pytest.mark.usefixtures("small_chunks", "every_storage")


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(files, "CHUNK_BYTES", 3 * 3 * 83)  # 83 bytes a row of `row`


def save(replay, folder):
    return json.loads(json.dumps(replay.save(folder)))


def loaded(folder, manifest):
    replay = SequenceReplay(**SIZES, seed=5)
    replay.load(folder, manifest)
    return replay


def names(folder):
    return {path.name for path in folder.iterdir()}


def same(replay, other):
    """Check that two replays have the same contents and continue in the same way."""
    assert (len(replay), replay.steps, replay.queued) == (len(other), other.steps, other.queued)
    for _ in range(3):
        time = replay.steps // 3
        replay.add(**row(time, 3))
        other.add(**row(time, 3))
        if len(replay):
            equal(replay.sample(40), other.sample(40))


@pytest.mark.parametrize("rows", [0, 1, 3, 12, 13, 14, 31])
def test_a_loaded_replay_goes_on_as_the_saved_one(tmp_path, rows):
    replay = filled(rows)
    if len(replay):
        replay.sample(2)
    same(loaded(tmp_path, save(replay, tmp_path)), replay)


def test_loading_replaces_what_was_there(tmp_path):
    replay, other = filled(20), filled(7)
    other.load(tmp_path, save(replay, tmp_path))
    same(other, replay)


def test_only_what_is_new_is_written(tmp_path):
    replay = filled(7)
    save(replay, tmp_path)
    before = names(tmp_path)
    assert {name.rpartition("-")[0] for name in before} == {
        *(f"{part}-{chunk:06}" for part in ("rows", "carry") for chunk in range(3)),
        "manifest",
    }
    save(replay, tmp_path)
    assert names(tmp_path) - before == {"manifest-v000002.json"}
    replay.add(**row(7, 3))
    before = names(tmp_path)
    save(replay, tmp_path)
    new = {"rows-000002-v000003.safetensors", "carry-000002-v000003.safetensors"}
    assert names(tmp_path) - before == {*new, "manifest-v000003.json"}
    row_of_chunk_0 = torch.tensor([[2 * 3 + 1]])
    replay.write_back(row_of_chunk_0, packed(torch.tensor([[9]])))
    before = names(tmp_path)
    save(replay, tmp_path)
    new = {"carry-000000-v000004.safetensors", "manifest-v000004.json"}
    assert names(tmp_path) - before == new


def test_the_manifest_names_what_the_state_needs(tmp_path):
    replay = filled(7)
    save(replay, tmp_path)
    for time in range(7, 31):
        replay.add(**row(time, 3))
    manifest = save(replay, tmp_path)
    for name in names(tmp_path) - set(manifest["files"]):
        (tmp_path / name).unlink()
    chunks = {entry["start"][0] // 3 for entry in manifest["files"].values() if "start" in entry}
    assert chunks == {6, 7, 8, 9, 10}
    same(loaded(tmp_path, manifest), replay)


def test_older_manifests_stay_valid(tmp_path):
    replay, states = filled(4), []
    for time in range(4, 31):
        replay.add(**row(time, 3))
        if len(replay):
            rows = replay.sample(2).row
            replay.write_back(rows, packed(rows + time))
        twin = SequenceReplay(**SIZES)
        twin.load(tmp_path, manifest := save(replay, tmp_path))
        states.append((manifest, twin))
    for manifest, twin in states:
        same(loaded(tmp_path, manifest), twin)


def test_a_loaded_replay_writes_only_what_is_new(tmp_path):
    replay = loaded(tmp_path, save(filled(20), tmp_path))
    before = names(tmp_path)
    save(replay, tmp_path)
    assert names(tmp_path) - before == {"manifest-v000002.json"}
    replay.add(**row(20, 3))
    before = names(tmp_path)
    save(replay, tmp_path)
    assert len(names(tmp_path) - before) == 3


def test_chunks_of_another_size_are_read_and_go_on(tmp_path, monkeypatch):
    replay = filled(20)
    manifest = save(replay, tmp_path)
    monkeypatch.setattr(files, "CHUNK_BYTES", 5 * 3 * 83)
    other = loaded(tmp_path, manifest)
    rows = torch.arange(3 * 12, 3 * 14)
    for each in (replay, other):
        each.write_back(rows, packed(rows + 1))
    same(loaded(tmp_path, save(other, tmp_path)), replay)


def test_files_that_are_gone_are_written_again(tmp_path):
    replay = filled(9)
    save(replay, tmp_path)
    for path in tmp_path.glob("*-000001-*"):
        path.unlink()
    same(loaded(tmp_path, save(replay, tmp_path)), replay)


def test_every_folder_is_complete(tmp_path):
    replay = filled(9)
    save(replay, tmp_path / "a")
    same(loaded(tmp_path / "b", save(replay, tmp_path / "b")), replay)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("begun", [False, True], ids=["between files", "inside a file"])
@pytest.mark.parametrize("survived", range(7))
def test_a_save_that_is_killed_harms_nothing(tmp_path, monkeypatch, survived, begun):
    replay = filled(9)
    manifest, twin = save(replay, tmp_path), filled(9)
    for time in range(9, 17):
        replay.add(**row(time, 3))
    write, left = files._write, iter(range(survived))

    def killed(path, data):
        if next(left, None) is not None:
            return write(path, data)
        if begun:
            path.write_bytes(b"the first half of a fi")
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(files, "_write", killed)
        with pytest.raises(Killed):
            replay.save(tmp_path)
    resumed = loaded(tmp_path, manifest)
    same(loaded(tmp_path, manifest), twin)
    again = loaded(tmp_path, save(resumed, tmp_path))  # over the left-overs
    same(again, resumed)
    same(loaded(tmp_path, save(replay, tmp_path)), replay)  # it lives on after Ctrl-C


@pytest.mark.parametrize("survived", range(4))
def test_a_load_that_is_killed_changes_nothing(tmp_path, monkeypatch, survived):
    manifest = save(filled(20), tmp_path)
    replay, twin = filled(11), filled(11)
    read, left = files._read, iter(range(survived))

    def killed(path, entry):
        if next(left, None) is None:
            raise Killed
        return read(path, entry)

    with monkeypatch.context() as patch:
        patch.setattr(files, "_read", killed)
        with pytest.raises(Killed):
            replay.load(tmp_path, manifest)
    same(replay, twin)
    same(loaded(tmp_path, manifest), filled(20))


def missing(path):
    path.unlink()


def truncated(path):
    path.write_bytes(path.read_bytes()[:-1])


def corrupted(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("harm", "error", "match"),
    [
        (missing, FileNotFoundError, r"v000001\.\w+ is missing; restore it from a copy"),
        (truncated, ValueError, r"has \d+ bytes where \d+ were saved; restore it from a copy"),
        (corrupted, ValueError, r"is corrupted \(its CRC32 differs\); restore it from a copy"),
    ],
)
def test_harmed_files(tmp_path, harm, error, match):
    manifest = save(filled(20), tmp_path)
    for name in manifest["files"]:
        replay, intact = filled(11), (tmp_path / name).read_bytes()
        harm(tmp_path / name)
        with pytest.raises(error, match=match) as caught:
            replay.load(tmp_path, manifest)
        assert name in str(caught.value)
        (tmp_path / name).write_bytes(intact)
    same(replay, filled(11))


@pytest.mark.parametrize(
    ("name", "value"), [("capacity", 27), ("length", 6), ("context", 0), ("streams", 4)]
)
def test_a_replay_of_other_sizes(tmp_path, name, value):
    manifest = save(filled(9), tmp_path)
    replay = SequenceReplay(**SIZES | {name: value})
    ours = SIZES.get(name, 1)
    match = f"the saved replay has {name}={ours}, and this one {name}={value}; load it into one"
    with pytest.raises(ValueError, match=match):
        replay.load(tmp_path, manifest)


def test_another_format(tmp_path):
    manifest = save(filled(9), tmp_path) | {"format": 3}
    with pytest.raises(
        ValueError,
        match="has format 3; this version of worldblocks reads up to 2, so load it with the",
    ):
        loaded(tmp_path, manifest)


def test_the_extra_that_saving_needs(tmp_path, monkeypatch):
    replay = filled(9)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "safetensors.torch", None)
        with pytest.raises(ImportError, match=r"needs the extra 'run': pip install -e "):
            save(replay, tmp_path)
    same(loaded(tmp_path, save(replay, tmp_path)), replay)


def test_a_carry_is_of_its_own_type_again_after_a_row(tmp_path):
    replay = loaded(tmp_path, save(filled(9), tmp_path))
    before = replay.sample(2).carry
    assert type(before).__name__ == "Packed"
    assert before.deter.dtype == torch.bfloat16
    replay.add(**row(9, 3))
    assert type(replay.sample(2).carry) is Packed


def test_what_was_written_back_is_saved(tmp_path):
    replay = filled(9)
    save(replay, tmp_path)
    rows = torch.stack([identity(time, 3) for time in (2, 5, 8)])
    replay.write_back(rows, packed(rows + 1000))
    same(loaded(tmp_path, save(replay, tmp_path)), replay)


@pytest.mark.parametrize("old", ["Packed", "GaussianCarry"])
def test_a_carry_of_an_earlier_version_has_the_names_of_today(tmp_path, old):
    """Of an RSSM, which kept `deter` where it has a `memory` now, and the index of a one-hot."""
    index = old == "Packed"
    kind = namedtuple(old, ["deter", "index" if index else "stoch"])

    def carry(time):
        which = identity(time, 3)
        deter = which[:, None].expand(-1, 7).to(torch.bfloat16)
        return deter, which[:, None].expand(-1, 2).to(torch.uint8 if index else torch.float32)

    replay, ours = SequenceReplay(**SIZES), SequenceReplay(**SIZES, seed=5)
    for time in range(9):
        replay.add(**row(time, 3, carry=kind(*carry(time))))
        ours.add(**row(time, 3, carry=wb.rssm.Packed(*carry(time))))
    ours.load(tmp_path, save(replay, tmp_path))
    restored = loaded(tmp_path, save(replay, tmp_path))
    for other in (ours, restored):
        stored = other.sample(2)
        at = (stored.row[:, 0] - 3) // 3  # the row before a window
        lead = (stored.row[:, 0] - 3) % 3
        assert type(stored.carry).__name__ == "Packed"
        assert stored.carry._fields == ("memory", "stoch")
        for n in range(2):
            for ours_, theirs in zip(stored.carry, carry(int(at[n])), strict=True):
                assert torch.equal(ours_[n], theirs[int(lead[n])])
        other.add(**row(9, 3, carry=wb.rssm.Packed(*carry(9))))
        assert type(other.sample(2).carry) is wb.rssm.Packed
    again = loaded(tmp_path, save(restored, tmp_path))
    assert again.sample(2).carry._fields == ("memory", "stoch")


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_replay_is_copied_through_a_folder_only(copied):
    with pytest.raises(TypeError, match=r"to be pickled or copied, .*; save it in a folder and"):
        copied(filled(9))


def test_a_carry_that_is_one_tensor_is_saved_and_loaded(tmp_path):
    replay = SequenceReplay(capacity=24, streams=3, length=5)
    for time in range(9):
        replay.add(**row(time, 3, carry=torch.full((3, 2), float(time))))
    other = SequenceReplay(capacity=24, streams=3, length=5)
    other.load(tmp_path, replay.save(tmp_path))
    equal(other.sample(4), replay.sample(4))
