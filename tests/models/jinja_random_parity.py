"""Our Jinja against jinja2 on random templates from a fixed seed: statements nested in each other, with scopes,
namespaces, macros, loops that end early, white space control and expressions of every kind.

Every other template draws from any expression; most of these fail somewhere, and must then fail in both. The others
draw from expressions that hardly ever fail, so that they run to their end."""
import random
import sys

from jinja_reference import compare

COUNT = 4000
VARIABLES = {
    "a": 3, "b": [1, 2, 3], "c": "text one", "d": {"k": "v", "n": {"m": 5}, "list": [4]}, "e": None, "f": 1.5,
    "msgs0": [{"role": "user"}, {"role": "tool", "x": [1.0, None]}], "d0": {"k": "v", "B": [True]},
    "msgs": [{"role": "user", "content": " hi "}, {"role": "assistant", "content": "yo", "n": 1}, {"role": "user", "content": ""}],
}
NAMES = ["a", "b", "c", "d", "e", "f", "msgs", "m", "x", "y", "z", "u"]
SAFE_FILTERS = ["upper", "lower", "trim", "length", "string", "list", "first", "last", "tojson", "default('q')", "join('-')", "int", "title", "capitalize", "sort",
                "unique|list", "reverse|list", "map('string')|list", "select|list", "selectattr('role', 'equalto', 'user')|list", "map(attribute='role')|list", "items|list",
                "replace('t', 'T')", "indent(2)", "abs", "sum", "max", "min", "round", "dictsort", "e", "safe", "batch(2)|list", "tojson(indent=1)", "default('', true)", "float", "groupby('role')|list"]
TAME_TESTS = ["defined", "undefined", "none", "string", "mapping", "iterable", "number", "sequence", "boolean", "not none", "integer", "true"]
TESTS = ["defined", "undefined", "none", "string", "mapping", "iterable", "number", "sequence", "boolean", "odd", "even", "in b", "eq 3", "true", "false", "not none", "integer", "sameas none"]
METHODS = ["strip()", "upper()", "split()", "split('e')", "items()", "get('k')", "get('zz', 1)", "keys()|list", "startswith('t')", "title()", "replace('e', 'E')", "lstrip('t')", "splitlines()", "values()|list", "count(1)", "k", "n.m", "role", "zz", "zz.z"]
LOOP = ["loop.index", "loop.index0", "loop.first", "loop.last", "loop.length", "loop.revindex", "loop.previtem", "loop.nextitem", "loop.cycle(1, 2)", "loop.depth", "loop.changed(a)"]


