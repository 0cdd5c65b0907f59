#!/usr/bin/env python3
"""Constraints of engine/grammar against Python's re and jsonschema, with the real tokenizer: every text drawn through
them is valid, and every valid text that json.dumps writes passes."""
import json
import os
import random
import re
import subprocess
import unittest
from pathlib import Path

import jsonschema

DRIVER = Path(os.environ.get("STAMP_BUILD_DIR", "build")) / "tests" / "constraint_cli"
MODEL = os.environ["STAMP_SMOLLM2_DIR"]

PATTERNS = {
    r"(a|a)*b": ["b", "aab"],
    r"(a*)*c|d{0,3}": ["aac", "", "ddd"],
    r"\d{3}-\d{4}": ["555-1234"],
    r"[^\W\d_]{2,5}(é|日本|[а-я])+": ["abé", "wordпривет日本"],
    r"(yes|no|maybe)( (yes|no|maybe)){0,4}": ["yes", "no maybe yes"],
    r"^[A-Z][a-z]+$|^\$[0-9]+(\.\d\d)?$": ["Abc", "$12.50"],
    r"([01]?\d|2[0-3]):[0-5]\d(?::[0-5]\d)?": ["23:59", "7:05:11"],
    r"(x{0,200}y){0,20}": ["", "xxy" * 3],
    r"(?P<word>\w{1,9})(?:\x20|\t)\w*?\.": ["the end.", "a\t."],
    "[\\u00e0-\\u00ff😀-🙏]{1,3}": ["é", "😀ü"],
    r".{0,12}[.!?]": ["Hello!", "日本語?"],
    r"\{\"a\": [1-9]+\}": ['{"a": 12}'],
}

NODE = {"$ref": "#/$defs/node",
        "$defs": {"node": {"type": "object", "required": ["value"], "additionalProperties": False,
                           "properties": {"value": {"type": "integer"}, "next": {"$ref": "#/$defs/node"},
                                          "kids": {"type": "array", "items": {"$ref": "#/$defs/node"}}}}}}
