import contextlib
import functools
import weakref

import pytest
import torch
from torch import nn

from kernel_recorder import KernelRecorder
from worldblocks.optim import LaProp
from worldblocks.optim import warmup as warm_up
from worldblocks.run import Captured


def doubled(batch):
    return {"x": 2 * batch["x"] + batch["y"], "n": batch["y"].sum()}


def batch(value, size=3):
    return {"x": torch.full((2, size), float(value)), "y": torch.ones(size), "row": None}


def recorded(function=doubled, given=None):
    """A function that is a graph already."""
    captured = Captured(function, warmup=1, record=KernelRecorder())
    for _ in range(2):
        captured(batch(1) if given is None else given)
    return captured


def test_away_from_cuda_a_call_is_a_call():
    calls = []
    captured = Captured(lambda batch: calls.append(batch) or 7)
    given = batch(1)
    assert captured(given) == 7
    assert calls == [given]


def test_it_warms_up_then_records_once_then_launches():
    recorder = KernelRecorder()
    captured = Captured(doubled, warmup=2, record=recorder)
    results = [captured(batch(value)) for value in range(5)]
    assert [out["x"][0, 0].item() for out in results] == [1, 3, 5, 7, 9]
    assert (recorder.recordings, recorder.launches) == (1, 3)


def test_results_stay_when_the_next_call_writes_over_the_recorded_ones():
    captured = Captured(doubled, warmup=1, record=KernelRecorder())
    results = [captured(batch(value))["x"] for value in (1, 2, 3)]
    assert [x[0, 0].item() for x in results] == [3, 5, 7]


def test_inputs_are_copied_so_that_the_caller_may_change_them():
    captured, given = Captured(doubled, warmup=1, record=KernelRecorder()), batch(1)
    captured(given)
    out = captured(given)
    given["x"].zero_()
    assert captured(batch(5))["x"][0, 0] == 11
    assert out["x"][0, 0] == 3


def test_every_result_is_the_callers_own_and_has_no_gradient():
    """Also in the warm-up: a result would keep its autograd graph alive into the recording."""
    weight = nn.Parameter(torch.ones(3))
    held = weakref.WeakSet()  # held by the autograd graph of each call

    def function(x):
        out = weight * x
        hook = Hook()
        held.add(hook)
        out.register_hook(hook)
        return {"out": out, "weight": weight}

    captured = Captured(function, warmup=2, record=KernelRecorder())
    results = [captured(torch.ones(3)) for _ in range(2)]
    assert len(held) == 0
    results += [captured(torch.ones(3)) for _ in range(2)]
    assert not any(x.requires_grad for out in results for x in out.values())
    assert weight.data_ptr() not in {out["weight"].data_ptr() for out in results}


class Hook:
    def __call__(self, gradient):
        return gradient


