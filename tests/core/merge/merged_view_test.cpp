// A base whose tensors are merged when they are read is, for every reader, the model that a merge
// writes.

#include "core/merge/merged_view.hpp"

#include <fmt/format.h>

#include "core/convert/convert.hpp"
#include "core/merge/merge.hpp"
#include "core/merge/merged_elements.hpp"
#include "core/plan/layout_set.hpp"
#include "tests/core/lora/golden.hpp"
#include "tests/support/files.hpp"

namespace bv::lora {
namespace {

namespace fs = std::filesystem;

/// A base of PEFT's goldens opened as its merged model, and the merged model on the disk.
struct Twins {
  explicit Twins(const std::string& name) : base(open(name, {})) {
    adapter =
        open_adapter(golden::kGolden / "peft" / name / "adapter", base, golden::kinds_of_build())
            .value();
    const MergePlan plan = plan_merge(base, adapter, true).value();
    view = open(name, merged_additions(base, plan));
    EXPECT_TRUE(merge_when_read(adapter, plan, 2, view));
    MergeOptions options;
    options.untie = true;
    EXPECT_TRUE(merge_model(base, adapter, temp.path() / "merged", options));
    merged = open_folder(temp.path() / "merged", {});
  }
  static checkpoint::HfModel open(const std::string& name, checkpoint::Additions additions) {
    return open_folder(golden::kGolden / "peft" / name / "base", std::move(additions));
  }
  static checkpoint::HfModel open_folder(const fs::path& folder, checkpoint::Additions additions) {
    static const auto families = family::builtin_families().value();
    checkpoint::OpenOptions options;
    options.additions = std::move(additions);
    return checkpoint::open_hf(folder, families, options).value();
  }

