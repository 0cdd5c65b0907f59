"""Tokenizers of every kind that is read, trained small: name -> function of a training text that returns a
tokenizers.Tokenizer. The settings are those of the model families named."""
import json
import random

from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors,
                        trainers)

GPT4 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
        r"\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = GPT4.replace(r"\p{N}{1,3}", r"\p{N}")
STABLELM = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|"
            r"\s+(?!\S)|\s+")
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def train(tokenizer, text, alphabet=(), specials=(), size=900, **options):
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=list(alphabet), special_tokens=list(specials),
                                  show_progress=False, **options)
    tokenizer.train_from_iterator(text.split("\n"), trainer)
    return tokenizer


def byte_level(text, pre_tokenizer, **parts):
    tokenizer = Tokenizer(models.BPE(ignore_merges=parts.pop("ignore_merges", False)))
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.normalizer = parts.get("normalizer")
    tokenizer.decoder = decoders.ByteLevel()
    train(tokenizer, text, pre_tokenizers.ByteLevel.alphabet(), parts.get("specials", ["<|endoftext|>"]))
    return tokenizer


def regex_split(pattern, behavior="isolated", invert=False):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), behavior, invert),
                                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def gpt2(text):
    return byte_level(text, pre_tokenizers.ByteLevel(add_prefix_space=False))


def roberta(text):
    tokenizer = byte_level(text, pre_tokenizers.ByteLevel(add_prefix_space=True), specials=["<s>", "</s>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 1)])
    tokenizer.add_tokens([AddedToken("<mask>", lstrip=True), AddedToken("hello", single_word=True)])
    return tokenizer


def smollm(text):
    return byte_level(text, pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                     pre_tokenizers.ByteLevel(add_prefix_space=False)]))


def digits_together(text):
    return byte_level(text, pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=False),
                                                     pre_tokenizers.ByteLevel(add_prefix_space=False)]))


def llama3(text):
    tokenizer = byte_level(text, regex_split(GPT4), ignore_merges=True, specials=[])
    tokenizer.add_special_tokens(["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"])
    bos = tokenizer.token_to_id("<|begin_of_text|>")
    template = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", pair="<|begin_of_text|> $A <|begin_of_text|>:1 $B:1",
        special_tokens=[("<|begin_of_text|>", bos)])
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    return tokenizer


def qwen2(text):
    tokenizer = byte_level(text, regex_split(QWEN2), normalizer=normalizers.NFC(), specials=[])
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer.add_tokens([AddedToken("<think>", normalized=False), AddedToken("</think>", normalized=False)])
    return tokenizer


def stablelm(text):
    return byte_level(text, regex_split(STABLELM, "removed", True), normalizer=normalizers.NFKC())


def o200k(text):
    return byte_level(text, regex_split(O200K))


def llama2(text):
    """Prepend and Replace, byte fallback; as convert_slow_tokenizer writes it with legacy behaviour."""
    byte_tokens = [f"<0x{b:02X}>" for b in range(256)]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")  # only for training
    train(tokenizer, text, specials=["<unk>", "<s>", "</s>"] + byte_tokens, size=1200, limit_alphabet=80)
    tokenizer.pre_tokenizer = None
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                           decoders.Strip(" ", 1, 0)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)])
    return plain_bytes(tokenizer, byte_tokens)


def plain_bytes(tokenizer, byte_tokens):
    """The same without the byte tokens among the added ones, where training puts them."""
    data = json.loads(tokenizer.to_str())
    data["added_tokens"] = [t for t in data["added_tokens"] if t["content"] not in byte_tokens]
    return Tokenizer.from_str(json.dumps(data))


def mistral(text):
    """As llama2 but with Metaspace in front of the first piece only, and user tokens."""
    tokenizer = llama2(text)
    tokenizer.normalizer = None
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    tokenizer.add_special_tokens(["[INST]", "[/INST]"])
    return tokenizer


def metaspace(scheme, split):
    def build(text):
        tokenizer = llama2(text)
        tokenizer.normalizer = normalizers.NFKC()
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme=scheme, split=split)
        tokenizer.decoder = decoders.Sequence([
            decoders.ByteFallback(), decoders.Metaspace(replacement="▁", prepend_scheme=scheme, split=split)])
        return tokenizer
    return build


