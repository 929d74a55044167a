#pragma once
// What the real Megatron-Core did: fixtures/golden/megatron/<case>/<layout>.json.

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/parallel/parallel.hpp"
#include "tests/support/files.hpp"
#include "tests/support/golden_layout.hpp"

namespace bv::parallel {

struct GoldenRun {
  std::string name;
  nlohmann::json run;
  nlohmann::json config;  // the decoder's config
  bool tied = false;
  Layout layout;
};

inline std::vector<GoldenRun> golden_runs() {
  const std::filesystem::path root = std::filesystem::path(BV_FIXTURES) / "golden";
  std::vector<GoldenRun> runs;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(root / "megatron")) {
    if (entry.path().extension() != ".json") {
      continue;
    }
    GoldenRun one;
    one.run = support::read_json(entry.path());
    const std::string model = one.run.at("case");
    one.name = model + "/" + entry.path().stem().string();
    const nlohmann::json config = support::read_json(root / "hf" / model / "config.json");
    one.config = config.contains("text_config") ? config.at("text_config") : config;
    one.tied = config.value("tie_word_embeddings", true);
    one.layout = support::layout_of(one.run);
    runs.push_back(std::move(one));
  }
  std::ranges::sort(runs, {}, &GoldenRun::name);
  return runs;
}

}  // namespace bv::parallel
