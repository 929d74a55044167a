// Adapters that the real Megatron-Bridge trained: put together from the files of the ranks and
// merged, they are the truth of the goldens; what its own exporter made of them is found out.

#include <cmath>
#include <set>

#include "tests/core/lora/megatron_case.hpp"

namespace bv::lora {
namespace {

namespace fs = std::filesystem;

double rounded(double value, DType dtype) {
  std::array<std::byte, 8> element{};
  kinds::store(value, element.data(), dtype);
  return kinds::load(element.data(), dtype);
}

/// The first tensor that is not the truth; "" when all are.
std::string first_wrong(const golden::MegatronCase& one, const Adapter& adapter) {
  const bool bf16 = one.run["params_dtype"] == "BF16";
  const auto truth =
      golden::tensors_of(io::Checkpoint::open(one.folder / "truth.safetensors").value());
  golden::Tensors base = golden::tensors_of(*one.base.checkpoint);
  golden::Tensors ours = golden::merged(adapter, one.base);
  for (const auto& [name, values] : truth) {
    if (!ours.contains(name)) {
      return name + " has no adapter";
    }
  }
  for (const auto& [name, values] : ours) {
    const auto wanted = truth.find(name);
    if (wanted == truth.end()) {
      return name + " is changed";
    }
    for (std::size_t i = 0; i < values.size(); ++i) {
      const double weight = base.at(name)[i];
      const double sum =
          bf16 ? rounded(rounded(weight, DType::BF16) + (values[i] - weight), DType::BF16)
               : values[i];
      const double bound = bf16 ? std::abs(sum) * 0x1p-7 : 3e-7 * (1 + std::abs(sum));
      if (!(std::abs(sum - wanted->second[i]) <= bound)) {
        return fmt::format("{} element {}: {} wanted {}", name, i, sum, wanted->second[i]);
      }
    }
  }
  return "";
}

TEST(MegatronGoldens, AdaptersOfTheRanksMergeToTheTruth) {
  EXPECT_EQ(golden::megatron_cases().size(), 15u);
  for (const std::string& name : golden::megatron_cases()) {
    SCOPED_TRACE(name);
    const golden::MegatronCase one(name);
    for (const AdapterFault& fault : one.megatron->faults) {
      ADD_FAILURE() << fault.message << " found " << fault.found << " wanted " << fault.wanted;
    }
    const auto files = plan_to_hf(*one.megatron, *one.sites, *one.class_sites, one.base);
    ASSERT_TRUE(files) << files.error().message;
    const auto adapter = adapter_in_memory(*files, one.base, golden::kinds_of_build());
    ASSERT_TRUE(adapter) << adapter.error().message;
    for (const AdapterFault& fault : adapter->faults) {
      ADD_FAILURE() << fault.message << " found " << fault.found << " wanted " << fault.wanted;
    }
    EXPECT_EQ(first_wrong(one, *adapter), "");
  }
}

/// What the real exporter wrote, read as PEFT reads it.
std::string verdict_on_export(const std::string& name) {
  const golden::MegatronCase one(name);
  auto adapter = open_adapter(one.folder / "hf_adapter", one.base, golden::kinds_of_build());
  if (!adapter) {
    return std::string(info(adapter.error().code).name);
  }
  if (!adapter->faults.empty()) {
    return std::string(info(adapter->faults.front().code).name);
  }
  return first_wrong(one, *adapter).empty() ? "right" : "wrong";
}

TEST(MegatronGoldens, WrongExportsOfTheRealExporterAreFoundOut) {
  EXPECT_EQ(verdict_on_export("qwen3__tp1_gate_only"), "right");
  // D-03: visual qkv is not permuted.
  EXPECT_EQ(verdict_on_export("qwen3_5_vl_dense__tp2"), "wrong");
  // D-04: all rows of the fused projection under one name.
  EXPECT_EQ(verdict_on_export("qwen3_next__tp2"), "AdapterShape");
  // D-01, D-14: roles of A and B exchanged and the rank fast.
  EXPECT_EQ(verdict_on_export("gpt_oss__tp2_ep2"), "AdapterShape");
  // D-05: use_dora without magnitudes.
  EXPECT_EQ(verdict_on_export("llama__tp1_dora"), "AdapterPairBroken");
  // D-08: expert rows cut as if ETP were 1.
  EXPECT_EQ(verdict_on_export("qwen3_5_moe_packed__tp4_ep2_etp2_shared"), "wrong");
  // D-07: experts 4 to 7 are missing.
  EXPECT_EQ(verdict_on_export("qwen3_moe__ep2_seq"), "wrong");
}

TEST(MegatronGoldens, TheConfigThatIsWrittenNamesThePackedParameter) {
  const golden::MegatronCase one("qwen3_moe__ep2_norm");  // D-34: upstream names single experts
  const auto files = plan_to_hf(*one.megatron, *one.sites, *one.class_sites, one.base).value();
  EXPECT_EQ(files.config.r, 6);
  EXPECT_EQ(files.config.lora_alpha, 12);
  std::set<std::string> patterns;
  for (const auto& [pattern, rank] : files.config.rank_pattern) {
    patterns.insert(pattern);
    EXPECT_EQ(rank, 3);
  }
  EXPECT_TRUE(patterns.contains("model.layers.0.mlp.experts.gate_up_proj"));
  EXPECT_EQ(files.config.target_parameters.front(), "model.layers.0.mlp.experts.down_proj");
}

TEST(MegatronGoldens, VisionModulesAreNamedInFullWhereABareNameTakesMore) {
  const golden::MegatronCase one(
      "qwen3_5_vl_dense__tp2");  // D-36: proj also wraps patch_embed.proj
  const auto files = plan_to_hf(*one.megatron, *one.sites, *one.class_sites, one.base).value();
  const auto& names = files.config.target_modules.names;
  EXPECT_EQ(std::count(names.begin(), names.end(), "proj"), 0);
  EXPECT_EQ(std::count(names.begin(), names.end(), "model.visual.blocks.0.attn.proj"), 1);
}

TEST(MegatronGoldens, ARankThatDivergedIsNamed) {
  golden::MegatronCase one("qwen3_5_moe_packed__tp4_ep2_etp2_shared");
  const fs::path copy = fs::path(::testing::TempDir()) / "diverged_adapter";
  fs::remove_all(copy);
  fs::copy(one.folder / "megatron", copy);
  // Experts share one adapter: its copy on the second expert-parallel rank loses a bit.
  const fs::path file = copy / "pp0_tp2_ep1_etp0.safetensors";
  const auto opened = io::Checkpoint::open(file).value();
  const std::string name = "decoder.layers.0.mlp.experts.linear_fc1.adapter.linear_out.weight";
  const auto at = static_cast<std::streamoff>(opened.tensors().find(name)->second.begin);
  std::fstream bytes(file, std::ios::in | std::ios::out | std::ios::binary);
  bytes.seekg(at);
  const char first = static_cast<char>(bytes.get() ^ 1);
  bytes.seekp(at);
  bytes.put(first);
  bytes.close();
  const auto adapter =
      open_megatron_adapter(copy, *one.sites, {}, {one.megatron->layout, 12.0}).value();
  ASSERT_EQ(adapter.faults.size(), 1u);
  EXPECT_EQ(adapter.faults[0].code, Code::AdapterReplicas);
  EXPECT_EQ(adapter.faults[0].key, name);
  fs::remove_all(copy);
}

TEST(MegatronGoldens, AFactorThatARankLacksIsNamed) {
  golden::MegatronCase one("qwen2__tp2");
  const fs::path copy = fs::path(::testing::TempDir()) / "partial_adapter";
  fs::remove_all(copy);
  fs::create_directory(copy);
  fs::copy(one.folder / "megatron/pp0_tp0_ep0_etp0.safetensors", copy);
  const auto lacking = open_megatron_adapter(copy, *one.sites, {}, {one.megatron->layout, 12.0});
  ASSERT_FALSE(lacking);
  EXPECT_EQ(lacking.error().code, Code::AdapterInvalid);
  EXPECT_NE(lacking.error().message.find("pp0_tp1_ep0_etp0.safetensors"), std::string::npos);
  fs::remove_all(copy);
}

TEST(MegatronGoldens, WithoutAScaleNothingIsAssumed) {
  golden::MegatronCase one("qwen2__tp2");
  const auto adapter =
      open_megatron_adapter(one.folder / "megatron", *one.sites, {}, {one.megatron->layout, {}});
  ASSERT_FALSE(adapter);
  EXPECT_EQ(adapter.error().code, Code::AdapterInvalid);
  EXPECT_EQ(adapter.error().help, "write --alpha N, the alpha that it was trained with");
}

}  // namespace
}  // namespace bv::lora