def unk_only(fuse):
    """No byte fallback: what is not in the alphabet becomes <unk>."""
    def build(text):
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=fuse))
        tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.NFD(), normalizers.Strip()])
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        return train(tokenizer, text, specials=["<unk>"], limit_alphabet=40)
    return build


def some_bytes(text):
    """Byte fallback where a few byte tokens are missing, and no <unk> at all."""
    data = json.loads(llama2(text).to_str())
    data["model"]["unk_token"] = None
    keep = {t: i for t, i in data["model"]["vocab"].items() if not (t.startswith("<0x8") or t == "<0xE2>")}
    data["model"]["vocab"] = {t: i for i, t in enumerate(keep)}
    return Tokenizer.from_str(json.dumps(data))


def affixes(text):
    """Marks at the end of words and at the begin of their other parts."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", continuing_subword_prefix="##", end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.Sequence([decoders.Replace("##", ""), decoders.Replace("</w>", " "), decoders.Fuse(),
                                           decoders.Strip(" ", 0, 1)])
    return train(tokenizer, text, specials=["<unk>"], limit_alphabet=60, continuing_subword_prefix="##",
                 end_of_word_suffix="</w>")


def lowercase(text):
    return byte_level(text, regex_split(r"\w+|[^\w\s]+"), normalizer=normalizers.Sequence([
        normalizers.NFKC(), normalizers.Lowercase(), normalizers.Replace(Regex(r"\s+"), " "),
        normalizers.Replace("ss", "ß")]))


def decomposed(form):
    def build(text):
        return byte_level(text, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
                          normalizer=getattr(normalizers, form)())
    return build


def byte_level_normalizer(text):
    tokenizer = byte_level(text, pre_tokenizers.ByteLevel(add_prefix_space=False))
    tokenizer.normalizer = normalizers.ByteLevel()
    tokenizer.pre_tokenizer = pre_tokenizers.Split("Ġ", "contiguous")
    return tokenizer


def split_behavior(behavior, invert, pattern):
    def build(text):
        return byte_level(text, pre_tokenizers.Sequence([
            pre_tokenizers.Split(pattern, behavior, invert), pre_tokenizers.ByteLevel(add_prefix_space=True)]))
    return build


ADDED = [
    AddedToken("<a>", lstrip=True, normalized=False), AddedToken("<b>", rstrip=True, normalized=False),
    AddedToken("<c>", lstrip=True, rstrip=True, normalized=False),
    AddedToken("word", single_word=True, normalized=False),
    AddedToken("<sw>", single_word=True, lstrip=True, rstrip=True, normalized=False),
    AddedToken("<ab", normalized=False), AddedToken("<ab>c", normalized=False), AddedToken("b>c", normalized=False),
    AddedToken("\n", normalized=False), AddedToken("Straße", normalized=True),
    AddedToken("CAFÉ", normalized=True, lstrip=True), AddedToken("é", normalized=True, single_word=True),
    AddedToken("  x", normalized=True, rstrip=True), AddedToken("日本", normalized=False, single_word=True),
    AddedToken("naïveté", normalized=True, special=True),
    AddedToken("the", normalized=True, single_word=True, special=True),
]
SPECIALS = [AddedToken("<|sp|>", lstrip=True, normalized=False), AddedToken("<|sp|>>", rstrip=True)]
ADDED_PARTS = [
    "<a>", "<b>", "<c>", "word", "<sw>", "<ab>c", "<ab", "b>c", "<ab>", "\n", "Straße", "STRASSE", "straße", "CAFÉ",
    "café", "cafe\u0301", "é", "É", "e\u0301", "  x", "日本", "naïveté", "NAÏVETÉ", "the", "The", " ", "  ",
    "\t",
    "\u3000", ".", "_", "x", "²", "\u0301", "\u200d", "a", "-", "9", "語", "<|sp|>", "<|sp|>>",
]


def added(normalizer, pre_tokenizer=None):
    def build(text):
        tokenizer = byte_level(text, pre_tokenizer or pre_tokenizers.ByteLevel(add_prefix_space=False),
                               normalizer=normalizer)
        tokenizer.add_tokens(ADDED)
        tokenizer.add_special_tokens(SPECIALS)
        return tokenizer
    return build


def plain(pre_tokenizer, normalizer=None):
    """The bytes as tokens and not a merge: ids show the text itself."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.normalizer = normalizer
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


