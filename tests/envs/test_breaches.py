"""Environments that break gymnasium's API: a sentence with the remedy each, or what is meant."""

import functools
import warnings
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

import worldblocks as wb

BYTES = Box(0, 255, (6, 4, 3), np.uint8)
BOX = Box(-1, 1, (3,))
BOTH = Dict({"a": BOX, "b": Discrete(3, start=2)})
ROW = np.zeros(3, np.float32)
FRAME = np.full((6, 4, 3), 9, np.uint8)
FLOATS = np.full((6, 4, 3), 0.5, np.float32)


class Given(gymnasium.Env):
    """Returns what it is given: an observation, or whole answers of `reset` and `step`."""

    action_space = Discrete(2)
    render_mode = "rgb_array"

    def __init__(self, space=BOX, obs: Any = ROW, *, begin=None, answer=None, frame=FRAME):
        self.observation_space, self.frame = space, frame
        self.begin = (lambda: (obs, {})) if begin is None else begin
        self.answer = (lambda: (obs, 0.0, False, False, {})) if answer is None else answer

    def reset(self, *, seed=None, options=None):
        return self.begin()

    def step(self, action):
        return self.answer()

    def render(self):
        return self.frame

    def __str__(self):
        return "<Given>"


def played(make, **options):
    environment = wb.envs.gym(make, size=4, **options)
    first = environment.reset(0)
    return first, environment.step({key: np.int64(1) for key in environment.action})


class NoSeed(Given):
    def reset(self):
        return ROW, {}


class NoOptions(Given):
    def reset(self, *, seed=None):
        return ROW, {}


class NoSpace(Given):
    def __init__(self):
        pass


class NoAction(Given):
    action_space = None


class Many(Given):
    num_envs = 4


class Changing(Given):
    def __init__(self, name):
        super().__init__()
        self.name = name

    def reset(self, *, seed=None, options=None):
        setattr(self, self.name, Box(-1, 1, (4,)))
        return ROW, {}


class Old:
    observation_space, action_space = BOX, Discrete(2)

    def reset(self):
        return ROW

    def step(self, action):
        return ROW, 0.0, False, {}


def limited(**given):
    return gymnasium.wrappers.TimeLimit(Given(**given), 9)


def of(obs, space=BOX):
    return lambda: Given(space, obs)


def answering(*values):
    return lambda: Given(answer=lambda: values[0] if len(values) == 1 else values)


def beginning(value):
    return lambda: Given(begin=lambda: value)


