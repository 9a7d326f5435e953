"""What an agent asks a confidential corpus, and retrieval by each document's own score."""

import asyncio
import re
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.messages import HumanMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnablePassthrough
from langchain_core.vectorstores import InMemoryVectorStore

from dpfusion_core import FusionEngine, PrivacyBudget, PrivacyLedger, PrivacyParameterError, ScriptedBackend
from langchain_dpfusion import (
    ChatDPConsensus,
    ChatDPFusion,
    DPThresholdRetriever,
    PrivateDocumentFormatter,
    create_corpus_tools,
)
from langchain_dpfusion.corpus_tools import SPENT
from tests.langchain.leaks import SECRET, Recorder
from tests.langchain.readers import Reader, city_of, town

BUDGET = PrivacyBudget(epsilon=8.0)


def read(prompt: str) -> str:
    """Answer about one letter, or write from what many letters say."""
    if "yes or no" in prompt:
        return "yes" if re.search(r"letter \d+ late", prompt) else "no"
    if "number only" in prompt:
        found = re.search(r"in (\d+) days", prompt)
        return found[1] if found else "none"
    if re.search("^- parcel", prompt, re.MULTILINE):
        return "The parcels."
    return "parcel was late" if re.search(r"letter \d+ late", prompt) else "nothing"


def letters(many: int = 100, late: int = 60) -> list[Document]:
    return [
        Document(
            f"{SECRET} got letter {n} {'late' if n < late else 'well'} in {n % 10} days.",
            metadata={"source": f"{n}.txt"},
        )
        for n in range(many)
    ]


def tools(documents: Any = None, llm: Any = None, **options: Any) -> tuple[list[Any], Reader]:
    reader = Reader(say=read)
    llm = ChatDPConsensus(llm=reader) if llm is None else llm
    documents = letters() if documents is None else documents
    return create_corpus_tools(llm, documents, **{"budget": BUDGET, "questions": 4, **options}), reader


def called(tool: Any, recorder: Recorder | None = None, **arguments: Any) -> Any:
    call = {"type": "tool_call", "name": tool.name, "id": "1", "args": arguments}
    return tool.invoke(call, {"callbacks": [recorder] if recorder else []})


def number(text: str) -> float:
    found = re.match(r"About (-?[\d.]+)", text)
    assert found
    return float(found[1].rstrip("."))


def test_an_agent_asks_how_many_how_much_and_what_most_say() -> None:
    (count, measure, ask), reader = tools()
    recorder = Recorder()
    counted = called(count, recorder, question="Was it late?")
    assert 45 < number(counted.text) < 75
    mean = called(measure, recorder, question="In how many days?", lower=0, upper=10)
    assert 3.0 < number(mean.text) < 6.0
    median = called(measure, recorder, question="In how many days?", lower=0, upper=10, statistic="median")
    assert 2.0 < number(median.text) < 7.0
    most = called(ask, recorder, question="What is wrong?")
    assert most.text.startswith("The parcels.\nWhat many say: parcel was late (about ")
    for message, mechanism in (
        (counted, "count"),
        (mean, "measure"),
        (median, "measure"),
        (most, "consensus"),
    ):
        said = message.artifact["dp_fusion"]
        assert (said["mechanism"], said["units"]) == (mechanism, 100)
        assert said["epsilon"] <= BUDGET.epsilon
        assert message.content[0]["extras"] == {"is_private": False}
    assert reader.asked
    assert SECRET not in recorder.text()


def test_all_questions_together_stay_within_the_budget() -> None:
    """The oracle is a ledger: whatever is asked in whatever order, no account spends more than its budget."""
    with PrivacyLedger("sqlite://", budget=BUDGET, key="k" * 32) as ledger:
        (count, measure, ask), _ = tools(
            llm=ChatDPConsensus(llm=Reader(say=read), ledger=ledger), questions=5
        )
        called(count, question="Was it late?")
        called(ask, question="What is wrong?")
        called(measure, question="In how many days?", lower=0, upper=10)
        called(measure, question="In how many days?", lower=0, upper=10, statistic="median")
        account = ledger.account("7.txt")
        assert 0.0 < account.spent_epsilon <= BUDGET.epsilon


