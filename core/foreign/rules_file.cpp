#include "core/foreign/rules_file.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "core/base/text.hpp"
#include "core/foreign/pattern.hpp"
#include "core/foreign/rules_keys.hpp"
#include "core/foreign/rules_text.hpp"
#include "core/foreign/shown.hpp"
#include "core/kinds/value_rule.hpp"

namespace bv::foreign {
namespace {

using nlohmann::json;

constexpr std::int64_t kExtentMax = std::int64_t{1} << 40;

Error invalid(const std::string& where, std::string message) {
  return fail(Code::RulesInvalid, std::move(message))
      .at(where)
      .advise("correct the rules file, or export the rules again");
}

std::string dumped(const json& node) {
  return shown(node.dump(-1, ' ', true, json::error_handler_t::replace));
}

const json* member(const json& object, const char* key) {
  const auto found = object.is_object() ? object.find(key) : object.end();
  return object.is_object() && found != object.end() && !found->is_null() ? &*found : nullptr;
}

std::string text_at(const json& object, const char* key) {
  const json* found = member(object, key);
  return found != nullptr && found->is_string() ? found->get<std::string>() : "";
}

std::vector<std::string> texts_at(const json& object, const char* key) {
  std::vector<std::string> out;
  if (const json* found = member(object, key); found != nullptr && found->is_array()) {
    for (const json& text : *found) {
      if (text.is_string()) {
        out.push_back(text.get<std::string>());
      }
    }
  }
  return out;
}

/// Reads one entry of "rules". Messages name the rule and the place of the key.
class RuleReader {
 public:
  RuleReader(const json& row, const ListedPlace& place, const LineNumbers& lines,
             std::size_t position)
      : row_(row), place_(place), lines_(lines) {
    rule_.position = position;
    rule_.id = text_at(row, "id").empty() ? fmt::format("r{}", position) : text_at(row, "id");
  }

  Result<ForeignRule> run() {
    if (!row_.is_object()) {
      return wrong("", fmt::format("rule {} is not a JSON object", shown(rule_.id)))
          .pair(fmt::format("a {}", row_.type_name()), "an object with megatron, hf and kind");
    }
    BV_TRY(kind, required_text(member(row_, "kind") != nullptr ? "kind" : "class", "kind"));
    BV_TRY(megatron, required_text("megatron", "megatron"));
    rule_.kind = std::move(kind);
    rule_.megatron = std::move(megatron);
    rule_.source = source();
    BV_CHECK(read_hf());
    BV_CHECK(read_values());
    BV_CHECK(read_parameters());
    BV_CHECK(check_names());
    return std::move(rule_);
  }

 private:
  /// `key`: the place of that key's value; "": of the rule.
  [[nodiscard]] Error wrong(std::string_view key, std::string message) const {
    return invalid(lines_.at(place_.of(key)), std::move(message));
  }
  [[nodiscard]] std::string named() const { return "rule " + shown(rule_.id); }

  Result<std::string> required_text(const char* key, std::string_view called) const {
    const json* found = member(row_, key);
    if (found == nullptr) {
      return wrong("", fmt::format("{} has no \"{}\"", named(), called))
          .pair("no such key", fmt::format("\"{}\": a name", called));
    }
    if (!found->is_string() || found->get_ref<const std::string&>().empty()) {
      return wrong(key, fmt::format("\"{}\" of {} is not a name", called, named()))
          .pair(dumped(*found), "a text that is not empty");
    }
    return found->get<std::string>();
  }

  [[nodiscard]] std::string source() const {
    const json* source = member(row_, "source");
    const std::string path = source == nullptr ? "" : text_at(*source, "file");
    if (path.empty()) {
      return lines_.at(place_.begin);
    }
    const json* line = member(*source, "line");
    return line != nullptr && line->is_number_integer()
               ? fmt::format("{}:{}", shown(path), line->get<std::int64_t>())
               : shown(path);
  }

