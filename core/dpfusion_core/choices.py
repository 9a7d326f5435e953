"""Closed answers: public choices, the tokens in which a model would write them, and what a choice returns."""

import math
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from dpfusion_core.errors import BackendError, PrivacyParameterError, ViewError, errors_as
from dpfusion_core.privacy import PrivacyGuarantee
from dpfusion_core.tokenization import Tokenizer, encode

_CONTEXT = 4  # tokens of the prompt's end that can change how a choice is cut into tokens
_SHOWN = 40  # characters of a choice in an error


@dataclass(frozen=True)
class ChoiceReport:
    """How a choice came about: functions of private data.

    For the data curator only. Nothing here is covered by the guarantee; do not release, log or store it where
    the readers of the answer can see it.

    Attributes:
        prior: Probability of each choice before anything private is seen; public.
        private: Probability of each choice given each unit's private view.
        sampled: Probability of each choice when it was drawn.
        lambdas: Each unit's mixing weight.
        divergences: Each unit's realised divergence, nats at the request's order.
    """

    prior: tuple[float, ...] = field(repr=False)
    private: dict[str, tuple[float, ...]] = field(repr=False)
    sampled: tuple[float, ...] = field(repr=False)
    lambdas: dict[str, float] = field(repr=False)
    divergences: dict[str, float] = field(repr=False)


@dataclass(frozen=True)
class ChoiceResult:
    """One choice out of several.

    Attributes:
        choice: The choice, as the caller has written it.
        index: Its place among the choices.
        prompt_tokens: Length of the public view in tokens.
        guarantee: What the choice can tell about each privacy unit.
        report: The curator's report, if asked for.
    """

    choice: str
    index: int
    prompt_tokens: int
    guarantee: PrivacyGuarantee
    report: ChoiceReport | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Writings:
    """The tokens of every choice in the two ways in which models begin an answer.

    Attributes:
        plain: Each choice behind the prompt as it is.
        spaced: Each choice behind a space.
    """

    plain: tuple[tuple[int, ...], ...]
    spaced: tuple[tuple[int, ...], ...]

    @property
    def longest(self) -> int:
        """Largest number of tokens of a choice."""
        return max(map(len, (*self.plain, *self.spaced)))

    def as_written(self, logits: Tensor) -> tuple[tuple[int, ...], ...]:
        """Return the choices in the way that the model would begin them.

        Args:
            logits: The public view's next logits, ``[vocab]``; so nothing private decides.
        """
        log_probs = torch.log_softmax(logits.to(torch.float64), dim=-1)  # [vocab]
        plain, spaced = (
            torch.logsumexp(log_probs[sorted({ids[0] for ids in each})], dim=0)
            for each in (self.plain, self.spaced)
        )
        return self.spaced if bool(spaced > plain) else self.plain


def check_choices(choices: Sequence[str]) -> tuple[str, ...]:
    """Return the choices, or refuse what is no choice between several.

    Raises:
        PrivacyParameterError: If they are no list of at least two different texts that are not blank.

    Example:
        >>> check_choices(["yes", "no"])
        ('yes', 'no')
        >>> check_choices(["yes", " yes"])
        Traceback (most recent call last):
        dpfusion_core.errors.PrivacyParameterError: Choices 1 and 2 are the same, 'yes'. Give each once.
    """
    if isinstance(choices, str) or not isinstance(choices, Sequence):
        raise PrivacyParameterError("Expected choices to be a list of texts, for example ['yes', 'no'].")
    if len(choices) < 2:
        raise PrivacyParameterError(
            f"Expected at least two choices, got {len(choices)}. An answer that is certain needs no model."
        )
    seen: dict[str, int] = {}
    for number, choice in enumerate(choices, start=1):
        if not isinstance(choice, str) or not choice.strip():
            raise PrivacyParameterError(f"Choice {number} is no text, or blank. Say what it is in words.")
        with errors_as(
            PrivacyParameterError, f"Choice {number} holds a lone surrogate, which no tokenizer can read."
        ):
            normal = _normal(choice)
            normal.encode("utf-8")
        if normal in seen:
            raise PrivacyParameterError(
                f"Choices {seen[normal]} and {number} are the same, {_shown(choice)}. Give each once."
            )
        seen[normal] = number
    return tuple(choices)