STEP = r".*step\(\) returns \(observation, reward, terminated, truncated, info\)"
REFUSED = {
    "reset without seed": (
        NoSeed,
        r"<Given>, whose reset\(\) takes no seed, .* write `def reset\(",
    ),
    "wrapped reset without seed": (
        lambda: gymnasium.wrappers.TimeLimit(NoSeed(), 9),
        r"whose reset\(\) takes no seed and no options, .*`super\(\).reset\(seed=seed\)`",
    ),
    "wrapped reset without options": (
        lambda: gymnasium.wrappers.TimeLimit(NoOptions(), 9),
        r"whose reset\(\) takes no options",
    ),
    "no observation_space": (NoSpace, "<Given>, whose observation_space is missing; set it in __i"),
    "no action_space": (NoAction, "<Given>, whose action_space is missing; set it in __init__ to"),
    "a space that is none": (lambda: Given(space=(3,)), r"is \(3,\), a builtins.tuple; set it"),
    "several in one": (Many, r"which is 4 environments in one .*: build it with num_envs=1"),
    "observation_space changes": (
        functools.partial(Changing, "observation_space"),
        r"<Given> changed its observation_space at a reset, from Box.* to Box.*: declare one space",
    ),
    "action_space changes": (
        functools.partial(Changing, "action_space"),
        r"<Given> changed its action_space at a reset, from Discrete\(2\) to Box.* and pad to it",
    ),
    "reset: observation alone": (
        beginning(ROW),
        r"<Given> gave float32\[3\] .* at a reset; reset\(\) returns \(observation, info\): `ret",
    ),
    "reset: a dict of two parts alone": (
        lambda: Given(BOTH, begin=lambda: {"a": ROW, "b": 2}),
        r"gave \{'a': .* at a reset; reset\(\) returns",
    ),
    "reset: two numbers alone": (beginning(np.zeros(2)), r"gave float64\[2\].* at a reset"),
    "reset: a tuple of two parts alone": (beginning((ROW, ROW)), r"gave 2 values \(float32\[3\]"),
    "reset: three values": (beginning((ROW, {}, {})), r"gave 3 values .* at a reset"),
    "reset: nothing": (beginning(None), r"gave None at a reset; reset\(\) returns"),
    "step: four values": (
        answering(ROW, 0.0, False, {}),
        rf"gave 4 values \(float32.*\) at a step;{STEP}; `done` of the older gym is terminated at",
    ),
    "step: four values in a wrapper": (
        lambda: limited(answer=lambda: (ROW, 0.0, False, {})),
        rf"gave gymnasium.wrappers.common other values .*, got 4\)\);{STEP}; `done` of",
    ),
    "step: nothing": (lambda: Given(answer=lambda: None), rf"gave None at a step;{STEP}"),
    "step: None in a wrapper": (
        lambda: limited(answer=lambda: None),
        rf"other values than it takes \(cannot unpack .*NoneType object\);{STEP}",
    ),
    "step: info before truncated": (
        answering(ROW, 0.0, False, {}, False),
        rf"gave truncated as \{{\}}; it is True or False,{STEP}",
    ),
    "step: info before the flags": (
        answering(ROW, 0.0, {}, False, False),
        rf"gave terminated as \{{\}}; it is True or False,{STEP}",
    ),
    "step: info is a list": (answering(ROW, 0.0, False, False, [1]), r"gave the info \[1\], which"),
    "flags: text": (
        answering(ROW, 0.0, "False", False, {}),
        "terminated as 'False'; it is True or",
    ),
    "flags: a dict": (
        answering(ROW, 0.0, {"__all__": False}, {"__all__": False}, {}),
        r"terminated as \{'__all__': False\}; it is True or False, of one agent",
    ),
    "flags: several": (
        answering(ROW, 0.0, False, np.zeros(4, bool), {}),
        r"truncated as bool\[4\] .*; it is True or False, of one agent in one environment",
    ),
    "flags: None": (answering(ROW, 0.0, None, False, {}), "terminated as None; it is True or Fals"),
    "flags: a number": (answering(ROW, 0.0, 0.5, False, {}), "terminated as 0.5; it is True or Fa"),
    "reward: several": (
        answering(ROW, np.ones(4), False, False, {}),
        r"gave the reward float64\[4\] from 1.0 to 1.0; it is one number, of one agent",
    ),
    "reward: None": (answering(ROW, None, False, False, {}), "gave the reward None; it is one num"),
    "reward: text": (
        answering(ROW, "1", False, False, {}),
        "gave the reward '1'; it is one number",
    ),
    "reward: a dict": (
        answering(ROW, {"a": 1}, False, False, {}),
        "the reward {'a': 1}; it is one",
    ),
    "reward: a huge int": (
        answering(ROW, 10**400, False, False, {}),
        "reward inf; a reward is fin",
    ),
    "reward: NaN": (answering(ROW, np.nan, False, False, {}), "the reward nan; a reward is finite"),
    "None": (of(None), r"<Given> gave the observation as None; its space is Box.*: return the obs"),
    "None of a dict": (of(None, BOTH), r"observation '' as None; its space Dict.* with the keys"),
    "text": (of("abc"), r"gave the observation as 'abc'; its space is Box.*: return an array of"),
    "ragged": (of([[1], [2, 3]]), r"gave the observation as \[\[1\], \[2, 3\]\]; its space is Box"),
    "complex": (
        of(ROW + 1j),
        r"gave the observation as complex64\[3\]; .*: return an array of num",
    ),
    "missing key": (
        of({"a": ROW}, BOTH),
        r"<Given> gave an observation without 'b', only \['a'\]; its space Dict.*: return every",
    ),
    "missing nested key": (
        of({"c": {}}, Dict({"c": BOTH})),
        r"without 'c/a', only \[\]; its space Dict\(",
    ),
    "short tuple": (of((ROW,), Tuple([BOX, BOX])), r"without '1', only \['0'\]; its space Tuple"),
    "part of a dict": (
        of(ROW, BOTH),
        r"observation '' as float32\[3\].*; its space .* a dict with",
    ),
    "part of a tuple": (
        of(3, Tuple([BOX])),
        r"observation '' as 3; its space .* a tuple of 1 with",
    ),
    "batch of one": (of(ROW[None]), r"float32\[1, 3\] .*: a batch of 1 was given: return obs\[0\]"),
    "batch": (of(np.zeros((4, 3))), r"a batch of 4 was given: return the observation of one env"),
    "batch of images": (of(FRAME[None], BYTES), r"uint8\[1, 6, 4, 3\] from 9 to 9; .*a batch of 1"),
    "column": (of(np.zeros((3, 1))), r"float64\[3, 1\] .*: return obs.reshape\(3,\)"),
    "no channel": (
        of(FRAME[..., 0], Box(0, 255, (6, 4, 1), np.uint8)),
        r"return obs.reshape\(6, 4",
    ),
    "axes": (of(FRAME.transpose(2, 0, 1), BYTES), "its axes are in another order: transpose it"),
    "shape": (of(np.zeros(5)), r"return the shape \[3\], or declare a space of shape \[5\]"),
    "floats of 0 … 1 as bytes": (
        of(FLOATS, BYTES),
        r"<Given> gave the observation as float32\[6, 4, 3\] from 0.5 to 0.5; its space is Box\(0, "
        r"255.*: bytes are whole numbers: return \(255 \* obs\).astype\(np.uint8\)",
    ),
    "floats as bytes": (of(FLOATS * 500, BYTES), r"whole numbers: return obs.astype\(np.uint8\)"),
    "NaN as bytes": (of(FLOATS * np.nan, BYTES), r"float32\[6, 4, 3\] from nan to nan.* are whole"),
    "large bytes": (of(FRAME.astype(int) + 250, BYTES), "from 259 to 259; .*: a byte is 0 … 255"),
    "negative bytes": (of(FRAME.astype(int) - 10, BYTES), "from -1 to -1; .*: a byte is 0 … 255"),
    "fraction in Discrete": (
        of(0.5, Discrete(3)),
        r"as 0.5; its space is Discrete\(3\): classes ar",
    ),
    "fraction in MultiDiscrete": (
        of([0.5, 1], MultiDiscrete([2, 3])),
        r"as \[0.5, 1\]; its space is MultiDiscrete\(\[2 3\]\): classes are whole numbers",
    ),
    "fraction in MultiBinary": (
        of([0.5, 1], MultiBinary(2)),
        r"MultiBinary\(2\): classes are whol",
    ),
    "class too large": (
        of(3, Discrete(3)),
        r"as 3; its space is Discrete\(3\): a class is outside",
    ),
    "class below start": (
        of(0, Discrete(3, start=1)),
        r"as 0; its space is Discrete\(3, start=1\)",
    ),
    "one of many classes": (
        of([1, 3], MultiDiscrete([2, 3])),
        r"\[1, 3\]; its space .* is outside",
    ),
    "bits": (
        of([0, 2], MultiBinary(2)),
        r"\[0, 2\]; its space is MultiBinary\(2\): a class is out",
    ),
    "infinite class": (
        of(np.inf, Discrete(3)),
        r"as inf; its space is Discrete\(3\): a class is o",
    ),
    "fraction in a Box of integers": (
        of(ROW + 0.5, Box(0, 9, (3,), np.int32)),
        r"float32\[3\] from 0.5 to 0.5; its space is Box.* int32\): a number is not whole: declare",
    ),
}
FRAMES = {
    "None": (None, r"its render\(\) gave None; pixels=True needs .* with render_mode='rgb_array'"),
    "a list": ([FRAME], r"\(list\); pixels=True needs `height width 3` of bytes: return the pic"),
    "opacity": (np.zeros((6, 4, 4), np.uint8), r"uint8\[6, 4, 4\].*: return frame\[..., :3\]"),
    "floats of 0 … 1": (FLOATS, r"float32\[6, 4, 3\] from 0.5 .*return \(255 \* frame\).astype"),
    "floats": (
        FLOATS * 99,
        r"float32\[6, 4, 3\] from 49.5 .*bytes of 0 … 255: return frame.astype",
    ),
    "large": (FRAME.astype(int) * 99, r"int64\[6, 4, 3\] from 891 to 891; .* bytes of 0 … 255"),
}
ACCEPTED = {
    "a list": of([0.0, 0.5, 1.0]),
    "float64": of(ROW.astype(np.float64)),
    "integers in a Box": of([0, 1, 0]),
    "a tensor": of(torch.zeros(3)),
    "a number for one number": of(0.5, Box(-1, 1, (1,))),
    "one number in an array": of(np.zeros(1), Box(-1, 1, ())),
    "wide integers as bytes": of(FRAME.astype(np.int64), BYTES),
    "bits as bytes": of(FRAME > 0, BYTES),
    "a class in an array": of(np.array([2]), Discrete(3)),
    "a whole float as a class": of(2.0, Discrete(3)),
    "a bit as a class": of(np.bool_(True), Discrete(2)),
    "whole floats in a Box of integers": of(ROW + 1, Box(0, 9, (3,), np.int32)),
    "flags of one element": answering(ROW, 0.0, np.array([False]), torch.tensor([0]), {}),
    "flags 0 and 1": answering(ROW, 0.0, 0, np.float32(0), {}),
    "rewards of one element": answering(ROW, np.array([0.0]), False, False, {}),
    "a reward in a tensor": answering(ROW, torch.tensor(0.0), False, False, {}),
    "a reward that is a bool": answering(ROW, False, False, False, {}),
    "lists for tuples": answering([ROW, 0.0, False, False, None]),
    "a space made anew": lambda: SameSpace(),
    "seed among keywords": lambda: Keywords(),
}


