"""Documents in prompts: private, each a unit of its own, through unmodified chains."""

import asyncio
from operator import itemgetter
from typing import Any

import pytest
from langchain_classic.chains import create_retrieval_chain
from langchain_classic.chains.combine_documents import create_stuff_documents_chain
from langchain_core.documents import Document
from langchain_core.messages import HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder, PromptTemplate
from langchain_core.runnables import RunnablePassthrough

from dpfusion_core import Segment, ViewError
from dpfusion_core.messages import DEFAULT_UNIT
from langchain_dpfusion import ChatDPFusion, PrivateDocumentFormatter, private_block, private_template
from langchain_dpfusion.reading import to_core
from tests.langchain.leaks import SECRET
from tests.langchain.records import documents, retriever
from tests.langchain.scripted import scripted_engine

DOCUMENTS = documents()


def segments(message: Any) -> list[Segment]:
    (translated,) = to_core([message])
    return list(translated.segments)


def test_each_document_is_a_unit_and_only_what_says_so_is_public() -> None:
    (message,) = PrivateDocumentFormatter().invoke(DOCUMENTS)
    assert segments(message) == [
        Segment(DOCUMENTS[0].page_content, True, "doc-1"),
        Segment("\n\n"),
        Segment(DOCUMENTS[1].page_content, True, "debts.txt"),
        Segment("\n\n"),
        Segment(DOCUMENTS[2].page_content),
    ]


@pytest.mark.parametrize("flag", [None, 0, "", "no", True])
def test_only_false_itself_makes_a_document_public(flag: object) -> None:
    (message,) = PrivateDocumentFormatter().invoke([Document("x", metadata={"is_private": flag})])
    assert segments(message) == [Segment("x", True, DEFAULT_UNIT)]


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("source", ["doc-1", "debts.txt"]),
        (lambda d: d.metadata.get("patient"), ["p-1", "debts.txt"]),
        (lambda d: 7, ["7", "7"]),
        (None, ["doc-1", "debts.txt"]),
    ],
)
def test_the_unit_is_what_the_caller_chose(unit: Any, expected: list[str]) -> None:
    (message,) = PrivateDocumentFormatter(unit=unit).invoke(DOCUMENTS[:2])
    assert [segment.unit for segment in segments(message) if segment.is_private] == expected


def test_the_caller_chooses_what_is_private_and_how_documents_are_written() -> None:
    formatter = PrivateDocumentFormatter(
        lambda d: "gout" in d.page_content,
        document_prompt=PromptTemplate.from_template("<{page_content}>"),
        separator=" | ",
    )
    (message,) = asyncio.run(formatter.ainvoke(DOCUMENTS))
    assert [s.is_private for s in segments(message)] == [True, False, False, False, False]
    assert segments(message)[0].text == f"<{DOCUMENTS[0].page_content}>"


def test_where_no_document_was_found_the_message_says_so_in_public() -> None:
    (message,) = PrivateDocumentFormatter().invoke([])
    assert segments(message) == [Segment("No documents were found.")]


@pytest.mark.parametrize("found", [[], [Document("open", metadata={"is_private": False})]])
def test_a_chain_answers_where_nothing_private_was_found(found: list[Document]) -> None:
    placed = ChatPromptTemplate.from_messages([MessagesPlaceholder("context"), ("human", "{input}")])
    for prompt, value in ((PROMPT, found), (placed, PrivateDocumentFormatter().invoke(found))):
        assert units((prompt | chat()).invoke({"context": value, "input": "?"})) == 0


def test_what_is_no_document_is_refused() -> None:
    with pytest.raises(ViewError, match="list of documents"):
        PrivateDocumentFormatter().invoke(["text"])  # type: ignore[list-item]


def test_a_formatted_message_that_is_put_into_a_string_does_not_show_its_text() -> None:
    messages = PrivateDocumentFormatter().invoke(DOCUMENTS)
    prompt = ChatPromptTemplate.from_messages([("system", "Context: {context}"), ("human", "?")])
    assert SECRET not in repr(prompt.invoke({"context": messages}))
    assert SECRET not in f"{messages} {messages[0]}"


# --- private_template ---


def test_the_words_of_a_template_are_public_and_its_values_private() -> None:
    prompt = ChatPromptTemplate.from_messages(
        [private_template("{{Records}}: {context}!"), ("human", "{input}")]
    )
    assert sorted(prompt.input_variables) == ["context", "input"]
    message, question = prompt.invoke({"context": "a {b} c", "input": "?"}).to_messages()
    texts = [(segment.text, segment.is_private) for segment in segments(message)]
    assert texts[-2:] == [("a {b} c", True), ("!", False)]
    assert "".join(text for text, _ in texts[:-2]) == "{Records}: "
    assert not any(is_private for _, is_private in texts[:-2])
    assert question == HumanMessage("?")


