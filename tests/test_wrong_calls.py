"""Wrong calls of every public block: each is a sentence with the argument, what it should be, what
it was, and what would work."""

import gymnasium
import numpy as np
import pytest
import torch
from jaxtyping import Float

import worldblocks as wb
from worldblocks.distributions import (
    MSE,
    Bernoulli,
    BoundedNormal,
    ImageMSE,
    Joint,
    Normal,
    OneHot,
    SigmoidImageMSE,
    TwoHot,
)
from worldblocks.spaces import Continuous, Discrete, Image

B, T, EMBED, ACTION, FEATURE = 2, 6, 7, 3, 52
SIZES = {"deter": 32, "hidden": 8, "groups": 4, "classes": 5, "blocks": 8}
FEATURES = {"speed": (-1.0, 1.0, False)}
SEEN = {"image": Image(48, 48, 1), "speed": Continuous((4,)), "door": Discrete(3)}
Theirs = gymnasium.spaces


def zeros(*shape, dtype=torch.float32, device=None):
    return torch.zeros(shape, dtype=dtype, device=device)


RSSM = wb.rssm.dreamer_rssm(embed_dim=EMBED, action_dim=ACTION, **SIZES)
START = RSSM.initial(B)
ROWS = {
    "carry": START,
    "embed": zeros(B, T, EMBED),
    "prev_action": zeros(B, T, ACTION),
    "is_first": zeros(B, T, dtype=torch.bool),
}
STATES = RSSM.observe(**ROWS)
HEAD = wb.heads.BinaryHead(FEATURE, units=3, layers=1)
ENCODER = wb.encoders.dreamer_encoder(SEEN, depth=2, units=8)
DECODER = wb.decoders.dreamer_decoder(SEEN, deter=32, stoch=20, depth=2, units=8)
PIXELS = zeros(B, 48, 48, 1, dtype=torch.uint8)
OBS = {"image": PIXELS, "speed": zeros(B, 4), "door": zeros(B, dtype=torch.int64)}
LATENT, NUMBERS = OneHot(zeros(B, 4, 5), event=1), zeros(B, T)
LAYER = torch.nn.Linear(1, 1)


def observe(**change):
    return RSSM.observe(**{**ROWS, **change})


def encode(**change):
    return ENCODER({**OBS, **change})


def without(key, mapping, **more):
    return {name: value for name, value in mapping.items() if name != key} | more


def turned(*names):
    return {name: ROWS[name].transpose(0, 1) for name in names}


def add(times=1, **change):
    replay = wb.replay.SequenceReplay(capacity=20, streams=B, length=2, context=0)
    flags = {name: zeros(B, dtype=torch.bool) for name in ("is_first", "is_last", "is_terminal")}
    row = {"obs": {"speed": zeros(B, 4)}, "prev_action": zeros(B, ACTION), "reward": zeros(B)}
    row = {**row, **flags, "carry": None}
    for _ in range(times):
        replay.add(**row)
    return replay.add(**{**row, **change})


def imagine(policy=lambda s: zeros(B, ACTION), state=None, steps=2):
    return wb.rssm.imagine(RSSM, STATES[:, -1] if state is None else state, policy, steps)


def returns(reward=NUMBERS, discount=NUMBERS, value=NUMBERS, lam=0.9):
    return wb.returns.lambda_return(reward, discount, value, lam)


def mixture(*tasks):
    return wb.replay.MixtureReplay(tasks, capacity=9, streams=B, length=2)


def actor(actions):
    return wb.heads.ActorHead(FEATURE, actions, units=3, layers=1)


def used_up():
    parameters = LAYER.parameters()
    list(parameters)
    return wb.optim.dreamer_optimizer(parameters)


def once_right_then_elsewhere():
    HEAD(zeros(B, FEATURE))  # the layout is remembered, the device is not part of it
    return HEAD(zeros(B, FEATURE, device="meta"))


def policy_head(state):
    return actor({"action": Discrete(ACTION)})(state.feature())


