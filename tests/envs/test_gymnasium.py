import functools
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, Graph, MultiBinary, MultiDiscrete, Text, Tuple
from toy_environments import Walk
from toy_gymnasium import Toy

import worldblocks as wb
from worldblocks.envs import rendering
from worldblocks.envs.errors import OutsideSpace
from worldblocks.envs.gym.images import channels_first, resized
from worldblocks.spaces import Continuous, Grid, Image
from worldblocks.spaces import Discrete as Classes

IMAGE = Box(0, 255, (5, 7, 3), np.uint8)
ARM = Box(0, 1, (2,))
OBSERVATIONS = {
    "box": (Box(-1, 1, (2, 3)), {"vector": Continuous((2, 3))}),
    "wide": (Box(-np.inf, np.inf, (), np.float64), {"vector": Continuous(())}),
    "bytes": (Box(0, 255, (6,), np.uint8), {"vector": Continuous((6,))}),
    "bits": (Box(0, 1, (4, 4, 2), np.bool_), {"vector": Continuous((32,))}),
    "image": (IMAGE, {"image": Image(48, 48, 3)}),
    "channels first": (Box(0, 255, (4, 50, 50), np.uint8), {"image": Image(48, 48, 4)}),
    "grey": (Box(0, 255, (9, 9), np.uint8), {"image": Image(48, 48, 1)}),
    "discrete": (Discrete(3, start=-1), {"vector": Classes(3)}),
    "multi-discrete": (MultiDiscrete([3, 3]), {"vector": Classes(3, (2,))}),
    "unequal": (
        MultiDiscrete([[1, 2], [3, 4]]),
        {f"vector/{i}/{j}": Classes(1 + 2 * i + j) for i in range(2) for j in range(2)},
    ),
    "multi-binary": (MultiBinary((2, 2)), {"vector": Classes(2, (2, 2))}),
    "nested": (
        Dict(
            {
                "eyes": Tuple([IMAGE, IMAGE]),
                "body": Dict({"arm": Box(0, 1, (2,)), "n": Discrete(2)}),
            }
        ),
        {
            "eyes/0": Image(48, 48, 3),
            "eyes/1": Image(48, 48, 3),
            "body/arm": Continuous((2,)),
            "body/n": Classes(2),
        },
    ),
}
ACTIONS = {
    "discrete": (Discrete(3, start=-1), {"action": Classes(3)}),
    "small": (Discrete(3, start=5, dtype=np.int8), {"action": Classes(3)}),
    "multi-discrete": (MultiDiscrete([3, 3], start=[1, 7]), {"action": Classes(3, (2,))}),
    "unequal": (
        MultiDiscrete([2, 4], dtype=np.int32, start=[5, -9]),
        {"action/0": Classes(2), "action/1": Classes(4)},
    ),
    "multi-binary": (MultiBinary(4), {"action": Classes(2, (4,))}),
    "box": (Box(np.float32([-0.1, 3]), np.float32([0.3, 1e6])), {"action": Continuous((2,))}),
    "whole": (Box(-3, 9, (2, 2), np.int16), {"action": Continuous((2, 2))}),
    "double": (Box(0.1, 0.7, (), np.float64), {"action": Continuous(())}),
    "nested": (
        Dict({"move": Discrete(4), "hands": Tuple([Box(0, 2, (3,)), MultiBinary(2)])}),
        {"move": Classes(4), "hands/0": Continuous((3,)), "hands/1": Classes(2, (2,))},
    ),
    "tuple": (Tuple([Discrete(2), Discrete(3)]), {"0": Classes(2), "1": Classes(3)}),
}


def gym(observation=None, action=None, **given):
    return wb.envs.gym(Toy, size=48, observation=observation, action=action, **given)


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_observations(name):
    space, ours = OBSERVATIONS[name]
    vector = wb.envs.EnvVector([gym(space)], seed=0)  # it checks dtype and shape of every row
    vector.reset()
    assert dict(vector.observation) == ours
    vector.step(torch.zeros(1, 2))


