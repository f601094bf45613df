"""Official weights in our blocks: layouts by hand, names, and the errors for a wrong set."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from worldblocks.decoders import MultiDecoder, VectorDecoder
from worldblocks.heads import ActorHead, BinaryHead, NormalHead, OneHotHead, TwoHotHead
from worldblocks.interop import from_jax, jax_names, load_jax, to_torch
from worldblocks.layers import MLP, BlockLinear, Conv2d, Linear, RMSNorm
from worldblocks.rssm import BlockGRU, dreamer_rssm, gaussian_rssm, gru_rssm
from worldblocks.spaces import Continuous, Discrete

SIZES = {"deter": 12, "hidden": 5, "blocks": 3}
BLOCKS = {
    "rssm": dreamer_rssm(embed_dim=7, action_dim=2, groups=2, classes=4, **SIZES),
    "core": BlockGRU(stoch=8, action_dim=2, layers=2, **SIZES),
    "actor": ActorHead(6, {"b": Discrete(3, (2,)), "a": Continuous()}, units=5, layers=2),
    "reward": TwoHotHead(6, units=5, layers=1, bins=11),
    "cont": BinaryHead(6, units=5, layers=1),
    "onehot": OneHotHead(6, groups=2, classes=3, units=5, layers=1),
    "normal": NormalHead(6, size=4, units=5, layers=1),
    "mlp": MLP(6, units=5, layers=3),
    "decoder": MultiDecoder(
        {"keys": Continuous((2,)), "a.b": Discrete(3)},
        vector=VectorDecoder(
            {"keys": Continuous((2,)), "a.b": Discrete(3)}, deter=6, stoch=4, units=5
        ),
    ),
}


def official(block, scope):
    """Arrays with the official names and layouts, all elements different."""
    params, count = {}, 0
    for ours, theirs in jax_names(block).items():
        path, _, leaf = ours.rpartition(".")
        module, own = block.get_submodule(path), block.get_parameter(ours).detach().numpy()
        new = np.arange(count, count + own.size, dtype=np.float32).reshape(own.shape)
        count += own.size
        if leaf == "weight" and isinstance(module, Linear):
            new = new.T
        params[f"{scope}/{theirs}"] = new
    return params


@pytest.mark.parametrize("name", BLOCKS)
def test_every_parameter_has_one_official_name(name):
    names = jax_names(BLOCKS[name])
    assert set(names) == {n for n, _ in BLOCKS[name].named_parameters()}
    assert len(set(names.values())) == len(names)


@pytest.mark.parametrize("name", BLOCKS)
def test_every_parameter_is_copied(name):
    block = BLOCKS[name]
    load_jax(block, {**official(block, "here"), "elsewhere/kernel": np.zeros(1)}, scope="here")
    values = torch.cat([block.get_parameter(ours).flatten() for ours in jax_names(block)])
    assert values.tolist() == list(range(values.numel()))


def test_names_of_the_checkpoint():
    names = jax_names(BLOCKS["rssm"]).values()
    assert {"dyngru/kernel", "dynin0norm/scale", "dynhid0/bias", "prior1/kernel"} <= set(names)
    assert {"obslogit/kernel", "priorlogit/bias"} <= set(names)
    names = set(jax_names(BLOCKS["actor"]).values())
    assert {"head/a/mean/kernel", "head/a/stddev/bias", "head/b/logits/kernel"} <= names


def test_linear_by_hand():
    layer = Linear(3, 2)
    kernel = np.array([[1, 2], [3, 4], [5, 6]])
    load_jax(layer, {"kernel": kernel, "bias": np.array([7, 8])})
    assert layer.weight.tolist() == [[1, 3, 5], [2, 4, 6]]
    assert layer(torch.tensor([1.0, 0.0, 0.0])).tolist() == [8, 10]


def test_a_kernel_with_several_output_axes_is_flattened():
    layer = Linear(2, 6)
    load_jax(layer, {"kernel": np.arange(12).reshape(2, 3, 2), "bias": np.zeros((3, 2))})
    assert layer.weight[:, 1].tolist() == [6, 7, 8, 9, 10, 11]


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.integers(0, 99))
def test_convolutions_swap_first_and_last_axes(kernel, wide, out, seed):
    array = np.random.default_rng(seed).normal(size=(kernel, kernel, wide, out))
    tensor = to_torch(Conv2d(wide, out, kernel), "weight", array)
    assert tensor.shape == (out, wide, kernel, kernel)
    assert torch.equal(tensor[-1, 0, 0, -1], torch.tensor(array[0, -1, 0, -1]).float())


def test_block_linear_and_norm_stay_as_they_are():
    array = np.arange(24.0).reshape(2, 3, 4)
    assert to_torch(BlockLinear(6, 8, blocks=2), "weight", array).tolist() == array.tolist()
    assert to_torch(RMSNorm(3), "scale", np.ones(3)).tolist() == [1, 1, 1]


def test_gradients_travel_the_same_way():
    block = BLOCKS["reward"]
    before = [p.clone() for p in block.parameters()]
    tensors = from_jax(block, official(block, "rew"), scope="rew")
    assert {n: t.shape for n, t in tensors.items()} == {
        n: p.shape for n, p in block.named_parameters()
    }
    assert all(torch.equal(a, b) for a, b in zip(before, block.parameters(), strict=True))


def test_missing_and_unexpected_names_are_all_named():
    block = BLOCKS["cont"]
    params = official(block, "con")
    params["con/head/typo"] = params.pop("con/head/logit/kernel")
    del params["con/mlp/norm0/scale"]
    message = (
        r"load_jax into BinaryHead with scope 'con': missing \['con/head/logit/kernel', "
        r"'con/mlp/norm0/scale'\], unexpected \['con/head/typo'\]"
    )
    with pytest.raises(KeyError, match=message):
        load_jax(block, params, scope="con")


def test_another_size_is_refused_before_anything_is_copied():
    block = BLOCKS["cont"]
    params = official(block, "con")
    params["con/head/logit/kernel"] = np.zeros((9, 1))
    before = [p.clone() for p in block.parameters()]
    message = r"con/head/logit/kernel has shape \(9, 1\), which is \(1, 9\) here, but out.weight is"
    with pytest.raises(ValueError, match=message):
        load_jax(block, params, scope="con")
    assert all(torch.equal(a, b) for a, b in zip(before, block.parameters(), strict=True))


def test_a_block_without_official_names():
    with pytest.raises(TypeError, match=r"load_jax supports RSSM, BlockGRU, .*, not Identity"):
        load_jax(nn.Identity(), {})


def test_an_rssm_of_other_parts_has_no_official_names():
    sizes = {"embed_dim": 7, "action_dim": 2, "deter": 8, "hidden": 3}
    message = r"an RSSM of BlockGRU and CategoricalLatent \(dreamer_rssm\), not of GRU and "
    with pytest.raises(TypeError, match=f"{message}CategoricalLatent"):
        jax_names(gru_rssm(groups=2, classes=4, **sizes))
    with pytest.raises(TypeError, match=f"{message}GaussianLatent"):
        jax_names(gaussian_rssm(stoch=5, **sizes))
