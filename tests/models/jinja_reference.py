"""jinja2 as transformers sets it up for chat templates, and our program, side by side.

The environment is transformers' (utils/chat_template_utils.py of 4.57 and 5.24): immutable sandbox, trim_blocks,
lstrip_blocks, loop controls, the generation tag, its own tojson, raise_exception and strftime_now.
"""
import copy
import datetime
import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import jinja2
import jinja2.ext
import jinja2.sandbox

assert jinja2.__version__ == "3.1.6", f"needs jinja2 3.1.6, found {jinja2.__version__}"
os.environ["TZ"] = "UTC"
NOW = 1753690000  # 2025-07-28 08:06:40 UTC


class Generation(jinja2.ext.Extension):
    """{% generation %}: calls its body, as a call block does."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    @jinja2.pass_eval_context
    def _body(self, context, caller):
        return caller()


class TemplateDict:
    def __call__(self, *args, **kwargs):
        return dict(*args, **kwargs)


class TemplateNamespace(jinja2.utils.Namespace):
    def __init__(*args, **kwargs):
        attributes = dict(*args[1:], **kwargs)
        for name in attributes:
            TemplateNamespace.check(name)
        jinja2.utils.Namespace.__init__(args[0], attributes)

    def __setitem__(self, name, value):
        TemplateNamespace.check(name)
        jinja2.utils.Namespace.__setitem__(self, name, value)

    @staticmethod
    def check(name):
        if isinstance(name, str) and name.startswith("_"):
            raise jinja2.exceptions.SecurityError("underscore")


def environment(now=NOW):
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda format: datetime.datetime.fromtimestamp(now).strftime(format)
    env.globals["dict"] = TemplateDict()
    env.globals["namespace"] = TemplateNamespace
    return env


def reference(template, variables, now=NOW):
    """The text, or the exception. `template` is a text, a compiled template, or an exception already."""
    try:
        if isinstance(template, str):
            template = environment(now).from_string(template)
        if isinstance(template, Exception):
            return template
        # A copy, because [..]|indent adds to the list in place before it fails.
        return template.render(**copy.deepcopy(variables))
    except Exception as error:  # whatever Python raises counts as an error of the template
        return error


def driver():
    return Path(os.environ["STAMP_BUILD_DIR"]) / "tests" / "chat_template_cli"


def ours(requests):
    """The answers of our program: {"text": ...} or {"error": ...} for each request."""
    lines = "".join(json.dumps(request) + "\n" for request in requests)
    done = subprocess.run([driver()], input=lines, capture_output=True, encoding="utf-8", timeout=600)
    answers = done.stdout.split("\n")[:-1]  # splitlines() would also cut at U+2028
    if done.returncode != 0 or len(answers) != len(requests):
        at = requests[min(len(answers), len(requests) - 1)]
        sys.exit(f"the driver ended with {done.returncode} at {json.dumps(at)[:2000]}\n{done.stderr}")
    return [json.loads(answer) for answer in answers]


# What we refuse although Python has a result: the only accepted differences.
REFUSALS = re.compile("|".join([
    r"printing a '[a-zA-Z ]+' object is not supported",  # Python prints its address
    r"not fit 64 bits", r"complex numbers are not supported", r"surrogates (in a string )?are not supported",
    r"sets are not supported", r"the (filter|method|function|format code) '[a-zA-Z._]+' is not supported",
]))


def message_of(error):
    """What our message must end with: raise_exception's words, and jinja2's about undefined values, but for those that
    name a type which has no such name here."""
    if type(error) is jinja2.exceptions.TemplateError:
        return str(error)
    same_names = type(error) is jinja2.exceptions.UndefinedError and not re.search("dict_|iterator|method|LoopContext|Namespace|Markup", str(error))
    return str(error) if same_names else ""


def compare(cases, show=20, compiled=None, quiet=False):
    """Renders (label, template, variables) both ways; prints what differs and returns how many do. `compiled` saves
    compiling one template again for each case."""
    warnings.simplefilter("ignore")
    answers = ours([{"template": t, "variables": v, "now": NOW} for _, t, v in cases])
    failures = refused = 0
    for (label, template, variables), answer in zip(cases, answers):
        expected = reference(compiled or template, variables)
        failed = isinstance(expected, Exception)
        if ("error" in answer) == failed and (answer["error"].endswith(message_of(expected)) if failed else answer["text"] == expected):
            continue
        if REFUSALS.search(answer.get("error", "")):
            refused += 1
            continue
        failures += 1
        if failures <= show:
            print(f"DIFFERS: {label}\n  template: {template[:300]!r}")
            print(f"  jinja2: {type(expected).__name__}: {str(expected)[-1500:]!r}")
            print(f"  ours:   {answer}"[:2000])
    if failures or not quiet:
        print(f"{len(cases)} templates: {failures} differ, {refused} refused")
    return failures
