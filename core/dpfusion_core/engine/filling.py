"""A structured answer: the closed fields of a schema, one choice after the other under one guarantee."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dpfusion_core import _validate
from dpfusion_core.backends import Backend
from dpfusion_core.choices import ChoiceReport, check_choices
from dpfusion_core.closed import ClosedField, ClosedFields, closed_fields
from dpfusion_core.engine.choosing import WrittenChoices, charged_turns, read_choice_options, write_behind
from dpfusion_core.engine.requests import check_messages, check_sampling, tools_to_show
from dpfusion_core.errors import PrivacyParameterError, ViewError, errors_as
from dpfusion_core.ledger import PrivacyLedger
from dpfusion_core.messages import Message
from dpfusion_core.options import GenerationOptions, Options
from dpfusion_core.placeholders import Placeholder
from dpfusion_core.planning import Plan, make_plan
from dpfusion_core.privacy.guarantee import PrivacyGuarantee, Tagging
from dpfusion_core.tagging.narrowing import Narrowing
from dpfusion_core.views import build_views

Ask = Callable[[ClosedField], str]
"""Puts a field into a question; public."""


@dataclass(frozen=True)
class StructuredResult:
    """A structured answer.

    Attributes:
        value: The object; it obeys the schema.
        chosen: The text that was chosen for each question, by the field's name.
        prompt_tokens: Length of the public views of all questions in tokens.
        guarantee: What the whole object can tell about each privacy unit.
        weights: For totals: with which weight the model's own answer was mixed with the uniform one, by the field's
            name; public. None if it was not asked for, or nothing was private.
        reports: The curator's reports by the field's name, if asked for.
    """

    value: dict[str, Any]
    chosen: Mapping[str, str]
    prompt_tokens: int
    guarantee: PrivacyGuarantee
    weights: Mapping[str, float] | None = None
    reports: Mapping[str, ChoiceReport] | None = field(default=None, repr=False)


def plain_question(asked: ClosedField) -> str:
    """Return a field's question: what the schema says of it, else its name.

    Example:
        >>> plain_question(ClosedField(("home_ward",), {"A": "A", "B": "B"}))
        'What is the home ward?'
        >>> plain_question(ClosedField(("is_ill",), {"yes": True, "no": False}, "Is she ill?"))
        'Is she ill?'
    """
    words = words_of(asked.path)
    if asked.member is not None:
        return f"{asked.description or f'{words[:1].upper()}{words[1:]}:'} {asked.member}? Answer yes or no."
    if set(asked.values) == {"yes", "no"}:
        return asked.description or f"{words[:1].upper()}{words[1:]}? Answer yes or no."
    return asked.description or f"What is the {words}?"


def words_of(path: Sequence[str]) -> str:
    """Return a field's name in words.

    Example:
        >>> words_of(["patient", "home_ward"])
        'home ward of the patient'
    """
    return " of the ".join(name.replace("_", " ") for name in reversed(path))


def fill(
    messages: Sequence[Message],
    schema: Any,
    shares: Mapping[str, float] | None,
    ask: Ask | None,
    for_totals: bool,
    given: GenerationOptions,
    *,
    backend: Backend,
    ledger: PrivacyLedger | None,
    narrowing: Narrowing | None,
    placeholder: Placeholder,
) -> StructuredResult:
    """Answer field by field; see :meth:`~dpfusion_core.FusionEngine.fill`."""
    fields = closed_fields(schema)
    refuse_open(fields)
    for each in fields.closed:
        check_choices(each.choices)
    shared = _weights(fields, shares)
    check_messages(messages)
    options = read_choice_options(given, steps=max(1, len(fields.closed)))
    tagging: Tagging = "none"
    if narrowing is not None:
        messages, whole = narrowing(messages, ledger)
        tagging = "whole message" if whole else "phrases"
    form = _Form(messages, fields, ask or plain_question, not for_totals, options, backend, placeholder)
    longest = [max(each.choices, key=len) for each in fields.closed]
    # Whatever is answered, every question can be put: that is found out before anything is charged.
    rehearsed = [form.put(number, longest[:number]) for number in range(len(fields.closed))]
    units = rehearsed[0].views.units if rehearsed else ()
    plan = None
    if units:
        check_sampling(rehearsed[0].views, options)
        most = max(len(each.choices) for each in fields.closed)
        plan = make_plan(options, units, ledger, None, most, shared)
    if for_totals and plan is not None:
        _check_steady(plan)
        plan = replace(plan, is_steady=True)
    answers: list[str] = []
    prompt_tokens = 0
    weights: dict[str, float] = {}
    reports: dict[str, ChoiceReport] = {}
    with charged_turns(plan, options, backend, ledger) as turns:
        for number, asked in enumerate(fields.closed):
            turn = turns.take(form.put(number, answers))
            if turn.weight is not None:
                weights[asked.name] = turn.weight
            answers.append(asked.choices[turn.index])
            prompt_tokens += turn.prompt_tokens
            if turn.report is not None:
                reports[asked.name] = turn.report
    names = [each.name for each in fields.closed]
    return StructuredResult(
        value=fields.build(answers),
        chosen=dict(zip(names, answers, strict=True)),
        prompt_tokens=prompt_tokens,
        guarantee=turns.guarantee(tagging),
        weights=weights or None,
        reports=reports if options.curator else None,
    )


def refuse_open(fields: ClosedFields) -> None:
    """Refuse a schema with open fields, and say what can be done.

    Raises:
        PrivacyParameterError: If there is one.
    """
    if fields.is_closed:
        return
    closed = ", ".join(dict.fromkeys(".".join(each.path) for each in fields.closed)) or "none"
    raise PrivacyParameterError(
        f"Only closed fields can be chosen. Closed: {closed}. Open: {', '.join(fields.open)}. Make the open ones "
        "enums, booleans or integers with limits, or leave them out; generate(json_schema=...) writes the whole "
        "object, where each of max_tokens tokens costs as much as a closed field does."
    )


class _Form:
    """Puts the questions of a form to the model, with what was answered so far."""

    def __init__(
        self,
        messages: Sequence[Message],
        fields: ClosedFields,
        ask: Ask,
        remembers: bool,
        options: Options,
        backend: Backend,
        placeholder: Placeholder,
    ) -> None:
        self._messages, self._fields, self._remembers = messages, fields, remembers
        self._backend, self._placeholder = backend, placeholder
        self._tools = tools_to_show(options, backend)
        with errors_as(ViewError, "The function that puts fields into questions failed ({error})."):
            self._questions = [ask(each) for each in fields.closed]
        if not all(isinstance(each, str) and each.strip() for each in self._questions):
            raise ViewError("The function that puts fields into questions must return a text for each.")

    def put(self, number: int, answers: Sequence[str]) -> WrittenChoices:
        """Return the choices of a question behind the conversation and the answers before it, which are public."""
        turns: list[Message] = []
        for question, answer in zip(
            self._questions[:number], answers if self._remembers else (), strict=False
        ):
            turns += [Message("user", question), Message("assistant", answer)]
        asked = Message("user", self._questions[number])
        views = build_views(
            [*self._messages, *turns, asked], self._backend.tokenizer, self._placeholder, self._tools
        )
        return write_behind(views, self._fields.closed[number].choices, self._backend)


def _check_steady(plan: Plan) -> None:
    """Refuse what totals could not be corrected for.

    Raises:
        PrivacyParameterError: If there is more than one unit, or the bias would not be public.
    """
    if len(plan.units) > 1:
        raise PrivacyParameterError(
            f"for_totals asks about one privacy unit at a time, and here are {len(plan.units)}. Give each document "
            "a request of its own."
        )
    if plan.options.prior != "uniform" or plan.options.accounting != "fixed":
        raise PrivacyParameterError("for_totals goes with prior='uniform' and accounting='fixed'.")


def _weights(fields: ClosedFields, shares: Mapping[str, float] | None) -> tuple[float, ...] | None:
    """Return the share of each question: a field's, divided evenly among the members of an array."""
    if shares is None:
        return None
    names = [".".join(each.path) for each in fields.closed]
    unknown = [name for name in shares if name not in names]
    if unknown:
        raise PrivacyParameterError(
            f"shares names {unknown[0]!r}, which is no closed field. Closed: {', '.join(dict.fromkeys(names))}."
        )
    return tuple(_validate.positive(shares.get(name, 1.0), "share") / names.count(name) for name in names)
