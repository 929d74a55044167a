#pragma once
// A place in a family file: typed access whose errors name file and path
// ("sections[1].rules[3].kind").

#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.hpp"

namespace bv::family {

using OrderedJson = nlohmann::ordered_json;

class JsonPlace {
 public:
  JsonPlace(const OrderedJson& node, std::string file, std::string path)
      : node_(&node), file_(std::move(file)), path_(std::move(path)) {}

  [[nodiscard]] const OrderedJson& node() const { return *node_; }
  [[nodiscard]] const std::string& file() const { return file_; }
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::optional<JsonPlace> find(std::string_view key) const;

  // Errors of all: RulesInvalid.
  [[nodiscard]] Status only(
      std::initializer_list<std::string_view> keys) const;  // an object with no other keys
  [[nodiscard]] Result<JsonPlace> at(std::string_view key) const;
  [[nodiscard]] Result<std::vector<JsonPlace>> items() const;  // of a list
  [[nodiscard]] Result<std::vector<std::pair<std::string, JsonPlace>>> members()
      const;  // of an object, in file order
  [[nodiscard]] Result<std::string> text() const;
  [[nodiscard]] Result<std::string> text_or(std::string_view key, std::string fallback) const;
  [[nodiscard]] Result<std::vector<std::string>> texts() const;  // a string or a list of strings
  [[nodiscard]] Result<std::vector<std::string>> texts_or_none(std::string_view key) const;
  [[nodiscard]] Result<std::int64_t> number() const;
  [[nodiscard]] Result<bool> boolean() const;
  [[nodiscard]] Result<bool> boolean_or(std::string_view key, bool fallback) const;

  [[nodiscard]] Error error(std::string message, std::string found, std::string wanted) const;

 private:
  [[nodiscard]] Error wrong_type(std::string_view wanted) const;

  const OrderedJson* node_;
  std::string file_;
  std::string path_;
};

}  // namespace bv::family
