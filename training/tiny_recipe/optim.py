"""Muon in single precision, for the matrices of a small network on a CPU."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


class Muon(torch.optim.Optimizer):
    """Momentum whose updates are made orthogonal by Newton-Schulz iterations.

    Matrices of one shape are handled as one batch, in single precision
    (half precision is slow on most CPUs).
    """

    def __init__(
        self, params: Iterable[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.01
    ) -> None:
        """Set up the optimiser.

        Args:
            params: The matrices.
            lr: Learning rate.
            momentum: Weight of past gradients.
            weight_decay: Decay, times the learning rate.
        """
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Make one step."""
        for group in self.param_groups:
            shapes: dict[tuple[int, ...], list[tuple[Tensor, Tensor, bool]]] = {}
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if "buffer" not in state:
                    state["buffer"] = torch.zeros_like(p)
                state["buffer"].lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(state["buffer"], group["momentum"])
                tall = p.shape[0] > p.shape[1]
                shapes.setdefault(tuple(sorted(p.shape)), []).append((p, update.T if tall else update, tall))
            for rows in shapes.values():
                x = torch.stack([u for _, u, _ in rows])
                x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
                for _ in range(5):
                    a = x @ x.mT
                    x = 3.4445 * x + (-4.7750 * a + 2.0315 * (a @ a)) @ x
                for (p, _, tall), u in zip(rows, x, strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    scale = max(1.0, p.shape[0] / p.shape[1]) ** 0.5
                    p.add_(u.T if tall else u, alpha=-group["lr"] * scale)
