"""Whether two traces are the same: to the bit on one machine, else the events and first losses."""

from typing import Any

from traces.record import Trace

TOLERANCE = 1e-5  # of a loss of the first update on another machine, relative
SMALL = 1e-3  # a loss below it counts as that large, for 0 has no relative error


def other_machine(recorded: Trace, now: Trace) -> str:
    """What differs between the machines of two traces; "" if they are the same."""
    theirs, ours = recorded["machine"], now["machine"]
    differ = [name for name in {**theirs, **ours} if theirs.get(name) != ours.get(name)]
    return ", ".join(f"{name} {theirs.get(name)}, here {ours.get(name)}" for name in differ)


def difference(recorded: Trace, now: Trace, exact: bool) -> str:
    """The first difference in a sentence; "" if there is none.

    Args:
        exact: to the bit; else the events, what is the same of them on every machine, and the
            losses of the first update.
    """
    theirs, ours, counts = recorded["events"], now["events"], dict[str, int]()
    for place, (old, new) in enumerate(zip(theirs, ours, strict=False), 1):
        name = new[0]
        counts[name] = counts.get(name, 0) + 1
        where = f"event {place} of {len(theirs)}, {name} number {counts[name]}"
        if old[0] != name:
            return f"{where}: recorded is {said(old)}"
        if old[1] != new[1]:
            keys = [key for key in {**old[1], **new[1]} if old[1].get(key) != new[1].get(key)]
            pairs = [f"{key} {new[1].get(key)}, recorded {old[1].get(key)}" for key in keys]
            return f"{where}: {'; '.join(pairs)}"
        first = name == "update" and counts[name] == 1
        if found := other_values(old[2], new[2], 0 if exact else TOLERANCE if first else None):
            return f"{where}: {found}"
    if len(theirs) == len(ours):
        return ""
    longer, events = ("recorded", theirs) if len(theirs) > len(ours) else ("new", ours)
    rest = said(events[min(len(theirs), len(ours))])
    return f"the end: {len(ours)} events, recorded {len(theirs)}; the {longer} go on with {rest}"


def other_values(old: Any, new: Any, tolerance: float | None) -> str:
    """How the values of an event differ.

    Args:
        tolerance: 0, and they are to be the same to the bit; else of losses, None for any.
    """
    if isinstance(old, str) or isinstance(new, str):
        return "" if tolerance != 0 or old == new else f"other values, {new}, recorded {old}"
    if old.keys() != new.keys():
        return f"losses {list(new)}, recorded {list(old)}"
    for name in new:
        if isinstance(new[name], str):
            if found := other_values(old[name], new[name], tolerance):
                return f"{name}: {found}"
        elif tolerance is not None and not apart(old[name], new[name]) <= tolerance:
            return f"the loss {name} is {new[name]!r}, recorded {old[name]!r}"
    return ""


def apart(old: float, new: float) -> float:
    """The error of a loss; NaN is equal to nothing."""
    return abs(new - old) / max(abs(old), SMALL)


def first_losses(recorded: Trace, now: Trace) -> str:
    """The largest error of a loss of the first update, in words."""
    pair = [
        next((event[2] for event in events if event[0] == "update"), {})
        for events in (recorded["events"], now["events"])
    ]
    both = [name for name in pair[1] if isinstance(pair[0].get(name), float)]
    if not both:
        return "no loss of the first update is in both"
    name = max(both, key=lambda name: apart(pair[0][name], pair[1][name]))
    error = apart(pair[0][name], pair[1][name])
    return f"the losses of the first update differ by at most {error:.3g} ({name})"


def said(event: list) -> str:
    """An event in words."""
    return " ".join([event[0], ", ".join(f"{key} {value}" for key, value in event[1].items())])


def verdict(recorded: Trace, now: Trace) -> tuple[bool, str]:
    """Whether a trace is as recorded, and a sentence that says how it was compared."""
    elsewhere = other_machine(recorded, now)
    if found := difference(recorded, now, exact=not elsewhere):
        how = f"; recorded elsewhere: {elsewhere}" if elsewhere else ""
        return False, f"not as recorded; the first difference is at {found}{how}"
    if not elsewhere:
        return True, f"equal to the bit, {len(now['events'])} events"
    return True, (
        f"the same events, and losses of the first update within {TOLERANCE}; for an exact "
        f"comparison use --base COMMIT, since this was recorded elsewhere: {elsewhere}"
    )
