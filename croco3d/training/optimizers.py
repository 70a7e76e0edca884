"""Parameter groups, AdamW and Muon with float32 masters, learning-rate schedule, moving average."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from torch.optim.adamw import adamw

from .config import OptimizerOptions

_NUMBER = re.compile(r"(?:^|\.)(\d+)(?:\.|$)")


def parameter_groups(
    model: nn.Module, weight_decay: float, layer_decay: float | None = None
) -> list[dict]:
    """Sort trainable parameters by weight decay and, on request, by encoder depth.

    Vectors (norms and biases) and tokens (mask tokens, learned positions) are not decayed. Weight
    matrices of blocks are sorted out for Muon, by how many matrices lie stacked in each (three in
    a fused query, key and value); everything else has 0 such `matrices`. With
    layer-wise decay, a parameter of encoder layer `i` out of `L` gets the learning-rate scale
    `layer_decay ** (L + 1 - i)`; the patch embedding counts as layer 0, and everything after the
    encoder has scale 1.

    Args:
        model: parameters of `model.encoder` make up the encoder.
        weight_decay: for weights that are decayed.
        layer_decay: in (0, 1]; `None` leaves every scale at 1.

    Returns:
        Groups with `params`, `weight_decay`, `matrices` and `lr_scale`, which `set_learning_rate`
        applies.

    Raises:
        ValueError: if no parameter is trainable.
    """
    encoder = [name for name, _ in model.named_parameters() if _in_encoder(name)]
    depth = 1 + max((_block(name) for name in encoder), default=-1)
    groups: dict[tuple[float, float, int], dict] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        decay = 0.0 if _undecayed(name, parameter) else weight_decay
        below = depth + 1 - _layer(name, depth)
        scale = 1.0 if layer_decay is None else layer_decay**below
        matrices = _matrices(name, parameter)
        empty = {"params": [], "weight_decay": decay, "lr_scale": scale, "matrices": matrices}
        groups.setdefault((decay, scale, matrices), empty)["params"].append(parameter)
    if not groups:
        raise ValueError("every parameter is frozen: nothing to train; change `freeze`")
    return list(groups.values())


def make_optimizer(
    model: nn.Module, options: OptimizerOptions, precision: str
) -> torch.optim.Optimizer:
    """Make AdamW or Muon over trainable parameters; with masters for precision "bf16_weights"."""
    groups = parameter_groups(model, options.weight_decay, options.layer_decay)
    if options.name == "muon":
        return Muon(groups, options.learning_rate, options.betas)
    if precision == "bf16_weights":
        return MasterWeightAdamW(groups, options.learning_rate, options.betas)
    # One pass over weights and moments instead of a dozen; on CPUs too.
    return torch.optim.AdamW(groups, options.learning_rate, options.betas, fused=True)


def learning_rate(step: int, steps: int, options: OptimizerOptions) -> float:
    """Give the rate of a step: linear warm-up from zero to the peak, then a cosine.

    Args:
        step: the step about to be made, from 0.
        steps: how many steps the whole run has.
        options: peak, end and share of the warm-up.
    """
    warmup = round(options.warmup * steps)
    if step < warmup:
        return options.learning_rate * (step + 1) / warmup
    progress = (step - warmup) / max(steps - warmup, 1)
    height = options.learning_rate - options.least
    return options.least + height * 0.5 * (1 + math.cos(math.pi * progress))


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set every group's rate to `rate` times the group's `lr_scale`."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("lr_scale", 1.0)


class MasterWeightAdamW(torch.optim.Optimizer):
    """AdamW for a model held in bfloat16: the true weights and moments are kept in float32.

    After each step the parameters are the rounded masters. On a CPU with bfloat16 products this is
    faster than autocast, which casts the weights anew at every call. Float32 parameters are their
    own masters.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.95),
        weight_decay: float = 0.05,
        eps: float = 1e-8,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "weight_decay": weight_decay, "eps": eps}
        super().__init__(params, defaults)
        for group in self.param_groups:
            for parameter in group["params"]:
                exact = parameter.detach().float()
                master = {} if parameter.dtype == torch.float32 else {"master": exact.clone()}
                self.state[parameter] = master | self._moments(group, exact)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Update masters from the gradients, then round them into the parameters."""
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if parameters:
                self._update(group, parameters)
            for parameter in parameters:
                if "master" in self.state[parameter]:
                    parameter.copy_(self.state[parameter]["master"])

    def load_state_dict(self, state_dict: dict) -> None:
        """Restore masters and moments in float32.

        The base class would round them to the parameters' type.
        """
        super().load_state_dict(state_dict)
        saved = state_dict["state"]
        for number, parameter in enumerate(self._parameters()):
            device = parameter.device
            stored = {k: v.to(device, torch.float32).clone() for k, v in saved[number].items()}
            self.state[parameter] = stored

    def masters(self) -> dict[torch.Tensor, torch.Tensor]:
        """Map each parameter that is rounded to its float32 master."""
        rounded = (p for p in self._parameters() if "master" in self.state[p])
        return {p: self.state[p]["master"] for p in rounded}

    def _moments(self, group: dict, exact: torch.Tensor) -> dict[str, torch.Tensor]:
        """What is kept from step to step for a parameter of a group, beside its master."""
        del group
        return {
            "step": torch.zeros(()),
            "exp_avg": torch.zeros_like(exact),
            "exp_avg_sq": torch.zeros_like(exact),
        }

    def _exact(self, parameter: torch.Tensor) -> torch.Tensor:
        """The float32 values that are updated: the master, or the parameter itself."""
        return self.state[parameter].get("master", parameter)

    def _parameters(self) -> list[torch.Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    def _update(self, group: dict, parameters: list[torch.Tensor]) -> None:
        for parameter in parameters:
            assert parameter.grad is not None
            state = self.state[parameter]
            # One at a time, so that only one gradient is held in float32.
            adamw(
                [self._exact(parameter)],
                [parameter.grad.float()],
                [state["exp_avg"]],
                [state["exp_avg_sq"]],
                [],
                [state["step"]],
                fused=True,
                amsgrad=False,
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                lr=group["lr"],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                maximize=False,
            )


class Muon(MasterWeightAdamW):
    """Muon for the weight matrices of blocks, AdamW for everything else.

    The momentum of a matrix is made nearly orthogonal before it is added, so that all directions
    learn alike. The update has the size of AdamW's, so that one learning rate and weight decay
    serve both; it bears a rate three to five times as high.

    Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; sizes from Liu
    et al., "Muon is scalable for LLM training", arXiv:2502.16982, equation 4.

    Args:
        params: groups of `parameter_groups`; those whose `matrices` is above 0 take Muon.
        lr: learning rate of both.
        betas: AdamW's.
        weight_decay: of both, decoupled.
        eps: AdamW's.
    """

    momentum = 0.95

    def _moments(self, group: dict, exact: torch.Tensor) -> dict[str, torch.Tensor]:
        if not group["matrices"]:
            return super()._moments(group, exact)
        return {"momentum": torch.zeros_like(exact)}

    def _update(self, group: dict, parameters: list[torch.Tensor]) -> None:
        if not group["matrices"]:
            super()._update(group, parameters)
            return
        alike: dict[torch.Size, list[torch.Tensor]] = {}
        for parameter in parameters:
            alike.setdefault(parameter.shape, []).append(parameter)
        for shape, matrices in alike.items():
            ahead = torch.stack([self._look_ahead(p) for p in matrices])
            rows, columns = shape[0] // group["matrices"], shape[1]
            turned = orthogonalized(ahead.reshape(-1, rows, columns)).view_as(ahead)
            rate = group["lr"]
            size = 0.2 * max(rows, columns) ** 0.5
            for parameter, update in zip(matrices, turned, strict=True):
                exact = self._exact(parameter).mul_(1 - rate * group["weight_decay"])
                exact.add_(update, alpha=-rate * size)

    def _look_ahead(self, parameter: torch.Tensor) -> torch.Tensor:
        """Update the momentum and give Nesterov's look ahead of it."""
        assert parameter.grad is not None
        gradient, momentum = parameter.grad.float(), self.state[parameter]["momentum"]
        momentum.lerp_(gradient, 1 - self.momentum)
        return gradient.lerp(momentum, self.momentum)


