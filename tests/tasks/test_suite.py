"""Tasks of different sizes: spaces, padding, masks, environments, adding and removing."""

import copy
import json

import numpy as np
import pytest
import torch
from task_worlds import Body, make
from torch import nn

import worldblocks as wb
from ring_core import Ring
from worldblocks.evaluate import AgentPolicy, play
from worldblocks.spaces import Continuous, Discrete, Grid, Image
from worldblocks.tasks import Padded, TaskEnvironments, TaskSuite, union
from worldblocks.tasks.judgement import Latents

UNION = {"joints": Continuous((5,)), "kind": Discrete(2), "time": Continuous()}


def task_suite(base_tasks=("finger", "leg", "buttons"), others=(), conditioned=False):
    return TaskSuite(make, base_tasks, others, conditioned=conditioned)


def test_the_union_has_every_key_in_its_largest_size():
    suite = task_suite()
    assert suite.observation == UNION
    assert list(suite.observation) == sorted(UNION)
    assert suite.width == 5
    assert task_suite(conditioned=True).width == 8


def test_zeros_and_masks_by_hand():
    """Features are kept, and are not in the union."""
    padded = Padded(make("finger"), UNION)
    step = padded.reset(0)
    step = padded.step({"push": np.array([0.5, 0.0], np.float32)})
    assert step.obs["joints"].tolist() == [1.0, 1.0, 0.0, 0.0, 0.0]
    assert step.obs["kind"] == 0
    assert step.obs["kind"].dtype == np.int64
    assert step.obs["feat/time"].tolist() == [1.0]
    assert padded.mask["joints"].tolist() == [True, True, False, False, False]
    assert not padded.mask["kind"]
    assert padded.mask["time"]
    assert wb.tasks.seen(padded.observation) == UNION
    assert padded.get_state() == b"\x01"
    padded.set_state(b"\x03")
    assert padded.environment.t == 3
    padded.close()
    assert padded.environment.closed


def test_an_image_that_is_missing_is_black():
    padded = Padded(make("leg"), {**UNION, "eye": Image(2, 3, 1)})
    assert padded.reset(0).obs["eye"].dtype == np.uint8
    assert padded.reset(0).obs["eye"].shape == (2, 3, 1)


def test_a_board_that_is_missing_is_all_class_0():
    padded = Padded(make("leg"), {**UNION, "board": Grid(2, 3, 1, 5)})
    board = padded.reset(0).obs["board"]
    assert (board.dtype, board.shape, board.max()) == (np.uint8, (2, 3, 1), 0)


def test_padded_environments_keep_the_promises_of_environments():
    wb.testing.check_env(lambda: Padded(make("finger"), UNION), limit=4, skip=["seeds-differ"])


def test_the_one_hot_of_a_task_is_at_the_end():
    suite = task_suite(conditioned=True)
    assert suite.padding("finger").tolist() == [0, 0, 0, 1, 0, 0]
    assert suite.padding("leg").tolist() == [0, 1, 0]
    assert suite.padding("buttons").tolist() == [0, 0, 0, 1]
    assert task_suite().padding("finger").tolist() == [0, 0, 0]


def test_episodes_of_a_task_do_not_depend_on_the_others():
    ours, theirs = task_suite(("finger",)), task_suite(("finger", "buttons"))
    seeds = [one.envs("finger", 2, seed=3)._seed for one in (ours, theirs)]
    assert seeds[0] == seeds[1] != ours.envs("finger", 2, seed=4)._seed
    assert theirs.envs("buttons", 1, seed=3)._seed != seeds[0]


class Still:
    """An agent that carries the number of its actions."""

    def initial(self, n):
        carry = wb.rssm.Carry(torch.zeros(n, 2), torch.zeros(n, 1, 3))
        return wb.rssm.Acting(carry, torch.zeros(n, 5))


def act(agent, obs, acting, is_first):
    carry, action = acting
    return action + 0.5, acting._replace(dynamics=carry._replace(memory=carry.memory + 1))


