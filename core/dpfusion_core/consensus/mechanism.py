"""The mechanism: own views, own items, a private release, and an answer written from what was released.

docs/theory.md, section 11.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace

from dpfusion_core.charging import charged
from dpfusion_core.consensus import prompts
from dpfusion_core.consensus.answerers import Answerer
from dpfusion_core.consensus.asking import ask, ask_units, check_covered, guarantee_of
from dpfusion_core.consensus.items import read_items
from dpfusion_core.consensus.views import (
    asked,
    bare_view,
    led_by,
    public_view,
    public_view_of_any,
    question_of,
    units_of,
    without_seams,
)
from dpfusion_core.errors import (
    BackendError,
    DPFusionError,
    PrivacyParameterError,
    ViewError,
    errors_as,
)
from dpfusion_core.generation import Chunk
from dpfusion_core.ledger import PrivacyLedger
from dpfusion_core.messages import Message
from dpfusion_core.options import Options
from dpfusion_core.placeholders import Placeholder
from dpfusion_core.privacy import (
    Released,
    VoteRelease,
    check_reach,
)
from dpfusion_core.privacy.guarantee import Tagging
from dpfusion_core.releases import ReleasePlan, plan_votes

TOKENS_PER_ITEM = 48
"""Tokens of an answer for each item that it may name."""

Writer = Callable[[Sequence[Message]], Iterator[Chunk | None]]
"""Answers a public conversation piece by piece; the last chunk says why it ended."""


@dataclass(frozen=True)
class Question:
    """A question to many documents that has passed every check that needs no model.

    Attributes:
        messages: The conversation.
        options: What was asked for.
        placeholder: What stands in the place of private text in the public view.
        tagging: What found the private text.
        plan: What the release may cost, and its rule.
    """

    messages: tuple[Message, ...]
    options: Options
    placeholder: Placeholder
    tagging: Tagging
    plan: ReleasePlan


def make_question(
    messages: Sequence[Message],
    options: Options,
    placeholder: Placeholder,
    ledger: PrivacyLedger | None,
    tagging: Tagging = "none",
) -> Question:
    """Check a question; nothing is computed or charged yet.

    Raises:
        PrivacyParameterError: If there are no documents or too few of them, or epsilon is missing or too small.
        ViewError: If the conversation does not end with a question.
    """
    if isinstance(messages, str) or not all(isinstance(each, Message) for each in messages or ()):
        raise ViewError("Expected a list of Message, for example [Message('user', 'Good morning.')].")
    question_of(messages)
    is_covered = check_covered(options, ledger)
    units = units_of(messages)
    plan = plan_votes(
        options, units, ledger, max_items=options.max_items, is_participation_private=is_covered
    )
    if not is_covered:  # else how many documents there are is private
        check_documents(len(units), plan)
    return Question(without_seams(messages), options, placeholder, tagging, plan)


def check_documents(units: int, plan: ReleasePlan) -> None:
    """Check from public numbers that a consensus of so many documents can be told.

    Raises:
        PrivacyParameterError: If it cannot.
    """
    if units == 0:
        raise PrivacyParameterError(
            "A consensus needs documents: no text of the request is marked as private. Without private text, "
            "leave out mechanism='consensus'."
        )
    if units == 1:
        raise PrivacyParameterError(
            "A consensus of one document would be what this document says, which may not be told. Give more "
            "documents, or ask engine.choose for an answer out of few, or use mechanism='fusion'."
        )
    if isinstance(plan.rule, VoteRelease):
        check_reach(plan.rule, units)


def run_question(
    question: Question, answerer: Answerer, write: Writer, ledger: PrivacyLedger | None
) -> Generator[Chunk | None, None, None]:
    """Ask the documents, release what many say, and write the answer.

    Args:
        question: The question.
        answerer: Who answers for each document.
        write: Who writes the answer, from public text.
        ledger: The accounts of privacy units.

    Yields:
        The pieces of the answer, the last one with its guarantee and the released items; None in between.

    Raises:
        BackendError: If the model does not answer the public view, or cannot write.
        BudgetExhaustedError: If a unit cannot pay; then no document was asked.
        LedgerError: If the ledger cannot be reached or written; then no document was asked.
    """
    if question.plan.is_participation_private:
        public = public_view_of_any(question.messages)
    else:
        public = public_view(question.messages, question.placeholder)
    known = _public_words(question, answerer, public)
    yield None
    # A ledger reserves for somebody; where nobody takes part, which may be private, the votes are none.
    with charged(question.plan, ledger if question.plan.units else None) as charge:
        votes = _votes(question, answerer, known, charge.takes_part)
        yield None
        released = charge.votes(votes)
    guarantee = guarantee_of(question.plan, charge)
    guarantee = replace(guarantee, tagging=question.tagging)
    view = _with_items(question, released) if released else public
    for chunk in write(view):
        if chunk is None or chunk.finish_reason is None:
            yield chunk
        else:
            yield replace(chunk, guarantee=guarantee, items=released)


@dataclass(frozen=True)
class _Public:
    """What is no news: the items of the public answer, and its words with those of the question."""

    items: frozenset[str]
    text: str


def _public_words(question: Question, answerer: Answerer, public: Sequence[Message]) -> _Public:
    [answer] = _ask(question, answerer, [public])
    if answer is None:
        raise BackendError("The model did not answer the public view. Nothing was asked of any document.")
    last = question_of(question.messages)
    text = "".join(segment.text for segment in last.segments if not segment.is_private)
    text = f"{answer}\n{text}"
    with errors_as(PrivacyParameterError, "The function that reads items failed ({error})."):
        return _Public(frozenset(read_items(answer, question.options.items, text)), text)


def _votes(
    question: Question, answerer: Answerer, known: _Public, takes_part: Sequence[bool]
) -> list[tuple[str, ...]]:
    """Return the votes of each unit of the plan."""
    answers = ask_units(
        question.messages,
        question.plan.units,
        takes_part,
        question.placeholder,
        lambda views: _ask(question, answerer, views),
    )
    return [_vote(question, answer, known) for answer in answers]


def _vote(question: Question, answer: str | None, known: _Public) -> tuple[str, ...]:
    """Return the items that a document votes for; none where it has not been answered."""
    if answer is None:
        return ()
    try:
        with errors_as(PrivacyParameterError, "The function that reads items failed ({error})."):
            items = read_items(answer, question.options.items, known.text)
    except DPFusionError:  # an error would tell of this document
        return ()
    return tuple(item for item in items if item not in known.items)[: question.options.max_items]


def _ask(question: Question, answerer: Answerer, views: Sequence[Sequence[Message]]) -> list[str | None]:
    """Ask for items; every view in the same words."""
    options = question.options
    most = options.max_items
    schema = None
    if options.items == "phrases" or callable(options.items):
        tokens = options.max_tokens
    else:
        tokens = most * TOKENS_PER_ITEM
        if options.items == "json":
            instruction = prompts.POINTS_AS_JSON.format(most=most)
            schema = {"type": "array", "items": {"type": "string"}, "maxItems": most}
        else:
            instruction = prompts.FEW_WORDS if most == 1 else prompts.POINTS.format(most=most)
        views = [asked(view, instruction) for view in views]
    return ask(answerer, views, max_tokens=tokens, json_schema=schema)


def _with_items(question: Question, released: Sequence[Released]) -> list[Message]:
    """Return the conversation from which the answer is written: no private text, and what was released."""
    lines = "\n".join(prompts.ITEM.format(item=each.item, count=each.count) for each in released)
    before, _, after = prompts.WHAT_MANY_SAY.partition("{question}")
    return led_by(bare_view(question.messages), before.replace("{items}", lines), after)
