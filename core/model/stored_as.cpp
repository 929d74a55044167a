#include "core/model/stored_as.hpp"

#include "core/family/family.hpp"
#include "core/model/conditions.hpp"

namespace bv::model {
namespace {

const family::StoredModule* module_at(const Model& model, const family::Section& section,
                                      std::int64_t index) {
  if (section.stored_modules.empty()) {
    return nullptr;
  }
  const auto flags = section_flags(section, model.geometry, index);
  for (const family::StoredModule& one : section.stored_modules) {
    if (family::holds(*model.family, one.when, {&model.geometry.symbols, &flags})) {
      return &one;
    }
  }
  return nullptr;
}

LayerKeys keys_of(const Model& model, const family::Section& section) {
  const std::set<std::string, std::less<>> none;
  const auto& when = section.own_keys_when;
  if (section.own_keys && family::holds(*model.family, when, {&model.geometry.symbols, &none})) {
    return LayerKeys::Own;
  }
  return section.own_keys ? LayerKeys::Shared : LayerKeys::WhereAlike;
}

}  // namespace

StoredAs stored_as(const Model& model, const Mapping& mapping) {
  const family::Section& section = model.family->sections[mapping.rule->section];
  StoredAs out;
  out.as_in_memory = mapping.rule->as_in_hf;
  out.single = out.as_in_memory || mapping.stage == family::Stage::Mtp;
  out.keys = keys_of(model, section);
  const family::StoredModule* const here =
      mapping.index < 0 ? nullptr : module_at(model, section, mapping.index);
  if (here != nullptr) {
    out.module = here->module;
    out.stored = here->stored;
    out.number = 0;
    for (std::int64_t i = 0; i < mapping.index; ++i) {
      const family::StoredModule* const other = module_at(model, section, i);
      out.number += other != nullptr && other->stored == here->stored ? 1 : 0;
    }
  }
  return out;
}

}  // namespace bv::model
