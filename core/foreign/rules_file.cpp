#include "core/foreign/rules_file.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "core/base/text.hpp"
#include "core/foreign/pattern.hpp"
#include "core/foreign/rules_entries.hpp"
#include "core/foreign/rules_keys.hpp"
#include "core/foreign/rules_text.hpp"
#include "core/foreign/shown.hpp"

namespace bv::foreign {
namespace {

using nlohmann::json;

class FileReader {
 public:
  FileReader(const json& top, std::string_view text, const std::string& file)
      : top_(top), text_(text), file_(file), lines_(text, file) {}

  Result<ForeignRules> run() {
    if (const std::string schema = text_at(top_, "schema"); schema != "bridge-rules/1") {
      return invalid(file_, fmt::format("{} is not a rules file", file_))
          .pair(!top_.is_object() ? fmt::format("a JSON {}", top_.type_name())
                : schema.empty()  ? "no \"schema\""
                                  : "schema " + shown(schema),
                "schema bridge-rules/1");
    }
    out_.file = file_;
    if (const json* upstream = member(top_, "upstream")) {
      out_.repository = text_at(*upstream, "repo");
      out_.commit = text_at(*upstream, "commit");
      out_.bridge_class = text_at(*upstream, "bridge_class");
    }
    if (const json* selects = member(top_, "selects")) {
      out_.architectures = texts_at(*selects, "architectures");
    }
    BV_CHECK(read_rules());
    BV_CHECK(read_facts());
    BV_CHECK(read_norms());
    BV_CHECK(read_hooks());
    BV_CHECK(read_model());
    out_.warnings = unknown_keys(top_, text_, file_);
    return std::move(out_);
  }

 private:
  Status read_rules() {
    const json* rows = member(top_, "rules");
    const std::size_t count = rows != nullptr && rows->is_array() ? rows->size() : 0;
    if (count == 0 || count > kForeignRulesMax) {
      return invalid(file_, fmt::format("{} has no list of rules", file_))
          .pair(rows == nullptr     ? "no \"rules\""
                : !rows->is_array() ? fmt::format("\"rules\": a {}", rows->type_name())
                                    : counted(count, "rule"),
                fmt::format("\"rules\": a list of 1 to {} rules", kForeignRulesMax));
    }
    const std::vector<ListedPlace> places = places_in_list(text_, "rules");
    std::size_t double_stars = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const ListedPlace place = i < places.size() ? places[i] : ListedPlace{};
      BV_TRY(rule, read_rule((*rows)[i], place, lines_, i));
      double_stars += has_double_star(rule.megatron) ||
                              std::any_of(rule.hf.begin(), rule.hf.end(),
                                          [](const auto& hf) { return has_double_star(hf.second); })
                          ? 1U
                          : 0U;
      out_.rules.push_back(std::move(rule));
    }
    if (double_stars > kDoubleStarRulesMax) {
      return invalid(file_, fmt::format("{} has too many rules with **", file_))
          .pair(std::to_string(double_stars), fmt::format("at most {}", kDoubleStarRulesMax));
    }
    return Done{};
  }

  Status read_facts() {
    const json* facts = member(top_, "facts");
    const json* centered =
        facts == nullptr ? nullptr : member(*facts, "layernorm_zero_centered_gamma");
    if (facts != nullptr && !facts->is_object()) {
      return invalid(file_, "\"facts\" is not an object")
          .pair(dumped(*facts), R"({"layernorm_zero_centered_gamma": false})");
    }
    if (centered != nullptr && !centered->is_boolean()) {
      return invalid(file_, "facts.layernorm_zero_centered_gamma is neither true nor false")
          .pair(dumped(*centered), "true: norm weights are offsets from one in Megatron");
    }
    if (centered != nullptr) {
      out_.zero_centered_norms = centered->get<bool>();
    }
    return Done{};
  }

