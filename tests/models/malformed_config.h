#pragma once
#include <sys/stat.h>

#include "tests/models/malformed.h"

namespace stamp::malformed {

/// What no JSON file may be, tried on config.json; every reader shares the parser.
inline std::vector<Case> json_cases() {
  const auto json = [](const char* name, std::string bytes, const char* word) {
    return replaced(name, "config.json", std::move(bytes), word);
  };
  const auto nested = [](int depth) {
    return std::string(size_t(depth), '[') + std::string(size_t(depth), ']');
  };
  std::string bad_utf8 = R"({"model_type": "lla??ma"})";
  bad_utf8.replace(bad_utf8.find("??"), 2, "\xc3\x28");
  std::string overlong = R"({"model_type": "lla??ma"})";
  overlong.replace(overlong.find("??"), 2, "\xc0\xaf");
  return {
      json("JsonEmpty", "", "not valid JSON"),
      json("JsonOnlySpace", " \n\t ", "not valid JSON"),
      json("JsonTruncated", R"({"model_type": "llama", "vocab_size": 26)", "not valid JSON"),
      json("JsonText", "<html>404 Not Found</html>", "not valid JSON"),
      json("JsonPointerOfGitLfs", "version https://git-lfs.github.com/spec/v1\n", "not valid JSON"),
      json("JsonTextAfterTheValue", "{} {}", "not valid JSON"),
      json("JsonDuplicateKey", R"({"vocab_size": 264, "vocab_size": 264})", "duplicate key \"vocab_size\""),
      json("JsonDuplicateKeyByEscape", R"({"vocab_size": 264, "voc\u0061b_size": 1})",
           "duplicate key \"vocab_size\""),
      json("JsonDuplicateKeyInside", R"({"rope_scaling": {"type": "linear", "type": "yarn"}})",
           "duplicate key \"type\""),
      json("JsonDuplicateKeyWithLineBreak", "{\"a\\nb\": 1, \"a\\nb\": 2}", "duplicate key \"a\\u000ab\""),
      json("JsonTooDeep", "{\"rope_scaling\": " + nested(64) + "}", "nested deeper than 64"),
      json("JsonMuchTooDeep", std::string(1 << 20, '['), "nested deeper than 64"),
      json("JsonBadUtf8", bad_utf8, "not valid JSON"),
      json("JsonOverlongUtf8", overlong, "not valid JSON"),
      json("JsonLoneSurrogate", R"({"model_type": "\ud800"})", "not valid JSON"),
      json("JsonNul", std::string("{\"vocab_size\0\": 1}", 17), "not valid JSON"),
      json("JsonNan", R"({"rms_norm_eps": NaN})", "not valid JSON"),
      json("JsonInfinity", R"({"rope_theta": Infinity})", "not valid JSON"),
      json("JsonHugeNumber", R"({"rope_theta": 1e999})", "not valid JSON"),
      json("JsonLeadingZero", R"({"vocab_size": 0264})", "not valid JSON"),
      json("JsonComment", "{\"vocab_size\": 264 // tokens\n}", "not valid JSON"),
      json("JsonTrailingComma", R"({"vocab_size": 264,})", "not valid JSON"),
      json("JsonSingleQuotes", "{'vocab_size': 264}", "not valid JSON"),
      json("JsonLineBreakInString", "{\"model_type\": \"lla\nma\"}", "not valid JSON"),
      json("JsonArray", "[1, 2]", "not a JSON object"),
      json("JsonNull", "null", "not a JSON object"),
      {"JsonTooLarge", [](const path& dir) { std::filesystem::resize_file(dir / "config.json", 65 << 20); },
       "config.json", "more than the limit"},
      {"JsonMissing", [](const path& dir) { std::filesystem::remove(dir / "config.json"); }, "config.json",
       "no such file"},
      {"JsonDirectory",
       [](const path& dir) {
         std::filesystem::remove(dir / "config.json");
         std::filesystem::create_directory(dir / "config.json");
       },
       "config.json", "not a regular file"},
      {"JsonPipe",
       [](const path& dir) {
         std::filesystem::remove(dir / "config.json");
         mkfifo((dir / "config.json").c_str(), 0600);
       },
       "config.json", "not a regular file"},
  };
}

inline std::vector<Case> config_cases() {
  const auto config = [](const char* name, const char* patch, const char* word) {
    return merged(name, "config.json", patch, word);
  };
  return {
      config("NoVocab", R"({"vocab_size": null})", "vocab_size is missing"),
      config("VocabIsText", R"({"vocab_size": "264"})", "vocab_size must be a whole number"),
      config("VocabIsFraction", R"({"vocab_size": 264.5})", "vocab_size must be a whole number"),
      config("VocabIsFloat", R"({"vocab_size": 264.0})", "vocab_size must be a whole number"),
      config("VocabIsZero", R"({"vocab_size": 0})", "vocab_size is 0"),
      config("VocabIsNegative", R"({"vocab_size": -264})", "vocab_size is -264"),
      config("VocabIsHuge", R"({"vocab_size": 8388609})", "vocab_size is 8388609"),
      config("VocabBeyond64Bits", R"({"vocab_size": 9223372036854775808})",
             "vocab_size must be a whole number"),
      config("VocabFarBeyond64Bits", R"({"vocab_size": 1e30})", "vocab_size must be a whole number"),
      config("NoHidden", R"({"hidden_size": null})", "hidden_size is missing"),
      config("HiddenIsBoolean", R"({"hidden_size": true})", "hidden_size must be a whole number"),
      config("NoMlp", R"({"intermediate_size": null})", "intermediate_size is missing"),
      config("NoLayers", R"({"num_hidden_layers": 0})", "num_hidden_layers is 0"),
      config("TooManyLayers", R"({"num_hidden_layers": 4097})", "num_hidden_layers is 4097"),
      config("NoHeads", R"({"num_attention_heads": null})", "num_attention_heads is missing"),
      config("HeadsDoNotDivide", R"({"num_attention_heads": 5, "num_key_value_heads": 5, "head_dim": null})",
             "hidden_size must be a multiple of num_attention_heads"),
      config("GroupsDoNotDivide", R"({"num_key_value_heads": 3})", "num_attention_heads must be a multiple"),
      config("NoKvHeads", R"({"num_key_value_heads": 0})", "num_key_value_heads is 0"),
      config("HeadIsOdd", R"({"head_dim": 7})", "head_dim is 7, must be even"),
      config("DerivedHeadIsOdd", R"({"hidden_size": 20, "head_dim": null})", "head_dim is 5, must be even"),
      config("HeadIsOne", R"({"head_dim": 1})", "head_dim is 1"),
      config("HeadsAreHuge", R"({"num_attention_heads": 65536, "head_dim": 65536})",
             "head_dim times num_attention_heads"),
      config("NoPositions", R"({"max_position_embeddings": 0})", "max_position_embeddings is 0"),
      config("EpsIsText", R"({"rms_norm_eps": "1e-5"})", "rms_norm_eps must be a number"),
      config("EpsIsNegative", R"({"rms_norm_eps": -1e-5})", "rms_norm_eps is -1e-05"),
      config("BiasIsText", R"({"attention_bias": "yes"})", "attention_bias must be true or false"),
      config("TieIsNumber", R"({"tie_word_embeddings": 1})", "tie_word_embeddings must be true or false"),
      config("BosOutOfRange", R"({"bos_token_id": 264})", "bos_token_id must be token ids between 0 and 263"),
      config("EosIsNegative", R"({"eos_token_id": -1})", "eos_token_id"),
      config("EosIsFraction", R"({"eos_token_id": 2.5})", "eos_token_id"),
      config("EosListHasText", R"({"eos_token_id": [257, "</s>"]})", "eos_token_id"),
      config("EosBeyond64Bits", R"({"eos_token_id": 18446744073709551615})", "eos_token_id"),
      config("EosIsObject", R"({"eos_token_id": {"id": 1}})", "eos_token_id"),
      config("OtherModelType", R"({"model_type": "gpt2"})", "model_type is gpt2"),
      config("ModelTypeIsNumber", R"({"model_type": 3})", "model_type must be a string"),
      config("OtherArchitecture", R"({"architectures": ["MixtralForCausalLM"]})",
             "architectures is [\"MixtralForCausalLM\"]"),
      config("ArchitectureContradictsType", R"({"architectures": ["MistralForCausalLM"]})", "architectures"),
      config("ArchitectureIsText", R"({"architectures": "LlamaForCausalLM"})", "architectures"),
      config("OtherActivation", R"({"hidden_act": "gelu"})", "hidden_act is gelu"),
      config("ActivationIsNumber", R"({"hidden_act": 1})", "hidden_act must be a string"),
      config("TensorParallel", R"({"pretraining_tp": 2})", "pretraining_tp"),
      config("PartialRotary", R"({"partial_rotary_factor": 0.5})", "partial_rotary_factor"),
      config("SlidingWindow", R"({"sliding_window": 4096})", "sliding_window"),
      config("MistralWithoutWindow", R"({"model_type": "mistral", "architectures": ["MistralForCausalLM"]})",
             "sliding_window is missing"),
      config("InterleavedRope", R"({"rope_interleaved": true})", "rope_interleaved"),
      config("Quantised", R"({"quantization_config": {"bits": 4}})", "quantization_config"),
      config("UnknownMultiplier", R"({"attention_multiplier": 0.0078125})", "attention_multiplier"),
      config("UnknownSwitch", R"({"use_qk_norm": true})", "use_qk_norm"),
      config("UnknownExperts", R"({"num_local_experts": 8})", "num_local_experts"),
      config("UnknownFieldWithLineBreak", R"({"a\nb\u001b[31m": 1})", "a\\u000ab\\u001b[31m is a field"),
      config("UnknownList", R"({"no_rope_layers": [1, 1, 0]})", "no_rope_layers"),
      config("ThetaIsZero", R"({"rope_theta": 0})", "rope_theta is 0"),
      config("ThetaIsText", R"({"rope_theta": "10000"})", "rope_theta must be a number"),
      config("ScalingIsText", R"({"rope_scaling": "linear"})", "rope_scaling is not a JSON object"),
      config("ScalingIsUnknown", R"({"rope_scaling": {"type": "dynamic", "factor": 2}})",
             "rope_scaling.rope_type is dynamic"),
      config("ScalingHasTwoTypes",
             R"({"rope_scaling": {"type": "linear", "rope_type": "yarn", "factor": 2}})", "contradict"),
      config("LinearWithoutFactor", R"({"rope_scaling": {"type": "linear"}})",
             "rope_scaling.factor is missing"),
      config("LinearFactorBelowOne", R"({"rope_scaling": {"type": "linear", "factor": 0.5}})",
             "rope_scaling.factor is 0.5"),
      config("LinearWithForeignField",
             R"({"rope_scaling": {"type": "linear", "factor": 2, "beta_fast": 32}})",
             "rope_scaling.beta_fast"),
      config("Llama3WithoutBand",
             R"({"rope_scaling": {"rope_type": "llama3", "factor": 8, "high_freq_factor": 4,
                                  "original_max_position_embeddings": 128}})",
             "rope_scaling.low_freq_factor is missing"),
      config(
          "Llama3BandReversed",
          R"({"rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 1,
                                  "original_max_position_embeddings": 128}})",
          "rope_scaling.high_freq_factor must be above"),
      config(
          "Llama3WithoutOriginal",
          R"({"rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4}})",
          "rope_scaling.original_max_position_embeddings is missing"),
      config("YarnBetaReversed",
             R"({"rope_scaling": {"rope_type": "yarn", "factor": 4, "beta_fast": 1, "beta_slow": 32}})",
             "rope_scaling.beta_fast must not be below"),
      config("YarnTruncateIsText",
             R"({"rope_scaling": {"rope_type": "yarn", "factor": 4, "truncate": "no"}})",
             "rope_scaling.truncate must be true or false"),
      config("YarnMscaleIsNegative", R"({"rope_scaling": {"rope_type": "yarn", "factor": 4, "mscale": -1}})",
             "rope_scaling.mscale is -1"),
      config("YarnOriginalIsZero",
             R"({"rope_scaling": {"rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 0}})",
             "rope_scaling.original_max_position_embeddings is 0"),
      config("YarnThetaIsOne", R"({"rope_theta": 1, "rope_scaling": {"rope_type": "yarn", "factor": 4}})",
             "rope_theta must be above 1"),
      config(
          "ScalingGivenTwice",
          R"({"rope_scaling": {"type": "linear", "factor": 2}, "rope_parameters": {"rope_type": "linear", "factor": 4}})",
          "rope_scaling and rope_parameters contradict"),
      config("ThetaGivenTwice", R"({"rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}})",
             "rope_theta is given twice"),
      config("PartialRotaryInside",
             R"({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}})",
             "rope_parameters.partial_rotary_factor"),
  };
}

