#pragma once
// A value in a family file together with its place, so that every error names file and path.
//
// Example, with {"rules": [{"kind": 3}]} at sections[1] of glm4_moe.json:
//   place.at("rules")->items() is one place, sections[1].rules[0];
//   its at("kind")->text() fails: RulesInvalid at sections[1].rules[0].kind of glm4_moe.json, found
//   a number, wanted a string.

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
  /// `node` must outlive the place and all places below it. `path` is "" for the whole file.
  JsonPlace(const OrderedJson& node, std::string file, std::string path)
      : node_(&node), file_(std::move(file)), path_(std::move(path)) {}

  [[nodiscard]] const OrderedJson& node() const { return *node_; }
  [[nodiscard]] const std::string& file() const { return file_; }
  [[nodiscard]] const std::string& path() const { return path_; }
  /// The member `key`; nullopt when it is absent, or this is not an object.
  [[nodiscard]] std::optional<JsonPlace> find(std::string_view key) const;

  // Errors of all that follow: RulesInvalid with file, path, what was found and what was wanted.

  /// Fails unless this is an object whose keys are all among `keys`; the error suggests the
  /// nearest.
  [[nodiscard]] Status only(std::initializer_list<std::string_view> keys) const;
  /// The member `key`. Fails when it is absent.
  [[nodiscard]] Result<JsonPlace> at(std::string_view key) const;
  /// The entries of a list, in order.
  [[nodiscard]] Result<std::vector<JsonPlace>> items() const;
  /// The members of an object, in file order.
  [[nodiscard]] Result<std::vector<std::pair<std::string, JsonPlace>>> members() const;
  /// The value as a string.
  [[nodiscard]] Result<std::string> text() const;
  /// The member `key` as a string; `fallback` when it is absent. Another type is an error.
  [[nodiscard]] Result<std::string> text_or(std::string_view key, std::string fallback) const;
  /// A list of strings, or one string as a list of one.
  [[nodiscard]] Result<std::vector<std::string>> texts() const;
  /// The member `key` as texts(); an empty list when it is absent.
  [[nodiscard]] Result<std::vector<std::string>> texts_or_none(std::string_view key) const;
  /// The value as a whole number of 64 bits.
  [[nodiscard]] Result<std::int64_t> number() const;
  [[nodiscard]] Result<bool> boolean() const;
  /// The member `key` as true or false; `fallback` when it is absent.
  [[nodiscard]] Result<bool> boolean_or(std::string_view key, bool fallback) const;

  /// A fault of the caller's own at this place.
  [[nodiscard]] Error error(std::string message, std::string found, std::string wanted) const;

 private:
  [[nodiscard]] Error wrong_type(std::string_view wanted) const;

  const OrderedJson* node_;
  std::string file_;
  std::string path_;
};

}  // namespace bv::family