def test_states_of_an_agent_are_kept_for_the_map():
    latents = Latents(AgentPolicy(act, Still(), 2), 5, 2)
    assert play(latents, task_suite().envs("leg", 2, seed=0), 2) == [2.0, 2.0]
    assert latents.features.shape == (8, 5)  # 4 rows of 2 environments
    assert latents.features[:, 0].tolist() == [1, 1, 2, 2, 3, 3, 4, 4]


def test_of_a_larger_memory_all_of_it_is_kept():
    """Numbers and flags alike, each row of an environment in one line."""

    class Remembers(Still):
        def initial(self, n):
            ring = Ring(torch.zeros(n, 4, 3), torch.ones(n, 4) > 0)
            acting = super().initial(n)
            return acting._replace(dynamics=acting.dynamics._replace(memory=ring))

    def act(agent, obs, acting, is_first):
        return acting.prev_action + 0.5, acting

    latents = Latents(AgentPolicy(act, Remembers(), 2), 5, 2)
    play(latents, task_suite().envs("leg", 2, seed=0), 2)
    assert latents.features.shape == (8, 4 * 3 + 4 + 3)
    assert latents.features[:, 12:16].eq(1).all()


def test_states_are_kept_at_equal_distances():
    latents, rows = Latents(AgentPolicy(act, Still(), 2), 4, 2), task_suite().envs("leg", 2, seed=0)
    rows = rows.reset()
    for _ in range(13):
        latents(rows)
    assert latents.features[:, 0].tolist() == [1, 1, 9, 9]


def task_envs(*tasks):
    made, suite = TaskEnvironments(), task_suite()
    for task in tasks:
        made.add(task, suite.envs(task, 2, seed=0), (torch.zeros(2, 3), torch.zeros(2)))
    return made


def test_players_go_on_where_they_were_saved():
    ours = task_envs("finger", "leg")
    for _, envs in ours:
        envs.step(torch.ones(2, envs._size))
    ours.acting["leg"] = (torch.ones(2, 3), torch.full((2,), 2.0))
    state = copy.deepcopy(ours.state_dict())
    again = task_envs("finger", "leg")
    again.load_state_dict(state)
    assert [envs.rows.obs["time"].tolist() for _, envs in again] == [[1.0, 1.0], [1.0, 1.0]]
    assert torch.equal(again.acting["leg"][1], torch.full((2,), 2.0))
    assert again.stopped == ""
    again.remove("finger")
    assert again.tasks == ["leg"]
    again.close()


def test_rows_saved_without_a_previous_action_get_that_of_the_agent():
    """Without the padding for the world model."""
    ours, action = task_envs("finger", "leg"), torch.rand(2, 5)
    for task, envs in ours:
        envs.step(action[:, : envs._size])
        ours.acting[task] = (torch.zeros(2, 3), action)
    state = copy.deepcopy(ours.state_dict())
    for own in state["envs"].values():
        del own["rows"]["prev_action"]
    again = task_envs("finger", "leg")
    again.load_state_dict(state)
    for _, envs in again:
        assert torch.equal(envs.rows.prev_action, action[:, : envs._size])


def test_a_vector_of_your_own_saves_what_it_likes():
    class Own:
        def __init__(self):
            self.action = {"move": Discrete(2)}

        def reset(self):
            self.row = 0

        def state_dict(self):
            return {"row": self.row}

        def load_state_dict(self, state):
            self.row = state["row"]

    ours, again = TaskEnvironments(), TaskEnvironments()
    for made in (ours, again):
        made.add("own", Own(), wb.rssm.Acting((), torch.zeros(2, 5)))
    ours.envs["own"].row = 3
    again.load_state_dict(ours.state_dict())
    assert again.envs["own"].row == 3


class Learner(nn.Module):
    """Heads of one number."""

    def __init__(self):
        super().__init__()
        self.world, self.heads = nn.Linear(1, 1), wb.tasks.TaskHeads()

    def head(self, task):
        return nn.Linear(1, 1)

    def initial(self, n):
        return torch.zeros(n)


