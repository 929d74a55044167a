#include "core/foreign/rules_entries.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "core/base/text.hpp"
#include "core/foreign/pattern.hpp"
#include "core/foreign/rules_parts.hpp"
#include "core/foreign/shown.hpp"

namespace bv::foreign {

using nlohmann::json;

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

namespace {

/// Modules of Megatron-Bridge 0.6.2 whose mapping classes upstream_classes.json knows.
constexpr std::array kKnownModules = {
    std::string_view("megatron.bridge.models.conversion.param_mapping"),
    std::string_view("megatron.bridge.models.gpt_oss.gpt_oss_bridge"),
    std::string_view("megatron.bridge.models.mimo_v2_flash.mimo_v2_flash_bridge")};

constexpr std::int64_t kExtentMax = std::int64_t{1} << 40;

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
    BV_TRY(kind, kind_or_layout());
    if (is_of_another_module()) {
      kind = text_at(row_, "module") + "." + kind;
    }
    BV_TRY(megatron, required_text("megatron", "megatron"));
    rule_.kind = std::move(kind);
    rule_.megatron = std::move(megatron);
    rule_.upstream_class = shown(text_at(row_, "class"));
    rule_.differs = shown(text_at(row_, "differs"));
    rule_.when = text_at(row_, "when");
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

  /// "layout" says where each element goes; without it the kind does.
  Result<std::string> kind_or_layout() {
    if (member(row_, "layout") == nullptr) {
      return required_text(member(row_, "kind") != nullptr ? "kind" : "class", "kind");
    }
    BV_TRY(layout, required_text("layout", "layout"));
    rule_.layout = std::move(layout);
    const json* axes = member(row_, "axes");
    if (axes != nullptr && !axes->is_object()) {
      return wrong("axes", fmt::format("\"axes\" of {} is not an object", named()))
          .pair(dumped(*axes), R"({"g": "num_query_groups", "d": "s1d0 / num_query_groups"})");
    }
    const json none = json::object();
    for (const auto& [axis, size] : (axes == nullptr ? none : *axes).items()) {
      if (!size.is_string() && !size.is_number_unsigned()) {
        return wrong("axes", fmt::format("axes.{} of {} is not a size", shown(axis), named()))
            .pair(dumped(size), R"(a number, or a text such as "s0d0 / t")");
      }
      rule_.axes.emplace_back(axis, size.is_string() ? size.get<std::string>() : size.dump());
    }
    return fmt::format("line_{}", rule_.position);
  }

  /// A class of a module that has none of the classes that are known by name: it may have the name
  /// of one of them and do something else. With a kind the exporter has looked at what it does.
  [[nodiscard]] bool is_of_another_module() const {
    const std::string module = text_at(row_, "module");
    return !module.empty() && member(row_, "kind") == nullptr &&
           member(row_, "layout") == nullptr &&
           std::find(kKnownModules.begin(), kKnownModules.end(), module) == kKnownModules.end();
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

  /// Adds the place of `key` to an error that has none.
  template <class T>
  Result<T> placed(std::string_view key, Result<T> result) const {
    if (!result) {
      result.error().where = lines_.at(place_.of(key));
    }
    return result;
  }

  Status read_hf() {
    const json* hf = member(row_, "hf");
    BV_TRY(names, placed(hf == nullptr ? "" : "hf", read_hf_names(hf, named())));
    rule_.hf = std::move(names);
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
    const auto rule = family::value_rule_from(values->is_string() ? values->get<std::string>()
                                                                  : join(words, " "));
    if (!texts || !rule) {
      return wrong("values", fmt::format("\"values\" of {} is not a value rule", named()))
          .pair(dumped(*values), fmt::format("{}, or a list of them", family::kValueWords));
    }
    const auto names = [&](const char* word) {
      return std::find(words.begin(), words.end(), word) != words.end();
    };
    if (names("minus_one") && names("plus_one")) {
      return wrong("values", fmt::format("two values of {} undo each other", named()))
          .pair(dumped(*values), "one of them, or none: the way there and back would lose bits");
    }
    rule_.value = *rule;
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
    if (const json* optional = member(*parameters, "optional")) {
      BV_TRY(parts, placed("parameters", read_optional(*optional, rule_)));
      rule_.optional = std::move(parts);
    }
    if (const json* slice = member(*parameters, "slice")) {
      BV_TRY(index, placed("parameters", read_slice(*slice, rule_)));
      rule_.slice = index;
    }
    BV_CHECK(read_permutation(*parameters));
    return read_orientation(*parameters);
  }

  /// `transpose` states how the stack is stored. `transpose_on_export` does not: Megatron-Bridge
  /// goes by shape on import, and uses it on export only where the shapes ask for it.
  Status read_orientation(const json& parameters) {
    if (const json* flag = member(parameters, "transpose"); flag != nullptr && flag->is_boolean()) {
      rule_.orientation =
          flag->get<bool>() ? family::Orientation::InOut : family::Orientation::OutIn;
    }
    const json* word = member(parameters, "orientation");
    if (word == nullptr) {
      return Done{};
    }
    const std::string text = word->is_string() ? word->get<std::string>() : "";
    const auto known = text == "by_shape" ? family::Orientation::ByShape
                       : text.empty()     ? std::nullopt
                                          : family::orientation_from(text);
    if (!known) {
      return wrong("parameters", fmt::format("\"orientation\" of {} is not known", named()))
          .pair(dumped(*word), "out_in, in_out or by_shape");
    }
    rule_.orientation = *known;
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

}  // namespace

Result<ForeignRule> read_rule(const json& row, const ListedPlace& place, const LineNumbers& lines,
                              std::size_t position) {
  return RuleReader(row, place, lines, position).run();
}

Result<ListedParameter> read_parameter(const json& row, const std::string& where) {
  return ParameterReader(row, where).run();
}

}  // namespace bv::foreign
