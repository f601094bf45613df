import re
import sys
from pathlib import Path

import numpy as np
import pytest
from toy_environments import Script

import worldblocks as wb
from worldblocks.envs import Atari
from worldblocks.envs.atari import games

DEFAULTS = {
    "size": 2,
    "gray": False,
    "repeat": 4,
    "sticky": 0.0,
    "noops": 0,
    "full_actions": False,
    "max_frames": 1000,
    "timeout_is_terminal": False,
}


def scripted(ends=(), **changed):
    machine = Script(ends)
    return Atari(machine, **{**DEFAULTS, **changed}), machine


def act(environment, index=0):
    return environment.step({"action": np.int64(index)})


def shown(step):
    assert (step.obs["image"] == step.obs["image"][0, 0, 0]).all()
    return step.obs["image"][0, 0, 0]


def test_a_step_repeats_sums_rewards_and_shows_the_last_two_frames():
    environment, machine = scripted()
    first = environment.reset(0)
    assert (first.reward, first.is_first, first.is_last, first.is_terminal) == (0, True, False, 0)
    step = act(environment, 2)  # the third of the minimal actions has code 3
    assert machine.acts == [3] * 4
    assert step.reward == 4 * 13
    assert (step.is_first, step.is_last, step.is_terminal) == (False, False, False)
    assert shown(step) == 4
    assert environment._frames[:, 0, 0, 0].tolist() == [4, 3]


def test_a_reset_fills_the_frames_with_the_first_one():
    environment, machine = scripted()
    environment.reset(0)
    act(environment)
    machine.frame = 90  # must not remain after the reset
    assert shown(environment.reset(1)) == 0
    assert not environment._frames.any()


@pytest.mark.parametrize(
    ("end", "frames"),
    [
        (5, [4, 3]),  # ends in the first frame of the second step: none of its frames is pooled
        (6, [4, 3]),
        (7, [7, 4]),  # ends in the third: it is pooled with an older one
        (8, [8, 7]),
    ],
)
def test_a_game_that_ends_within_a_repeat_keeps_older_frames(end, frames):
    environment, _ = scripted([end])
    environment.reset(0)
    act(environment)
    step = act(environment)
    assert (step.is_last, step.is_terminal) == (True, True)
    assert step.reward == 10 * (end - 4)
    assert environment._frames[:, 0, 0, 0].tolist() == frames
    assert shown(step) == max(frames)


@pytest.mark.parametrize("terminal", [False, True])
def test_a_time_limit_counts_frames_and_is_terminal_on_request_only(terminal):
    environment, machine = scripted(max_frames=10, timeout_is_terminal=terminal, noops=5)
    environment.reset(3)
    begun = len(machine.acts)
    assert begun > 0  # no-ops do not count
    flags = [(step.is_last, step.is_terminal) for step in (act(environment) for _ in range(3))]
    assert flags == [(False, False), (False, False), (True, terminal)]
    assert len(machine.acts) - begun == 10


def test_the_flag_reproduces_the_recorded_time_limit(golden):
    arrays = np.load(golden / "m_atari_image.npz")
    environment, _ = scripted(max_frames=4, timeout_is_terminal=True)
    environment.reset(0)
    assert act(environment).is_terminal == arrays["atari100k_64rgb.is_terminal_when_only_last"]


def test_noops_are_uniform_from_none_to_all():
    environment, machine = scripted(noops=6)
    counts = np.zeros(7)
    for seed in range(700):
        machine.acts.clear()
        environment.reset(seed)
        assert set(machine.acts) <= {0}
        counts[len(machine.acts)] += 1
    # chi-squared with 6 degrees of freedom: above 27.9 once in ten thousand; the seeds are fixed
    assert ((counts - 100) ** 2 / 100).sum() < 27.9


def test_a_game_that_ends_in_the_noops_is_reset_again():
    environment, machine = scripted([2, 3], noops=9)
    seed = next(s for s in range(99) if np.random.Generator(np.random.PCG64(s)).integers(10) == 8)
    environment.reset(seed)
    assert machine.resets == 3
    assert machine.frame == 8 - 2 - 3


def test_sticky_actions_repeat_the_frame_before():
    environment, machine = scripted(sticky=0.25, max_frames=10**6)
    environment.reset(0)
    for index in range(4000):
        act(environment, 1 + index % 2)  # codes 1 and 3 in turn
    # The old code is repeated at the first frame of 1/4 of the steps, at the last of 1/256.
    codes = np.array(machine.acts).reshape(-1, 4)
    wanted = np.where(np.arange(4000) % 2, 3, 1)[:, None]
    missed = (codes != wanted).mean(0)
    np.testing.assert_allclose(missed, 0.25 ** np.arange(1, 5), atol=0.02)
    assert set(codes[0]) <= {0, 1}  # before the first action there was no input


