"""Faults of running scales, slow copies and optimisers."""

import torch

from worldblocks.ema import SlowCopy
from worldblocks.normalize import PercentileScale, RunningMoments
from worldblocks.optim import adaptive_gradient_clip

from .mutant import mutant


@mutant("normalizer", "the scale is read before its update")
class scale_read_before_its_update(PercentileScale):
    def forward(self, x):
        low, high = (y.clone() for y in self.limits())
        if self.training:
            self.update(x)
        return (high - low).clamp(min=self.floor)


@mutant("normalizer", "percentiles are taken over the first row of the batch alone")
class percentile_over_one_row(PercentileScale):
    def update(self, x):
        super().update(x[:1])


@mutant("normalizer", "percentiles of each row are averaged, which are not those of all")
class percentile_by_row(PercentileScale):
    def update(self, x):
        ends = torch.stack([row.float().quantile(self.percents) for row in x]).mean(0)
        self.range.lerp_(ends, self.rate)
        self.weight.lerp_(torch.ones_like(self.weight), self.rate)


@mutant("normalizer", "evaluation moves the running percentiles too")
class updated_in_evaluation(PercentileScale):
    def forward(self, x):
        self.update(x)
        low, high = self.limits()
        return (high - low).clamp(min=self.floor)


@mutant("normalizer", "the running percentiles are not in the state dict")
class scale_not_saved(PercentileScale):
    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        kept = self.range
        del self.range
        self.register_buffer("range", kept, persistent=False)


@mutant("normalizer", "a gradient flows into the scale")
class scale_has_a_gradient(PercentileScale):
    def forward(self, x):
        return super().forward(x) + 0 * x.sum() + (x.amax() - x.amax().detach())


@mutant("normalizer", "the floor is added, not taken as a floor")
class floor_added(PercentileScale):
    def forward(self, x):
        if self.training:
            self.update(x)
        low, high = self.limits()
        return high - low + self.floor


@mutant("normalizer", "both running percentiles are of the same end")
class same_percentile_twice(PercentileScale):
    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.percents[0] = self.percents[1]


@mutant("moments", "the average is not corrected for its start at zero")
class start_not_corrected(RunningMoments):
    def forward(self, x):
        super().forward(x)
        mean, square = self.moments
        return mean, (square - mean.square()).clamp(min=0).sqrt().clamp(min=self.floor)


@mutant("moments", "the running deviation forgets to subtract the mean")
class deviation_around_zero(RunningMoments):
    def forward(self, x):
        mean, _ = super().forward(x)
        return mean, (self.moments[1] / self.weight.clamp(min=self.rate)).sqrt()


@mutant("slow copy", "an update counts twice")
class slow_critic_updated_twice(SlowCopy):
    def update(self, source):
        super().update(source)
        super().update(source)


@mutant("slow copy", "source and copy share their weights")
class slow_copy_is_the_source(SlowCopy):
    def __init__(self, source, *args, **options):
        super().__init__(source, *args, **options)
        self.copy = source


@mutant("slow copy", "the rate is the share that stays")
class slow_rate_reversed(SlowCopy):
    @torch.no_grad()
    def update(self, source):
        for slow, fast in zip(self.copy.parameters(), source.parameters(), strict=True):
            slow.lerp_(fast, 1 - self.rate)


@mutant("slow copy", "the copy's weights take a gradient")
class slow_copy_trained(SlowCopy):
    def __init__(self, source, *args, **options):
        super().__init__(source, *args, **options)
        self.copy.requires_grad_(True)


@mutant("slow copy", "the source moves towards the copy")
class source_follows_the_copy(SlowCopy):
    @torch.no_grad()
    def update(self, source):
        for slow, fast in zip(self.copy.parameters(), source.parameters(), strict=True):
            fast.lerp_(slow, self.rate)


@mutant("slow copy", "the first weight is left out")
class slow_copy_of_most_weights(SlowCopy):
    @torch.no_grad()
    def update(self, source):
        pairs = list(zip(self.copy.parameters(), source.parameters(), strict=True))
        for slow, fast in pairs[1:]:
            slow.lerp_(fast, self.rate)


