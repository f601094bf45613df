"""A game continues exactly from its bytes, in a fresh process."""

import pickle
import subprocess
import sys
import zlib

import numpy as np
import pytest

import worldblocks as wb

# Q*bert and Tetris are not restored by the emulator's own save. Assault and Beam Rider have memory
# that survives a reset. Krull and Ms. Pac-Man have larger screens and cartridges.
GAMES = ["assault", "beam_rider", "boxing", "breakout", "krull", "ms_pacman", "qbert", "tetris"]
OPTIONS = {"sticky": 0.25, "full_actions": True, "max_frames": 240}


def make(game):
    return wb.envs.atari(game, **OPTIONS)


def play(environment, steps, seed, over):
    """Checksums of the images, rewards and flags; resets at the end of an episode."""
    rng, rows = np.random.default_rng(seed), []
    for t in range(steps):
        if over:
            step = environment.reset(1000 * seed + t)
        else:
            step = environment.step({"action": rng.integers(18)})
        over = step.is_last
        rows.append((zlib.crc32(step.obs["image"].tobytes()), *step[1:]))
    return rows


def restored(states):
    """Continue each game from its state: the entry point of the child process."""
    rows = {}
    for game, state in states.items():
        environment = make(game)
        environment.set_state(state)
        rows[game] = play(environment, 70, 2, over=False)
    return rows


def test_restored_in_a_fresh_process():
    states, rows = {}, {}
    for steps, game in enumerate(GAMES, start=40):
        environment = make(game)
        assert not play(environment, steps, 1, over=True)[-1][3], "should be in mid-episode"
        states[game] = environment.get_state()
        rows[game] = play(environment, 70, 2, over=False)
        assert any(row[3] for row in rows[game]), "should go on past the end of the episode"
    child = subprocess.run(
        [sys.executable, __file__], input=pickle.dumps(states), stdout=subprocess.PIPE, check=True
    )
    got = pickle.loads(child.stdout)
    assert [game for game in GAMES if got[game] != rows[game]] == []


def test_a_state_is_plain_and_small_and_taking_it_changes_nothing():
    one, other = make("boxing"), make("boxing")
    play(one, 90, 1, over=True)
    play(other, 90, 1, over=True)
    state = one.get_state()
    assert state == other.get_state() == one.get_state()
    assert len(state) < 60_000
    assert play(one, 20, 3, over=False) == play(other, 20, 3, over=False)


def test_a_state_before_the_first_reset_and_one_at_the_end():
    fresh, copy = make("pong"), make("pong")
    copy.set_state(fresh.get_state())
    assert play(copy, 160, 1, over=True) == play(fresh, 160, 1, over=True)
    ended = make("pong")
    ended.reset(0)
    while not ended.step({"action": np.int64(0)}).is_last:
        pass
    copy.set_state(ended.get_state())
    with pytest.raises(ValueError, match="no episode is under way"):
        copy.step({"action": np.int64(0)})


def test_a_state_of_another_game_or_a_damaged_one():
    pong, state = make("pong"), make("boxing").get_state()
    with pytest.raises(ValueError, match="asked pong to continue from a state of boxing; give a"):
        pong.set_state(state)
    with pytest.raises(ValueError, match="bytes that are damaged or not an environment state"):
        pong.set_state(state[:-1])


@pytest.mark.parametrize("part", ["anchor", "now"])
def test_a_machine_that_does_not_come_back_says_so_and_can_be_reset(part):
    environment = make("boxing")
    play(environment, 20, 1, over=True)
    machine = environment._machine
    state = machine.save()
    state[part] = state[part][:500]
    with pytest.raises(wb.envs.NotRestored, match="which it did not come back to; the version of"):
        machine.load(state)
    assert environment.reset(0).is_first


if __name__ == "__main__":
    sys.stdout.buffer.write(pickle.dumps(restored(pickle.load(sys.stdin.buffer))))
