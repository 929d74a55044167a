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

namespace bv::parallel {

struct GoldenRun {
  std::string name;
  nlohmann::json run;
  nlohmann::json config;  // the decoder's config
  bool tied = false;
  Layout layout;
};

inline nlohmann::json read_json(const std::filesystem::path& path) {
  std::ifstream file(path);
  return nlohmann::json::parse(file);
}

inline std::vector<GoldenRun> golden_runs() {
  const std::filesystem::path root = std::filesystem::path(BV_FIXTURES) / "golden";
  std::vector<GoldenRun> runs;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(root / "megatron")) {
    if (entry.path().extension() != ".json") {
      continue;
    }
    GoldenRun one;
    one.run = read_json(entry.path());
    const std::string model = one.run.at("case");
    one.name = model + "/" + entry.path().stem().string();
    const nlohmann::json config = read_json(root / "hf" / model / "config.json");
    one.config = config.contains("text_config") ? config.at("text_config") : config;
    one.tied = config.value("tie_word_embeddings", true);
    const nlohmann::json& sizes = one.run.at("layout");
    one.layout.tp = sizes.at("tp");
    one.layout.pp = sizes.at("pp");
    one.layout.ep = sizes.at("ep");
    one.layout.etp = sizes.at("etp");
    one.layout.vpp = sizes.at("vpp");
    const nlohmann::json& settings = one.run.at("settings");
    if (settings.contains("num_layers_in_first_pipeline_stage")) {
      one.layout.first_stage_layers =
          settings.at("num_layers_in_first_pipeline_stage").get<std::int64_t>();
    }
    if (settings.contains("num_layers_in_last_pipeline_stage")) {
      one.layout.last_stage_layers =
          settings.at("num_layers_in_last_pipeline_stage").get<std::int64_t>();
    }
    runs.push_back(std::move(one));
  }
  std::ranges::sort(runs, {}, &GoldenRun::name);
  return runs;
}

}  // namespace bv::parallel
