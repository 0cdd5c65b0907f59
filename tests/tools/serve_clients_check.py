#!/usr/bin/env python3
"""The official `openai` client against `stamp serve` with SmolLM2: nothing in it knows that the server is another."""
import asyncio
import json
import unittest

import openai

from program import stamp
from server import SMOLLM2
from serving_model import ServingTest

WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "The weather of a city",
    "parameters": {"type": "object", "additionalProperties": False, "required": ["city", "unit"],
                   "properties": {"city": {"type": "string", "maxLength": 20}, "unit": {"enum": ["celsius", "fahrenheit"]}}}}}
CAPITAL = [{"role": "user", "content": "What is the capital of France? Answer with one word."}]


@unittest.skipUnless(SMOLLM2, "needs STAMP_SMOLLM2_DIR")
class ClientTest(ServingTest):
    @classmethod
    def setUpClass(cls):
        cls.serve("--ctx", 2048, "--parallel", 8)
        cls.client = openai.OpenAI(base_url=cls.server.url + "/v1", api_key="none", max_retries=0, timeout=120)

    def chat(self, messages=CAPITAL, **fields):
        fields = {"model": "smollm2", "temperature": 0, "max_tokens": 24, **fields}
        return self.client.chat.completions.create(messages=messages, **fields)

    def test_models(self):
        self.assertEqual([m.id for m in self.client.models.list()], ["smollm2"])
        self.assertEqual(self.client.models.retrieve("smollm2").owned_by, "stamp")

    def test_chat_equals_the_command_line(self):
        answer = self.chat()
        text = answer.choices[0].message.content
        self.assertIn("Paris", text)
        rendered = "<|im_start|>user\n" + CAPITAL[0]["content"] + "<|im_end|>\n<|im_start|>assistant\n"
        alone = stamp("generate", "-m", SMOLLM2, "-p", rendered, "-n", 24, "--temp", 0)
        self.assertEqual(alone.stdout.rstrip("\n"), text)
        self.assertEqual(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens)

    def test_stream_equals_the_whole(self):
        whole = self.chat(logprobs=True, top_logprobs=2)
        with self.chat(stream=True, logprobs=True, top_logprobs=2, stream_options={"include_usage": True}) as stream:
            chunks = list(stream)
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        self.assertEqual(text, whole.choices[0].message.content)
        streamed = [t for c in chunks if c.choices and c.choices[0].logprobs for t in c.choices[0].logprobs.content]
        self.assertEqual(streamed, whole.choices[0].logprobs.content)
        self.assertEqual(chunks[-1].usage.completion_tokens, whole.usage.completion_tokens)
        self.assertEqual(b"".join(bytes(t.bytes) for t in streamed if not t.token.startswith("<|")).decode(), text)

    def test_completions(self):
        answer = self.client.completions.create(model="smollm2", prompt=["The sky is", "Once upon a"], max_tokens=5,
                                                temperature=0, logprobs=1, echo=True)
        self.assertTrue(answer.choices[0].text.startswith("The sky is"))
        for choice in answer.choices:
            logprobs = choice.logprobs
            self.assertEqual("".join(logprobs.tokens), choice.text)
            for token, logprob, top in list(zip(logprobs.tokens, logprobs.token_logprobs, logprobs.top_logprobs))[-5:]:
                self.assertEqual(top, {token: logprob})  # greedy

    def test_async_streams_at_once(self):
        async def one(client, i):
            stream = await client.chat.completions.create(
                model="smollm2", messages=CAPITAL, max_tokens=16, temperature=1, seed=i % 4, stream=True)
            return "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])

        async def all_of_them():
            async with openai.AsyncOpenAI(base_url=self.server.url + "/v1", api_key="none", timeout=120) as client:
                return await asyncio.gather(*(one(client, i) for i in range(12)))
        texts = asyncio.run(all_of_them())
        for i in range(4):
            self.assertEqual(len(set(texts[i::4])), 1)  # of the same seed
        self.assertGreater(len(set(texts)), 1)

    def test_forced_tool_call(self):
        for choice in ("required", {"type": "function", "function": {"name": "get_weather"}}):
            answer = self.chat([{"role": "user", "content": "How is the weather in Oslo?"}], tools=[WEATHER],
                               tool_choice=choice, parallel_tool_calls=False, max_tokens=80)
            self.assertEqual(answer.choices[0].finish_reason, "tool_calls")
            call, = answer.choices[0].message.tool_calls
            self.assertEqual(call.function.name, "get_weather")
            arguments = json.loads(call.function.arguments)
            self.assertEqual(set(arguments), {"city", "unit"})
            self.assertIn(arguments["unit"], ("celsius", "fahrenheit"))
        after = self.chat([{"role": "user", "content": "How is the weather in Oslo?"},
                           answer.choices[0].message.model_dump(exclude_none=True),
                           {"role": "tool", "tool_call_id": call.id, "content": "Sunny, 20 degrees"}], tools=[WEATHER])
        self.assertTrue(after.choices[0].message.content or after.choices[0].message.tool_calls)

    def test_streamed_tool_call(self):
        with self.chat([{"role": "user", "content": "How is the weather in Oslo?"}], tools=[WEATHER],
                       tool_choice="required", parallel_tool_calls=False, max_tokens=80, stream=True) as stream:
            chunks = list(stream)
        calls = [c for chunk in chunks for c in chunk.choices[0].delta.tool_calls or []]
        self.assertEqual(calls[0].function.name, "get_weather")
        json.loads("".join(c.function.arguments for c in calls))
        self.assertEqual(chunks[-1].choices[0].finish_reason, "tool_calls")

    def test_structured_output(self):
        schema = {"type": "object", "additionalProperties": False, "required": ["name", "age"],
                  "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer", "minimum": 0, "maximum": 120}}}
        person = [{"role": "user", "content": "Invent a person."}]
        answer = self.chat(person, max_tokens=100, response_format={
            "type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": schema}})
        value = json.loads(answer.choices[0].message.content)
        self.assertEqual((set(value), type(value["age"])), ({"name", "age"}, int))
        answer = self.chat(person, max_tokens=40, temperature=1.5, seed=5, extra_body={"guided_regex": "(yes|no), [0-9]{3}"})
        self.assertRegex(answer.choices[0].message.content, r"\A(yes|no), [0-9]{3}\Z")
        with self.assertRaises(openai.BadRequestError) as refused:
            self.chat(person, response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}})
        self.assertEqual(refused.exception.param, "response_format")

    def test_errors_have_their_types(self):
        with self.assertRaises(openai.NotFoundError):
            self.chat(model="gpt-9")
        with self.assertRaises(openai.BadRequestError) as refused:
            self.chat(temperature=-1)
        self.assertEqual(refused.exception.param, "temperature")
        with self.assertRaises(openai.BadRequestError) as refused:
            self.chat([{"role": "user", "content": "word " * 3000}])
        self.assertEqual(refused.exception.code, "context_length_exceeded")

    def test_loglikelihood_as_evaluation_harnesses_ask_for_it(self):
        """lm-eval's local-completions: token ids, echo, logprobs 1, one more token; sums over the continuation."""
        encode = lambda text: self.server.post("/tokenize", {"prompt": text, "add_special_tokens": False}).json()["tokens"]
        context, ends = encode("The capital of France is"), [encode(" Paris"), encode(" banana")]
        answer = self.client.completions.create(model="smollm2", prompt=[context + end for end in ends], max_tokens=1,
                                                temperature=0, logprobs=1, echo=True, seed=1234)
        sums, greedy = [], []
        for choice, end in zip(sorted(answer.choices, key=lambda c: c.index), ends):
            at = len(context)
            logprobs = choice.logprobs.token_logprobs[at:-1]
            self.assertEqual(len(logprobs), len(end))
            tops = choice.logprobs.top_logprobs[at:-1]
            tokens = choice.logprobs.tokens[at:-1]
            sums.append(sum(logprobs))
            greedy.append(all(token == max(top, key=top.get) for token, top in zip(tokens, tops)))
        self.assertEqual(greedy, [True, False])
        self.assertGreater(sums[0], sums[1])
        self.assertLess(sums[0], 0)


if __name__ == "__main__":
    unittest.main()
