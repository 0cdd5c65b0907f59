#include "engine/grammar/constraint_cache.h"

#include <gtest/gtest.h>

#include "kernels/error.h"

namespace stamp {
namespace {

/// Knows which source it was made for, and how far it is.
class Counted : public TokenConstraint {
 public:
  explicit Counted(float id) : id_(id) {}
  void mask(std::span<float> logits) override { logits[0] = id_, logits[1] = float(advanced_); }
  void advance(int32_t) override { ++advanced_; }
  std::unique_ptr<TokenConstraint> clone() const override { return std::make_unique<Counted>(*this); }

 private:
  float id_;
  int advanced_ = 0;
};

TEST(ConstraintCache, MakesASourcesConstraintOnceAndForgetsTheLeastRecentlyUsed) {
  ConstraintCache cache(2);
  int made = 0;
  const auto id_of = [&](const std::string& source) {
    const auto constraint = cache.get(source, [&] { return std::make_unique<Counted>(float(++made)); });
    float logits[2];
    constraint->mask(logits);
    EXPECT_EQ(logits[1], 0.0f);  // at the begin, whatever others did with theirs
    constraint->advance(7);
    return int(logits[0]);
  };
  EXPECT_EQ(id_of("a"), 1);
  EXPECT_EQ(id_of("b"), 2);
  EXPECT_EQ(id_of("a"), 1);
  EXPECT_EQ(id_of("c"), 3);  // takes the place of b
  EXPECT_EQ(id_of("a"), 1);
  EXPECT_EQ(id_of("b"), 4);
}

TEST(ConstraintCache, KeepsNoFailure) {
  ConstraintCache cache;
  EXPECT_THROW(cache.get("a", []() -> std::unique_ptr<TokenConstraint> { throw InputError("no"); }),
               InputError);
  EXPECT_NE(cache.get("a", [] { return std::make_unique<Counted>(1.0f); }), nullptr);
}

}  // namespace
}  // namespace stamp
