// Random adapters: right ones are held on every layout, every fault that is planted is seen.

#include "properties/attacks/fuzz/adapters.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <map>
#include <set>
#include <tuple>

#include "core/lora/convert_adapter.hpp"
#include "core/lora/megatron_adapter.hpp"
#include "core/lora/to_hf.hpp"
#include "core/lora/wrapped.hpp"
#include "properties/attacks/fuzz/adapter_matrix.hpp"
#include "tests/support/files.hpp"

namespace bv::fuzz {
namespace {

TEST(RandomAdapters, RightOnesAreHeldAndEveryFaultIsSeen) {
  const Tools tools{mutants::load_library().value(), mutants::builtin_samples().value(), {}};
  std::map<AdapterFault, int> faults;
  int adapters = 0;
  const support::TempFolder temp;
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE(seed);
    const auto prepared = prepare(tools, draw_from(seed));
    ASSERT_TRUE(prepared) << prepared.error().message;
    const auto trial = try_adapter(tools, *prepared, seed, temp.path() / std::to_string(seed));
    ASSERT_TRUE(trial) << trial.error().message;
    EXPECT_EQ(trial->said, "") << to_text(prepared->world);
    adapters += trial->drawn ? 1 : 0;
    for (const auto& [fault, seen] : trial->seen) {
      EXPECT_FALSE(seen.empty()) << name(fault) << " in " << to_text(prepared->world);
      ++faults[fault];
    }
  }
  EXPECT_GT(adapters, 40);
  for (const AdapterFault fault : kAdapterFaults) {
    EXPECT_GT(faults[fault], 0) << name(fault);
  }
}

TEST(RandomAdapters, AreOfEveryKindThatPeftHas) {
  const Tools tools{mutants::load_library().value(), mutants::builtin_samples().value(), {}};
  std::map<std::string, int> kinds;
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    const auto prepared = prepare(tools, draw_from(seed)).value();
    const auto base = base_of(prepared).value();
    generators::Random random(seed);
    const auto drawn =
        draw_adapter(base, tools.library.kinds, prepared.world.layout, random).value();
    std::set<double> scales;
    for (std::size_t i = 0; i < drawn.config.rank_pattern.size(); ++i) {
      const double alpha = drawn.config.alpha_pattern[i].second;
      scales.insert(std::round(
          64 * lora::scale64(drawn.config.scale, alpha, drawn.config.rank_pattern[i].second)));
    }
    kinds["DoRA"] += drawn.config.use_dora ? 1 : 0;
    kinds["rsLoRA"] += drawn.config.scale == lora::ScaleKind::RsLora ? 1 : 0;
    kinds["bias"] += drawn.config.lora_bias ? 1 : 0;
    kinds["trained"] += drawn.config.modules_to_save.empty() ? 0 : 1;
    kinds["scales"] += scales.size() > 1 ? 1 : 0;
  }
  for (const char* kind : {"DoRA", "rsLoRA", "bias", "trained", "scales"}) {
    EXPECT_GT(kinds[kind], 1) << kind;
  }
}

/// The right adapter beside itself is no fault.
TEST(RandomAdapters, ARightOneIsNotSeenAsAFault) {
  const Tools tools{mutants::load_library().value(), mutants::builtin_samples().value(), {}};
  const auto prepared = prepare(tools, draw_from(3)).value();
  const auto base = base_of(prepared).value();
  generators::Random random(3);
  const auto drawn = draw_adapter(base, tools.library.kinds, prepared.world.layout, random).value();
  ASSERT_FALSE(drawn.tensors.empty());
  EXPECT_THAT(seen_by(drawn, drawn, base, tools.library.kinds).value(), ::testing::IsEmpty());
}

