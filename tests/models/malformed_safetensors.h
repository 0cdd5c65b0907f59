#pragma once
#include <sys/stat.h>

#include "tests/models/malformed.h"

namespace stamp::malformed {

inline constexpr const char* kWeights = "model.safetensors";
inline constexpr const char* kIndex = "model.safetensors.index.json";
inline constexpr const char* kNorm = "model.norm.weight";  // [16] of F32

/// model.safetensors again with another header over the same data.
inline void edit_header(const path& dir, const std::function<void(Json&)>& change) {
  const std::string bytes = slurp(dir / kWeights);
  size_t length = 0;
  for (size_t i = 8; i-- > 0;) length = length << 8 | size_t(uint8_t(bytes[i]));
  Json header = Json::parse(bytes.substr(8, length));
  change(header);
  write_file(dir / kWeights, safetensors_bytes(header.dump(), std::string_view(bytes).substr(8 + length)));
}

/// The tiny model in two shards: the norm alone in the second.
inline void shard(const path& dir) {
  TinyTensors first = random_model().tensors, second;
  second.insert(first.extract(kNorm));
  size_t total = 0;
  Json weight_map;
  const std::pair<const char*, TinyTensors*> shards[] = {{"model-00001-of-00002.safetensors", &first},
                                                         {"model-00002-of-00002.safetensors", &second}};
  for (const auto& [name, tensors] : shards) {
    write_file(dir / name, safetensors_bytes(*tensors));
    for (const auto& [tensor, value] : *tensors) weight_map[tensor] = name, total += value.data.size();
  }
  std::filesystem::remove(dir / kWeights);
  write_file(dir / kIndex, Json{{"metadata", {{"total_size", total}}}, {"weight_map", weight_map}}.dump());
}

/// What a safetensors file may not be. Headers by hand: the parts of `tensor` in turn.
inline std::vector<Case> safetensors_cases() {
  const auto file = [](const char* name, std::string bytes, const char* word) {
    return replaced(name, kWeights, std::move(bytes), word);
  };
  const auto length = [](uint64_t n) {
    std::string bytes(8, '\0');
    for (size_t i = 0; i < 8; ++i) bytes[i] = char(n >> (8 * i));
    return bytes;
  };
  // One tensor "a" of these fields over `data` bytes of data.
  const auto one = [&](const char* name, const std::string& fields, size_t data, const char* word) {
    return file(name, safetensors_bytes("{\"a\": {" + fields + "}}", std::string(data, 'x')), word);
  };
  // Two tensors of one byte each at these offsets, over four bytes.
  const auto two = [&](const char* name, const char* a, const char* b, const char* word) {
    const auto tensor = [](const char* offsets) {
      return std::string(R"({"dtype": "U8", "shape": [2], "data_offsets": )") + offsets + "}";
    };
    return file(name, safetensors_bytes("{\"a\": " + tensor(a) + ", \"b\": " + tensor(b) + "}", "0123"),
                word);
  };
  return {
      file("SafetensorsEmpty", "", "is empty"),
      file("SafetensorsShorterThanItsLength", std::string("\x02\0\0", 3), "too short"),
      file("SafetensorsNoHeader", length(64), "does not fit the file"),
      file("SafetensorsHeaderCutOff", length(100) + R"({"a": {"dtype")", "does not fit the file"),
      file("SafetensorsHeaderOfTwoGigabytes", length(uint64_t{1} << 31) + "{}",
           "exceeds the limit of 100 MB"),
      file("SafetensorsHeaderJustTooLong", length(100'000'001) + "{}", "exceeds the limit of 100 MB"),
      file("SafetensorsHeaderOverflows", length(~uint64_t{0}) + "{}", "exceeds the limit of 100 MB"),
      file("SafetensorsHeaderOverflowsBySeven", length(~uint64_t{7}) + "{}", "exceeds the limit of 100 MB"),
      file("SafetensorsHeaderOfNoBytes", length(0), "not valid JSON"),
      file("SafetensorsIsPickle", std::string("PK\x03\x04\0\0\0\0\0\0\0\0", 12), "does not fit the file"),
      file("SafetensorsIsGguf", std::string("GGUF\x03\0\0\0", 8) + std::string(64, '\0'),
           "exceeds the limit of 100 MB"),
      file("SafetensorsHeaderIsNotJson", safetensors_bytes("{'a': 1}", ""), "not valid JSON"),
      file("SafetensorsHeaderIsArray", safetensors_bytes("[]", ""), "not a JSON object"),
      file("SafetensorsHeaderHasBadUtf8", safetensors_bytes("{\"\xff\": 1}", ""), "not valid JSON"),
      file("SafetensorsHeaderTooDeep", safetensors_bytes("{\"a\":" + std::string(70, '['), ""),
           "nested deeper than 64"),
      file("SafetensorsTextAfterHeader", safetensors_bytes("{} x", ""), "not valid JSON"),
      file("SafetensorsDuplicateTensor",
           safetensors_bytes(R"({"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
                                 "a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}})",
                             "x"),
           "duplicate key \"a\""),
      file("SafetensorsMetadataIsArray", safetensors_bytes(R"({"__metadata__": []})", ""),
           "__metadata__ is not an object"),
      file("SafetensorsMetadataIsNumber", safetensors_bytes(R"({"__metadata__": {"format": 1}})", ""),
           "__metadata__ \"format\" is not a string"),
      file("SafetensorsTensorIsNumber", safetensors_bytes(R"({"a": 1})", ""),
           "tensor \"a\" is not an object"),
      one("SafetensorsNoDtype", R"("shape": [1], "data_offsets": [0, 1])", 1, "tensor \"a\" has no dtype"),
      one("SafetensorsDtypeIsNumber", R"("dtype": 4, "shape": [1], "data_offsets": [0, 1])", 1,
          "has no dtype"),
      one("SafetensorsUnknownDtype", R"("dtype": "F4", "shape": [1], "data_offsets": [0, 1])", 1,
          "unknown dtype F4"),
      one("SafetensorsNoShape", R"("dtype": "U8", "data_offsets": [0, 1])", 1, "has no shape"),
      one("SafetensorsShapeIsNumber", R"("dtype": "U8", "shape": 1, "data_offsets": [0, 1])", 1,
          "has no shape"),
      one("SafetensorsNegativeDimension", R"("dtype": "U8", "shape": [-1], "data_offsets": [0, 1])", 1,
          "a dimension must be"),
      one("SafetensorsFractionalDimension", R"("dtype": "U8", "shape": [1.0], "data_offsets": [0, 1])", 1,
          "a dimension must be"),
      one("SafetensorsDimensionIsText", R"("dtype": "U8", "shape": ["1"], "data_offsets": [0, 1])", 1,
          "a dimension must be"),
      one("SafetensorsDimensionIsNull", R"("dtype": "U8", "shape": [null], "data_offsets": [0, 1])", 1,
          "a dimension must be"),
      one("SafetensorsShapeOverflows",
          R"("dtype": "U8", "shape": [4294967296, 4294967296, 1], "data_offsets": [0, 1])", 1,
          "shape overflows 64 bits"),
      one("SafetensorsBytesOverflow",
          R"("dtype": "F64", "shape": [2305843009213693953], "data_offsets": [0, 8])", 8,
          "shape overflows 64 bits"),
      one("SafetensorsDimensionOverflows",
          R"("dtype": "U8", "shape": [9223372036854775808], "data_offsets": [0, 1])", 1,
          "shape overflows 64 bits"),
      one("SafetensorsDimensionFarTooLarge",
          R"("dtype": "U8", "shape": [18446744073709551616], "data_offsets": [0, 1])", 1,
          "a dimension must be"),
      one("SafetensorsNoOffsets", R"("dtype": "U8", "shape": [1])", 1, "no pair of data_offsets"),
      one("SafetensorsOneOffset", R"("dtype": "U8", "shape": [1], "data_offsets": [0])", 1,
          "no pair of data_offsets"),
      one("SafetensorsThreeOffsets", R"("dtype": "U8", "shape": [1], "data_offsets": [0, 1, 1])", 1,
          "no pair of data_offsets"),
      one("SafetensorsNegativeOffset", R"("dtype": "U8", "shape": [1], "data_offsets": [-1, 0])", 1,
          "data_offsets must be"),
      one("SafetensorsFractionalOffset", R"("dtype": "U8", "shape": [1], "data_offsets": [0, 1.0])", 1,
          "data_offsets must be"),
      one("SafetensorsOffsetsReversed", R"("dtype": "U8", "shape": [1], "data_offsets": [1, 0])", 1,
          "not within the file"),
      one("SafetensorsOffsetBeyondEnd", R"("dtype": "U8", "shape": [2], "data_offsets": [0, 2])", 1,
          "not within the file"),
      one("SafetensorsOffsetOverflows",
          R"("dtype": "U8", "shape": [1], "data_offsets": [18446744073709551615, 0])", 1,
          "not within the file"),
      one("SafetensorsOffsetFarTooLarge", R"("dtype": "U8", "shape": [1], "data_offsets": [0, 1e300])", 1,
          "data_offsets must be"),
      one("SafetensorsShapeDoesNotMatch", R"("dtype": "F32", "shape": [3], "data_offsets": [0, 8])", 8,
          "need 12 bytes"),
      one("SafetensorsUnknownField", R"("dtype": "U8", "shape": [1], "data_offsets": [0, 1], "offset": 8)", 1,
          "unknown field offset"),
      file("SafetensorsMisaligned",
           safetensors_bytes(R"({"a": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]},
                                 "b": {"dtype": "F32", "shape": [1], "data_offsets": [2, 6]}})",
                             "012345"),
           "tensor \"b\" is not aligned"),
      two("SafetensorsOverlap", "[0, 2]", "[1, 3]", "overlaps"),
      two("SafetensorsSameData", "[0, 2]", "[0, 2]", "overlaps"),
      file("SafetensorsHoleBetween",
           safetensors_bytes(R"({"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
                                 "b": {"dtype": "U8", "shape": [1], "data_offsets": [3, 4]}})",
                             "0123"),
           "hole before tensor \"b\""),
      one("SafetensorsHoleAtTheStart", R"("dtype": "U8", "shape": [1], "data_offsets": [1, 2])", 2,
          "hole before tensor \"a\""),
      one("SafetensorsBytesAtTheEnd", R"("dtype": "U8", "shape": [1], "data_offsets": [0, 1])", 9,
          "bytes after the last tensor"),
      file("SafetensorsOnlyBytes", safetensors_bytes("{}", "x"), "bytes after the last tensor"),
      {"SafetensorsCutOff", [](const path& dir) { std::filesystem::resize_file(dir / kWeights, 4096); },
       kWeights, "the download may be incomplete"},
      {"SafetensorsByteMissing",
       [](const path& dir) {
         std::filesystem::resize_file(dir / kWeights, std::filesystem::file_size(dir / kWeights) - 1);
       },
       kWeights, "the download may be incomplete"},
      {"SafetensorsIsDirectory",
       [](const path& dir) {
         std::filesystem::remove(dir / kWeights);
         std::filesystem::create_directory(dir / kWeights);
       },
       kWeights, "not a regular file"},
      {"SafetensorsIsPipe",
       [](const path& dir) {
         std::filesystem::remove(dir / kWeights);
         mkfifo((dir / kWeights).c_str(), 0600);
       },
       kWeights, "not a regular file"},
      {"SafetensorsIsDanglingLink",
       [](const path& dir) {
         std::filesystem::remove(dir / kWeights);
         std::filesystem::create_symlink("../../blobs/0123", dir / kWeights);
       },
       kWeights, "cannot be opened"},
      {"SafetensorsIsLinkToItself",
       [](const path& dir) {
         std::filesystem::remove(dir / kWeights);
         std::filesystem::create_symlink(kWeights, dir / kWeights);
       },
       kWeights, "cannot be opened"},
      {"SafetensorsMissing", [](const path& dir) { std::filesystem::remove(dir / kWeights); }, kWeights,
       "has neither"},
  };
}

