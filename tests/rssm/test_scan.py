import contextlib

import pytest
import torch

from worldblocks.distributions import modes
from worldblocks.rssm import Carry, CategoricalLatent, dreamer_rssm, model

BATCH, TIME = 3, 7


def rssm(**options):
    sizes = {"deter": 12, "hidden": 6, "groups": 5, "classes": 4, "blocks": 3}
    module = dreamer_rssm(embed_dim=11, action_dim=2, **sizes, **options)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return module


def sequence(time):
    """A carry, embeddings, previous actions, and flags with resets at the start and later."""
    is_first = torch.zeros(BATCH, time, dtype=torch.bool)
    is_first[1, time // 2] = is_first[2, 0] = True
    start = Carry(torch.randn(BATCH, 12), torch.eye(4)[torch.randint(4, (BATCH, 5))])
    return start, torch.randn(BATCH, time, 11), torch.randn(BATCH, time, 2), is_first


def leaf(x):
    return x.clone().requires_grad_()


def observed(module, rows, weights):
    """Values of `observe`, and its gradients with respect to everything."""
    torch.manual_seed(3)
    start, embed, action, is_first = Carry(*map(leaf, rows[0])), *map(leaf, rows[1:3]), rows[3]
    states = module.observe(start, embed, action, is_first)
    wanted = [*start, embed, action, *(p for n, p in module.named_parameters() if "prior" not in n)]
    return [*states, *torch.autograd.grad(states, wanted, weights)]


@pytest.mark.parametrize("mode", [False, True])
@pytest.mark.parametrize("time", [1, TIME])
def test_the_scan_is_the_loop(monkeypatch, mode, time):
    """Values, samples and all gradients of the hand-written backward pass."""
    module, rows = rssm(), sequence(time)
    deter, stoch = rows[0]
    weights = [torch.randn(BATCH, time, *x.shape[1:]) for x in (deter, stoch, stoch)]
    results = []
    for scans in (model.scans, lambda *_: False):
        monkeypatch.setattr(model, "scans", scans)
        with modes() if mode else contextlib.nullcontext():
            results.append(observed(module, rows, weights))
    for ours, expected in zip(*results, strict=True):
        assert (ours - expected).abs().max() <= 2e-6 * expected.abs().max().clamp(min=1e-3)


def test_the_scan_is_taken_only_where_it_has_the_formulas():
    projected = torch.zeros(1)
    plain = rssm()
    assert model.scans(plain.core, plain.latent, projected)
    assert not model.scans(plain.core, plain.latent, projected.double())
    deep = rssm(core_layers=2)
    assert not model.scans(deep.core, deep.latent, projected)
    deep = rssm(posterior_layers=2)
    assert not model.scans(deep.core, deep.latent, projected)
    blind = rssm(absolute=True)
    assert not model.scans(blind.core, blind.latent, projected)

    class Other(CategoricalLatent):
        """Might compute something else."""

    plain.latent.__class__ = Other
    assert not model.scans(plain.core, plain.latent, projected)
    with torch.autocast("cpu", torch.bfloat16):
        assert not model.scans(rssm().core, rssm().latent, projected)


# ---------------------------------------------------------------------------------------- recompute


@pytest.mark.parametrize("rows", [1, 3, TIME, 100])
@pytest.mark.parametrize("options", [{}, {"core_layers": 2}], ids=["scan", "loop"])
def test_computing_twice_changes_nothing(rows, options):
    module, given = rssm(**options), sequence(TIME)
    deter, stoch = given[0]
    weights = [torch.randn(BATCH, TIME, *x.shape[1:]) for x in (deter, stoch, stoch)]
    expected = observed(module, given, weights)
    module.recompute = rows
    for ours, theirs in zip(observed(module, given, weights), expected, strict=True):
        assert (ours - theirs).abs().max() <= 2e-6 * theirs.abs().max().clamp(min=1e-3)


def test_computing_twice_keeps_less():
    """Bytes that autograd saves in `observe`."""
    saved = {}
    for rows in (0, 2):
        module, (start, *given), sizes = rssm(core_layers=2, recompute=rows), sequence(TIME), []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x, sizes=sizes: sizes.append(x.nbytes) or x, lambda x: x
        ):
            module.observe(start, *given)
        saved[rows] = sum(sizes)
    assert saved[2] < saved[0] / 3


def test_recompute_is_a_number_of_rows():
    with pytest.raises(ValueError, match="recompute is a number of rows, or 0, got -1"):
        rssm(recompute=-1)