inline std::vector<Case> generation_config_cases() {
  const std::string file = "generation_config.json";
  const auto generation = [&](const char* name, const char* text, const char* word) {
    return replaced(name, file, text, word);
  };
  return {
      generation("GenerationIsNotJson", "do_sample: true", "not valid JSON"),
      generation("GenerationIsArray", "[]", "not a JSON object"),
      generation("GenerationSampleIsText", R"({"do_sample": "yes"})", "do_sample must be true or false"),
      generation("GenerationTemperatureIsText", R"({"temperature": "hot"})", "temperature must be a number"),
      generation("GenerationTemperatureIsNegative", R"({"temperature": -0.5})", "temperature is -0.5"),
      generation("GenerationTopPIsZero", R"({"top_p": 0})", "top_p is 0"),
      generation("GenerationTopPAboveOne", R"({"top_p": 1.5})", "top_p is 1.5"),
      generation("GenerationMinPAboveOne", R"({"min_p": 2})", "min_p is 2"),
      generation("GenerationTopKIsNegative", R"({"top_k": -1})", "top_k is -1"),
      generation("GenerationTopKIsFraction", R"({"top_k": 1.5})", "top_k must be a whole number"),
      generation("GenerationPenaltyIsZero", R"({"repetition_penalty": 0})", "repetition_penalty is 0"),
      generation("GenerationEosOutOfRange", R"({"eos_token_id": [257, 264]})",
                 "eos_token_id must be token ids"),
      {"GenerationIsDirectory", [file](const path& dir) { std::filesystem::create_directory(dir / file); },
       file, "not a regular file"},
      {"GenerationIsDanglingLink",
       [file](const path& dir) { std::filesystem::create_symlink("../../blobs/0123", dir / file); }, file,
       "no such file"},
  };
}

}  // namespace stamp::malformed
