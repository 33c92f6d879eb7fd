r"""The hypergradient: how the pair weights change the loss after a few steps of SGD.

A rollout of K steps, with learning rate eta, momentum mu and weight decay w (the rule of
torch.optim.SGD, dampening 0, no Nesterov):

    g_t = grad f_t(theta_t, lambda)
    v_{t+1} = mu v_t + g_t + w theta_t,    theta_{t+1} = theta_t - eta v_{t+1}

and then J(theta_K). We keep the graph of the rollout and ask autograd for dJ/dlambda. Nothing is
replayed, which is what `MetaSGD` of the reference code does, and autograd visits only what leads to
lambda: K - 1 Hessian-vector products and one directional derivative.

A parameter outside a step's graph (the pd's head while matching) is left alone in that step,
momentum and weight decay included, as torch.optim.SGD does with `grad=None`. Under the torch of its
day the reference had zeros there, so momentum kept such a parameter moving: see `move_unused`.

Source: arXiv 2305.02279 (condensing) and arXiv 1905.05901, Algorithm 1.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lgutils.errors import unknown

MODES = ("exact", "first-order")
Params = dict[str, Tensor]


@dataclass(frozen=True)
class SGD:
    """Settings of the steps: learning rate, momentum and weight decay."""

    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4

    def step(self, params: Params, velocity: Params, grads: Params) -> tuple[Params, Params]:
        """One differentiable step; returns new dictionaries.

        Args:
            params, velocity: tensors by name; a velocity starts at zero.
            grads: gradients by name; a name that is missing is left alone.
        """
        params, velocity = dict(params), dict(velocity)
        for name, grad in grads.items():
            pull = torch.add(grad, params[name], alpha=self.weight_decay)
            velocity[name] = torch.add(pull, velocity[name], alpha=self.momentum)
            params[name] = torch.sub(params[name], velocity[name], alpha=self.lr)
        return params, velocity


def gradients(
    loss: Tensor, params: Params, *, create_graph: bool = False, move_unused: bool = False
) -> Params:
    """Gradients by name, without (`move_unused`: with zeros for) what is outside the graph."""
    found = torch.autograd.grad(
        loss,
        list(params.values()),
        create_graph=create_graph,
        allow_unused=True,
        materialize_grads=move_unused,
    )
    return {name: g for name, g in zip(params, found, strict=True) if g is not None}


@dataclass(frozen=True)
class Hypergradient:
    """dJ/dlambda (None where J does not depend on it) and J itself."""

    grads: tuple[Tensor | None, ...]
    value: Tensor


def hypergradient(
    params: Params,
    velocity: Params,
    weights: Sequence[Tensor],
    losses: Sequence[Callable[[Params], Tensor]],
    objective: Callable[[Params], Tensor],
    sgd: SGD,
    *,
    mode: str = "exact",
    move_unused: bool = False,
) -> Hypergradient:
    """Differentiate `objective` after one SGD step for each of `losses`, with respect to `weights`.

    Args:
        params, velocity: where the rollout starts; not modified.
        weights: tensors that require grad and that the losses use (lambda, or what it is made of).
        losses: f_0 ... f_{K-1}, each from parameters to a scalar.
        objective: J, from parameters to a scalar.
        mode: "exact", or "first-order", which drops the Hessian terms: the gradient g_t is taken to
            depend on lambda but not on theta_t.
        move_unused: let momentum and weight decay move parameters outside a step's graph.
    Returns:
        The hypergradient; the rollout itself is thrown away (that is the "roll back" of the paper).
    Raises:
        UserError: unknown mode.
    """
    if mode not in MODES:
        raise unknown("mode", mode, MODES)
    params = {name: p.detach().requires_grad_() for name, p in params.items()}
    velocity = {name: v.detach() for name, v in velocity.items()}
    for loss in losses:
        at = params
        if mode == "first-order":
            at = {name: p.detach().requires_grad_() for name, p in params.items()}
        grads = gradients(loss(at), at, create_graph=True, move_unused=move_unused)
        params, velocity = sgd.step(params, velocity, grads)
    value = objective(params)
    grads = torch.autograd.grad(value, list(weights), allow_unused=True)
    return Hypergradient(grads, value.detach())
