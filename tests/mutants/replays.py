"""Faults of a replay: `make(capacity, streams, length, context, seed)`."""

import numpy as np
import torch

from worldblocks.replay import Drawn, OnlineFirst, SequenceReplay, Stored, Uniform

from .mutant import mutant


class DrawnOtherwise(SequenceReplay):
    """A replay whose uniform draws or online queue are of another class."""

    uniform, queue = Uniform, OnlineFirst

    def __init__(self, seed=0, **sizes):
        super().__init__(selector=self.queue(self.uniform([seed, 0])), seed=seed, **sizes)


def moved(stored, oldest=0, count=0):
    """The rows stored, with another oldest row and another number of rows."""
    return Stored(np.maximum(stored.oldest + oldest, 0), stored.count + count)


@mutant("replay", "a window may cross the write head: its last row is the oldest that is stored")
class window_crosses_the_write_head(DrawnOtherwise):
    class uniform(Uniform):
        def draw(self, size, window, stored):
            return super().draw(size, window, moved(stored, count=stored.oldest > 0))


@mutant("replay", "a window may start a row before the oldest stored one")
class window_starts_too_early(DrawnOtherwise):
    class uniform(Uniform):
        def draw(self, size, window, stored):
            return super().draw(size, window, moved(stored, oldest=-1))


@mutant("replay", "the newest window is never drawn")
class newest_window_never_drawn(DrawnOtherwise):
    class uniform(Uniform):
        def draw(self, size, window, stored):
            return super().draw(size, window, moved(stored, count=-(stored.starts(window) > 1)))


@mutant("replay", "recent windows are drawn more often than old ones")
class recent_windows_drawn_more(DrawnOtherwise):
    class uniform(Uniform):
        def draw(self, size, window, stored):
            stream, start, _ = super().draw(size, window, stored)
            return Drawn(stream, np.maximum(start, super().draw(size, window, stored).start))


@mutant("replay", "windows are drawn from the first stream alone")
class first_stream_alone(DrawnOtherwise):
    class uniform(Uniform):
        def draw(self, size, window, stored):
            stream, start, _ = super().draw(size, window, stored)
            return Drawn(np.zeros_like(stream), start)


@mutant("replay", "a batch is drawn without replacement of its streams: neighbours go together")
class windows_drawn_in_pairs(DrawnOtherwise):
    class uniform(Uniform):
        def draw(self, size, window, stored):
            stream, start, _ = super().draw(size, window, stored)
            return Drawn(np.repeat(stream, 2)[:size], np.repeat(start, 2)[:size])


