"""The notebook runs offline, its committed outputs are there, and its examples do what it says of them."""

import ast
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler

from langchain_dpfusion import ChatDPFusion
from tests.langchain.leaks import SECRET
from tests.langchain.records import retriever
from tests.langchain.scripted import scripted_engine
from tests.langchain.test_tracing import calling
from tests.notebooks import check_answers, check_outputs, check_run, leaks, read

NOTEBOOK = "02_langchain_rag.ipynb"


def constants() -> dict[str, Any]:
    """Return the texts of the examples, without running the notebook."""
    cell = next(cell.source for cell in read(NOTEBOOK).cells if "EXAMPLES = {}" in cell.source)
    found: dict[str, Any] = {}
    for node in ast.parse(cell).body:
        if isinstance(node, ast.Assign):
            target = node.targets[0]
            if isinstance(target, ast.Name) and isinstance(node.value, ast.Constant):
                found[target.id] = node.value.value
            elif isinstance(target, ast.Subscript):
                found[ast.literal_eval(target.slice)] = ast.literal_eval(node.value)
    return found


@pytest.mark.filterwarnings("ignore::DeprecationWarning:zmq")  # of the kernel's messages
def test_the_notebook_runs_offline_and_puts_out_what_is_committed() -> None:
    text = check_run(NOTEBOOK)
    check_answers(text)
    plain, private = leaks(text)
    assert plain >= 8
    assert private == 0
    assert "image/png" in text
    assert "would fit" in text  # the refusal of what a budget cannot pay


def test_outputs_are_committed_and_hold_no_path_of_a_machine() -> None:
    check_outputs(NOTEBOOK)


class Units(BaseCallbackHandler):
    """Notes how many privacy units each answer had."""

    def __init__(self, seen: list[int]) -> None:
        self.seen = seen

    def on_llm_end(self, response: Any, **kwargs: Any) -> None:
        self.seen.append(response.generations[0][0].message.response_metadata["dp_fusion"]["units"])


@pytest.mark.parametrize(
    "name", ["chain of runnables", "create_retrieval_chain", "agent with a retriever tool"]
)
def test_the_examples_are_private_for_each_document(name: str) -> None:
    texts = constants()
    before, after = (source.strip().splitlines() for source in texts[name])
    assert len(before) == len(after)
    changed = [line for line, old in zip(after, before, strict=True) if line != old]
    assert texts["PRIVATE_MODEL"] in changed
    assert len(changed) <= 3  # the model line and two more

    def says(prompt: str) -> str:
        if SECRET in prompt:
            return "It leaks."
        return (
            calling(prompt).replace('"search"', '"search_records"')
            if "# Tools" in prompt
            else "Somebody was."
        )

    llm = ChatDPFusion(engine=scripted_engine(says), epsilon=8.0, max_tokens=80)
    names: dict[str, Any] = {"retriever": retriever(), "scripted": llm}
    source = texts["IMPORTS"] + texts[name][1].replace(texts["PRIVATE_MODEL"], "llm = scripted")
    seen: list[int] = []
    exec(source, names)  # the notebook's own code, on a scripted model
    config: Any = {"callbacks": [Units(seen)]}
    if "agent" in names:
        answer = names["agent"].invoke({"messages": [("human", "Who?")]}, config)["messages"][-1].text
    elif name == "create_retrieval_chain":
        answer = names["chain"].invoke({"input": "Who?"}, config)["answer"]
    else:
        answer = names["chain"].invoke("Who?", config)
    assert answer == "Somebody was."
    assert seen[-1] == 2