class SameSpace(Given):
    observation_space = property(lambda self: Box(-1, 1, (3,)), lambda self, space: None)


class Keywords(Given):
    def reset(self, **kwargs):
        assert kwargs == {"seed": 0}
        return ROW, {}


@pytest.mark.parametrize("name", REFUSED)
def test_a_breach_is_a_sentence(name):
    make, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        played(make)


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_is_clear_is_accepted(name):
    first, step = played(ACCEPTED[name])
    assert first[1:] == step[1:] == (0.0, not step.is_first, False, False) or first.is_first
    assert step[1:] == (0.0, False, False, False)
    for key, value in first.obs.items():
        np.testing.assert_array_equal(step.obs[key], value)


@pytest.mark.parametrize("name", FRAMES)
def test_frames(name):
    frame, message = FRAMES[name]
    with pytest.raises(ValueError, match="asked <Given> for pixels, and .*" + message):
        played(lambda: Given(frame=frame), pixels=True)


def test_frames_of_integers_and_without_an_observation_space():
    class Drawn(Given):
        observation_space = None

        def __init__(self):
            self.begin, self.frame = lambda: (None, {}), FRAME.astype(np.int64)
            self.answer = lambda: (None, 1, True, False, {})

    first, last = played(Drawn, pixels=True)
    assert (first.obs["image"] == 9).all()
    assert last[1:] == (1.0, False, True, True)