  Status read_hf() {
    const json* hf = member(row_, "hf");
    if (hf != nullptr && hf->is_string()) {
      rule_.hf = {{"", hf->get<std::string>()}};
      return Done{};
    }
    if (hf == nullptr) {
      return wrong("", fmt::format("{} has no \"hf\"", named()))
          .pair("no such key", "\"hf\": a name, or names by role");
    }
    if (!hf->is_object() || hf->empty()) {
      return wrong("hf", fmt::format("\"hf\" of {} is neither a name nor names by role", named()))
          .pair(dumped(*hf), R"("name", or {"q": "name", ...})");
    }
    for (const auto& [role, name] : hf->items()) {
      if (!name.is_string()) {
        return wrong("hf", fmt::format("hf.{} of {} is not a name", shown(role), named()))
            .pair(dumped(name), "a text");
      }
      rule_.hf.emplace_back(role, name.get<std::string>());
    }
    return Done{};
  }

  /// "values": one value rule, or a list of them to be done one after the other.
  Status read_values() {
    const json* values = member(row_, "values");
    if (values == nullptr) {
      return Done{};
    }
    const std::vector<std::string> words = texts_at(row_, "values");
    const bool texts =
        values->is_string() || (values->is_array() && words.size() == values->size());
    for (const std::string& word : words) {
      rule_.value += (rule_.value.empty() ? "" : " ") + word;
    }
    rule_.value = values->is_string() ? values->get<std::string>() : rule_.value;
    if (!texts || !kinds::is_value_rule(rule_.value)) {
      return wrong("values", fmt::format("\"values\" of {} is not a value rule", named()))
          .pair(dumped(*values), "minus_one, plus_one, or a list of them");
    }
    return Done{};
  }

  Status read_parameters() {
    const json* parameters = member(row_, "parameters");
    if (parameters == nullptr) {
      return Done{};
    }
    if (!parameters->is_object()) {
      return wrong("parameters", fmt::format("\"parameters\" of {} is not an object", named()))
          .pair(dumped(*parameters), R"({"name": value, ...})");
    }
    BV_CHECK(read_permutation(*parameters));
    return read_orientation(*parameters);
  }

  /// `transpose` states how the stack is stored. `transpose_on_export` does not: Megatron-Bridge
  /// goes by shape on import, and uses it on export only where the shapes ask for it.
  Status read_orientation(const json& parameters) {
    if (const json* flag = member(parameters, "transpose"); flag != nullptr && flag->is_boolean()) {
      rule_.orientation = flag->get<bool>() ? Orientation::InOut : Orientation::OutIn;
    }
    const json* word = member(parameters, "orientation");
    if (word == nullptr) {
      return Done{};
    }
    const std::string text = word->is_string() ? word->get<std::string>() : "";
    if (text != "out_in" && text != "in_out" && text != "by_shape") {
      return wrong("parameters", fmt::format("\"orientation\" of {} is not known", named()))
          .pair(dumped(*word), "out_in, in_out or by_shape");
    }
    rule_.orientation = text == "out_in"   ? Orientation::OutIn
                        : text == "in_out" ? Orientation::InOut
                                           : Orientation::ByShape;
    return Done{};
  }

  /// permute_dims: every dimension once. A permutation that moves nothing counts as none.
  Status read_permutation(const json& parameters) {
    constexpr std::size_t kDimensionsMax = 8;
    const json* dims = member(parameters, "permute_dims");
    if (dims == nullptr) {
      return Done{};
    }
    std::vector<bool> seen(dims->is_array() ? dims->size() : 0, false);
    bool right = dims->is_array() && !dims->empty() && dims->size() <= kDimensionsMax;
    for (std::size_t i = 0; right && i < dims->size(); ++i) {
      const json& at = (*dims)[i];
      right = at.is_number_unsigned() && at.get<std::uint64_t>() < seen.size() &&
              !seen[at.get<std::size_t>()];
      if (right) {
        seen[at.get<std::size_t>()] = true;
        rule_.permutation.push_back(at.get<std::int64_t>());
      }
    }
    if (!right) {
      return wrong("parameters",
                   fmt::format("\"permute_dims\" of {} is not a permutation", named()))
          .pair(dumped(*dims), "each of 0, 1, .. once, such as [1, 0]");
    }
    if (std::is_sorted(rule_.permutation.begin(), rule_.permutation.end())) {
      rule_.permutation.clear();
    }
    return Done{};
  }

