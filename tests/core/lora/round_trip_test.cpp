// PEFT -> Megatron's files -> PEFT, byte for byte, on many layouts.

#include <fstream>
#include <iterator>
#include <set>

#include "core/lora/convert_adapter.hpp"
#include "core/lora/megatron_adapter.hpp"
#include "core/plan/layout_set.hpp"
#include "tests/core/lora/golden.hpp"
#include "tests/support/files.hpp"

namespace bv::lora {
namespace {

namespace fs = std::filesystem;

std::string text_of(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

class RoundTrip : public ::testing::Test {
 protected:
  /// "" when both files come back byte for byte. A note names a file that does not, and no other.
  std::string there_and_back(const fs::path& adapter_folder, const checkpoint::HfModel& base,
                             const parallel::Layout& layout, bool canonical) {
    const fs::path shards = folder_ / "shards";
    const fs::path back = folder_ / "back";
    fs::remove_all(shards);
    fs::remove_all(back);
    const auto& kinds = golden::kinds_of_build();
    auto adapter = open_adapter(adapter_folder, base, kinds);
    auto plan = plan::Plan::make(base.model, kinds, layout);
    if (!adapter || !plan) {
      return adapter ? plan.error().message : adapter.error().message;
    }
    const auto sites = SitePlan::make(*plan, kinds).value();
    ConvertAdapterOptions options;
    options.canonical = canonical;
    if (auto written = adapter_to_megatron(*adapter, sites, shards, options); !written) {
      return std::string(info(written.error().code).name) + ": " + written.error().message;
    }
    auto record = read_record(shards).value();
    const auto megatron = open_megatron_adapter(shards, sites, record, {layout, {}});
    if (!megatron) {
      return megatron.error().message;
    }
    if (!megatron->faults.empty()) {
      return megatron->faults.front().message;
    }
    const auto of_class = class_model(base).value();
    const auto class_plan = plan::Plan::make(of_class, kinds, layout).value();
    const auto class_sites = SitePlan::make(class_plan, kinds).value();
    const auto files = plan_to_hf(*megatron, sites, class_sites, base);
    if (!files) {
      return files.error().message;
    }
    const auto written = adapter_to_hf(*megatron, *files, back, options);
    if (!written) {
      return written.error().message;
    }
    std::string out;
    for (const auto name : {kAdapterModelName, kAdapterConfigName}) {
      const bool same = text_of(back / name) == text_of(adapter_folder / name);
      const bool said = std::any_of(
          written->notes.begin(), written->notes.end(),
          [&](const std::string& note) { return note.starts_with(std::string(name) + " is "); });
      if (!same || said) {
        out += std::string(out.empty() ? "" : ", ") + std::string(name) +
               (same   ? " is said to be another"
                : said ? " is another, as a note says"
                       : " is another, and nothing says so");
      }
    }
    return out;
  }

  support::TempFolder temp_;
  fs::path folder_ = temp_.path();
};

TEST_F(RoundTrip, AdaptersOfPeftComeBackByteForByteOnManyLayouts) {
  std::int64_t trips = 0;
  for (const char* name :
       {"llama_all", "partial_qv", "rslora", "exclude_modules", "layers_to_transform", "dora",
        "qwen35_dense", "qwen35_moe_down_only", "qwen3_moe_named_targets", "gptoss_transposed"}) {
    const fs::path folder = golden::kGolden / "peft" / name;
    const auto base = golden::open_base(folder / "base");
    for (const parallel::Layout& layout : plan::layouts_up_to(base.model, {}, 8, 6).layouts) {
      SCOPED_TRACE(fmt::format("{} {}", name, parallel::layout_id(layout)));
      const std::string fault = there_and_back(folder / "adapter", base, layout, false);
      const bool dora_part = std::string(name) == "dora" && fault.starts_with("AdapterNoForm");
      const bool uneven = fault.starts_with("IndivisibleDim");
      EXPECT_TRUE(fault.empty() || dora_part || uneven) << fault;
      trips += fault.empty() ? 1 : 0;
    }
  }
  EXPECT_GT(trips, 35);
}

/// Llama 4: the factors of PEFT lie over the stacks as they are stored, square ones too.
TEST_F(RoundTrip, StacksThatTheClassDoesNotMarkComeBackAsPeftPackedThem) {
  std::int64_t trips = 0;
  for (const char* name : {"llama4_text", "llama4_square", "gpt_oss", "qwen35_moe"}) {
    const fs::path folder = golden::kGolden / "peft/packing_tagged" / name;
    const auto base = golden::open_base(folder / "base");
    for (const parallel::Layout& layout : plan::layouts_up_to(base.model, {}, 8, 6).layouts) {
      SCOPED_TRACE(fmt::format("{} {}", name, parallel::layout_id(layout)));
      const std::string fault = there_and_back(folder / "adapter", base, layout, false);
      EXPECT_TRUE(fault.empty() || fault.starts_with("IndivisibleDim")) << fault;
      trips += fault.empty() ? 1 : 0;
    }
  }
  EXPECT_GE(trips, 4);
}

/// 0.18 takes every stack for [E, in, out], 0.19.0 those without a mark: what they wrote comes back
/// as it was, and so does the config with their version.
TEST_F(RoundTrip, RolesOfOlderVersionsComeBackWithTheirVersion) {
  for (const char* name : {"llama4_text", "llama4_square", "gpt_oss", "qwen35_moe"}) {
    for (const char* version : {"peft_0.18.1", "peft_0.19.0"}) {
      SCOPED_TRACE(fmt::format("{} {}", name, version));
      const fs::path folder = golden::kGolden / "peft/packing_tagged" / name;
      const auto base = golden::open_base(folder / "base");
      EXPECT_EQ(there_and_back(folder / version / "adapter", base, {}, false), "");
    }
  }
}

TEST_F(RoundTrip, CanonicalAdaptersKeepOnePairAProjection) {
  for (const char* name : {"llama_all", "partial_qv", "rank_alpha_pattern"}) {
    SCOPED_TRACE(name);
    const fs::path folder = golden::kGolden / "peft" / name;
    const auto base = golden::open_base(folder / "base");
    parallel::Layout layout;
    layout.tp = 2;
    layout = plan::with_padding(base.model, layout);
    EXPECT_EQ(there_and_back(folder / "adapter", base, layout, true), "");
  }
}

TEST_F(RoundTrip, ProjectionsOfDifferentScalesNeedCanonicalAdapters) {
  const fs::path folder = golden::kGolden / "peft/rank_alpha_pattern";
  const auto base = golden::open_base(folder / "base");
  EXPECT_EQ(
      there_and_back(folder / "adapter", base, {}, false),
      "ScaleWrong: decoder.layers.0.self_attention.linear_qkv is one layer in Megatron, and its "
      "pairs have scales that do not differ by a power of two, which alone B can take in without "
      "rounding");
}

TEST_F(RoundTrip, WhatMegatronHasNoModuleForIsRefusedByName) {
  const std::map<std::string, std::string> wanted = {
      {"bias_all", "AdapterNoForm: a Megatron adapter holds no trained tensors of the base"},
      {"lora_bias_true", "AdapterNoForm: Megatron adapters have no bias"},
      {"modules_to_save", "AdapterNoForm: a Megatron adapter holds no trained tensors of the base"},
      {"tied_embed",
       "AdapterNoForm: Megatron has no linear layer for \"model.embed_tokens.weight\""},
      {"qwen35_moe",
       "AdapterNoForm: Megatron has no linear layer for "
       "\"model.layers.0.mlp.shared_expert_gate.weight\""}};
  for (const auto& [name, fault] : wanted) {
    SCOPED_TRACE(name);
    const fs::path folder = golden::kGolden / "peft" / name;
    const auto base = golden::open_base(folder / "base");
    EXPECT_EQ(there_and_back(folder / "adapter", base, {}, false), fault);
  }
}

/// gate and up of an expert with factors of their own become one pair of twice the rank, as PEFT
/// makes them when it loads such a file.
TEST_F(RoundTrip, PairsOfSingleExpertsAreStackedAsPeftStacksThem) {
  const fs::path folder = golden::kGolden / "peft/qwen3_moe_per_expert_legacy";
  const auto base = golden::open_base(folder / "base");
  const auto& kinds = golden::kinds_of_build();
  EXPECT_EQ(there_and_back(folder / "adapter", base, {}, false),
            "adapter_model.safetensors is another, as a note says, adapter_config.json is another, "
            "as a note says");
  const auto back = open_adapter(folder_ / "back", base, kinds).value();
  EXPECT_TRUE(back.faults.empty());
  const auto before = golden::merged(open_adapter(folder / "adapter", base, kinds).value(), base);
  const auto after = golden::merged(back, base);
  EXPECT_EQ(before, after);
  const auto converted =
      io::Checkpoint::open(folder / "adapter_as_converted_on_load.safetensors").value();
  const auto ours = io::Checkpoint::open(folder_ / "back/adapter_model.safetensors").value();
  for (const auto& [name, stored] : ours.tensors()) {
    const auto wanted = converted.tensors().find(name);
    if (wanted != converted.tensors().end()) {
      EXPECT_EQ(golden::values_of(stored.spec, ours.bytes(stored)),
                golden::values_of(wanted->second.spec, converted.bytes(wanted->second)))
          << name;
    }
  }
}

/// A file of a rank under another's name has the fingerprint of the other one in adapter.json; a
/// file that was trained since has no other one's.
TEST_F(RoundTrip, RankFilesThatAreExchangedAreNamed) {
  const fs::path golden = golden::kGolden / "peft/llama_all";
  const auto base = golden::open_base(golden / "base");
  const auto& kinds = golden::kinds_of_build();
  parallel::Layout layout;
  layout.tp = 2;
  layout.vocab_divisor = 1;
  const auto adapter = open_adapter(golden / "adapter", base, kinds).value();
  const auto plan = plan::Plan::make(base.model, kinds, layout).value();
  const auto sites = SitePlan::make(plan, kinds).value();
  const fs::path shards = folder_ / "shards";
  ASSERT_TRUE(adapter_to_megatron(adapter, sites, shards, {}));
  const auto faults = [&] {
    std::vector<std::string> out;
    const auto opened =
        open_megatron_adapter(shards, sites, read_record(shards).value(), {layout, {}});
    for (const AdapterFault& fault : opened.value().faults) {
      out.push_back(std::string(info(fault.code).name) + " " + fault.key);
    }
    return out;
  };
  EXPECT_TRUE(faults().empty());
  const fs::path first = shards / plan.files()[0].name;
  const fs::path second = shards / plan.files()[1].name;
  const std::string kept = text_of(first);
  fs::copy_file(second, first, fs::copy_options::overwrite_existing);
  EXPECT_EQ(faults(), std::vector<std::string>{"ContentsExchanged " + plan.files()[0].name});
  std::ofstream(second, std::ios::binary) << kept;
  EXPECT_EQ(faults().size(), 2u);
  fs::copy_file(second, first, fs::copy_options::overwrite_existing);
  std::string trained = text_of(first);
  trained.back() = static_cast<char>(trained.back() ^ 1);
  std::ofstream(second, std::ios::binary) << trained;
  EXPECT_TRUE(faults().empty()) << faults()[0];
}

TEST_F(RoundTrip, AFolderOfSomebodyElseIsNotReplaced) {
  const fs::path folder = golden::kGolden / "peft/llama_all";
  const auto base = golden::open_base(folder / "base");
  const auto& kinds = golden::kinds_of_build();
  const auto plan = plan::Plan::make(base.model, kinds, {}).value();
  const auto sites = SitePlan::make(plan, kinds).value();
  const auto adapter = open_adapter(folder / "adapter", base, kinds).value();
  const fs::path out = folder_ / "out";
  fs::create_directory(out);
  std::ofstream(out / "notes.txt") << "mine";
  ConvertAdapterOptions options;
  const auto refused = adapter_to_megatron(adapter, sites, out, options);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::OutputExists);
  options.overwrite = true;
  const auto also_refused = adapter_to_megatron(adapter, sites, out, options);
  ASSERT_FALSE(also_refused);
  EXPECT_EQ(also_refused.error().code, Code::NotOurs);
  EXPECT_EQ(text_of(out / "notes.txt"), "mine");
}

/// MTP layers too, and stacks whose names end in .weight: a key of one expert is loaded by no class
/// that stacks them.
TEST(ClassModel, HoldsTheExpertsOfEveryLayerAsOneParameter) {
  for (const char* name :
       {"qwen3_moe", "deepseek_v3", "glm4_moe", "gpt_oss", "qwen3_5_vl_moe_mtp_packed",
        "qwen3_5_vl_moe_mtp_per_expert", "qwen3_vl_moe_transposed"}) {
    SCOPED_TRACE(name);
    const auto base = golden::open_base(golden::kGolden / "hf" / name);
    const auto of_class = class_model(base).value();
    int experts = 0;
    for (const model::Mapping& mapping : of_class.mappings) {
      if (!mapping.rule->expert) {
        continue;
      }
      ++experts;
      EXPECT_EQ(mapping.expert, -1) << mapping.hf.front();
      EXPECT_FALSE(mapping.hf.front().ends_with(".weight")) << mapping.hf.front();
    }
    EXPECT_GT(experts, 0);
  }
}

TEST(ClassModel, HoldsExpertsOneByOneWhereNoStackIsKnown) {
  const auto base = golden::open_base(golden::kGolden / "hf/bailing_moe_v2");
  for (const model::Mapping& mapping : class_model(base).value().mappings) {
    EXPECT_TRUE(!mapping.rule->expert || mapping.expert >= 0) << mapping.hf.front();
  }
}

}  // namespace
}  // namespace bv::lora
