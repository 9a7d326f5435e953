"""Spending rules: how much of what a unit has left the next token may take (adaptive accounting).

A rule sees the budget of the response and what is left of it, in nats at the order of the filter,
and which token it is. Any rule is sound: the accountant never lets a token take more than is left
(docs/theory.md, section 4). Which rule gives the best text is an experiment: `make bench BENCH_ARGS=utility`
prints it. ``growing`` is the default: it gives the most on paraphrases and loses little where every
token could use more than its share. ``accrued`` gives the most where tokens need private text rarely,
``capped`` where answers end early.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from dpfusion_core.privacy.parameters import Spending

SpendingRule = Callable[[Tensor, Tensor, int, int], Tensor]


def accrued(total: Tensor, left: Tensor, step: int, max_tokens: int) -> Tensor:
    """All shares of the tokens so far that have not been used."""
    return left - total * ((max_tokens - step - 1) / max_tokens)


def capped(total: Tensor, left: Tensor, step: int, max_tokens: int) -> Tensor:
    """Up to a few shares from the first token on, as long as anything is left."""
    return torch.minimum(left, total * min(1.0, CAP / max_tokens))


def growing(total: Tensor, left: Tensor, step: int, max_tokens: int) -> Tensor:
    """A share of what is left, with a factor that grows from 1 as tokens pass."""
    factor = 1.0 + (GROWTH - 1.0) * step / max_tokens
    return left * min(1.0, factor / (max_tokens - step))


CAP = 4.0
GROWTH = 4.0

SPENDING_RULES: Mapping[Spending, SpendingRule] = MappingProxyType(
    {"accrued": accrued, "capped": capped, "growing": growing}
)
