#pragma once
#include <cstdint>
#include <memory>
#include <span>

namespace stamp {

/// What a generated text may be: a state that says which tokens can follow, and moves on with each of them.
/// One belongs to each generated sequence; after any allowed token the text can still be completed.
class TokenConstraint {
 public:
  virtual ~TokenConstraint() = default;

  /// Sets the logits of tokens that may not follow to minus infinity; an end-of-sequence token may follow
  /// where the text is complete.     logits [vocab]
  virtual void mask(std::span<float> logits) = 0;
  /// The token that was drawn. Precondition: it was allowed.
  virtual void advance(int32_t token) = 0;
  /// An independent copy in the same state.
  virtual std::unique_ptr<TokenConstraint> clone() const = 0;
};

}  // namespace stamp