def test_values_of_observations():
    space = Dict({"n": Discrete(3, start=4), "m": MultiDiscrete([2, 5]), "b": MultiBinary(2)})
    environment = gym(Dict({**space.spaces, "x": Box(-9, 9, (2,), np.float64)}))
    step = environment.reset(3)
    seen = environment._env.seen[0]
    assert step.obs["n"] == seen["n"] - 4
    assert [step.obs["m/0"], step.obs["m/1"]] == seen["m"].tolist()
    assert step.obs["b"].tolist() == seen["b"].tolist()
    np.testing.assert_array_equal(step.obs["x"], seen["x"].astype(np.float32))


@pytest.mark.parametrize("name", ACTIONS)
def test_every_action_is_one_of_the_space(name):
    """The toy asserts it, for actions of a random policy, corners included."""
    space, ours = ACTIONS[name]
    vector = wb.envs.EnvVector([gym(action=space, limit=200)], seed=0)
    vector.reset()
    assert dict(vector.action) == ours
    actor = wb.heads.ActorHead(4, vector.action, units=8, layers=1)
    for scale in (0.0, 1.0, 100.0):
        for _ in range(10):
            vector.step(actor(torch.randn(1, 4)).sample() * scale)
    for corner in (-1.0, 1.0):
        vector.step(torch.full((1, wb.spaces.action_size(vector.action)), corner))


def test_values_of_actions():
    space = Dict(
        {
            "n": Discrete(3, start=4),
            "m": MultiDiscrete([2, 5], start=[1, -2]),
            "x": Box(-2, 6, (3,)),
        }
    )
    environment = gym(action=space)
    environment.reset(0)
    x = np.float32([-1, 0, 9])
    parts = {"n": np.int64(2), "m/0": np.int64(0), "m/1": np.int64(4), "x": x}
    environment.step(parts)
    (action,) = environment._env.actions
    assert action["n"] == 6
    assert action["m"].tolist() == [1, 2]
    assert action["x"].tolist() == [-2, 2, 6]


def test_the_agent_reads_and_answers_every_space():
    """Encoder, decoder and actor on rows of a vector, for each pair of spaces."""
    latent = SimpleNamespace(parts=lambda: (torch.zeros(1, 8), torch.zeros(1, 8)))
    pairs = zip(list(OBSERVATIONS) * 2, [*list(ACTIONS), "discrete", "nested"], strict=False)
    for observed, acted in pairs:
        environment = gym(OBSERVATIONS[observed][0], ACTIONS[acted][0])
        vector = wb.envs.EnvVector([environment], seed=0)
        encoder = wb.encoders.dreamer_encoder(vector.observation, depth=1, units=8)
        decoder = wb.decoders.dreamer_decoder(
            vector.observation, deter=8, stoch=8, depth=1, units=8, blocks=1
        )
        actor = wb.heads.ActorHead(encoder.embed_dim, vector.action, units=8, layers=1)
        rows = vector.reset()
        rows = vector.step(actor(encoder(rows.obs)).sample())
        assert decoder(latent).nll(rows.obs).isfinite().all(), (observed, acted)


def test_flags_repeat_and_reset():
    environment = gym(ends=5, repeat=2)
    action = {"action": np.int64(1)}
    with pytest.raises(ValueError, match=r"Toy.* but no episode is under way; reset\(seed\)"):
        environment.step(action)
    first = environment.reset(0)
    assert first[1:] == (0.0, True, False, False)
    assert environment.step(action)[1:] == (1 + 2, False, False, False)
    assert environment.step(action)[1:] == (3 + 4, False, False, False)
    assert environment.step(action)[1:] == (5, False, True, True)
    with pytest.raises(ValueError, match="no episode is under way"):
        environment.step(action)
    limited = gym(limit=1)
    limited.reset(0)
    assert limited.step(action)[1:] == (1, False, True, False)
    both = gym(limit=1, ends=1)
    both.reset(0)
    assert both.step(action)[1:] == (1, False, True, True)


