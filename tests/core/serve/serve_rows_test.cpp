// Rows of an adapter for serving lie on the rank that has the same rows of the base: for every
// linear layer of every golden, held against the engine's own cut of the base.

#include "core/lora/sites.hpp"
#include "tests/core/lora/served.hpp"

namespace bv::lora {
namespace {

constexpr std::int64_t kTp = 2;
using golden::ServedRows;

/// Rows of HF tensors that each rank of Megatron has.
ServedRows rows_of_base(const checkpoint::HfModel& base) {
  parallel::Layout layout;
  layout.tp = kTp;
  layout.etp = kTp;
  layout.vocab_divisor = 1;
  ServedRows out;
  const auto plan = plan::Plan::make(base.model, golden::kinds_of_build(), layout);
  if (!plan) {
    return out;  // two ranks are not legal for it
  }
  const auto sites = SitePlan::make(*plan, golden::kinds_of_build()).value();
  for (const Site& site : sites.sites()) {
    const std::vector<std::string>& hf = base.model.mappings[site.mappings.front()].hf;
    for (std::int64_t t = 0; t < kTp && site.cut == BaseCut::Rows; ++t) {
      for (const layout::Box& box : site.rows->shard(0, {{"t", t}}).boxes) {
        for (std::int64_t i = 0; box.source >= 0 && i < box.elements(); ++i) {
          auto& ranks = out[hf[static_cast<std::size_t>(box.source)]];
          ranks.resize(kTp);
          ranks[static_cast<std::size_t>(t)].insert(layout::place_of(box, i).source);
        }
      }
    }
  }
  return out;
}

TEST(ServeRows, ARankHasTheRowsThatItHasOfTheBase) {
  std::set<std::string> fused;
  std::int64_t compared = 0;
  for (const auto& folder : std::filesystem::directory_iterator(golden::kGolden / "hf")) {
    if (!folder.is_directory()) {
      continue;
    }
    const std::string name = folder.path().filename();
    SCOPED_TRACE(name);
    const auto base = golden::open_base(folder.path());
    const ServedRows wanted = rows_of_base(base);
    if (wanted.empty()) {
      continue;
    }
    std::set<std::string> linear;
    for (const auto& [tensor, ranks] : wanted) {
      linear.insert(tensor);  // stacks of experts are held against vLLM's own
    }
    const auto adapter = golden::adapter_on(linear, base);
    if (!adapter || !adapter->faults.empty()) {
      continue;  // a class of other modules than the files, which has its own tests
    }
    const auto served = serve_adapter(base, golden::kinds_of_build(), *adapter, {kTp, false, 1});
    ASSERT_TRUE(served) << served.error().message;
    for (const auto& [tensor, ranks] : golden::rows_served(*served)) {
      EXPECT_EQ(ranks, wanted.at(tensor)) << tensor;
      ++compared;
    }
    for (const ServedModule& module : *served) {
      if (module.names.size() == 1 && module.layer.slices.size() > 1) {
        fused.insert(name + " " + std::string(last_component(module.layer.name)));
      }
    }
  }
  EXPECT_GT(compared, 500);
  for (const char* one : {"phi3 qkv_proj", "phi3 gate_up_proj", "glm4 gate_up_proj",
                          "glm gate_up_proj", "falcon_h1 in_proj"}) {
    EXPECT_TRUE(fused.contains(one)) << one;
  }
}

}  // namespace
}  // namespace bv::lora