inline std::vector<Case> shard_cases() {
  const auto index = [](const char* name, std::function<void(Json&)> change, const char* word) {
    return Case{name,
                [change](const path& dir) {
                  shard(dir);
                  edit_json(dir / kIndex, change);
                },
                kIndex, word};
  };
  const auto moved = [&](const char* name, const char* shard_name) {
    return index(
        name, [shard_name](Json& json) { json["weight_map"][kNorm] = shard_name; }, "plain file name");
  };
  const std::string second = "model-00002-of-00002.safetensors";
  return {
      moved("ShardOneUp", "../model-00002-of-00002.safetensors"),
      moved("ShardAbsolute", "/etc/passwd"),
      moved("ShardInFolder", "shards/model-00002-of-00002.safetensors"),
      moved("ShardWithBackslash", "..\\model.safetensors"),
      moved("ShardIsDotDot", ".."),
      moved("ShardIsDot", "."),
      moved("ShardIsNothing", ""),
      index(
          "ShardWithNul",
          [second](Json& json) { json["weight_map"][kNorm] = second + std::string("\0x", 2); },
          "plain file name"),
      index(
          "ShardIsNumber", [](Json& json) { json["weight_map"][kNorm] = 2; }, "plain file name"),
      index(
          "IndexIsArray", [](Json& json) { json = Json::array(); }, "has no weight_map"),
      index(
          "IndexWithoutMap", [](Json& json) { json.erase("weight_map"); }, "has no weight_map"),
      index(
          "IndexMapIsArray", [](Json& json) { json["weight_map"] = Json::array(); }, "has no weight_map"),
      index(
          "IndexMapIsEmpty", [](Json& json) { json["weight_map"] = Json::object(); }, "weight_map is empty"),
      index(
          "IndexNamesAbsentTensor", [second](Json& json) { json["weight_map"]["model.extra"] = second; },
          "tensor \"model.extra\" is not in"),
      index(
          "IndexNamesWrongShard",
          [](Json& json) { json["weight_map"][kNorm] = "model-00001-of-00002.safetensors"; },
          "tensor \"model.norm.weight\" is not in"),
      index(
          "IndexForgetsTensor", [](Json& json) { json["weight_map"].erase("lm_head.weight"); },
          "does not name the tensor \"lm_head.weight\""),
      index(
          "IndexSizeIsWrong", [](Json& json) { json["metadata"]["total_size"] = 12; }, "total_size is 12"),
      index(
          "IndexSizeIsText", [](Json& json) { json["metadata"]["total_size"] = "big"; },
          "total_size is \"big\""),
      {"IndexIsNotJson",
       [](const path& dir) {
         shard(dir);
         write_file(dir / kIndex, "{\"weight_map\": {");
       },
       kIndex, "not valid JSON"},
      {"ShardMissing",
       [second](const path& dir) {
         shard(dir);
         std::filesystem::remove(dir / second);
       },
       second, "cannot be opened"},
      {"ShardEmpty",
       [second](const path& dir) {
         shard(dir);
         write_file(dir / second, "");
       },
       second, "is empty"},
      {"TensorInTwoShards",
       [second](const path& dir) {
         shard(dir);
         TinyTensors tensors = random_model().tensors;
         write_file(dir / second, safetensors_bytes({{kNorm, tensors[kNorm]},
                                                     {"lm_head.weight", tensors["lm_head.weight"]}}));
       },
       second, "tensor \"lm_head.weight\" is also in"},
  };
}

