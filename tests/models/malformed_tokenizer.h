#pragma once
#include "tests/models/malformed.h"
#include "tests/models/tiny_sentencepiece.h"

namespace stamp::malformed {

/// A case whose tokenizer.json has `value` at `pointer`.
inline Case tokenizer_with(std::string name, std::string pointer, std::string value, std::string word) {
  return {std::move(name),
          [pointer, value](const path& dir) {
            edit_json(dir / "tokenizer.json",
                      [&](Json& json) { json[Json::json_pointer(pointer)] = Json::parse(value); });
          },
          "tokenizer.json", std::move(word)};
}

/// A case whose tokenizer.json lacks what is at `pointer`/`key`.
inline Case tokenizer_without(std::string name, std::string pointer, std::string key, std::string word) {
  return {std::move(name),
          [pointer, key](const path& dir) {
            edit_json(dir / "tokenizer.json",
                      [&](Json& json) { json[Json::json_pointer(pointer)].erase(key); });
          },
          "tokenizer.json", std::move(word)};
}

inline std::vector<Case> tokenizer_json_cases() {
  const std::string added =
      R"({"id": 256, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true})";
  const std::string same =
      R"([{"id": 261, "content": "Ab", "single_word": false, "lstrip": false, "rstrip": false, "normalized": true, "special": false},
          {"id": 262, "content": "aB", "single_word": false, "lstrip": false, "rstrip": false, "normalized": true, "special": false}])";
  const auto split = [](const std::string& regex) {
    return R"({"type": "Split", "behavior": "Isolated", "invert": false, "pattern": {"Regex": ")" + regex +
           "\"}}";
  };
  return {
      replaced("Empty", "tokenizer.json", "", "not valid JSON"),
      replaced("NotJson", "tokenizer.json", "{\"model\": ", "not valid JSON"),
      replaced("NotAnObject", "tokenizer.json", "[]", "not a JSON object"),
      replaced("DuplicateKey", "tokenizer.json", R"({"model": {}, "model": {}})", "duplicate key"),
      tokenizer_with("Version", "/version", "\"2.0\"", "version"),
      tokenizer_without("NoModel", "", "model", "model"),
      tokenizer_with("ModelIsAString", "/model", "\"BPE\"", "model is not a JSON object"),
      tokenizer_with("Unigram", "/model/type", "\"Unigram\"", "model.type is Unigram"),
      tokenizer_with("Dropout", "/model/dropout", "0.1", "model.dropout"),
      tokenizer_with("FuseUnkIsANumber", "/model/fuse_unk", "1", "model.fuse_unk must be true or false"),
      tokenizer_with("UnkTokenIsANumber", "/model/unk_token", "0", "model.unk_token must be a string"),
      tokenizer_without("NoVocabulary", "/model", "vocab", "model.vocab is missing"),
      tokenizer_with("VocabularyIsAnArray", "/model/vocab", "[\"a\"]", "model.vocab must be an object"),
      tokenizer_with("NegativeId", "/model/vocab/a", "-1", "the id -1"),
      tokenizer_with("FractionalId", "/model/vocab/a", "1.5", "the id 1.5"),
      tokenizer_with("HugeId", "/model/vocab/a", "4294967296", "the id 4294967296"),
      tokenizer_with("SameIdTwice", "/model/vocab/a", "98", "the id 98 twice"),
      tokenizer_without("NoMerges", "/model", "merges", "model.merges is missing"),
      tokenizer_with("MergesAreAnObject", "/model/merges", "{}", "model.merges must be an array"),
      tokenizer_with("MergeWithoutSpace", "/model/merges", "[\"ab\"]", "index 0"),
      tokenizer_with("MergeWithTwoSpaces", "/model/merges", "[\"a b c\"]", "index 0"),
      tokenizer_with("MergeOfThree", "/model/merges", R"([["a", "b", "c"]])", "index 0"),
      tokenizer_with("MergesOfBothKinds", "/model/merges", R"(["a b", ["a", "b"]])", "model.merges"),
      tokenizer_with("MergeOfUnknown", "/model/merges", "[\"a bb\"]", "\"bb\""),
      tokenizer_with("MergeMakesUnknown", "/model/merges", "[\"a b\"]", "\"ab\""),
      tokenizer_with("AddedTokensAreAnObject", "/added_tokens", "{}", "added_tokens must be an array"),
      tokenizer_with("AddedTokenIsAString", "/added_tokens/0", "\"<s>\"", "added_tokens[0]"),
      tokenizer_without("AddedTokenWithoutContent", "/added_tokens/1", "content", "added_tokens[1].content"),
      tokenizer_without("AddedTokenWithoutLstrip", "/added_tokens/1", "lstrip", "added_tokens[1].lstrip"),
      tokenizer_with("AddedTokenNegativeId", "/added_tokens/0/id", "-5", "added_tokens[0].id"),
      tokenizer_with("AddedTokenTooLong", "/added_tokens/0/content", "\"" + std::string(5000, 'x') + "\"",
                     "longer than"),
      {"AddedTokensTheSameNormalized",
       [same](const path& dir) {
         edit_json(dir / "tokenizer.json", [&](Json& json) {
           json["added_tokens"] = Json::parse(same);
           json["normalizer"] = {{"type", "Lowercase"}};
         });
       },
       "tokenizer.json", "the same in the text"},
      tokenizer_with("UnknownNormalizer", "/normalizer", R"({"type": "Precompiled"})",
                     "normalizer.type is Precompiled"),
      tokenizer_with("NormalizerWithoutType", "/normalizer", "{}", "normalizer.type is missing"),
      tokenizer_with("NormalizerSequenceWithoutList", "/normalizer", R"({"type": "Sequence"})",
                     "normalizer.normalizers"),
      tokenizer_with("NestedUnknownNormalizer", "/normalizer",
                     R"({"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Nmt"}]})",
                     "normalizer.normalizers[1].type is Nmt"),
      tokenizer_with("ReplaceWithoutContent", "/normalizer",
                     R"({"type": "Replace", "pattern": {"String": "a"}})", "content"),
      tokenizer_with("ReplaceWithBadPattern", "/normalizer",
                     R"({"type": "Replace", "pattern": "a", "content": "b"})", "normalizer.pattern"),
      tokenizer_with("UnknownPreTokenizer", "/pre_tokenizer", R"({"type": "UnicodeScripts"})",
                     "pre_tokenizer.type is UnicodeScripts"),
      tokenizer_with(
          "UnknownBehavior", "/pre_tokenizer",
          R"({"type": "Split", "behavior": "Sideways", "invert": false, "pattern": {"String": "a"}})",
          "Sideways"),
      tokenizer_with("BadRegex", "/pre_tokenizer", split("(a"), "regular expression (a"),
      tokenizer_with("UnsupportedRegex", "/pre_tokenizer", split("[a-z&&[^b]]"), "which is not supported"),
      tokenizer_with("UnknownProperty", "/pre_tokenizer", split("\\\\p{Klingon}"), "regular expression"),
      tokenizer_with("MetaspaceOfTwo", "/pre_tokenizer", R"({"type": "Metaspace", "replacement": "__"})",
                     "replacement must be one character"),
      tokenizer_with("MetaspaceScheme", "/pre_tokenizer",
                     R"({"type": "Metaspace", "replacement": "_", "prepend_scheme": "last"})",
                     "prepend_scheme is last"),
      tokenizer_with("UnknownPostProcessor", "/post_processor", R"({"type": "BertProcessing"})",
                     "post_processor.type is BertProcessing"),
      tokenizer_with("TemplateWithUnknownToken", "/post_processor/single/0/SpecialToken/id", "\"[CLS]\"",
                     "[CLS]"),
      tokenizer_with("TemplateWithSecondText", "/post_processor/single/1/Sequence/id", "\"B\"", "id is B"),
      tokenizer_with("TemplateIdTooHigh", "/post_processor/special_tokens/<s>/ids", "[99999999999]", "ids"),
      tokenizer_with("TemplateIdOfNoToken", "/post_processor/special_tokens/<s>/ids", "[261]", "the id 261"),
      tokenizer_with("TemplateTokensAreAnArray", "/post_processor/special_tokens", "[]",
                     "special_tokens must be an object"),
      tokenizer_with("UnknownDecoder", "/decoder", R"({"type": "CTC"})", "decoder.type is CTC"),
      tokenizer_with("StripNegative", "/decoder",
                     R"({"type": "Strip", "content": " ", "start": -1, "stop": 0})", "decoder.start"),
  };
}

