// Names of a model's parameters.

#include <algorithm>

#include "core/family/expression.hpp"
#include "core/model/conditions.hpp"

namespace bv::model {

std::set<std::string, std::less<>> section_flags(const family::Section& section,
                                                 const Geometry& geometry, std::int64_t index) {
  if (section.layered) {
    return geometry.layer_flags[static_cast<std::size_t>(index)];
  }
  std::set<std::string, std::less<>> out(section.flags.begin(), section.flags.end());
  if (section.stage == family::Stage::Mtp && index >= 0 && index < std::ssize(geometry.mtp_flags)) {
    const auto& own = geometry.mtp_flags[static_cast<std::size_t>(index)];
    out.insert(own.begin(), own.end());
  }
  return out;
}

Result<std::string> expand_hf(const family::Family& family, std::string_view text,
                              const family::NameValues& values) {
  BV_TRY(name, family::expand(text, values));
  if (!family::root_of(family, text).empty() || values.prefixes == nullptr) {
    return name;
  }
  const auto top = values.prefixes->find("");
  return top == values.prefixes->end() ? name : top->second + name;
}

bool Model::names_are_whole() const {
  return std::all_of(faults.begin(), faults.end(),
                     [](const NameFault& fault) { return fault.code == Code::OtherSource; });
}

std::string Model::why_unused(std::string_view hf) const {
  const auto in = [hf](const std::vector<std::string>& names) {
    return std::find(names.begin(), names.end(), hf) != names.end();
  };
  if (in(dropped)) {
    return "an option leaves it out";
  }
  for (const auto& [because, names] : ignored_because) {
    if (in(names)) {
      return because;
    }
  }
  for (const auto& [copy, original] : must_equal) {
    if (copy == hf) {
      return "it repeats " + original;
    }
  }
  return in(ignored) ? "the family lets it stay unused" : "";
}

std::int64_t Model::parameters_of(const Mapping& mapping) const {
  if (!mapping.is_stack()) {
    return 1;
  }
  std::int64_t parts = geometry.experts();
  if (!mapping.rule->expert) {
    const auto stated = family::evaluate(mapping.rule->experts, geometry.symbols);
    parts = stated ? *stated : 1;
  }
  return std::max<std::int64_t>(parts, 1);
}

std::string Model::megatron_name(const Mapping& mapping, std::int64_t expert) const {
  return local_name(mapping, mapping.index,
                    mapping.expert >= 0 ? mapping.expert : std::max<std::int64_t>(expert, 0));
}

std::string Model::local_name(const Mapping& mapping, std::int64_t local_index,
                              std::int64_t local_expert) const {
  const family::Section& section = family->sections[mapping.rule->section];
  auto text = family::expand(family::megatron_template(*mapping.rule, spelling),
                             {&prefixes, nullptr, section.variable, local_index,
                              std::max<std::int64_t>(local_expert, 0), mapping.index});
  BV_ASSERT(text.has_value());  // check_family admits prefixes and variables only
  return *std::move(text);
}

}  // namespace bv::model
