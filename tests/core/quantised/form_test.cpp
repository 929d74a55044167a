#include "core/quantised/form.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/base/arith.hpp"
#include "core/io/checkpoint.hpp"
#include "oracles/dequantise.hpp"

namespace bv::quantised {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

/// One file of fixtures/golden/quantised: what is stored, and what the real libraries make of it.
class Golden {
 public:
  explicit Golden(const fs::path& file)
      : checkpoint_(io::Checkpoint::open(file).value()),
        config_(json::parse(checkpoint_.metadata(0).at("config"))) {
    for (const auto& [name, spec] : checkpoint_.headers()) {
      if (!name.starts_with("wanted.")) {
        headers_.emplace(name, spec);
      }
    }
    source_ = find(headers_, config_).value();
  }

  [[nodiscard]] const Weight& weight() const { return source_.groups.front().weights.front(); }
  [[nodiscard]] const json& config() const { return config_; }
  [[nodiscard]] const Source& source() const { return source_; }
  [[nodiscard]] std::vector<std::byte> bytes(const std::string& name) const {
    const auto found = checkpoint_.bytes(checkpoint_.tensors().find(name)->second);
    return {found.begin(), found.end()};
  }
  [[nodiscard]] std::vector<DType> dtypes() const {
    std::vector<DType> out;
    for (const DType dtype : {DType::BF16, DType::F16, DType::F32}) {
      if (checkpoint_.find("wanted." + std::string(name(dtype))) != nullptr) {
        out.push_back(dtype);
      }
    }
    return out;
  }
  [[nodiscard]] std::vector<std::uint64_t> wanted(DType dtype) const {
    return plain(bytes("wanted." + std::string(name(dtype))), dtype);
  }
  /// The engine's elements, of other bits or another form when they are given.
  [[nodiscard]] std::vector<std::uint64_t> made(DType dtype, const kinds::QuantisedForm& form,
                                                std::span<const std::byte> values,
                                                std::span<const std::byte> scales) const {
    const kinds::Dequantiser maker(form, values, scales, dtype);
    const std::int64_t elements = element_count(form.shape).value();
    std::vector<std::byte> out(static_cast<std::size_t>(elements * bv::bytes(dtype)));
    constexpr std::int64_t kPart = 37;  // parts must join as if they were made at once
    for (std::int64_t at = 0; at < elements; at += kPart) {
      EXPECT_TRUE(maker.make(at, std::min(elements, at + kPart), out.data() + at * bv::bytes(dtype))
                      .has_value());
    }
    return plain(out, dtype);
  }
  [[nodiscard]] std::vector<std::uint64_t> made(DType dtype) const {
    const auto values = bytes(weight().bits->name);
    const auto scales = bytes(weight().scale->name);
    return made(dtype, weight().form.value(), values, scales);
  }
  /// The oracle's.
  [[nodiscard]] std::vector<std::uint64_t> stated(DType dtype) const {
    const auto values = bytes(weight().bits->name);
    const auto scales = bytes(weight().scale->name);
    const kinds::QuantisedForm& form = weight().form.value();
    oracle::QuantisedWeight question{{weight().bits->dtype, weight().bits->shape, values},
                                     {weight().scale->dtype, weight().scale->shape, scales},
                                     {},
                                     0,
                                     form.rounds_to_scale};
    if (form.values == kinds::QuantisedValues::PackedIntegers) {
      question.integer_bits = form.bits;
    }
    const json& said = config_.at("quantization_config");
    if (said.contains("weight_block_size")) {
      question.block = said["weight_block_size"].get<std::vector<std::int64_t>>();
    }
    std::vector<std::uint64_t> out;
    for (std::int64_t at = 0; at < element_count(form.shape).value(); ++at) {
      out.push_back(oracle::dequantised_bits(question, index_of(at, form.shape), dtype));
    }
    return out;
  }

