// trace says where elements lie; the shards of the real Megatron-Bridge say whether it is true.
// Their bytes are made again (tests/core/convert/golden_test.cpp holds their digests against the
// real ones).

#include "core/trace/trace.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "core/base/arith.hpp"
#include "core/base/text.hpp"
#include "core/checkpoint/open_model.hpp"
#include "core/convert/convert.hpp"
#include "core/kinds/values.hpp"
#include "tests/support/golden_layout.hpp"
#include "tests/support/golden_model.hpp"

namespace bv::trace {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

using support::catalogue;

const fs::path kGolden = support::golden();

/// A golden model on one layout.
struct Placed {
  std::unique_ptr<checkpoint::HfModel> hf;
  std::unique_ptr<plan::Plan> plan;
};

Placed place(const std::string& name, const parallel::Layout& layout) {
  Placed out;
  out.hf = std::make_unique<checkpoint::HfModel>(support::open_golden(name));
  auto plan = plan::Plan::make(out.hf->model, catalogue(), layout);
  EXPECT_TRUE(plan.has_value()) << plan.error().message;
  out.plan = std::make_unique<plan::Plan>(std::move(*plan));
  return out;
}

TEST(Index, IsReadWithAndWithoutBrackets) {
  EXPECT_EQ(trace::parse_index("3,5").value(), (Shape{3, 5}));
  EXPECT_EQ(trace::parse_index("[3, 5]").value(), (Shape{3, 5}));
  EXPECT_EQ(trace::parse_index("7").value(), Shape{7});
}

TEST(Index, IsRefusedWhenItIsNoList) {
  for (const char* text :
       {"", "[", "3,", "3 5", "-1", "[3,5", "3]", "a", "3,,5", "99999999999999999999"}) {
    const auto index = trace::parse_index(text);
    ASSERT_FALSE(index.has_value()) << text;
    EXPECT_EQ(index.error().code, Code::BadValue);
    EXPECT_FALSE(index.error().help.empty());
  }
}

TEST(SliceText, WritesWholeDimensionsStepsAndSinglePlaces) {
  EXPECT_EQ(trace::slice_text({{0, 4, 1}, {2, 3, 1}}, {4, 8}), "[:, 2:5]");
  EXPECT_EQ(trace::slice_text({{3, 1, 1}, {1, 4, 2}}, {4, 8}), "[3, 1:8:2]");
}

/// Two heads of query and gate rows, two rows each, three columns: HF q0 g0 q1 g1, Megatron q0 q1
/// g0 g1.
TEST(Blocks, AreRunsOfRows) {
  layout::Box query{0, 0, 0, {{2, 12, 6}, {6, 1, 1}}, 0};
  layout::Box gate{0, 6, 12, {{2, 12, 6}, {6, 1, 1}}, 0};
  const trace::Blocks blocks = trace::blocks_of({0, {8, 3}, {query, gate}}, {{8, 3}}, 100);
  const trace::Slice columns = {{0, 3, 1}};
  const auto rows = [](std::int64_t begin) { return trace::Slice{{begin, 2, 1}, {0, 3, 1}}; };
  EXPECT_EQ(blocks.list, (std::vector<trace::Block>{{0, rows(0), rows(0), false},
                                                    {0, rows(4), rows(2), false},
                                                    {0, rows(2), rows(4), false},
                                                    {0, rows(6), rows(6), false}}));
  EXPECT_EQ(blocks.left_out, 0);
}

TEST(Blocks, AreTransposedAndStridedWhereTheLayoutIs) {
  // gate rows of [h=2, (f=3 pair=2)] -> [f, h]
  const layout::Box gate{0, 0, 0, {{3, 2, 2}, {2, 6, 1}}, 0};
  const trace::Blocks blocks = trace::blocks_of({0, {3, 2}, {gate}}, {{2, 6}}, 100);
  ASSERT_EQ(blocks.list.size(), 1U);
  EXPECT_TRUE(blocks.list[0].transposed);
  EXPECT_EQ(trace::slice_text(blocks.list[0].hf, {2, 6}), "[:, 0:5:2]");
  EXPECT_EQ(trace::slice_text(blocks.list[0].megatron, {3, 2}), "[:, :]");
}

TEST(Blocks, AreCountedWhenTheyAreLeftOut) {
  const layout::Box box{0, 0, 0, {{5, 4, 2}, {2, 1, 1}}, 0};
  const trace::Blocks blocks = trace::blocks_of({0, {10}, {box}}, {{20}}, 3);
  EXPECT_EQ(blocks.list.size(), 3U);
  EXPECT_EQ(blocks.left_out, 2);
}

TEST(Blocks, SayPaddingWithoutASource) {
  const layout::Box pad{-1, 0, 6, {{6, 0, 1}}, 0};
  const trace::Blocks blocks = trace::blocks_of({0, {4, 3}, {pad}}, {}, 10);
  ASSERT_EQ(blocks.list.size(), 1U);
  EXPECT_EQ(blocks.list[0].source, -1);
  EXPECT_EQ(trace::slice_text(blocks.list[0].megatron, {4, 3}), "[2:4, :]");
}

/// Layer 1 of llama, 8 query heads and 4 groups of 10 rows, TP 2: query row 20 is head 2, group 1.
TEST(Trace, FindsAQueryRowByHand) {
  const Placed placed = place("llama", {.tp = 2, .vocab_divisor = 4});
  const auto found =
      trace::trace(*placed.plan, {"model.layers.1.self_attn.q_proj.weight", {}, Shape{20, 7}});
  ASSERT_TRUE(found.has_value()) << found.error().message;
  ASSERT_EQ(found->places.size(), 1U);
  EXPECT_EQ(placed.plan->files()[found->places[0].file].name, "pp0_tp0_ep0_etp0.safetensors");
  EXPECT_EQ(found->places[0].megatron_index, (Shape{40, 7}));  // behind q q k v of group 0
  const auto back = trace::trace(
      *placed.plan, {"decoder.layers.1.self_attention.linear_qkv.weight", {}, Shape{40, 7}});
  ASSERT_TRUE(back.has_value());
  ASSERT_EQ(back->places.size(), 2U);  // both shards hold that name
  EXPECT_EQ(back->places[0].hf_index, (Shape{20, 7}));
  EXPECT_EQ(back->places[1].hf_index, (Shape{60, 7}));
}

TEST(Trace, ListsReplicasAndCopies) {
  const Placed placed = place("llama", {.tp = 2, .pp = 2, .vocab_divisor = 4});
  const auto norm =
      trace::trace(*placed.plan, {"model.layers.3.input_layernorm.weight", {}, Shape{5}});
  ASSERT_TRUE(norm.has_value());
  ASSERT_EQ(norm->places.size(), 2U);
  const plan::Target& target =
      placed.plan->files()[norm->places[0].file].targets[norm->places[0].target];
  EXPECT_EQ(target.name, "decoder.layers.1.self_attention.linear_qkv.layer_norm_weight");
  const Placed tied = place("llama_tied_kv2", {.pp = 2});
  const auto embedding = trace::trace(*tied.plan, {"model.embed_tokens.weight", {}, Shape{1, 2}});
  ASSERT_TRUE(embedding.has_value());
  ASSERT_EQ(embedding->places.size(), 2U);
  EXPECT_FALSE(
      tied.plan->files()[embedding->places[0].file].targets[embedding->places[0].target].copy);
  EXPECT_TRUE(
      tied.plan->files()[embedding->places[1].file].targets[embedding->places[1].target].copy);
}

TEST(Trace, SaysZeroPadding) {
  parallel::Layout layout{.tp = 2};
  layout.vocab_divisor = 4;  // 131 rows -> 136
  const Placed placed = place("llama", layout);
  const auto last =
      trace::trace(*placed.plan, {"pp0_tp1_ep0_etp0:output_layer.weight", {}, Shape{67, 0}});
  ASSERT_TRUE(last.has_value()) << last.error().message;
  EXPECT_EQ(last->places.at(0).hf, "");
  const auto real = trace::trace(
      *placed.plan, {"pp0_tp1_ep0_etp0.safetensors:output_layer.weight", {}, Shape{62, 0}});
  ASSERT_TRUE(real.has_value());
  EXPECT_EQ(real->places.at(0).hf, "lm_head.weight");
  EXPECT_EQ(real->places.at(0).hf_index, (Shape{130, 0}));
}

TEST(Trace, NamesTheNearestForAnUnknownName) {
  const Placed placed = place("llama", {});
  const auto refused = [&](const std::string& name, std::optional<trace::Side> side = {}) {
    auto found = trace::trace(*placed.plan, {name, side, {}});
    EXPECT_FALSE(found.has_value()) << name;
    EXPECT_EQ(found.error().code, Code::BadValue);
    return found.error().help;
  };
  EXPECT_EQ(refused("model.layers.1.self_attn.q_proj.weigth"),
            "did you mean model.layers.1.self_attn.q_proj.weight?");
  EXPECT_EQ(refused("model.layers.99.self_attn.q_proj.weight"),
            "did you mean model.layers.0.self_attn.q_proj.weight?");
  EXPECT_EQ(refused("lm_head.weight", trace::Side::Megatron),
            "write --from hf, or leave --from out");
  EXPECT_EQ(refused("output_layer.weight", trace::Side::Hf),
            "write --from megatron, or leave --from out");
  EXPECT_NE(refused("nothing"), "");
  EXPECT_NE(refused(""), "");
  EXPECT_NE(refused("pp7_tp0_ep0_etp0:output_layer.weight").find("bridge-verify layout"),
            std::string::npos);
  EXPECT_EQ(refused("pp0_tp0_ep0_etp0:output_layer.wight"), "did you mean output_layer.weight?");
}

TEST(Trace, NamesTheShapeForAnIndexOutside) {
  const Placed placed = place("llama", {.tp = 2, .vocab_divisor = 4});
  for (const Shape& index : {Shape{80, 0}, Shape{0, 24}, Shape{80}, Shape{0, 0, 0}}) {
    const auto found =
        trace::trace(*placed.plan, {"model.layers.0.self_attn.q_proj.weight", {}, index});
    ASSERT_FALSE(found.has_value());
    EXPECT_EQ(found.error().wanted, "an index into shape [80, 24]");
  }
  const auto shard = trace::trace(*placed.plan, {"output_layer.weight", {}, Shape{68, 0}});
  EXPECT_FALSE(shard.has_value());
}

/// The stored shards of one golden run, and the model on its layout.
class BridgeShards : public testing::TestWithParam<std::string> {};

/// The number after one rounding to `dtype`.
double cast(double value, DType dtype) {
  std::array<std::byte, 8> element{};
  kinds::store(value, element.data(), dtype);
  return kinds::load(element.data(), dtype);
}

double number(const io::Checkpoint& from, const std::string& tensor, const Shape& index) {
  const io::StoredTensor& stored = from.tensors().at(tensor);
  std::int64_t at = 0;
  for (std::size_t d = 0; d < index.size(); ++d) {
    at = at * stored.spec.shape[d] + index[d];
  }
  const auto bytes = from.bytes(stored);
  return kinds::load(bytes.data() + at * bv::bytes(stored.spec.dtype), stored.spec.dtype);
}

Shape spread(std::int64_t sample, const Shape& shape) {
  Shape out;
  for (const std::int64_t extent : shape) {
    out.push_back(sample < 0 ? extent - 1 : sample * 7919 % extent);
    sample = sample < 0 ? sample : sample * 31 + 5;
  }
  return out;
}

TEST_P(BridgeShards, HoldTheElementsThatTraceNames) {
  const Json run = support::read_json(kGolden / "megatron" / GetParam());
  const Placed placed = place(run.at("case"), support::layout_of(run));
  const DType params = dtype_from_name(run.at("params_dtype").get<std::string>()).value();
  const support::TempFolder temp;
  const fs::path folder = temp.path() / "shards";
  convert::ConvertOptions options;
  options.dtype.params = params;
  const auto made =
      convert::to_megatron(*placed.hf, catalogue(), support::layout_of(run), folder, options);
  ASSERT_TRUE(made.has_value()) << made.error().message;
  std::int64_t compared = 0;
  for (const plan::ShardFile& file : placed.plan->files()) {
    const auto stored = io::Checkpoint::open(folder / file.name);
    ASSERT_TRUE(stored.has_value()) << stored.error().message;
    for (const plan::Target& target : file.targets) {
      const model::Mapping& mapping = placed.hf->model.mappings[target.mapping];
      const std::string name = file.name.substr(0, file.name.find('.')) + ":" + target.name;
      const Shape& shape = stored->tensors().at(target.name).spec.shape;
      for (std::int64_t sample = -1; sample < 6; ++sample) {
        const Shape index = spread(sample, shape);
        const auto found = trace::trace(*placed.plan, {name, {}, index});
        ASSERT_TRUE(found.has_value()) << name << ": " << found.error().message;
        ASSERT_EQ(found->places.size(), 1U);
        const trace::Place& there = found->places[0];
        const double value = number(*stored, target.name, index);
        if (there.hf.empty()) {
          EXPECT_EQ(value, 0.0) << name << shape_text(index);
          continue;
        }
        if (mapping.rule->value.empty()) {
          EXPECT_EQ(value, cast(number(*placed.hf->checkpoint, there.hf, there.hf_index), params))
              << name << shape_text(index) << " = " << there.hf << shape_text(there.hf_index);
          ++compared;
        }
        const auto back = trace::trace(*placed.plan, {there.hf, trace::Side::Hf, there.hf_index});
        ASSERT_TRUE(back.has_value());
        EXPECT_TRUE(std::any_of(back->places.begin(), back->places.end(),
                                [&](const trace::Place& one) {
                                  return placed.plan->files()[one.file].name == file.name &&
                                         placed.plan->files()[one.file].targets[one.target].name ==
                                             target.name &&
                                         one.megatron_index == index;
                                }))
            << there.hf << shape_text(there.hf_index);
      }
    }
  }
  EXPECT_GT(compared, 100);
}

/// trace::Blocks are checked against the element road: sizes add up, and first and last elements
/// agree.
TEST_P(BridgeShards, HaveBlocksThatTileEachTensor) {
  const Json run = support::read_json(kGolden / "megatron" / GetParam());
  const Placed placed = place(run.at("case"), support::layout_of(run));
  std::set<std::uint32_t> seen;
  for (const plan::ShardFile& file : placed.plan->files()) {
    for (const plan::Target& target : file.targets) {
      if (!seen.insert(target.mapping).second) {
        continue;
      }
      const std::string name = file.name.substr(0, file.name.find('.')) + ":" + target.name;
      const auto found = trace::trace(*placed.plan, {name, {}, {}});
      ASSERT_TRUE(found.has_value()) << found.error().message;
      std::int64_t elements = 0;
      for (const trace::Block& block : found->places.at(0).blocks.list) {
        std::int64_t size = 1;
        Shape first, last, hf_first, hf_last;
        for (const trace::Range& one : block.megatron) {
          size *= one.count;
          first.push_back(one.begin);
          last.push_back(one.begin + (one.count - 1) * one.step);
        }
        for (const trace::Range& one : block.hf) {
          hf_first.push_back(one.begin);
          hf_last.push_back(one.begin + (one.count - 1) * one.step);
        }
        elements += size;
        for (const auto& [ours, theirs] : {std::pair(first, hf_first), std::pair(last, hf_last)}) {
          const auto element = trace::trace(*placed.plan, {name, {}, ours});
          ASSERT_TRUE(element.has_value());
          EXPECT_EQ(element->places.at(0).hf_index, theirs) << name << shape_text(ours);
        }
      }
      EXPECT_EQ(elements, element_count(found->shape)) << name;
      EXPECT_EQ(found->places.at(0).blocks.left_out, 0);
    }
  }
}

/// One or two layouts of each case.
std::vector<std::string> traced_runs() {
  std::vector<std::string> out = support::golden_runs();
  std::erase_if(out, [](const std::string& run) {
    const std::string layout = fs::path(run).stem().string();
    return layout != "tp2" && layout != "tp2_ep2" && layout != "tp2_bf16";
  });
  return out;
}

INSTANTIATE_TEST_SUITE_P(Megatron, BridgeShards, testing::ValuesIn(traced_runs()),
                         [](const auto& param) {
                           std::string name = param.param;
                           std::erase_if(name, [](char c) {
                             return std::isalnum(static_cast<unsigned char>(c)) == 0;
                           });
                           return name;
                         });

}  // namespace
}  // namespace bv::trace
