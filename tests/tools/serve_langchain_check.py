#!/usr/bin/env python3
"""LangChain's ChatOpenAI against `stamp serve` with SmolLM2: nothing in it knows that the server is another."""
import asyncio
import os
import unittest
from typing import Literal

os.environ["LANGSMITH_TRACING"] = "false"  # nothing is reported to anybody
from langchain_core.messages import AIMessageChunk, HumanMessage, SystemMessage, ToolMessage  # noqa: E402
from langchain_core.output_parsers import StrOutputParser  # noqa: E402
from langchain_core.prompts import ChatPromptTemplate  # noqa: E402
from langchain_core.tools import tool  # noqa: E402
from langchain_openai import ChatOpenAI, OpenAI  # noqa: E402
from pydantic import BaseModel, Field  # noqa: E402

from server import SMOLLM2  # noqa: E402
from serving_model import ServingTest  # noqa: E402

CAPITAL = "What is the capital of France? Answer with one word."


@tool
def get_weather(city: Literal["Oslo", "Bergen"], unit: Literal["celsius", "fahrenheit"]) -> str:
    """The weather of a city."""
    return f"Sunny, 20 degrees {unit} in {city}"


class Person(BaseModel):
    """Somebody."""
    name: str = Field(max_length=12)
    age: int = Field(ge=0, le=120)


@unittest.skipUnless(SMOLLM2, "needs STAMP_SMOLLM2_DIR")
class LangChainTest(ServingTest):
    @classmethod
    def setUpClass(cls):
        cls.serve("--ctx", 2048, "--parallel", 4, "--api-key", "secret")
        cls.options = {"model": "smollm2", "base_url": cls.server.url + "/v1", "api_key": "secret", "temperature": 0,
                       "max_retries": 0, "timeout": 120}
        cls.chat = ChatOpenAI(max_tokens=24, stream_usage=True, **cls.options)

    def test_invoke(self):
        answer = self.chat.invoke([SystemMessage("Be brief."), HumanMessage(CAPITAL)])
        self.assertIn("Paris", answer.content)
        self.assertIn(answer.response_metadata["finish_reason"], ("stop", "length"))
        self.assertEqual(answer.response_metadata["model_name"], "smollm2")
        usage = answer.usage_metadata
        self.assertEqual(usage["total_tokens"], usage["input_tokens"] + usage["output_tokens"])

    def test_stream_equals_invoke(self):
        whole = self.chat.invoke(CAPITAL)
        chunks = list(self.chat.stream(CAPITAL))
        self.assertGreater(len(chunks), 3)
        total = sum(chunks[1:], chunks[0])
        self.assertIsInstance(total, AIMessageChunk)
        self.assertEqual(total.content, whole.content)
        self.assertEqual(total.response_metadata["finish_reason"], whole.response_metadata["finish_reason"])
        self.assertEqual(total.usage_metadata["output_tokens"], whole.usage_metadata["output_tokens"])

    def test_chain_in_a_batch(self):
        chain = ChatPromptTemplate.from_messages([("system", "Be brief."), ("user", "Name a {thing}.")]) | self.chat | StrOutputParser()
        things = [{"thing": thing} for thing in ("colour", "fruit", "city", "river")]
        at_once = asyncio.run(chain.abatch(things))
        self.assertEqual(at_once, [chain.invoke(thing) for thing in things])
        self.assertEqual(len(set(at_once)), 4)

    def test_tools_are_called_and_their_results_read(self):
        question = HumanMessage("How is the weather in Oslo?")
        for choice in ("any", "get_weather"):
            caller = self.chat.bind_tools([get_weather], tool_choice=choice, parallel_tool_calls=False).bind(max_tokens=80)
            answer = caller.invoke([question])
            self.assertEqual(answer.invalid_tool_calls, [])
            call, = answer.tool_calls
            result = get_weather.invoke(call)
            self.assertIsInstance(result, ToolMessage)
            self.assertIn("Sunny", result.content)
        chunks = list(caller.stream([question]))
        streamed, = sum(chunks[1:], chunks[0]).tool_calls
        self.assertEqual((streamed["name"], streamed["args"]), (call["name"], call["args"]))
        after = self.chat.bind_tools([get_weather], tool_choice="none").invoke([question, answer, result])
        self.assertTrue(after.content)
        self.assertEqual(after.tool_calls, [])

    def test_structured_output(self):
        chat = ChatOpenAI(max_tokens=100, **self.options)
        for method in ("json_schema", "function_calling"):
            person = chat.with_structured_output(Person, method=method).invoke("Invent a person.")
            self.assertIsInstance(person, Person)
        found = chat.with_structured_output(Person, method="json_schema", include_raw=True).invoke("Invent another person.")
        self.assertIsNone(found["parsing_error"])
        schema = {"title": "answer", "type": "object", "additionalProperties": False, "required": ["yes"],
                  "properties": {"yes": {"type": "boolean"}}}
        self.assertEqual(set(chat.with_structured_output(schema).invoke("Is the sky blue?")), {"yes"})

    def test_completions(self):
        complete = OpenAI(max_tokens=8, **self.options)
        whole = complete.invoke("The capital of France is")
        self.assertIn("Paris", whole)
        self.assertEqual("".join(complete.stream("The capital of France is")), whole)

    def test_logprobs(self):
        answer = self.chat.bind(logprobs=True, top_logprobs=2, max_tokens=4).invoke(CAPITAL)
        content = answer.response_metadata["logprobs"]["content"]
        self.assertEqual(len(content), 4)
        for token in content:
            self.assertEqual(token["logprob"], token["top_logprobs"][0]["logprob"])  # greedy


if __name__ == "__main__":
    unittest.main()