def test_an_object_that_is_no_environment():
    with pytest.raises(TypeError, match=r"derive its class from it, `class Old\(gymnasium.Env\)`"):
        wb.envs.gym(Old)
    with pytest.raises(TypeError, match=r"not a class: return Given\(\)"):
        wb.envs.gym(lambda: Given)
    with pytest.raises(TypeError, match=r"a single one: a vector of them is made by wb.envs"):
        wb.envs.gym(lambda: gymnasium.make_vec("CartPole-v1", num_envs=2))


OUTSIDE = {
    "box": (BOX, ROW + 7, "7.0 is outside its space Box"),
    "one number": (BOX, np.float32([0, 0, -1.5]), "-1.5 is outside"),
    "one side": (Box(0, np.inf, (3,)), ROW - 1, "-1.0 is outside"),
    "narrow image": (Box(10, 255, (6, 4, 3), np.uint8), FRAME, "9 is outside its space Box"),
    "integers": (Box(0, 5, (3,), np.int32), [0, 9, 0], "9 is outside"),
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_numbers_outside_their_box_warn_once(name):
    space, obs, message = OUTSIDE[name]
    environment = wb.envs.gym(lambda: Given(space, obs), size=6)
    with pytest.warns(
        UserWarning, match=rf"<Given> gave .*{message}.*; the agent gets it as it is"
    ):
        environment.reset(0)
    for _ in range(3):
        environment.step({"action": np.int64(1)})
    environment.reset(1)


def test_keys_that_the_space_lacks_warn_once():
    space = Dict({"c": Dict({"a": BOX}), "d": Tuple([BOX])})
    obs = {"c": {"a": ROW, "x": 1}, "d": (ROW, ROW), "e": 1}
    with pytest.warns(UserWarning, match=r"gave \['c/x', 'd/1', 'e'\], which its space Dict.* add"):
        played(of(obs, space))


def test_bounds_are_looked_at_in_the_first_rows_and_at_each_reset():
    given = SimpleNamespace(obs=ROW)
    environment = wb.envs.gym(
        lambda: Given(
            begin=lambda: (given.obs, {}), answer=lambda: (given.obs, 0.0, False, False, {})
        )
    )
    environment.reset(0)
    for _ in range(31):
        environment.step({"action": np.int64(0)})
    given.obs = ROW + 7
    environment.step({"action": np.int64(0)})  # row 33
    with pytest.warns(UserWarning, match="7.0 is outside its space"):
        environment.reset(1)
    given.obs = ROW.astype(np.float64) + 1e300  # what float32 cannot hold is seen in every row
    vector = wb.envs.EnvVector([environment], seed=0)
    with pytest.raises(ValueError, match=r"NaN or inf in 'vector' \(inf\), .* also as float32"):
        vector.reset()


def test_rounding_to_float32_is_not_outside():
    tenth = Box(np.float32(0.1), np.float32(0.9), (3,))
    played(of(np.full(3, 0.1), tenth))
    played(of(np.full(3, 0.9), tenth))


def test_an_action_is_new_in_each_repeat():
    class Halves(Given):
        action_space = Box(-2, 2, (1,))

        def step(self, action):
            seen.append(float(action[0]))
            action *= 0.5
            return super().step(action)

    seen: list[float] = []
    environment = wb.envs.gym(Halves, repeat=3)
    environment.reset(0)
    environment.step({"action": np.ones(1, np.float32)})
    assert seen == [2.0, 2.0, 2.0]


LARGEST = float(np.finfo(np.float32).max)
UNBOUNDED = {
    "infinite": Box(-np.inf, np.inf, (2,)),
    "the largest float32": Box(-LARGEST, LARGEST, (2,)),
    "the largest float64": Box(-1.7e308, 1.7e308, (2,), np.float64),
    "the largest float32 as float64": Box(-LARGEST, LARGEST, (2,), np.float64),
    "1e10": Box(-1e10, 1e10, (2,)),
}


@pytest.mark.parametrize("name", UNBOUNDED)
def test_actions_without_bounds_get_the_number_as_it_is(name):
    given = Given()
    given.action_space = UNBOUNDED[name]
    seen = []
    given.step = lambda action: seen.append(action) or given.answer()
    with pytest.warns(
        UserWarning, match=r"the actions \['action'\] .* have no bounds below 1e\+09"
    ):
        environment = wb.envs.gym(lambda: given)
    environment.reset(0)
    environment.step({"action": np.float32([0.25, -1])})
    assert seen[0].tolist() == [0.25, -1]


I32 = np.iinfo(np.int32)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (Box(-np.inf, np.inf, (2,), np.int32), "whole numbers without bounds; .*: give the space"),
        (Box(I32.min, I32.max, (2,), np.int32), r"Box\(-2147483648, .* or declare a Discrete"),
        (Box(-np.inf, np.inf, (2,), np.int64), "whole numbers without bounds"),
        (Box(0, I32.max, (2,), np.int32), "bounded on one side only.* and 1e[+]09 is none"),
        (Box(0, LARGEST, (2,)), "bounded on one side only; it takes bounds on both sides"),
        (Box(-LARGEST, 0, (2,)), "bounded on one side only"),
    ],
)
def test_actions_whose_bounds_say_nothing(space, message):
    given = Given()
    given.action_space = space
    with pytest.raises(ValueError, match=message):
        wb.envs.gym(lambda: given)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16])