 private:
  static std::vector<std::uint64_t> plain(const std::vector<std::byte>& from, DType dtype) {
    std::vector<std::uint64_t> out;
    const auto size = static_cast<std::size_t>(bv::bytes(dtype));
    for (std::size_t at = 0; at < from.size(); at += size) {
      out.push_back(oracle::plain_bits(&from[at], dtype));
    }
    return out;
  }

  io::Checkpoint checkpoint_;
  json config_;
  Headers headers_;
  Source source_;
};

std::vector<fs::path> goldens() {
  std::vector<fs::path> out;
  for (const auto& file : fs::directory_iterator(fs::path(BV_FIXTURES) / "golden/quantised")) {
    out.push_back(file.path());
  }
  std::sort(out.begin(), out.end());
  return out;
}

TEST(Dequantiser, GivesTheBitsOfTheRealLibraries) {
  ASSERT_GE(goldens().size(), 9U);
  for (const fs::path& file : goldens()) {
    SCOPED_TRACE(file.filename());
    const Golden golden(file);
    ASSERT_TRUE(can_dequantise(golden.source())) << golden.weight().undefined;
    ASSERT_GE(golden.dtypes().size(), 2U);
    for (const DType dtype : golden.dtypes()) {
      SCOPED_TRACE(name(dtype));
      EXPECT_EQ(golden.made(dtype), golden.wanted(dtype));
    }
  }
}

TEST(DequantiseOracle, GivesTheBitsOfTheRealLibraries) {
  for (const fs::path& file : goldens()) {
    SCOPED_TRACE(file.filename());
    const Golden golden(file);
    for (const DType dtype : golden.dtypes()) {
      SCOPED_TRACE(name(dtype));
      EXPECT_EQ(golden.stated(dtype), golden.wanted(dtype));
    }
  }
}

/// Scales of U8 at the ends of their range: MXFP4 of gpt-oss, and MXFP8 of compressed-tensors.
TEST(Dequantiser, AgreesWithTheOracleAtEveryExponent) {
  for (const bool fp4 : {true, false}) {
    kinds::QuantisedForm form;
    form.values = fp4 ? kinds::QuantisedValues::Fp4Transposed : kinds::QuantisedValues::Float8;
    form.scale = DType::U8;
    form.shape = fp4 ? Shape{1, 32, 2} : Shape{2, 32};
    form.rows = 2;
    form.columns = 32;
    form.block_columns = 32;
    form.rounds_to_scale = !fp4;
    form.stored = fp4 ? DType::U8 : DType::F8E4M3;
    std::vector<std::byte> values(fp4 ? 32 : 64);
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = static_cast<std::byte>(fp4 ? i * 37 : i * 4 + 1);
    }
    for (int exponent = 0; exponent < 256; ++exponent) {
      const std::vector<std::byte> scales = {static_cast<std::byte>(exponent), std::byte{127}};
      const Shape stored = fp4 ? Shape{1, 2, 1, 16} : Shape{2, 32};
      const oracle::QuantisedWeight question{
          {form.stored, stored, values},
          {DType::U8, fp4 ? Shape{1, 2, 1} : Shape{2, 1}, scales},
          {},
          0,
          form.rounds_to_scale};
      for (const DType dtype : {DType::BF16, DType::F16, DType::F32}) {
        const kinds::Dequantiser maker(form, values, scales, dtype);
        std::vector<std::byte> made(static_cast<std::size_t>(64 * bv::bytes(dtype)));
        ASSERT_TRUE(maker.make(0, 64, made.data()).has_value());
        for (std::int64_t at = 0; at < 64; ++at) {
          ASSERT_EQ(
              oracle::plain_bits(&made[static_cast<std::size_t>(at * bv::bytes(dtype))], dtype),
              oracle::dequantised_bits(question, index_of(at, form.shape), dtype))
              << (fp4 ? "MXFP4 " : "MXFP8 ") << exponent << " " << name(dtype) << " " << at;
        }
      }
    }
  }
}

std::vector<std::byte> halves_exchanged(std::vector<std::byte> values) {
  for (std::byte& one : values) {
    one = one << 4 | one >> 4;
  }
  return values;
}