def test_without_sticky_actions_no_frame_is_missed():
    environment, machine = scripted()
    environment.reset(0)
    act(environment, 1)
    act(environment, 3)
    assert machine.acts == [1] * 4 + [4] * 4


def test_one_repeat_still_pools_two_frames():
    environment, _ = scripted(repeat=1)
    environment.reset(0)
    act(environment)
    act(environment)
    assert environment._frames[:, 0, 0, 0].tolist() == [2, 1]


def test_action_sets_and_spaces():
    assert scripted()[0].action == {"action": wb.spaces.Discrete(4)}
    assert scripted(full_actions=True)[0].action == {"action": wb.spaces.Discrete(18)}
    pong = wb.envs.atari("pong", size=96, gray=True)
    assert pong.action == {"action": wb.spaces.Discrete(6)}
    assert pong.observation == {"image": wb.spaces.Image(96, 96, 1)}
    assert wb.envs.atari("pong", full_actions=True).action["action"].size == 18


def test_a_seed_fixes_the_episode():
    def episode(seed):
        game = wb.envs.atari("boxing", sticky=0.25)
        images = [game.reset(seed).obs["image"]]
        images += [act(game, t % 18).obs["image"] for t in range(40)]
        game.close()
        return np.stack(images)

    once = episode(3)
    assert once.shape == (41, 64, 64, 3)
    np.testing.assert_array_equal(episode(3), once)
    assert (episode(4) != once).any()


def test_errors_of_use():
    environment, _ = scripted([4])
    with pytest.raises(ValueError, match=r"no episode is under way; reset\(seed\) begins one"):
        act(environment)
    environment.reset(0)
    with pytest.raises(ValueError, match="action 4 of script; it has 4 actions, 0 to 3"):
        act(environment, 4)
    assert act(environment).is_last
    with pytest.raises(ValueError, match="asked script for a step, but no episode is under way"):
        act(environment)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("pongg", r"did you mean 'pong'\?"),
        ("MsPacman", r"did you mean 'ms_pacman'\?"),
        ("xqzv", r"wb.envs.atari_games\(\) lists them"),
        *((name, f"'{name}' is for two players") for name in ("combat", "joust", "warlords")),
        ("PongNoFrameskip-v4", r"an id of gymnasium; .*atari\('pong', repeat=1, sticky=0.0\)"),
        ("PongDeterministic-v0", r"wb.envs.atari\('pong', repeat=4, sticky=0.25\)"),
        ("Pong-ram-v4", r"wb.envs.atari\('pong', sticky=0.0\)"),
        ("ALE/MsPacman-v5", r"wb.envs.atari\('ms_pacman', repeat=4, sticky=0.25\)"),
        ("NothingLikeIt-v4", "unknown Atari game 'NothingLikeIt-v4'"),
    ],
)
def test_an_unknown_game(name, hint):
    with pytest.raises(ValueError, match=hint):
        wb.envs.atari(name)


def test_every_id_of_gymnasium_names_its_game():
    gymnasium = pytest.importorskip("gymnasium")
    gymnasium.register_envs(pytest.importorskip("ale_py"))
    specs = [one for one in gymnasium.registry.values() if "AtariEnv" in str(one.entry_point)]
    for one in specs:
        if one.kwargs["game"] in wb.envs.atari_games():
            with pytest.raises(ValueError, match=rf"wb.envs.atari\('{one.kwargs['game']}', "):
                wb.envs.atari(one.id)
    assert len(specs) > 100


@pytest.mark.parametrize("altered", [False, True])
def test_a_game_without_its_rom(monkeypatch, tmp_path, altered):
    monkeypatch.setenv("ALE_ROMS_DIR", str(tmp_path))
    if altered:
        (tmp_path / "pong.bin").write_bytes(b"another game")
    wb.envs.atari_games.cache_clear()
    try:
        with pytest.raises(ValueError, match=rf"ROM of 'pong' is missing or .*{tmp_path}; without"):
            wb.envs.atari("pong")
    finally:
        wb.envs.atari_games.cache_clear()


def test_an_ale_py_below_the_pin(monkeypatch):
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    oldest = re.search(r'"ale-py>=([\d.]+)"', text)[1]
    assert tuple(map(int, oldest.split("."))) == games.OLDEST
    monkeypatch.setattr(games.importlib.metadata, "version", lambda _: "0.9.1")
    with pytest.raises(ImportError, match=f"ale-py {oldest} or later, and this is 0.9.1: pip inst"):
        wb.envs.atari("pong")