def test_a_seed_fixes_the_episode_and_a_vector_re_enacts_it():
    def rows(vector, steps):
        return [vector.step(torch.eye(2)[[t % 2]]).obs["vector"] for t in range(steps)]

    make = functools.partial(wb.envs.gym, "CartPole-v1")
    vector, other = (wb.envs.EnvVector([make()], seed=3) for _ in range(2))
    assert torch.equal(vector.reset().obs["vector"], other.reset().obs["vector"])
    assert torch.equal(torch.stack(rows(vector, 30)), torch.stack(rows(other, 30)))
    state, after = vector.state_dict(), rows(vector, 9)
    third = wb.envs.EnvVector([make()], seed=0)
    third.reset()
    third.load_state_dict(state)
    assert torch.equal(torch.stack(rows(third, 9)), torch.stack(after))
    assert make().get_state() is None
    with pytest.raises(ValueError, match=r"it has none .* reset\(seed\) and play the actions"):
        make().set_state(b"")


def test_a_time_limit_of_gymnasium_is_not_terminal():
    environment = wb.envs.gym("Pendulum-v1", max_episode_steps=3)
    environment.reset(0)
    steps = [environment.step({"action": np.float32([0])}) for _ in range(3)]
    assert [(s.is_last, s.is_terminal) for s in steps] == [(False, False)] * 2 + [(True, False)]
    environment.close()


def test_pixels():
    environment = wb.envs.gym("CartPole-v1", pixels=True, size=32)
    assert environment.observation == {"image": Image(32, 32, 3)}
    first = environment.reset(0).obs["image"]
    assert (first.shape, first.dtype, first.min() < 255) == ((32, 32, 3), np.uint8, True)
    for _ in range(5):
        last = environment.step({"action": np.int64(1)}).obs["image"]
    assert (first != last).any()
    environment.close()


@pytest.mark.parametrize("factory", [Toy, lambda **given: Toy(**given)])
def test_a_factory_gets_the_render_mode(factory):
    environment = wb.envs.gym(factory, pixels=True, size=8)
    assert (environment.reset(0).obs["image"] == 0).all()
    assert (environment.step({"action": np.int64(0)}).obs["image"] == 1).all()
    environment.close()
    assert environment._env.closed


def test_invalid_frames():
    with pytest.raises(ValueError, match="render_mode=None; make it with render_mode='rgb_array'"):
        wb.envs.gym(lambda: Toy(), pixels=True)
    for frame, what in (([1], r"gave \[1\]"), (np.zeros((3, 3)), r"gave float64\[3, 3\]")):
        environment = wb.envs.gym(functools.partial(Toy, frame=frame), pixels=True)
        with pytest.raises(ValueError, match=what + ".* pixels=True needs `height width 3`"):
            environment.reset(0)


