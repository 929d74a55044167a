#include "core/family/family.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/text.hpp"

namespace bv::family {

const SymbolRule* Family::symbol(std::string_view wanted) const {
  const auto found = std::find_if(symbols.begin(), symbols.end(),
                                  [&](const SymbolRule& row) { return row.name == wanted; });
  return found == symbols.end() ? nullptr : &*found;
}

bool Family::is_layer_flag(std::string_view wanted) const {
  return std::any_of(layer_flags.begin(), layer_flags.end(),
                     [&](const LayerFlag& flag) { return flag.name == wanted; });
}

const std::string& name(const Family& family) {
  return family.name;
}
const std::string& doc(const Family& family) {
  return family.doc;
}
const std::vector<std::string>& architectures(const Family& family) {
  return family.architectures;
}
const std::vector<std::string>& model_types(const Family& family) {
  return family.model_types;
}
bool must_be_equal(const Family& family, std::string_view a, std::string_view b) {
  return std::ranges::any_of(family.musts, [&](const MustRule& must) {
    return must.equal.size() == 2 && ((must.equal[0] == a && must.equal[1] == b) ||
                                      (must.equal[0] == b && must.equal[1] == a));
  });
}
const StatedFacts& stated_facts(const Family& family) {
  return family.stated;
}
const std::vector<Rule>& rules(const Family& family) {
  return family.rules;
}
std::string_view stage_name(const Family& family, const Rule& rule) {
  return family.sections[rule.section].title;
}

bool holds(const Family& family, const std::vector<std::string>& when, const Conditions& at) {
  return std::all_of(when.begin(), when.end(), [&](const std::string& word) {
    const bool wanted = !word.starts_with('!');
    const std::string_view condition =
        wanted ? std::string_view(word) : std::string_view(word).substr(1);
    if (family.is_layer_flag(condition)) {
      return at.flags->contains(condition) == wanted;
    }
    const auto symbol = at.symbols->find(condition);
    return (symbol != at.symbols->end() && symbol->second != 0) == wanted;
  });
}

bool Rule::is_for(std::int64_t layer) const {
  return layers.empty() || std::binary_search(layers.begin(), layers.end(), layer);
}

const std::string& megatron_template(const Rule& rule, const Spelling& spelling) {
  if (!spelling.transformer_engine && !rule.megatron_local.empty()) {
    return rule.megatron_local;
  }
  return !spelling.grouped_experts && !rule.megatron_sequential.empty() ? rule.megatron_sequential
                                                                        : rule.megatron;
}

const Ignored* find_ignored(const std::vector<Ignored>& ignored, std::string_view name,
                            std::size_t ndim) {
  const auto found = std::ranges::find_if(ignored, [&](const Ignored& one) {
    return (one.ndim < 0 || static_cast<std::size_t>(one.ndim) == ndim) &&
           glob_match(one.glob, name);
  });
  return found == ignored.end() ? nullptr : &*found;
}

bool is_ignored(const std::vector<Ignored>& ignored, std::string_view name, std::size_t ndim) {
  return find_ignored(ignored, name, ndim) != nullptr;
}

std::string_view root_of(const Family& family, std::string_view hf_template) {
  if (!hf_template.starts_with('{')) {
    return "";
  }
  const std::string_view inner = hf_template.substr(1, hf_template.find('}') - 1);
  const auto known = family.prefixes.find(inner);
  return known == family.prefixes.end() ? std::string_view() : std::string_view(known->first);
}

std::string dotted(const Family& family, const FieldPath& field) {
  const bool from_top = field.path.starts_with('/');
  std::string path = from_top ? field.path.substr(1) : field.path;
  std::replace(path.begin(), path.end(), '/', '.');
  return from_top || family.level.empty() ? path : fmt::format("{}.{}", family.level, path);
}

}  // namespace bv::family
