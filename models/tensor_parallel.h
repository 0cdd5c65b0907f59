#pragma once
#include <cstdint>
#include <vector>

#include "models/config.h"
#include "models/weights.h"

/// One model on several devices, every layer dealt to all of them (Shoeybi et al., Megatron-LM, arXiv
/// 1909.08053): q, k, v, gate and up by output channels, o and down by input channels, and the shards add up
/// the products of these two (Llama::join). Embedding, norms and lm_head are everywhere.
///
/// Rotations: R1 turns the residual stream, which every shard has whole; R2 and R3 turn single heads, which
/// are never cut; R4 turns blocks of intermediate channels, which are dealt out whole, the shards' numbers of
/// blocks differing by one at most. Gathering the intermediate channels in front of R4 would move more than
/// the sum itself, and smaller blocks would be another recipe: so a model whose R4 has fewer blocks than
/// there are shards is refused.
///
/// Where a recipe quantises activations, each shard scales rows of its own channels of o's and down's inputs:
/// finer than one device does, and without another exchange. With float activations the logits are those of
/// one device but for the order of sums.
///
/// A library so far: no flag of `stamp` starts several devices.
namespace stamp {

/// What one of `shards` shards has.
struct Shard {
  int64_t index = 0, shards = 1;
  int64_t head = 0, heads = 0;                      // query heads
  int64_t kv_head = 0, kv_heads = 0;                // those that they read
  int64_t intermediate = 0, intermediate_size = 0;  // channels between gate or up and down
  bool operator==(const Shard&) const = default;
};

/// Cuts heads evenly, and intermediate channels as evenly as panels and groups of quantised weights and
/// blocks of R4 allow. Throws InputError naming what cannot be cut into so many shards.
std::vector<Shard> plan_shards(const ModelConfig& config, const ModelWeights& weights, int64_t shards);

/// What the forward pass of a shard sees: its own heads and intermediate channels.
ModelConfig shard_config(const ModelConfig& config, const Shard& shard);
/// The shard's slices; what it shares with the others are views of `weights`, which must outlive it. Biases
/// of o and down are with the first shard.
ModelWeights shard_weights(const ModelConfig& config, const ModelWeights& weights, const Shard& shard);

}  // namespace stamp