SCHEMAS = [
    {"type": "object"},
    {},
    {"type": "array", "items": {"type": "number"}, "minItems": 1, "maxItems": 4},
    {"type": "object", "properties": {"name": {"type": "string", "minLength": 1, "maxLength": 12},
                                      "age": {"type": "integer", "minimum": 0, "maximum": 130},
                                      "score": {"type": "number", "minimum": -1.5, "maximum": 1.25}},
     "required": ["name", "age"]},
    {"type": "object", "properties": {"a": {"type": "boolean"}, "b": {"type": "null"}, "é\"\n": {"type": "string"}}},
    {"type": "object", "properties": {"id": {"type": "integer"}}, "additionalProperties": {"type": "string"}},
    {"type": "object", "additionalProperties": {"type": "integer", "exclusiveMinimum": -100, "exclusiveMaximum": 7}},
    {"enum": ["red", "grün", 3, 2.5, None, True, ["x", 1], {"k": "v"}]},
    {"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], "items": {"type": "boolean"},
     "minItems": 2, "maxItems": 5},
    {"type": "object", "properties": {"p": {"type": "string", "pattern": "^[a-c]+\"?$"},
                                      "q": {"type": "string", "pattern": "x[0-9]", "minLength": 4, "maxLength": 8}},
     "required": ["p", "q"]},
    {"anyOf": [{"type": "object", "properties": {"kind": {"const": "a"}, "x": {"type": "integer"}},
                "required": ["kind", "x"]},
               {"type": "object", "properties": {"kind": {"const": "b"}, "y": {"type": "string"}},
                "required": ["kind"]},
               {"type": "string"}]},
    {"oneOf": [{"type": "object", "properties": {"t": {"const": 1}, "v": {"type": "string"}}, "required": ["t", "v"]},
               {"type": "object", "properties": {"t": {"const": 2}}, "required": ["t"]}, {"type": "null"}]},
    {"type": ["string", "null"], "maxLength": 5},
    {"type": "object", "properties": {"when": {"type": "string", "format": "date"},
                                      "id": {"type": "string", "format": "uuid"},
                                      "ip": {"type": "string", "format": "ipv4"}}, "required": ["when", "id", "ip"]},
    {"allOf": [{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
               {"properties": {"b": {"type": "boolean"}}, "required": ["b"]}]},
    {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
    {"type": "integer", "minimum": -12345},
    {"$ref": "#/$defs/a%20b~1c", "$defs": {"a b/c": {"type": "boolean"}}},
    NODE,
]

REFUSED = {
    "not": {"not": {"type": "string"}}, "uniqueItems": {"type": "array", "uniqueItems": True},
    "multipleOf": {"type": "number", "multipleOf": 0.1}, "if": {"if": {}, "then": {}},
    "patternProperties": {"type": "object", "patternProperties": {"^a": {}}},
    "minProperties": {"type": "object", "minProperties": 1}, "contains": {"type": "array", "contains": {}},
    "format 'regex'": {"type": "string", "format": "regex"}, "both be valid": {"oneOf": [{"type": "integer"}, {"type": "number"}]},
    "look-ahead": {"type": "string", "pattern": "(?=a)b"}, "#/$defs/none": {"$ref": "#/$defs/none"},
    "lead back": {"$ref": "#"}, "refers to itself": {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
    "/properties/x/items": {"type": "object", "properties": {"x": {"type": "array", "items": {"unknown": 1}}}},
    "no text": {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
    "no whole number": {"type": "integer", "minimum": 0.5, "maximum": 0.75},
}
REFUSED_PATTERNS = {"look-ahead": "a(?!b)", "look-behind": "(?<=a)b", "back-reference": r"(a)\1", "assertion": r"\bx",
                    "possessive": "a*+", "flags": "(?i)a", "Unicode property": r"\p{L}", "without its )": "(a",
                    "out of order": "[z-a]", "bounds": "a{3,2}", "anchor": "a^b", "nodes": "((a{1000}){1000}){1000}",
                    "states": ".*a.{20}", "complex": "(x{0,1000}){0,200}", "position 4": "ab**"}


class Driver:
    def __init__(self):
        self.process = subprocess.Popen([DRIVER, MODEL, "<|im_end|>"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True)

    def ask(self, **request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        return self.process.wait()


def random_string(rng, least=0, most=8):
    return "".join(rng.choice("ab c\"\\/\n\té日😀\x7f\x01") for _ in range(rng.randint(least, most)))


def random_value(rng, depth=0):
    kinds = ["s", "i", "f", "n", "b"] + (["o", "a"] if depth < 4 else [])
    kind = rng.choice(kinds)
    if kind == "o":
        return {random_string(rng): random_value(rng, depth + 1) for _ in range(rng.randint(0, 3))}
    if kind == "a":
        return [random_value(rng, depth + 1) for _ in range(rng.randint(0, 3))]
    return {"s": random_string(rng), "i": rng.randint(-10**15, 10**15), "f": rng.uniform(-1, 1) * 10 ** rng.randint(-20, 20),
            "n": None, "b": rng.random() < 0.5}[kind]


def instance(schema, root, rng, depth=0):
    """A random value that is valid for one of SCHEMAS."""
    if "$ref" in schema:
        target = root
        for part in schema["$ref"].split("/")[1:]:
            target = target[part.replace("%20", " ").replace("~1", "/")]
        return instance(target, root, rng, depth)
    if "enum" in schema:
        return rng.choice(schema["enum"])
    if "const" in schema:
        return schema["const"]
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return instance(rng.choice(schema[key]), root, rng, depth)
    if "allOf" in schema:
        return {k: v for part in schema["allOf"] for k, v in instance({"type": "object"} | part, root, rng, depth).items()}
    kind = schema.get("type")
    kind = rng.choice(kind) if isinstance(kind, list) else kind
    if kind is None:
        return random_value(rng)
    if kind == "object":
        properties, required = schema.get("properties", {}), schema.get("required", [])
        out = {name: instance(sub, root, rng, depth + 1) for name, sub in properties.items()
               if name in required or (depth < 5 and rng.random() < 0.6)}
        extra = schema.get("additionalProperties", not properties)
        for _ in range(rng.randint(0, 2) if extra is not False else 0):
            out.setdefault("+" + random_string(rng),
                           random_value(rng) if extra is True else instance(extra, root, rng, depth + 1))
        return out
    if kind == "array":
        first = [instance(sub, root, rng, depth + 1) for sub in schema.get("prefixItems", [])]
        least, most = schema.get("minItems", 0), schema.get("maxItems", 3 if depth < 4 else 0)
        count = rng.randint(max(least, len(first)), max(most, len(first)))
        return first + [instance(schema.get("items", {}), root, rng, depth + 1) for _ in range(count - len(first))]
    if kind == "string":
        special = {"^[a-c]+\"?$": ["a", "abc", "cab\""], "x[0-9]": ["x123", "éx9 ", "abx0\n"]}.get(schema.get("pattern"))
        special = {"date": ["2024-02-29", "1999-12-31"], "uuid": ["123e4567-e89b-12d3-a456-426614174000"],
                   "ipv4": ["255.0.10.1"]}.get(schema.get("format"), special)
        if special:
            return rng.choice(special)
        return random_string(rng, schema.get("minLength", 0), schema.get("maxLength", 12))
    if kind in ("integer", "number"):
        low = schema.get("minimum", schema.get("exclusiveMinimum", -1000))
        high = schema.get("maximum", schema.get("exclusiveMaximum", 1000))
        if kind == "integer":
            return rng.randint(low + ("exclusiveMinimum" in schema), high - ("exclusiveMaximum" in schema))
        return round(rng.uniform(low, high), 6) or 0.5
    return None if kind == "null" else rng.random() < 0.5


class Constrain(unittest.TestCase):
    def setUp(self):
        self.driver = Driver()

    def tearDown(self):
        self.assertEqual(self.driver.close(), 0)

    def walks(self, count, tokens):
        for seed in range(count):
            answer = self.driver.ask(walk=seed, tokens=tokens)
            self.assertNotIn("stuck", answer)
            if "text" in answer:
                yield answer["text"]

    def test_texts_of_a_pattern_match_it(self):
        for pattern, examples in PATTERNS.items():
            with self.subTest(pattern):
                self.assertEqual(self.driver.ask(regex=pattern), {"ok": True})
                texts = list(self.walks(20, 24))
                self.assertGreater(len(texts), 10)
                for text in texts:
                    self.assertIsNotNone(re.fullmatch(pattern, text, re.ASCII), text)
                for text in examples:
                    self.assertTrue(self.driver.ask(accept=text)["accepted"], text)
                    self.assertFalse(self.driver.ask(accept=text + "\x02")["accepted"], text)

    def test_texts_of_a_schema_are_valid_for_it(self):
        for schema in SCHEMAS:
            with self.subTest(json.dumps(schema)):
                self.assertEqual(self.driver.ask(schema=schema), {"ok": True})
                validator = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
                texts = list(self.walks(20, 40))
                self.assertGreater(len(texts), 10)
                for text in texts:
                    validator.validate(json.loads(text))

    def test_what_json_dumps_writes_is_accepted(self):
        rng = random.Random(7)
        for schema in SCHEMAS:
            with self.subTest(json.dumps(schema)):
                self.assertEqual(self.driver.ask(schema=schema), {"ok": True})
                validator = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
                for _ in range(20):
                    value = instance(schema, schema, rng)
                    validator.validate(value)
                    for options in ({}, {"indent": 2}, {"ensure_ascii": False, "separators": (",", ":")}):
                        text = json.dumps(value, **options)
                        self.assertTrue(self.driver.ask(accept=text)["accepted"], text)

    def test_what_is_not_valid_is_not_accepted(self):
        cases = [({"type": "object"}, ["[]", "{", '{"a":}', '{"a":1,}', '{"a":01}', '{"a":"\t"}', '{"a":"\\x"}',
                                       '{"a":"\\ud800"}', "{}  ", '{"a":1e999}', '{"a":nul}']),
                 (SCHEMAS[3], ['{"name": "Bob", "age": 131}', '{"name": "", "age": 1}', '{"age": 1}',
                               '{"name": "Bob", "age": 1, "score": 1.2500001}', '{"name": "Bob", "age": 1, "x": 1}',
                               '{"name": "Bob", "age": 1, "score": -1.6}', '{"name": "Bobbobbobbobb", "age": 1}']),
                 (SCHEMAS[5], ['{"id": 1, "i\\u0064": "x"}', '{"id": 1, "x": 2}', '{"x": "y", "id": 1}']),
                 (SCHEMAS[13], ['{"when": "2023-02-29", "id": "123e4567-e89b-12d3-a456-426614174000", "ip": "1.1.1.1"}']),
                 ({"type": "array", "items": {"type": "array"}}, ["[" * 100 + "]" * 100])]
        for schema, texts in cases:
            self.assertEqual(self.driver.ask(schema=schema), {"ok": True})
            for text in texts:
                self.assertFalse(self.driver.ask(accept=text)["accepted"], text)

    def test_what_is_not_supported_is_refused_by_name(self):
        for word, schema in REFUSED.items():
            error = self.driver.ask(schema=schema).get("error", "was accepted")
            self.assertTrue(error.startswith("JSON schema: ") and word in error, f"{word}: {error}")
        for word, pattern in REFUSED_PATTERNS.items():
            error = self.driver.ask(regex=pattern).get("error", "was accepted")
            self.assertTrue(error.startswith("regular expression: ") and word in error, f"{word}: {error}")


if __name__ == "__main__":
    unittest.main()
