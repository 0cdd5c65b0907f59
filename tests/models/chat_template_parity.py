"""Chat templates against jinja2: real ones, our own of the same making, and SmolLM2's with its directory.

The real templates come from packages on PyPI, once, into STAMP_TEST_DATA_DIR/chat_templates: the source package of
llama-cpp-python carries those of llama.cpp's tests, axolotl, trl and guidance carry their own copies.
"""
import ast
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from chat_cases import CONVERSATIONS, TOOLS, combinations
from jinja_reference import NOW, compare, environment, ours

PACKAGES = {"llama-cpp-python": "0.3.36", "axolotl": "0.19.0", "trl": "1.16.0", "guidance": "0.3.1"}


def download(name, version, directory):
    """The package's file. Binary packages where there are any: they run no code to be downloaded."""
    only = "--no-binary" if name == "llama-cpp-python" else "--only-binary"
    command = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps", only, name,
               "-d", directory, f"{name}=={version}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"pip could not download {name} {version}:\n{done.stderr}")
    return next(Path(directory).iterdir())


def templates_in(package):
    """(name, text) of every template a package file holds."""
    if package.suffix == ".gz":
        with tarfile.open(package) as archive:
            for member in archive:
                if member.name.endswith(".jinja"):
                    yield Path(member.name).stem, archive.extractfile(member).read()
        return
    with zipfile.ZipFile(package) as archive:
        for member in archive.namelist():
            if member.endswith(".jinja"):
                yield Path(member).stem, archive.read(member)
            elif member == "guidance/chat.py":
                for node in ast.parse(archive.read(member)).body:
                    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
                        yield node.targets[0].id, node.value.value.encode()


def real_templates():
    """{package: {name: text}}, downloaded on first use."""
    cache = Path(os.environ["STAMP_TEST_DATA_DIR"]) / "chat_templates"
    found = {}
    for name, version in PACKAGES.items():
        directory = cache / f"{name}-{version}"
        if not directory.is_dir():
            cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=cache) as scratch:
                made = Path(scratch) / "made"
                made.mkdir()
                for template, text in templates_in(download(name, version, Path(scratch) / "package")):
                    (made / f"{template}.jinja").write_bytes(text)
                shutil.copytree(made, directory)
        found[name] = {file.stem: file.read_bytes().decode() for file in sorted(directory.glob("*.jinja"))}
        if len(found[name]) < {"llama-cpp-python": 70, "axolotl": 36, "trl": 60, "guidance": 10}[name]:
            sys.exit(f"{directory} holds only {len(found[name])} templates; remove it to download it again")
    return found


def compare_template(label, text, cases):
    try:
        compiled = environment().from_string(text)
    except Exception as error:
        compiled = error
    return compare([(f"{label} | {name}", text, variables) for name, variables in cases], show=2, compiled=compiled, quiet=True)


def prepared(messages):
    """As apply_chat_template of transformers 5 prepares messages."""
    out = []
    for message in messages:
        message = {key: value for key, value in message.items() if value is not None}
        thought = next((message[key] for key in ("reasoning_content", "thinking", "reasoning") if key in message), None)
        out.append(message if thought is None else {"thinking": thought, **message, "reasoning_content": thought})
    return out


ECHO = "{{ bos_token }}{{ eos_token }}{{ unk_token }}{{ pad_token }}{{ messages|tojson }}{{ tools|tojson }}{{ documents|tojson }}{{ add_generation_prompt }}"


def compare_directory(directory, text, tokens):
    """A template that a directory holds, through ChatTemplate."""
    requests, labels, expected = [], [], []
    for name, conversation in CONVERSATIONS.items():
        for tools in (TOOLS["none"], TOOLS["three"]):
            for prompt in (True, False):
                requests.append({"directory": str(directory), "messages": conversation, "tools": tools, "add_generation_prompt": prompt, "now": NOW})
                labels.append(name)
                variables = {"messages": prepared(conversation), "tools": tools, "documents": None, "add_generation_prompt": prompt, **tokens}
                try:
                    expected.append(environment().from_string(text).render(**variables))
                except Exception as error:
                    expected.append(error)
    failures = 0
    for label, answer, want in zip(labels, ours(requests), expected):
        if ("error" in answer) != isinstance(want, Exception) or ("text" in answer and answer["text"] != want):
            failures += 1
            print(f"DIFFERS: {directory} | {label}\n  jinja2: {str(want)[-500:]!r}\n  ours:   {str(answer)[-500:]}")
    print(f"{directory}: {len(requests)} conversations, {failures} differ")
    return failures


def main():
    import json
    failures = 0
    cases = list(combinations())
    own = {file.stem: file.read_text() for file in sorted((Path(__file__).parent / "templates").glob("*.jinja"))}
    for label, text in own.items():
        failures += compare_template(f"own {label}", text, cases)
    for package, templates in real_templates().items():
        # The others' templates are mostly variants of llama.cpp's: a third of the cases for each.
        chosen = cases if package == "llama-cpp-python" else cases[::3]
        failed = sum(compare_template(f"{package} {label}", text, chosen) for label, text in templates.items())
        print(f"{package}: {len(templates)} templates, {len(chosen)} conversations each, {failed} differ")
        failures += failed
    smollm2 = Path(os.environ.get("STAMP_SMOLLM2_DIR") or sys.exit("STAMP_SMOLLM2_DIR is not set"))
    config = json.loads((smollm2 / "tokenizer_config.json").read_text())
    tokens = {name: config[name] for name in ("bos_token", "eos_token", "unk_token", "pad_token") if config.get(name)}
    failures += compare_directory(smollm2, config["chat_template"], tokens)
    with tempfile.TemporaryDirectory() as echo:
        tokens = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "", "pad_token": "é"}
        (Path(echo) / "tokenizer_config.json").write_text(json.dumps({**tokens, "chat_template": ECHO}))
        failures += compare_directory(echo, ECHO, tokens)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
