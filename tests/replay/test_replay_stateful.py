"""All operations of a replay in any order, against lists of rows."""

import json
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from replay_rows import number, packed, row

from worldblocks.replay import Memory, MemoryMapped, OnDevice, SequenceReplay, files


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
        self.first, self.last = [], []  # by row: the flags of each stream
        self.carry = {}  # by identity of the row
        self.queue = []
        self.small_chunks = mock.patch.object(files, "CHUNK_BYTES", chunk * streams * 83)
        self.small_chunks.start()  # a row of one stream is 83 bytes
        self.folder = tempfile.TemporaryDirectory()
        self.saved = []

    def teardown(self):
        if hasattr(self, "folder"):
            self.folder.cleanup()
            self.small_chunks.stop()

    @property
    def oldest(self):
        return max(0, len(self.first) - self.kept)

    def starts(self, window):
        return range(self.oldest, len(self.first) - window + 1)

    @rule(flags=st.lists(st.integers(0, 3), min_size=3, max_size=3))
    def add(self, flags):
        time = len(self.first)
        self.first.append(np.array(flags[: self.streams]) % 2 == 1)
        self.last.append(np.array(flags[: self.streams]) > 1)
        flags = {"is_first": self.first[-1], "is_last": self.last[-1]}
        flags = {name: torch.from_numpy(flag) for name, flag in flags.items()}
        self.replay.add(**row(time, self.streams, **flags))
        self.carry |= {(which := time * self.streams + s): which for s in range(self.streams)}
        start = len(self.first) - self.window
        if start >= 1 and (start - 1) % self.window == 0:
            self.queue += [(stream, start) for stream in range(self.streams)]
        assert len(self.replay) == self.streams * len(self.starts(self.window))
        assert self.replay.steps == self.streams * len(self.first)

    @precondition(lambda self: self.starts(self.window))
    @rule(size=st.integers(1, 5), online=st.booleans())
    def sample(self, size, online):
        batch = self.replay.sample(size, online=online)
        expected = []
        while online and self.queue and len(expected) < size:
            stream, start = self.queue.pop(0)
            expected += [(stream, start)] if start >= self.oldest else []
        assert self.check(batch, self.window)[: len(expected)] == expected

    @precondition(lambda self: self.starts(2))
    @rule(size=st.integers(1, 5), data=st.data())
    def sample_other_length(self, size, data):
        stored = len(self.first) - self.oldest
        length = data.draw(st.integers(1, stored - self.context))
        self.check(self.replay.sample(size, length=length), length + self.context)

    def check(self, batch, window):
        """Compare a batch with the lists. Returns the start of each window."""
        drawn = []
        for k, rows in enumerate(batch.row.tolist()):
            start, stream = rows[0] // self.streams - self.context, rows[0] % self.streams
            assert start in self.starts(window)
            times = range(start + self.context, start + window)
            assert rows == [time * self.streams + stream for time in times]
            assert rows == batch.obs["which"][k].tolist()
            first = [bool(self.first[time][stream]) for time in times]
            last = [bool(self.last[time][stream]) for time in times]
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
        newest = len(self.carry) - 1
        known = st.integers(max(0, newest - 2 * self.streams * self.kept), newest)
        rows = data.draw(st.lists(known, min_size=size, max_size=size))
        new = data.draw(st.lists(st.integers(0, 65535), min_size=size, max_size=size))
        self.replay.write_back(torch.tensor(rows).long(), packed(torch.tensor(new).long()))
        self.carry |= {
            which: value
            for which, value in zip(rows, new, strict=True)
            if which // self.streams >= self.oldest
        }

    @rule()
    def save(self):
        manifest = json.dumps(self.replay.save(Path(self.folder.name)))
        lists = (list(self.first), list(self.last), dict(self.carry), list(self.queue))
        self.saved.append((manifest, lists))

    @precondition(lambda self: self.saved)
    @rule(data=st.data(), fresh=st.booleans())
    def load(self, data, fresh):
        """Load any save, in a new replay or in this one."""
        manifest, lists = data.draw(st.sampled_from(self.saved))
        if fresh:
            self.replay = SequenceReplay(**self.sizes, seed=3)
        self.replay.load(Path(self.folder.name), json.loads(manifest))
        self.first, self.last, self.carry, self.queue = (type(part)(part) for part in lists)


TestReplayAgainstLists = ReplayAgainstLists.TestCase
