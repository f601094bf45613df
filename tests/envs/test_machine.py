import ale_py
import ale_py.roms
import numpy as np

from worldblocks.envs.atari.machine import Machine


def test_the_emulator_has_no_randomness_of_its_own():
    # ALE's own sticky actions would depend on its seed.
    machine = Machine(ale_py, "boxing")
    ale = ale_py.ALEInterface()
    ale.setInt("random_seed", 99)
    ale.setFloat("repeat_action_probability", 0.0)
    ale.loadROM(ale_py.roms.get_rom_path("boxing"))
    machine.reset()
    ale.reset_game()
    frame, rng = np.zeros((*machine.screen, 3), np.uint8), np.random.default_rng(0)
    for code in rng.integers(18, size=300).tolist():
        assert machine.act(code) == ale.act(code)
        machine.screen_into(frame)
        np.testing.assert_array_equal(frame, ale.getScreenRGB())
        assert machine.over() == ale.game_over()


def test_taking_a_state_often_or_late_gives_the_same_game():
    one, other = Machine(ale_py, "qbert"), Machine(ale_py, "qbert")
    for machine in (one, other):
        machine.reset()
    for code in range(150):  # past two anchors
        one.act(code % 18)
        other.act(code % 18)
        if code % 7 == 0:
            other.load(other.save())
    assert one.save()["now"].tobytes() == other.save()["now"].tobytes()
    assert len(one.save()["log"]) <= 64


def test_a_few_bytes_that_the_emulator_loses_do_not_stop_it():
    # Two variables of Miniature Golf are never restored; the game continues unchanged.
    one, other = Machine(ale_py, "miniature_golf"), Machine(ale_py, "miniature_golf")
    one.reset()
    for code in range(100):
        one.act(code % 18)
    other.load(one.save())
    frames = np.zeros((2, *one.screen, 3), np.uint8)
    for code in range(100):
        assert one.act(code % 18) == other.act(code % 18)
        one.screen_into(frames[0])
        other.screen_into(frames[1])
        np.testing.assert_array_equal(frames[0], frames[1])
