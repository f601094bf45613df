"""Runs of a recipe in a toy world, in this process, with every event of the loop written down."""

import copy
import functools
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny_runs
import torch
from torch.utils import _pytree as pytree

import worldblocks as wb
from worldblocks.envs import Feature, Goal, Step
from worldblocks.spaces import Continuous, Discrete, Image

FEATURES = ("done_red", "done_green", "done_blue")  # of GLAM's toy, one for each phrase


class Toy:
    """Shows who it is, drawn at the reset, and when. Action `who` pays 1, in 3 to 6 steps.

    Half of the episodes end by themselves, the others by a time limit. `made` is what it was made
    with; each reset is written into `log`.
    """

    def __init__(self, log: list[Any], made: dict[str, Any], image: bool, features=()):
        talks = made["factory"] == "minigrid" and "words" not in made  # for `glam_policy`
        self.action: Any = {"action": Discrete(7 if talks else 3)}
        self.observation: Any = {"vector": Continuous((2,))}
        self.observation |= {"image": Image(48, 48, 1)} if image else {}
        self.observation |= {f"feat/{name}": Continuous(shape) for name, shape in features}
        self.log, self.made, self.describer = log, made, Describer(self)
        homes = [event.envs for event in log if event.name == "open"]
        self.home = homes[-1] if homes else None  # the vector that it was made for

    def reset(self, seed: int) -> Step:
        self.log.append(SimpleNamespace(name="reset", toy=self, seed=seed))
        self.chance, self.when = np.random.default_rng(seed).uniform(), 0
        self.who, self.length = int(3 * self.chance), 3 + int(40 * self.chance) % 4
        return self.row(-1)

    def step(self, action: dict[str, np.ndarray]) -> Step:
        self.when += 1
        return self.row(int(action["action"]))

    def row(self, did: int) -> Step:
        obs: dict[str, Any] = {"vector": np.array([self.chance, self.when], np.float32)}
        if "image" in self.observation:
            obs["image"] = np.full((48, 48, 1), 40 * self.when, np.uint8)
            obs["image"][0, :4, 0] = np.frombuffer(np.float32(self.chance).tobytes(), np.uint8)
        for name, space in self.observation.items():
            if name.startswith("feat/"):
                obs[name] = np.full(space.shape, self.feature(name[5:], did), np.float32)
        over, limit = self.when == self.length, int(20 * self.chance) % 2 == 0
        return Step(obs, float(did == self.who), not self.when, over, over and not limit)

    def feature(self, name: str, did: int) -> float:
        """Of GLAM what was done now; of control a distance that grows and a sign of life."""
        if name in FEATURES:
            return float(FEATURES[did : did + 1] == (name,))
        return 0.02 * self.when if name == "finger_to_target_dist" else 1.0 - 0.1 * self.chance

    def get_state(self) -> None:
        return None

    def close(self) -> None:
        pass


class Describer:
    """What GLAM's toy says of itself."""

    mission = "touch red"

    def __init__(self, toy: Toy) -> None:
        self.toy = toy

    @property
    def ranges(self) -> dict[str, Feature]:
        return {name: Feature(0.0, 1.0, bit=True) for name in FEATURES}

    def candidates(self) -> list[Goal]:
        return [Goal(f"touch {name.removeprefix('done_')}", name) for name in FEATURES]

    def describe(self) -> list[str]:
        return [f"You see door {self.toy.chance:.6f}, {self.toy.when} times"]

    def frame(self) -> None:
        raise RuntimeError("nothing to render with")


def toys(log: list[Any], *, image: bool = False) -> dict[str, Callable[..., Any]]:
    """Toys in place of what makes environments, by the name of it."""
    reach = [("finger_to_target_dist", (1,)), ("lived", (1,))]
    reach += [(name, ()) for name in wb.language.body_menu("cartpole").ranges]

    def make(factory: str, features: Any = ()):
        def factory_of_toys(what: str, **options: Any) -> Toy:
            used = features if options.get("relabel", True) else ()
            return Toy(log, {"factory": factory, "what": what, **options}, image, used)

        return factory_of_toys

    names = {f"envs.{name}": make(name) for name in ("atari", "dmc", "gym")}
    glam = make("minigrid", [(name, ()) for name in FEATURES])
    names |= {"envs.dmc_features": make("dmc_features", reach)}
    return names | {"envs.minigrid": glam, "tasks.control": make("control", reach)}


def frozen(tree: Any) -> Any:
    """The same, whatever becomes of its tensors."""
    return pytree.tree_map(lambda x: x.detach().clone() if torch.is_tensor(x) else x, tree)


def after(function: Callable[..., Any], note: Callable[..., Any]) -> Callable[..., Any]:
    """The function, whose result and arguments are noted."""

    def noting(*args: Any, **options: Any) -> Any:
        result = function(*args, **options)
        note(result, *args, **options)
        return result

    return noting


def with_taste(draw: torch.Generator, head: Any, *_: Any, **__: Any) -> None:
    """Let the actor of a head like some actions: new ones are all nearly even."""
    with torch.no_grad():
        for name, parameter in head.actor.named_parameters():
            if ".outs." in name and name.endswith("bias"):
                parameter.add_(2 * torch.randn(parameter.shape, generator=draw))