def test_pixels_of_mujoco_need_a_backend(monkeypatch):
    class Body(Toy):
        mujoco_renderer = None

    for name in ("_egl_works", "_osmesa_is_there"):
        monkeypatch.setattr(rendering, name, lambda: False)
    for name in ("MUJOCO_GL", "DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    wb.envs.gym(Body)
    with pytest.raises(RuntimeError, match=r"gym with pixels of .*Body.* needs OpenGL, but this"):
        wb.envs.gym(Body, pixels=True)


def test_which_axis_holds_the_channels():
    last = [(64, 64, 3), (210, 160, 3), (5, 5, 20), (7, 7, 7), (5, 7, 3)]
    first = [(3, 64, 64), (3, 210, 160), (12, 84, 84), (1, 5, 5)]
    assert [channels_first(shape) for shape in last + first] == [False] * 5 + [True] * 4
    pixel = np.arange(50 * 48 * 3, dtype=np.uint8).reshape(50, 48, 3)
    space = Box(0, 255, (3, 50, 48), np.uint8)
    environment = gym(space)
    environment._env.look = lambda: pixel.transpose(2, 0, 1)
    np.testing.assert_array_equal(environment.reset(0).obs["image"], resized(pixel, 48))


def test_known_names():
    for name in ("toy_gymnasium:Toy", "toy_gymnasium:make", "toy_gymnasium:Nested.toy"):
        assert wb.envs.gym(name, limit=3)._env.limit == 3
    assert wb.envs.gym("toy_gymnasium:ToyOfTheTests-v0", ends=3)._env.unwrapped.ends == 3
    assert isinstance(wb.envs.gym("toy_gymnasium:ours"), Walk)
    assert isinstance(wb.envs.gym("worldblocks.envs:atari", game="pong"), wb.envs.Atari)
    assert isinstance(wb.envs.gym(Walk, length=2), Walk)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("CartPole-v9", ValueError, r"unknown gymnasium environment .* did you mean 'CartPole-v1'"),
        ("cartpol", ValueError, r"did you mean 'CartPole-v1' or"),
        (":Foo-v1", ValueError, "unknown gymnasium environment ':Foo-v1'"),
        ("Cart Pole v1!", ValueError, "unknown gymnasium environment 'Cart Pole v1!'"),
        ("Zzzz/Qqqq-v0", ValueError, "an id that a package registers is written 'package:Id'"),
        ("no_such_thing.envs:make", ImportError, "no module 'no_such_thing'.*PYTHONPATH adds"),
        ("toy_gymnasium.sub:make", ImportError, r"no module 'toy_gymnasium.sub'"),
        ("toy_gymnasium:maker", ValueError, "toy_gymnasium defines no 'maker', and no environment"),
        ("toy_gymnasium:number", TypeError, "is 3; it takes a function or class that makes"),
        ("toy_gymnasium:nothing", TypeError, "a factory returns a gymnasium.Env or a wb.envs.E"),
        (3, TypeError, "got 3; it takes an id, 'package.module:factory', or a function"),
    ],
)
def test_unknown_names(name, error, message):
    with pytest.raises(error, match=message):
        wb.envs.gym(name)


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (
            lambda level: level,
            {},
            r"takes \(level\): missing a required argument: 'level'; give oth",
        ),
        (lambda: 0, {"a": 1}, r"arguments {'a': 1} for .* unexpected keyword argument 'a'"),
        ("CartPole-v1", {"a": 1}, r"got {'a': 1} for 'CartPole-v1': .* unexpected .* --env-args"),
    ],
)
def test_arguments_that_an_environment_does_not_take(make, arguments, message):
    with pytest.raises(ValueError, match=message):
        wb.envs.gym(make, **arguments)
    if callable(make):
        with pytest.raises(ValueError, match=message):
            wb.envs.dm_env(make, **arguments)


def test_a_module_with_a_missing_import(tmp_path, monkeypatch):
    (tmp_path / "broken_toy.py").write_text("import not_installed_here")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="No module named 'not_installed_here'"):
        wb.envs.gym("broken_toy:make")


def test_spaces_that_are_left_out_or_refused():
    text, graph = Text(5), Graph(Box(0, 1, (2,)), None)
    with pytest.warns(UserWarning, match=r"leaves out the observations 'a' .*, 'c/0' .*: it obse"):
        environment = gym(Dict({"a": text, "b": Discrete(2), "c": Tuple([graph])}))
    assert list(environment.observation) == ["b"]
    with pytest.raises(ValueError, match=r"the observation space Text.*; it observes Box"):
        gym(text)
    with pytest.raises(ValueError, match=r"two parts called 'a/b' .*; give one of them another"):
        gym(Dict({"a/b": Discrete(2), "a": Dict({"b": Discrete(2)})}))
    with pytest.raises(ValueError, match=r"whose action 'b' is Text.*; it takes Discrete, Multi"):
        gym(action=Dict({"a": Discrete(2), "b": text}))
    with pytest.raises(ValueError, match=r"environment without actions: Dict\(\); it needs one"):
        gym(action=Dict({}))


@pytest.mark.parametrize(
    ("space", "ours"),
    [
        (Box(0, 255, (210, 160, 3), np.uint8), Image(210, 160, 3)),
        (Box(0, 255, (3, 37, 51), np.uint8), Image(37, 51, 3)),
        (Box(0, 255, (28, 28), np.uint8), Image(28, 28, 1)),
    ],
)
def test_images_keep_their_size(space, ours):
    environment = wb.envs.gym(Toy, observation=space)
    assert environment.observation == {"image": ours}
    image = environment.reset(0).obs["image"]
    assert (image.shape, image.dtype) == (ours.shape, np.uint8)
    seen = environment._env.seen[0]
    seen = seen.transpose(1, 2, 0) if seen.shape == (3, 37, 51) else seen.reshape(ours.shape)
    np.testing.assert_array_equal(image, seen)