@pytest.mark.parametrize("is_async", [False, True])
def test_a_spent_budget_is_said_and_no_document_is_asked(is_async: bool) -> None:
    (count, _, ask), reader = tools(questions=2)
    for _ in range(2):
        assert called(count, question="Was it late?").text.startswith("About")
    asked = len(reader.asked)
    for tool in (count, ask):
        question = {"question": "Was it late?"}
        found = asyncio.run(tool.ainvoke(question)) if is_async else tool.invoke(question)
        assert found == [{"type": "text", "text": SPENT, "extras": {"is_private": False}}]
    assert len(reader.asked) == asked


def test_a_question_that_is_refused_costs_nothing() -> None:
    (count, measure, _), reader = tools(questions=1)
    assert "lower" in called(measure, question="In how many days?", lower=10, upper=0).text
    assert not reader.asked
    assert called(count, question=" ").text.startswith("Expected a question")
    assert called(count, question="Was it late?").text.startswith("About")
    assert called(count, question="Was it late?").text == SPENT


def test_a_model_of_ours_reads_too() -> None:
    backend = ScriptedBackend.saying(read, context_length=2048)
    llm = ChatDPFusion(engine=FusionEngine(backend))
    (count, _, ask), _ = tools(letters(40, 40), llm=llm, questions=2)
    assert 25 < number(called(count, question="Was it late?").text) < 55
    assert "parcel was late" in called(ask, question="What is wrong?").text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"llm": Reader()}, "Expected llm"),
        ({"budget": 8.0}, "Expected llm"),
        ({"questions": 0}, "questions"),
        ({"documents": ["Ann"]}, "Expected documents"),
        ({"question": 3}, "Did you mean 'questions'"),
    ],
    ids=str,
)
def test_tools_are_not_made_of_bad_arguments(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(PrivacyParameterError, match=words):
        tools(**arguments)


def test_a_ledger_takes_no_documents_that_an_index_names_anew() -> None:
    with PrivacyLedger("sqlite://", budget=BUDGET, key="k" * 32) as ledger:
        llm = ChatDPConsensus(llm=Reader(say=read), ledger=ledger)
        with pytest.raises(PrivacyParameterError, match="something that stays"):
            tools([Document("It came late.")], llm=llm)


# --- Retrieval by own score ---


class Towns(Embeddings):
    """Oslo lies in one direction, all else in another."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return [1.0, 0.0] if "Oslo" in text else [0.1, 1.0]


def store(oslo: int = 300, other: int = 40) -> InMemoryVectorStore:
    found = InMemoryVectorStore(Towns())
    texts = [*town(oslo), *town(other, "Bergen")]
    found.add_texts(texts, metadatas=[{"source": f"{n}.txt"} for n in range(len(texts))])
    return found


@pytest.mark.parametrize("oslo", [0, 1, 63, 64, 65, 300])
def test_all_documents_that_pass_are_found_however_many(oslo: int) -> None:
    found = DPThresholdRetriever(vectorstore=store(oslo), threshold=0.9).invoke("Who lives in Oslo?")
    assert len(found) == oslo
    assert all("Oslo" in document.page_content for document in found)
    assert (
        len(asyncio.run(DPThresholdRetriever(vectorstore=store(oslo), threshold=0.9).ainvoke("Oslo"))) == oslo
    )


def test_a_document_more_displaces_none() -> None:
    """What top k does to its neighbours: with one more document, another one would be gone."""
    fewer, more = store(100), store(101)
    taken = [
        {
            document.page_content
            for document in DPThresholdRetriever(vectorstore=each, threshold=0.9).invoke("Oslo")
        }
        for each in (fewer, more)
    ]
    assert taken[0] < taken[1]
    assert len(taken[1] - taken[0]) == 1


class Distances(InMemoryVectorStore):
    """Gives distances, as many stores do."""

    def similarity_search_with_score(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        found = super().similarity_search_with_score(query, k, **kwargs)
        return [(document, 1.0 - score) for document, score in found]


def test_distances_are_closer_if_lower_and_the_wrong_way_is_refused() -> None:
    near = Distances(Towns())
    near.add_texts([*town(100), *town(9, "Bergen")])
    assert len(DPThresholdRetriever(vectorstore=near, threshold=0.1, closer="lower").invoke("Oslo")) == 100
    with pytest.raises(PrivacyParameterError, match="closer='lower'"):
        DPThresholdRetriever(vectorstore=near, threshold=-0.5).invoke("Oslo")


@pytest.mark.parametrize(
    "arguments",
    [
        {"threshold": float("nan")},
        {"threshold": "0.5"},
        {"threshold": 0.5, "closer": "nearer"},
        {"threshold": 0.5, "search_kwargs": {"k": 4}},
        {"treshold": 0.5},
        {"threshold": 0.5, "vectorstore": "store"},
    ],
    ids=str,
)
def test_what_is_no_threshold_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(PrivacyParameterError):
        DPThresholdRetriever(**{"vectorstore": store(1), **arguments})


def test_tools_over_a_threshold_hide_how_many_took_part() -> None:
    retriever = DPThresholdRetriever(vectorstore=store(60), threshold=0.9)
    reader = Reader(say=lambda prompt: "yes" if "yes or no" in prompt else city_of(prompt))
    (count, _, ask), _ = tools(retriever, llm=ChatDPConsensus(llm=reader), questions=3)
    recorder = Recorder()
    counted = called(count, recorder, question="Who lives in Oslo?")
    most = called(ask, recorder, question="Where do they live, in Oslo?")
    for message in (counted, most):
        said = message.artifact["dp_fusion"]
        assert (said["units"], said["retrieval"]) == (None, "covered")
    assert 45 < number(counted.text) < 75
    assert SECRET not in recorder.text()
    assert "about" in called(count, question="Who lives in Bergen?").text.lower()  # few, and no error


@pytest.mark.parametrize("oslo", [0, 40])
def test_a_chain_over_a_threshold_shows_as_much_when_nothing_is_found(oslo: int) -> None:
    reader = Reader()
    recorder = Recorder()
    llm = ChatDPConsensus(llm=reader, epsilon=4.0, retrieval="covered")
    formatter = PrivateDocumentFormatter(retrieval="covered")
    documents = DPThresholdRetriever(vectorstore=store(oslo), threshold=0.9).invoke("Oslo")
    (found,) = formatter.invoke(documents)
    answer = llm.invoke([found, HumanMessage("Where do they live?")], {"callbacks": [recorder]})
    said = answer.response_metadata["dp_fusion"]
    assert (said["units"], said["retrieval"]) == (None, "covered")
    assert said["items"] == ([] if oslo == 0 else said["items"])
    assert reader.asked[0] == "____\nWhere do they live? In a few words, no sentence."
    started = recorder.text("on_chat_model_start")
    assert "No documents" not in started
    assert ".txt" not in started
    with pytest.raises(PrivacyParameterError, match="retrieval"):
        PrivateDocumentFormatter(retrieval="top k")  # type: ignore[arg-type]


def test_a_whole_chain_with_covered_retrieval() -> None:
    chain = (
        {
            "docs": DPThresholdRetriever(vectorstore=store(60), threshold=0.9)
            | PrivateDocumentFormatter(retrieval="covered"),
            "input": RunnablePassthrough(),
        }
        | ChatPromptTemplate([("placeholder", "{docs}"), ("human", "{input}")])
        | ChatDPConsensus(llm=Reader(), epsilon=4.0, retrieval="covered")
    )
    answer = chain.invoke("Which town, Oslo?")
    assert answer.text == "They live in oslo."
