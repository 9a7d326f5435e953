"""What a response can tell about each privacy unit: the statement that is released with it."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from dpfusion_core.numbers import at_least, at_most
from dpfusion_core.privacy.parameters import Accounting, Neighbours

Tagging = Literal["none", "phrases", "whole message"]
Mechanism = Literal["fusion", "choice", "consensus", "count", "measure"]
Retrieval = Literal["covered", "not covered"]


@dataclass(frozen=True)
class PrivacyGuarantee:
    """What one response can tell about each privacy unit. Every field is independent of private data.

    Attributes:
        epsilon: In nats: the response is (epsilon, delta)-differentially private for each unit. Where an
            epsilon was asked for and met, it is that one.
            Holds for the whole response of up to ``max_tokens`` tokens, however early it stopped.
        delta: Probability.
        order: Rényi order at which epsilon was converted; None if no unit was at stake.
        neighbours: The neighbour relation that the statement is about.
        accounting: ``"fixed"``: every token counts with its bound. ``"adaptive"``: a filter keeps the
            sum of the realised losses within a budget fixed in advance, and epsilon is the budget's.
            ``"none"``: the request had no private text, so nothing was spent.
        tokens: Tokens sampled so far, the first and an end-of-sequence token included.
        max_tokens: The limit that was fixed before the first token.
        units: Number of privacy units of the request. None where which of them took part is private.
        loss_per_token: Rényi loss of one token in nats at ``alpha``; tokens times this is what a
            budget is charged. None under adaptive accounting: there it depends on private data.
        alpha: Rényi order of the per-token bound; None if no unit was at stake.
        beta: The per-token bound is ``alpha * beta``; None if no unit was at stake, and under
            adaptive accounting, where tokens have no common bound.
        exhausted: Number of units that took no part because their budget was spent, and the caller
            chose to go on without them. Only where charges are public: under adaptive accounting of
            zero-out neighbours it would tell, and is 0.
        tagging: ``"none"``: what is private was marked by the caller. ``"phrases"``: a tagger narrowed
            private texts to phrases; what it missed is unprotected. ``"whole message"``: it failed on
            a text or found nothing there, and that text stayed private as a whole.
        private: False if the sampling randomness was chosen by the caller (a seed or generator):
            to whoever knows it the output is not private, whatever epsilon says.
        mechanism: What made the answer: ``"fusion"``: text, token by token. ``"choice"``: one of public choices,
            each of which counts as one token. ``"consensus"``, ``"count"``, ``"measure"``: what many units said;
            the release counts as one token, and what is written from it costs nothing.
        retrieval: ``"covered"``: which documents took part is within the guarantee, each was taken by its own
            score alone. ``"not covered"``: they were taken by rank, which tells of the others. None: the caller
            gave the documents.
        weight_cap: Largest weight of any unit's text in its part of a token; None if there is no cap.
    """

    epsilon: float
    delta: float
    order: float | None
    neighbours: Neighbours
    accounting: Accounting | Literal["none"]
    tokens: int
    max_tokens: int
    units: int | None
    loss_per_token: float | None
    alpha: float | None
    beta: float | None
    private: bool
    exhausted: int = 0
    tagging: Tagging = "none"
    mechanism: Mechanism = "fusion"
    retrieval: Retrieval | None = None
    weight_cap: float | None = None

    @property
    def charged(self) -> float | None:
        """Rényi loss charged to each unit for the tokens sampled so far, in nats at ``alpha``.

        None under adaptive accounting, where it is a function of private data.
        """
        return None if self.loss_per_token is None else self.tokens * self.loss_per_token

    @property
    def _size(self) -> str:
        if self.mechanism == "choice":
            return "one choice" if self.max_tokens == 1 else f"up to {self.max_tokens} choices"
        if self.mechanism in ("consensus", "count", "measure"):
            return "one release"
        return f"up to {self.max_tokens} tokens"

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as a plain dict, for metadata and JSON."""
        return asdict(self)

    def __str__(self) -> str:
        """Return the guarantee as one plain sentence."""
        if self.units == 0:
            return "No private text was marked, so there was nothing to protect and nothing was spent."
        relation = {
            "zero-out": "its text versus a blank in its place",
            "replace": "its text versus any other with the same public view",
        }[self.neighbours]
        epsilon, delta = at_most(self.epsilon), at_most(self.delta)
        order = "none" if self.order is None else at_least(self.order, 6)
        units = "a private number of units"
        if self.units is not None:
            units = f"{self.units} unit{'s' if self.units != 1 else ''}"
        sentence = (
            f"Whatever else a reader knows, the answer shifts the odds on each private unit ({relation}) "
            f"by a factor of at most e^{epsilon}, save with probability {delta}: "
            f"epsilon = {epsilon} at delta = {delta} "
            f"(order {order}, {self.neighbours} neighbours, {self.accounting} accounting, "
            f"{self._size}, {units})."
        )
        if self.exhausted:
            sentence += f" {self.exhausted} of the units had no budget left and took no part."
        if self.retrieval == "covered":
            sentence += " Which documents took part is covered."
        if self.retrieval == "not covered":
            sentence += " Which documents were retrieved is not covered."
        if self.tagging == "phrases":
            sentence += " What the tagger did not find is not protected."
        if not self.private:
            sentence += " NOT private to anyone who knows the seed that the caller chose."
        return sentence


def nothing_private(tokens: int, max_tokens: int, *, private: bool) -> PrivacyGuarantee:
    """Return the guarantee of a request without private text: nothing at stake, nothing spent."""
    return PrivacyGuarantee(
        epsilon=0.0,
        delta=0.0,
        order=None,
        neighbours="zero-out",
        accounting="none",
        tokens=tokens,
        max_tokens=max_tokens,
        units=0,
        loss_per_token=0.0,
        alpha=None,
        beta=None,
        private=private,
    )
