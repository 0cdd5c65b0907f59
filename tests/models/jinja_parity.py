"""Our Jinja against jinja2 on small templates: results must be equal, and errors must happen in both or in none.

Products of operands, operators, filters, tests and methods, then statements written by hand.
"""
import itertools
import sys

from jinja_reference import compare
from jinja_statements import SCOPES, STATEMENTS, WHITE_SPACE

VARIABLES = {
    "i": 7, "n": -3, "zero": 0, "big": 9007199254740993, "x": 2.5, "y": -0.0, "tiny": 1e-7, "huge": 1e22, "yes": True, "no": False,
    "nothing": None, "s": "hello World", "empty": "", "u": "Grüße, ΟΔΟΣ ß 🙂\u2028e\u0301", "html": "<a href=\"x\">&'</a>", "num": " 42 ",
    "lines": "one\n two\r\n\nthree\n", "spaced": " \t a  b \n", "path": "a/b/c/d",
    "l": [3, 1, 2], "e": [], "mixed": [1, "1", 1.0, None, True, [1], {"a": 1}], "words": ["pear", "Apple", "fig", "apple"],
    "d": {"b": 1, "a": 2, "C": 3}, "ed": {}, "keys": {"items": 1, "keys": 2, "get": 3, "_x": 4, "a b": 5, "1": 6},
    "nested": [[1, 2], [3, 4], [5, 6]],
    "people": [{"name": "Bo", "age": 30, "city": {"zip": "z1"}}, {"name": "al", "age": 25, "city": {"zip": "z0"}},
               {"name": "Cy", "age": 30, "city": {}}, {"name": "Di"}],
}
SIMPLE = ["7", "-3", "0", "2.5", "-0.0", "1e22", "true", "false", "none", "missing", "'ab'", "''", "[1, 2]", "[]", "(1, 'x')", "{'a': 1}", "{}", "range(3)",
          "d.keys()", "namespace(a=1)", "l|map('abs')"]
LITERALS = SIMPLE[:SIMPLE.index("missing")] + SIMPLE[SIMPLE.index("missing") + 1:SIMPLE.index("range(3)")]
NAMES = list(VARIABLES) + ["missing", "d.items()", "d.values()", "range(2, 9, 3)", "(1, 2)", "()", "people[0].name", "(s|safe)", "l|reverse"]


def binary():
    for op in ["+", "-", "*", "/", "//", "%", "**", "~", "==", "!=", "<", "<=", ">", ">=", "in", "not in", "and", "or"]:
        for a, b in itertools.product(SIMPLE, SIMPLE):
            yield f"{{{{ {a} {op} {b} }}}}"


def unary():
    for a in SIMPLE + NAMES:
        yield from (f"{{{{ {a} }}}}", f"{{{{ -{a} }}}}", f"{{{{ +{a} }}}}", f"{{{{ not {a} }}}}", f"{{{{ [{a}] }}}}", f"{{{{ {a}|list }}}}",
                    f"{{% if {a} %}}t{{% else %}}f{{% endif %}}", f"{{% for v in {a} %}}<{{{{ v }}}}>{{% else %}}none{{% endfor %}}",
                    f"{{{{ ({a}, {a}) }}}}", f"{{{{ {{{a}: 1}} }}}}", f"{{{{ {{'k': {a}}} }}}}", f"{{{{ {a} if {a} }}}}", f"{{{{ {a}() }}}}")


