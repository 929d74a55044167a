#include "core/family/json_place.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/json_mistake.hpp"
#include "core/base/text.hpp"

namespace bv::family {

std::optional<JsonPlace> JsonPlace::find(std::string_view key) const {
  if (!node_->is_object()) {
    return std::nullopt;
  }
  const auto found = node_->find(std::string(key));
  if (found == node_->end()) {
    return std::nullopt;
  }
  return JsonPlace(*found, file_,
                   path_.empty() ? std::string(key) : fmt::format("{}.{}", path_, key));
}

Error JsonPlace::error(std::string message, std::string found, std::string wanted) const {
  return fail(Code::RulesInvalid, fmt::format("{}, at {}", std::move(message),
                                              path_.empty() ? "the top" : escaped(path_)))
      .at(file_)
      .pair(std::move(found), std::move(wanted))
      .advise("correct this place of the rules file");
}

Error JsonPlace::wrong_type(std::string_view wanted) const {
  return error(fmt::format("{1} is needed here, not a {0}", node_->type_name(), wanted),
               std::string(node_->type_name()), std::string(wanted));
}

Status JsonPlace::only(std::initializer_list<std::string_view> keys) const {
  if (!node_->is_object()) {
    return wrong_type("an object");
  }
  const std::vector<std::string> known(keys.begin(), keys.end());
  for (const auto& [key, value] : node_->items()) {
    if (std::find(known.begin(), known.end(), key) == known.end()) {
      const auto near = nearest(key, known);
      Error unknown = error(fmt::format("key \"{}\" is not known here", escaped(key)), escaped(key),
                            join(known, ", "));
      return near ? std::move(unknown).advise(fmt::format("did you mean \"{}\"?", *near)) : unknown;
    }
  }
  return Done{};
}

Result<JsonPlace> JsonPlace::at(std::string_view key) const {
  if (auto found = find(key)) {
    return *std::move(found);
  }
  return error(fmt::format("key \"{}\" is missing", key), "no such key", std::string(key));
}

Result<std::vector<JsonPlace>> JsonPlace::items() const {
  if (!node_->is_array()) {
    return wrong_type("a list");
  }
  std::vector<JsonPlace> out;
  for (std::size_t i = 0; i < node_->size(); ++i) {
    out.emplace_back((*node_)[i], file_, fmt::format("{}[{}]", path_, i));
  }
  return out;
}

Result<std::vector<std::pair<std::string, JsonPlace>>> JsonPlace::members() const {
  if (!node_->is_object()) {
    return wrong_type("an object");
  }
  std::vector<std::pair<std::string, JsonPlace>> out;
  for (const auto& [key, value] : node_->items()) {
    out.emplace_back(
        key, JsonPlace(value, file_, path_.empty() ? key : fmt::format("{}.{}", path_, key)));
  }
  return out;
}

Result<std::string> JsonPlace::text() const {
  if (!node_->is_string()) {
    return wrong_type("a string");
  }
  return node_->get<std::string>();
}

Result<std::string> JsonPlace::text_or(std::string_view key, std::string fallback) const {
  const auto found = find(key);
  return found ? found->text() : Result<std::string>(std::move(fallback));
}

Result<std::vector<std::string>> JsonPlace::texts() const {
  if (node_->is_string()) {
    return std::vector<std::string>{node_->get<std::string>()};
  }
  BV_TRY(list, items());
  std::vector<std::string> out;
  for (const JsonPlace& item : list) {
    BV_TRY(word, item.text());
    out.push_back(word);
  }
  return out;
}

Result<std::vector<std::string>> JsonPlace::texts_or_none(std::string_view key) const {
  const auto found = find(key);
  return found ? found->texts() : Result<std::vector<std::string>>(std::vector<std::string>{});
}

Result<std::int64_t> JsonPlace::number() const {
  if (!node_->is_number_integer() ||
      (node_->is_number_unsigned() && node_->get<std::uint64_t>() > INT64_MAX)) {
    return wrong_type("a whole number");
  }
  return node_->get<std::int64_t>();
}

Result<bool> JsonPlace::boolean() const {
  if (!node_->is_boolean()) {
    return wrong_type("true or false");
  }
  return node_->get<bool>();
}

Result<bool> JsonPlace::boolean_or(std::string_view key, bool fallback) const {
  const auto found = find(key);
  return found ? found->boolean() : Result<bool>(fallback);
}

Result<OrderedJson> parse_rules_json(std::string_view text, std::string_view file) {
  try {
    return OrderedJson::parse(text);
  } catch (const OrderedJson::out_of_range& error) {
    return fail(Code::RulesInvalid, fmt::format("{} holds a number that is too large", file))
        .at(std::string(file))
        .pair(error.what(), "numbers of at most 63 bits")
        .advise("correct that number");
  } catch (const OrderedJson::parse_error& error) {
    JsonMistake mistake =
        json_mistake(text, error.byte == 0 ? 0 : error.byte - 1, json_reason(error.what()));
    Error out = fail(Code::RulesInvalid, fmt::format("{} is not JSON: {}", file, mistake.what))
                    .at(mistake.place(file))
                    .advise("fix that line");
    out.facts = std::move(mistake.facts);
    return out;
  }
}

}  // namespace bv::family
