"""Episodes from NumPy arrays, npz files and Minari data sets."""

import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from worldblocks.replay import (
    Batch,
    SequenceReplay,
    episode_from_numpy,
    observation_spaces,
    read_minari,
    read_npz,
    write_npz,
)
from worldblocks.spaces import Continuous, Discrete, Grid, Image

MOVE = {"move": Discrete(3)}


def test_the_action_chosen_at_a_row_leads_to_the_next():
    image = np.arange(4 * 2 * 5 * 3, dtype=np.uint8).reshape(4, 2, 5, 3)
    episode = episode_from_numpy(
        obs={
            "image": image,
            "speed": np.array([0.5, 1.5, 2.5, 3.5]),
            "door": np.array([0, 1, 1, 0]),
        },
        action={"arm": np.array([[0.1, -0.2], [0.3, -0.4], [0.5, -0.6]]), "jump": [2, 0, 1]},
        reward=np.array([10.0, 20.0, 30.0]),
        terminated=np.array([False, False, True]),
        actions={"jump": Discrete(3), "arm": Continuous((2,))},
    )
    assert torch.equal(episode.obs["image"], torch.from_numpy(image))
    assert episode.obs["image"].dtype is torch.uint8
    assert episode.obs["speed"].tolist() == [0.5, 1.5, 2.5, 3.5]
    assert (episode.obs["door"].tolist(), episode.obs["door"].dtype) == ([0, 1, 1, 0], torch.int64)
    rows = [[0, 0, 0, 0, 0], [0.1, -0.2, 0, 0, 1], [0.3, -0.4, 1, 0, 0], [0.5, -0.6, 0, 1, 0]]
    torch.testing.assert_close(episode.prev_action, torch.tensor(rows))
    assert episode.reward.tolist() == [0, 10, 20, 30]
    assert episode.is_first.tolist() == [True, False, False, False]
    assert episode.is_last.tolist() == episode.is_terminal.tolist() == [False, False, False, True]


@pytest.mark.parametrize(
    ("terminated", "truncated", "terminal"),
    [(False, True, False), (True, True, True), (False, False, False), ([0, 1], 0, True)],
)
def test_the_last_row_ends_the_episode(terminated, truncated, terminal):
    episode = episode_from_numpy(np.zeros((3, 4)), np.zeros((2, 1)), [0, 0], terminated, truncated)
    assert episode.is_last.tolist() == [False, False, True]
    assert episode.is_terminal.tolist() == [False, False, terminal]


@pytest.mark.parametrize(
    ("array", "key", "space"),
    [
        (np.zeros((3, 8, 9, 1), np.uint8), "image", Image(8, 9, 1)),
        (np.zeros((3, 8, 9), np.uint8), "image", Image(8, 9, 1)),
        (np.zeros((3, 8), np.uint8), "vector", Continuous((8,))),
        (np.zeros((3, 2, 4), np.float16), "vector", Continuous((2, 4))),
        (np.zeros(3), "vector", Continuous(())),
        (np.array([[0, 4], [1, 1], [2, 0]], np.uint16), "vector", Discrete(5, (2,))),
        (np.array([True, False, True]), "vector", Discrete(2)),
    ],
)
def test_what_is_observed_is_read_from_the_arrays(array, key, space):
    assert observation_spaces([whole(obs=array)]) == {key: space}


def test_classes_are_counted_over_all_episodes():
    episodes = [whole(obs=np.array(classes)) for classes in ([0, 1, 5], [2, 0, 0])]
    assert observation_spaces(episodes) == {"vector": Discrete(6)}
    with pytest.raises(ValueError, match="got no episode; it reads the tensors of one or more"):
        observation_spaces([])


def test_boards_of_classes():
    boards = [np.full((3, 9, 9, 2), classes, np.uint8) for classes in (0, 4)]
    episodes = [whole(obs={"b": board}) for board in boards]
    assert observation_spaces(episodes, grids={"b": 6}) == {"b": Grid(9, 9, 2, 6)}
    message = r"'b' has no number above 4, .* grids={'b': 5} \(--grids '{\"b\": 5}' of recipes/wor"
    with pytest.warns(UserWarning, match=message):
        assert observation_spaces(episodes) == {"b": Image(9, 9, 2)}
    message = r"asked for the grid '(b|c)' of 4 classes; .* with the largest numbers {'b': 4}"
    for grids in ({"b": 4}, {"c": 4}):
        with (
            pytest.raises(ValueError, match=message),
            warnings.catch_warnings(action="ignore"),
        ):
            observation_spaces(episodes, grids=grids)
    with pytest.raises(ValueError, match=r"a board of classes is uint8 as well: x.astype"):
        whole(obs=np.zeros((3, 9, 9, 2), int))


