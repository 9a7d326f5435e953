"""Asking each document alone, whatever for: a failure stays its own, and nobody learns of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from dpfusion_core.consensus.answerers import Answerer
from dpfusion_core.consensus.views import OwnViews, speaking_units
from dpfusion_core.errors import BackendError, DPFusionError, PrivacyParameterError, errors_as
from dpfusion_core.ledger import PrivacyLedger
from dpfusion_core.messages import Message
from dpfusion_core.options import Options
from dpfusion_core.placeholders import Placeholder
from dpfusion_core.privacy import PrivacyGuarantee
from dpfusion_core.release_charging import ReleaseCharge
from dpfusion_core.releases import ReleasePlan

LONGEST_ANSWER = 20_000
"""Characters of an answer that are read."""

_Answer = TypeVar("_Answer")


def ask(
    answerer: Answerer,
    views: Sequence[Sequence[Message]],
    *,
    max_tokens: int,
    json_schema: Mapping[str, Any] | None = None,
) -> list[str | None]:
    """Ask plain conversations; None for one that is not answered.

    Raises:
        DPFusionError: If the answerer fails as a whole.
    """
    with errors_as(BackendError, "The model that answers failed ({error})."):
        answers = list(answerer.answer(views, max_tokens=max_tokens, json_schema=json_schema))
    if len(answers) != len(views):
        raise BackendError("The model that answers did not return one answer for each conversation.")
    return [each[:LONGEST_ANSWER] if isinstance(each, str) else None for each in answers]


def ask_units(
    messages: Sequence[Message],
    units: Sequence[str],
    takes_part: Sequence[bool],
    placeholder: Placeholder,
    asked: Callable[[Sequence[Sequence[Message]]], Sequence[_Answer | None]],
) -> list[_Answer | None]:
    """Ask each unit's own view.

    Args:
        messages: The conversation.
        units: The units of the plan.
        takes_part: Whether each of them can pay. Others, and those that say nothing, are not asked.
        placeholder: What stands in the place of a text that has been zeroed out.
        asked: Asks several views at once. Where that fails they are asked one by one, so that one document's
            failure does not take away what the others say.

    Returns:
        The answer of each unit; None where there is none.
    """
    speaking = {*speaking_units(messages, placeholder)}
    able = [unit for unit, can_pay in zip(units, takes_part, strict=True) if can_pay and unit in speaking]
    own = OwnViews(messages)
    views = [own.of(unit) for unit in able]
    found: list[_Answer | None]
    try:
        found = list(asked(views)) if views else []
    except DPFusionError:  # an error would tell of a document
        found = [_alone(asked, view) for view in views]
    answers = dict(zip(able, found, strict=True))
    return [answers.get(unit) for unit in units]


def _alone(
    asked: Callable[[Sequence[Sequence[Message]]], Sequence[_Answer | None]], view: Sequence[Message]
) -> _Answer | None:
    try:
        return asked([view])[0]
    except DPFusionError:
        return None


def check_covered(options: Options, ledger: PrivacyLedger | None) -> bool:
    """Return whether it is private which documents take part.

    Raises:
        PrivacyParameterError: If it is, and an error about a document without budget could tell.
    """
    is_covered = options.retrieval == "covered"
    if is_covered and ledger is not None and (options.accounting, options.on_exhausted) == ("fixed", "raise"):
        raise PrivacyParameterError(
            "With retrieval='covered' and a ledger say on_exhausted='zero-out', or accounting='adaptive': an error "
            "about a document without budget would tell that it took part."
        )
    return is_covered


def guarantee_of(plan: ReleasePlan, charge: ReleaseCharge) -> PrivacyGuarantee:
    """Return what holds for a release that has happened."""
    # How many had no budget would tell who took part.
    guarantee = plan.guarantee(1) if plan.is_participation_private else charge.guarantee()
    return replace(guarantee, retrieval=plan.options.retrieval)