FILTERS = ["abs", "capitalize", "center", "center(20)", "count", "d", "d(5)", "default('D')", "default('D', true)", "default(boolean=true, default_value=1)",
           "dictsort", "dictsort(true)", "dictsort(by='value')", "dictsort(reverse=true)", "dictsort(by='x')", "e", "escape", "first", "float", "float(1.5)",
           "forceescape", "format", "format(1)", "groupby('age')", "indent", "indent(2)", "indent(2, true)", "indent('> ', blank=true)", "int", "int(9)",
           "int(base=16)", "items|list", "join", "join(', ')", "join(d='-', attribute='name')", "last", "length", "list", "list|length", "lower", "map('upper')|list",
           "map('string')|join(',')", "map(attribute='name')|list", "map(attribute='city.zip')|list", "map(attribute='age', default=0)|list",
           "map(attribute=0)|list", "map('int')|list", "map('nofilter')|list", "map|list", "max", "min", "max(attribute='age')", "min(case_sensitive=true)",
           "reject|list", "reject('none')|list", "rejectattr('age')|list", "rejectattr('age', 'defined')|map(attribute='name')|list", "replace('a', 'b')",
           "replace('l', 'L', 1)", "replace('', '-')", "reverse|list", "reverse", "round", "round(1)", "round(-1)", "round(2, 'floor')", "round(method='ceil')",
           "safe", "safe + '<'", "select|list", "select('odd')|list", "select('in', [1, 3])|list", "select('string')|list", "select('notest')|list",
           "selectattr('age')|map(attribute='name')|list", "selectattr('age', 'equalto', 30)|map(attribute='name')|list", "selectattr('age', 'gt', 26)|list",
           "slice(2)|list", "slice(2, 'f')|list", "sort", "sort(reverse=true)", "sort(case_sensitive=true)", "sort(attribute='age')", "sort(attribute='age,name')",
           "string", "string|length", "sum", "sum(start=10)", "sum(attribute='age')", "title", "tojson", "tojson(indent=2)", "tojson(indent=0)",
           "tojson(ensure_ascii=true)", "tojson(sort_keys=true)", "tojson(separators=(',', ':'))", "tojson(indent='--')", "trim", "trim('o')", "truncate", "truncate(7)",
           "truncate(7, true, '!', 0)", "unique|list", "unique(case_sensitive=true)|list", "unique(attribute='age')|map(attribute='name')|list", "upper", "urlencode",
           "wordcount", "attr('a')", "attr('items')", "attr('upper')", "batch(2)|list", "batch(2, 'f')|list", "map('length')|list", "map('default', 'z')|list",
           "select('mapping')|list", "select('sequence')|list", "sum(5)", "length()", "upper(1)", "trim(chars='h')", "trim(x=1)", "first|default('n')", "last|default('n')"]
TESTS = ["boolean", "callable", "defined", "divisibleby(3)", "divisibleby 2", "eq 7", "== 7", "equalto('ab')", "escaped", "even", "odd", "false", "true", "filter",
         "float", "ge 1", "gt 1", "in [7, 'ab']", "integer", "iterable", "le 1", "lower", "upper", "lt 1", "mapping", "ne 7", "none", "number", "sameas true",
         "sequence", "string", "test", "undefined", "sameas none", "greaterthan 2", "lessthan 2", "not none", "not defined", "notest", "defined()", "in", "eq"]
METHODS = ["capitalize()", "casefold()", "center(20)", "center(20, '*')", "count('l')", "count('l', 4)", "count('')", "endswith('d')", "endswith(('x', 'd'))", "endswith('o', 0, 5)",
           "find('o')", "find('o', 5)", "find('zz')", "rfind('o')", "index('o')", "index('zz')", "rindex('o')", "isalnum()", "isalpha()", "isascii()", "isdecimal()", "isdigit()", "isidentifier()",
           "islower()", "isnumeric()", "isprintable()", "isspace()", "istitle()", "isupper()", "join(['a', 'b'])", "join([1])", "join('xyz')", "ljust(20)", "ljust(20, '.')",
           "rjust(20, 'ß')", "lower()", "lstrip()", "lstrip('h')", "rstrip()", "rstrip('dl')", "strip()", "strip(' \\n')", "strip('')", "strip(none)", "partition('o')", "rpartition('o')", "partition('zz')",
           "rpartition('zz')", "removeprefix('he')", "removesuffix('ld')", "replace('l', 'L')", "replace('l', 'L', 1)", "replace('', '.')", "replace('l', '', -1)", "split()", "split('o')", "split(' ')",
           "split('l', 1)", "split(none, 1)", "split(maxsplit=1)", "split(sep='l', maxsplit=2)", "split('')", "rsplit()", "rsplit('l', 1)", "rsplit(none, 1)", "rsplit('o')", "splitlines()", "splitlines(true)",
           "startswith('he')", "startswith('lo', 3)", "startswith(['a'])", "startswith('', 99)", "swapcase()", "title()", "upper()", "zfill(20)", "format(1, b=2)", "lower(1)", "nomethod()", "__class__", "_x",
           "upper", "append", "items()", "keys()", "get('a')", "get('zz', 5)", "get()", "copy()", "count(1)", "index(1)", "index(99)", "append(1)", "pop()", "update({})", "is_integer()", "a", "name", "0", "0.a", "C"]
SUBSCRIPTS = ["[0]", "[-1]", "[99]", "['a']", "['zz']", "['upper']", "['items']", "[1:]", "[:-1]", "[::-1]", "[::2]", "[1:99:2]", "[-2:]", "[5:1:-2]", "[none:none]", "['a':]", "[::0]", "[1.0]", "[true]", "[none]", "[(1, 2)]",
              "[[1]]", "[0][0]", "[missing]", "[missing:]", "[0:2][1]", ".a.b", "['a']['b']", "[-99:99]", "[::-2]", "[2:0:-1]"]