class Recording:
    """The events of a run, in order, each with what belongs to it."""

    def __init__(self, *, image: bool = False) -> None:
        self.events: list[SimpleNamespace] = []
        self.image = image
        self.search: Any = None

    def note(self, name: str, **what: Any) -> None:
        self.events.append(SimpleNamespace(name=name, **what))

    def named(self, *names: str) -> list[SimpleNamespace]:
        """The events of these names."""
        return [event for event in self.events if event.name in names]

    def names(self, *names: str) -> list[str]:
        """The names of those events."""
        return [event.name for event in self.named(*names)]

    def streams(self) -> list[list[Any]]:
        """For each vector of environments: its rows, and what was done at them, turn by turn."""
        turns: dict[int, list[Any]] = {}
        rows = {id(event.envs): event.rows for event in self.named("begin")}
        act = add = None
        for event in self.named("act", "add", "send", "receive"):
            if event.name == "act":
                act = event
            elif event.name == "add":
                add = event
            elif event.name == "send":
                turn = (rows[id(event.envs)], act, add, event)
                turns.setdefault(id(event.envs), []).append(turn)
            else:
                rows[id(event.envs)] = event.rows
        return list(turns.values())

    def patch(self, patch: pytest.MonkeyPatch, *recipes: ModuleType) -> None:
        """Write down what happens from here on; the recipes' own functions included."""
        for name, make in toys(self.events, image=self.image).items():
            patch.setattr(f"worldblocks.{name}", make)
        for recipe in recipes:
            self._patch_recipe(patch, recipe)
        self._patch_vectors(patch)
        self._patch_replay(patch)
        self._patch_writing(patch)

    def _patch_recipe(self, patch: pytest.MonkeyPatch, recipe: ModuleType) -> None:
        act, update = getattr(recipe, "act", None), getattr(recipe, "update", None)

        def noted_act(
            agent: Any, obs: Any, acting: Any, is_first: Any, mode: bool = False, **heads: Any
        ) -> Any:
            rng, weights = torch.get_rng_state(), frozen(agent.state_dict())
            result = act(agent, obs, acting, is_first, mode, **heads)
            given = heads.get("heads") or []
            more = {"of": recipe.__name__, "agent": agent, "heads": list(given)}
            if self.search:
                more |= {"played": [self.search.slots.tasks[head] for head in given]}
            self.note("act", rng=rng, weights=weights, mode=mode, action=result[0].clone(), **more)
            return result

        def noted_update(*args: Any, **options: Any) -> Any:
            agent = next(x for x in args if isinstance(x, torch.nn.Module))
            rng, before = torch.get_rng_state(), frozen(agent.state_dict())
            event = SimpleNamespace(name="update", args=args, options=options, agent=agent)
            event.of = recipe.__name__
            event.rng, event.before = rng, before
            event.result = result = update(*args, **options)
            event.after, event.result = frozen(agent.state_dict()), frozen(result)
            self.events.append(event)
            return result

        if act:
            patch.setattr(recipe, "act", noted_act)
        if update:
            patch.setattr(recipe, "update", noted_update)
        if hasattr(recipe, "judge"):
            patch.setattr(recipe, "judge", after(recipe.judge, self._judged))

    def _judged(self, result: Any, *args: Any, **_: Any) -> None:
        self.note("judge", args=frozen(args), result=result)

    def _patch_vectors(self, patch: pytest.MonkeyPatch) -> None:
        vector = wb.envs.EnvVector
        init, reset, receive, step = vector.__init__, vector.reset, vector.receive, vector.step

        def noted_init(envs: Any, makes: Any, *, seed: int, workers: bool = False) -> None:
            self.note("open", envs=envs, n=len(makes), seed=seed, workers=workers)
            init(envs, makes, seed=seed)

        def rows(name: str):
            def note(result: Any, envs: Any, *_: Any) -> None:
                self.note(name, envs=envs, rows=frozen(envs.rows), finished=list(envs.finished))

            return note

        def sent(_: Any, envs: Any, action: Any) -> None:
            self.note("send", envs=envs, action=action.clone(), rng=torch.get_rng_state())

        patch.setattr(vector, "__init__", noted_init)
        patch.setattr(vector, "reset", after(reset, rows("begin")))
        patch.setattr(vector, "receive", after(receive, rows("receive")))
        patch.setattr(vector, "send", after(vector.send, sent))
        patch.setattr(vector, "step", after(step, rows("receive")))

    def _patch_replay(self, patch: pytest.MonkeyPatch) -> None:
        replay, prefetch = wb.replay.SequenceReplay, wb.replay.Prefetch

        def added(_: Any, replay: Any, **row: Any) -> None:
            self.note("add", replay=replay, row=frozen(row))

        def sampled(batch: Any, source: Any, *_: Any, length: int | None = None, **__: Any) -> None:
            source = getattr(source, "replay", source)
            self.note("sample", replay=source, batch=frozen(batch), length=length)

        def wrote(_: Any, replay: Any, row: Any, carry: Any) -> None:
            self.note("write_back", replay=replay, row=row.clone(), carry=frozen(carry))

        def routed(_: Any, mixture: Any, task: str, **__: Any) -> None:
            self.note("route", task=task, replay=mixture[task])

        patch.setattr(replay, "add", after(replay.add, added))
        patch.setattr(wb.replay.MixtureReplay, "add", after(wb.replay.MixtureReplay.add, routed))
        patch.setattr(replay, "sample", after(replay.sample, sampled))
        patch.setattr(prefetch, "sample", after(prefetch.sample, sampled))
        patch.setattr(replay, "write_back", after(replay.write_back, wrote))

    def _patch_writing(self, patch: pytest.MonkeyPatch) -> None:
        logger, search = wb.run.Logger, wb.language.RewardSearch

        def metrics(_: Any, logger: Any, metrics: Any) -> None:
            self.note("metrics", metrics=frozen(dict(metrics)))

        def line(figures: Any, logger: Any, step: int, *_: Any) -> None:
            self.note("log", step=step, figures=figures)

        def episode(_: Any, logger: Any, step: int, score: float, length: int, **more: Any) -> None:
            self.note("episode", step=step, score=score, length=length, **more)

        def video(logger: Any, step: int, *_: Any, **__: Any) -> None:
            self.note("video", step=step)

        def saved(_: Any, session: Any, **position: Any) -> None:
            self.note("save", position=position)

        def begun(search: Any, *_: Any, **__: Any) -> None:
            self.search = search

        def drawn(changed: Any, search: Any, is_first: Any) -> None:
            self.note("draw", changed=changed, is_first=is_first.clone(), playing=[*search.playing])
            self.events[-1].owners = [*search.slots.tasks]

        def renewed(_: Any, head: Any, fresh: Any, optimizer: Any) -> None:
            moments = [optimizer.state.get(p, {}) for p in head.parameters()]
            self.note("renew", head=head, fresh=fresh, moments=copy.deepcopy(moments))

        patch.setattr(logger, "add", after(logger.add, metrics))
        patch.setattr(logger, "write", after(logger.write, line))
        patch.setattr(logger, "episode", after(logger.episode, episode))
        patch.setattr(logger, "video", video)
        patch.setattr(wb.run.Session, "save", after(wb.run.Session.save, saved))
        quest_init = search.__init__
        patch.setattr(
            search,
            "__init__",
            lambda own, *args, **options: (quest_init(own, *args, **options), begun(own))[0],
        )
        patch.setattr(search, "begin", after(search.begin, drawn))
        patch.setattr(wb.tasks, "renew", after(wb.tasks.renew, renewed))
        head, draw = wb.tasks.dreamer_head, torch.Generator().manual_seed(1)
        patch.setattr(wb.tasks, "dreamer_head", after(head, functools.partial(with_taste, draw)))
        patch.setattr(wb.diagnose, "LENGTH", 6)
        patch.setattr(wb.diagnose, "open_loop_video", lambda agent, batch: None)
        patch.setattr(wb.language, "plot_belief", lambda run: None)
        for module in ("tasks", "tasks.judgement"):
            patch.setattr(f"worldblocks.{module}.plot_tasks", lambda run, **_: run)
        patch.setattr(wb.diagnose, "report", self._report)
        patch.setattr(wb.diagnose.held_out, "report", self._report)  # of each of several tasks

    def _report(self, run: Any, agent: Any, act: Any, envs: Any, **known: Any) -> str:
        """In place of the report: where it would be made."""
        self.note("report", known=known)
        envs.reset()
        return ""


