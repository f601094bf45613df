"""Faults of a balanced KL of categoricals: `kl(post, prior, *, free_nats) -> (dyn, rep)`."""

from .mutant import mutant

UNIMIX = 0.05


def parts(post, prior):
    return post.probs, post.logits, prior.logits


def pair(post, log_post, log_prior):
    """Both terms of every class."""
    dyn = post.detach() * (log_post.detach() - log_prior)
    return dyn, post * (log_post - log_prior.detach())


@mutant("kl", "the KL is averaged over the batch before the free nats are taken off")
def kl_reduced_before_free_nats(post, prior, *, free_nats):
    both = (x.sum((-2, -1)) for x in pair(*parts(post, prior)))
    return tuple(x.mean().clamp(min=free_nats).expand(x.shape) for x in both)


@mutant("kl", "every group has free nats of its own")
def free_nats_per_group(post, prior, *, free_nats):
    both = pair(*parts(post, prior))
    return tuple(x.sum(-1).clamp(min=free_nats / x.shape[-2]).sum(-1) for x in both)


@mutant("kl", "free nats are subtracted, so that the loss goes below them")
def free_nats_subtracted(post, prior, *, free_nats):
    both = (x.sum((-2, -1)) for x in pair(*parts(post, prior)))
    return tuple((x - free_nats).clamp(min=0) for x in both)


@mutant("kl", "the posterior is trained by the dynamics loss too: a stop-gradient is missing")
def stop_gradient_forgotten(post, prior, *, free_nats):
    probs, log_post, log_prior = parts(post, prior)
    both = probs * (log_post - log_prior), probs * (log_post - log_prior.detach())
    return tuple(x.sum((-2, -1)).clamp(min=free_nats) for x in both)


@mutant("kl", "both stop-gradients stand on the wrong side")
def stop_gradients_swapped(post, prior, *, free_nats):
    dyn, rep = (x.sum((-2, -1)).clamp(min=free_nats) for x in pair(*parts(post, prior)))
    return rep, dyn


@mutant("kl", "the posterior's probabilities are detached, its logarithm is not")
def stop_gradient_too_many(post, prior, *, free_nats):
    probs, log_post, log_prior = parts(post, prior)
    dyn = probs.detach() * (log_post.detach() - log_prior)
    rep = probs.detach() * (log_post - log_prior.detach())
    return tuple(x.sum((-2, -1)).clamp(min=free_nats) for x in (dyn, rep))


@mutant("kl", "the prior has no unimix")
def unimix_forgotten_in_the_prior(post, prior, *, free_nats):
    share = UNIMIX / prior.probs.shape[-1]
    plain = (prior.probs - share) / (1 - UNIMIX)
    both = pair(post.probs, post.logits, plain.clamp(min=1e-30).log())
    return tuple(x.sum((-2, -1)).clamp(min=free_nats) for x in both)


@mutant("kl", "the KL of the prior from the posterior, not of the posterior from the prior")
def kl_reversed(post, prior, *, free_nats):
    probs, log_prior, log_post = parts(prior, post)
    dyn = probs * (log_prior - log_post.detach())
    rep = probs.detach() * (log_prior.detach() - log_post)
    return tuple(x.sum((-2, -1)).clamp(min=free_nats) for x in (dyn, rep))


@mutant("kl", "the KL is averaged over the groups, not summed")
def kl_averaged_over_groups(post, prior, *, free_nats):
    both = pair(*parts(post, prior))
    return tuple(x.sum(-1).mean(-1).clamp(min=free_nats) for x in both)
