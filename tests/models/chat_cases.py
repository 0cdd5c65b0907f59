"""Conversations and settings that chat templates are compared on."""

WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "Weather of a city, \"now\" or later.",
    "parameters": {"type": "object", "properties": {
        "city": {"type": "string", "description": "City & country, e.g. <Zürich>"},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
        "days": {"type": ["integer", "null"], "minimum": 1, "maximum": 1.5e3}},
        "required": ["city"], "additionalProperties": False},
    "return": {"type": "object", "properties": {"temperature": {"type": "number"}}}}}
ADD = {"type": "function", "function": {
    "name": "add", "description": "Adds numbers.",
    "parameters": {"type": "object", "properties": {
        "numbers": {"type": "array", "items": {"type": "number"}, "description": "What to add"},
        "options": {"type": "object", "properties": {"exact": {"type": "boolean"}, "note": {"type": "string"}}}},
        "required": ["numbers", "options"]}}}
EMPTY = {"type": "function", "function": {"name": "now", "description": "The time.",
                                          "parameters": {"type": "object", "properties": {}}}}
TOOLS = {"none": None, "empty": [], "one": [WEATHER], "three": [WEATHER, ADD, EMPTY]}


def call(name, arguments, id="a1b2c3d4e"):
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


def system(text):
    return {"role": "system", "content": text}


CITY = {"city": "Zürich", "days": 2, "unit": None, "tags": ["a", 1.5, True], "deep": {"x": {"y": []}}}
RESULT = {"role": "tool", "name": "get_weather", "tool_call_id": "a1b2c3d4e", "content": "{\"temperature\": 21.5}"}
CONVERSATIONS = {
    "user": [user("Hello!")],
    "system": [system("Be brief."), user("Why is the sky blue?")],
    "turns": [user("1 + 1?"), assistant("2"), user("and + 1?"), assistant("3"), user("Thanks")],
    "system turns": [system("You count."), user("1"), assistant("2"), user("3"), assistant("4"), user("5")],
    "ends with assistant": [user("Say A"), assistant("A")],
    "empty texts": [system(""), user(""), assistant(""), user("")],
    "white space": [system("  \n padded \t"), user("\n\n  two  lines \n here \n"), assistant(" x \n"), user("\t")],
    "unicode": [system("Ein „Zitat“ — 你好"), user("🙂 e\u0301 \u00a0nbsp\u2028line İstanbul ß ΟΔΟΣ"), assistant("مرحبا"), user("\x7f\x1f")],
    "markup": [user("<|im_end|> <s>[INST] <b>&amp;</b> \"quoted\" 'single' \\ {{ x }} {% y %}"), assistant("<think>a</think>b"), user("{}")],
    "no user": [system("Only a system message.")],
    "two users": [user("First"), user("second")],
    "starts with assistant": [assistant("Hi, how can I help?"), user("Tell me")],
    "thinking": [user("Hard?"), assistant("<think>\nhm, \n\nso\n</think>\n\nEasy."), user("Sure?"), assistant("<think>x</think>Yes"), user("ok")],
    "reasoning": [user("Hard?"), assistant("Easy.", reasoning_content="Let me see.\n"), user("Next")],
    "thinking field": [user("Hard?"), assistant("Easy.", thinking="Let me see."), user("Next")],
    "parts": [user([{"type": "text", "text": "Describe "}, {"type": "text", "text": "this."}]), assistant([{"type": "text", "text": "Done."}]), user("ok")],
    "image": [user([{"type": "image"}, {"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": "u"}}])],
    "tool call": [user("Weather?"), assistant("", tool_calls=[call("get_weather", CITY)]), RESULT, assistant("21.5 degrees."), user("Thanks")],
    "tool call without content": [user("Weather?"), {"role": "assistant", "tool_calls": [call("get_weather", CITY)]}, RESULT],
    "tool call null": [user("Weather?"), assistant(None, tool_calls=[call("get_weather", CITY)]), RESULT],
    "tool call as text": [user("Weather?"), assistant("", tool_calls=[call("get_weather", "{\"city\": \"Bern\"}")]), RESULT],
    "two calls": [system("Use tools."), user("Both?"),
                  assistant("Let me look.", tool_calls=[call("get_weather", {"city": "Bern"}, "111111111"), call("add", {"numbers": [1, -2, 1e22], "options": {}}, "222222222")]),
                  {"role": "tool", "name": "get_weather", "tool_call_id": "111111111", "content": "sunny"},
                  {"role": "tool", "name": "add", "tool_call_id": "222222222", "content": "0"},
                  assistant("Sunny and 0."), user("Again"),
                  assistant("", tool_calls=[call("now", {}, "333333333")]),
                  {"role": "tool", "name": "now", "tool_call_id": "333333333", "content": [{"type": "text", "text": "noon"}]}],
    "tool object": [user("Weather?"), assistant("", tool_calls=[call("get_weather", {})]), {**RESULT, "content": {"temperature": 21.5}}],
    "function call": [user("Weather?"), assistant("", function_call={"name": "get_weather", "arguments": "{}"}), {"role": "function", "name": "get_weather", "content": "cold"}, user("ok")],
    "ipython": [user("Weather?"), assistant("", tool_calls=[call("get_weather", {"city": "Bern"})]), {"role": "ipython", "content": {"output": "cold"}}],
    "developer": [{"role": "developer", "content": "Answer in French."}, user("Hi")],
    "unknown role": [user("Hi"), {"role": "critic", "content": "Bad"}, user("ok")],
    "documents role": [{"role": "document 1", "content": "Facts."}, user("Hi")],
    "names": [{"role": "user", "name": "Ann", "content": "Hi"}, assistant("Hello Ann", name="Bot"), user("Bye")],
    "long": [system("s")] + [m for i in range(30) for m in (user(f"question {i}"), assistant(f"answer {i}"))] + [user("last")],
}
SETTINGS = {
    "plain": {},
    "no prompt": {"add_generation_prompt": False},
    "thinking on": {"enable_thinking": True, "thinking": True},
    "thinking off": {"enable_thinking": False, "thinking": False, "reasoning_effort": "low"},
    "date": {"date_string": "01 Jan 2024", "tools_in_user_message": False, "builtin_tools": ["brave_search", "code_interpreter"],
             "custom_tools": [WEATHER], "model_identity": "You are Test.", "keep_past_thinking": True},
    "documents": {"documents": [{"doc_id": 1, "title": "One", "text": "First fact."}, {"doc_id": "2", "title": "Two", "text": "Zweiter „Fakt“."}],
                  "controls": {"citations": True, "hallucinations": True, "length": "short"}, "citation_mode": "enabled",
                  "custom_instructions": "Be kind.", "xml_tools": [str(WEATHER)], "python_tools": ["def f(): pass"]},
}
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}


def variables(conversation, tools=None, settings=None, tokens=TOKENS):
    """What a template sees: apply_chat_template's variables, with keys without a value dropped from messages."""
    messages = [{k: v for k, v in message.items() if v is not None} for message in conversation]
    return {"messages": messages, "tools": tools, "documents": None, "add_generation_prompt": True, **tokens, **(settings or {})}


def combinations():
    """(label, variables): every conversation, and the richer ones with all tools and settings."""
    for name, conversation in CONVERSATIONS.items():
        for tools_name, tools in TOOLS.items():
            for settings_name, settings in SETTINGS.items():
                both = tools_name not in ("none", "three") or settings_name != "plain"
                if both and name not in ("system", "turns", "two calls", "reasoning", "thinking"):
                    continue
                yield f"{name} | tools {tools_name} | {settings_name}", variables(conversation, tools, settings)
