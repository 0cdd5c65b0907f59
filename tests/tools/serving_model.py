"""SmolLM2 as the tests of clients serve it: with a chat template whose tools have a form."""
import tempfile
import unittest
from pathlib import Path

from server import SMOLLM2, Server

# Of the Hermes form: tools in the system message, calls in <tool_call> tags.
HERMES = """{%- if tools %}{{ '<|im_start|>system\\nYou may call functions. They are in <tools></tools>:\\n<tools>' }}
{%- for tool in tools %}{{ '\\n' + tool | tojson }}{% endfor %}{{ '\\n</tools>\\nCall one so:\\n<tool_call>\\n' }}
{{- '{"name": <name>, "arguments": <arguments>}\\n</tool_call><|im_end|>\\n' }}{% endif %}
{%- for message in messages %}{{ '<|im_start|>' + message.role + '\\n' }}
{%- if message.content %}{{ message.content }}{% endif %}
{%- for call in message.tool_calls or [] %}{{ '<tool_call>\\n' + call.function | tojson + '\\n</tool_call>' }}{% endfor %}
{{- '<|im_end|>\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""


def with_tools(directory):
    """Makes the model `smollm2` in the directory, of links to SmolLM2's files; its path."""
    model = Path(directory) / "smollm2"
    model.mkdir()
    for file in Path(SMOLLM2).iterdir():
        if file.name != "chat_template.jinja":
            (model / file.name).symlink_to(file.resolve())
    (model / "chat_template.jinja").write_text(HERMES)
    return model


class ServingTest(unittest.TestCase):
    """Of clients of the model `smollm2`."""
    @classmethod
    def serve(cls, *flags):
        """Starts the server that all tests of the class share."""
        temporary = tempfile.TemporaryDirectory()
        cls.addClassCleanup(temporary.cleanup)
        cls.server = Server(with_tools(temporary.name), *flags)
        cls.addClassCleanup(cls.server.stop)
