"""Answers that are objects of a schema: what is asked of the model, and how its answer is read."""

from operator import itemgetter
from typing import Any, Literal

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser, StrOutputParser
from langchain_core.output_parsers.openai_tools import JsonOutputKeyToolsParser, PydanticToolsParser
from langchain_core.runnables import Runnable, RunnableMap, RunnablePassthrough
from langchain_core.utils.pydantic import is_basemodel_subclass

from dpfusion_core.errors import PrivacyParameterError
from langchain_dpfusion.options import openai_tools

Method = Literal["function_calling", "json_schema", "json_mode"]


def structured(
    llm: BaseChatModel, schema: Any, method: Method, include_raw: bool, options: dict[str, Any]
) -> Runnable[LanguageModelInput, Any]:
    """Return a model whose answers are objects of a schema; see ``ChatDPFusion.with_structured_output``.

    Raises:
        PrivacyParameterError: If the schema or the method is none.
    """
    is_class = isinstance(schema, type) and is_basemodel_subclass(schema)
    options = {**options, "ls_structured_output_format": {"kwargs": {"method": method}, "schema": schema}}
    parser: Runnable[Any, Any]
    if method == "function_calling":
        name = openai_tools([schema])[0]["function"]["name"]
        bound = llm.bind_tools([schema], tool_choice=name, **options)
        if is_class:
            parser = PydanticToolsParser(tools=[schema], first_tool_only=True)
        else:
            parser = JsonOutputKeyToolsParser(key_name=name, first_tool_only=True)
    elif method in ("json_schema", "json_mode"):
        form: dict[str, Any] = {"type": "json_object"}
        if method == "json_schema":
            function = openai_tools([schema])[0]["function"]
            form = {
                "type": method,
                "json_schema": {"name": function["name"], "schema": function["parameters"]},
            }
        bound = llm.bind(response_format=form, **options)
        parser = PydanticOutputParser(pydantic_object=schema) if is_class else JsonOutputParser()
    else:
        raise PrivacyParameterError(f"Unknown method of structured output: {method!r}.")
    return _parsed(bound, parser, include_raw)


def chosen(bound: Runnable[LanguageModelInput, Any], include_raw: bool) -> Runnable[LanguageModelInput, Any]:
    """Return a model whose answer is the text of a message; see ``ChatDPFusion.with_choices``."""
    return _parsed(bound, StrOutputParser(), include_raw)


def _parsed(
    bound: Runnable[LanguageModelInput, Any], parser: Runnable[Any, Any], include_raw: bool
) -> Runnable[LanguageModelInput, Any]:
    if not include_raw:
        return bound | parser
    parsed = RunnablePassthrough.assign(parsed=itemgetter("raw") | parser, parsing_error=lambda _: None)
    failed = RunnablePassthrough.assign(parsed=lambda _: None)
    return RunnableMap(raw=bound) | parsed.with_fallbacks([failed], exception_key="parsing_error")