def whole(**changes):
    """An episode of two actions, some arguments changed."""
    given = {"obs": np.zeros((3, 4)), "action": np.array([0, 2]), "reward": np.zeros(2)}
    given |= {"terminated": False, "actions": MOVE}
    return episode_from_numpy(**given | changes)


WRONG = {
    "no last observation": (
        {"obs": np.zeros((2, 4))},
        r"obs 'vector' has 2 rows and action 2; .*o_0 … o_T, .*the last action led is missing: app",
    ),
    "another length": ({"obs": np.zeros((7, 4))}, "obs 'vector' has 7 rows and action 2.*: give 3"),
    "empty": ({"obs": np.zeros((0, 4))}, "obs 'vector' has 0 rows and action 2.*: give 3"),
    "no observation": ({"obs": {}}, "obs is empty; give an array, or arrays by key"),
    "rewards of rows": ({"reward": np.zeros(3)}, "reward has 3 rows .*drop the reward of row 0"),
    "rewards with an axis": ({"reward": np.zeros((2, 1))}, r"float64\[2, 1\]; it has one number"),
    "float images": (
        {"obs": np.zeros((3, 8, 8, 3))},
        r"obs 'vector' is float64\[3, 8, 8, 3\]; an image is uint8 .*\(255 \* x\)\.round",
    ),
    "stacks of images": ({"obs": np.zeros((3, 4, 8, 8, 1), np.uint8)}, "have at most 2 axes"),
    "channels first": (
        {"obs": np.zeros((3, 3, 8, 9), np.uint8)},
        r"looks like `time channel height width`; .*x\.transpose\(0, 2, 3, 1\)",
    ),
    "negative classes": ({"obs": np.array([0, -1, 2])}, "with -1; integers are classes from 0 on"),
    "objects": (
        {"obs": np.array([None, 1, 2])},
        "obs has the dtype object; it must hold numbers or booleans in one array",
    ),
    "ragged lists": (
        {"obs": [[0.0], [1.0, 2.0], [3.0]]},
        "obs is not an array: .*one array of num",
    ),
    "text": ({"obs": {"say": np.array(["a", "b", "c"])}}, "obs 'say' has the dtype <U1"),
    "a number": ({"reward": 1.0}, "reward is a single number; it must have a row for each time"),
    "NaN": ({"obs": np.array([[0.0], [np.nan], [0.0]])}, "obs 'vector' holds nan at place 1; rep"),
    "too large": ({"reward": np.array([0.0, 1e60])}, r"reward holds 1e\+60 at place 1"),
    "integers": ({"actions": None}, r"'action' is int64\[2\].*actions={'action': wb\.spaces\.Disc"),
    "a class too many": (
        {"action": np.array([0, 3])},
        r"action 'move' must be in 0 … 2, got 0 … 3",
    ),
    "one-hots": ({"action": np.eye(3)[:2]}, "as integers, or one-hots and no `actions`"),
    "an axis too many": ({"action": np.array([[0], [2]])}, r"its shape must be \[time\]"),
    "another key": ({"action": {"jump": np.array([0, 1])}}, r"the keys \['move'\], got \['jump'\]"),
    "parts of other lengths": (
        {"action": {"a": np.zeros(2), "b": np.zeros(3)}, "actions": None},
        r"the parts of action have \[2, 3\] rows",
    ),
    "an end in the middle": (
        {"terminated": np.array([True, False])},
        "terminated is true at place 0 of 2; an episode ends with its arrays: split them there",
    ),
    "a flag too few": ({"truncated": np.array([True])}, r"truncated is bool\[1\]; it is one flag"),
    "a flag in words": ({"terminated": "no"}, r"terminated is <U2\[\]; it is one flag of the epi"),
    "a flag that is a share": ({"terminated": 0.5}, r"terminated is float64\[\]; it is one flag"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arrays_are_sentences(case):
    changes, message = WRONG[case]
    with pytest.raises(ValueError, match=message):
        whole(**changes)


# ------------------------------------------------------------------ npz


FLOATS = st.floats(-1e6, 1e6, width=32)


@st.composite
def recordings(draw):
    """The arguments of `episode_from_numpy` of one to four episodes of a data set."""
    classes = draw(st.integers(1, 4))
    shapes = {
        "image": ((3, 5, 2), np.uint8, st.integers(0, 255)),
        "cell": ((2,), np.int64, st.integers(0, 3)),
        "speed": ((4,), np.float32, FLOATS),
        "height": ((), np.float32, FLOATS),
    }
    keys = draw(st.lists(st.sampled_from(sorted(shapes)), min_size=1, unique=True))
    found = []
    for steps in draw(st.lists(st.integers(0, 5), min_size=1, max_size=4)):
        array = lambda dtype, shape, elements: draw(  # noqa: E731
            arrays.arrays(dtype, shape, elements=elements)
        )
        found.append(
            {
                "obs": {
                    key: array(shapes[key][1], (steps + 1, *shapes[key][0]), shapes[key][2])
                    for key in keys
                },
                "action": {
                    "move": array(np.int64, (steps,), st.integers(0, classes - 1)),
                    "arm": array(np.float32, (steps, 2), FLOATS),
                },
                "reward": array(np.float32, (steps,), FLOATS),
                "terminated": draw(st.booleans()),
                "actions": {"move": Discrete(classes), "arm": Continuous((2,))},
            }
        )
    return found


@given(recordings())
def test_arrays_come_back_from_files_and_from_a_replay(tmp_path_factory, found):
    folder = tmp_path_factory.mktemp("data")
    episodes = [episode_from_numpy(**each) for each in found]
    paths = write_npz(folder, episodes)
    assert [path.name for path in paths] == [f"episode-{i:06d}.npz" for i in range(len(found))]
    assert sorted(folder.iterdir()) == paths
    read = list(read_npz(folder))
    stored = list(SequenceReplay.from_episodes(read, length=1).episodes())
    assert len(read) == len(stored) == len(found)
    for given_, first, *others in zip(found, episodes, read, stored, strict=True):
        for key, value in given_["obs"].items():
            assert torch.equal(first.obs[key], torch.from_numpy(value))
        assert torch.equal(first.prev_action[1:, :2], torch.from_numpy(given_["action"]["arm"]))
        assert first.prev_action[1:, 2:].argmax(1).tolist() == given_["action"]["move"].tolist()
        assert torch.equal(first.reward[1:], torch.from_numpy(given_["reward"]))
        for other in others:
            same(first, other)


def same(ours: Batch, theirs: Batch) -> None:
    assert ours.obs.keys() == theirs.obs.keys()
    pairs = [(ours.obs[key], theirs.obs[key]) for key in ours.obs]
    names = ("prev_action", "reward", "is_first", "is_last", "is_terminal")
    for a, b in [*pairs, *((getattr(ours, name), getattr(theirs, name)) for name in names)]:
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert torch.equal(a, b)


def saved(folder, name="a.npz", **changes):
    """A file of one's own."""
    given = {"obs": np.zeros((3, 4)), "action": np.array([0, 2]), "reward": np.zeros(2)}
    given |= {"terminated": False} | changes
    np.savez(folder / name, **{key: x for key, x in given.items() if x is not None})


def test_classes_are_those_of_all_files(tmp_path):
    saved(tmp_path, "a.npz", action=np.array([0, 1]), note=np.array([None]))
    saved(tmp_path, "b.npz", action=np.array([3, 0]))
    assert [episode.prev_action.shape[1] for episode in read_npz(tmp_path)] == [4, 4]
    [first, _] = read_npz(str(tmp_path), actions={"move": Discrete(6)})
    assert first.prev_action[1:].tolist() == [[1, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0]]


def test_parts_by_key(tmp_path):
    parts = {"obs/cam": np.ones((3, 8, 8, 3), np.uint8), "obs/v": np.zeros(3), "obs": None}
    parts |= {"action/arm": np.full((2, 2), 0.5), "action/jump": np.array([1, 0]), "action": None}
    saved(tmp_path, **parts, truncated=np.array([False, True]))
    [episode] = read_npz(tmp_path)
    assert sorted(episode.obs) == ["cam", "v"]
    assert episode.prev_action[1].tolist() == [0.5, 0.5, 0.0, 1.0]


FILES = {
    "a missing array": ({"reward": None}, r"a\.npz lacks reward; it has \['action', 'obs', 'ter"),
    "no action": ({"action": None}, r"a\.npz lacks action; it has .*\(or action/NAME\)"),
    "objects": ({"obs": np.array([None] * 3)}, r"a\.npz cannot be read: Object arrays.*np\.savez"),
    "obs twice": ({"obs/a": np.zeros((3, 2))}, r"a\.npz has .*; obs is one array 'obs' or several"),
    "action twice": ({"action/a": np.zeros(2)}, r"action is one array 'action' or .*, not both"),
    "wrong arrays": ({"obs": np.zeros((2, 4))}, r"a\.npz: obs 'vector' has 2 rows and action 2"),
}


@pytest.mark.parametrize("case", FILES)
def test_wrong_files_are_named(case, tmp_path):
    changes, message = FILES[case]
    saved(tmp_path, **changes)
    with pytest.raises(ValueError, match=message):
        list(read_npz(tmp_path))


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04torn", b"\x93NUMPY\x01\x00"])
def test_files_that_are_none(content, tmp_path):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.npz cannot be read: .*torn, or no npz.*np\.savez"):
        list(read_npz(tmp_path))


def test_an_array_in_place_of_a_file(tmp_path):
    with (tmp_path / "a.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ValueError, match=r"a\.npz cannot be read: it is torn, or no npz"):
        list(read_npz(tmp_path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"obs": np.zeros((3, 5))},
            r"b\.npz holds 'vector' float32\[5\], a\.npz 'vector' float32\[",
        ),
        ({"action": np.zeros((2, 2))}, r"b\.npz: action 'action' is float64\[2, 2\], in files bef"),
    ],
)
def test_files_of_two_data_sets(changes, message, tmp_path):
    saved(tmp_path, "a.npz")
    saved(tmp_path, "b.npz", **changes)
    with pytest.raises(ValueError, match=message):
        list(read_npz(tmp_path))


def test_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no episodes in .*: it has no file \*\.npz; wb\."):
        read_npz(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no episodes in .*nowhere: it is not a folder"):
        read_npz(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="write_npz got no episode; it needs at least one"):
        write_npz(tmp_path, [])
    with pytest.raises(ValueError, match=r"a list of episodes, got one Batch; give \[episode\]"):
        write_npz(tmp_path, whole())
    write_npz(tmp_path / "new", [whole()])
    with pytest.raises(FileExistsError, match=r"new holds npz files already, .*another folder"):
        write_npz(tmp_path / "new", [whole()])


# ------------------------------------------------------------------ Minari


def minari(monkeypatch, observation, action, *episodes):
    """A stand-in for the package, with one data set."""

    def load(name):
        if name != "own/set-v0":
            raise FileNotFoundError("Use download=True")
        return SimpleNamespace(
            observation_space=observation,
            action_space=action,
            iterate_episodes=lambda: iter(episodes),
        )

    monkeypatch.setitem(sys.modules, "minari", SimpleNamespace(load_dataset=load))


def played(observations, actions, steps=2):
    flags = np.arange(steps) == steps - 1
    return SimpleNamespace(
        observations=observations,
        actions=actions,
        rewards=np.arange(steps) + 1.0,
        terminations=flags,
        truncations=~flags & flags,
    )


def test_a_minari_data_set(monkeypatch):
    spaces = pytest.importorskip("gymnasium", reason="needs the extra gym").spaces
    observation = spaces.Dict(
        {
            "cam": spaces.Box(0, 255, (3, 8, 9), np.uint8),
            "pair": spaces.Tuple([spaces.Discrete(4, start=2), spaces.Box(-9, 9, (2,), np.int32)]),
            "say": spaces.Text(5),
        }
    )
    action = spaces.Dict(
        {
            "arm": spaces.Box(
                np.array([0, -np.inf, 3], np.float32), np.array([4, 9, 3], np.float32)
            ),
            "free": spaces.Box(-np.finfo(np.float32).max, np.finfo(np.float32).max, (1,)),
            "keys": spaces.MultiDiscrete([2, 3], start=[0, 5]),
            "lamps": spaces.MultiBinary(2),
        }
    )
    cam = np.arange(3 * 3 * 8 * 9).reshape(3, 3, 8, 9).astype(np.uint8)
    pair = (np.array([2, 5, 3]), np.zeros((3, 2), np.int32))
    chosen = {
        "arm": np.array([[0, 7, 3], [3, -7, 3]], np.float32),
        "free": np.array([[0.5], [2.0]], np.float32),
        "keys": np.array([[1, 5], [0, 7]]),
        "lamps": np.array([[0, 1], [1, 1]], np.int8),
    }
    seen = {"cam": cam, "pair": pair, "say": ["a", "b", "c"]}
    minari(monkeypatch, observation, action, played(seen, chosen))
    with pytest.warns(UserWarning, match="leaves out the observations 'say' of 'own/set-v0'"):
        [episode] = read_minari("own/set-v0")
    assert torch.equal(episode.obs["cam"], torch.from_numpy(cam.transpose(0, 2, 3, 1)))
    assert episode.obs["pair/0"].tolist() == [0, 3, 1]
    assert episode.obs["pair/1"].dtype is torch.float32
    arm, free = [[-1, 7, 0], [0.5, -7, 0]], [[0.5], [2.0]]
    keys, lamps = [[0, 1, 1, 0, 0], [1, 0, 0, 0, 1]], [[1, 0, 0, 1], [0, 1, 0, 1]]
    rows = [sum(parts, []) for parts in zip(arm, free, keys, lamps, strict=True)]  # noqa: RUF017
    torch.testing.assert_close(episode.prev_action[1:], torch.tensor(rows).float())
    assert episode.reward.tolist() == [0, 1, 2]
    assert episode.is_terminal.tolist() == [False, False, True]


def test_single_spaces_of_minari_have_the_names_of_gymnasium(monkeypatch):
    spaces = pytest.importorskip("gymnasium", reason="needs the extra gym").spaces
    for space, values, key in (
        (spaces.Box(0, 255, (8, 9), np.uint8), np.zeros((3, 8, 9), np.uint8), "image"),
        (spaces.Discrete(4), np.array([0, 1, 3]), "vector"),
    ):
        minari(monkeypatch, space, spaces.Discrete(3, start=1), played(values, np.array([1, 3])))
        [episode] = read_minari("own/set-v0")
        assert list(episode.obs) == [key]
        assert episode.prev_action[1:].tolist() == [[1, 0, 0], [0, 0, 1]]


@pytest.mark.filterwarnings("ignore:the actions .* have no bounds")
@pytest.mark.parametrize("bound", [0.5, 3.0, 1e8, 1e9, 1e10, 3e38, np.inf])
def test_actions_are_the_numbers_that_an_agent_gives_gymnasium(monkeypatch, bound):
    spaces = pytest.importorskip("gymnasium.spaces", reason="needs the extra gym")
    gym_actions = pytest.importorskip("worldblocks.envs.gym.conversion").actions
    space = spaces.Box(-bound, bound, (1,), np.float32)
    numbers = np.array([[0.5], [-0.25]], np.float32)
    chosen = np.stack([gym_actions(space)[1]({"action": row}) for row in numbers])
    minari(monkeypatch, spaces.Box(-9, 9, (2,)), space, played(np.zeros((3, 2)), chosen))
    [episode] = read_minari("own/set-v0")
    assert episode.prev_action[1:].numpy() == pytest.approx(numbers)


def test_what_minari_cannot_give(monkeypatch):
    spaces = pytest.importorskip("gymnasium", reason="needs the extra gym").spaces
    numbers = spaces.Box(-1, 1, (2,))
    minari(monkeypatch, numbers, spaces.Text(3), played(np.zeros((3, 2)), ["a", "b"]))
    with pytest.raises(ValueError, match=r"'own/set-v0' has observations Box.*and actions Text\("):
        list(read_minari("own/set-v0"))
    minari(monkeypatch, numbers, numbers, played(np.zeros((2, 2)), np.zeros((2, 2))))
    with pytest.raises(ValueError, match="episode 0 of 'own/set-v0': obs 'vector' has 2 rows"):
        list(read_minari("own/set-v0"))
    with pytest.raises(FileNotFoundError, match=r"no Minari data set 'other'.*`minari download o"):
        read_minari("other")
    monkeypatch.setitem(sys.modules, "minari", None)
    with pytest.raises(
        ImportError, match=r"needs the extra 'minari': pip install -e \"\.\[minari\]"
    ):
        read_minari("own/set-v0")


@pytest.mark.filterwarnings("ignore::UserWarning")  # that no author is given, and so on
def test_a_data_set_of_minari_itself(monkeypatch, tmp_path):
    package = pytest.importorskip("minari", reason="needs the extra minari")
    gymnasium = pytest.importorskip("gymnasium", reason="needs the extra gym")
    buffer = pytest.importorskip("minari.data_collector").EpisodeBuffer
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    episodes = [
        buffer(
            observations=np.full((3, 2), 0.5 * k),
            actions=np.array([k, 1]),
            rewards=np.array([0.0, k]),
            terminations=np.array([False, True]),
            truncations=np.array([False, False]),
        )
        for k in range(2)
    ]
    package.create_dataset_from_buffers(
        "own/set-v0",
        episodes,
        action_space=gymnasium.spaces.Discrete(2),
        observation_space=gymnasium.spaces.Box(-1, 1, (2,), np.float64),
    )
    for k, episode in enumerate(read_minari("own/set-v0")):
        assert torch.equal(episode.obs["vector"], torch.full((3, 2), 0.5 * k))
        assert episode.prev_action[1:].argmax(1).tolist() == [k, 1]
        assert (episode.reward.tolist(), int(episode.is_terminal.sum())) == ([0, 0, k], 1)
