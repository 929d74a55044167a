// Rows of the bug museum and forms of configs that need files of their own.

#include <gtest/gtest.h>

#include "core/lora/wrapped.hpp"
#include "tests/properties/edited_adapter.hpp"
#include "tests/support/files.hpp"

namespace bv::lora {
namespace {

namespace fs = std::filesystem;

/// B27: experts share one adapter, and its copies on the expert-parallel ranks drifted apart.
TEST(AdapterMuseum, B27CopiesOfAnExpertAdapterThatDrifted) {
  const golden::MegatronCase one("qwen3_5_moe_packed__tp4_ep2_etp2_shared");
  EXPECT_TRUE(one.megatron->faults.empty());
  const support::TempFolder temp;
  fs::copy(one.folder / "megatron", temp.path() / "ranks");
  const fs::path file = temp.path() / "ranks/pp0_tp2_ep1_etp0.safetensors";
  fs::permissions(file, fs::perms::owner_all);
  const auto opened = io::Checkpoint::open(file).value();
  const std::string name = "decoder.layers.0.mlp.experts.linear_fc1.adapter.linear_in.weight";
  const auto at = static_cast<std::streamoff>(opened.tensors().find(name)->second.begin);
  std::fstream bytes(file, std::ios::in | std::ios::out | std::ios::binary);
  bytes.seekg(at);
  const char first = static_cast<char>(bytes.get() ^ 1);
  bytes.seekp(at);
  bytes.put(first);
  bytes.close();
  const auto drifted =
      open_megatron_adapter(temp.path() / "ranks", *one.sites, {}, {one.megatron->layout, 12.0})
          .value();
  ASSERT_EQ(drifted.faults.size(), 1u);
  EXPECT_EQ(drifted.faults[0].code, Code::AdapterReplicas);
}

/// B67: packed factors taken for [out, in] where they are [in, out], and parts of a fused layer
/// that are left out.
TEST(AdapterMuseum, B67PackedFactorsTransposedAndPartsDropped) {
  EditedAdapter turned("qwen35_moe");
  const std::string experts = "model.layers.0.mlp.experts.base_layer.lora_";
  auto& a = turned.tensors.at(experts + "A.weight");
  auto& b = turned.tensors.at(experts + "B.weight");
  std::swap(a.shape[0], a.shape[1]);
  std::swap(b.shape[0], b.shape[1]);
  EXPECT_EQ(seen(turned, "qwen35_moe"), Codes{"AdapterPairBroken"});
  EditedAdapter dropped("qwen35_dense");
  for (const char* factor : {"A.weight", "B.weight"}) {
    dropped.tensors.erase(std::string("model.layers.0.linear_attn.in_proj_z.lora_") + factor);
  }
  EXPECT_EQ(seen(dropped, "qwen35_dense"), Codes{"ExpertPairCount"});
}

/// PEFT wraps neither embeddings nor the output layer then.
TEST(AdapterClaims, AllLinearMeansLinearLayersAlone) {
  for (const char* name : {"llama_all", "qwen35_dense"}) {
    EditedAdapter edited(name);
    edited.config.target_modules = {{}, "all-linear"};
    const Adapter adapter = edited.read();
    const auto judged = [&] {
      return codes_of(
          claims::check_adapter_targets({&adapter, &edited.base, &golden::kinds_of_build(), {}}));
    };
    EXPECT_EQ(judged(), Codes{}) << name;
  }
  EditedAdapter less("llama_all");
  less.config.target_modules = {{}, "all-linear"};
  for (const char* factor : {"A.weight", "B.weight"}) {
    less.tensors.erase(std::string("model.layers.0.mlp.up_proj.lora_") + factor);
  }
  const Adapter adapter = less.read();
  EXPECT_EQ(codes_of(claims::check_adapter_targets(
                {&adapter, &less.base, &golden::kinds_of_build(), {}})),
            Codes{"TargetModules"});
}

/// PEFT moves targets whose last component is gate_proj, up_proj or down_proj to the packed
/// experts, full paths too: a dense layer is then reached through its parameter alone.
TEST(AdapterClaims, FullPathsOfDenseLayersAreMovedToTheExpertsAsWell) {
  const auto base = golden::open_base(golden::kGolden / "hf/deepseek_v3");
  const std::string module = "model.layers.0.mlp.gate_proj";
  EXPECT_TRUE(moved_by_peft(base, module));
  EXPECT_FALSE(moved_by_peft(base, "model.layers.0.self_attn.o_proj"));
  AdapterConfig config;
  config.target_modules.names = {module, "model.layers.0.self_attn.o_proj"};
  EXPECT_FALSE(wraps_all(config, {module}, base));
  EXPECT_TRUE(wraps_all(config, {"model.layers.0.self_attn.o_proj"}, base));
  const auto qwen = golden::open_base(golden::kGolden / "hf/qwen3");
  EXPECT_TRUE(wraps_all(config, {module}, qwen));
}

/// A string in the file: PEFT makes a list of the last components that it matches anywhere, those
/// of single experts by a path without their number, and doubles rank and alpha of what it joins.
TEST(AdapterClaims, PatternsThatNameExpertsOfAPackedClassAreResolvedAsPeftDoes) {
  EditedAdapter edited("qwen3_moe_named_targets");
  const auto packed_alpha = [](const Adapter& adapter) {
    const auto found =
        std::find_if(adapter.pairs.begin(), adapter.pairs.end(), [](const AdapterPair& pair) {
          return pair.b.key().find("base_layer") != std::string::npos;
        });
    return found == adapter.pairs.end() ? 0.0 : found->alpha;
  };
  const double alpha = packed_alpha(edited.read());
  edited.config.target_parameters.clear();
  edited.config.rank_pattern.clear();
  edited.config.alpha_pattern.clear();
  const auto judged = [&](const std::string& pattern) {
    edited.config.target_modules = {{}, pattern};
    const Adapter adapter = edited.read();
    EXPECT_TRUE(adapter.faults.empty());
    EXPECT_EQ(packed_alpha(adapter), alpha);
    return codes_of(
        claims::check_adapter_targets({&adapter, &edited.base, &golden::kinds_of_build(), {}}));
  };
  EXPECT_EQ(judged(".*experts\\.\\w*_proj|.*[qv]_proj"), Codes{});
  // q_proj of one layer is q_proj of all.
  EXPECT_EQ(judged("model\\.layers\\.0\\.self_attn\\.[qv]_proj|.*(gate|up|down)_proj"), Codes{});
  EXPECT_EQ(judged(".*experts\\.\\w*_proj|.*q_proj"), Codes{"TargetModules"});
  EXPECT_EQ(judged(".*experts\\.\\w*_proj|.*[qkv]_proj"), Codes{"TargetModules"});
}

/// Beside gate_proj and up_proj PEFT makes the packed parameter of twice the rank, and does not
/// load factors of the rank that the config says.
TEST(AdapterClaims, TargetsThatDoubleTheRankOfThePackedParameterAreRefuted) {
  EditedAdapter edited("qwen3_moe_named_targets");
  const auto judged = [&] {
    const Adapter adapter = edited.read();
    return codes_of(
        claims::check_adapter_targets({&adapter, &edited.base, &golden::kinds_of_build(), {}}));
  };
  EXPECT_EQ(judged(), Codes{});
  edited.config.target_modules.names.emplace_back("gate_proj");
  EXPECT_EQ(judged(), Codes{});  // its pattern says the rank already
  edited.config.target_modules.names.emplace_back("model.layers.0.mlp.up_proj");
  EXPECT_EQ(judged(), Codes{});
  edited.config.r = 6;
  edited.config.rank_pattern = {{"q_proj", 3}, {"v_proj", 3}, {"down_proj", 3}};
  EXPECT_EQ(judged(), Codes{"TargetModules"});
}

}  // namespace
}  // namespace bv::lora