/// Where transformers' class has a module under another name than files, PEFT's keys are the
/// class's: such pairs are drawn, and each is put onto the tensor that the file has.
TEST(RandomAdapters, ModulesThatTheClassNamesOtherwiseAreAdaptedToo) {
  const Tools tools{mutants::load_library().value(), mutants::builtin_samples().value(), {}};
  const std::map<std::string, std::pair<std::string, std::string>> moved = {
      {"mixtral", {".mlp.gate.lora_B", ".block_sparse_moe.gate.weight"}},
      {"minimax_m2", {".mlp.gate.lora_B", ".block_sparse_moe.gate.weight"}},
      {"hy_v3", {".mlp.shared_experts.down_proj.lora_B", ".mlp.shared_mlp.down_proj.weight"}}};
  for (const auto& [sample, names] : moved) {
    SCOPED_TRACE(sample);
    int there = 0;
    const auto prepared =
        prepare(tools, World{sample, {}, mutants::padded_layout("tp1pp1ep1etp1").value()}).value();
    const auto base = base_of(prepared).value();
    for (std::uint64_t seed = 0; seed < 8; ++seed) {
      generators::Random random(seed);
      const auto drawn =
          draw_adapter(base, tools.library.kinds, prepared.world.layout, random).value();
      const auto adapter = fitted(drawn, base, tools.library.kinds);
      ASSERT_TRUE(adapter) << adapter.error().message;
      EXPECT_THAT(adapter->faults, ::testing::IsEmpty())
          << adapter->faults.front().key << adapter->faults.front().message;
      for (const lora::AdapterPair& pair : adapter->pairs) {
        EXPECT_TRUE(base.headers.contains(pair.base)) << pair.base;
        if (pair.base.ends_with(names.second)) {
          EXPECT_NE(pair.b.key().find(names.first), std::string::npos) << pair.b.key();
          ++there;
        }
      }
      EXPECT_EQ(judge_adapter(*adapter, base, tools.library.kinds, prepared.world.layout), "");
      const auto gaps = lora::target_gaps(*adapter, base).value();
      EXPECT_THAT(gaps.not_loaded, ::testing::IsEmpty());
      EXPECT_THAT(gaps.fresh, ::testing::IsEmpty());
    }
    EXPECT_GT(there, 0);
  }
}

/// Changes the last row of the B of a layer in the file of the one rank; false: it has no adapter.
bool change_last_row(const std::filesystem::path& folder, const std::string& layer) {
  const std::filesystem::path file = folder / "pp0_tp0_ep0_etp0.safetensors";
  const auto opened = io::Checkpoint::open(file).value();
  const auto found = opened.tensors().find(layer + ".adapter.linear_out.weight");
  if (found == opened.tensors().end()) {
    return false;
  }
  std::fstream bytes(file, std::ios::in | std::ios::out | std::ios::binary);
  const auto last = static_cast<std::streamoff>(found->second.end) - 1;
  bytes.seekg(last);
  const int old = bytes.get();
  bytes.seekp(last);
  bytes.put(static_cast<char>(old ^ 0x40));
  return bytes.good();
}

/// Gemma 4 reads keys as values, or takes both from another layer: rows of its fused layer are
/// copies there, or zeros, and an adapter that makes them anything else has no HF form.
TEST(RandomAdapters, RowsThatHfHasOnceComeBackWhereTheirCopiesAgree) {
  const Tools tools{mutants::load_library().value(), mutants::builtin_samples().value(), {}};
  const auto& kinds = tools.library.kinds;
  const support::TempFolder temp;
  for (const auto& [sample, layer, projection] :
       {std::tuple{"gemma4_experts", "decoder.layers.2.self_attention.linear_qkv",
                   "2.self_attn.k_proj"},
        std::tuple{"gemma4_text", "decoder.layers.5.self_attention.linear_qkv",
                   "5.self_attn.q_proj"}}) {
    SCOPED_TRACE(sample);
    const auto layout = mutants::padded_layout("tp1pp1ep1etp1").value();
    const auto prepared = prepare(tools, World{sample, {}, layout}).value();
    const auto base = base_of(prepared).value();
    const auto plan = plan::Plan::make(base.model, kinds, layout).value();
    const auto sites = lora::SitePlan::make(plan, kinds).value();
    const auto of_class = lora::class_model(base).value();
    const auto class_plan = plan::Plan::make(of_class, kinds, layout).value();
    const auto class_sites = lora::SitePlan::make(class_plan, kinds).value();
    int refused = 0;
    for (std::uint64_t seed = 0; seed < 24 && refused == 0; ++seed) {
      generators::Random random(seed);
      const auto drawn = draw_adapter(base, kinds, layout, random).value();
      const bool there = std::any_of(
          drawn.tensors.begin(), drawn.tensors.end(),
          [&](const auto& one) { return one.first.find(projection) != std::string::npos; });
      if (!there) {
        continue;
      }
      const auto adapter = fitted(drawn, base, kinds).value();
      EXPECT_EQ(judge_adapter(adapter, base, kinds, layout), "");
      const auto folder = temp.path() / (sample + std::to_string(seed));
      ASSERT_TRUE(lora::adapter_to_megatron(adapter, sites, folder, {}));
      const auto opened = [&] {
        return lora::open_megatron_adapter(folder, sites, lora::read_record(folder).value(),
                                           {layout, {}})
            .value();
      };
      EXPECT_TRUE(lora::plan_to_hf(opened(), sites, class_sites, base));
      ASSERT_TRUE(change_last_row(folder, layer));
      const auto changed = opened();
      const auto files = lora::plan_to_hf(changed, sites, class_sites, base);
      ASSERT_FALSE(files);
      EXPECT_EQ(files.error().code, Code::AdapterNoForm);
      EXPECT_THAT(files.error().message, ::testing::HasSubstr(layer));
      ++refused;
    }
    EXPECT_EQ(refused, 1);
  }
}