def recorded(
    recipe: ModuleType, cfg: Any, folder: Any, *others: ModuleType, image: bool = False
) -> Recording:
    """A run of `main`, written down; so are the functions of other recipes that it uses."""
    recording = Recording(image=image)
    with pytest.MonkeyPatch.context() as patch:
        recording.patch(patch, recipe, *others)
        tiny_runs.run(recipe, cfg, folder)
    return recording


def check_carries(turns: list[Any]) -> None:
    """The stored carry is that of its row; so are the action before and the action that was sent.

    They are observed again from the carry that was stored before, with the numbers drawn then.
    """
    own = copy.deepcopy(turns[0][1].agent)
    envs = len(turns[0][0].reward)
    carry, action = own.initial(envs)
    for rows, act, add, send in turns:
        own.load_state_dict(act.weights)
        torch.set_rng_state(act.rng)
        with torch.no_grad():
            embed = own.encoder({key: rows.obs[key] for key in own.encoder.keys})
            state = own.rssm.observe_step(carry, embed, action, rows.is_first)
            feature = state.feature()
            parts = feature.split(1) if act.heads else [feature]
            actors = [own.heads[str(head)].actor for head in act.heads or ()] or [own.actor]
            drawn = [actor(x).sample() for actor, x in zip(actors, parts, strict=True)]
        tiny_runs.same(add.row["carry"], own.rssm.pack(state.carry), "carry")
        assert torch.equal(add.row["prev_action"], action)
        assert torch.equal(send.action, torch.cat(drawn))
        assert not act.mode
        carry, action = own.rssm.unpack(add.row["carry"]), send.action