class Loop(torch.optim.Optimizer):
    """LaProp with clipping, parameter by parameter; a mutant changes a piece."""

    def __init__(self, params, lr=0.1, betas=(0.9, 0.99), eps=1e-20, agc=0.3, warmup=4):
        self.options = lr, betas, eps, agc, warmup
        super().__init__(params, {"lr": lr})

    def clip(self, parameters):
        adaptive_gradient_clip(parameters, self.options[3])

    def start(self, p):
        return {"t": 0, "square": torch.zeros_like(p), "momentum": torch.zeros_like(p)}

    def correction(self, beta, t):
        return 1 - beta**t

    def rate(self, t):
        lr, _, _, _, warmup = self.options
        return lr * min(1.0, (t - 1) / warmup)

    def finish(self, p, update):
        return update

    def gradient(self, p):
        return p.grad

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        _, (beta1, beta2), eps, _, _ = self.options
        parameters = [p for group in self.param_groups for p in group["params"]]
        parameters = [p for p in parameters if self.gradient(p) is not None]
        self.clip(parameters)
        for p in parameters:
            state = self.state[p]
            if not state:
                state.update(self.start(p))
            state["t"] += 1
            g, t = self.gradient(p), state["t"]
            state["square"].mul_(beta2).add_((1 - beta2) * g * g)
            root = (state["square"] / self.correction(beta2, t)).sqrt() + eps
            state["momentum"].mul_(beta1).add_((1 - beta1) * g / root)
            update = self.finish(p, state["momentum"] / self.correction(beta1, t))
            p.sub_(self.rate(t) * update)
        return loss


@mutant("optimizer", "the update is clipped, after the momentum, and not the gradient")
class clip_after_momentum(Loop):
    def clip(self, parameters):
        pass

    def finish(self, p, update):
        limit = 0.3 * p.norm().clamp(min=1e-3)
        return update / (update.norm() / limit).clamp(min=1)


@mutant("optimizer", "the bias correction counts from zero: it is a step behind")
class bias_correction_one_step_behind(Loop):
    def correction(self, beta, t):
        return 1 - beta ** max(t - 1, 1)


@mutant("optimizer", "the averages are not corrected for their start")
class bias_correction_forgotten(Loop):
    def correction(self, beta, t):
        return 1.0


@mutant("optimizer", "gradients are clipped by their norm over all parameters")
class clip_of_all_together(Loop):
    def clip(self, parameters):
        limit = 0.3 * torch.stack([p.norm() for p in parameters]).norm().clamp(min=1e-3)
        norm = torch.stack([p.grad.norm() for p in parameters]).norm()
        for p in parameters:
            p.grad.div_((norm / limit).clamp(min=1))


@mutant("optimizer", "the warm-up is one update ahead")
class warmup_one_update_ahead(Loop):
    def rate(self, t):
        return super().rate(t + 1)


@mutant("optimizer", "a parameter without a gradient still moves by its momentum")
class moves_without_a_gradient(Loop):
    def gradient(self, p):
        if p.grad is None and self.state[p]:
            p.grad = torch.zeros_like(p)
        return p.grad


@mutant("optimizer", "momentum and averages are not in the state dict")
class optimizer_not_saved(Loop):
    def state_dict(self):
        return {**super().state_dict(), "state": {}}


@mutant("optimizer", "every parameter has the number of updates of the whole optimiser")
class one_count_for_all(Loop):
    count = 0

    def step(self, closure=None):
        type(self).count, self.count = 0, self.count + 1
        return super().step(closure)

    def correction(self, beta, t):
        return 1 - beta**self.count


@mutant("optimizer", "the closure is called without gradients")
class closure_without_gradients(Loop):
    def step(self, closure=None):
        with torch.no_grad():
            loss = closure() if closure is not None else None
        super().step()
        return loss


@mutant("optimizer", "the gradient of the last update is added again")
class gradients_accumulate(Loop):
    def gradient(self, p):
        return p.grad

    def clip(self, parameters):
        super().clip(parameters)
        for p in parameters:
            before = getattr(p, "before", torch.zeros_like(p))
            p.before = p.grad.clone()
            p.grad.add_(0.5 * before)


@mutant("optimizer", "momentum first, then normalisation: Adam under LaProp's name")
class adam_under_another_name(torch.optim.Adam):
    def __init__(self, params, lr=0.1, betas=(0.9, 0.99)):
        super().__init__(params, lr=lr, betas=betas, eps=1e-20)