def test_an_optimiser_goes_on_as_without():
    """Gradients, moments, counts and a warm-up on the device, to the bit."""
    ends = []
    for record in (None, KernelRecorder()):
        torch.manual_seed(3)
        layer = nn.Linear(3, 2)
        optimizer = LaProp(layer.parameters(), lr=0.1, agc=0.3, warmup=5)

        def update(x, layer=layer, optimizer=optimizer):
            loss = (layer(x) + torch.rand(4, 2)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        train = Captured(update, warmup=2, record=record)
        losses = [train(torch.randn(4, 3)).detach() for _ in range(7)]
        ends.append([*losses, layer.weight.detach().clone()])
    assert all(map(torch.equal, *ends))


def move(optimizer, parameter, _):
    """One update with gradient 1."""
    parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return parameter


def test_a_learning_rate_that_is_a_tensor_may_change():
    parameter = nn.Parameter(torch.zeros(()))
    rate = torch.tensor(1.0)
    optimizer = LaProp([parameter], lr=rate)
    captured = recorded(functools.partial(move, optimizer, parameter), torch.ones(1))
    assert parameter.item() == pytest.approx(-2, abs=1e-4)
    rate.fill_(0.25)
    assert captured(torch.ones(1)).item() == pytest.approx(-2.25, abs=1e-4)


def test_a_schedule_is_stepped_outside():
    parameter = nn.Parameter(torch.zeros(()))
    optimizer = LaProp([parameter], lr=torch.tensor(1.0))
    schedule, places = warm_up(optimizer, 4), []
    captured = Captured(
        functools.partial(move, optimizer, parameter), warmup=1, record=KernelRecorder()
    )
    for _ in range(6):
        places.append(captured(torch.ones(1)).item())
        schedule.step()
    assert places == pytest.approx([0, -0.25, -0.75, -1.5, -2.5, -3.5], abs=1e-4)


def test_a_schedule_that_would_be_frozen():
    parameter = nn.Parameter(torch.zeros(()))
    optimizer = LaProp([parameter], lr=1.0)
    warm_up(optimizer, 4)
    with pytest.raises(RuntimeError, match="a float as lr, which a CUDA graph never changes"):
        recorded(functools.partial(move, optimizer, parameter), torch.ones(1))
    optimizer = LaProp([parameter], lr=torch.tensor(1.0))
    schedule = warm_up(optimizer, 4)
    with pytest.raises(RuntimeError, match="a schedule cannot be stepped inside a CUDA graph"):
        recorded(lambda x: [move(optimizer, parameter, x), schedule.step()], torch.ones(1))


def test_a_state_may_be_loaded_after_the_recording():
    """PyTorch's optimisers would replace tensors of the graph; LaProp writes to them."""
    ends = []
    for record in (None, KernelRecorder()):
        parameter = nn.Parameter(torch.zeros(3))
        optimizer = LaProp([parameter], lr=torch.tensor(0.1), warmup=3)
        train = Captured(functools.partial(move, optimizer, parameter), warmup=1, record=record)
        fresh = optimizer.state_dict()
        train(torch.ones(1))
        saved = {"state": {0: {k: v.clone() for k, v in optimizer.state[parameter].items()}}}
        saved["param_groups"] = [{**fresh["param_groups"][0], "lr": torch.tensor(0.2)}]
        for state in (None, saved, fresh, None):
            train(torch.ones(1))
            if state:
                optimizer.load_state_dict(state)
        ends.append(parameter.detach().clone())
    assert torch.equal(*ends)


def test_other_shapes_than_the_recorded_are_refused():
    captured = recorded()
    message = r"captured for inputs with \['x'\] float32\[2, 3\], \['y'\] float32\[3\] and was"
    message += r" given \['x'\] float32\[2, 4\], \['y'\] float32\[4\]; .* same shapes"
    with pytest.raises(ValueError, match=message):
        captured(batch(1, size=4))
    with pytest.raises(ValueError, match=r"with \['row'\] None and was given \['row'\] float32\[1"):
        captured({**batch(1), "row": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"with \['y'\] float32\[3\] and .* given \['y'\] missing"):
        captured({"x": torch.ones(2, 3), "row": None})
    with pytest.raises(ValueError, match=r"itself float32\[2\] and was given itself float32\[3\]"):
        recorded(lambda x: x + 1, torch.ones(2))(torch.ones(3))


def test_keys_in_another_order_are_the_same_inputs():
    captured, given = recorded(), batch(4)
    assert captured(dict(reversed(given.items())))["x"][0, 0] == 9


def test_what_cannot_be_recorded_is_said_once_and_for_all():
    calls = []

    def branching(x):
        calls.append(x)
        return x if x.sum() > 0 else -x

    captured = Captured(branching, warmup=1, record=KernelRecorder())
    captured(torch.ones(2))
    message = (
        r"^this function cannot be recorded as one CUDA graph \(RuntimeError: operation not "
        r"permitted when stream is capturing\): most often it copies to the host or branches on a "
        r"value; run without Captured to train eagerly$"
    )
    with pytest.raises(RuntimeError, match=message) as raised:
        captured(torch.ones(2))
    assert "operation not permitted" in str(raised.value.__cause__)
    for _ in range(2):
        with pytest.raises(RuntimeError, match=message):
            captured(torch.ones(2))
    assert len(calls) == 2, "it is not tried again"


@pytest.mark.parametrize("warmup", [0, "3", 2.0])
def test_a_capture_warms_up(warmup):
    with pytest.raises(ValueError, match=f"at least 1 call to warm up, got {warmup!r}; .* whole"):
        Captured(doubled, warmup=warmup)


# ------------------------------------------------------------------ which device and which stream


class There(torch.Tensor):
    """A tensor that claims to be on a second GPU."""

    device = property(lambda self: torch.device("cuda:1"))


def there(*shape):
    return torch.ones(*shape).as_subclass(There)


@pytest.fixture
def cuda(monkeypatch):
    """Replace `torch.cuda` by a log of the events, in order, with their device and stream."""
    log, now = [], {"device": "cuda:0", "stream": "the caller's"}

    class Stream:
        def __init__(self, device):
            log.append(f"new stream on {device}")

        def __str__(self):
            return "the side"

        def wait_stream(self, other):
            log.append(f"{self} waits for {other}")

    class Caller(Stream):
        def __init__(self):
            pass

        def __str__(self):
            return "the caller's"

    class Graph:
        def replay(self):
            log.append(f"launch on {now['device']}, {now['stream']}")

    @contextlib.contextmanager
    def entered(what, value):
        before, now[what] = now[what], str(value)
        try:
            yield
        finally:
            now[what] = before

    @contextlib.contextmanager
    def graph(_, stream, capture_error_mode):
        assert (str(stream), capture_error_mode) == ("the side", "thread_local")
        log.append(f"record on {now['device']}, {now['stream']}")
        yield

    for name, fake in {
        "Stream": Stream,
        "CUDAGraph": Graph,
        "graph": graph,
        "device": functools.partial(entered, "device"),
        "stream": functools.partial(entered, "stream"),
        "current_stream": Caller,
    }.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    return log, now


def test_everything_happens_on_the_device_of_the_inputs_and_on_one_side_stream(cuda):
    log, now = cuda
    captured = Captured(lambda x: log.append(f"call on {now['device']}, {now['stream']}") or x + 1)
    for _ in range(5):
        captured({"x": there(2)}["x"])
    aside = ["the side waits for the caller's", "call on cuda:1, the side"]
    aside.append("the caller's waits for the side")
    recording = ["record on cuda:1, the side", "call on cuda:1, the side"]
    launch = ["launch on cuda:1, the caller's"]
    assert log == ["new stream on cuda:1", *(3 * aside), *recording, *(2 * launch)]


def test_a_graph_of_nothing_is_refused(cuda, monkeypatch):
    """PyTorch only warns; such a graph would silently train nothing."""

    @contextlib.contextmanager
    def graph(*_, **__):
        import warnings

        yield
        warnings.warn("The CUDA Graph is empty. This usually means …", stacklevel=2)

    monkeypatch.setattr(torch.cuda, "graph", graph)
    captured = Captured(lambda x: x, warmup=1)
    captured(there(2))
    with pytest.raises(
        RuntimeError, match=r"one CUDA graph \(UserWarning: The CUDA Graph is empty"
    ):
        captured(there(2))
    assert cuda[1] == {"device": "cuda:0", "stream": "the caller's"}, "as before"


def test_inputs_on_several_devices(cuda):
    captured = Captured(lambda given: given)
    message = r"on several devices: \['a'\] on cuda:1, \['b'\] on cpu; .* so move them to it"
    with pytest.raises(ValueError, match=message):
        captured({"a": there(2), "b": torch.ones(2)})
    captured({"a": there(2)})
    elsewhere = type("Elsewhere", (torch.Tensor,), {"device": torch.device("cuda:0")})
    with pytest.raises(
        ValueError, match=r"first run on cuda:1 and was given inputs on cuda:0; .* make"
    ):
        captured({"a": torch.ones(2).as_subclass(elsewhere)})
