#include "core/foreign/usual.hpp"

#include <fmt/format.h>

#include "core/family/builtin_files.hpp"
#include "core/family/expression.hpp"
#include "core/family/family.hpp"
#include "core/foreign/pattern.hpp"

namespace bv::foreign {
namespace {

constexpr std::string_view kUsual = "usual";
constexpr std::string_view kUsualTable = "usual_modules";
constexpr std::string_view kOptional = " optional";

Result<family::FamilyPtr> usual_table() {
  for (const family::BuiltinFile& file : family::builtin_tables_files()) {
    if (file.name.find(kUsualTable) == std::string_view::npos) {
      continue;
    }
    auto table = family::parse_family(file.text, file.name);
    if (!table) {
      return fail(Code::Assertion, fmt::format("the built-in table {} is wrong: {}", kUsualTable,
                                               table.error().message))
          .advise("report it with the output of bridge-verify doctor");
    }
    return table;
  }
  return fail(Code::Assertion, fmt::format("this build lacks the table {}", kUsualTable))
      .advise("report it with the output of bridge-verify doctor");
}

/// "{M}decoder.layers.{i}.mlp.router.weight" -> "decoder.layers.*.mlp.router.weight"
std::string starred_template(const std::string& text) {
  std::string out;
  for (const family::TemplatePiece& piece :
       family::split_template(text).value_or(std::vector<family::TemplatePiece>())) {
    out += !piece.braces ? piece.text : piece.text == "M" ? "" : "*";
  }
  return starred(out);
}

}  // namespace

Result<family::FamilyPtr> usual_family() {
  BV_TRY(table, usual_table());
  auto out = std::make_shared<family::Family>(*table);
  out->sections.clear();
  out->rules.clear();
  return family::FamilyPtr(std::move(out));
}

bool is_usual(const family::Family& family) {
  return family::name(family) == kUsual;
}

bool is_usual(const model::Model& model) {
  return is_usual(*model.family);
}

Result<std::vector<std::string>> usual_symbols() {
  BV_TRY(table, usual_table());
  std::vector<std::string> out;
  for (const family::SymbolRule& symbol : table->symbols) {
    out.push_back(symbol.name);
  }
  return out;
}

Result<UsualModules> UsualModules::load() {
  UsualModules out;
  BV_TRY(table, usual_table());
  out.family_ = table;
  for (const family::Rule& rule : table->rules) {
    UsualParameter parameter;
    parameter.rule = &rule;
    std::string_view title = table->sections[rule.section].title;
    parameter.optional = title.ends_with(kOptional);
    title.remove_suffix(parameter.optional ? kOptional.size() : 0);
    parameter.module = title;
    parameter.name = starred_template(rule.megatron);
    parameter.sequential = rule.megatron_sequential.empty();
    out.parameters_.push_back(parameter);
    if (!parameter.sequential) {
      parameter.name = starred_template(rule.megatron_sequential);
      parameter.grouped = false;
      parameter.sequential = true;
      out.parameters_.push_back(parameter);
    }
  }
  for (std::size_t i = 0; i < out.parameters_.size(); ++i) {
    out.by_name_.emplace(out.parameters_[i].name, i);
  }
  return out;
}

std::vector<const UsualParameter*> UsualModules::find(std::string_view starred_name) const {
  std::vector<const UsualParameter*> out;
  const auto [begin, end] = by_name_.equal_range(starred_name);
  for (auto at = begin; at != end; ++at) {
    out.push_back(&parameters_[at->second]);
  }
  return out;
}

}  // namespace bv::foreign
