// Rows of an adapter for serving lie on the rank that has the same rows of the base: for every
// linear layer of every golden, held against the engine's own cut of the base.

#include <set>

#include "core/lora/adapter_keys.hpp"
#include "core/lora/sites.hpp"
#include "core/serve/serve.hpp"
#include "tests/core/lora/golden.hpp"

namespace bv::lora {
namespace {

constexpr std::int64_t kTp = 2;
using Rows = std::map<std::string, std::vector<std::set<std::int64_t>>>;  // tensor -> rank -> rows

/// Rows of HF tensors that each rank of Megatron has.
Rows rows_of_base(const checkpoint::HfModel& base) {
  parallel::Layout layout;
  layout.tp = kTp;
  layout.etp = kTp;
  layout.vocab_divisor = 1;
  Rows out;
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

/// One pair of rank 1 on each of these tensors.
Result<Adapter> adapter_on(const Rows& rows, const checkpoint::HfModel& base) {
  static const std::vector<std::byte> zeros(std::size_t{4} << 16);
  AdapterConfig config;
  config.r = 1;
  config.lora_alpha = 1;
  std::vector<AdapterTensor> tensors;
  for (const auto& [name, ranks] : rows) {
    const Shape& shape = base.headers.find(name)->second.shape;
    if (shape.size() != 2 || !name.ends_with(".weight")) {
      continue;  // stacks of experts are held against vLLM's own
    }
    config.target_modules.names.emplace_back(module_of(name));
    for (const auto& [kind, factor] :
         {std::pair{KeyKind::A, Shape{1, shape[1]}}, std::pair{KeyKind::B, Shape{shape[0], 1}}}) {
      AdapterTensor one;
      one.stored.spec = {adapter_key(name, kind), DType::F32, factor};
      one.bytes = std::span(zeros).first(static_cast<std::size_t>(factor[0] * factor[1]) * 4);
      tensors.push_back(std::move(one));
    }
  }
  return fit_adapter(std::move(config), std::move(tensors), base, golden::kinds_of_build(),
                     "adapter");
}

Rows rows_served(const std::vector<ServedModule>& modules) {
  Rows out;
  for (const ServedModule& module : modules) {
    for (std::size_t t = 0; t < module.ranks.size(); ++t) {
      for (const SliceShard& shard : module.ranks[t]) {
        auto& ranks = out[module.names[shard.member.value_or(0)]];
        ranks.resize(kTp);
        for (std::int64_t row = shard.b_from_rows.begin; row < shard.b_from_rows.end; ++row) {
          ranks[t].insert(row);
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
    const Rows wanted = rows_of_base(base);
    if (wanted.empty()) {
      continue;
    }
    const auto adapter = adapter_on(wanted, base);
    if (!adapter || !adapter->faults.empty()) {
      continue;  // a class of other modules than the files, which has its own tests
    }
    const auto served = serve_adapter(base, golden::kinds_of_build(), *adapter, {kTp, false, 1});
    ASSERT_TRUE(served) << served.error().message;
    for (const auto& [tensor, ranks] : rows_served(*served)) {
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