@pytest.mark.parametrize(
    ("space", "classes", "low"),
    [
        (Box(0, 1, (8, 8, 12), np.uint8), 2, 0),
        (Box(-1, 1, (9, 9), np.int8), 3, -1),
        (Box(0, 10, (3, 7, 5), np.int64), 11, 0),
        (Box(0, 1, (6, 4, 2), np.bool_), 2, 0),
    ],
)
def test_grids(space, classes, low):
    shape = (*space.shape, 1) if len(space.shape) == 2 else space.shape
    shape = (7, 5, 3) if shape == (3, 7, 5) else shape
    for grids in (classes, {"board": classes}):
        environment = gym(Dict({"board": space}), grids=grids)  # not resized
        assert environment.observation == {"board": Grid(*shape, classes)}
        board = environment.reset(0).obs["board"]
        assert (board.shape, board.dtype) == (shape, np.uint8)
        seen = environment._env.seen[0]["board"].astype(int) - low
        seen = seen.transpose(1, 2, 0) if seen.shape == (3, 7, 5) else seen.reshape(shape)
        np.testing.assert_array_equal(board, seen)
    assert list(gym(space, grids=classes).observation) == ["image"]


class Moves:
    """A board of ours whose last cell is `value`."""

    observation = {"board": Grid(2, 3, 1, classes=4)}  # noqa: RUF012
    action = {"action": Classes(2)}  # noqa: RUF012

    def __init__(self, value=3):
        self.value = value

    def reset(self, seed):
        self.random, self.time = np.random.default_rng(seed), 0
        return self.row(True)

    def step(self, action):
        self.time += 1
        self.random.random(1 + int(action["action"]))
        return self.row(False)

    def row(self, first):
        board = self.random.integers(4, size=(2, 3, 1)).astype(np.uint8)
        board[-1, -1] = self.value
        return wb.envs.Step({"board": board}, 0.0, first, self.time == 3, False)

    def get_state(self):
        return None

    def close(self):
        pass


def test_a_grid_of_ours_keeps_its_promise():
    wb.testing.check_env(Moves, limit=3)
    message = r"gave 'board' as uint8\[2, 3, 1\] .* to 4, outside its space Grid.* from 0 to 3"
    with pytest.raises(wb.testing.BrokenPromise, match=message):
        wb.testing.check_env(lambda: Moves(4), limit=3, only="spaces")
    with pytest.raises(ValueError, match=message):
        wb.envs.EnvVector([lambda: Moves(4)], seed=0).reset()


def test_grids_that_are_doubtful_or_refused():
    board = Box(0, 1, (8, 8, 12), np.uint8)
    message = r"'b' is Box\(0, 1, .* nearly black; .* wb.spaces.Grid with grids={'b': 2} \(--env-"
    with pytest.warns(UserWarning, match=message) as caught:
        gym(Dict({"b": board, "v": Box(0, 1, (2,))}))
    assert caught[0].filename == __file__
    environment = gym(Box(0, 255, (7, 7, 3), np.uint8), grids=11)
    with pytest.raises(ValueError, match=r"outside the 11 classes: give `grids` the number of all"):
        environment.reset(0)
    with pytest.raises(ValueError, match=r"asked for the grids \['bord'\]; a grid is a Box of who"):
        gym(Dict({"board": board}), grids={"bord": 2, "board": 2})
    for grids in (True, 1, 300, {"image": 0}, {"image": 2.5}, "2"):
        with pytest.raises(ValueError, match="a number of classes from 2 to 256, or one for each"):
            gym(board, grids=grids)
    with pytest.raises(
        ValueError, match=r"grids=2 .* it describes a grid by wb.spaces.Grid and an"
    ):
        wb.envs.gym(Walk, grids=2)


