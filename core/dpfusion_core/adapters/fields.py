"""The options of a model as pydantic fields, once for all integrations: they need pydantic, the core does not."""

from pydantic import BaseModel

from dpfusion_core.options import Items, Mechanism, OnExhausted
from dpfusion_core.options.values import Prior
from dpfusion_core.privacy.parameters import Accounting, Neighbours, Spending


class OptionFields(BaseModel):
    """What a framework's model may say of each request, by the names of :class:`~dpfusion_core.Options`.

    The types are written out for editors and type checkers. A field that is None says nothing: the default is
    that of the option, and so is the check.

    Example:
        >>> OptionFields(epsilon=8.0).model_dump(exclude_none=True)
        {'epsilon': 8.0}
    """

    epsilon: float | None = None
    delta: float | None = None
    order: float | None = None
    beta: float | None = None
    mixing_loss: float | None = None
    weight_cap: float | None = None
    responses: int | None = None
    neighbours: Neighbours | None = None
    accounting: Accounting | None = None
    spending: Spending | None = None
    on_exhausted: OnExhausted | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    stop: list[str] | None = None
    seed: int | None = None
    prior: Prior | None = None
    mechanism: Mechanism | None = None
    max_items: int | None = None
    items: Items | None = None
