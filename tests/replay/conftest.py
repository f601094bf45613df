import pytest

from worldblocks.replay import Memory, MemoryMapped, OnDevice, SequenceReplay


@pytest.fixture(params=["memory", "mapped", "device"])
def storage(request, tmp_path_factory):
    if request.param == "mapped":
        return MemoryMapped(tmp_path_factory.mktemp("rows"))
    return Memory() if request.param == "memory" else OnDevice("cpu")


@pytest.fixture
def every_storage(storage, monkeypatch):
    """Replays of a test keep their rows in one storage after the other."""
    monkeypatch.setitem(SequenceReplay.__init__.__kwdefaults__, "storage", storage)