  /// facts.norms: {"hf": {pattern: "weight" or "offset"}, "megatron": {...}}.
  Status read_norms() {
    const json* facts = member(top_, "facts");
    const json* norms = facts == nullptr ? nullptr : member(*facts, "norms");
    if (norms == nullptr) {
      return Done{};
    }
    for (const auto& [side, list] :
         {std::pair("hf", &out_.norms.hf), std::pair("megatron", &out_.norms.megatron)}) {
      const json* rows = member(*norms, side);
      if (rows == nullptr || !rows->is_object()) {
        return wrong_norms(*norms);
      }
      for (const auto& [pattern, word] : rows->items()) {
        if ((word != "weight" && word != "offset") || wildcards(pattern) > kWildcardsMax) {
          return wrong_norms(*norms);
        }
        list->push_back({pattern, word == "offset"});
      }
    }
    return Done{};
  }

  [[nodiscard]] Error wrong_norms(const json& found) const {
    return invalid(file_, "facts.norms does not say how norm weights are kept")
        .pair(dumped(found), R"({"hf": {"model.norm.weight": "weight"}, "megatron": {...}}, )"
                             R"(each "weight" or "offset")");
  }

  /// A hook of the base class changes nothing.
  Status read_hooks() {
    const json* hooks = member(top_, "hooks");
    const std::string owner =
        hooks == nullptr ? "" : text_at(*hooks, "maybe_modify_loaded_hf_weight");
    if (owner.empty() || owner == "base") {
      return Done{};
    }
    out_.load_hook = LoadHook{owner, std::nullopt, {}};
    out_.load_hook->reads = texts_at(*hooks, "reads");
    const json* changes = member(*hooks, "changes");
    if (changes == nullptr) {
      return Done{};
    }
    out_.load_hook->changes = texts_at(*hooks, "changes");
    if (!changes->is_array() || out_.load_hook->changes->size() != changes->size()) {
      return invalid(file_, "hooks.changes is not a list of rule ids")
          .pair(dumped(*changes), R"(["r7"], or null when the hook was not tried)");
    }
    std::vector<std::string> ids;
    for (const ForeignRule& rule : out_.rules) {
      ids.push_back(rule.id);
    }
    for (const std::string& id : *out_.load_hook->changes) {
      if (std::find(ids.begin(), ids.end(), id) == ids.end()) {
        const auto near = nearest(id, ids);
        return invalid(file_, fmt::format("hooks.changes names {}, which is not a rule", shown(id)))
            .pair(shown(id), near ? shown(*near) : "the id of a rule of this file");
      }
    }
    return Done{};
  }

  Status read_model() {
    const json* model = member(top_, "model");
    const json* rows = model == nullptr ? nullptr : member(*model, "parameters");
    if (rows == nullptr) {
      return Done{};
    }
    if (!rows->is_array() || rows->empty() || rows->size() > kListedParametersMax) {
      return invalid(file_, "model.parameters is not a list of parameters")
          .pair(rows->is_array() ? counted(rows->size(), "entry") : dumped(*rows),
                fmt::format("a list of 1 to {} parameters", kListedParametersMax));
    }
    std::vector<ListedParameter> list;
    std::map<std::string_view, std::size_t> names;
    list.reserve(rows->size());
    for (std::size_t i = 0; i < rows->size(); ++i) {
      BV_TRY(parameter, read_parameter((*rows)[i], file_));
      list.push_back(std::move(parameter));
      if (!names.emplace(list.back().name, i).second) {
        return invalid(file_,
                       fmt::format("model.parameters lists {} twice", shown(list.back().name)))
            .pair("two entries", "one entry for each parameter");
      }
    }
    out_.parameters = std::move(list);
    return Done{};
  }

  const json& top_;
  std::string_view text_;
  const std::string& file_;
  LineNumbers lines_;
  ForeignRules out_;
};

}  // namespace

std::vector<std::string_view> megatron_patterns(const ForeignRules& rules) {
  std::vector<std::string_view> out;
  for (const ForeignRule& rule : rules.rules) {
    out.emplace_back(rule.megatron);
  }
  return out;
}

Result<ForeignRules> parse_rules_file(std::string_view text, const std::string& file) {
  BV_TRY(top, parse_rules_json(text, file));
  return FileReader(top, text, file).run();
}

}  // namespace bv::foreign