def orthogonalized(matrices: torch.Tensor) -> torch.Tensor:
    """Bring all singular values of matrices near 1 (between about 0.7 and 1.2), in bfloat16.

    Five steps of a Newton-Schulz iteration with Jordan et al.'s coefficients.

    Args:
        matrices: `(N, rows, columns)`.

    Returns:
        Matrices with about the same singular vectors, of the given type; zero stays zero.
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = (x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=1e-12)).bfloat16()
    for _ in range(5):
        gram = x @ x.mT
        x = 3.4445 * x + (2.0315 * (gram @ gram) - 4.7750 * gram) @ x
    return (x.mT if tall else x).to(matrices.dtype)


def masters_of(optimizer: torch.optim.Optimizer) -> dict[torch.Tensor, torch.Tensor]:
    """Map weights that are rounded to their float32 masters; empty for an optimizer without."""
    return optimizer.masters() if isinstance(optimizer, MasterWeightAdamW) else {}


class MovingAverage:
    """An exponential moving average of the trainable weights, in float32.

    Early on the average follows the weights closely: its decay is at most `(1 + n) / (10 + n)`
    after `n` updates.

    Args:
        parameters: what to follow; averages start at their values.
        decay: share of the old average kept at each update, below 1.
    """

    def __init__(self, parameters: Iterable[torch.Tensor], decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.followed = list(parameters)
        self.averages = [p.float().clone() for p in _held(self.followed)]

    @torch.no_grad()
    def update(self, masters: Mapping[torch.Tensor, torch.Tensor] | None = None) -> None:
        """Move the averages towards the weights, or towards their masters where there are any."""
        exact = masters or {}
        current = [p.float() for p in _held(exact.get(p, p) for p in self.followed)]
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(self.averages, current, 1 - decay)
        self.updates += 1

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the averages into the model for the time of a `with` block."""
        weights = _held(self.followed)
        former = [p.clone() for p in weights]
        torch._foreach_copy_(weights, self.averages)
        try:
            yield
        finally:
            torch._foreach_copy_(weights, former)

    def state_dict(self) -> dict:
        """Give averages and the number of updates."""
        return {"updates": self.updates, "averages": self.averages}

    def load_state_dict(self, state: dict) -> None:
        """Restore what `state_dict` gave."""
        self.updates = state["updates"]
        for average, saved in zip(self.averages, state["averages"], strict=True):
            average.copy_(saved)


def _held(parameters: Iterable[torch.Tensor]) -> list[torch.Tensor]:
    """What this process holds of parameters: its part of each where the model is sharded."""
    detached = (p.detach() for p in parameters)
    return [p.to_local() if isinstance(p, DTensor) else p for p in detached]


def _in_encoder(name: str) -> bool:
    return "encoder." in name and "decoder" not in name


def _block(name: str) -> int:
    found = _NUMBER.search(name.split("encoder.", 1)[1])
    return int(found.group(1)) if found and ".patch_embed." not in name else -1


def _layer(name: str, depth: int) -> int:
    if not _in_encoder(name):
        return depth + 1
    block = _block(name)
    if block >= 0:
        return block + 1
    return 0 if ".patch_embed." in name or ".absolute." in name else depth + 1


def _undecayed(name: str, parameter: torch.Tensor) -> bool:
    return parameter.ndim <= 1 or name.endswith(("token", "absolute.table", "pos_embed"))


def _matrices(name: str, parameter: torch.Tensor) -> int:
    """How many matrices lie stacked in a weight of a block; 0 outside of blocks."""
    if parameter.ndim != 2 or not _NUMBER.search(name) or "head" in name:
        return 0
    return 3 if ".qkv." in name else 1
