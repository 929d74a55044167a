#include "core/foreign/written_rules.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "core/base/json_text.hpp"
#include "core/base/text.hpp"
#include "core/family/expression.hpp"
#include "core/foreign/pattern.hpp"
#include "core/layout/notation.hpp"

namespace bv::foreign {
namespace {

using Json = nlohmann::ordered_json;

bool is_number(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

/// "a.3.experts.weight5" -> "a.*.experts.weight*".
std::string with_stars(std::string_view name) {
  std::string out;
  for (std::size_t begin = 0; begin <= name.size();) {
    const std::size_t end = std::min(name.find('.', begin), name.size());
    std::string_view part = name.substr(begin, end - begin);
    for (const std::string_view word : {"weight", "bias"}) {
      if (part.starts_with(word) && is_number(part.substr(word.size()))) {
        out += word;
        part = part.substr(word.size());
      }
    }
    out += is_number(part) ? "*" : part;
    out += end < name.size() ? "." : "";
    begin = end + 1;
  }
  return out;
}

struct RuleNames {
  std::string megatron;
  std::vector<std::string> hf;
  auto operator<=>(const RuleNames&) const = default;
};

/// Patterns, where they are asked for and lead back to the names; else the names, with a star for a
/// stack's experts.
RuleNames names_of(const model::Model& model, const model::Mapping& mapping, bool patterns) {
  const std::string name = model.megatron_name(mapping, 0);
  RuleNames out{with_stars(name), {}};
  const auto captures = match_pattern(out.megatron, name);
  bool right = patterns && captures.has_value();
  for (const std::string& hf : mapping.hf) {
    out.hf.push_back(with_stars(hf));
    const std::size_t stars = wildcards(out.hf.back());
    right = right && fill_pattern(out.hf.back(), *captures) == hf &&
            (stars == captures->size() || (mapping.is_stack() && stars < captures->size()));
  }
  if (right) {
    return out;
  }
  const std::size_t digits = name.find_last_not_of("0123456789") + 1;
  return {mapping.is_stack() ? name.substr(0, digits) + "*" : name, mapping.hf};
}

/// The numbers of the config in an expression as they are: "hidden_size / t" -> "64 / t".
std::string with_numbers(const std::string& text,
                         const std::map<std::string, std::int64_t, std::less<>>& symbols) {
  std::string out;
  std::string word;
  for (const char c : text + " ") {
    if (std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_') {
      word += c;
      continue;
    }
    const auto number = word == "t" ? symbols.end() : symbols.find(word);
    out += number != symbols.end() ? std::to_string(number->second) : word;
    out += c;
    word.clear();
  }
  out.pop_back();
  return out;
}

/// A kind that rules files know by name, else its line with the sizes that it has here.
void say_kind(const family::Rule& rule, const model::Model& model, const ForeignKinds& kinds,
              Json& out) {
  if (kinds.find(rule.kind) != nullptr) {
    out["kind"] = rule.kind;
    return;
  }
  const std::string line = layout::print(*kinds.lines.find(rule.kind));
  out["layout"] = line.substr(line.find_first_not_of(' ', line.find(' ')));
  for (const auto& [axis, size] : rule.axes) {
    out["axes"][axis] = with_numbers(size, model.geometry.with(rule.sizes));
  }
}

Json row_of(const family::Rule& rule, const RuleNames& names, const model::Model& model,
            const ForeignKinds& kinds) {
  Json out;
  say_kind(rule, model, kinds, out);
  out["megatron"] = names.megatron;
  if (names.hf.size() == 1) {
    out["hf"] = names.hf.front();
  }
  for (std::size_t i = 0; names.hf.size() > 1 && i < names.hf.size(); ++i) {
    out["hf"][rule.hf[i].first] = names.hf[i];
  }
  if (const std::string values = text(rule.value); !values.empty()) {
    out["values"] = values;
  }
  if (rule.orientation != family::Orientation::ByShape) {
    out["parameters"]["orientation"] =
        rule.orientation == family::Orientation::InOut ? "in_out" : "out_in";
  }
  return out;
}

/// A stack whose rows are parameters of different names ("{text|vision}_moe_layer"): no star stands
/// for them, so each is a slice of the tensor.
std::vector<Json> slice_rows(const model::Model& model, const model::Mapping& mapping) {
  std::vector<Json> out;
  const std::int64_t count = mapping.is_stack() ? model.parameters_of(mapping) : 0;
  const bool named_apart =
      count > 1 && mapping.rule->kind == "packed_bias" &&
      with_stars(model.megatron_name(mapping, 0)) != with_stars(model.megatron_name(mapping, 1));
  for (std::int64_t e = 0; named_apart && e < count; ++e) {
    const std::string name = model.megatron_name(mapping, e);
    const std::string pattern = with_stars(name);
    const std::string hf = with_stars(mapping.hf.front());
    const auto captures = match_pattern(pattern, name);
    const bool right = captures && wildcards(hf) == captures->size() &&
                       fill_pattern(hf, *captures) == mapping.hf.front();
    out.push_back({{"kind", "replicated"},
                   {"megatron", right ? pattern : name},
                   {"hf", right ? hf : mapping.hf.front()},
                   {"parameters", {{"slice", e}}}});
  }
  return out;
}

}  // namespace

std::string written_rules(const model::Model& model, const ForeignKinds& kinds) {
  // A pattern stands for all of its layers only where one row says what happens in each: also in
  // those whose own names no pattern leads to.
  std::map<std::pair<const family::Rule*, RuleNames>, std::string> rows_of_rules;
  std::map<std::string, std::set<std::string>> rows_of_pattern;
  for (const model::Mapping& mapping : model.mappings) {
    const RuleNames names = names_of(model, mapping, true);
    std::string& row = rows_of_rules[{mapping.rule, names}];
    if (row.empty()) {
      row = row_of(*mapping.rule, names, model, kinds).dump();
    }
    rows_of_pattern[with_stars(model.megatron_name(mapping, 0))].insert(row);
  }
  std::set<std::string> written;
  std::string rows;
  const auto add = [&](const Json& content) {
    Json row = {{"id", fmt::format("r{}", written.size() - 1)}};
    row.update(content);
    rows += fmt::format("{}\n  {}", rows.empty() ? "" : ",", row.dump());
  };
  for (const model::Mapping& mapping : model.mappings) {
    if (const std::vector<Json> slices = slice_rows(model, mapping); !slices.empty()) {
      for (const Json& slice : slices) {
        written.insert(slice.dump()).second ? add(slice) : void();
      }
      continue;
    }
    RuleNames names = names_of(model, mapping, true);
    const bool one_row =
        rows_of_pattern.at(with_stars(model.megatron_name(mapping, 0))).size() == 1;
    if (one_row && !written.insert(rows_of_rules.at({mapping.rule, names})).second) {
      continue;
    }
    if (!one_row) {
      names = names_of(model, mapping, false);
      written.insert(names.megatron);
    }
    add(row_of(*mapping.rule, names, model, kinds));
  }
  return visible_json(fmt::format(
      "{{\"schema\": \"bridge-rules/1\",\n \"doc\": {},\n \"rules\": [{}\n ]}}\n",
      Json(fmt::format("The rules of family {}, to start from.", family::name(*model.family)))
          .dump(),
      rows));
}

}  // namespace bv::foreign