def products():
    values = SIMPLE + NAMES
    for value, filter in itertools.product(values, FILTERS):
        yield f"{{{{ {value}|{filter} }}}}"
    for value, test in itertools.product(values, TESTS):
        yield f"{{{{ ({value}) is {test} }}}}"
    for value, method in itertools.product(NAMES + ["'ab'", "7", "(2.0)", "missing"], METHODS):
        yield f"{{{{ ({value}).{method} }}}}"
    for value, subscript in itertools.product(values, SUBSCRIPTS):
        if ":" in subscript and value in [*LITERALS, "(1, 2)", "()"]:
            continue  # jinja2 folds these before it runs them, and then a slice that fails is undefined
        yield f"{{{{ ({value}){subscript} }}}}"


PERCENT = ["%s", "%r", "%a", "%d", "%i", "%5d|", "%-5d|", "%05d", "%+d", "% d", "%x", "%X", "%#x", "%o", "%#o", "%e", "%E", "%.2e", "%f", "%.0f", "%.3f", "%+.1f", "%010.2f", "%g", "%G", "%.3g", "%c", "%%",
           "%5s|", "%-5s|", "%.1s", "%s %s", "%(a)s", "%(a)5d", "%q", "%", "%5%", "%.10d", "%*d", "x", "%ld", "%08.3e", "%#.0f"]
PERCENT_ARGUMENTS = ["7", "-7", "0", "2.5", "-2.5", "1e100", "123456789", "'é'", "'text'", "none", "true", "[1]", "(1, 2)", "()", "('a',)", "{'a': 5}", "missing", "1e-5", "'1'"]
SPECS = ["", "d", "5", "<5", ">5", "^5", "^6", "*^7", "=5", "05", "+", " ", "+d", "x", "#x", "X", "o", "#o", "b", "#b", "e", ".2e", "f", ".2f", "+.1f", "10.3f", "010.3f", "g", ".3g", "%", ".1%", ",", ",.2f", "_", "_x", "s", "5s", ".1s",
         "ß>4", "<", "n", "E", "G", ".0f", "#.0f", "c", "zz", "5.", ".3", ".10", "012,", "-", "é<6s", "{0}", "08.3"]
SPEC_VALUES = ["7", "-7", "0", "1234567", "2.5", "-0.0", "1e22", "1e-7", "1234567.891", "true", "'ab'", "'é'", "none", "[1]", "missing", "100.0"]
FORMATS = ["'{}'.format(1)", "'{} {}'.format(1)", "'{0} {1} {0}'.format('a', 'b')", "'{} {0}'.format(1, 2)", "'{0} {}'.format(1, 2)", "'{a} {b}'.format(a=1, b='x')",
           "'{{}} {}'.format(1)", "'{'.format(1)", "'}'.format(1)", "'{0[0]} {0[1]}'.format([1, 2])", "'{0[a]} {0.a}'.format({'a': 5})", "'{x[k][0]}'.format(x={'k': 'v'})",
           "'{!r} {!s} {!a}'.format('é', 'é', 'é')", "'{!x}'.format(1)", "'{:{}}|'.format(1, 5)", "'{:{w}.{p}f}'.format(2.5, w=8, p=2)", "'{a}'.format()", "'{0.upper}'.format('x')",
           "'{0.__class__}'.format('x')", "'{:>{}}'.format('a', 4)", "'{a.b.c}'.format(a={'b': {'c': 1}})", "'{0[}'.format(1)", "'{0[]}'.format([1])", "'{0!}'.format(1)",
           "'{0[0]x}'.format([1])", "'{ }'.format(1)", "'{5}'.format(1)", "'%s' % 'a' ~ 'b'", "'%s-%s' % ('a', 1)", "'{:,}'.format(1234567)"]


def formatting():
    for form, argument in itertools.product(PERCENT, PERCENT_ARGUMENTS):
        yield f"{{{{ '{form}' % {argument} }}}}"
    for spec, value in itertools.product(SPECS, SPEC_VALUES):
        yield f"{{{{ '{{:{spec}}}'.format({value}) }}}}"
    for form in FORMATS:
        yield f"{{{{ {form} }}}}"
    for form in ["%s", "%d %s", "%(a)s"]:
        yield from (f"{{{{ '{form}'|format(1, 2) }}}}", f"{{{{ '{form}'|format(a=1) }}}}", f"{{{{ '{form}'|format(1, a=1) }}}}", f"{{{{ ('<{form}>'|safe) % '<' }}}}")


