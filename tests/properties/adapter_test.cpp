// Bugs of real bridges in the handling of adapters, planted into adapters that PEFT wrote: each is
// seen, and the untouched twin is not. Names are those of the museum (fixtures/regress/bugs).

#include <gtest/gtest.h>

#include <set>

#include "core/lora/adapter_keys.hpp"
#include "core/lora/convert_adapter.hpp"
#include "core/lora/megatron_adapter.hpp"
#include "core/plan/layout_set.hpp"
#include "properties/claims/adapter.hpp"
#include "properties/claims/adapter_compare.hpp"
#include "tests/properties/edited_adapter.hpp"

namespace bv::lora {
namespace {

namespace fs = std::filesystem;

TEST(AdapterMuseum, TheUntouchedTwinsAreGreen) {
  for (const char* name : {"llama_all", "qwen35_dense", "qwen35_moe", "gptoss_transposed"}) {
    EXPECT_EQ(seen(EditedAdapter(name), name), Codes{}) << name;
  }
}

/// B of the HF tensors as consecutive slices of the gathered Megatron B: an export that forgets the
/// permutation of the base.
void slice_without_rule(EditedAdapter& edited, const std::string& kind,
                        std::map<std::string, std::int64_t, std::less<>> axes, std::int64_t t,
                        const std::vector<std::string>& keys) {
  axes["t"] = t;
  const auto line =
      layout::BoundRule::bind(*golden::kinds_of_build().find(kind, layout::Side::Rows), {axes, {}})
          .value();
  const std::int64_t rank = edited.tensors.at(keys[0]).shape[1];
  const std::int64_t local = element_count(line.target_shapes()[0]).value();
  std::vector<float> gathered(static_cast<std::size_t>(local * t * rank));
  for (std::int64_t shard = 0; shard < t; ++shard) {
    for (const layout::Box& box : line.shard(0, {{"t", shard}}).boxes) {
      for (std::int64_t i = 0; i < box.elements(); ++i) {
        const auto at = layout::place_of(box, i);
        const float* row =
            edited.tensors.at(keys[static_cast<std::size_t>(box.source)]).row(at.source);
        std::copy_n(row, rank, gathered.data() + (shard * local + at.target) * rank);
      }
    }
  }
  std::int64_t next = 0;
  for (const std::string& key : keys) {
    auto& tensor = edited.tensors.at(key);
    for (std::int64_t row = 0; row < tensor.shape[0]; ++row) {
      std::copy_n(gathered.data() + next++ * rank, rank, tensor.row(row));
    }
  }
}

TEST(AdapterMuseum, B03QkvRowsAllQueriesFirst) {
  EditedAdapter edited("llama_all");
  const std::string layer = "model.layers.0.self_attn.";
  slice_without_rule(edited, "qkv", {{"g", 4}, {"n", 2}, {"d", 8}}, 1,
                     {layer + "q_proj.lora_B.weight", layer + "k_proj.lora_B.weight",
                      layer + "v_proj.lora_B.weight"});
  EXPECT_EQ(seen(edited, "llama_all"), Codes{"AdapterDiffers"});
}

TEST(AdapterMuseum, B04GdnRowsOfTheRanksTakenForTheWhole) {
  EditedAdapter edited("qwen35_dense");
  const std::string layer = "model.layers.0.linear_attn.in_proj_";
  // qkv has 60 rows, z 28, b and a 4 each: 2 key heads of 8, 4 value heads of 7.
  slice_without_rule(edited, "gdn4", {{"a", 1}, {"c", 8}, {"b", 2}, {"e", 7}}, 2,
                     {layer + "qkv.lora_B.weight", layer + "z.lora_B.weight",
                      layer + "b.lora_B.weight", layer + "a.lora_B.weight"});
  EXPECT_EQ(seen(edited, "qwen35_dense"), Codes{"AdapterDiffers"});
}

TEST(AdapterMuseum, B05GateAndUpOfTheRanksTakenForHalves) {
  EditedAdapter edited("llama_all");
  slice_without_rule(
      edited, "gated_mlp", {{"f", 28}}, 2,
      {"model.layers.0.mlp.gate_proj.lora_B.weight", "model.layers.0.mlp.up_proj.lora_B.weight"});
  EXPECT_EQ(seen(edited, "llama_all"), Codes{"AdapterDiffers"});
}

TEST(AdapterMuseum, B10RolesOfPackedFactorsExchanged) {
  EditedAdapter edited("gptoss_transposed");
  const std::string experts = "model.layers.0.mlp.experts.";
  auto& a = edited.tensors.at(experts + "base_layer.lora_A.weight");
  auto& b = edited.tensors.at(experts + "base_layer.lora_B.weight");
  std::swap(a.shape[0], a.shape[1]);
  std::swap(b.shape[0], b.shape[1]);
  std::swap(a, b);
  EXPECT_FALSE(seen(edited, "gptoss_transposed").empty());
}

TEST(AdapterMuseum, B14AndB68QueryRowsWithoutTheGate) {
  EditedAdapter edited("qwen35_dense");
  for (auto& [key, tensor] : edited.tensors) {
    if (key.ends_with("self_attn.q_proj.lora_B.weight")) {
      tensor.shape[0] /= 2;
      tensor.bytes.resize(tensor.bytes.size() / 2);
    }
  }
  EXPECT_EQ(seen(edited, "qwen35_dense"), Codes{"AdapterShape"});
}

TEST(AdapterMuseum, B45AWrapperInTheNameOfAPlainModule) {
  EditedAdapter edited("llama_all");
  const std::string module = "model.layers.1.self_attn.o_proj.";
  for (const char* factor : {"lora_A.weight", "lora_B.weight"}) {
    edited.rename(module + factor, module + "base_layer." + factor);
  }
  EXPECT_EQ(seen(edited, "llama_all"), Codes{"AdapterName"});
}

TEST(AdapterMuseum, B64AFactorOfOneRankAlone) {
  EditedAdapter edited("llama_all");
  auto& a = edited.tensors.at("model.layers.0.self_attn.q_proj.lora_A.weight");
  a.shape[0] /= 2;
  a.bytes.resize(a.bytes.size() / 2);
  EXPECT_EQ(seen(edited, "llama_all"), Codes{"AdapterPairBroken"});
}

TEST(AdapterMuseum, B65TheDeltasOfGroupedExpertsDropped) {
  EditedAdapter edited("qwen35_moe");
  for (const char* key :
       {"base_layer.lora_A.weight", "base_layer.lora_B.weight", "lora_A.weight", "lora_B.weight"}) {
    edited.tensors.erase(std::string("model.layers.1.mlp.experts.") + key);
  }
  EXPECT_EQ(seen(edited, "qwen35_moe"), Codes{"ExpertPairCount"});
}

TEST(AdapterMuseum, B66ANameCutAndAFactorNotSplit) {
  EditedAdapter cut("llama_all");
  for (const char* factor : {".lora_A.weight", ".lora_B.weight"}) {
    cut.rename(std::string("model.layers.0.mlp.gate_proj") + factor,
               std::string("model.layers.0.mlp.gat") + factor);
  }
  EXPECT_EQ(seen(cut, "llama_all"), Codes{"AdapterName"});
  EditedAdapter unsplit("llama_all");
  auto& gate = unsplit.tensors.at("model.layers.0.mlp.gate_proj.lora_B.weight");
  const auto& up = unsplit.tensors.at("model.layers.0.mlp.up_proj.lora_B.weight");
  gate.shape[0] *= 2;
  gate.bytes.insert(gate.bytes.end(), up.bytes.begin(), up.bytes.end());
  EXPECT_EQ(seen(unsplit, "llama_all"), Codes{"AdapterShape"});
}

TEST(AdapterMuseum, AlphaDroppedInvertedAndByTheWrongRank) {
  EditedAdapter dropped("rslora");
  dropped.config.scale = ScaleKind::Lora;
  EXPECT_EQ(seen(dropped, "rslora"), Codes{"ScaleWrong"});
  EditedAdapter made_up("llama_all");
  made_up.config.lora_alpha = 32;  // D-15: the default of an export that found no config
  EXPECT_EQ(seen(made_up, "llama_all"), Codes{"ScaleWrong"});
}

/// B24: experts cut by TP where ETP is 1.
TEST(AdapterMuseum, B24ExpertsCutByTheRanksOfDenseLayers) {
  const fs::path source = golden::kGolden / "peft/qwen35_moe_down_only";
  const auto base = golden::open_base(source / "base");
  const auto& kinds = golden::kinds_of_build();
  const auto adapter = open_adapter(source / "adapter", base, kinds).value();
  parallel::Layout wrong;
  wrong.tp = 2;
  wrong.etp = 2;
  wrong = plan::with_padding(base.model, wrong);
  const auto wrong_plan = plan::Plan::make(base.model, kinds, wrong).value();
  const auto wrong_sites = SitePlan::make(wrong_plan, kinds).value();
  const fs::path folder = fs::path(::testing::TempDir()) / "expert_ranks";
  fs::remove_all(folder);
  const auto written = adapter_to_megatron(adapter, wrong_sites, folder, {});
  ASSERT_TRUE(written) << written.error().message;
  fs::remove(folder / kRecordName);
  fs::rename(folder / "pp0_tp1_ep0_etp1.safetensors", folder / "pp0_tp1_ep0_etp0.safetensors");
  parallel::Layout right = wrong;
  right.etp = 1;
  const auto plan = plan::Plan::make(base.model, kinds, right).value();
  const auto sites = SitePlan::make(plan, kinds).value();
  const auto read = open_megatron_adapter(folder, sites, {}, {right, 9.0}).value();
  ASSERT_FALSE(read.faults.empty());
  EXPECT_EQ(read.faults[0].code, Code::AdapterShape);
  fs::remove_all(folder);
}

TEST(AdapterClaims, EveryKeyAndEveryPairIsCounted) {
  const EditedAdapter one("llama_all");
  const Adapter adapter = one.read();
  bv::Run run;
  parallel::Layout layout;
  layout.tp = 2;
  layout = plan::with_padding(one.base.model, layout);
  claims::judge_adapter({&adapter, &one.base, &golden::kinds_of_build(), {layout}}, run);
  std::map<std::string, std::int64_t> subjects;
  for (const ClaimSummary& row : run.claims) {
    subjects[row.claim] = row.subjects;
  }
  EXPECT_EQ(subjects.at("adapter-names"), 28);
  EXPECT_EQ(subjects.at("adapter-shapes"), 14);
  EXPECT_EQ(subjects.at("adapter-values"), 28);
  EXPECT_EQ(subjects.at("adapter-bytes"), 28);
  for (const Verdict& verdict : run.verdicts) {
    EXPECT_TRUE(verdict.outcome == Outcome::Proved || verdict.outcome == Outcome::Held)
        << verdict.title;
  }
}

/// The pair of gate alone is not the pair of up alone, though their factors are equal.
TEST(CompareAdapters, EqualFactorsOnOtherRowsAreRefuted) {
  const EditedAdapter one("llama_all");
  Adapter moved = one.read();
  const Adapter right = one.read();
  EXPECT_EQ(codes_of(claims::compare_adapters(moved, right)), Codes{});
  moved.pairs.front().first_row += 1;
  EXPECT_EQ(codes_of(claims::compare_adapters(moved, right)), Codes{"AdapterDiffers"});
  Adapter spread = one.read();
  spread.pairs.front().row_step = 2;
  EXPECT_EQ(codes_of(claims::compare_adapters(spread, right)), Codes{"AdapterDiffers"});
}

TEST(CompareAdapters, RowsTooManyAreCounted) {
  const EditedAdapter one("llama_all");
  Adapter less = one.read();
  less.pairs.front().b.rows -= 1;
  const Adapter whole = one.read();
  const auto verdicts = claims::compare_adapters(whole, less);
  ASSERT_EQ(codes_of(verdicts), Codes{"AdapterDiffers"});
  EXPECT_NE(verdicts[0].title.find("changes rows that the other adapter leaves alone"),
            std::string::npos)
      << verdicts[0].title;
}

TEST(CompareAdapters, TrainedTensorsAndBiasesAreCompared) {
  for (const char* name : {"modules_to_save", "lora_bias_true", "dora"}) {
    const EditedAdapter one(name);
    Adapter changed = one.read();
    const Adapter right = one.read();
    EXPECT_EQ(codes_of(claims::compare_adapters(changed, right)), Codes{}) << name;
    if (!changed.replacements.empty()) {
      changed.replacements.pop_back();
    } else if (!changed.biases.empty()) {
      changed.biases.front().alpha *= 2;
    } else {
      ASSERT_TRUE(changed.pairs.front().magnitude);
      changed.pairs.front().magnitude = changed.pairs.back().magnitude;
    }
    EXPECT_NE(codes_of(claims::compare_adapters(changed, right)), Codes{}) << name;
  }
}

/// A new adapter's B are all zero: one that is dropped is not stood for by another layer's.
TEST(AdapterClaims, ADroppedFactorIsSeenThoughOthersAreEqualToIt) {
  EditedAdapter edited("llama_all");
  for (auto& [key, one] : edited.tensors) {
    if (key.ends_with("lora_B.weight")) {
      std::fill(one.bytes.begin(), one.bytes.end(), std::byte{0});
    }
  }
  edited.tensors.at("model.layers.1.mlp.down_proj.lora_A.weight").bytes =
      edited.tensors.at("model.layers.0.mlp.down_proj.lora_A.weight").bytes;
  Adapter adapter = edited.read();
  const auto judged = [&] {
    return codes_of(claims::check_adapter_bytes(
        {&adapter, &edited.base, &golden::kinds_of_build(), {parallel::Layout{}}}));
  };
  EXPECT_EQ(judged(), Codes{});
  std::erase_if(adapter.pairs, [](const AdapterPair& pair) {
    return pair.base == "model.layers.1.mlp.down_proj.weight";
  });
  EXPECT_EQ(judged(), Codes{"BytesDiffer"});
}

TEST(AdapterClaims, APairOfZerosIsWarnedOf) {
  EditedAdapter edited("llama_all");
  auto& b = edited.tensors.at("model.layers.0.mlp.up_proj.lora_B.weight");
  std::fill(b.bytes.begin(), b.bytes.end(), std::byte{0});
  const Adapter adapter = edited.read();
  bv::Run run;
  claims::judge_adapter({&adapter, &edited.base, &golden::kinds_of_build(), {}}, run);
  ASSERT_EQ(run.warnings.size(), 1u);
  EXPECT_EQ(run.warnings[0].code, Code::AdapterNoEffect);
  EXPECT_EQ(run.warnings[0].message, "1 pair of 14 changes nothing");
}

TEST(AdapterClaims, ANumberThatIsNotFiniteIsNamed) {
  EditedAdapter edited("llama_all");
  edited.tensors.at("model.layers.0.mlp.up_proj.lora_B.weight").row(3)[2] = std::nanf("");
  const Adapter adapter = edited.read();
  const auto verdicts =
      claims::check_adapter_values({&adapter, &edited.base, &golden::kinds_of_build(), {}});
  ASSERT_EQ(verdicts.size(), 2u);
  EXPECT_EQ(verdicts[0].code, Code::AdapterNotFinite);
  EXPECT_EQ(
      verdicts[0].title,
      "\"base_model.model.model.layers.0.mlp.up_proj.lora_B.weight\" holds nan at element 20");
}

}  // namespace
}  // namespace bv::lora