def test_actions_of_small_integers_keep_their_bounds(dtype):
    given, bounds, seen = Given(), np.iinfo(dtype), []
    given.action_space = Box(bounds.min, bounds.max, (2,), dtype)
    given.step = lambda action: seen.append(action) or given.answer()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        environment = wb.envs.gym(lambda: given)
    environment.reset(0)
    environment.step({"action": np.float32([-1, 1])})
    assert seen[0].tolist() == [bounds.min, bounds.max]


CHECKED = {
    "floats as bytes": (of(FLOATS, BYTES), r"found: <Given> gave .* return \(255 \* obs\).astype"),
    "outside its box": (of(ROW + 7), "found: <Given> gave .* and 7.0 is outside its space Box"),
    "NaN": (
        of(ROW * np.nan),
        r"found: row 0 gave NaN or inf in 'vector' \(nan\), whose space is C",
    ),
    "a flag": (answering(ROW, 0.0, "no", False, {}), "found: <Given> gave terminated as 'no'"),
}


@pytest.mark.parametrize("name", CHECKED)
def test_check_env_says_what_an_environment_gives(name):
    make, message = CHECKED[name]
    with pytest.raises(wb.testing.BrokenPromise, match=message):
        wb.testing.check_env(lambda: wb.envs.gym(make, size=4), steps=3, only="spaces")


def test_check_env_takes_what_the_agent_plays():
    with pytest.raises(TypeError, match=r"makes a gymnasium.Env; .* wb.envs.gym\(make\)\)"):
        wb.testing.check_env(Given)