@pytest.mark.parametrize("one_life", [False, True])
def test_the_loss_of_a_life_ends_an_episode_on_request_only(one_life):
    environment, machine = scripted([99], terminal_on_life_loss=one_life)
    machine.lives = lambda: 3 - machine.frame // 6  # one is lost in the second step
    environment.reset(0)
    assert act(environment)[2:] == (False, False, False)
    assert act(environment)[3:] == (one_life, one_life)
    assert machine.frame == (6 if one_life else 8)
    if one_life:
        environment.reset(0)
        assert machine.resets == 2
    assert not act(environment).is_last


def test_a_life_is_lost_in_a_restored_game():
    def play(game, t):
        step = act(game, t % 4)
        return step.is_terminal, step.is_last

    game = wb.envs.atari("breakout", terminal_on_life_loss=True, noops=0)
    game.reset(0)
    before = [play(game, t) for t in range(20)]
    again = wb.envs.atari("breakout", terminal_on_life_loss=True, noops=0)
    again.set_state(game.get_state())
    rest = [play(game, t) for t in range(20, 23)]
    while not rest[-1][1]:
        rest.append(play(game, len(rest)))
    assert [play(again, t) for t in range(20, 23)] == rest[:3]
    assert rest[-1] == (True, True)
    assert game._machine.lives() == 4
    assert not any(last for _, last in before)


def test_a_video_of_each_episode_at_full_resolution(tmp_path):
    from PIL import Image

    shown = str(tmp_path / "videos" / "pong.gif")
    games_ = [wb.envs.atari("pong", max_frames=12, noops=0, render=r) for r in (shown, shown, "")]
    rows = []
    for game in games_:
        game.reset(0)
        rows.append([act(game, 2) for _ in range(3)])
    games_[0].reset(1)
    seen = games_[0]._frames.max(0)
    games_[0].close()
    for one, plain in zip(rows[0], rows[2], strict=True):
        np.testing.assert_array_equal(one.obs["image"], plain.obs["image"])
    videos = sorted(path.name for path in (tmp_path / "videos").iterdir())
    assert videos == ["pong-0.gif", "pong-1.gif", "pong-2.gif"]
    counts = []
    for name in videos:
        with Image.open(tmp_path / "videos" / name) as video:
            counts.append(getattr(video, "n_frames", 1))
            assert video.size == (160, 210)
            assert video.info["duration"] == 70
            first = np.asarray(video.convert("RGB"))
    assert counts == [4, 4, 1]
    np.testing.assert_array_equal(first, seen)


@pytest.mark.parametrize(
    ("render", "error", "message"),
    [
        ("window", RuntimeError, "no display; render='episode.gif' writes a video of each episode"),
        ("human", ValueError, "got render='human'; it takes 'window', or the path of a video that"),
        (
            "pong.mp4",
            ValueError,
            "got render='pong.mp4'; it takes 'window', or the path of a video",
        ),
        ("FILE/pong.gif", OSError, "cannot write videos to .*; give render= the path of a file in"),
    ],
)
def test_what_cannot_be_shown_is_said_at_once(monkeypatch, tmp_path, render, error, message):
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "file").touch()
    with pytest.raises(error, match=message):
        wb.envs.atari("pong", render=render.replace("FILE", str(tmp_path / "file")))


def test_a_window_is_asked_of_the_emulator(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    game = wb.envs.atari("pong", render="window")
    assert game._machine._ale.getBool("display_screen")
    assert not wb.envs.atari("pong")._machine._ale.getBool("display_screen")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"size": 0}, "size=0; it takes a whole number from 1"),
        ({"repeat": 0}, "repeat=0; it takes a whole number"),
        ({"noops": -1}, "noops=-1, .* it takes noops of 0 or more"),
        ({"max_frames": 0}, "max_frames=0; it takes a whole number"),
        ({"sticky": 1.0}, "sticky=1.0; .* a probability below 1"),
    ],
)
def test_numbers_out_of_range(changed, message):
    with pytest.raises(ValueError, match=message):
        wb.envs.atari("pong", **changed)


@pytest.mark.parametrize("missing", ["ale_py", "PIL"])
def test_a_missing_extra(monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError) as error:
        wb.envs.atari("pong")
    assert str(error.value) == (
        "wb.envs.atari needs the extra 'atari': pip install -e \".[atari]\""
    )