/// Every fault gives other numbers than the golden file has, in every scheme that it can be in.
TEST(Dequantiser, DiffersFromTheGoldensWithEachPlantedFault) {
  int planted = 0;
  for (const fs::path& file : goldens()) {
    SCOPED_TRACE(file.filename());
    const Golden golden(file);
    const Weight& weight = golden.weight();
    const kinds::QuantisedForm right = weight.form.value();
    const auto values = golden.bytes(weight.bits->name);
    const auto scales = golden.bytes(weight.scale->name);
    const auto width = static_cast<std::size_t>(bv::bytes(weight.scale->dtype));
    const auto expect_killed = [&](const char* fault, const kinds::QuantisedForm& form,
                                   const std::vector<std::byte>& bits,
                                   const std::vector<std::byte>& factors) {
      ++planted;
      EXPECT_NE(golden.made(DType::BF16, form, bits, factors), golden.wanted(DType::BF16)) << fault;
    };
    if (!right.one_scale) {
      auto neighbours = scales;
      std::rotate(neighbours.begin(), neighbours.begin() + static_cast<std::ptrdiff_t>(width),
                  neighbours.end());
      expect_killed("the scale of the neighbouring block", right, values, neighbours);
    }
    if (right.block_rows > 1 && right.block_columns > 1 && !right.one_scale &&
        right.block_rows != right.block_columns && right.rows == right.columns) {
      kinds::QuantisedForm form = right;
      std::swap(form.block_rows, form.block_columns);
      expect_killed("the block transposed", form, values, scales);
    }
    if (right.values == kinds::QuantisedValues::Float8 && !right.one_scale) {
      kinds::QuantisedForm form = right;
      form.stored = DType::F8E5M2;
      expect_killed("the other 8-bit type", form, values, scales);
    }
    if (right.values != kinds::QuantisedValues::Float8) {
      expect_killed("the halves of each byte exchanged", right, halves_exchanged(values), scales);
    }
    if (right.scale == DType::U8) {
      auto shifted = scales;
      for (std::byte& one : shifted) {
        one = static_cast<std::byte>(std::to_integer<int>(one) + 1);
      }
      expect_killed("the bias of the exponents off by one", right, values, shifted);
      for (std::byte& one : shifted) {
        one = static_cast<std::byte>(254 - (std::to_integer<int>(one) - 1));
      }
      expect_killed("the scale inverted", right, values, shifted);
    }
    if (right.scale == DType::F32) {
      auto inverted = scales;
      for (std::size_t at = 0; at < inverted.size(); at += sizeof(float)) {
        float scale = 0;
        std::memcpy(&scale, &inverted[at], sizeof scale);
        scale = 1 / scale;
        std::memcpy(&inverted[at], &scale, sizeof scale);
      }
      expect_killed("the scale inverted", right, values, inverted);
    }
  }
  EXPECT_GE(planted, 20);
}

using Parameters = std::vector<std::tuple<std::string, DType, Shape>>;

Weight defined(const Parameters& parameters, json quantisation, Headers& headers) {
  for (const auto& [parameter, dtype, shape] : parameters) {
    headers["m." + parameter] = {"m." + parameter, dtype, shape};
  }
  const auto source = find(headers, json{{"quantization_config", std::move(quantisation)}});
  return source.value().groups.front().weights.front();
}

