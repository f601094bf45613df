"""All operations of a replay in any order, against lists of rows."""

import copy
import json
import tempfile
from pathlib import Path
from unittest import mock

import pytest
import torch
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from replay_rows import number, packed, row_of

from worldblocks.replay import Batch, Memory, MemoryMapped, OnDevice, SequenceReplay
from worldblocks.replay.storage import files


class ReplayAgainstLists(RuleBasedStateMachine):
    @initialize(
        share=st.integers(1, 6),
        streams=st.integers(1, 3),
        length=st.integers(1, 4),
        context=st.integers(0, 1),
        chunk=st.integers(1, 9),
        storage=st.sampled_from([Memory(), MemoryMapped(tempfile.gettempdir()), OnDevice("cpu")]),
    )
    def make(self, share, streams, length, context, chunk, storage):
        self.sizes = {"streams": streams, "length": length, "context": context}
        self.sizes["storage"] = storage
        self.sizes["capacity"] = share * streams + (streams - 1)
        self.replay = SequenceReplay(**self.sizes)
        self.streams, self.context, self.window = streams, context, length + context
        self.kept = share + self.window - 1
        self.first = [[] for _ in range(streams)]  # by stream and row: its flags
        self.last = [[] for _ in range(streams)]
        self.carry = {}  # by identity of the row
        self.queue = set()  # windows k of streams
        self.recorded = {}  # by stream: its rows when an episode was added last
        self.small_chunks = mock.patch.object(files, "CHUNK_BYTES", chunk * streams * 83)
        self.small_chunks.start()  # a row of one stream is 83 bytes
        self.folder = tempfile.TemporaryDirectory()
        self.saved = []

    def teardown(self):
        if hasattr(self, "folder"):
            self.folder.cleanup()
            self.small_chunks.stop()

    def oldest(self, stream):
        return max(0, len(self.first[stream]) - self.kept)

    def starts(self, window):
        return [
            (stream, start)
            for stream in range(self.streams)
            for start in range(self.oldest(stream), len(self.first[stream]) - window + 1)
        ]

    @rule(flags=st.lists(st.integers(0, 3), min_size=3, max_size=3))
    def add(self, flags):
        """A row of every stream, as environments in lockstep give it."""
        self.add_to(range(self.streams), flags, streams=None)

    @precondition(lambda self: self.streams > 1)
    @rule(flags=st.lists(st.integers(0, 3), min_size=3, max_size=3), data=st.data())
    def add_some(self, flags, data):
        """A row of some streams, in any order."""
        every = st.permutations(range(self.streams))
        chosen = data.draw(every)[: data.draw(st.integers(1, self.streams))]
        self.add_to(chosen, flags, streams=chosen)

    def add_to(self, chosen, flags, streams):
        which = torch.tensor([len(self.first[s]) * self.streams + s for s in chosen])
        flags = flags[: len(chosen)]
        given = {
            "is_first": torch.tensor([flag % 2 == 1 for flag in flags]),
            "is_last": torch.tensor([flag > 1 for flag in flags]),
        }
        after_end = [
            not flag % 2 and any(self.last[s][-1:]) for s, flag in zip(chosen, flags, strict=True)
        ]
        if any(after_end):
            where = chosen[after_end.index(True)]
            text = f"row {len(self.first[where])} of stream {where} is not is_first, but the row be"
            with pytest.raises(ValueError, match=text):
                self.replay.add(**row_of(which, **given), streams=streams)
            self.check_counts()
            flags = [flag | wrong for flag, wrong in zip(flags, after_end, strict=True)]
            given["is_first"] |= torch.tensor(after_end)
        self.replay.add(**row_of(which, **given), streams=streams)
        for s, flag in zip(chosen, flags, strict=True):
            self.append(s, flag % 2 == 1, flag > 1)
        self.check_counts()

    def append(self, stream, first, last):
        time = len(self.first[stream])
        self.first[stream].append(first)
        self.last[stream].append(last)
        self.carry[time * self.streams + stream] = time * self.streams + stream
        if time and time % self.window == 0:
            self.queue.add((time // self.window - 1, stream))

    def check_counts(self):
        assert len(self.replay) == len(self.starts(self.window))
        assert self.replay.steps == sum(map(len, self.first))

    @rule(length=st.integers(1, 9), ends=st.booleans(), data=st.data())
    def add_episode(self, length, ends, data):
        stream = data.draw(st.integers(0, self.streams - 1) | st.none())
        place = min(range(self.streams), key=lambda s: len(self.first[s]))
        place = place if stream is None else stream
        which = torch.arange(length) * self.streams + place
        which += len(self.first[place]) * self.streams
        last = torch.arange(length) == length - 1
        values = row_of(which, is_last=last & ends)
        rows = len(self.first[place])
        if rows and self.recorded.get(place) != rows and not self.last[place][-1]:
            with pytest.raises(ValueError, match="in the middle of one"):
                self.replay.add_episode(Batch(**values), stream=stream)
            return
        self.replay.add_episode(Batch(**values), stream=stream)
        self.recorded[place] = rows + length
        for k in range(length):
            self.append(place, k == 0, bool(last[k]) and ends)
        self.check_counts()

    @rule()
    def episodes(self):
        """Split where an episode begins or ends, one stream after the other."""
        found = list(self.replay.episodes())
        expected = []
        for s in range(self.streams):
            for time in range(self.oldest(s), len(self.first[s])):
                if time == self.oldest(s) or self.first[s][time] or self.last[s][time - 1]:
                    expected.append([])
                expected[-1].append(time * self.streams + s)
        assert [episode.row.tolist() for episode in found] == expected
        for episode, rows in zip(found, expected, strict=True):
            assert episode.obs["which"].tolist() == rows
            if self.context:
                assert number(episode.carry).tolist() == [self.carry[which] for which in rows]
            time, stream = rows[-1] // self.streams, rows[-1] % self.streams
            goes_on = time + 1 < len(self.first[stream])
            assert bool(episode.is_last[-1]) == (goes_on or self.last[stream][time])

    @precondition(lambda self: self.starts(self.window))
    @rule(size=st.integers(1, 5))
    def sample(self, size):
        batch = self.replay.sample(size)
        expected = []
        for k, stream in sorted(self.queue):
            if len(expected) < size:
                self.queue.remove((k, stream))
                start = 1 + k * self.window
                expected += [(stream, start)] if start >= self.oldest(stream) else []
        assert self.check(batch, self.window)[: len(expected)] == expected

    @precondition(lambda self: self.starts(2))
    @rule(size=st.integers(1, 5), data=st.data())
    def sample_other_length(self, size, data):
        stored = max(len(self.first[s]) - self.oldest(s) for s in range(self.streams))
        length = data.draw(st.integers(1, stored - self.context))
        self.check(self.replay.sample(size, length=length), length + self.context)

    def check(self, batch, window):
        """Compare a batch with the lists. Returns the start of each window."""
        drawn = []
        for k, rows in enumerate(batch.row.tolist()):
            start, stream = rows[0] // self.streams - self.context, rows[0] % self.streams
            assert (stream, start) in self.starts(window)
            times = range(start + self.context, start + window)
            assert rows == [time * self.streams + stream for time in times]
            assert rows == batch.obs["which"][k].tolist()
            first = [self.first[stream][time] for time in times]
            last = [self.last[stream][time] for time in times]
            first[0] |= not self.context
            last = [a or b for a, b in zip(last, [*first[1:], False], strict=True)]
            assert first == batch.is_first[k].tolist()
            assert last == batch.is_last[k].tolist()
            if self.context:
                before = start * self.streams + stream
                assert number(batch.carry)[k].item() == self.carry[before]
            drawn.append((stream, start))
        return drawn

    @precondition(lambda self: self.carry)
    @rule(data=st.data(), size=st.integers(0, 6))
    def write_back(self, data, size):
        """Write rows back in any order, including evicted and duplicate ones."""
        known = st.sampled_from(sorted(self.carry)[-2 * self.streams * self.kept :])
        rows = data.draw(st.lists(known, min_size=size, max_size=size))
        new = data.draw(st.lists(st.integers(0, 65535), min_size=size, max_size=size))
        self.replay.write_back(torch.tensor(rows).long(), packed(torch.tensor(new).long()))
        self.carry |= {
            which: value
            for which, value in zip(rows, new, strict=True)
            if which // self.streams >= self.oldest(which % self.streams)
        }

    @rule()
    def save(self):
        manifest = json.dumps(self.replay.save(Path(self.folder.name)))
        lists = copy.deepcopy((self.first, self.last, self.carry, self.queue))
        self.saved.append((manifest, lists))

    @precondition(lambda self: self.saved)
    @rule(data=st.data(), fresh=st.booleans())
    def load(self, data, fresh):
        """Load any save, in a new replay or in this one."""
        manifest, lists = data.draw(st.sampled_from(self.saved))
        if fresh:
            self.replay = SequenceReplay(**self.sizes, seed=3)
        self.replay.load(Path(self.folder.name), json.loads(manifest))
        self.first, self.last, self.carry, self.queue = copy.deepcopy(lists)
        self.recorded = {}


TestReplayAgainstLists = ReplayAgainstLists.TestCase
