// The way back from plain elements to codes, against the codes of the real libraries' goldens and
// against an oracle that tries every code.

#include "core/kinds/requantise.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/base/arith.hpp"
#include "core/io/checkpoint.hpp"
#include "core/kinds/dequantise.hpp"
#include "core/quantised/quantised.hpp"
#include "oracles/dequantise.hpp"

namespace bv::kinds {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using Bytes = std::vector<std::byte>;

/// A weight as it is stored, and the question that the oracle answers about it.
struct Stored {
  std::string name;
  QuantisedForm form;
  TensorSpec values_spec, scale_spec;
  Bytes values, scales;
  std::vector<std::int64_t> block;

  [[nodiscard]] oracle::QuantisedWeight question() const {
    oracle::QuantisedWeight out{{values_spec.dtype, values_spec.shape, values},
                                {scale_spec.dtype, scale_spec.shape, scales},
                                block,
                                0,
                                form.rounds_to_scale};
    out.integer_bits = form.values == QuantisedValues::PackedIntegers ? form.bits : 0;
    return out;
  }
  [[nodiscard]] Bytes plain(DType dtype) const {
    const Dequantiser maker(form, values, scales, dtype);
    Bytes out(static_cast<std::size_t>(maker.elements() * bytes(dtype)));
    EXPECT_TRUE(maker.make(0, maker.elements(), out.data()).has_value());
    return out;
  }
};

std::vector<Stored> goldens() {
  std::vector<Stored> out;
  for (const auto& file : fs::directory_iterator(fs::path(BV_FIXTURES) / "golden/quantised")) {
    const auto checkpoint = io::Checkpoint::open(file.path()).value();
    const json config = json::parse(checkpoint.metadata(0).at("config"));
    Headers headers;
    for (const auto& [name, spec] : checkpoint.headers()) {
      if (!name.starts_with("wanted.")) {
        headers.emplace(name, spec);
      }
    }
    const auto source = quantised::find(headers, config).value();
    const quantised::Weight& weight = source.groups.front().weights.front();
    const auto bytes_of = [&](const TensorSpec& spec) {
      const auto found = checkpoint.bytes(checkpoint.tensors().find(spec.name)->second);
      return Bytes(found.begin(), found.end());
    };
    out.push_back(
        {file.path().filename().string(), weight.form.value(), *weight.bits, *weight.scale,
         bytes_of(*weight.bits), bytes_of(*weight.scale),
         config.at("quantization_config").value("weight_block_size", std::vector<std::int64_t>{})});
  }
  std::sort(out.begin(), out.end(),
            [](const Stored& a, const Stored& b) { return a.name < b.name; });
  return out;
}

/// The plain elements of stored rows [begin, end), as `find` takes them.
Bytes strip(const Stored& stored, const Bytes& plain, DType dtype, std::int64_t begin,
            std::int64_t end) {
  const QuantisedForm& form = stored.form;
  const auto size = static_cast<std::size_t>(bytes(dtype));
  const auto at = [&](std::int64_t element) {
    return plain.begin() + static_cast<std::ptrdiff_t>(element) * static_cast<std::ptrdiff_t>(size);
  };
  if (form.values != QuantisedValues::Fp4Transposed) {
    return {at(begin * form.columns), at(end * form.columns)};
  }
  Bytes out;
  const std::int64_t matrix = begin / form.rows;
  for (std::int64_t column = 0; column < form.columns; ++column) {
    const std::int64_t line = (matrix * form.columns + column) * form.rows;
    out.insert(out.end(), at(line + begin % form.rows), at(line + begin % form.rows + end - begin));
  }
  return out;
}

/// All stored bytes, by strips of `step` rows.
Bytes found_codes(const Stored& stored, const Bytes& plain, DType dtype, std::int64_t step,
                  CodesFound& counts) {
  const Requantiser codes(stored.form, stored.scales, dtype);
  Bytes out(static_cast<std::size_t>(codes.lines() * codes.line_bytes()));
  for (std::int64_t begin = 0; begin < codes.lines();) {
    const std::int64_t in_matrix = stored.form.rows - begin % stored.form.rows;
    const std::int64_t end = begin + std::min({step, codes.lines() - begin, in_matrix});
    counts.add(codes.find(begin, end, strip(stored, plain, dtype, begin, end),
                          out.data() + begin * codes.line_bytes()));
    begin = end;
  }
  return out;
}

/// The place of an element of the weight in the stored tensor: row of all matrices, column.
std::pair<std::int64_t, std::int64_t> stored_place(const QuantisedForm& form,
                                                   const std::vector<std::int64_t>& index) {
  if (form.values == QuantisedValues::Fp4Transposed) {
    return {index[0] * form.rows + index[2], index[1]};
  }
  std::int64_t flat = 0;
  for (std::size_t i = 0; i < index.size(); ++i) {
    flat = flat * form.shape[i] + index[i];
  }
  return {flat / form.columns, flat % form.columns};
}

std::uint64_t code_in(const Stored& stored, const Bytes& values,
                      const std::vector<std::int64_t>& index) {
  const auto [line, column] = stored_place(stored.form, index);
  const std::int64_t bit = stored.form.values == QuantisedValues::Fp4Transposed ? 4
                           : stored.form.values == QuantisedValues::Float8      ? 8
                                                                                : stored.form.bits;
  const std::int64_t first = (line * stored.form.columns + column) * bit;
  const auto byte = std::to_integer<std::uint64_t>(values[static_cast<std::size_t>(first / 8)]);
  return byte >> (first % 8) & ((std::uint64_t{1} << bit) - 1);
}

/// Every code that was found is the least of those that the oracle finds; the counts are its.
void expect_as_oracle(const Stored& stored, const Bytes& plain, DType dtype) {
  CodesFound counts;
  const Bytes found = found_codes(stored, plain, dtype, 5, counts);
  const oracle::QuantisedWeight question = stored.question();
  CodesFound wanted;
  std::int64_t wrong = 0;
  const auto size = bytes(dtype);
  for (std::int64_t at = 0; at < element_count(stored.form.shape).value(); ++at) {
    const auto index = index_of(at, stored.form.shape);
    const auto codes = oracle::codes_with(
        question, index, oracle::plain_bits(plain.data() + at * size, dtype), dtype);
    ++wanted.elements;
    wanted.none += codes.empty() ? 1 : 0;
    wanted.several += codes.size() > 1 ? 1 : 0;
    wrong += code_in(stored, found, index) == (codes.empty() ? 0 : codes.front()) ? 0 : 1;
  }
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(counts.elements, wanted.elements);
  EXPECT_EQ(counts.none, wanted.none);
  EXPECT_EQ(counts.several, wanted.several);
}

TEST(Requantiser, GivesTheCodesOfTheGoldensBackInEveryStrip) {
  ASSERT_GE(goldens().size(), 9U);
  for (const Stored& stored : goldens()) {
    for (const DType dtype : {DType::BF16, DType::F32}) {
      SCOPED_TRACE(stored.name + " " + std::string(name(dtype)));
      const Bytes plain = stored.plain(dtype);
      for (const std::int64_t step : {1, 3, 1000}) {
        CodesFound counts;
        EXPECT_EQ(found_codes(stored, plain, dtype, step, counts), stored.values) << step;
        EXPECT_EQ(counts.none, 0);
        EXPECT_EQ(counts.several, 0);
        EXPECT_EQ(counts.elements, element_count(stored.form.shape).value());
      }
      const Requantiser codes(stored.form, stored.scales, dtype);
      EXPECT_EQ(codes.ambiguous(0, codes.lines(), stored.values), 0);
    }
  }
}

TEST(Requantiser, FindsWhatTheOracleFindsByTryingEveryCode) {
  for (const Stored& stored : goldens()) {
    for (const DType dtype : {DType::BF16, DType::F16, DType::F32}) {
      SCOPED_TRACE(stored.name + " " + std::string(name(dtype)));
      expect_as_oracle(stored, stored.plain(dtype), dtype);
    }
  }
}

/// Weights that were trained: a few of their values are still those of codes, most are not.
TEST(Requantiser, CountsTheElementsThatNoCodeGives) {
  for (const Stored& stored : goldens()) {
    SCOPED_TRACE(stored.name);
    Bytes plain = stored.plain(DType::BF16);
    for (std::size_t at = 0; at < plain.size(); at += 6) {
      plain[at] ^= std::byte{1};
    }
    expect_as_oracle(stored, plain, DType::BF16);
  }
}

/// One number a scale cannot tell codes apart: zero, tiny, huge, no number.
TEST(Requantiser, TakesTheLeastCodeWhereAScaleMakesSeveralEqual) {
  int several = 0;
  for (Stored stored : goldens()) {
    if (stored.scale_spec.dtype != DType::F32) {
      continue;
    }
    for (const float scale : {0.0F, -0.0F, 1e-40F, 1e-45F, 3e38F, -0.75F}) {
      SCOPED_TRACE(stored.name + " " + std::to_string(scale));
      for (std::size_t at = 0; at + 8 <= stored.scales.size(); at += 8) {
        std::memcpy(&stored.scales[at], &scale, sizeof scale);
      }
      if (stored.scales.size() == 4) {
        std::memcpy(stored.scales.data(), &scale, sizeof scale);
      }
      const Bytes plain = stored.plain(DType::BF16);
      expect_as_oracle(stored, plain, DType::BF16);
      CodesFound counts;
      const Bytes found = found_codes(stored, plain, DType::BF16, 7, counts);
      EXPECT_EQ(counts.none, 0);
      const Requantiser codes(stored.form, stored.scales, DType::BF16);
      EXPECT_EQ(found == stored.values, codes.ambiguous(0, codes.lines(), stored.values) == 0);
      several += counts.several > 0 ? 1 : 0;
    }
  }
  EXPECT_GE(several, 12);
}

TEST(Requantiser, KeepsANaNAmongThoseOfTheSameBits) {
  for (Stored stored : goldens()) {
    if (stored.form.values != QuantisedValues::Float8) {
      continue;
    }
    SCOPED_TRACE(stored.name);
    stored.values[3] = std::byte{0xff};  // the other NaN is 0x7f
    const Bytes plain = stored.plain(DType::F32);
    CodesFound counts;
    Bytes found = found_codes(stored, plain, DType::F32, 2, counts);
    EXPECT_EQ(counts.none, 0);
    EXPECT_EQ(counts.several, 1);
    EXPECT_EQ(found[3], std::byte{0x7f});
    const Requantiser codes(stored.form, stored.scales, DType::F32);
    EXPECT_EQ(codes.ambiguous(0, codes.lines(), stored.values), 1);
  }
}

}  // namespace
}  // namespace bv::kinds