def test_tasks_join_and_leave_without_a_trace():
    agent, played = Learner(), TaskEnvironments()
    optimizer = wb.optim.LaProp(agent.parameters(), lr=0.1)
    replay = wb.replay.MixtureReplay(capacity=8, streams=2, length=2)

    def cast(*tasks):
        suite = task_suite(others=tasks)
        wb.tasks.set_tasks(
            tasks, agent, optimizer, replay, played, lambda task: suite.envs(task, 2, seed=0)
        )

    def train():
        optimizer.zero_grad()
        x = agent.world(torch.ones(4, 1))
        sum(agent.heads[task](x).sum() for task in agent.heads).backward()
        optimizer.step()

    cast("finger", "leg")
    train()
    kept = copy.deepcopy(agent.heads["leg"].state_dict())
    memory = copy.deepcopy([optimizer.state[p] for p in agent.heads["leg"].parameters()])
    cast("leg", "buttons")
    assert agent.heads.names == replay.tasks == played.tasks == ["leg", "buttons"]
    assert [len(group["params"]) for group in optimizer.param_groups] == [2, 2, 2]
    for name, x in agent.heads["leg"].state_dict().items():
        assert torch.equal(x, kept[name])
    for p, before in zip(agent.heads["leg"].parameters(), memory, strict=True):
        assert all(torch.equal(optimizer.state[p][name], before[name]) for name in before)
    assert len(optimizer.state) == 4  # world and leg; a new head gets state at its first update
    train()
    assert [optimizer.state[p]["step"].item() for p in agent.heads["buttons"].parameters()] == [
        1,
        1,
    ]


def test_who_leaves_and_who_joins():
    assert wb.tasks.changes(["a", "b"], ["b", "a"]) == ""
    said = wb.tasks.changes(["a", "b"], ["c", "b"])
    assert said == "a leaves, with its head and its rows\nc joins\n"
    with pytest.raises(ValueError, match="has learnt a, b, and --tasks names c, d alone; name one"):
        wb.tasks.changes(["a", "b"], ["c", "d"])


def test_the_tasks_of_a_run(tmp_path):
    assert wb.tasks.tasks_of(tmp_path, ["a", "b"]) == (("a", "b"), ("a", "b"))
    (tmp_path / "config.json").write_text(json.dumps({"tasks": ["a"]}))
    assert wb.tasks.tasks_of(tmp_path, ["c"]) == (("a",), ("a",))
    wb.run.Checkpoint(tmp_path).save({"position": {"tasks": ["a", "c"]}})
    assert wb.tasks.tasks_of(tmp_path, ["d"]) == (("a",), ("a", "c"))


def test_messages():
    with pytest.raises(
        ValueError, match=r"observation 'a' is Discrete.* in 'y' and Continuous.* in"
    ):
        union({"x": {"a": Continuous((2,))}, "y": {"a": Discrete(2)}})
    with pytest.raises(ValueError, match=r"'joints' is .* and there is room for None; give t"):
        Padded(Body(2), {"time": Continuous()})
    with pytest.raises(
        ValueError, match="'leg' does not fit this world model, whose actions are 2 nu"
    ):
        TaskSuite(make, ["finger"], ["leg"]).padding("leg")
    with pytest.raises(ValueError, match="'finger' does not fit this world model"):
        task_suite(("leg",), ["finger"], conditioned=True).padding("finger")
    played = task_envs("leg")
    with pytest.raises(ValueError, match="'leg' has environments already; remove it before it"):
        played.add("leg", played.envs["leg"], None)
    with pytest.raises(KeyError, match=r"'finger' has no environments here; \['leg'\] have"):
        played.remove("finger")
    with pytest.raises(
        ValueError, match=r"has the tasks \['finger'\], but \['leg'\] were added; add"
    ):
        played.load_state_dict({"envs": {"finger": None}})