TEST(Form, IsUnknownWhereTheScalesDoNotFit) {
  const json blocks = {{"quant_method", "fp8"}, {"weight_block_size", {128, 128}}};
  const json packed = {{"quant_method", "compressed-tensors"},
                       {"config_groups", {{"group_0", {{"weights", {{"num_bits", 4}}}}}}}};
  json lopsided = packed;
  lopsided["config_groups"]["group_0"]["weights"]["symmetric"] = false;
  const std::vector<std::pair<Parameters, json>> rows = {
      {{{"weight", DType::F8E4M3, {70, 41}}, {"weight_scale_inv", DType::F32, {3, 3}}}, blocks},
      {{{"weight", DType::F8E4M3, {64, 64}}, {"weight_scale_inv", DType::F32, {0, 1}}}, blocks},
      {{{"weight", DType::F8E4M3, {64, 64}}, {"weight_scale_inv", DType::F32, {2, 1, 1}}}, blocks},
      {{{"weight", DType::F8E4M3, {64, 64}},
        {"weight_scale", DType::F32, {1}},
        {"weight_zero_point", DType::F32, {1}}},
       blocks},
      {{{"weight_packed", DType::I32, {8, 4}}, {"weight_scale", DType::BF16, {8, 3}}}, packed},
      {{{"weight_packed", DType::I32, {8, 4}}, {"weight_scale", DType::BF16, {8, 2}}}, lopsided},
      {{{"weight_packed", DType::I32, {8, 4}}, {"weight_scale", DType::BF16, {8, 2}}},
       json{{"quant_method", "compressed-tensors"}}},
      {{{"w_blocks", DType::U8, {2, 6, 2, 16}}, {"w_scales", DType::U8, {2, 2, 6}}},
       json{{"quant_method", "mxfp4"}}},
      {{{"qweight", DType::I32, {4, 8}}, {"scales", DType::F16, {1, 8}}},
       json{{"quant_method", "gptq"}, {"bits", 4}}},
  };
  for (const auto& [parameters, quantisation] : rows) {
    Headers headers;
    const Weight weight = defined(parameters, quantisation, headers);
    EXPECT_FALSE(weight.form.has_value()) << weight.bits->name;
    EXPECT_FALSE(weight.undefined.empty()) << weight.bits->name;
  }
}

/// ModelOpt names the scale of a stack by the parameter and by what it is (Llama 4 in FP8).
TEST(Form, OfAStackOfExpertsHasAScaleOfItsOwnName) {
  Headers headers;
  const Weight weight = defined({{"gate_up_proj", DType::F8E4M3, {4, 6, 8}},
                                 {"gate_up_proj_weight_scale", DType::F32, {}},
                                 {"gate_up_proj_input_scale", DType::F32, {}}},
                                json::object(), headers);
  ASSERT_TRUE(weight.form.has_value()) << weight.undefined;
  EXPECT_EQ(weight.name, "m.gate_up_proj");
  EXPECT_EQ(weight.scale->name, "m.gate_up_proj_weight_scale");
  EXPECT_TRUE(weight.form->one_scale);
  EXPECT_EQ(weight.form->shape, (Shape{4, 6, 8}));
  Headers more;
  const Weight other = defined({{"up_proj", DType::F8E4M3, {4, 6, 8}},
                                {"up_proj_weight_scale", DType::F32, {}},
                                {"up_proj_weight_zero_point", DType::F32, {}}},
                               json::object(), more);
  EXPECT_FALSE(other.form.has_value());
}

TEST(Form, TakesTheBlockThatTheConfigSaysAtACutEdge) {
  Headers headers;
  const Weight weight =
      defined({{"weight", DType::F8E4M3, {576, 7168}}, {"weight_scale_inv", DType::F32, {5, 56}}},
              {{"quant_method", "fp8"}, {"weight_block_size", {128, 128}}}, headers);
  ASSERT_TRUE(weight.form.has_value()) << weight.undefined;
  EXPECT_EQ(weight.form->block_rows, 128);
  EXPECT_EQ(weight.form->scale_rows(), 5);
  EXPECT_EQ(weight.form->shape, (Shape{576, 7168}));
}

