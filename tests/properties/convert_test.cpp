// P3 end to end: a checkpoint that went to any two random layouts and back is the same files.

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "core/checkpoint/open_model.hpp"
#include "core/convert/convert.hpp"
#include "core/kinds/catalogue.hpp"
#include "properties/attacks/generators/layouts.hpp"
#include "tests/support/files.hpp"
#include "tests/support/golden_model.hpp"

namespace bv::convert {
namespace {

namespace fs = std::filesystem;

using Files = std::map<std::string, std::string>;

using support::catalogue;
using support::families;

Files files_of(const fs::path& folder) {
  Files out;
  for (const auto& entry : fs::directory_iterator(folder)) {
    std::ostringstream text;
    text << std::ifstream(entry.path(), std::ios::binary).rdbuf();
    out[entry.path().filename().string()] = text.str();
  }
  return out;
}

/// A random layout for a checkpoint that is there: the first draw from `seed` on whose stages hold
/// as many layers as it has.
parallel::Layout layout_for(const model::Model& model, std::uint64_t seed) {
  generators::Random random(seed);
  for (;;) {
    const auto draw = generators::draw(generators::layout_fields(), random);
    if (generators::layers_of(draw) == model.geometry.at("num_hidden_layers")) {
      return generators::layout_of(draw, model, 16).value();
    }
  }
}

ConvertOptions quick(const WindowSizes& windows) {
  ConvertOptions out;
  out.windows = windows;
  out.verify = false;  // the comparison of files is the check
  return out;
}

/// There and back; `change` is made to the shards between.
Result<Files> there_and_back(const checkpoint::HfModel& source, const parallel::Layout& layout,
                             const std::function<void(const fs::path&)>& change,
                             const WindowSizes& windows = {}) {
  const support::TempFolder folder;
  BV_TRY(written, to_megatron(source, catalogue(), layout, folder.path() / "m", quick(windows)));
  static_cast<void>(written);
  if (change) {
    change(folder.path() / "m");
  }
  BV_TRY(shards, checkpoint::open_megatron(folder.path() / "m", families(), catalogue()));
  BV_TRY(back, to_hf(shards, catalogue(), folder.path() / "h", quick(windows)));
  if (!back.faults.empty()) {
    return fail(back.faults.front().code, back.faults.front().title);
  }
  if (!back.replicas.empty()) {
    return fail(Code::ReplicasDiffer, back.replicas.front().tensor);
  }
  return files_of(folder.path() / "h");
}

void swap_files(const fs::path& a, const fs::path& b) {
  fs::rename(a, a.string() + ".swap");
  fs::rename(b, a);
  fs::rename(a.string() + ".swap", b);
}

class ConvertedFiles : public ::testing::TestWithParam<const char*> {};

TEST_P(ConvertedFiles, AreTheSameAfterAnyTwoLayouts) {
  const checkpoint::HfModel source = support::open_golden(GetParam());
  const auto first = there_and_back(source, layout_for(source.model, 1), {});
  ASSERT_TRUE(first) << first.error().message;
  EXPECT_GT(first->size(), 1U);
  for (std::uint64_t seed = 2; seed < 6; ++seed) {
    const parallel::Layout layout = layout_for(source.model, seed);
    const auto other = there_and_back(source, layout, {});
    ASSERT_TRUE(other) << parallel::layout_id(layout) << other.error().message;
    EXPECT_TRUE(*other == *first) << parallel::layout_id(layout) << " " << layout.pipeline_layout;
  }
}

INSTANTIATE_TEST_SUITE_P(LayoutIndependence, ConvertedFiles,
                         ::testing::Values("llama", "gemma3_text", "deepseek_v3", "gpt_oss",
                                           "qwen3_next", "qwen3_moe_packed",
                                           "qwen3_5_vl_moe_mtp_per_expert"));

/// Windows of one element, of part of one, and of some: what is written is the same.
TEST(LayoutIndependence, FilesAreTheSameForAnySizeOfWindow) {
  for (const char* name : {"llama", "qwen3_moe_packed", "gpt_oss", "qwen3_next"}) {
    const checkpoint::HfModel source = support::open_golden(name);
    const parallel::Layout layout = layout_for(source.model, 3);
    const auto wanted = there_and_back(source, layout, {});
    ASSERT_TRUE(wanted) << wanted.error().message;
    for (const std::int64_t bytes : {1, 7, 64}) {
      const auto found = there_and_back(source, layout, {}, {bytes, bytes, bytes});
      ASSERT_TRUE(found) << name << bytes << found.error().message;
      EXPECT_TRUE(*found == *wanted) << name << " with windows of " << bytes << " bytes";
    }
  }
}

TEST(LayoutIndependence, ShardsOfTwoRanksThatChangedPlacesAreNamedAndNothingIsWritten) {
  const checkpoint::HfModel source = support::open_golden("llama");
  parallel::Layout layout;
  const auto whole = there_and_back(source, layout, {}).value();
  layout.tp = 2;
  layout.vocab_divisor = 4;
  const auto swapped = there_and_back(source, layout, [](const fs::path& folder) {
    swap_files(folder / "pp0_tp0_ep0_etp0.safetensors", folder / "pp0_tp1_ep0_etp0.safetensors");
  });
  ASSERT_FALSE(swapped);
  EXPECT_EQ(label(swapped.error().code), "BV3009");
  EXPECT_TRUE(there_and_back(source, layout, {}).value() == whole);
}

}  // namespace
}  // namespace bv::convert
