// The keys of a torch_dist checkpoint are those that sharded_state_dict of the real Megatron-Core
// gives to the same model (fixtures/golden/torch_dist_keys, made by the released Megatron-Bridge).

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "core/base/result.hpp"
#include "core/checkpoint/global_keys.hpp"
#include "core/checkpoint/open_model.hpp"
#include "core/plan/plan.hpp"
#include "fixtures/maker/maker.hpp"
#include "tests/support/files.hpp"
#include "tests/support/library.hpp"

namespace bv::convert {
namespace {

namespace fs = std::filesystem;

/// "qwen3_5/mtp", and fields of its config that are replaced: "glm4_moe first_k_dense_replace=0".
struct RealModel {
  fs::path file;
  std::string label;
};

void PrintTo(const RealModel& model, std::ostream* out) {
  *out << model.label;
}

std::vector<RealModel> models() {
  std::vector<RealModel> out;
  for (const auto& entry : fs::directory_iterator(support::golden("torch_dist_keys"))) {
    if (entry.path().extension() == ".json") {
      const auto read = support::read_json(entry.path());
      for (const auto& label : read.at("models")) {
        out.push_back({entry.path(), label.get<std::string>()});
      }
    }
  }
  std::sort(out.begin(), out.end(),
            [](const RealModel& a, const RealModel& b) { return a.label < b.label; });
  return out;
}

/// "layers.{0-2,5}.x": "layers.0.x", "layers.1.x", ...
std::vector<std::string> each_of(const std::string& key) {
  const std::size_t begin = key.find('{');
  if (begin == std::string::npos) {
    return {key};
  }
  const std::size_t end = key.find('}');
  std::vector<std::string> out;
  std::istringstream ranges(key.substr(begin + 1, end - begin - 1));
  for (std::string range; std::getline(ranges, range, ',');) {
    const std::size_t dash = range.find('-');
    const int last = std::stoi(dash == std::string::npos ? range : range.substr(dash + 1));
    for (int i = std::stoi(range); i <= last; ++i) {
      out.push_back(key.substr(0, begin) + std::to_string(i) + key.substr(end + 1));
    }
  }
  return out;
}

/// "M._extra_state/shard_2.0_4.1" of "M": [4, 1].
void add_states(const std::string& module, const Shape& sizes, std::set<std::string>& out) {
  std::int64_t all = 1;
  for (const std::int64_t size : sizes) {
    all *= size;
  }
  for (std::int64_t i = 0; i < all; ++i) {
    std::vector<std::int64_t> at(sizes.size());
    std::int64_t left = i;
    for (std::size_t k = sizes.size(); k-- > 0; left /= sizes[k]) {
      at[k] = left % sizes[k];
    }
    out.insert(sizes.empty() ? module + "._extra_state/shard_0_1"
                             : fmt::format("{}._extra_state/shard_{}_{}", module,
                                           fmt::join(at, "."), fmt::join(sizes, ".")));
  }
}

/// What convert would write of a model.
struct Written {
  std::map<std::string, Shape, std::less<>> shapes;
  std::set<std::string> states;
  std::map<std::string, std::string> places;  // of a parameter's first element: "key[1][0][0]"
};

Result<Written> written(const std::string& label) {
  std::istringstream words(label);
  std::string name;
  words >> name;
  std::vector<std::pair<std::string, std::string>> settings;
  for (std::string word; words >> word;) {
    const std::size_t equals = word.find('=');
    settings.emplace_back(word.substr(0, equals), word.substr(equals + 1));
  }
  BV_TRY(fixture, fixtures::builtin_fixture(name, settings));
  BV_TRY(made, fixtures::plan_checkpoint(fixture, support::families(), support::catalogue()));
  const support::TempFolder folder;
  BV_CHECK(fixtures::write_checkpoint(made, 0, folder.path()));
  BV_TRY(hf, checkpoint::open_hf(folder.path(), support::families(), {}));
  parallel::Layout layout;
  layout.vocab_divisor = 1;
  BV_TRY(plan, plan::Plan::make(hf.model, support::catalogue(), layout));
  BV_TRY(keys, checkpoint::global_keys(plan));
  Written out{keys.shapes, {keys.extra_states.begin(), keys.extra_states.end()}, {}};
  for (const checkpoint::KeyedTarget& target : keys.targets) {
    const checkpoint::KeyedChunk& first = target.chunks.front();
    out.places[target.target->global_name] =
        fmt::format("{}[{}]", first.key, fmt::join(first.origin, "]["));
  }
  return out;
}

class RealKeys : public testing::TestWithParam<RealModel> {
 protected:
  static Written those() {
    auto out = written(GetParam().label);
    EXPECT_TRUE(out) << (out ? "" : out.error().message);
    return out ? *out : Written{};
  }
};

/// Parameters of the class that no HF tensor fills: the last layers of Gemma 4 take keys and values
/// of earlier ones.
bool is_unfilled(const std::string& label, const std::string& key) {
  return label == "gemma4_text" && key.ends_with(".k_layernorm.weight");
}

/// Models whose checkpoint differs from that of the class, and why. A row that no longer holds
/// fails.
const std::map<std::string, const char*>& known_keys() {
  static const std::map<std::string, const char*> all = {
      {"deepseek_v2/no_q_lora", "the class has norms in linear_q_proj that no HF tensor fills"},
      {"sarvam_mla", "the class has norms in linear_q_proj that no HF tensor fills"},
      {"sarvam_mla first_k_dense_replace=0",
       "the class has norms in linear_q_proj that no HF tensor fills"},
      {"gemma3_vl", "the class has no head of the tower, which the files hold"},
      {"glm4_moe_lite mlp_layer_types=[\"sparse\",\"sparse\",\"sparse\"]",
       "Megatron-Bridge reads first_k_dense_replace alone"},
      {"nemotron_h_vl", "the tower is built by remote code"}};
  return all;
}
const std::map<std::string, const char*>& known_states() {
  static const std::map<std::string, const char*> all = {
      {"gemma3_vl", "the projector is a module of Transformer Engine"},
      {"gemma3_vl/no_head", "the projector is a module of Transformer Engine"},
      {"glm4_moe_lite mlp_layer_types=[\"sparse\",\"sparse\",\"sparse\"]",
       "Megatron-Bridge reads first_k_dense_replace alone"},
      {"nemotron_h_vl", "the tower is built by remote code"}};
  return all;
}

void judge(const std::vector<std::string>& differences, const std::string& label,
           const std::map<std::string, const char*>& known) {
  std::string all;
  for (const std::string& one : differences) {
    all += one + "\n";
  }
  if (const auto why = known.find(label); why != known.end()) {
    EXPECT_FALSE(differences.empty()) << label << " is as in the class: " << why->second;
  } else {
    EXPECT_EQ(all, "");
  }
}

TEST_P(RealKeys, AreThoseThatAreWritten) {
  const auto real = support::read_json(GetParam().file);
  auto left = those().shapes;
  std::vector<std::string> differences;
  for (const auto& [pattern, shape] : real.at("keys").items()) {
    for (const std::string& key : each_of(pattern)) {
      const auto found = left.find(key);
      if (found == left.end()) {
        if (!is_unfilled(GetParam().label, key)) {
          differences.push_back("not written: " + key);
        }
        continue;
      }
      // Null: of a tower whose sizes the bridge knows better than the config.
      if (!shape.is_null() && found->second != shape.get<Shape>()) {
        differences.push_back("of another shape: " + key);
      }
      left.erase(found);
    }
  }
  for (const auto& [key, shape] : left) {
    differences.push_back("Megatron has no " + key);
  }
  judge(differences, GetParam().label, known_keys());
}

/// A strict load fails without one of them; one too many is not looked at.
TEST_P(RealKeys, HaveEveryExtraState) {
  const auto real = support::read_json(GetParam().file);
  const std::set<std::string> there = those().states;
  std::set<std::string> states;
  for (const auto& [pattern, sizes] : real.at("extra_states").items()) {
    for (const std::string& module : each_of(pattern)) {
      add_states(module, sizes.get<Shape>(), states);
    }
  }
  EXPECT_GT(states.size(), 10U);
  std::vector<std::string> differences;
  for (const std::string& state : states) {
    if (!there.contains(state)) {
      differences.push_back("no state " + state);
    }
  }
  judge(differences, GetParam().label, known_states());
}

INSTANTIATE_TEST_SUITE_P(Models, RealKeys, testing::ValuesIn(models()), [](const auto& info) {
  std::string out = std::to_string(info.index) + "_" + info.param.label.substr(0, 60);
  std::replace_if(
      out.begin(), out.end(), [](unsigned char c) { return std::isalnum(c) == 0; }, '_');
  return out;
});

/// Megatron-Bridge 0.6.2, modeling_gemma4.py: type_rank counts the earlier layers of the kind.
TEST(StackedByKind, LayersAreCountedForThemselves) {
  const auto found = written("gemma4");
  ASSERT_TRUE(found) << found.error().message;
  const std::string layers = "language_model.decoder.layers.";
  const std::string weight = ".linear_proj.weight";
  for (const auto& [layer, place] :
       std::map<std::string, std::string>{{"0", "_sliding" + weight + "[0][0][0]"},
                                          {"1", "_sliding" + weight + "[1][0][0]"},
                                          {"2", "_global" + weight + "[0][0][0]"}}) {
    EXPECT_EQ(found->places.at(layers + layer + ".self_attention" + weight),
              layers + "self_attention" + place);
  }
}

/// Layers that share keys by their class, and of which some lack what the others hold.
TEST(SharedKeys, OfLayersThatDifferAreRefusedByName) {
  const auto found = written("gemma4_text use_double_wide_mlp=false");
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().code, Code::MegatronParamUnfilled);
  EXPECT_NE(found.error().found.find("5.self_attention_global.k_layernorm.weight"),
            std::string::npos)
      << found.error().found;
}

}  // namespace
}  // namespace bv::convert
