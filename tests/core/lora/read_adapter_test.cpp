// Adapters that PEFT 0.21.2 wrote: every key is read, and what is read means what PEFT means.

#include <cmath>
#include <set>

#include "core/lora/adapter_keys.hpp"
#include "tests/core/lora/golden.hpp"
#include "tests/support/checkpoint_edit.hpp"
#include "tests/support/files.hpp"

namespace bv::lora {
namespace {

namespace fs = std::filesystem;

struct Case {
  std::string name;
  fs::path adapter;
  fs::path base;
};

std::vector<Case> cases() {
  std::vector<Case> out;
  for (const auto& entry : fs::directory_iterator(golden::kGolden / "peft")) {
    const std::string name = entry.path().filename().string();
    if (fs::exists(entry.path() / "adapter")) {
      out.push_back({name, entry.path() / "adapter", entry.path() / "base"});
    }
    for (const char* form : {"bf16", "fp32"}) {
      const fs::path adapter = entry.path() / fmt::format("adapter_{}", form);
      if (fs::exists(adapter)) {
        out.push_back({name + "_" + form, adapter, entry.path() / fmt::format("base_{}", form)});
      }
    }
    for (const char* family :
         {"gpt_oss", "qwen3_moe", "qwen35_moe", "llama4_text", "llama4_square"}) {
      const fs::path part = entry.path() / family;
      if (fs::exists(part)) {
        out.push_back({name + "_" + family, part / "adapter", part / "base"});
      }
    }
  }
  return out;
}

Adapter read(const fs::path& folder, const checkpoint::HfModel& base) {
  auto out = open_adapter(folder, base, golden::kinds_of_build());
  EXPECT_TRUE(out) << folder << (out ? "" : " " + out.error().message);
  return out ? std::move(*out) : Adapter{};
}

TEST(ReadAdapter, EveryKeyOfEveryGoldenIsReadOnce) {
  EXPECT_EQ(cases().size(), 30u);
  for (const Case& one : cases()) {
    SCOPED_TRACE(one.name);
    const auto base = golden::open_base(one.base);
    const Adapter adapter = read(one.adapter, base);
    for (const AdapterFault& fault : adapter.faults) {
      ADD_FAILURE() << fault.message << " found " << fault.found << " wanted " << fault.wanted;
    }
    std::set<std::string> read_keys;
    for (const AdapterPair& pair : adapter.pairs) {
      read_keys.insert({pair.a.key(), pair.b.key()});
      if (pair.magnitude) {
        read_keys.insert(pair.magnitude->key());
      }
    }
    for (const BiasDelta& bias : adapter.biases) {
      EXPECT_TRUE(read_keys.insert(bias.delta.key()).second);
    }
    for (const Replacement& one_more : adapter.replacements) {
      EXPECT_TRUE(read_keys.insert(one_more.tensor->spec.name).second);
    }
    EXPECT_EQ(std::ssize(read_keys) + std::ssize(adapter.copies), adapter.keys);
  }
}

TEST(ReadAdapter, RanksAlphasAndScalesAreThoseOfTheLibrary) {
  for (const Case& one : cases()) {
    const auto meta_file = one.adapter.parent_path() / "meta.json";
    const auto meta = fs::exists(meta_file) ? golden::json_of(meta_file) : nlohmann::json();
    if (!meta.is_object() || !meta.contains("targets") || !meta["targets"].is_array() ||
        !meta["targets"].at(0).contains("keys")) {
      continue;
    }
    SCOPED_TRACE(one.name);
    const auto base = golden::open_base(one.base);
    const Adapter adapter = read(one.adapter, base);
    std::map<std::string, std::set<std::tuple<std::int64_t, double, double>>> found;
    for (const AdapterPair& pair : adapter.pairs) {
      found[pair.a.key()].insert(
          {pair.rank(), pair.alpha, scale64(pair.scale, pair.alpha, pair.rank())});
    }
    std::map<std::string, std::set<std::tuple<std::int64_t, double, double>>> wanted;
    for (const auto& target : meta["targets"]) {
      if (target.value("kind", "") == "replaced") {
        continue;  // a trained tensor has no scale
      }
      const auto& keys = target["keys"];
      const std::string a = keys.contains("lora_A.weight") ? "lora_A.weight" : "lora_embedding_A";
      wanted[keys[a].get<std::string>()].insert({target["r"].get<std::int64_t>(),
                                                 target["alpha"].get<double>(),
                                                 target["scale"].get<double>()});
    }
    EXPECT_EQ(found, wanted);
  }
}

/// The independent float64 reference holds the lowest layer.
TEST(ReadAdapter, PairsMeanWhatTheLibraryMergesInFloat64) {
  std::int64_t tensors = 0;
  for (const Case& one : cases()) {
    const auto reference = one.adapter.parent_path() / "merged_fp64.safetensors";
    if (!fs::exists(reference)) {
      continue;
    }
    SCOPED_TRACE(one.name);
    const auto base = golden::open_base(one.base);
    const Adapter adapter = read(one.adapter, base);
    const golden::Tensors ours = golden::merged(adapter, base);
    for (const auto& [name, wanted] : golden::tensors_of(io::Checkpoint::open(reference).value())) {
      const auto found = ours.find(name);
      if (found == ours.end()) {
        const bool other = std::any_of(adapter.biases.begin(), adapter.biases.end(),
                                       [&](const BiasDelta& bias) { return bias.base == name; }) ||
                           std::any_of(adapter.replacements.begin(), adapter.replacements.end(),
                                       [&](const Replacement& r) { return r.base == name; }) ||
                           name == "lm_head.weight";  // tied: the same tensor
        EXPECT_TRUE(other) << name;
        continue;
      }
      ++tensors;
      ASSERT_EQ(found->second.size(), wanted.size()) << name;
      double worst = 0;
      for (std::size_t i = 0; i < wanted.size(); ++i) {
        worst = std::max(worst, std::abs(found->second[i] - wanted[i]));
      }
      EXPECT_LT(worst, 1e-12) << name;
    }
  }
  EXPECT_GE(tensors, 40);
}

/// PEFT's own delta of factors 1, 2, 3, ... is exact: it shows where each element goes.
TEST(ReadAdapter, PackedFactorsGiveTheDeltaOfTheLibraryExactly) {
  std::int64_t compared = 0;
  const std::vector<std::string> families = {"gpt_oss", "qwen3_moe", "qwen35_moe", "llama4_text",
                                             "llama4_square"};
  std::vector<std::pair<std::string, std::string>> parts;
  for (const std::string& family : families) {
    parts.emplace_back(family, "");
    for (const char* older : {"peft_0.18.1", "peft_0.19.0"}) {
      if (family != "qwen3_moe") {
        parts.emplace_back(family, older);
      }
    }
  }
  for (const auto& [family, version] : parts) {
    SCOPED_TRACE(family + " " + version);
    const fs::path part = golden::kGolden / "peft/packing_tagged" / family;
    const auto base = golden::open_base(part / "base");
    const Adapter adapter = read(part / version / "adapter", base);
    EXPECT_TRUE(adapter.faults.empty());
    const golden::Tensors with = golden::merged(adapter, base);
    const golden::Tensors without = golden::tensors_of(*base.checkpoint);
    const auto delta =
        golden::tensors_of(io::Checkpoint::open(part / version / "delta.safetensors").value());
    EXPECT_FALSE(delta.empty());
    for (const auto& [name, wanted] : delta) {
      const auto found = with.find(name);
      ASSERT_NE(found, with.end()) << name;
      for (std::size_t i = 0; i < wanted.size(); ++i) {
        ASSERT_NEAR(found->second[i] - without.at(name)[i], wanted[i],
                    1e-6 * std::abs(wanted[i]) + 1e-9)
            << name;
      }
      ++compared;
    }
  }
  EXPECT_EQ(compared, 26);  // two parameters each
}

TEST(ReadAdapter, APackedAdapterIsAddedToExpertsThatAreStoredOneByOne) {
  const fs::path folder = golden::kGolden / "peft/qwen3_moe_named_targets";
  const auto base = golden::open_base(folder / "base");
  const Adapter adapter = read(folder / "adapter", base);
  std::map<std::string, std::pair<std::int64_t, double>> ranks;
  for (const AdapterPair& pair : adapter.pairs) {
    ranks[pair.base] = {pair.rank(), pair.alpha};
  }
  EXPECT_EQ(ranks.at("model.layers.0.mlp.experts.7.gate_proj.weight"),
            (std::pair{std::int64_t{6}, 14.0}));
  EXPECT_EQ(ranks.at("model.layers.0.mlp.experts.7.up_proj.weight"),
            (std::pair{std::int64_t{6}, 14.0}));
  EXPECT_EQ(ranks.at("model.layers.0.mlp.experts.0.down_proj.weight"),
            (std::pair{std::int64_t{3}, 7.0}));
}

/// D-29: one expert whose class keeps [1, in, out]: the delta is transposed as for several.
TEST(ReadAdapter, OneTransposedExpertTakesTheTransposedDelta) {
  const support::TempFolder temp;
  auto base = support::EditedCheckpoint::golden("gpt_oss");
  base.config["num_local_experts"] = 1;
  base.config["num_experts_per_tok"] = 1;
  for (auto& [name, tensor] : base.tensors) {
    if (name.find(".experts.") != std::string::npos || name.find(".router.") != std::string::npos) {
      tensor.bytes.resize(tensor.bytes.size() / static_cast<std::size_t>(tensor.shape[0]));
      tensor.shape[0] = 1;
    }
  }
  base.write(temp.path());
  const auto model = golden::open_base(temp.path());
  AdapterConfig config;
  config.r = 2;
  config.lora_alpha = 2;
  config.target_parameters = {"mlp.experts.down_proj"};
  config.peft_version = "0.21.2";
  const std::string experts = "base_model.model.model.layers.0.mlp.experts.";
  std::vector<float> a(2 * 28);
  std::vector<float> b(24 * 2);
  for (std::size_t i = 0; i < a.size(); ++i) {
    a[i] = static_cast<float>(i % 5);
  }
  for (std::size_t i = 0; i < b.size(); ++i) {
    b[i] = static_cast<float>(i % 7);
  }
  std::vector<AdapterTensor> tensors(2);
  tensors[0].stored = {{experts + "lora_A.weight", DType::F32, {2, 28}}, 0, 0, a.size() * 4};
  tensors[0].bytes = std::as_bytes(std::span(a));
  tensors[1].stored = {{experts + "lora_B.weight", DType::F32, {24, 2}}, 0, 0, b.size() * 4};
  tensors[1].bytes = std::as_bytes(std::span(b));
  const auto adapter =
      fit_adapter(config, std::move(tensors), model, golden::kinds_of_build(), "adapter").value();
  ASSERT_TRUE(adapter.faults.empty()) << adapter.faults[0].message;
  const std::string name = "model.layers.0.mlp.experts.down_proj";
  const auto merged = golden::merged(adapter, model).at(name);
  const auto before = golden::tensors_of(*model.checkpoint).at(name);
  for (std::size_t in = 0; in < 28; ++in) {
    for (std::size_t out = 0; out < 24; ++out) {
      const double delta = b[out * 2] * a[in] + b[out * 2 + 1] * a[28 + in];
      EXPECT_EQ(merged[in * 24 + out], before[in * 24 + out] + delta);
    }
  }
}

}  // namespace
}  // namespace bv::lora
