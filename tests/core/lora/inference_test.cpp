// The config that is inferred for pairs at hand, against what PEFT does with it: its rules written
// down once more and tried on every module of random models.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <regex>
#include <set>

#include "core/lora/hf_config.hpp"

namespace bv::lora {
namespace {

/// peft/tuners/tuners_utils.py, check_target_module_exists: a string is matched in full, names of a
/// list at the end of a path.
class Peft {
 public:
  explicit Peft(const std::string& config) : config_(nlohmann::json::parse(config)) {}

  bool wraps(const std::string& module) {
    return !takes(config_["exclude_modules"], module) && takes(config_["target_modules"], module);
  }

  /// peft/utils/other.py, get_pattern_key: the first key of the file that matches.
  double value(const char* patterns, const std::string& path, double otherwise) {
    for (const auto& [pattern, value] : config_[patterns].items()) {
      if (std::regex_match(path, compiled("(.*\\.)?(" + pattern + ")$"))) {
        return value.get<double>();
      }
    }
    return otherwise;
  }
  double rank(const std::string& path) { return value("rank_pattern", path, config_["r"]); }
  double alpha(const std::string& path) {
    return value("alpha_pattern", path, config_["lora_alpha"]);
  }

 private:
  bool takes(const nlohmann::json& names, const std::string& module) {
    if (names.is_null()) {
      return false;
    }
    if (names.is_string()) {
      return std::regex_match(module, compiled(names.get<std::string>()));
    }
    return std::any_of(names.begin(), names.end(), [&](const nlohmann::json& one) {
      const auto name = one.get<std::string>();
      return module == name || module.ends_with("." + name);
    });
  }

  static const std::regex& compiled(const std::string& text) {
    static std::map<std::string, std::regex> known;
    const auto found = known.find(text);
    return found != known.end() ? found->second
                                : known.emplace(text, std::regex(text)).first->second;
  }

  nlohmann::json config_;
};

/// Modules whose paths often end alike, or differ where the other has a dot.
std::vector<std::string> random_modules(std::mt19937& random) {
  constexpr std::array kParts = {"a", "b", "aab", "a0b", "0", "1"};
  std::set<std::string> out;
  const std::size_t count = 1 + random() % 12;
  for (std::size_t i = 0; i < count; ++i) {
    std::string path;
    for (std::size_t depth = 1 + random() % 4; depth > 0; --depth) {
      path += (path.empty() ? "" : ".") + std::string(kParts[random() % kParts.size()]);
    }
    out.insert(path);
  }
  return {out.begin(), out.end()};
}

TEST(ConfigInference, AgreesWithBruteForceOnTwentyThousandCases) {
  std::mt19937 random(1462);
  int excluded = 0;
  int patterns = 0;
  int bare = 0;
  for (int round = 0; round < 20000; ++round) {
    const std::vector<std::string> modules = random_modules(random);
    std::vector<HfTarget> targets;
    for (const std::string& module : modules) {
      if (random() % 3 != 0) {
        targets.push_back(
            {module, false, std::int64_t(1 + random() % 3), static_cast<double>(1 + random() % 2)});
      }
    }
    if (targets.empty()) {
      continue;
    }
    const AdapterConfig config = config_for(targets, modules);
    Peft peft(adapter_config_text(config));
    std::map<std::string, const HfTarget*> wanted;
    for (const HfTarget& target : targets) {
      wanted[target.path] = &target;
    }
    for (const std::string& module : modules) {
      const auto found = wanted.find(module);
      ASSERT_EQ(peft.wraps(module), found != wanted.end()) << module << " of\n"
                                                           << adapter_config_text(config);
      if (found != wanted.end()) {
        ASSERT_EQ(peft.rank(module), static_cast<double>(found->second->rank))
            << module << " of\n"
            << adapter_config_text(config);
        ASSERT_EQ(peft.alpha(module), found->second->alpha) << module << " of\n"
                                                            << adapter_config_text(config);
      }
    }
    excluded += config.exclude_modules.regex.empty() ? 0 : 1;
    patterns += config.rank_pattern.empty() ? 0 : 1;
    bare += std::any_of(config.target_modules.names.begin(), config.target_modules.names.end(),
                        [](const std::string& name) { return name.find('.') == std::string::npos; })
                ? 1
                : 0;
  }
  EXPECT_GT(excluded, 300);
  EXPECT_GT(patterns, 10000);
  EXPECT_GT(bare, 10000);
}

}  // namespace
}  // namespace bv::lora
