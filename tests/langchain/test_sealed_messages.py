"""Sealed messages: a placeholder to whoever looks, the text to the model alone."""

import copy
import pickle
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from dpfusion_core import ViewError
from langchain_dpfusion import mark_private, private_block
from langchain_dpfusion.conversation import Turn
from langchain_dpfusion.reading import read, to_core
from langchain_dpfusion.sealed_messages import seal, unseal, with_digests, without_text
from tests.langchain.leaks import SECRET, as_text

MESSAGES: list[BaseMessage] = [
    mark_private(HumanMessage(SECRET, id="1", name="Ann", additional_kwargs={"copy": SECRET})),
    HumanMessage([private_block(SECRET, "a"), {"type": "text", "text": "public", "cache_control": SECRET}]),
    mark_private(AIMessage(SECRET, response_metadata={"copy": SECRET})),
    mark_private(ToolMessage(SECRET, tool_call_id="1", status="error", artifact=[SECRET])),
]


@pytest.mark.parametrize("message", MESSAGES, ids=["human", "spans", "assistant", "tool"])
def test_a_sealed_message_shows_nothing_and_gives_everything_back(message: BaseMessage) -> None:
    (sealed,) = seal([message])
    for shown in (sealed, copy.deepcopy(sealed), sealed.model_copy(), sealed.model_dump(), dumps(sealed)):
        assert SECRET not in as_text(shown)
    assert isinstance(sealed, type(message))
    assert type(sealed).lc_id() == type(message).lc_id()
    assert (sealed.id, sealed.name, sealed.type) == (message.id, message.name, message.type)
    assert unseal([sealed]) == unseal([copy.deepcopy(sealed)]) == read(message)
    assert seal([sealed]) == [sealed]
    assert read_again(seal([sealed], "private")[0]) == read(message)


def test_public_messages_are_not_sealed() -> None:
    message = HumanMessage("x")
    assert seal([message])[0] is message
    assert seal([message], "private")[0].content == "____"
    assert seal([message], "private", "[hidden]")[0].content == "[hidden]"


def test_artifacts_and_documents_in_metadata_are_sealed_in_public_messages_too() -> None:
    found = [Document(SECRET, metadata={"source": "a", "note": SECRET})]
    public = {"is_private": False}
    messages: list[BaseMessage] = [
        ToolMessage("Found 1.", tool_call_id="1", artifact=found, additional_kwargs=public),
        HumanMessage("x", additional_kwargs={"context": {"documents": found}}),
        AIMessage("x", response_metadata={"source_documents": found, "nested": [{"page_content": SECRET}]}),
    ]
    sealed = seal(messages)
    assert SECRET not in as_text(sealed)
    assert [message.content for message in sealed] == ["Found 1.", "x", "x"]
    assert "source" in as_text(sealed[1])
    shown = Document("open", metadata={"is_private": False})
    message = HumanMessage("x", additional_kwargs={"documents": [shown]})
    assert seal([message])[0] is message


def test_a_pickle_has_lost_the_text_and_is_refused() -> None:
    pickled = pickle.dumps(seal(MESSAGES[:1])[0])
    assert SECRET.encode() not in pickled
    with pytest.raises(ViewError, match="private text is not there"):
        unseal([pickle.loads(pickled)])


def test_what_is_sealed_can_be_emptied() -> None:
    emptied = without_text(seal([*MESSAGES, HumanMessage("public")]))
    assert [message.type for message in emptied] == ["human", "human", "ai", "tool", "human"]
    assert not any(message.units for message in to_core(emptied, "private")[:4])
    assert SECRET not in as_text(emptied)


def read_again(message: BaseMessage) -> list[Turn]:
    return unseal([message])


def digest(message: BaseMessage, key: bytes | None = b"k" * 32, settings: str = "") -> Any:
    return with_digests(seal([message]), key, settings)[0].additional_kwargs["dp_fusion_digest"]


def test_digests_tell_texts_units_keys_and_settings_apart() -> None:
    message = mark_private(HumanMessage("x"))
    others = [
        digest(mark_private(HumanMessage("y"))),
        digest(mark_private(HumanMessage("x"), "a")),
        digest(mark_private(AIMessage("x"))),
        digest(HumanMessage([private_block("x"), " "])),
        digest(message, b"l" * 32),
        digest(message, None),
        digest(message, settings="tagger"),
    ]
    assert digest(message) == digest(message.model_copy(update={"id": "another"}))
    assert len({digest(message), *others}) == len(others) + 1
    assert with_digests([HumanMessage("x")], None, "")[0].additional_kwargs == {}
