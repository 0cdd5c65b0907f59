"""Texts that tokenizers are compared on. Everything is drawn from fixed seeds."""
import os
import random
from pathlib import Path

SPACES = ("\t\n\v\f\r \x1c\x1d\x1e\x1f\x85\xa0\u1680\u180e\u2000\u2001\u2002\u2003\u2009\u200a\u200b\u2028\u2029\u202f"
          "\u205f\u3000\ufeff")
CONTROLS = ("\x00\x01\x02\x07\x08\x1b\x7f\x80\x9f\u200c\u200d\u200e\u200f\u202a\u202e\u2060\u2066\ufff9"
            "\U000e0001\U000e0020")
MARKS = ("\u0300\u0301\u0308\u0327\u0328\u0334\u0345\u05b0\u0651\u093c\u094d\u09be\u0e31\u0f71\u0f74\u1161\u11a8"
         "\u20dd\u302a\u3099\u1ab0\u0897\U0001e08f")
DIGITS = "0123456789٠٣۹०५૧๔²³¹½Ⅳⅷ①⑳〇三𝟙𝟿𑁦𐄇௰"
LETTERS = (
    "abcxyzABCXYZ", "àéîõüßñçÅØÆœŁ", "İıſKÅǅǆΣςσß", "αβγΩжЙёЯ", "אבגשׁ", "العربيةﷺﻻ", "हिन्दीनमस्ते", "ไทยภาษา",
    "中文汉字漢語龍", "日本語ひらがなカタカナﾊﾝｶｸ", "한국어조합한", "𠀀𠮷𪚥𰻝", "🀄𝓐𝕏ﬀﬁﬃ", "Ġ▁Ċĉ",
    "ꟋᲉ𑂀\U000105c0\U0001ccd6\u32ff\u4dbf",
)
SYMBOLS = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~¡¿«»§¶†‡•…—–‘’“”€£¥©®™±×÷∑∞≠←→■□▁\ufffd\ufffe\uffff"
EMOJI = ("😀", "👍🏽", "👨‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪", "1️⃣", "❤️", "🧑🏿‍🚀", "👁️‍🗨️", "🏴\U000e0067\U000e0062\U000e007f")
WORDS = (
    "the", "The", "THE", "quick", "it's", "I'LL", "we've", "don't", "he'd", "I'm", "'s", "'ſ", "'Re", "naïve", "x86_64",
    "3.14159", "10,000", "http://example.org/a?b=c&d", "foo_bar", "camelCase", "\r\n", "\n\n\n", "    ", "\t\t", "==",
    "->", "...", "<0x41>", "<s>", "</s>", "<unk>", "Straße", "ﬁn",
)


def random_part(rng):
    kind = rng.randrange(13)
    if kind < 3:
        return rng.choice(WORDS)
    if kind == 3:
        return " " * rng.choice((1, 1, 1, 2, 3, 7))
    if kind == 4:
        return "".join(rng.choices(SPACES, k=rng.randint(1, 3)))
    if kind == 5:
        return rng.choice(CONTROLS)
    if kind == 6:
        return rng.choice(rng.choice(LETTERS)) + "".join(rng.choices(MARKS, k=rng.randint(1, 4)))
    if kind == 7:
        return "".join(rng.choices(DIGITS, k=rng.randint(1, 5)))
    if kind == 8:
        return rng.choice(EMOJI)
    if kind == 9:
        return "".join(rng.choices(SYMBOLS, k=rng.randint(1, 3)))
    if kind == 10:
        code = rng.randrange(rng.choice((0x250, 0x3000, 0x10000, 0x20000, 0x110000)))
        return "" if 0xd800 <= code < 0xe000 else chr(code)
    return "".join(rng.choices(rng.choice(LETTERS), k=rng.randint(1, 8)))