def write_choices(
    choices: Sequence[str], tokenizer: Tokenizer, public: Sequence[int], ends: Collection[int]
) -> Writings:
    """Return the tokens of each choice, as they follow the end of the public view.

    Args:
        choices: See :func:`check_choices`.
        tokenizer: The model's.
        public: Token ids of the public view.
        ends: Tokens that end an answer.

    Raises:
        PrivacyParameterError: If the tokenizer cannot write a choice, or writes two alike; or if one begins
            another and the model has no token that ends an answer.
    """
    contexts = [(each, encode(tokenizer, each) if each else ()) for each in _contexts(tokenizer, public)]
    plain, spaced = (
        tuple(
            _tokens(tokenizer, contexts, before + choice.strip(), number)
            for number, choice in enumerate(choices, start=1)
        )
        for before in ("", " ")
    )
    for writing in (plain, spaced):
        # What begins another stands right before it, or before what it begins too.
        ranked = sorted(range(len(writing)), key=lambda number: writing[number])
        for first, second in pairwise(ranked):
            is_same = writing[first] == writing[second]
            begins = writing[second][: len(writing[first])] == writing[first]
            if is_same or (begins and not ends):
                raise PrivacyParameterError(
                    f"The model writes choice {first + 1}, {_shown(choices[first])}, "
                    f"{'like' if is_same else 'as the beginning of'} choice {second + 1}. Say them in other words."
                )
    return Writings(plain, spaced)


def choice_log_probs(scores: Tensor, temperature: float, prior: str, like_public: Sequence[bool]) -> Tensor:
    """Return the distributions that are fused: ``q``, then that of each unit, float64, ``[1 + units, choices]``.

    A unit whose view is the public one contributes ``q`` itself, not what the model makes of the public view:
    that, and nothing else, is what zero-out leaves of it (docs/theory.md, section 10).

    Args:
        scores: Log-likelihood of each choice under each view, the public one first, ``[1 + units, choices]``.
        temperature: Divides them.
        prior: ``"uniform"``, or ``"public"`` for the public view's own distribution.
        like_public: For each unit, whether its view equals the public one.

    Raises:
        BackendError: If the public view's distribution is to be the prior and has no choice that is possible.
    """
    rows = torch.log_softmax(scores / (temperature or 1.0), dim=-1)
    own = rows[0]
    if prior == "uniform" and rows.shape[0] > 1:
        own = torch.full_like(own, -math.log(own.shape[0]))
    if bool(own.isnan().any()):
        raise BackendError("The model can write none of the choices.")
    # A view that allows no choice at all has nothing to say. An error would tell that.
    silent = rows.isnan().any(dim=-1) | torch.tensor([False, *like_public], device=rows.device)
    rows = torch.where(silent[:, None], own, rows)
    rows[0] = own
    return rows


def _contexts(tokenizer: Tokenizer, public: Sequence[int]) -> Iterator[str]:
    """Yield texts behind which a choice is cut into tokens: the end of the prompt, else the beginning of a line."""
    with errors_as(ViewError, "The tokenizer cannot decode the end of the public view ({error})."):
        end = str(tokenizer.decode(list(public[-_CONTEXT:]), clean_up_tokenization_spaces=False))
    if encode(tokenizer, end) == tuple(public[-_CONTEXT:]):
        yield end
    yield "\n"
    yield ""


def _tokens(
    tokenizer: Tokenizer, contexts: Sequence[tuple[str, tuple[int, ...]]], text: str, number: int
) -> tuple[int, ...]:
    """Return the tokens of a choice, cut as behind the first context that stays as it is before it."""
    for context, before in contexts:
        ids = encode(tokenizer, context + text)
        if ids[: len(before)] == before:
            ids = ids[len(before) :]
            break
    with errors_as(ViewError, "The tokenizer cannot decode a choice ({error})."):
        back = tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
    if not ids or _normal(str(back)) != _normal(text):
        raise PrivacyParameterError(
            f"The model's tokenizer cannot write choice {number}, {_shown(text)}. Say it in other words."
        )
    return ids


def _normal(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


def _shown(text: str) -> str:
    text = text.strip()
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")