/// Cases of a directory that has a tokenizer.model instead of a tokenizer.json.
inline Case model_file(std::string name, std::string bytes, std::string word) {
  return {std::move(name),
          [bytes](const path& dir) {
            std::filesystem::remove(dir / "tokenizer.json");
            std::filesystem::remove(dir / "tokenizer_config.json");
            write_file(dir / "tokenizer.model", bytes);
          },
          "tokenizer.model", std::move(word)};
}
inline Case model_config(std::string name, std::string config, std::string word) {
  Case c = model_file(std::move(name), tiny::sentencepiece_model(), std::move(word));
  c.file = "tokenizer_config.json";
  c.damage = [write_model = c.damage, config](const path& dir) {
    write_model(dir);
    write_file(dir / "tokenizer_config.json", config);
  };
  return c;
}

inline std::vector<Case> tokenizer_model_cases() {
  using namespace tiny;
  const std::string good = sentencepiece_model(), pieces = sentencepiece_pieces(),
                    trainer = sentencepiece_trainer();
  const auto rules = [&](const std::string& charsmap) {
    return pieces + trainer + bytes_field(3, bytes_field(2, charsmap));
  };
  const auto unit = [](uint32_t x) {
    std::string out;
    for (int i = 0; i < 4; ++i) out += char(x >> (8 * i));
    return out;
  };
  return {
      model_file("ModelEmpty", "", "no pieces"),
      model_file("ModelIsText", "this is not a model", "damaged"),
      model_file("ModelCutInPieces", good.substr(0, 100), "damaged"),
      model_file("ModelCutInTrainer", good.substr(0, pieces.size() + 3), "damaged"),
      model_file("ModelEndlessVarint", std::string(20, '\xff'), "damaged"),
      model_file("ModelFieldZero", std::string(2, '\0'), "damaged"),
      model_file("ModelHugeLength", "\x0a\xff\xff\xff\xff\x7f", "damaged"),
      model_file("ModelWordType", pieces + bytes_field(2, number_field(3, 3)), "neither unigram nor BPE"),
      model_file("ModelScoreIsNan", good + piece("zz", std::bit_cast<float>(0x7fc00000), kNormal), "finite"),
      model_file("ModelEmptyPiece", good + piece("", -1, kNormal), "piece"),
      model_file("ModelPieceIsNotUtf8", good + piece("\xff", -1, kNormal), "UTF-8"),
      model_file("ModelPieceTwice", good + piece("ab", -1, kNormal), "already defined"),
      model_file("ModelWithoutUnk", piece("a", -1, kNormal) + bytes_field(2, number_field(3, 2)), "unk"),
      model_file("ModelByteMissing", pieces.substr(0, pieces.size() / 2 / 14 * 14) + trainer,
                 "tokenizer.model"),
      model_file("ModelSuffix",
                 pieces + bytes_field(2, number_field(3, 2) + number_field(24, 1) + number_field(35, 1)),
                 "treat_whitespace_as_suffix"),
      model_file("ModelRulesTooShort", rules("abc"), "normalisation rules"),
      model_file("ModelRulesTooLong", rules(unit(4000) + std::string(400, '\0')), "normalisation rules"),
      model_file("ModelRulesLeaveTheTrie",
                 rules(unit(1024) + unit(0x7ffffc00) + std::string(1020, '\0') + std::string("x\0", 2)),
                 "normalisation rules"),
      model_file("ModelDenormalizer", good + bytes_field(5, bytes_field(2, "rules")), "rules for decoding"),
      model_config("ConfigNotJson", "{", "not valid JSON"),
      model_config("ConfigOtherClass", R"({"tokenizer_class": "T5Tokenizer"})", "T5Tokenizer"),
      model_config("ConfigAddBosIsAString", R"({"add_bos_token": "yes"})", "add_bos_token"),
      model_config("ConfigBosIsANumber", R"({"bos_token": 1})", "bos_token"),
      model_config("ConfigBosWithoutContent", R"({"bos_token": {"lstrip": false}})", "bos_token"),
      model_config("ConfigAddedIsAnArray", R"({"added_tokens_decoder": []})", "added_tokens_decoder"),
      model_config("ConfigAddedBadId", R"({"added_tokens_decoder": {"x1": {"content": "<p>"}}})", "\"x1\""),
      model_config("ConfigAddedWithoutContent", R"({"added_tokens_decoder": {"300": {}}})",
                   "added_tokens_decoder.300.content"),
      model_config("ConfigSampling", R"({"sp_model_kwargs": {"enable_sampling": true}})", "sp_model_kwargs"),
  };
}

}  // namespace stamp::malformed
