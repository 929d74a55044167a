// Every fault that diff can name is planted in a checkpoint or in engine-made shards of a golden
// model, and must come back with its cause, its tensor and its first wrong element.

#include "core/compare/diff.hpp"
#include "core/convert/convert.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "core/checkpoint/open_model.hpp"
#include "core/compare/explain_diff.hpp"
#include "core/compare/hash_rows.hpp"
#include "core/io/writer.hpp"
#include "core/kinds/values.hpp"
#include "tests/core/compare/tensors_in_memory.hpp"
#include "tests/support/golden_model.hpp"

namespace bv::compare {
namespace {

namespace fs = std::filesystem;

using support::TempFolder;

const fs::path kGolden = support::golden("hf");

/// A golden HF model, and a damaged copy of it as one file.
class HfPair {
 public:
  explicit HfPair(const std::string& name)
      : a_(io::Checkpoint::open(kGolden / name).value()), tensors(read(a_)) {}

  compare::DiffReport run() {
    write(folder_.path() / "model.safetensors", tensors);
    b_.emplace(io::Checkpoint::open(folder_.path()).value());
    comparison = compare::compare_hf(a_, *b_);
    return diff(comparison, {}).value();
  }

 private:
  io::Checkpoint a_;

 public:
  Tensors tensors;
  compare::Comparison comparison;

 private:
  TempFolder folder_;
  std::optional<io::Checkpoint> b_;
};

/// Engine-made shards of a golden model, to be damaged.
class ShardPair {
 public:
  ShardPair(const std::string& name, const std::string& layout)
      : layout_(parallel::layout_from_id(layout).value()) {
    if (layout_.tp > 1) {
      layout_.vocab_divisor = 1;  // 131 rows of vocabulary do not divide
    }
    const kinds::Catalogue& catalogue = support::catalogue();
    a_.emplace(support::open_golden(name));
    const auto written = convert::to_megatron(*a_, catalogue, layout_, folder_.path() / "m", {});
    EXPECT_TRUE(written.has_value()) << written.error().message;
    plan_.emplace(plan::Plan::make(a_->model, catalogue, layout_).value());
    for (const plan::ShardFile& file : plan_->files()) {
      const auto place = parallel::shard_name(file.key, layout_);
      shards[place] = read(io::Checkpoint::open(folder_.path() / "m" / file.name).value());
    }
  }

  compare::DiffReport run() {
    for (const auto& [place, tensors] : shards) {
      const fs::path file = folder_.path() / (place + ".safetensors");
      write(file, tensors);
      open_.emplace(*parallel::shard_from_name(place),
                    std::make_unique<const io::Checkpoint>(io::Checkpoint::open(file).value()));
    }
    comparison = compare::compare_megatron(*a_, *plan_, open_, {});
    return diff(comparison, {}).value();
  }

 private:
  TempFolder folder_;
  parallel::Layout layout_;
  std::optional<checkpoint::HfModel> a_;
  std::optional<plan::Plan> plan_;
  Shards open_;