/// Files that are valid but do not hold the model that config.json describes.
inline std::vector<Case> weight_cases() {
  const auto weights = [](const char* name, std::function<void(TinyTensors&)> change, const char* word) {
    return Case{name,
                [change](const path& dir) {
                  TinyTensors tensors = random_model().tensors;
                  change(tensors);
                  write_file(dir / kWeights, safetensors_bytes(tensors));
                },
                "", word};
  };
  const auto retyped = [&](const char* name, const char* dtype, size_t bytes, const char* word) {
    return weights(
        name,
        [dtype, bytes](TinyTensors& t) {
          t["lm_head.weight"] = {dtype, {264, 16}, std::string(264 * 16 * bytes, 'x')};
        },
        word);
  };
  // The directory is named where it is not clear which file is to blame.
  const auto for_config = [](const char* name, const char* patch, const char* word) {
    Case c = merged(name, "config.json", patch, word);
    c.file = "";
    return c;
  };
  return {
      weights(
          "WeightMissing", [](TinyTensors& t) { t.erase("model.layers.1.mlp.up_proj.weight"); },
          "no tensor \"model.layers.1.mlp.up_proj.weight\""),
      weights(
          "WeightNormMissing", [](TinyTensors& t) { t.erase(kNorm); }, "no tensor \"model.norm.weight\""),
      weights(
          "WeightHeadMissing", [](TinyTensors& t) { t.erase("lm_head.weight"); },
          "no tensor \"lm_head.weight\""),
      weights(
          "WeightsAreNone", [](TinyTensors& t) { t.clear(); }, "no tensor \"model.embed_tokens.weight\""),
      weights(
          "WeightExtra",
          [](TinyTensors& t) {
            t["model.layers.2.mlp.up_proj.weight"] = t["model.layers.1.mlp.up_proj.weight"];
          },
          "tensor \"model.layers.2.mlp.up_proj.weight\" has no place"),
      weights(
          "WeightBiasExtra",
          [](TinyTensors& t) {
            t["model.layers.0.self_attn.q_proj.bias"] = f32_tensor({32}, std::vector<float>(32));
          },
          "tensor \"model.layers.0.self_attn.q_proj.bias\" has no place"),
      weights(
          "WeightQkNormExtra",
          [](TinyTensors& t) {
            t["model.layers.0.self_attn.q_norm.weight"] = f32_tensor({8}, std::vector<float>(8));
          },
          "tensor \"model.layers.0.self_attn.q_norm.weight\" has no place"),
      weights(
          "WeightHasOtherShape",
          [](TinyTensors& t) {
            t["lm_head.weight"] = f32_tensor({263, 16}, std::vector<float>(263 * 16));
          },
          "shape [263, 16], config.json asks for [264, 16]"),
      weights(
          "WeightIsTransposed",
          [](TinyTensors& t) {
            t["lm_head.weight"].shape = {16, 264};
          },
          "shape [16, 264]"),
      weights(
          "WeightIsFlat", [](TinyTensors& t) { t["lm_head.weight"].shape = {264 * 16}; }, "shape [4224]"),
      weights(
          "WeightNormHasTwoDimensions",
          [](TinyTensors& t) {
            t[kNorm].shape = {1, 16};
          },
          "shape [1, 16]"),
      weights(
          "WeightNormIsScalar", [](TinyTensors& t) { t[kNorm] = f32_tensor({}, {1.0f}); }, "shape []"),
      retyped("WeightIsByte", "I8", 1, "has dtype I8; weights must be"),
      retyped("WeightIsFloat8", "F8_E4M3", 1, "has dtype F8_E4M3; weights must be"),
      retyped("WeightIsInteger", "I32", 4, "has dtype I32; weights must be"),
      retyped("WeightIsDouble", "F64", 8, "has dtype F64; weights must be"),
      weights(
          "WeightNormIsInteger",
          [](TinyTensors& t) {
            t[kNorm] = {"I64", {16}, std::string(128, '\0')};
          },
          "has dtype I64"),
      for_config("WeightBiasMissing", R"({"attention_bias": true})",
                 "no tensor \"model.layers.0.self_attn.q_proj.bias\""),
      for_config("WeightLayerMissing", R"({"num_hidden_layers": 3})",
                 "no tensor \"model.layers.2.input_layernorm.weight\""),
      for_config("WeightLayerExtra", R"({"num_hidden_layers": 1})", "has no place in the model"),
  };
}

}  // namespace stamp::malformed