class Generator:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.tame = seed % 2 == 0
        self.loops = 0  # of which break and loop may be used
        self.macros = []

    def pick(self, *options):
        return self.random.choice(options)

    def chance(self, probability):
        return self.random.random() < probability

    def tame_expression(self, depth):
        leaf = self.leaf
        if depth <= 0 or self.chance(0.3):
            return leaf()
        e = lambda: self.tame_expression(depth - 1)
        return self.pick(
            lambda: f"{e()} ~ {e()}", lambda: f"({e()}|string)|{self.pick('upper', 'lower', 'trim', 'title', 'length', 'list', 'reverse', 'capitalize', 'wordcount')}",
            lambda: f"({e()}) {self.pick('==', '!=')} ({e()})", lambda: f"({e()}) is {self.pick(*TAME_TESTS)}", lambda: f"({e()} if {e()} else {e()})",
            lambda: f"({e()} {self.pick('and', 'or')} {e()})", lambda: f"not ({e()})", lambda: f"[{e()}, {e()}]", lambda: f"{{'k': {e()}}}",
            lambda: f"(({e()})|string)[{self.pick('0', '1:', ':-1', '::-1', '-3:')}]", lambda: f"({e()})|default({e()}, true)",
            lambda: self.pick("[3, 1]|sort|join('-')", "msgs0[0].role", "d0.k", "d0.get('zz', 1)", "range(3)|list", "d0|dictsort", "msgs0|map(attribute='role')|join", "d0|tojson", "msgs0|length"),
            lambda: f"{self.pick(*self.macros)}({self.pick('', e(), 'x=' + e())})" if self.macros and self.chance(0.5) else "ns.p")()

    def expression(self, depth=3):
        if self.tame:
            return self.tame_expression(depth)
        if depth <= 0 or self.chance(0.15):
            return self.leaf()
        e = lambda: self.expression(depth - 1)
        kind = self.random.randrange(17)
        if kind < 2: return f"{e()} {self.pick('+', '-', '*', '/', '//', '%', '~', '~', '+')} {e()}"
        if kind == 2: return f"{e()} {self.pick('==', '!=', '<', '<=', '>', '>=', 'in', 'not in')} {e()}"
        if kind == 3: return f"({e()} {self.pick('and', 'or')} {e()})"
        if kind == 4: return f"{self.pick('not', '-', 'not', '+')} {e()}"
        if kind < 8: return f"{self.leaf()}|{self.pick(*SAFE_FILTERS)}"
        if kind == 8: return f"({e()})|{self.pick(*SAFE_FILTERS)}"
        if kind == 9: return f"({e()}) is {self.pick(*TESTS)}"
        if kind == 10: return f"{self.pick(*NAMES)}.{self.pick(*METHODS)}"
        if kind == 11: return f"{self.pick(*NAMES)}[{self.pick('0', '-1', ':1', '1:', '::-1', repr('k'), repr('role'), 'a', '5', '-2:', ':-1')}]"
        if kind == 12: return f"({e()} if {e()}{' else ' + e() if self.chance(0.7) else ''})"
        if kind == 13: return self.pick(f"[{e()}, {e()}]", f"({e()},)", f"{{'k': {e()}, 'j': {e()}}}", "[]", f"range({self.random.randrange(5)})")
        if kind == 14 and self.macros: return f"{self.pick(*self.macros)}({self.pick('', e(), e() + ', ' + e(), 'x=' + e())})"
        if kind == 15: return f"ns.{self.pick('p', 'q', 'r')}"
        return f"({e()})"

    def leaf(self):
        if self.loops and self.chance(0.25):
            return self.pick(*LOOP)
        if self.tame:
            return self.pick(*NAMES, *NAMES, "1", "0", "2.5", "'s'", "' t '", "none", "true", "''", "ns.p", "ns.q", "missing")
        return self.pick(*NAMES, *NAMES, "1", "0", "2.5", "'s'", "' t\\n'", "none", "true", "false", "''", "ns.p", "missing")

    def begin(self): return self.pick("{% ", "{% ", "{%- ", "{%+ ")
    def end(self): return self.pick(" %}", " %}", " -%}", " +%}", " %}\n", "%}")
    def tag(self, text): return self.begin() + text + self.end()
    def text(self): return self.pick("", " ", "\n", "T", " w ", "\n  ", "end\n", "\t", "<&>", "\n\n", "é ")

    def output(self):
        begin, end = self.pick(("{{ ", " }}"), ("{{- ", " }}"), ("{{ ", " -}}"), ("{{", "}}"))
        return begin + self.expression() + end

    def target(self):
        return self.pick("x", "y", "z", "a", "c", "ns.p", "ns.q", "ns.p")

    def body(self, depth, most=3):
        return "".join(self.text() + self.statement(depth) for _ in range(self.random.randint(0, most))) + self.text()

    def inside(self, depth, function=False):
        loops, self.loops = self.loops, 0 if function else self.loops
        text = self.body(depth)
        self.loops = loops
        return text

    def statement(self, depth):
        kind = self.random.randrange(22)
        if depth <= 0 or kind < 6: return self.output()
        if kind < 9: return self.tag(f"set {self.target()} = {self.expression()}")
        if kind == 9: return self.tag("set x, y = " + self.pick("1, 2", "(a, c)", "(a, c)" if self.tame else self.expression()))
        if kind == 10: return self.tag(f"set {self.pick('x', 'z', 'ns.q')}{self.pick('', '', ' | upper', ' | trim')}") + self.inside(depth - 1) + self.tag("endset")
        if kind < 14:
            text = self.tag(f"if {self.expression()}") + self.inside(depth - 1)
            if self.loops and self.chance(0.3): text += self.tag(self.pick("break", "continue"))
            while self.chance(0.3): text += self.tag(f"elif {self.expression()}") + self.inside(depth - 1)
            if self.chance(0.5): text += self.tag("else") + self.inside(depth - 1)
            return text + self.tag("endif")
        if kind < 18:
            what = self.pick("b", "msgs", "d", "d.items()", "c", "range(4)", "msgs|selectattr('n', 'undefined')", "[[1], [2, 3]]", "[]", self.expression())
            if self.tame: what = self.pick("[1, 2, 3]", "msgs0", "d0", "d.items()", "'text'", "range(4)", "msgs0|selectattr('x')", "[[1], [2, 3]]", "[]", "(1, none)", "c|string|list")
            if self.tame and what == "d.items()": what = "d0.items()"
            names = self.pick("x", "m", "y", "m", "a") if not what.endswith(".items()") else self.pick("x, y", "m")
            guard = f" if {self.expression(2)}" if self.chance(0.25) else ""
            text = self.tag(f"for {names} in {what}{guard}")
            self.loops += 1
            text += self.inside(depth - 1)
            self.loops -= 1
            if self.chance(0.3): text += self.tag("else") + self.inside(depth - 1)
            return text + self.tag("endfor")
        if kind == 18:
            name = self.pick("f1", "f2", "f3")
            text = self.tag(f"macro {name}({self.pick('', 'x', 'x, y=2', 'x=a, z=x', 'm') if not self.tame else self.pick('x', 'x, y=2', 'x=a, z=x')})") + self.inside(depth - 1, True) + self.pick("", "{{ varargs }}", "{{ caller() if caller }}", "{{ kwargs }}" if not self.tame else "{{ caller(1) if caller is defined and caller }}") + self.tag("endmacro")
            self.macros.append(name)
            return text
        if kind == 19 and self.macros: return self.tag(f"call{self.pick('', '(x)') if not self.tame else '(x)'} {self.pick(*self.macros)}({self.pick('', '1')})") + self.inside(depth - 1, True) + self.tag("endcall")
        if kind == 20: return self.tag(f"with {self.pick('x', 'a', 'z')} = {self.expression()}") + self.inside(depth - 1) + self.tag("endwith")
        return self.pick(self.tag("filter " + self.pick("upper", "trim", "indent(1)", "replace('T', 't')")) + self.inside(depth - 1) + self.tag("endfilter"),
                         self.tag("generation") + self.inside(depth - 1, True) + self.tag("endgeneration"),
                         "{# c #}", "{#- c -#}", "{% raw %}{{ r }}{% endraw %}\n")

    def template(self):
        return self.pick("" if not self.tame else "{% set ns = namespace() %}", "{% set ns = namespace(p=0, q='') %}", "{%- set ns = namespace(p=1, q=b) -%}\n") + self.body(4, 6)


def main():
    cases = [(f"seed {seed}", Generator(seed).template(), VARIABLES) for seed in range(COUNT)]
    return 1 if compare(cases, show=8) else 0


if __name__ == "__main__":
    sys.exit(main())