@mutant("replay", "the online queue drops the first window of every stream")
class online_queue_drops_windows(DrawnOtherwise):
    class queue(OnlineFirst):
        def waiting(self, window, stored):
            super().waiting(window, stored)
            self._next = np.maximum(self._next, (stored.count - 1) // window > 0)
            return super().waiting(window, stored)


@mutant("replay", "the online queue gives a window twice")
class online_queue_repeats_windows(DrawnOtherwise):
    class queue(OnlineFirst):
        def draw(self, size, window, stored):
            before = self.waiting(window, stored).sum()
            drawn = super().draw(size, window, stored)
            if before - self.waiting(window, stored).sum() > 1:
                self._next[drawn.stream[0]] -= 1
            return drawn


@mutant("replay", "refreshed carries go to the row after theirs")
class write_back_to_the_wrong_row(SequenceReplay):
    def write_back(self, row, carry):
        super().write_back((row + self.streams).clamp(max=self.steps - 1), carry)


@mutant("replay", "refreshed carries go to the same row of the next stream")
class write_back_to_the_wrong_stream(SequenceReplay):
    def write_back(self, row, carry):
        stream = (row % self.streams + 1) % self.streams
        super().write_back(row - row % self.streams + stream, carry)


@mutant("replay", "refreshed carries of evicted rows overwrite the rows in their place")
class write_back_after_eviction(SequenceReplay):
    def write_back(self, row, carry):
        kept, oldest = self._rings.rows, int(self._rings.stored.oldest[0])
        time, stream = row // self.streams, row % self.streams
        while (time < oldest).any():
            time = torch.where(time < oldest, time + kept, time)
        super().write_back(time * self.streams + stream, carry)


@mutant("replay", "the stored carry is that of the first row, not of the row before it")
class carry_of_the_first_row(SequenceReplay):
    def sample(self, *args, **options):
        batch = super().sample(*args, **options)
        if not self.context:
            return batch
        row = batch.row[:, 0]
        slot = self._rings.slot(row % self.streams, row // self.streams)
        taken = {name: self._rings.take(name, slot) for name in self._rings.layout}
        return batch._replace(carry=taken["carry"])


@mutant("replay", "a row is evicted before it has to be")
class row_lost_early(SequenceReplay):
    def __init__(self, *, capacity, streams, **sizes):
        share = max(capacity // streams - 1, 1)
        super().__init__(capacity=share * streams, streams=streams, **sizes)


@mutant("replay", "observations are stored as references to memory that the caller uses again")
class observations_by_reference(SequenceReplay):
    rows: dict

    def add(self, *, obs, **values):
        self.given = getattr(self, "given", [])[-4000:]
        self.given.append(obs)
        super().add(obs=obs, **values)

    def sample(self, *args, **options):
        batch = super().sample(*args, **options)
        time, stream = batch.row // self.streams, batch.row % self.streams
        for key in batch.obs:
            for k in np.ndindex(*batch.row.shape):
                back = len(self.given) - self.steps // self.streams + int(time[k])
                batch.obs[key][k] = self.given[back][key][int(stream[k])]
        return batch


class ChangedBatch(SequenceReplay):
    """A replay whose batches are changed on their way out."""

    def change(self, batch):
        return batch

    def sample(self, *args, **options):
        return self.change(super().sample(*args, **options))


@mutant("replay", "prev_action is the action chosen at the row, not the one that led to it")
class action_of_the_next_row(ChangedBatch):
    def change(self, batch):
        return batch._replace(prev_action=batch.prev_action.roll(-1, 1))


@mutant("replay", "rewards come with the row before theirs")
class reward_of_the_next_row(ChangedBatch):
    def change(self, batch):
        return batch._replace(reward=batch.reward.roll(-1, 1))


@mutant("replay", "is_first stands one row late")
class first_flag_one_row_late(ChangedBatch):
    def change(self, batch):
        first = torch.cat([torch.zeros_like(batch.is_first[:, :1]), batch.is_first[:, :-1]], 1)
        return batch._replace(is_first=first)


@mutant("replay", "a window without a carry does not say that its first row starts from nothing")
class window_without_a_start(ChangedBatch):
    def change(self, batch):
        if self.context:
            return batch
        return batch._replace(
            is_first=torch.cat([batch.is_last[:, :1] & False, batch.is_first[:, 1:]], 1)
        )


@mutant("replay", "an abandoned episode runs on into the next: its last row is not marked")
class abandoned_episode_runs_on(SequenceReplay):
    def sample(self, *args, **options):
        batch = super().sample(*args, **options)
        stream, time = batch.row % self.streams, batch.row // self.streams
        stored = self._rings.take("is_last", self._rings.slot(stream, time))
        return batch._replace(is_last=stored)


@mutant("replay", "time limits are stored as ends")
class time_limit_stored_as_an_end(ChangedBatch):
    def change(self, batch):
        return batch._replace(is_terminal=batch.is_last.clone())


@mutant("replay", "one observation key is gathered from the neighbouring stream")
class key_of_another_stream(ChangedBatch):
    def change(self, batch):
        key = sorted(batch.obs)[0]
        return batch._replace(obs={**batch.obs, key: batch.obs[key].roll(1, 0)})


@mutant("replay", "a loaded replay draws from the start of its random numbers again")
class random_numbers_not_saved(SequenceReplay):
    def save(self, folder):
        manifest = super().save(folder)
        manifest["selector"]["state"]["then"]["state"] = Uniform([0, 0]).state()
        return manifest


@mutant("replay", "a loaded replay hands out its queue from the beginning")
class queue_not_saved(SequenceReplay):
    def save(self, folder):
        manifest = super().save(folder)
        manifest["selector"]["state"]["next"] = [0] * self.streams
        return manifest
