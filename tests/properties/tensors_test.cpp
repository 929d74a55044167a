// Raw tensors: the generator, and the properties of maps that change values (P8, P12).

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <cstring>
#include <map>

#include "core/kinds/values.hpp"
#include "properties/attacks/generators/simplest_first.hpp"
#include "properties/attacks/generators/tensors.hpp"

namespace bv::generators {
inline void showValue(const TensorDraw& draw, std::ostream& out) {
  print(tensor_fields(), draw, out);
}
}  // namespace bv::generators

namespace bv::kinds {
namespace {

using generators::Pattern;
using generators::TensorDraw;

std::uint64_t bits_at(std::span<const std::byte> tensor, std::size_t i, DType dtype) {
  std::uint64_t out = 0;
  const auto size = static_cast<std::size_t>(bytes(dtype));
  std::memcpy(&out, tensor.data() + i * size, size);
  return out;
}

TensorDraw drawn(std::uint64_t seed) {
  generators::Random random(seed);
  return generators::draw(generators::tensor_fields(), random);
}

/// The road of one element, there and back, by the plain functions: what trace_values must count.
std::int64_t lost_by_brute_force(std::span<const std::byte> tensor, DType hf, DType megatron,
                                 bool minus_one) {
  const auto size = static_cast<std::size_t>(bytes(hf));
  std::int64_t lost = 0;
  for (std::size_t i = 0; i < tensor.size() / size; ++i) {
    std::array<std::byte, 8> there{};
    std::array<std::byte, 8> shard{};
    std::array<std::byte, 8> back{};
    std::memcpy(there.data(), tensor.data() + i * size, size);
    if (minus_one) {
      add_constant(std::span(there).first(size), hf, -1.0);
    }
    cast(there.data(), hf, shard.data(), megatron, 1);
    if (minus_one) {  // upstream adds in the type of the shard
      add_constant(std::span(shard).first(static_cast<std::size_t>(bytes(megatron))), megatron,
                   1.0);
    }
    cast(shard.data(), megatron, back.data(), hf, 1);
    lost += std::memcmp(back.data(), tensor.data() + i * size, size) == 0 ? 0 : 1;
  }
  return lost;
}

/// P12: does the closed predicate say of every pattern of a 16-bit type what the sum does?
std::int64_t disagreements(DType dtype, bool (*predicate)(double, int)) {
  std::int64_t out = 0;
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const std::array<std::byte, 2> element = {std::byte(bits & 0xffU), std::byte(bits >> 8U)};
    const double x = load(element.data(), dtype);
    if (!std::isnan(x)) {
      const bool survives = lost_by_brute_force(element, dtype, dtype, true) == 0;
      out += predicate(x, precision(dtype)) == survives ? 0 : 1;
    }
  }
  return out;
}

TEST(TensorGenerator, GivesEveryPatternOfEveryType) {
  for (std::size_t dtype = 0; dtype < generators::float_dtypes().size(); ++dtype) {
    for (std::int64_t pattern = 0; pattern < 9; ++pattern) {
      const TensorDraw draw{static_cast<std::int64_t>(dtype), pattern, 64, 5};
      const auto tensor = generators::make_tensor(draw);
      const DType type = generators::dtype_of(draw);
      for (std::size_t i = 0; i < 64; ++i) {
        const std::uint64_t bits = bits_at(tensor, i, type);
        const Pattern found = generators::pattern_of(bits, type);
        const bool fits =
            pattern == static_cast<std::int64_t>(Pattern::Noise) ||
            static_cast<std::int64_t>(found) == pattern ||
            (pattern == static_cast<std::int64_t>(Pattern::NearOne) && found == Pattern::One);
        EXPECT_TRUE(fits) << name(type) << " " << pattern << " " << std::hex << bits;
      }
    }
    const TensorDraw mixed{static_cast<std::int64_t>(dtype),
                           static_cast<std::int64_t>(Pattern::Mixed), 257, 8};
    std::map<Pattern, int> seen;
    const auto tensor = generators::make_tensor(mixed);
    for (std::size_t i = 0; i < 257; ++i) {
      ++seen[generators::pattern_of(bits_at(tensor, i, generators::dtype_of(mixed)),
                                    generators::dtype_of(mixed))];
    }
    EXPECT_EQ(seen.size(), 9U) << dtype;
  }
}

TEST(TensorGenerator, GivesEveryChoice) {
  std::map<std::string_view, std::map<std::int64_t, int>> seen;
  for (std::uint64_t seed = 0; seed < 2000; ++seed) {
    const TensorDraw draw = drawn(seed);
    for (const auto& one : generators::tensor_fields()) {
      ++seen[one.name][draw.*one.member];
    }
  }
  for (const auto& one : generators::tensor_fields()) {
    for (const std::int64_t choice : one.choices()) {
      EXPECT_GT(seen[one.name][choice], 80) << one.name << " " << choice;
    }
  }
}

/// Known fault: a reader that takes NaNs for equal loses their payloads on the way through a
/// narrower type.
TEST(TensorGenerator, ALostPayloadShrinksToOneNan) {
  const auto fails = [](const TensorDraw& draw) {
    const auto tensor = generators::make_tensor(draw);
    const DType dtype = generators::dtype_of(draw);
    for (std::size_t i = 0; i < static_cast<std::size_t>(draw.elements); ++i) {
      if (generators::pattern_of(bits_at(tensor, i, dtype), dtype) == Pattern::SignalNan) {
        return true;
      }
    }
    return false;
  };
  std::uint64_t seed = 0;
  while (!fails(drawn(seed))) {
    ++seed;
  }
  const TensorDraw least = generators::shrink(generators::tensor_fields(), drawn(seed), fails);
  EXPECT_EQ(least, (TensorDraw{0, static_cast<std::int64_t>(Pattern::SignalNan), 1, 0}));
}

// P8: what is said of a dtype road is what happens to the elements.
RC_GTEST_PROP(DtypeRoad, SaysHowManyElementsAreLost, ()) {
  const TensorDraw draw = *generators::described(generators::tensor_fields());
  const DType megatron = *generators::simplest_first<DType>({DType::BF16, DType::F16, DType::F32});
  const bool minus_one = *generators::simplest_first<bool>({false, true});
  const DType hf = generators::dtype_of(draw);
  const auto tensor = generators::make_tensor(draw);
  const auto found = trace_values(tensor, hf, megatron, minus_one ? -1.0 : 0.0);
  const bool moves_bits = hf == megatron && !minus_one;
  RC_TAG(std::string(name(hf)) + " " + std::string(name(megatron)));
  RC_ASSERT(found.elements == draw.elements);
  RC_ASSERT(found.inexact ==
            (moves_bits ? 0 : lost_by_brute_force(tensor, hf, megatron, minus_one)));
}

TEST(DtypeRoad, AnAnswerThatForgetsTheNansIsSeen) {
  int seen = 0;
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    const TensorDraw draw = drawn(seed);
    const DType hf = generators::dtype_of(draw);
    const auto tensor = generators::make_tensor(draw);
    std::int64_t lost = 0;  // the fault: NaN is compared by value, as C does
    for (std::size_t i = 0; i < static_cast<std::size_t>(draw.elements); ++i) {
      const double x = load(tensor.data() + i * static_cast<std::size_t>(bytes(hf)), hf);
      lost += std::isnan(x) || cast_is_exact(x, DType::BF16) ? 0 : 1;
    }
    seen += lost == lost_by_brute_force(tensor, hf, DType::BF16, false) ? 0 : 1;
  }
  EXPECT_GT(seen, 10);
}

// P12
TEST(MinusOne, PredicateEqualsBruteForceForEveryPattern) {
  EXPECT_EQ(disagreements(DType::BF16, minus_one_is_exact), 0);
  EXPECT_EQ(disagreements(DType::F16, minus_one_is_exact), 0);
}

TEST(MinusOne, APredicateWithoutTheMinusZeroOrWithAWrongBoundIsSeen) {
  const auto forgets_minus_zero = [](double x, int bits) {
    return x == 0 || minus_one_is_exact(x, bits);
  };
  const auto too_wide = [](double x, int bits) { return minus_one_is_exact(x, bits + 1); };
  EXPECT_EQ(disagreements(DType::BF16, forgets_minus_zero), 1);
  EXPECT_GT(disagreements(DType::BF16, too_wide), 100);
  EXPECT_GT(disagreements(DType::F16, too_wide), 100);
}

}  // namespace
}  // namespace bv::kinds