TEST(Form, IsUnknownWhereTheConfigSaysOtherBlocks) {
  const json blocks = {{"quant_method", "fp8"}, {"weight_block_size", {16, 8}}};
  json groups = {
      {"quant_method", "compressed-tensors"},
      {"config_groups", {{"group_0", {{"weights", {{"num_bits", 4}, {"group_size", 8}}}}}}}};
  const auto form = [](const Shape& weight, const Shape& scales, const json& says) {
    Headers headers;
    const bool packed = says.contains("config_groups");
    const Parameters parameters = {
        {packed ? "weight_packed" : "weight", packed ? DType::I32 : DType::F8E4M3, weight},
        {packed ? "weight_scale" : "weight_scale_inv", packed ? DType::BF16 : DType::F32, scales}};
    const Weight out = defined(parameters, says, headers);
    return out.form ? std::string("defined") : out.undefined;
  };
  EXPECT_EQ(form({80, 24}, {5, 3}, blocks), "defined");
  for (const Shape& scales : std::initializer_list<Shape>{
           {1, 3}, {5, 1}, {10, 3}, {5, 6}, {80, 1}, {1, 1}, {80}, {1}, {}}) {
    EXPECT_NE(
        form({80, 24}, scales, blocks).find("config.json says blocks of 16 x 8, which take 5 x 3"),
        std::string::npos)
        << testing::PrintToString(scales) << form({80, 24}, scales, blocks);
  }
  EXPECT_EQ(form({6, 4}, {6, 4}, groups), "defined");
  EXPECT_EQ(form({6, 4}, {6, 8}, groups).substr(0, 31), "config.json says blocks of 1 x ");
  EXPECT_NE(form({6, 4}, {6, 1}, groups), "defined");
  groups["config_groups"]["group_0"]["weights"]["group_size"] = -1;
  EXPECT_EQ(form({6, 4}, {6, 1}, groups), "defined");
  groups["config_groups"]["group_1"] = groups["config_groups"]["group_0"];
  groups["config_groups"]["group_0"]["weights"]["group_size"] = 8;  // of some modules, not of all
  EXPECT_EQ(form({6, 4}, {6, 1}, groups), "defined");
}

/// llm-compressor quantises some modules to other bits than others: each group of config_groups
/// says one kind. Which one a module has is what its shapes allow, and nothing where they allow
/// two.
TEST(Form, IsTheOneOfSeveralKindsThatTheShapesAllow) {
  const auto weights = [](int bits, const char* type, const char* strategy, int group) {
    json out = {{"num_bits", bits}, {"type", type}, {"strategy", strategy}};
    out["group_size"] = group > 0 ? json(group) : json(nullptr);
    return json{{"weights", out}};
  };
  const auto form = [](const Shape& words, const Shape& scales, std::vector<json> groups) {
    json says = {{"quant_method", "compressed-tensors"}};
    for (std::size_t i = 0; i < groups.size(); ++i) {
      says["config_groups"]["group_" + std::to_string(i)] = groups[i];
    }
    Headers headers;
    const Weight out =
        defined({{"weight_packed", DType::I32, words}, {"weight_scale", DType::BF16, scales}}, says,
                headers);
    return out.form ? out.form->bits : 0;
  };
  const json four = weights(4, "int", "group", 32);
  const json eight = weights(8, "int", "group", 32);
  for (const auto& groups : {std::vector{four, eight}, std::vector{eight, four}}) {
    EXPECT_EQ(form({64, 12}, {64, 3}, groups), 4);  // 96 columns
    EXPECT_EQ(form({64, 24}, {64, 3}, groups), 8);
    EXPECT_EQ(form({64, 24}, {64, 5}, groups), 0);
  }
  EXPECT_EQ(form({64, 12}, {64, 3}, {four, weights(8, "int", "group", 16)}), 0);  // 96 or 48
  EXPECT_EQ(form({64, 12}, {64, 3}, {weights(8, "float", "channel", 0), four}), 4);
  EXPECT_EQ(form({64, 12}, {64, 1}, {weights(8, "int", "channel", 0), four}), 8);
  const json four_too = weights(4, "int", "channel", 0);
  EXPECT_EQ(form({64, 12}, {64, 1}, {weights(8, "int", "channel", 0), four_too}), 0);
  EXPECT_EQ(form({64, 12}, {64, 1}, {four_too, four_too}), 4);
}

}  // namespace
}  // namespace bv::quantised
