#include "core/model/mapping_faults.hpp"

#include <fmt/format.h>

#include <unordered_map>

#include "core/base/text.hpp"

namespace bv::model {

NameFault torn_parameter(const Model& model, const std::string& name, const Mapping& mapping) {
  NameFault fault;
  fault.code = Code::HfTensorMissing;
  fault.subject = name;
  fault.message =
      fmt::format("--exclude leaves out {}, but Megatron parameter {} is made of it and others",
                  name, model.megatron_name(mapping));
  fault.found = fmt::format("{} left out", name);
  fault.wanted = fmt::format("all or none of {}", join(mapping.hf, ", "));
  fault.help = "exclude the other tensors of that parameter too, or none of them";
  return fault;
}

NameFault claimed_twice(const Model& model, const std::string& name, const Mapping& first,
                        const Mapping& second) {
  NameFault fault;
  fault.code = Code::DuplicateClaim;
  fault.subject = name;
  fault.message =
      fmt::format("{} is claimed by {} and by {}", name, first.rule->source, second.rule->source);
  fault.found = fmt::format("{} and {}", model.megatron_name(first), model.megatron_name(second));
  fault.wanted = "one rule for each HF tensor";
  fault.help = "remove one of the two rules, or give them different conditions";
  return fault;
}

Status check_made_once(const Model& model) {
  std::unordered_map<std::string, const Mapping*> made;
  made.reserve(model.mappings.size());
  for (const Mapping& mapping : model.mappings) {
    const auto [entry, fresh] = made.try_emplace(model.megatron_name(mapping), &mapping);
    if (!fresh) {
      return fail(Code::RulesInvalid,
                  fmt::format("Megatron parameter {} is made twice", entry->first))
          .at(mapping.rule->source)
          .pair(fmt::format("{} and {}", entry->second->rule->source, mapping.rule->source),
                "one rule for each parameter")
          .advise("remove one of the two rules, or give them different conditions");
    }
  }
  return Done{};
}

}  // namespace bv::model
