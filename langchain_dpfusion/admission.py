"""What a call says, admitted by the rule for unmarked text or refused, and sealed for whoever watches."""

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import BaseMessage

from dpfusion_core.adapters import Unmarked, effective_unmarked
from langchain_dpfusion.conversation import Turn, admit
from langchain_dpfusion.description import opaque_settings
from langchain_dpfusion.options import check_call, check_forms, pick
from langchain_dpfusion.sealed_messages import seal, unseal, with_digests
from langchain_dpfusion.settings import SealedSettings

# Arguments of LangChain's methods that stand beside the options of a call.
_OF_RUNS = frozenset(
    {
        *("version", "tags", "metadata", "run_name", "run_id"),
        *("include_names", "include_types", "include_tags"),
        *("exclude_names", "exclude_types", "exclude_tags"),
    }
)


def admitted(
    settings: SealedSettings, messages: Sequence[BaseMessage], call: Mapping[str, Any]
) -> tuple[Unmarked, list[Turn]]:
    """Return the rule of a call, and its conversation as it was decided by that rule.

    Args:
        settings: Of the chat model.
        messages: The conversation, sealed or not.
        call: The options of the call.

    Raises:
        PrivacyParameterError: If an option is unknown, or none that it can be.
        RefusedError: If the rule refuses the conversation.
        ViewError: If a message is malformed.
        UnsupportedError: If a message holds something else than text.
    """
    call = check_call({name: value for name, value in call.items() if name not in _OF_RUNS})
    check_forms(call)
    ledger = settings.charged_ledger
    said = (pick(name, call, settings) for name in ("epsilon", "beta"))
    has_budget = ledger is not None or any(each is not None for each in said)
    unmarked = effective_unmarked(pick("unmarked", call, settings), has_budget=has_budget)
    return unmarked, admit(unseal(messages), unmarked, has_ledger=ledger is not None)


def sealed(
    settings: SealedSettings, messages: Sequence[BaseMessage], call: Mapping[str, Any] | None
) -> list[BaseMessage]:
    """Return messages as callbacks and traces may see them.

    Args:
        settings: Of the chat model.
        messages: The conversation.
        call: The options of the call, by whose rule it is refused or admitted first. None if they are not
            known yet: then nothing is refused.
    """
    unmarked: Unmarked = "public" if call is None else admitted(settings, messages, call)[0]
    if settings.trace_private:
        return list(messages)
    is_counted = pick("retrieval", call or {}, settings) != "covered"
    return seal(messages, unmarked, settings.shown_placeholder, is_counted=is_counted)


def digested(
    settings: SealedSettings, messages: Sequence[BaseMessage], call: Mapping[str, Any]
) -> list[BaseMessage]:
    """Return messages as the key of LangChain's cache may hold them: sealed, each with a digest of its text."""
    key = None if settings.cache_key is None else settings.cache_key.get_secret_value().encode()
    unmarked: Unmarked = pick("unmarked", call, settings) or "public"
    return with_digests(seal(messages, unmarked, settings.shown_placeholder), key, opaque_settings(settings))