TEST(AdapterMatrix, HasARowForEveryFaultOnAnyNumberOfThreads) {
  const Tools tools{mutants::load_library().value(), mutants::builtin_samples().value(), {}};
  const auto places =
      mutants::places_of(tools.samples, {"llama", "qwen3_moe", "gpt_oss"}, {}).value();
  const support::TempFolder temp;
  const auto matrix =
      run_adapter_matrix(tools, places, {.jobs = 1, .folder = temp.path() / "1"}).value();
  const auto threads =
      run_adapter_matrix(tools, places, {.jobs = 3, .folder = temp.path() / "3"}).value();
  for (std::size_t i = 0; i < matrix.size(); ++i) {
    SCOPED_TRACE(name(kAdapterFaults.at(i)));
    const AdapterRow& row = matrix.at(i);
    EXPECT_GT(row.killed, 0);
    EXPECT_EQ(row.survived(), 0);
    EXPECT_EQ(row.by_level[0] + row.by_level[1] + row.by_level[2], row.killed);
    EXPECT_EQ(row.by_claim, threads.at(i).by_claim);
  }
  const auto seen = [&](AdapterFault fault, std::string_view claim) {
    const auto row = std::find(kAdapterFaults.begin(), kAdapterFaults.end(), fault);
    const auto column = std::find_if(kAdapterRows.begin(), kAdapterRows.end(),
                                     [&](const auto& one) { return one.claim == claim; });
    return matrix.at(static_cast<std::size_t>(row - kAdapterFaults.begin()))
        .by_claim.at(static_cast<std::size_t>(column - kAdapterRows.begin()));
  };
  EXPECT_GT(seen(AdapterFault::Rename, "adapter-names"), 0);
  EXPECT_GT(seen(AdapterFault::LocalRows, "adapter-shapes"), 0);
  EXPECT_GT(seen(AdapterFault::NotFinite, "adapter-values"), 0);
  EXPECT_GT(seen(AdapterFault::ScaleDropped, "adapter-same"), 0);
  EXPECT_EQ(seen(AdapterFault::ScaleDropped, "adapter-shapes"), 0);
}

TEST(AdapterMatrix, PutsItsColumnsBeforeTheForwardClaim) {
  AdapterMatrix matrix;
  matrix[0].mutants = 5;
  matrix[0].killed = 3;
  matrix[0].unchanged = 1;
  matrix[0].by_claim[1] = 3;
  matrix[0].first_survivor = "llama tp2pp1ep1etp1";
  Mutation mutation;
  mutation.claims = {{"names", "headers"}, {"forward", "data"}};
  mutation.rows.emplace_back();
  mutation.rows.front().by_claim = {7, 8};
  add_rows(matrix, mutation);
  ASSERT_EQ(mutation.claims.size(), 2 + kAdapterRows.size());
  EXPECT_EQ(mutation.claims[2].first, "adapter-names");
  EXPECT_EQ(mutation.claims.back().first, "forward");
  EXPECT_EQ(mutation.rows.front().by_claim, (std::vector<std::int64_t>{7, 0, 0, 0, 0, 0, 0, 8}));
  ASSERT_EQ(mutation.rows.size(), 2U);
  EXPECT_EQ(mutation.rows[1].op, "adapter: a pair is left out");
  EXPECT_EQ(mutation.rows[1].by_claim, (std::vector<std::int64_t>{0, 0, 3, 0, 0, 0, 0, 0}));
  EXPECT_EQ(mutation.rows[1].survived, 1);
  EXPECT_EQ(mutation.survivors,
            (std::vector<std::string>{"adapter: a pair is left out on llama tp2pp1ep1etp1"}));
  ASSERT_EQ(mutation.reasons.size(), 1U);
  EXPECT_EQ(mutation.reasons[0].mutants, 1);
  const auto verdicts = verdicts_of(matrix);
  ASSERT_EQ(verdicts.size(), 1U);
  EXPECT_EQ(verdicts[0].code, Code::MutantSurvived);
}

}  // namespace
}  // namespace bv::fuzz
