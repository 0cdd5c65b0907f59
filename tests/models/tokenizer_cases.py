"""Tokenizers of every kind that is read, trained small: name -> function of a training text that returns a
tokenizers.Tokenizer. The settings are those of the model families named."""
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

GPT4 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = GPT4.replace(r"\p{N}{1,3}", r"\p{N}")
STABLELM = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+")
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
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), processors.TemplateProcessing(
        single="<|begin_of_text|> $A", pair="<|begin_of_text|> $A <|begin_of_text|>:1 $B:1",
        special_tokens=[("<|begin_of_text|>", bos)])])
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
    import json
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
        tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(),
                                               decoders.Metaspace(replacement="▁", prepend_scheme=scheme, split=split)])
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
    import json
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
    return train(tokenizer, text, specials=["<unk>"], limit_alphabet=60, continuing_subword_prefix="##", end_of_word_suffix="</w>")


def lowercase(text):
    return byte_level(text, regex_split(r"\w+|[^\w\s]+"), normalizer=normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Lowercase(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Replace("ss", "ß")]))


def decomposed(form):
    def build(text):
        return byte_level(text, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False), normalizer=getattr(normalizers, form)())
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
    AddedToken("<c>", lstrip=True, rstrip=True, normalized=False), AddedToken("word", single_word=True, normalized=False),
    AddedToken("<sw>", single_word=True, lstrip=True, rstrip=True, normalized=False), AddedToken("<ab", normalized=False),
    AddedToken("<ab>c", normalized=False), AddedToken("b>c", normalized=False), AddedToken("\n", normalized=False),
    AddedToken("Straße", normalized=True), AddedToken("CAFÉ", normalized=True, lstrip=True), AddedToken("é", normalized=True, single_word=True),
    AddedToken("  x", normalized=True, rstrip=True), AddedToken("日本", normalized=False, single_word=True),
    AddedToken("naïveté", normalized=True, special=True), AddedToken("the", normalized=True, single_word=True, special=True),
]
ADDED_PARTS = ["<a>", "<b>", "<c>", "word", "<sw>", "<ab>c", "<ab", "b>c", "<ab>", "\n", "Straße", "STRASSE", "straße", "CAFÉ", "café", "cafe\u0301", "é", "É", "e\u0301",
               "  x", "日本", "naïveté", "NAÏVETÉ", "the", "The", " ", "  ", "\t", "\u3000", ".", "_", "x", "²", "\u0301", "\u200d", "a", "-", "9", "語"]


def added(normalizer, pre_tokenizer=None):
    def build(text):
        tokenizer = byte_level(text, pre_tokenizer or pre_tokenizers.ByteLevel(add_prefix_space=False), normalizer=normalizer)
        tokenizer.add_tokens(ADDED)
        tokenizer.add_special_tokens([AddedToken("<|sp|>", lstrip=True, normalized=False), AddedToken("<|sp|>>", rstrip=True)])
        return tokenizer
    return build


CASES = {
    "gpt2": gpt2, "roberta": roberta, "smollm": smollm, "digits_together": digits_together, "llama3": llama3, "qwen2": qwen2,
    "stablelm": stablelm, "o200k": o200k, "llama2": llama2, "mistral": mistral, "unk_fused": unk_only(True), "unk_single": unk_only(False),
    "some_bytes": some_bytes, "affixes": affixes, "lowercase": lowercase, "byte_level_normalizer": byte_level_normalizer,
    **{f"metaspace_{scheme}_{split}": metaspace(scheme, split) for scheme in ("always", "first", "never") for split in (True, False)},
    **{form.lower(): decomposed(form) for form in ("NFC", "NFD", "NFKC", "NFKD")},
    **{f"split_{behavior}_{invert}": split_behavior(behavior, invert, pattern)
       for behavior in ("removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous")
       for invert, pattern in ((False, Regex(r"\p{Lu}|\d+|,")), (True, Regex(r"[a-m ]*")), (False, " "))},
    "added_plain": added(None), "added_nfkc": added(normalizers.NFKC()),
    "added_lowercase": added(normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])),
    "added_prefix_space": added(None, pre_tokenizers.ByteLevel(add_prefix_space=True)),
}