  support::TempFolder temp;
  checkpoint::HfModel base;
  Adapter adapter;
  checkpoint::HfModel view;
  checkpoint::HfModel merged;
};

std::vector<std::string> mergeable_cases() {
  std::vector<std::string> out;
  for (const auto& entry : fs::directory_iterator(golden::kGolden / "peft")) {
    const std::string name = entry.path().filename().string();
    if (fs::exists(entry.path() / "adapter") && name != "gpt2_conv1d") {  // no family has GPT-2
      out.push_back(name);
    }
  }
  std::sort(out.begin(), out.end());
  return out;
}

std::map<std::string, std::string> all_of(const fs::path& folder) {
  std::map<std::string, std::string> out;
  for (const std::string& name : support::files_below(folder)) {
    out[name] = support::file_text(folder / name);
  }
  return out;
}

TEST(MergedView, HasTheHeadersAndTheConfigOfTheMergedModel) {
  for (const std::string& name : mergeable_cases()) {
    SCOPED_TRACE(name);
    const Twins twins(name);
    EXPECT_EQ(twins.view.header_digest, twins.merged.header_digest);
    EXPECT_EQ(nlohmann::json::parse(twins.view.config_text),
              nlohmann::json::parse(twins.merged.config_text));
    EXPECT_EQ(twins.view.model.tied, twins.merged.model.tied);
  }
}

TEST(MergedView, EveryRangeOfEveryTensorIsThatOfTheMergedModel) {
  std::int64_t changed = 0;
  for (const std::string& name : mergeable_cases()) {
    SCOPED_TRACE(name);
    const Twins twins(name);
    for (const auto& [tensor, made] : twins.view.checkpoint->made()) {
      const auto stored = twins.merged.checkpoint->tensors().find(tensor);
      ASSERT_NE(stored, twins.merged.checkpoint->tensors().end()) << tensor;
      const auto wanted = twins.merged.checkpoint->bytes(stored->second);
      const std::int64_t size = bytes(made.spec.dtype);
      ASSERT_EQ(made.maker->elements() * size, std::ssize(wanted));
      for (const std::int64_t step : {std::int64_t{1}, std::int64_t{7}, made.maker->granule(),
                                      3 * made.maker->granule() + 1, made.maker->elements()}) {
        // Backwards, too: rows that were made before are no start for those.
        std::vector<std::byte> found(wanted.size());
        for (std::int64_t end = made.maker->elements(); end > 0; end -= std::min(end, step * 101)) {
          const std::int64_t begin = std::max<std::int64_t>(0, end - step * 101);
          ASSERT_TRUE(made.maker->make(begin, end, found.data() + begin * size));
        }
        ASSERT_TRUE(std::equal(found.begin(), found.end(), wanted.begin())) << tensor;
        for (std::int64_t begin = 0; begin < made.maker->elements(); begin += step * 53) {
          const std::int64_t end = std::min(begin + step * 53, made.maker->elements());
          ASSERT_TRUE(made.maker->make(begin, end, found.data() + begin * size));
        }
        ASSERT_TRUE(std::equal(found.begin(), found.end(), wanted.begin())) << tensor;
      }
      ++changed;
    }
  }
  EXPECT_GT(changed, 150);
}

TEST(MergedView, EveryLayoutWindowAndThreadGivesTheBytesOfTheMergedModel) {
  for (const std::string& name : mergeable_cases()) {
    SCOPED_TRACE(name);
    const Twins twins(name);
    const std::int64_t experts = twins.base.model.geometry.get("num_experts").value_or(0);
    std::vector<parallel::Layout> layouts(2);
    layouts[1].tp = 2;
    if (experts > 0) {
      layouts[1].etp = 2;
      layouts.push_back({});
      layouts[2].ep = experts;
    }
    for (std::size_t i = 0; i < layouts.size(); ++i) {
      const parallel::Layout layout = plan::with_padding(twins.base.model, layouts[i]);
      const fs::path wanted = twins.temp.path() / fmt::format("wanted{}", i);
      const auto whole =
          convert::to_megatron(twins.merged, golden::kinds_of_build(), layout, wanted, {});
      ASSERT_TRUE(whole) << whole.error().message;
      for (const auto& [window, jobs] : {std::pair<std::int64_t, int>{64, 1}, {1000, 4}}) {
        const fs::path found = twins.temp.path() / fmt::format("found{}_{}", i, window);
        convert::ConvertOptions options;
        options.jobs = jobs;
        options.windows = {window, window, 4 * window};
        const auto made =
            convert::to_megatron(twins.view, golden::kinds_of_build(), layout, found, options);
        ASSERT_TRUE(made) << made.error().message;
        EXPECT_EQ(all_of(found), all_of(wanted)) << window;
      }
    }
    const fs::path wanted = twins.temp.path() / "dist";
    const fs::path found = twins.temp.path() / "dist of view";
    convert::ConvertOptions options;
    options.windows = {100, 100, 400};
    options.jobs = 3;
    const parallel::Layout one = plan::with_padding(twins.base.model, {});
    ASSERT_TRUE(convert::to_torch_dist(twins.merged, golden::kinds_of_build(), one, wanted, {}));
    ASSERT_TRUE(convert::to_torch_dist(twins.view, golden::kinds_of_build(), one, found, options));
    EXPECT_EQ(all_of(found), all_of(wanted));
  }
}

TEST(MergedView, NothingIsWrittenWhenAnElementDoesNotFit) {
  Twins twins("partial_qv");
  AdapterPair& pair = twins.adapter.pairs.front();
  std::vector<float> a(static_cast<std::size_t>(pair.a.rows * pair.a.columns), 1);
  a[3] = NAN;
  pair.a.first = reinterpret_cast<const std::byte*>(a.data());
  pair.a.dtype = DType::F32;
  pair.a.row_stride = pair.a.columns;
  pair.a.column_stride = 1;
  for (const bool dist : {false, true}) {
    const auto write = dist ? convert::to_torch_dist : convert::to_megatron;
    const fs::path out = twins.temp.path() / "out";
    const auto refused = write(twins.view, golden::kinds_of_build(),
                               plan::with_padding(twins.base.model, {}), out, {});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Code::MergeNotFinite);
    EXPECT_EQ(refused.error().message, pair.base + "[0, 3] would become infinite or NaN");
    EXPECT_FALSE(fs::exists(out));
  }
}

TEST(MergedView, AnAdapterThatChangesMeanwhileIsAnError) {
  const support::TempFolder temp;
  fs::copy(golden::kGolden / "peft/partial_qv/adapter", temp.path() / "adapter");
  checkpoint::HfModel base = Twins::open("partial_qv", {});
  const Adapter adapter =
      open_adapter(temp.path() / "adapter", base, golden::kinds_of_build()).value();
  const MergePlan plan = plan_merge(base, adapter, false).value();
  ASSERT_TRUE(merge_when_read(adapter, plan, 2, base));
  EXPECT_TRUE(base.checkpoint->unchanged());
  fs::last_write_time(temp.path() / "adapter/adapter_model.safetensors",
                      fs::file_time_type::clock::now() + std::chrono::hours(1));
  const auto changed = base.checkpoint->unchanged();
  ASSERT_FALSE(changed);
  EXPECT_EQ(changed.error().code, Code::IndexDisagrees);
}

/// Whatever is asked of however many tensors, what rests stays below the bound.
TEST(MergedView, WhatRestsIsBounded) {
  const Twins twins("llama_all");
  for (const std::size_t bound : {std::size_t{0}, std::size_t{3000}, std::size_t{1} << 20}) {
    const auto states = std::make_shared<MergeStates>(bound);
    std::vector<std::unique_ptr<MergedElements>> makers;
    const Edits edits = edits_of(twins.adapter);
    for (const auto& [tensor, edit] : edits) {
      const auto& stored = twins.base.checkpoint->tensors().find(tensor)->second;
      makers.push_back(std::make_unique<MergedElements>(
          TensorMerge::make(stored.spec, edit, best_merge_isa(),
                            twins.base.checkpoint->bytes(stored))
              .value(),
          MergedElements::Base{twins.base.checkpoint->bytes(stored)}, states, nullptr));
    }
    std::size_t most = 0;
    for (int round = 0; round < 2; ++round) {
      for (const auto& maker : makers) {
        std::vector<std::byte> out(static_cast<std::size_t>(maker->granule() * 8));
        ASSERT_TRUE(maker->make(0, maker->granule(), out.data()));
        EXPECT_LE(states->resting_bytes(), bound);
        most = std::max(most, states->resting_bytes());
      }
    }
    EXPECT_EQ(most > 0, bound > 0);
  }
}

}  // namespace
}  // namespace bv::lora