  [[nodiscard]] Status check_names() const {
    std::vector<std::pair<const char*, std::string_view>> names = {{"megatron", rule_.megatron}};
    for (const auto& [role, name] : rule_.hf) {
      names.emplace_back("hf", name);
    }
    for (const auto& [key, name] : names) {
      if (const std::size_t count = wildcards(name); count > kWildcardsMax) {
        return wrong(key, fmt::format("a name of {} has too many wildcards", named()))
            .pair(fmt::format("{} in {}", count, shown(name)),
                  fmt::format("at most {}", kWildcardsMax));
      }
    }
    if (rule_.megatron.find_first_of("{}") != std::string::npos) {
      return wrong("megatron", fmt::format("the Megatron name of {} has braces", named()))
          .pair(shown(rule_.megatron), "a parameter name, with * for numbers");
    }
    return Done{};
  }

  const json& row_;
  const ListedPlace& place_;
  const LineNumbers& lines_;
  ForeignRule rule_;
};

/// Reads one entry of "model.parameters": a name, an object, or the short form
/// [name, shape, class, parallelism, ...].
class ParameterReader {
 public:
  ParameterReader(const json& row, std::string where) : row_(row), where_(std::move(where)) {}

  Result<ListedParameter> run() {
    const bool list = row_.is_array();
    const json* name = row_.is_string() ? &row_ : list ? entry(0) : member(row_, "name");
    if (name == nullptr || !name->is_string() || name->get_ref<const std::string&>().empty()) {
      return wrong("has no name", R"("name", {"name": ...} or [name, shape, class, parallelism])");
    }
    out_.name = name->get<std::string>();
    if (out_.name.find_first_of("{}*") != std::string::npos) {
      return wrong("is not the name of one parameter", "a name without wildcards");
    }
    if (row_.is_string()) {
      return std::move(out_);
    }
    BV_CHECK(read_shape(list ? entry(1) : member(row_, "shape")));
    out_.module = text_of(list ? entry(2) : member(row_, "module"));
    out_.parallelism = text_of(list ? entry(3) : member(row_, "parallelism"));
    const std::string& how = out_.parallelism;
    if (!how.empty() && how != "column" && how != "row" && how != "replicated") {
      return wrong("has an unknown parallelism", "column, row or replicated");
    }
    return std::move(out_);
  }

 private:
  [[nodiscard]] const json* entry(std::size_t at) const {
    return at < row_.size() && !row_[at].is_null() ? &row_[at] : nullptr;
  }
  static std::string text_of(const json* node) {
    return node != nullptr && node->is_string() ? node->get<std::string>() : "";
  }
  [[nodiscard]] Error wrong(std::string_view what, std::string wanted) const {
    return invalid(where_, fmt::format("an entry of model.parameters {}", what))
        .pair(dumped(row_), std::move(wanted));
  }

  Status read_shape(const json* shape) {
    if (shape == nullptr) {
      return Done{};
    }
    Shape out;
    bool right = shape->is_array();
    for (std::size_t i = 0; right && i < shape->size(); ++i) {
      const json& extent = (*shape)[i];
      right = extent.is_number_unsigned() &&
              extent.get<std::uint64_t>() <= static_cast<std::uint64_t>(kExtentMax);
      if (right) {
        out.push_back(extent.get<std::int64_t>());
      }
    }
    if (!right) {
      return wrong("has no proper shape", "a list of extents, such as [64, 32]");
    }
    out_.shape = std::move(out);
    return Done{};
  }

  const json& row_;
  std::string where_;
  ListedParameter out_;
};

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
      BV_TRY(rule, RuleReader((*rows)[i], place, lines_, i).run());
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
      BV_TRY(parameter, ParameterReader((*rows)[i], file_).run());
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
