import pytest

from worldblocks.replay import Memory, MemoryMapped, OnDevice, SequenceReplay
from worldblocks.replay.storage import host_rings


@pytest.fixture(params=["memory", "runs", "mapped", "device"])
def storage(request, tmp_path_factory, monkeypatch):
    if request.param == "runs":  # so that small windows are copied as runs, like images
        monkeypatch.setattr(host_rings, "RUN", 1)
        return Memory()
    if request.param == "mapped":
        return MemoryMapped(tmp_path_factory.mktemp("rows"))
    return Memory() if request.param == "memory" else OnDevice("cpu")


@pytest.fixture
def every_storage(storage, monkeypatch):
    """Run each test with every storage."""
    monkeypatch.setitem(SequenceReplay.__init__.__kwdefaults__, "storage", storage)
