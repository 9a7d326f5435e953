"""Calls whose answer is one of few: they are answered by choices, each of which costs what a token costs."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, cast

from dpfusion_core.choices import check_choices
from dpfusion_core.closed import ClosedFields, closed_fields
from dpfusion_core.engine import FusionEngine
from dpfusion_core.engine.routing import ANSWER
from dpfusion_core.errors import DPFusionError, PrivacyParameterError
from dpfusion_core.generation import Chunk
from dpfusion_core.messages import Message
from dpfusion_core.options import GenerationOptions, default_of, of_parts
from dpfusion_core.privacy.combining import both
from dpfusion_core.tool_calling import CHOOSE, CLOSE, OPEN, check_tools
from dpfusion_core.views import Views

log = logging.getLogger("dpfusion")

# A choice is no text: how long one may be and how its tokens are drawn say nothing of it.
_OF_TEXT = frozenset({*of_parts("sampling", "form", "engine"), "spending"}) - {
    "temperature",
    "seed",
    "curator",
}


@dataclass(frozen=True)
class Closed:
    """How a call is answered by choices.

    Attributes:
        choices: The answer is one of these.
        schema: The answer is an object of this schema, whose fields are all closed.
        tool: The answer is a call of this tool, with the object as its arguments.
        routes: Which tool is called, or none, is chosen first, for half of the budget.
    """

    choices: tuple[str, ...] = ()
    schema: Mapping[str, Any] | None = None
    tool: str | None = None
    routes: bool = False

    def answer(
        self, engine: FusionEngine, source: Sequence[Message] | Views, options: GenerationOptions
    ) -> Chunk:
        """Return the answer, in the form in which the model would have written it, as one chunk.

        Args:
            engine: Chooses.
            source: The conversation.
            options: The engine's options. Where nobody has asked for a choice, they are those of text: what says
                nothing of a choice is left out.

        Raises:
            DPFusionError: See :meth:`~dpfusion_core.FusionEngine.choose`.
        """
        if self.routes:
            return _routed(engine, cast(Sequence[Message], source), options)
        if self.schema is None:
            chosen = engine.choose(source, self.choices, **options)
            return Chunk(chosen.choice, (), "stop", chosen.guarantee, prompt_tokens=chosen.prompt_tokens)
        said = cast(GenerationOptions, {name: each for name, each in options.items() if name not in _OF_TEXT})
        filled = engine.fill(cast(Sequence[Message], source), self.schema, **said)
        text = json.dumps(filled.value, ensure_ascii=False)
        if self.tool is not None:
            text = f'{OPEN}\n{{"name": {json.dumps(self.tool)}, "arguments": {text}}}\n{CLOSE}'
        return Chunk(text, (), "stop", filled.guarantee, prompt_tokens=filled.prompt_tokens)


def closed_answer(
    source: Sequence[Message] | Views, options: GenerationOptions, choices: Sequence[str] | None = None
) -> Closed | None:
    """Return how a call is answered by choices; None if its answer has to be written.

    Choices are taken where they are given, and where private text meets a form that leaves few answers: a JSON
    schema, or a tool that must be called, whose fields are all closed. A form with open fields is written token by
    token; if some of it could have been chosen, the log says which, and what the rest costs. A consensus is always
    written, from what many documents say.

    Args:
        source: The conversation.
        options: The engine's options.
        choices: What the answer is one of, if the caller says so.

    Raises:
        PrivacyParameterError: If the choices are none.

    Example:
        >>> schema = {"properties": {"ward": {"enum": ["A", "B"]}}}
        >>> record = Message("user", "Ann lies in ward A.", is_private=True)
        >>> closed_answer([record], {"json_schema": schema}) == Closed(schema=schema)
        True
        >>> closed_answer([Message("user", "Which ward?")], {"json_schema": schema}) is None
        True
    """
    if choices is not None:
        return Closed(choices=check_choices(choices))
    if isinstance(source, Views) or options.get("mechanism") == "consensus":
        return None
    if not any(message.units for message in source):
        return None
    schema, tool = options.get("json_schema"), None
    if options.get("tools"):
        if schema is not None:  # the object, or a call
            return None
        schemas = check_tools(options.get("tools") or ())
        choice = options.get("tool_choice", "auto")
        if choice == CHOOSE and CHOOSE not in schemas:
            return Closed(routes=True)
        tool = next(iter(schemas)) if choice == "any" and len(schemas) == 1 else choice
        schema = schemas.get(tool)
    fields = _read(schema)
    if fields is None or not fields.closed:
        return None
    if fields.is_closed:
        return Closed(schema=schema, tool=tool)
    closed = ", ".join(dict.fromkeys(".".join(each.path) for each in fields.closed))
    _say_mixed(closed, ", ".join(fields.open), options.get("max_tokens", default_of("max_tokens")))
    return None


def _routed(engine: FusionEngine, source: Sequence[Message], options: GenerationOptions) -> Chunk:
    """Choose a tool, or none, and then its arguments or the answer, each within half of epsilon and of delta."""
    epsilon, delta = options.get("epsilon"), options.get("delta", default_of("delta"))
    if epsilon is None:
        raise PrivacyParameterError(
            f"tool_choice={CHOOSE!r} divides epsilon between the choice of a tool and what is then written: say "
            "epsilon, not order and beta."
        )
    halves: GenerationOptions = {**options, "epsilon": epsilon / 2, "delta": delta / 2}
    kept = {name: each for name, each in halves.items() if name not in _OF_TEXT or name == "tools"}
    chosen = engine.choose_tool(source, **cast(GenerationOptions, kept))
    then: GenerationOptions = {**halves, "tool_choice": "none" if chosen.choice == ANSWER else chosen.choice}
    closed = closed_answer(source, then)
    if closed is not None:
        answer = closed.answer(engine, source, then)
    else:
        result = engine.generate(source, **then)
        answer = Chunk(
            result.text,
            result.token_ids,
            result.finish_reason,
            result.guarantee,
            result.report,
            result.prompt_tokens,
        )
    assert answer.guarantee is not None  # both ways end with one
    read = chosen.prompt_tokens + (answer.prompt_tokens or 0)
    return replace(answer, guarantee=both(chosen.guarantee, answer.guarantee, epsilon), prompt_tokens=read)


@cache
def _say_mixed(closed: str, still_open: str, max_tokens: int) -> None:
    """Log, once for each schema, which fields could be chosen, and what the others cost; all of it is public."""
    log.warning(
        "The schema has closed fields (%s), each of which could be chosen for what one token costs, and open ones "
        "(%s), for which the whole object is written: the budget is spread over max_tokens=%d tokens. Make the open "
        "ones enums, booleans or integers with limits, or ask for them apart.",
        closed,
        still_open,
        max_tokens,
    )


def _read(schema: Any) -> ClosedFields | None:
    """Return the fields of a schema; None if choices cannot answer it, and the grammar may."""
    if not isinstance(schema, Mapping):
        return None
    try:
        return closed_fields(schema)
    except DPFusionError:
        return None
