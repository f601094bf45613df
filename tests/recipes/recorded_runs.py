"""Runs of a recipe in a toy world, in this process, with every event of the loop recorded."""

import copy
import functools
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import tiny_runs
import torch
from torch.utils import _pytree as pytree
from toy_world import toys

import worldblocks as wb


def frozen(tree: Any) -> Any:
    """A copy that later changes of the tensors do not reach."""
    return pytree.tree_map(lambda x: x.detach().clone() if torch.is_tensor(x) else x, tree)


def after(function: Callable[..., Any], note: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with `note(result, *arguments)` called after it."""

    def noting(*args: Any, **options: Any) -> Any:
        result = function(*args, **options)
        note(result, *args, **options)
        return result

    return noting


def prefer(draw: torch.Generator, head: Any, *_: Any, **__: Any) -> None:
    """Make the actor of a new head prefer some actions: untrained ones are nearly uniform."""
    with torch.no_grad():
        for name, parameter in head.actor.named_parameters():
            if ".outs." in name and name.endswith("bias"):
                parameter.add_(2 * torch.randn(parameter.shape, generator=draw))


class Recording:
    """The events of a run in order, each with its data."""

    def __init__(self, *, image: bool = False) -> None:
        self.events: list[SimpleNamespace] = []
        self.image = image
        self.search: Any = None

    def note(self, name: str, **what: Any) -> None:
        self.events.append(SimpleNamespace(name=name, **what))

    def named(self, *names: str) -> list[SimpleNamespace]:
        """The events with these names."""
        return [event for event in self.events if event.name in names]

    def names(self, *names: str) -> list[str]:
        """The names of these events, in order."""
        return [event.name for event in self.named(*names)]

    def updates(self) -> list[int]:
        """The number of updates before each `receive`, and after the last."""
        turns = [0]
        for event in self.named("update", "receive"):
            turns[-1] += event.name == "update"
            turns += [0] if event.name == "receive" else []
        return turns

    def streams(self) -> list[list[Any]]:
        """For each vector of environments, its turns: rows, act, add and send."""
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
        """Record all events from here on, including calls of the recipes' own functions."""
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

            def judged(result: Any, *args: Any, **_: Any) -> None:
                self.note("judge", args=frozen(args), result=result)

            patch.setattr(recipe, "judge", after(recipe.judge, judged))

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
        replay = wb.replay.SequenceReplay

        def added(_: Any, replay: Any, **row: Any) -> None:
            self.note("add", replay=replay, row=frozen(row))

        def sampled(batch: Any, replay: Any, size: int, *, length: int | None = None) -> None:
            self.note("sample", replay=replay, batch=frozen(batch), length=length)

        def wrote(_: Any, replay: Any, row: Any, carry: Any) -> None:
            self.note("write_back", replay=replay, row=row.clone(), carry=frozen(carry))

        def routed(_: Any, mixture: Any, task: str, **__: Any) -> None:
            self.note("route", task=task, replay=mixture[task])

        patch.setattr(replay, "add", after(replay.add, added))
        patch.setattr(wb.replay.MixtureReplay, "add", after(wb.replay.MixtureReplay.add, routed))
        patch.setattr(replay, "sample", after(replay.sample, sampled))
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

        def begun(_: Any, search: Any, *__: Any, **___: Any) -> None:
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
        patch.setattr(search, "__init__", after(search.__init__, begun))
        patch.setattr(search, "begin", after(search.begin, drawn))
        patch.setattr(wb.tasks, "renew", after(wb.tasks.renew, renewed))
        head, draw = wb.tasks.dreamer_head, torch.Generator().manual_seed(1)
        patch.setattr(wb.tasks, "dreamer_head", after(head, functools.partial(prefer, draw)))
        patch.setattr(wb.diagnose, "LENGTH", 6)
        patch.setattr(wb.diagnose, "open_loop_video", lambda agent, batch: None)
        patch.setattr(wb.language, "plot_belief", lambda run: None)
        for module in ("tasks", "tasks.judgement"):
            patch.setattr(f"worldblocks.{module}.plot_tasks", lambda run, **_: run)
        patch.setattr(wb.diagnose, "report", self._report)
        patch.setattr(wb.diagnose.held_out, "report", self._report)  # of each of several tasks

    def _report(self, run: Any, agent: Any, act: Any, envs: Any, **known: Any) -> str:
        """Note where the report would be made."""
        self.note("report", known=known)
        envs.reset()
        return ""


def recorded(
    recipe: ModuleType, cfg: Any, folder: Any, *others: ModuleType, image: bool = False
) -> Recording:
    """A recorded run of `main`, including the functions it uses from `others`."""
    recording = Recording(image=image)
    with pytest.MonkeyPatch.context() as patch:
        recording.patch(patch, recipe, *others)
        tiny_runs.run(recipe, cfg, folder)
    return recording


def check_carries(turns: list[Any]) -> None:
    """Each row is stored with its own carry and previous action, and the drawn action is sent.

    Rows are observed again from the carry of the row before, with the same random numbers.
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