CALLS = {
    # axes
    "all time first": (
        lambda: observe(**turned("embed", "prev_action", "is_first")),
        "embed should be|[6, 2, 7]|prev_action should be|is_first should be|time first?|transpose",
    ),
    "actions time first": (
        lambda: observe(**turned("prev_action")),
        "RSSM.observe: prev_action should be|time first?|prev_action.transpose(0, 1)",
    ),
    "two time first": (
        lambda: observe(**turned("embed", "is_first")),
        "RSSM.observe: embed should be|is_first should be|time first?",
    ),
    "rewards time first": (
        lambda: returns(reward=NUMBERS.T),
        "reward should be|float32[6, 2]|time first?|reward.transpose",
    ),
    "carry of another batch": (
        lambda: observe(carry=RSSM.initial(4)),
        "carry.stoch should be|float32[4, 4, 5]|its axis batch is 4|have 2",
    ),
    "a row of actions missing": (
        lambda: observe(prev_action=zeros(B, T - 1, ACTION)),
        "prev_action should be|its axis time is 5|embed and is_first have 6|one row too many",
    ),
    "rewards of all rows": (
        lambda: returns(reward=zeros(B, T + 1)),
        "reward should be|float32[2, 7]|one row too many in reward?|reward[:, 1:]",
    ),
    "a row without time": (
        lambda: observe(embed=zeros(B, EMBED)),
        "embed should be|'batch time embed'|float32[2, 7]|2 of 3 axes|embed[:, None]",
    ),
    "values with an axis of one": (
        lambda: returns(value=zeros(B, T, 1)),
        "value should be|float32[2, 6, 1]|value.squeeze(-1)",
    ),
    "lambda of a batch": (lambda: returns(lam=zeros(B)), "lam should be|float32[2]|1 of 2 axes"),
    "carries of a sequence": (
        lambda: RSSM.imagine_step(STATES.carry, zeros(B, ACTION)),
        "carry.stoch should be|float32[2, 6, 4, 5]|flatten(0, 1)",
    ),
    "losses that broadcast": (
        lambda: wb.losses.categorical_kl(zeros(3, 5, 4), zeros(5, 4)),
        "other_logits should be|float32[5, 4]|[3, 5]|nothing broadcasts",
    ),
    # widths
    "actions of another width": (
        lambda: observe(prev_action=zeros(B, T, 4)),
        "action should be 3 wide|(2, 6, 4)|make the block for this width",
    ),
    "embedding of another width": (
        lambda: observe(embed=zeros(B, T, 8)),
        "embed should be 7 wide|(2, 6, 8)|make the block",
    ),
    "feature of another width": (
        lambda: HEAD(zeros(B, 51)),
        "feature should be 52 wide|(2, 51)|make the block",
    ),
    "carry of another model": (
        lambda: observe(carry=START._replace(memory=zeros(B, 33))),
        "shapes [[2, 32]|got [[2, 33]|initial(batch)",
    ),
    # kinds
    "state for a carry": (
        lambda: RSSM.imagine_step(STATES[:, 0], zeros(B, ACTION)),
        "carry should be Carry|a State|carry.carry",
    ),
    "tensor for a carry": (
        lambda: observe(carry=zeros(B, 32)),
        "carry should be Carry or None|float32[2, 32]|initial(batch)",
    ),
    "dict for a feature": (
        lambda: HEAD({"x": zeros(B, FEATURE)}),
        "feature should be|a dict with the keys ['x']|feature['x']",
    ),
    "state for a feature": (lambda: HEAD(STATES), "feature should be|a State|.feature()"),
    "list for a feature": (lambda: HEAD([[0.0]]), "feature should be|a list|torch.as_tensor"),
    "array for a feature": (
        lambda: HEAD(np.zeros((B, FEATURE))),
        "feature should be|a NumPy array float64[2, 52]|dtype=torch.float32",
    ),
    "number for a tensor": (
        lambda: wb.transforms.symlog(3),
        "x should be Float[Tensor|got 3|torch.as_tensor(x)",
    ),
    "None for a tensor": (lambda: HEAD(None), "feature should be|None|cannot be left out"),
    "distribution for a tensor": (
        lambda: wb.transforms.symlog(Normal(zeros(B), zeros(B) + 1)),
        "x should be|a Normal|.sample()",
    ),
    "tensor for a distribution": (
        lambda: wb.losses.balanced_kl(zeros(B, 4), zeros(B, 4), free_nats=1.0),
        "post should be Output|float32[2, 4]|OneHot(logits, event=1)",
    ),
    "text for a number": (
        lambda: wb.losses.balanced_kl(LATENT, LATENT, free_nats="1"),
        "free_nats should be float|'1'",
    ),
    "float for an int": (
        lambda: wb.returns.n_step_return(NUMBERS, NUMBERS, NUMBERS, 2.0),
        "n should be int|2.0|int(n)",
    ),
    "an argument left out": (
        lambda: RSSM.observe(START, ROWS["embed"], ROWS["prev_action"]),
        "RSSM.observe|'is_first'|it takes carry, embed, prev_action, is_first",
    ),
    "an unknown argument": (lambda: observe(first=1), "'first'|it takes carry, embed"),
    # dtypes and devices
    "float64 embedding": (
        lambda: observe(embed=ROWS["embed"].double()),
        "embed is float64|this RSSM are float32|embed.to(torch.float32)",
    ),
    "float64 feature": (
        lambda: HEAD(zeros(B, FEATURE).double()),
        "feature is float64|this BinaryHead are float32|feature.to(torch.float32)",
    ),
    "embedding elsewhere": (
        lambda: observe(embed=zeros(B, T, EMBED, device="meta")),
        "embed is on the device meta|this RSSM are on cpu|embed.to('cpu')",
    ),
    "feature elsewhere": (
        once_right_then_elsewhere,
        "feature is on the device meta|this BinaryHead are on cpu|feature.to('cpu')",
    ),
    "value elsewhere": (
        lambda: returns(value=zeros(B, T, device="meta")),
        "value is on the device meta|reward is on cpu|value.to('cpu')",
    ),
    "target elsewhere": (
        lambda: MSE(zeros(B)).nll(zeros(B, device="meta")),
        "MSE on the device cpu|meta|x.to('cpu')",
    ),
    "bytes for floats": (
        lambda: HEAD(zeros(B, FEATURE, dtype=torch.uint8)),
        "feature should be Float|uint8[2, 52]|feature.float() / 255",
    ),
    "indices for actions": (
        lambda: observe(prev_action=zeros(B, T, 1, dtype=torch.int64)),
        "prev_action should be Float|int64[2, 6, 1]|one_hot",
    ),
    "floats for flags": (
        lambda: observe(is_first=NUMBERS),
        "is_first should be Bool|float32[2, 6]|is_first.bool()",
    ),
    "flags for floats": (lambda: returns(discount=NUMBERS > 0), "discount should be|bool|.float()"),
    # encoders and decoders
    "encoder of a tensor": (
        lambda: ENCODER(PIXELS),
        "MultiEncoder|dict of|uint8[2, 48, 48, 1]|give",
    ),
    "misspelt observation": (
        lambda: ENCODER(without("image", OBS, imge=PIXELS)),
        "takes the observations|missing ['image'], unexpected ['imge']|did you mean 'image'?",
    ),
    "missing observation": (lambda: ENCODER(without("speed", OBS)), "missing ['speed']"),
    "extra observation": (lambda: encode(more=zeros(B)), "unexpected ['more']"),
    "array observation": (
        lambda: encode(speed=np.zeros((B, 4), np.float32)),
        "observation 'speed' should be a tensor|a NumPy array float32[2, 4]|torch.as_tensor",
    ),
    "float image": (
        lambda: encode(image=PIXELS.float()),
        "'image' should be a uint8|torch.float32",
    ),
    "bytes for a vector": (
        lambda: encode(speed=zeros(B, 4, dtype=torch.uint8)),
        "'speed' should be floats|torch.uint8",
    ),
    "floats for classes": (
        lambda: encode(door=zeros(B)),
        "'door' should be integers|torch.float32",
    ),
    "image encoder of a dict": (
        lambda: ENCODER.image({"image": PIXELS}),
        "image should be a uint8 tensor|a dict with the keys ['image']|image['image']",
    ),
    "image encoder of an array": (
        lambda: ENCODER.image(PIXELS.numpy()),
        "image should be a uint8 tensor|a NumPy array uint8|torch.as_tensor",
    ),
    "shape for a space": (
        lambda: wb.encoders.VectorEncoder({"x": (4,)}, units=3),
        "VectorEncoder takes|(4,) for 'x'|wb.spaces.Continuous((4,))",
    ),
    "decoder of a feature": (
        lambda: DECODER(STATES.feature()),
        "the decoder takes a state|float32[2, 6, 52]|give the state",
    ),
    "decoder of a carry": (
        lambda: DECODER(START),
        "the decoder takes a state|a Carry|give the state",
    ),
    "decoded loss of a tensor": (
        lambda: DECODER(STATES).nll(PIXELS),
        "the decoder takes a dict|uint8[2, 48, 48, 1]",
    ),
    # spaces and actors
    "actor of a number": (lambda: actor(3), "ActorHead takes spaces|got 3|spaces_of"),
    "actor of a gymnasium space": (
        lambda: actor(Theirs.Discrete(3)),
        "ActorHead takes spaces|got Discrete(3)|wb.envs.spaces_of(space)",
    ),
    "actor of a gymnasium dict": (
        lambda: actor(Theirs.Dict(a=Theirs.Discrete(3))),
        "ActorHead takes Continuous or Discrete|for 'a'|wb.envs.spaces_of",
    ),
    "actor of an image": (
        lambda: actor({"a": Image(8, 8, 1)}),
        "ActorHead takes Continuous or Discrete|Image(height=8",
    ),
    "action size of a number": (lambda: wb.spaces.action_size(3), "action_size takes spaces|got 3"),
    "action as a list": (
        lambda: wb.spaces.split_action({"a": Discrete(2)}, [1.0, 0.0]),
        "split_action takes a tensor or an array|a list|one_hot_action",
    ),
    "one-hot of a tensor": (
        lambda: wb.spaces.one_hot_action({"a": Discrete(2)}, zeros(2)),
        "one_hot_action takes values by key|float32[2]|split_action",
    ),
    "spaces of an environment": (
        lambda: wb.envs.spaces_of("CartPole-v1"),
        "spaces_of takes a gymnasium space|'CartPole-v1'|env.observation_space",
    ),
    "spaces of a text": (
        lambda: wb.envs.spaces_of(Theirs.Text(3)),
        "spaces_of got Text|it takes Box, Discrete",
    ),
    "features as a list": (
        lambda: wb.heads.FeatureHead(4, ["speed"], units=3, layers=1),
        "FeatureHead takes ranges by name|a list|a describer",
    ),
    "misspelt feature": (
        lambda: wb.heads.FeatureHead(4, FEATURES, units=3, layers=1)(zeros(B, 4)).nll(
            {"sped": zeros(B)}
        ),
        "Features takes a target for each|missing ['speed']|did you mean 'speed'?",
    ),
    # distributions
    "index for a one-hot": (
        lambda: OneHot(zeros(B, 5)).log_prob(zeros(B, dtype=torch.int64)),
        "OneHot takes one-hot vectors of shape (2, 5)|indices|one_hot(x.long(), 5)",
    ),
    "loss of an index": (
        lambda: LATENT.nll(zeros(B, 4, dtype=torch.int64)),
        "OneHot takes one-hot vectors of shape (2, 4, 5)|(2, 4)|one_hot",
    ),
    "logits as a list": (
        lambda: OneHot([0.0]),
        "OneHot takes logits|a list|torch.as_tensor(logits)",
    ),
    "number for a target": (lambda: Bernoulli(zeros(B)).nll(2.0), "Bernoulli|no tensor, but 2.0"),
    "numbers for a normal": (
        lambda: Normal(0, -1),
        "Normal takes mean|got 0|torch.as_tensor(mean)",
    ),
    "numbers for an actor": (lambda: BoundedNormal(0.0, 1.0), "BoundedNormal takes raw_mean|0.0"),
    "bins as a list": (lambda: TwoHot(zeros(B, 3), [0.0]), "TwoHot takes bins|a list"),
    "array for a target": (
        lambda: Normal(zeros(B), zeros(B) + 1).nll(np.zeros(B)),
        "Normal of shape (2,)|a NumPy array float64[2]|torch.as_tensor",
    ),
    "float pixels": (
        lambda: SigmoidImageMSE(zeros(B, 4, 4, 1)).nll(zeros(B, 4, 4, 1)),
        "an image target must be uint8|torch.float32|(255 * x).byte()",
    ),
    "pixels of another size": (
        lambda: ImageMSE(zeros(B, 4, 4, 1)).nll(zeros(B, 4, 5, 1).byte()),
        "ImageMSE of shape (2, 4, 4, 1)|(2, 4, 5, 1)|nothing broadcasts",
    ),
    "joint of a list": (lambda: Joint([LATENT]), "Joint takes distributions by key|a list"),
    "joint of values by key": (
        lambda: Joint({"a": LATENT}).log_prob({"a": zeros(B, 4, 5)}),
        "Joint of the parts ['a'] takes flat vectors|a dict|one_hot_action",
    ),
    "noise without a part": (
        lambda: Joint({"a": LATENT}).sample(zeros(B, 4)),
        "Joint takes noise by part|['a']|float32[2, 4]",
    ),
    "kl of another kind": (lambda: LATENT.kl(MSE(zeros(B))), "OneHot.kl|another OneHot|got MSE"),
    # imagination
    "policy gives a distribution": (
        lambda: imagine(policy_head),
        "policy(state) should be an action|a Joint|.sample()",
    ),
    "policy is a tensor": (
        lambda: imagine(zeros(B, T, ACTION)),
        "imagine takes a policy|float32[2, 6, 3]|wb.rssm.rollout",
    ),
    "imagine from a carry": (
        lambda: imagine(state=START),
        "imagine starts from a state|a Carry|states.flatten()",
    ),
    "imagine half a step": (lambda: imagine(steps=2.5), "imagine takes a number of steps|2.5|int"),
    "rollout of one row": (
        lambda: wb.rssm.rollout(RSSM, START, zeros(B, ACTION)),
        "actions should be|float32[2, 3]|2 of 3 axes",
    ),
    # replay
    "observations as a tensor": (
        lambda: add(obs=zeros(B, 4)),
        "add takes obs as a dict|float32[2, 4]|give {'image': x}",
    ),
    "misspelt stored key": (
        lambda: add(obs={"sped": zeros(B, 4)}),
        "unknown observation 'sped'|['speed']|did you mean 'speed'?",
    ),
    "rewards as a list": (lambda: add(0, reward=[0.0, 0.0]), "reward is a list|torch.as_tensor"),
    "float64 rewards": (
        lambda: add(0, reward=zeros(B).double()),
        "reward is float64[2]|float32[2]|x.to(torch.float32)",
    ),
    "later float64 rewards": (
        lambda: add(1, reward=zeros(B).double()),
        "reward is float64[2]|float32[2]|x.to(torch.float32)",
    ),
    "flags as numbers": (
        lambda: add(0, is_first=zeros(B)),
        "is_first is float32[2]|bool[2]|use x.to",
    ),
    "an episode of a dict": (
        lambda: mixture("a")["a"].add_episode({"reward": zeros(3)}),
        "add_episode takes a wb.replay.Batch|a dict|give Batch(",
    ),
    "windows without a task": (
        lambda: mixture("a", "b").sample(8),
        "sample takes a number of windows by task|{'a': 4, 'b': 4}|got 8",
    ),
    "misspelt task": (
        lambda: mixture("pong").sample({"pongg": 1}),
        "no tasks ['pongg']|['pong']|did you mean 'pong'?",
    ),
    "a task for a list": (
        lambda: wb.replay.MixtureReplay("pong"),
        "MixtureReplay takes a list of tasks|'pong'|['pong']",
    ),
    "float capacity": (
        lambda: wb.replay.SequenceReplay(capacity=1e3, streams=1, length=2),
        "capacity as an int|1000.0|capacity=int(1000)",
    ),
    "float batch": (
        lambda: mixture("a")["a"].sample(2.5),
        "batch_size as an int|2.5|batch_size=int(2.5)",
    ),
    # optimisers
    "agc as a flag": (
        lambda: wb.optim.LaProp(LAYER.parameters(), agc=True),
        "LaProp takes agc as a number|True|agc=0.3",
    ),
    "parameters used up": (used_up, "dreamer_optimizer got no parameters|used up|again"),
    "optimiser of a module": (
        lambda: wb.optim.dreamer_optimizer(LAYER),
        "dreamer_optimizer takes|a Linear|module.parameters()",
    ),
    "optimiser of frozen weights": (
        lambda: wb.optim.dreamer_optimizer([zeros(1)]),
        "none of 1 parameters requires a gradient|requires_grad_()",
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_call_is_a_sentence(name):
    call, words = CALLS[name]
    with pytest.raises((TypeError, ValueError, KeyError, RuntimeError)) as raised:
        call()
    message = str(raised.value.args[0])
    missing = [word for word in words.split("|") if word not in message]
    assert not missing, f"{missing} not in: {message}"
    assert "typechecking" not in message, "the words of another library"


@pytest.mark.parametrize(
    ("space", "found"),
    [
        (Theirs.Box(0, 255, (84, 96, 3), np.uint8), {"image": Image(84, 96, 3)}),
        (Theirs.Box(0, 255, (4, 84, 84), np.uint8), {"image": Image(84, 84, 4)}),
        (Theirs.Box(0, 255, (84, 96), np.uint8), {"image": Image(84, 96, 1)}),
        (Theirs.Box(-1, 1, (4,)), {"vector": Continuous((4,))}),
        (Theirs.Discrete(3, start=2), {"vector": Discrete(3)}),
        (Theirs.MultiBinary(5), {"vector": Discrete(2, (5,))}),
        (
            Theirs.Dict(a=Theirs.Discrete(2), b=Theirs.Tuple([Theirs.Box(-1, 1, (2, 3))])),
            {"a": Discrete(2), "b/0": Continuous((2, 3))},
        ),
    ],
)
def test_the_spaces_of_a_gymnasium_space(space, found):
    assert wb.envs.spaces_of(space) == found


def test_a_bare_space_has_the_name_that_is_given():
    assert wb.envs.spaces_of(Theirs.Discrete(3), name="action") == {"action": Discrete(3)}


def test_an_error_that_is_not_of_the_call_stays_as_it_is():
    with pytest.raises(RuntimeError, match=r"^mine$"):
        wb.rssm.rollout(Failing(), START, ROWS["prev_action"])


class Failing:
    def imagine_step(self, carry, action):
        raise RuntimeError("mine")


def test_other_dtypes_are_not_blamed_for_an_error_of_another_kind():
    """Autocast calls a module of float32 with features in bfloat16, which is right."""

    class Full(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(zeros(1))

        @wb.typing.typed
        def forward(self, x: Float[torch.Tensor, " batch"]):
            raise torch.OutOfMemoryError("CUDA out of memory on the device")

    with pytest.raises(torch.OutOfMemoryError, match=r"^CUDA out of memory"):
        Full()(zeros(1, dtype=torch.bfloat16))