def numbers():
    literals = ["1_000", "0x1F", "0b101", "0o17", "00", "012", "1.5e3", "1e-3", "1.e5", ".5", "1.", "1E5", "9223372036854775807", "1_0.0_1", "1__0", "0x_ff", "1e400", "5.0e-324", "1.7976931348623157e308"]
    for text in literals:
        yield from (f"{{{{ {text} }}}}", f"{{{{ '{text}'|int }}}}", f"{{{{ '{text}'|float }}}}", f"{{{{ '{text}'|int(5, 0) }}}}", f"{{{{ '{text}'|int(base=16) }}}}", f"{{{{ -{text} }}}}")
    for text in ["inf", "-inf", "nan", "Infinity", "+5", "- 5", "0x1f", "1_2", "_1", "1_", "1e", "e1", "½", "", " 7\n", "7.9", "-7.9", "1e3"]:
        yield from (f"{{{{ '{text}'|int }}}}", f"{{{{ '{text}'|int(-1) }}}}", f"{{{{ '{text}'|float }}}}", f"{{{{ '{text}'|float(none) }}}}", f"{{{{ '{text}'|float|int }}}}",
                    f"{{{{ '{text}'|float|tojson }}}}")
    for value in [0.1, 1 / 3, 1e15, 1e16, 123456789012345680.0, 1e-4, 1e-5, 2.675, 1.005, 0.5, 1.5, 2.5, -2.5, 5e-324, 1e300, 100.0, 12345.678]:
        yield f"{{{{ {value!r} }}}}"
        for digits in (-2, -1, 0, 1, 2, 5, 20):
            yield f"{{{{ {value!r}|round({digits}) }}}}"
    for value, digits in itertools.product([15, 25, 35, -15, -25, 5, 149, 150, 151, 250, 1234567], (-1, -2, -3, 0, 2)):
        yield f"{{{{ {value}|round({digits}) }}}}"
    for a, b in itertools.product([7, -7, 7.5, -7.5, 0.0, 1e308, 3], [2, -2, 2.5, -2.5, 0, 10, 0.1, -1]):
        yield from (f"{{{{ {a} // {b} }}}}", f"{{{{ {a} % {b} }}}}", f"{{{{ {a} / {b} }}}}", f"{{{{ {a} * {b} }}}}", f"{{{{ ({a}) ** ({b}) }}}}")


CLASSES = ["isalpha", "isdigit", "isdecimal", "isalnum", "islower", "isupper", "istitle", "isspace", "isprintable"]


def characters():
    """Every character's case, classes, repr and JSON. Unassigned ones differ between Unicode versions and are left out."""
    import unicodedata
    since_unicode_15 = {0x10FC, 0xA7F2, 0xA7F3, 0xA7F4, 0xAB69}  # lower case for utf8proc, not yet for Python 3.11
    known = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000 and unicodedata.category(chr(c)) != "Cn" and c not in since_unicode_15]
    each = "".join("{{ t.%s() }}\n" % name for name in ["upper", "lower", "title", "capitalize", "swapcase", "casefold"])
    classes = "{% for c in t %}" + "".join("{{ 1 if c.%s() else 0 }}" % name for name in CLASSES) + "{% endfor %}"
    spaces = "{{ t.split()|length }} {{ t.splitlines()|length }} {{ [t] }} {{ t|tojson }} {{ t|tojson(ensure_ascii=true) }} {{ t|length }} {{ t[::-1] }}"
    for begin in range(0, len(known), 2000):
        text = "".join(known[begin:begin + 2000])
        for template in (each, classes, spaces, "{{ t|title }}{{ t|urlencode }}{{ t|wordcount }}"):
            yield f"characters from U+{ord(text[0]):04X}", template, {"t": text}
    for word in ["ΟΔΟΣ", "Σ", "ΑΣ.", "ΑΣ'Β", "'Σ", "ǆ Ǆ ǅ", "ﬁx ﬀ", "ŉ", "İI", "they're bill's", "x1y", "Aẞ"]:
        yield f"case of {word}", each + "{{ t|title }}|{{ t|capitalize }}|{{ t.istitle() }}", {"t": word}


def main():
    templates = [*unary(), *binary(), *products(), *formatting(), *numbers(), *STATEMENTS, *SCOPES, *WHITE_SPACE]
    cases = [(f"snippet {i}", text, VARIABLES) for i, text in enumerate(templates)]
    cases += characters()
    return 1 if compare(cases) else 0


if __name__ == "__main__":
    sys.exit(main())
