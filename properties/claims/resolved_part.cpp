#include "properties/claims/resolved_part.hpp"

#include <algorithm>
#include <set>

namespace bv::claims {

std::optional<checkpoint::HfModel> resolved_part(const checkpoint::HfModel& source) {
  checkpoint::HfModel out;
  out.folder = source.folder;
  out.config_text = source.config_text;
  out.settings = source.settings;
  out.base = source.base;
  out.architecture = source.architecture;
  out.model_type = source.model_type;
  out.chosen = source.chosen;
  out.headers = source.headers;
  out.excluded = source.excluded;
  out.header_digest = source.header_digest;
  out.files = source.files;
  out.dequantised = source.dequantised;
  out.resolve = source.resolve;
  out.model = source.model;
  out.model.faults.clear();
  // A rule that lacks a tensor in one layer is the one whose names are wrong, in all layers.
  std::set<const family::Rule*> incomplete;
  for (const model::Mapping& mapping : source.model.mappings) {
    if (!std::all_of(mapping.hf.begin(), mapping.hf.end(),
                     [&](const std::string& name) { return source.headers.contains(name); })) {
      incomplete.insert(mapping.rule);
    }
  }
  std::erase_if(out.model.mappings,
                [&](const model::Mapping& mapping) { return incomplete.contains(mapping.rule); });
  return out.model.mappings.empty() ? std::nullopt : std::optional(std::move(out));
}

}  // namespace bv::claims
