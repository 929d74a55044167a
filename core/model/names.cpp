// Families, conditions and names: the small questions that the other files of this folder ask.

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/base/text.hpp"
#include "core/model/expression.hpp"
#include "core/model/family.hpp"

namespace bv::model {

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

std::set<std::string, std::less<>> section_flags(const Section& section, const Geometry& geometry,
                                                 std::int64_t index) {
  if (section.layered) {
    return geometry.layer_flags[static_cast<std::size_t>(index)];
  }
  return {section.flags.begin(), section.flags.end()};
}

namespace {

/// The text that replaces one pair of braces.
Result<std::string> inside_braces(std::string_view inner, const NameValues& values) {
  if (!values.variable.empty() && inner == values.variable) {
    return std::to_string(values.index);
  }
  if (inner == "e" && values.expert >= 0) {
    return std::to_string(values.expert);
  }
  if (values.prefixes != nullptr) {
    if (const auto prefix = values.prefixes->find(inner); prefix != values.prefixes->end()) {
      return prefix->second;
    }
  }
  const Lookup lookup = [&values](std::string_view word) -> std::optional<std::int64_t> {
    if (!values.variable.empty() && word == values.variable) {
      return values.index;
    }
    if (values.symbols == nullptr) {
      return std::nullopt;
    }
    const auto symbol = values.symbols->find(word);
    return symbol == values.symbols->end() ? std::nullopt : std::optional(symbol->second);
  };
  BV_TRY(number, evaluate_with(inner, lookup));
  return std::to_string(number);
}

}  // namespace

Result<std::string> expand(std::string_view text, const NameValues& values) {
  std::string out;
  while (!text.empty()) {
    const std::size_t open = text.find('{');
    out += text.substr(0, open);
    if (open == std::string_view::npos) {
      break;
    }
    const std::size_t close = text.find('}', open);
    if (close == std::string_view::npos) {
      return fail(Code::RulesInvalid,
                  fmt::format("the braces of \"{}\" do not pair up", escaped(text)))
          .pair("no }", "{name}")
          .advise("correct the template in the rules file");
    }
    BV_TRY(value, inside_braces(text.substr(open + 1, close - open - 1), values));
    out += value;
    text.remove_prefix(close + 1);
  }
  return out;
}

const std::string& megatron_template(const Rule& rule, const Spelling& spelling) {
  if (!spelling.transformer_engine && !rule.megatron_local.empty()) {
    return rule.megatron_local;
  }
  return !spelling.grouped_experts && !rule.megatron_sequential.empty() ? rule.megatron_sequential
                                                                        : rule.megatron;
}

bool Model::names_are_whole() const {
  return std::all_of(faults.begin(), faults.end(),
                     [](const NameFault& fault) { return fault.code == Code::OtherSource; });
}

std::string Model::megatron_name(const Mapping& mapping, std::int64_t expert) const {
  return local_name(mapping, mapping.index,
                    mapping.expert >= 0 ? mapping.expert : std::max<std::int64_t>(expert, 0));
}

std::string Model::local_name(const Mapping& mapping, std::int64_t local_index,
                              std::int64_t local_expert) const {
  const Section& section = family->sections[mapping.rule->section];
  auto text = expand(
      megatron_template(*mapping.rule, spelling),
      {&prefixes, nullptr, section.variable, local_index, std::max<std::int64_t>(local_expert, 0)});
  BV_ASSERT(text.has_value());  // check_family admits prefixes and variables only
  return *std::move(text);
}

}  // namespace bv::model