def test_images_of_floats():
    space = Box(0, 1, (37, 51, 3))
    message = r"'image' is Box.* a vector of 5661 numbers, and looks .*; float_images=True .* 255$"
    with pytest.warns(UserWarning, match=message):
        assert gym(space).observation == {"vector": Continuous((5661,))}
    for low, high in ((0, 1), (-2, 2)):
        space = Box(low, high, (3, 37, 51), np.float32)
        environment = wb.envs.gym(Toy, observation=space, float_images=True)
        assert environment.observation == {"image": Image(37, 51, 3)}
        image = environment.reset(0).obs["image"]
        share = (environment._env.seen[0] - low) / (high - low)
        np.testing.assert_array_equal(image, np.rint(255 * share.transpose(1, 2, 0)))
    for value in (np.nan, 200.0):
        environment._env.look = lambda value=value: np.full((3, 37, 51), value, np.float32)
        with pytest.raises(
            ValueError, match=r"the observation as float32\[3, .* -2 is black and 2"
        ):
            environment.reset(0)
    matrix = Box(0, 1, (3, 3))
    with pytest.raises(ValueError, match=r"was asked for float_images; such an image is a Box"):
        gym(matrix, float_images=True)
    message = r"'far' is Box.* in 0 … 255 after its bounds, black and white, are declared in its"
    far = Dict({"matrix": matrix, "far": Box(-np.inf, 1, (9, 9, 3))})
    with pytest.warns(UserWarning, match=message):
        gym(far)
    with pytest.raises(ValueError, match=r"pixels=True, which .* and grids=0, float_images=True"):
        wb.envs.gym("CartPole-v1", pixels=True, float_images=True)


def test_bytes_and_integers_that_are_probably_classes():
    """Whole numbers of a few values, by their space or in the rows that are looked at."""
    with pytest.warns(UserWarning, match=r"a vector of 1323 numbers; .* grids={'image': 11}"):
        gym(Box(0, 10, (21, 21, 3), np.int64))
    environment = gym(Box(0, 255, (7, 7, 3), np.uint8))
    ids = np.arange(147).reshape(7, 7, 3).astype(np.uint8) % 11
    environment._env.look = lambda: ids
    for _ in range(31):
        environment.reset(0)
    with pytest.warns(OutsideSpace, match=r"no number above 10 in 32 rows: .*'image': 11}"):
        environment.reset(0)
    for _ in range(40):
        environment.reset(0)


def test_a_size_for_an_environment_that_has_its_own():
    factory = "worldblocks.testing:Catch"
    side = wb.envs.gym(factory).observation["image"].height
    assert wb.envs.gym(factory, size=side).observation["image"].height == side
    with pytest.warns(
        UserWarning, match=r"images of 40×40 \(size, --image\), but .*Catch.* used as"
    ):
        wb.envs.gym(factory, size=40)


def test_actions_without_bounds():
    with pytest.raises(ValueError, match=r"bounded on one side only; it takes bounds on both"):
        gym(action=Box(0, np.inf, (2,)))
    space = Box(np.float32([-np.inf, 4]), np.float32([np.inf, 8]))
    with pytest.warns(UserWarning, match=r"the actions \['action'\] .* have no bounds") as caught:
        environment = gym(action=space)
    assert caught[0].filename == __file__
    environment.reset(0)
    environment.step({"action": np.float32([0.5, 0.5])})
    assert environment._env.actions[0].tolist() == [0.5, 7]


def test_arguments():
    with pytest.raises(ValueError, match=r"wb.envs.gym got size=0; it takes a whole number from 1"):
        wb.envs.gym("CartPole-v1", size=0)
    with pytest.raises(ValueError, match=r"got repeat=1.5; it takes a whole number from 1 up"):
        wb.envs.gym("CartPole-v1", repeat=1.5)
    with pytest.raises(ValueError, match=r"pixels=False and repeat=2 for .*: give them to the fac"):
        wb.envs.gym(Walk, repeat=2)


@pytest.mark.parametrize("missing", ["gymnasium", "PIL"])
def test_a_missing_extra(monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError) as error:
        wb.envs.gym("CartPole-v1")
    assert str(error.value) == ("wb.envs.gym needs the extra 'gym': pip install -e \".[gym]\"")