@pytest.mark.parametrize("value", [DOCUMENTS, PrivateDocumentFormatter().invoke(DOCUMENTS)])
def test_a_template_keeps_a_unit_for_each_document(value: Any) -> None:
    (message,) = ChatPromptTemplate.from_messages([private_template("Records: {context}")]).format_messages(
        context=value
    )
    assert [s.unit for s in segments(message) if s.is_private] == ["doc-1", "debts.txt"]
    assert segments(message)[-1] == Segment(DOCUMENTS[2].page_content)


def test_a_template_names_a_unit() -> None:
    (message,) = private_template("{x}", unit="u").format_messages(x="a")
    assert segments(message) == [Segment("a", True, "u")]
    assert segments(private_template("a {x}").format_messages(x="")[0]) == [Segment("a ")]


def test_a_template_names_what_is_public() -> None:
    template = private_template("{context} Question: {input}", public=["input"])
    (message,) = template.format_messages(context="a", input="b")
    assert [(s.text, s.is_private) for s in segments(message)] == [
        ("a", True),
        (" Question: ", False),
        ("b", False),
    ]
    for public in (["question"], "input"):
        with pytest.raises(ViewError, match="public"):
            private_template("{input}", public=public)


@pytest.mark.parametrize("template", ["{", "{}", "{a.b}", "{0}"])
def test_a_template_that_cannot_be_read_is_refused(template: str) -> None:
    with pytest.raises(ViewError, match="private template"):
        private_template(template)


# --- Chains ---


def chat() -> ChatDPFusion:
    def says(prompt: str) -> str:
        return "It knows." if SECRET in prompt else "It does not."

    return ChatDPFusion(engine=scripted_engine(says), epsilon=8.0, max_tokens=20)


def units(message: Any) -> int:
    number: int = message.response_metadata["dp_fusion"]["units"]
    return number


PROMPT = ChatPromptTemplate.from_messages(
    [("system", "Answer from the records."), private_template("{context}"), ("human", "{input}")]
)


def test_an_unmodified_stuff_documents_chain_is_private_as_a_whole() -> None:
    seen: list[Any] = []
    llm = chat()

    def watch(message: Any) -> Any:
        seen.append(message)
        return message

    chain = create_stuff_documents_chain(llm | watch, PROMPT)
    assert chain.invoke({"context": DOCUMENTS, "input": "?"}) == "It does not."
    assert units(seen[0]) == 1


def test_a_retrieval_chain_is_private_for_each_document() -> None:
    chain = create_retrieval_chain(retriever(), PROMPT | chat())
    result = chain.invoke({"input": "Who was treated?"})
    assert units(result["answer"]) == 2
    assert asyncio.run(chain.ainvoke({"input": "Who?"}))["answer"].text == "It does not."


def test_a_chain_of_runnables_is_private_for_each_document() -> None:
    prompt = ChatPromptTemplate.from_messages([MessagesPlaceholder("docs"), ("human", "{input}")])
    chain = (
        {"docs": retriever() | PrivateDocumentFormatter(), "input": RunnablePassthrough()} | prompt | chat()
    )
    assert units(chain.invoke("Who was treated?")) == 2
    assert "".join((chain | StrOutputParser()).stream("Who?")) == "It does not."


def test_the_private_view_does_read_the_documents() -> None:
    llm = chat().bind(epsilon=None, alpha=2.0, beta=500.0)
    assert (PROMPT | llm).invoke({"context": DOCUMENTS[:1], "input": "?"}).text == "It knows."


def test_braces_and_block_types_in_documents_are_text() -> None:
    document = Document('{input} {"type": "image"} <|im_end|>', metadata={"source": "d"})
    message = PROMPT.invoke({"context": [document], "input": "?"}).to_messages()[1]
    assert segments(message)[0].text == document.page_content


def test_items_of_a_chain_pass_through() -> None:
    chain = (
        RunnablePassthrough.assign(context=itemgetter("context") | PrivateDocumentFormatter())
        | PROMPT
        | chat()
    )
    assert units(chain.invoke({"context": DOCUMENTS, "input": "?"})) == 2
    assert private_block("x")["type"] == "text"


@pytest.mark.parametrize("template", ["Records: {context!r}", "Records: {context:>40}"])
def test_a_template_asks_for_no_form_that_nobody_would_write(template: str) -> None:
    with pytest.raises(ViewError, match="private template"):
        private_template(template)
