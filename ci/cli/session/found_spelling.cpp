#include "ci/cli/session/found_spelling.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace bv::cli {
namespace {

std::int64_t names_there(const std::function<bool(const std::string&)>& has,
                         const model::Model& model) {
  return std::count_if(
      model.mappings.begin(), model.mappings.end(), [&](const model::Mapping& mapping) {
        const family::Rule& rule = *mapping.rule;
        const bool varies = !rule.megatron_local.empty() || !rule.megatron_sequential.empty();
        return varies && has(model.megatron_name(mapping));
      });
}

}  // namespace

void take_spelling(const Options& options, const std::function<bool(const std::string&)>& has,
                   model::Model& model, std::vector<std::string>& notes) {
  const bool norms = !options.has("transformer-impl");
  const bool experts = !options.has("moe-grouped-gemm") && !options.has("no-moe-grouped-gemm");
  const family::Spelling asked = model.spelling;
  family::Spelling best = asked;
  std::int64_t most = names_there(has, model);
  for (const bool other_norms : {false, true}) {
    for (const bool other_experts : {false, true}) {
      if ((other_norms && !norms) || (other_experts && !experts)) {
        continue;
      }
      model.spelling = {asked.transformer_engine != other_norms,
                        asked.grouped_experts != other_experts};
      if (const std::int64_t found = names_there(has, model); found > most) {
        most = found;
        best = model.spelling;
      }
    }
  }
  model.spelling = best;
  if (best.transformer_engine != asked.transformer_engine) {
    notes.push_back(fmt::format("taken from the names of the checkpoint: --transformer-impl {}",
                                best.transformer_engine ? "transformer_engine" : "local"));
  }
  if (best.grouped_experts != asked.grouped_experts) {
    notes.push_back(fmt::format("taken from the names of the checkpoint: --{}moe-grouped-gemm",
                                best.grouped_experts ? "" : "no-"));
  }
}

}  // namespace bv::cli
