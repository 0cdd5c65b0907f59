#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "models/recipe.h"
#include "models/weights.h"

namespace stamp {

/// Writes a quantised model as a directory (design section 6):
///   config.json        the source's, with quantization_config {quant_method: "stamp", version, recipe}
///   model.safetensors  NAME.weight_packed, .weight_scale, .weight_sum, of 4 bits .weight_group_scale and
///                      .weight_zero_point, too, in the layout that the operations compute with
///                      (quant_format.h), so loading maps the file and copies nothing; float matrices as
///                      NAME.weight; norms, biases, rotations as F32
///   tokenizer files    copied
///   manifest.json      size and SHA-256 of every other file
/// Everything goes to a temporary directory beside `out`, is flushed to disk and then renamed, so `out`
/// exists whole or not at all. Throws InputError if `out` exists, Error if writing fails.
void save_checkpoint(const std::filesystem::path& out, const std::filesystem::path& source,
                     const ModelWeights& weights, const Recipe& recipe);

/// What differs from manifest.json, a line each; empty if every byte is as it was written. Throws InputError
/// if there is no manifest or it is malformed.
std::vector<std::string> verify_checkpoint(const std::filesystem::path& directory);

}  // namespace stamp
