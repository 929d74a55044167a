// lora unpack over every sample: the pairs of stacks become those of single experts, or it is said
// why they do not.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "core/lora/adapter_keys.hpp"
#include "core/lora/to_hf.hpp"
#include "core/lora/unpack.hpp"
#include "properties/attacks/fuzz/adapters.hpp"

namespace bv::fuzz {
namespace {

bool has_stacks(const checkpoint::HfModel& base) {
  return std::any_of(base.model.mappings.begin(), base.model.mappings.end(),
                     [](const auto& one) { return one.rule->expert && one.is_stack(); });
}

/// Every key is about one expert or about a layer without experts, and none stands twice.
void expect_single_experts(const lora::UnpackedAdapter& unpacked) {
  std::set<std::string> keys;
  for (const convert::OutputTensor& tensor : unpacked.weights.tensors) {
    EXPECT_TRUE(keys.insert(tensor.spec.name).second) << tensor.spec.name;
    const bool magnitude = tensor.spec.name.ends_with("magnitude_vector");
    EXPECT_EQ(tensor.spec.shape.size(), magnitude ? 1u : 2u) << tensor.spec.name;
  }
  EXPECT_FALSE(keys.empty());
}

TEST(UnpackedAdapters, EveryExpertHasAPairOfItsOwnOrTheReasonIsSaid) {
  const Tools tools{mutants::load_library().value(), mutants::builtin_samples().value(), {}};
  std::set<std::string> unpacked;
  std::set<std::string> refused;
  for (const auto& sample : tools.samples) {
    SCOPED_TRACE(sample.name);
    const auto layout = mutants::padded_layout("tp1pp1ep1etp1").value();
    const auto prepared = prepare(tools, World{sample.name, {}, layout}).value();
    const auto base = base_of(prepared).value();
    const auto of_class = lora::class_model(base).value();
    const bool packed =
        std::any_of(of_class.mappings.begin(), of_class.mappings.end(),
                    [](const auto& one) { return one.rule->expert && one.is_stack(); });
    const auto one_by_one = lora::per_expert_base(base, tools.library.kinds);
    if (!one_by_one) {
      EXPECT_EQ(one_by_one.error().code, Code::AdapterNoForm);
      EXPECT_TRUE(has_stacks(base));
      EXPECT_THAT(one_by_one.error().message, ::testing::HasSubstr("a single expert"));
      refused.insert(base.model_type);
      continue;
    }
    EXPECT_FALSE(has_stacks(*one_by_one));
    int done = 0;
    for (std::uint64_t seed = 0; seed < 20 && done < 3; ++seed) {
      generators::Random random(seed);
      const auto drawn = draw_adapter(base, tools.library.kinds, layout, random).value();
      const auto adapter = fitted(drawn, *one_by_one, tools.library.kinds);
      ASSERT_TRUE(adapter) << adapter.error().message;
      ASSERT_TRUE(adapter->faults.empty())
          << adapter->faults.front().key << adapter->faults.front().message;
      if (!adapter->replacements.empty() || !adapter->biases.empty()) {
        continue;  // what is trained beside the pairs is refused
      }
      ++done;
      const auto files = lora::plan_unpacked(*adapter, *one_by_one);
      ASSERT_TRUE(files) << files.error().message;
      expect_single_experts(*files);
    }
    EXPECT_EQ(done, 3);
    if (packed) {
      unpacked.insert(base.model_type);
    }
  }
  EXPECT_THAT(refused, ::testing::ElementsAre("gemma4_text", "granitemoe", "granitemoeshared",
                                              "step3p5", "step3p7"));
  for (const char* known : {"mixtral", "phimoe", "qwen3_moe", "qwen3_vl_moe", "nemotron_h"}) {
    EXPECT_TRUE(unpacked.contains(known)) << known;
  }
}

}  // namespace
}  // namespace bv::fuzz
