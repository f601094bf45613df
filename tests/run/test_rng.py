import torch

from worldblocks.run import rng_state, set_rng_state


def test_the_same_numbers_come_again():
    state = rng_state()
    first = torch.rand(5)
    assert not torch.equal(torch.rand(5), first)
    set_rng_state(state)
    assert torch.equal(torch.rand(5), first)


def test_every_cuda_device_is_saved_and_those_that_are_there_restored(monkeypatch):
    states = {0: torch.tensor([1, 2], dtype=torch.uint8), 1: torch.tensor([3], dtype=torch.uint8)}
    put_back = {}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(states))
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: states[device])
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda s, device: put_back.update({device: s}))
    state = rng_state()
    set_rng_state(state)
    assert [s.tolist() for s in state["cuda"]] == [[1, 2], [3]]
    assert {device: s.tolist() for device, s in put_back.items()} == {0: [1, 2], 1: [3]}
    del states[1]
    put_back.clear()
    set_rng_state(state)  # one device fewer
    assert list(put_back) == [0]
