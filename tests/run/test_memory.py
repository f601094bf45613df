import torch
from torch import nn

from worldblocks.run import MemoryUse, count_memory

KB = 1000


def test_by_hand():
    """x is 4 kB; x + 1 and its square are alive together, then x + 1 is freed."""
    x = torch.zeros(KB, device="meta")

    def function():
        y = x + 1
        z = y * y
        del y
        return z.sum() + z.mean()

    assert count_memory(function, x) == MemoryUse(4 * KB, 12 * KB, 4 * KB + 4)


def test_views_and_what_happens_in_place_take_nothing():
    x = torch.zeros(KB, device="meta")
    assert count_memory(lambda: x.view(10, 100).t()[2:].add_(1), x).peak == 4 * KB


def test_what_autograd_keeps_is_counted_until_it_goes():
    layers = nn.Sequential(*(nn.Linear(100, 100, bias=False) for _ in range(3))).to("meta")
    x = torch.zeros(50, 100, device="meta")

    def update():
        layers(x).sum().backward()

    memory = count_memory(update, layers, x)
    assert memory.before == 3 * 40 * KB + 20 * KB
    assert memory.after == memory.before + 3 * 40 * KB, "the gradients stay"
    assert memory.peak >= memory.before + 3 * 20 * KB, "and three activations were there"


def test_real_tensors_are_counted_like_those_of_the_meta_device():
    counts = []
    for device in ("meta", "cpu"):
        x = torch.zeros(30, 40, device=device)
        weight = torch.zeros(40, 50, device=device, requires_grad=True)

        def update(x=x, weight=weight):
            (x @ weight).relu().square().mean().backward()

        counts.append(count_memory(update, x, weight))
    assert counts[0] == counts[1]


def test_state_of_an_optimiser_and_of_a_module_are_owned():
    module = nn.Linear(10, 10, device="meta")
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    module(torch.zeros(2, 10, device="meta")).sum().backward()
    optimizer.step()
    assert count_memory(lambda: None, module).before == 440
    assert count_memory(lambda: None, module, optimizer).before == 880