 public:
  std::map<std::string, Tensors> shards;
  compare::Comparison comparison;
};

/// The one difference of a report, with its subject.
void expect_cause(const compare::DiffReport& report, const compare::Comparison& comparison,
                  const std::string& tensor, compare::Cause cause, const Shape& first) {
  ASSERT_EQ(report.differences.size(), 1U);
  const compare::Difference& one = report.differences[0];
  ASSERT_LT(one.subject, comparison.subjects.size());
  EXPECT_EQ(comparison.subjects[one.subject].tensor, tensor);
  EXPECT_EQ(name(one.explanation.cause), name(cause)) << one.explanation.text;
  EXPECT_EQ(one.first, first);
  EXPECT_GE(one.explanation.confidence(), 0.95) << one.explanation.text;
}

const std::string kGate = "model.layers.0.mlp.gate_proj.weight";
const std::string kUp = "model.layers.0.mlp.up_proj.weight";
const std::string kFc1 = "decoder.layers.0.mlp.linear_fc1.weight";
const std::string kQkv = "decoder.layers.0.self_attention.linear_qkv.weight";

TEST(Diff, EqualDirectoriesHaveNoDifferenceAlsoWhenShardedDifferently) {
  HfPair pair("llama");  // two shards against one file
  const compare::DiffReport report = pair.run();
  EXPECT_TRUE(report.differences.empty());
  EXPECT_EQ(report.equal, static_cast<std::int64_t>(pair.tensors.size()));
  EXPECT_GT(report.bytes_compared, 0U);
}

TEST(Diff, EngineMadeShardsEqualTheirSource) {
  for (const auto& [model, layout] : std::vector<std::pair<std::string, std::string>>{
           {"qwen3", "tp2pp2etp1"}, {"qwen3_5_moe_packed", "tp2ep2etp1"}, {"qwen3_next", "tp2"}}) {
    ShardPair pair(model, layout);
    const compare::DiffReport report = pair.run();
    EXPECT_TRUE(report.differences.empty()) << model << " " << layout;
    EXPECT_EQ(report.equal, static_cast<std::int64_t>(pair.comparison.subjects.size()));
  }
}

TEST(Diff, OneWrongElementIsFoundWithItsBitsAndNoCauseIsInvented) {
  HfPair pair("llama");
  Tensor& gate = pair.tensors.at(kGate);
  const auto width = static_cast<std::size_t>(bytes(gate.spec.dtype));
  gate.bytes[gate.row_bytes() + 2 * width] ^= std::byte{1};  // row 1, column 2, last bit
  const compare::DiffReport report = pair.run();
  ASSERT_EQ(report.differences.size(), 1U);
  const compare::Difference& one = report.differences[0];
  EXPECT_EQ(one.first, (Shape{1, 2}));
  EXPECT_EQ(one.elements_wrong, 1);
  EXPECT_EQ(one.rows_wrong, 1);
  EXPECT_EQ(one.ulps, 1);
  EXPECT_NE(one.wanted_bits, one.found_bits);
  EXPECT_EQ(one.explanation.cause, compare::Cause::Unexplained);
}

TEST(Diff, ExchangedHfTensorsAreNamedOnBothSides) {
  HfPair pair("llama");
  std::swap(pair.tensors.at(kGate).bytes, pair.tensors.at(kUp).bytes);
  const compare::DiffReport report = pair.run();
  ASSERT_EQ(report.differences.size(), 2U);
  for (const compare::Difference& one : report.differences) {
    EXPECT_EQ(name(one.explanation.cause), name(compare::Cause::SwappedParts))
        << one.explanation.text;
    EXPECT_EQ(one.explanation.confidence(), 1);
  }
  EXPECT_NE(report.differences[0].explanation.text.find(kUp), std::string::npos);
}

TEST(Diff, ALayerTooFarIsNamedWithItsDistance) {
  HfPair pair("llama");
  pair.tensors.at("model.layers.0.self_attn.o_proj.weight").bytes =
      pair.tensors.at("model.layers.1.self_attn.o_proj.weight").bytes;
  const compare::DiffReport report = pair.run();
  expect_cause(report, pair.comparison, "model.layers.0.self_attn.o_proj.weight",
               compare::Cause::OtherLayer, {0, 0});
  EXPECT_NE(report.differences[0].explanation.text.find("off by +1"), std::string::npos);
}

TEST(Diff, ZeroedRowsAreNamedFromTheFirst) {
  HfPair pair("llama");
  Tensor& gate = pair.tensors.at(kGate);
  std::fill(gate.bytes.begin() + static_cast<std::ptrdiff_t>(3 * gate.row_bytes()),
            gate.bytes.begin() + static_cast<std::ptrdiff_t>(5 * gate.row_bytes()), std::byte{0});
  const compare::DiffReport report = pair.run();
  expect_cause(report, pair.comparison, kGate, compare::Cause::Zeroed, {3, 0});
  EXPECT_EQ(report.differences[0].rows_wrong, 2);
}

TEST(Diff, AnAddedOneIsToldFromASubtractedOne) {
  for (const double delta : {1.0, -1.0}) {
    HfPair pair("llama");
    Tensor& norm = pair.tensors.at("model.norm.weight");
    kinds::add_constant(norm.bytes, norm.spec.dtype, delta);
    expect_cause(pair.run(), pair.comparison, "model.norm.weight",
                 delta > 0 ? compare::Cause::PlusOne : compare::Cause::MinusOne, {0});
  }
}

TEST(Diff, ANarrowerDtypeIsNamedWhetherTheHeaderSaysSoOrNot) {
  for (const bool honest : {true, false}) {
    HfPair pair("llama");
    Tensor& gate = pair.tensors.at(kGate);
    ASSERT_EQ(gate.spec.dtype, DType::F32);
    const auto count = static_cast<std::int64_t>(gate.bytes.size() / 4);
    std::vector<std::byte> low(gate.bytes.size() / 2);
    kinds::cast(gate.bytes.data(), DType::F32, low.data(), DType::BF16, count);
    if (honest) {
      gate.spec.dtype = DType::BF16;
      gate.bytes = low;
    } else {
      kinds::cast(low.data(), DType::BF16, gate.bytes.data(), DType::F32, count);
    }
    const compare::DiffReport report = pair.run();
    ASSERT_EQ(report.differences.size(), 1U);
    EXPECT_EQ(report.differences[0].dtype_differs, honest);
    EXPECT_EQ(name(report.differences[0].explanation.cause), name(compare::Cause::Narrowed));
    EXPECT_EQ(report.differences[0].explanation.confidence(), 1);
  }
}

TEST(Diff, MissingAndRenamedTensorsAreTold) {
  HfPair pair("llama");
  auto node = pair.tensors.extract(kGate);
  node.key() = "model.layers.0.mlp.w1.weight";
  pair.tensors.insert(std::move(node));
  const compare::DiffReport report = pair.run();
  ASSERT_EQ(report.differences.size(), 2U);
  EXPECT_EQ(name(report.differences[0].explanation.cause), name(compare::Cause::Missing));
  EXPECT_EQ(name(report.differences[1].explanation.cause), name(compare::Cause::Renamed));
  EXPECT_NE(report.differences[1].explanation.text.find(kGate), std::string::npos);
}

TEST(Diff, PaddedAndTruncatedVocabulariesAreTold) {
  for (const std::int64_t more : {4, -3}) {
    HfPair pair("llama");
    Tensor& table = pair.tensors.at("model.embed_tokens.weight");
    const std::size_t row = table.row_bytes();
    table.spec.shape[0] += more;
    table.bytes.resize(static_cast<std::size_t>(table.spec.shape[0]) * row);
    const compare::DiffReport report = pair.run();
    ASSERT_EQ(report.differences.size(), 1U);
    EXPECT_TRUE(report.differences[0].shape_differs);
    EXPECT_EQ(name(report.differences[0].explanation.cause),
              name(more > 0 ? compare::Cause::Padded : compare::Cause::Truncated));
  }
}

TEST(Diff, RowsOfEachHeadInAnotherOrderAreRegroupedHeadMajor) {
  HfPair pair("llama");
  Tensor& q = pair.tensors.at("model.layers.0.self_attn.q_proj.weight");
  const std::size_t row = q.row_bytes();
  const auto rows = static_cast<std::size_t>(q.spec.shape[0]);
  const std::size_t head = rows / 4;  // [2 2 head] -> [2 2 head] with the first two axes exchanged
  const auto old = q.bytes;
  for (std::size_t i = 0; i < 4; ++i) {
    const std::size_t from = (i % 2) * 2 + i / 2;
    std::memcpy(q.bytes.data() + i * head * row, old.data() + from * head * row, head * row);
  }
  const compare::DiffReport report = pair.run();
  ASSERT_EQ(report.differences.size(), 1U);
  EXPECT_EQ(name(report.differences[0].explanation.cause), name(compare::Cause::HeadMajor))
      << report.differences[0].explanation.text;
  EXPECT_EQ(report.differences[0].first, (Shape{static_cast<std::int64_t>(head), 0}));
}

TEST(Diff, SwappedGateAndUpInAShardAreNamed) {
  ShardPair pair("qwen3", "tp2etp1");
  Tensor& fc1 = pair.shards.at("pp0_tp1_ep0_etp0").at(kFc1);
  const auto half = static_cast<std::size_t>(fc1.spec.shape[0]) / 2;
  fc1.swap_rows(0, half, half);
  expect_cause(pair.run(), pair.comparison, kFc1, compare::Cause::SwappedParts, {0, 0});
}

TEST(Diff, AShardOfAnotherRankIsNamed) {
  ShardPair pair("qwen3", "tp2etp1");
  pair.shards.at("pp0_tp1_ep0_etp0").at(kFc1).bytes =
      pair.shards.at("pp0_tp0_ep0_etp0").at(kFc1).bytes;
  const compare::DiffReport report = pair.run();
  expect_cause(report, pair.comparison, kFc1, compare::Cause::OtherRank, {0, 0});
  EXPECT_NE(report.differences[0].explanation.text.find("TP rank 0"), std::string::npos);
}

Tensors golden(const std::string& name) {
  return read(io::Checkpoint::open(kGolden / name).value());
}

TEST(Diff, GateAndUpJoinedBeforeTheCutAreNamed) {
  ShardPair pair("qwen3", "tp2etp1");
  const auto all = joined(golden("qwen3"), {kGate, kUp});
  for (const std::size_t t : {0U, 1U}) {
    Tensor& fc1 = pair.shards.at(fmt::format("pp0_tp{}_ep0_etp0", t)).at(kFc1);
    std::memcpy(fc1.bytes.data(), all.data() + t * fc1.bytes.size(), fc1.bytes.size());
  }
  const compare::DiffReport report = pair.run();
  ASSERT_EQ(report.differences.size(), 2U);
  for (const compare::Difference& one : report.differences) {
    EXPECT_EQ(name(one.explanation.cause), name(compare::Cause::CutAfterJoin))
        << one.explanation.text;
    EXPECT_EQ(one.explanation.confidence(), 1);
  }
}

TEST(Diff, HeadMajorQkvIsNamed) {
  ShardPair pair("qwen3", "tp1");
  const std::string l = "model.layers.0.self_attn.";
  pair.shards.at("pp0_tp0_ep0_etp0").at(kQkv).bytes =
      joined(golden("qwen3"), {l + "q_proj.weight", l + "k_proj.weight", l + "v_proj.weight"});
  const compare::DiffReport report = pair.run();
  ASSERT_EQ(report.differences.size(), 1U);
  EXPECT_EQ(name(report.differences[0].explanation.cause), name(compare::Cause::HeadMajor));
  EXPECT_EQ(report.differences[0].explanation.confidence(), 1);
}

TEST(Diff, AnUnshiftedNormOfTheGatedDeltaNetIsNamed) {
  ShardPair pair("qwen3_next", "tp1");
  const std::string norm = "decoder.layers.0.self_attention.out_norm.weight";
  Tensor& shard = pair.shards.at("pp0_tp0_ep0_etp0").at(norm);
  shard.bytes = golden("qwen3_next").at("model.layers.0.linear_attn.norm.weight").bytes;
  expect_cause(pair.run(), pair.comparison, norm, compare::Cause::PlusOne, {0});
}

TEST(Diff, AMissingExpertIsNamedOnItsShard) {
  ShardPair pair("qwen3_moe", "tp1ep2etp1");
  const std::string fc1 = "decoder.layers.0.mlp.experts.linear_fc1.weight1";
  ASSERT_EQ(pair.shards.at("pp0_tp0_ep1_etp0").erase(fc1), 1U);
  const compare::DiffReport report = pair.run();
  ASSERT_EQ(report.differences.size(), 1U);
  const compare::Subject& subject = pair.comparison.subjects[report.differences[0].subject];
  EXPECT_EQ(subject.tensor, fc1);
  EXPECT_EQ(subject.place, "pp0_tp0_ep1_etp0");
  EXPECT_EQ(report.differences[0].explanation.cause, compare::Cause::Missing);
}

TEST(Diff, AnotherExpertIsNamedByNumber) {
  ShardPair pair("qwen3_moe", "tp1ep2etp1");
  const std::string fc2 = "decoder.layers.0.mlp.experts.linear_fc2.weight0";
  pair.shards.at("pp0_tp0_ep1_etp0").at(fc2).bytes =
      pair.shards.at("pp0_tp0_ep0_etp0").at(fc2).bytes;
  const compare::DiffReport report = pair.run();
  expect_cause(report, pair.comparison, fc2, compare::Cause::OtherExpert, {0, 0});
  EXPECT_NE(report.differences[0].explanation.text.find("expert 0 for"), std::string::npos)
      << report.differences[0].explanation.text;
}

TEST(Diff, APaddedVocabularyOfAShardIsNamed) {
  ShardPair pair("qwen3", "tp1");
  Tensor& table = pair.shards.at("pp0_tp0_ep0_etp0").at("embedding.word_embeddings.weight");
  table.bytes.resize(table.bytes.size() + 2 * table.row_bytes());
  table.spec.shape[0] += 2;
  const compare::DiffReport report = pair.run();
  ASSERT_EQ(report.differences.size(), 1U);
  EXPECT_EQ(name(report.differences[0].explanation.cause), name(compare::Cause::Padded));
}

Tensor square(std::int64_t side) {
  Tensor out{{"x", DType::F32, {side, side}},
             std::vector<std::byte>(static_cast<std::size_t>(side * side) * 4)};
  for (std::int64_t i = 0; i < side * side; ++i) {
    kinds::store(static_cast<double>(i + 1), out.bytes.data() + i * 4, DType::F32);
  }
  return out;
}

TEST(Diff, ATransposedSquareIsNamed) {
  TempFolder folder;
  Tensor a = square(4);
  write(folder.path() / "a.safetensors", {{"x", a}});
  Tensor b = a;
  for (std::size_t i = 0; i < 16; ++i) {
    std::memcpy(b.bytes.data() + i * 4, a.bytes.data() + ((i % 4) * 4 + i / 4) * 4, 4);
  }
  write(folder.path() / "b.safetensors", {{"x", b}});
  const auto one = io::Checkpoint::open(folder.path() / "a.safetensors").value();
  const auto two = io::Checkpoint::open(folder.path() / "b.safetensors").value();
  const compare::Comparison comparison = compare::compare_hf(one, two);
  const compare::DiffReport report = compare::diff(comparison, {}).value();
  expect_cause(report, comparison, "x", compare::Cause::Transposed, {0, 1});
  EXPECT_EQ(report.differences[0].wanted_value, 2);
  EXPECT_EQ(report.differences[0].found_value, 5);
}

TEST(Diff, AThinnedRowTableStillNamesTheLayer) {
  HfPair pair("llama");
  pair.tensors.at("model.layers.0.mlp.up_proj.weight").bytes =
      pair.tensors.at("model.layers.1.mlp.up_proj.weight").bytes;
  (void)pair.run();
  compare::DiffOptions options;
  options.table_rows_max = 256;
  const compare::DiffReport report = compare::diff(pair.comparison, options).value();
  expect_cause(report, pair.comparison, "model.layers.0.mlp.up_proj.weight",
               compare::Cause::OtherLayer, {0, 0});
}

}  // namespace
}  // namespace bv::compare
