// Every field of a config replaced by values that do not belong there: an answer or an error, never
// a crash.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/oracles/forward/golden.hpp"

namespace bv::oracle::forward {
namespace {

using Json = nlohmann::json;

class DamagedConfig : public testing::TestWithParam<const char*> {};

TEST_P(DamagedConfig, IsAnsweredOrRefused) {
  const std::string name = GetParam();
  const NamedTensors hf = golden::read_checkpoint(name);
  const NamedTensors vectors = golden::vectors_of(name);
  const bool sees = vectors.contains("image.input_ids");
  const Inputs inputs = sees ? golden::image_inputs(vectors) : golden::text_inputs(vectors);
  const Json config =
      Json::parse(golden::read_text(golden::root() + "hf/" + name + "/config.json"));
  const Json intruders[] = {0,
                            1,
                            3,
                            -1,
                            16777216,
                            9.3e18,
                            -0.0,
                            1e-320,
                            1.7e308,
                            true,
                            "x",
                            {},
                            Json::array({1, 2}),
                            Json::array({"full_attention"}),
                            Json::object({{"rope_type", "yarn"}})};
  std::int64_t answered = 0;
  std::int64_t refused = 0;
  const Json leaves = config.flatten();
  for (const auto& [path, value] : leaves.items()) {
    for (const Json& intruder : intruders) {
      Json damaged = config;
      damaged[Json::json_pointer(path)] = intruder;
      const auto facts = read_facts(damaged.dump());
      const bool runs = facts && hf_forward(*facts, hf, inputs) &&
                        probe_inputs(*facts, 5, 1).input_ids.size() >= 5;
      ++(runs ? answered : refused);
      EXPECT_TRUE(facts || !facts.error().wanted.empty()) << path;
    }
  }
  EXPECT_GT(answered, 0);
  EXPECT_GT(refused, 0);
}

INSTANTIATE_TEST_SUITE_P(Golden, DamagedConfig,
                         testing::Values("qwen3_5_vl_moe_mtp_packed", "gpt_oss", "deepseek_v3",
                                         "gemma3_text", "llama_tied_kv2"),
                         [](const auto& one) { return std::string(one.param); });

}  // namespace
}  // namespace bv::oracle::forward