def random_strings(count, seed=20260101):
    """Mixes of scripts, marks, emoji, white space, controls and code points drawn from everywhere."""
    rng = random.Random(seed)
    return ["".join(random_part(rng) for _ in range(rng.randint(1, 24))) for _ in range(count)]


def random_bytes(count, seed=20260102):
    """Texts that are not UTF-8: damaged strings, pieces of multi-byte sequences, noise."""
    rng = random.Random(seed)
    noise = (0x80, 0xbf, 0xc0, 0xc2, 0xe0, 0xa0, 0xed, 0x9f, 0xef, 0xf0, 0x90, 0xf4, 0x8f, 0xf5, 0xff, 0x41)
    result = []
    for text in random_strings(count, seed):
        data = bytearray(text.encode())
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(data) + 1)
            data[at:at + rng.randint(0, 2)] = bytes(rng.choices(noise, k=rng.randint(1, 3)))
        result.append(bytes(data))
    return result


EDGES = [
    "", " ", "  ", "   \n\t ", "\n", "\r\n", "a", " a", "a ", "  a  ", "\u00a0", "\u3000\u3000", "\x00", "a\x00b",
    "\ufeffBOM", "é", "e\u0301", "\u0301", "\u0301e", "\u1100\u1161\u11a8", "각", "ﬁ", "Å", "\u212b", "\u0958",
    "\U0001d15e", "▁", "▁▁a", " ▁ a", "Ġ", "1234567890", "１２３", "'s't're've'm'll'd", "'S'T'RE'VE'M'LL'D", "<s>",
    "<s><s>", "<s> hello </s>", "hello<s>world", "x</s>", "<unk>", "<0x0A>", "a" * 1000, "ab" * 500, " " * 1000,
    "\n" * 300, "😀" * 100, "\u0301" * 50, "a\u0301\u0300\u0345\u0334\u0327" * 10, "\ufffd", "\ufffd\ufffd a",
    "İ I ı i", "ΑΣ ΑΣΑ", "\U0010ffff", "\ud7ff\ue000", "\U00011935\U00011930\U00011938",
]
BROKEN = [
    b"\xed\xa0\x80", b"\xed\xa0\xbd\xed\xb8\x80", b"a\xffb", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\xf0\x9f\x98a",
    b"\x80\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80", b"\xe0\x80\x80", b"\xfe\xfe\xff\xff", b"abc\xe4\xbd",
    b"\xe4\xbd\xa0\xe5\xa5",
]


def every_character():
    """All of Unicode that has characters, in strings of 4,096."""
    codes = [c for c in (*range(0x32400), *range(0xe0000, 0xe0200), 0x10ffff) if not 0xd800 <= c < 0xe000]
    return ["".join(map(chr, codes[i:i + 4096])) for i in range(0, len(codes), 4096)]


def evaluation_text():
    """The text that STAMP_EVAL_TEXT names; without it one of the same size that looks like words and numbers."""
    path = os.environ.get("STAMP_EVAL_TEXT")
    if path:
        return Path(path).read_text(encoding="utf-8")
    rng = random.Random(20260103)
    syllables = [a + b + c for a in "bdfgklmnprst" for b in "aeiou" for c in ("", "n", "r", "st", "ng")]
    words = ["".join(rng.choices(syllables, k=rng.choice((1, 1, 2, 2, 3)))) for _ in range(8000)]
    odd = (",", ".", "@-@", "( 1994 )", "2,500", "naïve", "São", "'s", "\"")
    lines, size = [], 0
    while size < 1_250_000:
        line = [words[min(int(rng.paretovariate(0.6)), len(words)) - 1] for _ in range(rng.randint(3, 90))]
        for _ in range(len(line) // 12):
            line[rng.randrange(len(line))] = rng.choice(odd)
        lines.append(" ".join(line).capitalize() + " . \n" if rng.random() > 0.1 else f" = {line[0].title()} = \n")
        size += len(lines[-1])
    return " " + " ".join(lines)