SPACE_PARTS = ["\n", " ", "  ", "\t", "<a>", "<b>", " x", "x ", "ab", "b", "a b", "\u3000", "é"]


def spaces_as_tokens(seed):
    """Five tokens, most of them with white space, and any rules."""
    rng = random.Random(seed)
    tokenizer = plain(pre_tokenizers.ByteLevel(add_prefix_space=False))
    tokenizer.add_tokens([
        AddedToken(text, lstrip=rng.random() < 0.5, rstrip=rng.random() < 0.5, single_word=rng.random() < 0.3,
                   normalized=rng.random() < 0.5) for text in rng.sample(SPACE_PARTS, 5)])
    return tokenizer


# Matches are removed, so that the ids show what matched.
REGEXES = [
    r"\p{L}", r"\p{N}", r"\p{M}", r"\p{P}", r"\p{S}", r"\p{Z}", r"\P{L}", r"\p{^L}", r"[\P{L}]",
    r"[^\p{L}\p{N}]", r"\p{Lu}\p{Ll}*", r"\p{Lo}|\p{Lm}", r"\p{Nd}+", r"\s", r"\S", r"[\s]", r"[^\s]", r"[\S]",
    r"[^\S]", r"\w", r"\W", r"[\w]", r"[^\w]", r"\d", r"\D", r"\h", r"\H", r"[\h]", r"\bt", r"\B.", r"\w\b",
    r".", r"(?m:.)", r"(?m).+", r"^.", r".$", r"\A.", r".\z", r"\n", r"\r?\n", r"\u00e9", r"\x{1F600}",
    r"\t|\v|\f|\a|\e", r"[\r\n]+", r"a*", r"(?=a)", r"(?<=a).", r"(?<!\p{L})\p{L}", r"\s+(?!\S)", r"(?i:k|s)",
    r"(?i)[k-s]+", r"(?i:[^a-f])", r"(?-i:T)", r"(?>a+)b", r"\p{L}++", r"\p{L}?+x", r"\p{L}{1,3}+", r"\d{2}+",
    r"a{,2}b", r"a{2}?", r"a{1,2}?", r"x{2,}", r"{", r"a{b", r"a{,}", r"[]a]", r"[^]a]", r"[a\]b]", r"[a-]",
    r"[.*+?]", r"\.", r"\p{Han}+", r"\p{Latin}+", r"\p{Hiragana}|\p{Katakana}", r"(?:ab|a)b", r"(a|ab)(c|bcd)?",
    r"a|", r"\-\/\'",
]

CASES = {
    "gpt2": gpt2, "roberta": roberta, "smollm": smollm, "digits_together": digits_together, "llama3": llama3,
    "qwen2": qwen2, "stablelm": stablelm, "o200k": o200k, "llama2": llama2, "mistral": mistral,
    "unk_fused": unk_only(True), "unk_single": unk_only(False), "some_bytes": some_bytes, "affixes": affixes,
    "lowercase": lowercase, "byte_level_normalizer": byte_level_normalizer,
    **{f"metaspace_{scheme}_{'split' if split else 'whole'}": metaspace(scheme, split)
       for scheme in ("always", "first", "never") for split in (True, False)},
    **{form.lower(): decomposed(form) for form in ("NFC", "NFD", "NFKC", "NFKD")},
    **{f"split_{behavior}_{name}": split_behavior(behavior, invert, pattern)
       for behavior in ("removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous")
       for name, invert, pattern in (("regex", False, Regex(r"\p{Lu}|\d+|,")), ("inverted", True, Regex(r"[a-m ]*")),
                                     ("string", False, " "))},
    "added_plain": added(None), "added_nfkc": added(normalizers.NFKC()),
    "added_lowercase": added(normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])),
    "added_prefix_space": added(None, pre_tokenizers.ByteLevel(add_prefix_space=True)),
}
