"""From messages and options to a request that is ready to run."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dpfusion_core.backends import Backend
from dpfusion_core.consensus.mechanism import Question, make_question
from dpfusion_core.constraints import Grammars
from dpfusion_core.errors import PrivacyParameterError, UnsupportedError, ViewError
from dpfusion_core.ledger import PrivacyLedger
from dpfusion_core.messages import Message
from dpfusion_core.options import GenerationOptions, LogitsProcessor, Options, default_of, read_options
from dpfusion_core.placeholders import Placeholder
from dpfusion_core.planning import Plan, make_plan
from dpfusion_core.privacy.guarantee import Tagging
from dpfusion_core.sampling import Sampling
from dpfusion_core.tagging.narrowing import Narrowing
from dpfusion_core.tool_calling import CHOOSE, check_tools, supports_tools
from dpfusion_core.views import Views, build_views

log = logging.getLogger("dpfusion")

MANY_UNITS = 50
"""Requests with more privacy units than this log what they will cost before they begin."""


@dataclass(frozen=True)
class Request:
    """A request that has passed every check that needs no model."""

    views: Views
    plan: Plan | None  # None: no private text
    tagging: Tagging
    options: Options
    sampling: Sampling
    processors: tuple[LogitsProcessor, ...]


def prepare(
    messages: Sequence[Message] | Views,
    given: GenerationOptions,
    *,
    backend: Backend,
    grammars: Grammars,
    ledger: PrivacyLedger | None,
    narrowing: Narrowing | None,
    placeholder: Placeholder,
) -> Request:
    """Check everything that can be checked before the model computes.

    Args:
        messages: The conversation, or ready views.
        given: The request's options.
        backend: The model.
        grammars: Makes the masks for output in a given form.
        ledger: The accounts of privacy units.
        narrowing: Narrows private messages to the private phrases in them.
        placeholder: What stands in the place of private text.

    Raises:
        DPFusionError: See :meth:`~dpfusion_core.FusionEngine.generate`.
    """
    options = read_options(given, "a request")  # a mistake must not cost a tagger's work
    if options.prior != default_of("prior"):
        raise PrivacyParameterError("prior is for choices (FusionEngine.choose), not for text. Leave it out.")
    sampling = Sampling(options.temperature, options.top_k, options.top_p, options.min_p)
    views, tagging = read_messages(
        messages, options, backend=backend, ledger=ledger, narrowing=narrowing, placeholder=placeholder
    )
    plan = make_plan(options, views.units, ledger) if views.units else None
    check_sampling(views, options)
    check_length(views, backend, options.max_tokens, f"max_tokens={options.max_tokens}")
    return Request(
        views=views,
        plan=plan,
        tagging=tagging,
        options=options,
        sampling=sampling,
        processors=(*options.logits_processors, *_constraints(options, grammars, bool(views.units))),
    )


def options_of_each(
    conversations: Sequence[object], each: Sequence[GenerationOptions] | None, common: GenerationOptions
) -> list[GenerationOptions]:
    """Return the options of each conversation of a batch: its own on top of the common ones.

    Raises:
        PrivacyParameterError: If there are not as many as conversations.
    """
    own: Sequence[GenerationOptions] = [{}] * len(conversations) if each is None else each
    if len(own) != len(conversations):
        raise PrivacyParameterError(
            f"Expected options for {len(conversations)} conversations, got {len(own)}."
        )
    return [{**common, **more} for more in own]


def read_messages(
    messages: Sequence[Message] | Views,
    options: Options,
    *,
    backend: Backend,
    ledger: PrivacyLedger | None,
    narrowing: Narrowing | None,
    placeholder: Placeholder,
) -> tuple[Views, Tagging]:
    """Return the views of a conversation, and how it was tagged; for the arguments see :func:`prepare`."""
    tagging: Tagging = "none"
    if isinstance(messages, Views):
        _say_cost(len(messages.units))
        return messages, tagging
    check_messages(messages)
    if narrowing is not None:
        messages, whole = narrowing(messages, ledger)
        tagging = "whole message" if whole else "phrases"
    _say_cost(len({unit for message in messages for unit in message.units}))
    return build_views(messages, backend.tokenizer, placeholder, tools_to_show(options, backend)), tagging


def check_messages(messages: Sequence[Message]) -> None:
    """Refuse what is no conversation."""
    if isinstance(messages, str | Views) or not all(isinstance(each, Message) for each in messages or ()):
        raise ViewError("Expected a list of Message, for example [Message('user', 'Good morning.')].")


def check_sampling(views: Views, options: Options) -> None:
    """Refuse to take the most probable where something is private."""
    if views.units and options.temperature == 0.0:
        raise PrivacyParameterError(
            "temperature=0 (greedy decoding) cannot be private: which token is the most probable "
            "tells too much. Use a temperature above 0 for requests with private text."
        )


def check_length(views: Views, backend: Backend, more: int, what: str) -> None:
    """Refuse views that do not fit the model together with ``more`` tokens."""
    limit = backend.context_length
    if limit is not None and max(map(len, views.prompts)) + more > limit:
        # The length of a private view is private; the public view's is not.
        raise ViewError(
            f"A view and {what} together exceed the model's context of {limit} tokens (the public view has "
            f"{len(views.public)}). Shorten the messages{' or lower max_tokens' if 'max_tokens' in what else ''}."
        )


def prepare_question(
    messages: Sequence[Message] | Views,
    given: GenerationOptions,
    *,
    ledger: PrivacyLedger | None,
    narrowing: Narrowing | None,
    placeholder: Placeholder,
) -> Question:
    """Check everything of a question to many documents that can be checked before the model computes.

    Raises:
        DPFusionError: See :meth:`~dpfusion_core.FusionEngine.generate`.
    """
    options = read_options(given, "a request")
    if isinstance(messages, Views):
        raise UnsupportedError(
            "mechanism='consensus' asks each document by itself, so it needs messages, not ready views."
        )
    question = make_question(messages, options, placeholder, ledger)
    if narrowing is None:
        return question
    if options.retrieval == "covered":
        raise UnsupportedError(
            "A tagger and retrieval='covered' exclude each other: what the tagger leaves public, and whether it found "
            "anything, would tell which documents take part. Use an engine without a tagger: documents are private "
            "as wholes."
        )
    narrowed, whole = narrowing(messages, ledger)
    return make_question(narrowed, options, placeholder, ledger, "whole message" if whole else "phrases")


def _say_cost(units: int) -> None:
    """Warn of a request with many units; how many there are is public."""
    if units > MANY_UNITS:
        log.warning(
            "The request has %d privacy units: %d prompts are read and kept in memory, and every token takes "
            "the work of %d. Give what belongs together one unit, or send fewer documents.",
            units,
            units + 1,
            units + 1,
        )


def tools_to_show(options: Options, backend: Backend) -> Sequence[Any] | None:
    """Return the tools to show to the model."""
    tools = options.tools
    if not tools or options.tool_choice == "none":
        return None
    if not supports_tools(backend.tokenizer):
        raise UnsupportedError(
            "The model's chat template does not show tools. Use a model that was trained for tools, "
            "or set `tokenizer.chat_template` to a template that does."
        )
    return tools


def _constraints(options: Options, grammars: Grammars, is_private: bool) -> tuple[LogitsProcessor, ...]:
    """Return what keeps the output in the form that was asked for."""
    schema, choice = options.json_schema, options.tool_choice
    if choice == CHOOSE and CHOOSE not in check_tools(options.tools or ()):
        if is_private:
            raise PrivacyParameterError(
                f"tool_choice={CHOOSE!r} is two requests: FusionEngine.choose_tool, then generate with the name that "
                "was chosen, or 'none'. LangChain and LlamaIndex make both."
            )
        choice = "auto"
    if choice not in ("auto", "none"):
        if schema is not None:
            raise PrivacyParameterError(
                "json_schema and a tool_choice that forces a call exclude each other."
            )
        return (grammars.call(options.tools or (), choice),)
    if schema is None:
        return ()
    tools = options.tools
    if tools and choice == "auto":  # an agent's answer has the form; its calls on the way have their own
        return (grammars.call(tools, "any", otherwise=schema),)
    return (grammars.json(schema),)
