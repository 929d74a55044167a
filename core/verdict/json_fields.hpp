#pragma once
// Typed values out of JSON objects, with the path of the first one that is missing or wrong.

#include <charconv>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/result.hpp"

namespace bv {

using Json = nlohmann::ordered_json;

/// Takes typed values out of one object and keeps the first fault; later calls then return empty
/// values.
class Fields {
 public:
  explicit Fields(std::string file) : file_(std::move(file)) {}

  [[nodiscard]] bool ok() const { return !fault_; }
  [[nodiscard]] Error error() const { return *fault_; }

  /// Keeps the fault at `path` unless there is one already: VerdictsInvalid.
  void refuse(const std::string& path, const Json* found, std::string_view wanted);

  const Json* object(const Json& parent, const char* key, const std::string& path) {
    return child(parent, key, path, Json::value_t::object, "an object");
  }
  const Json* array(const Json& parent, const char* key, const std::string& path) {
    return child(parent, key, path, Json::value_t::array, "an array");
  }
  /// "" for a key that files of an earlier version do not have.
  std::string optional_text(const Json& parent, const char* key, const std::string& path) {
    return find(parent, key) == nullptr ? std::string() : text(parent, key, path);
  }
  std::string text(const Json& parent, const char* key, const std::string& path) {
    const Json* value = find(parent, key);
    if (value != nullptr && value->is_null()) {
      return {};
    }
    if (value == nullptr || !value->is_string()) {
      refuse(path + key, value, "a string");
      return {};
    }
    return value->get<std::string>();
  }
  template <class Integer>
  Integer integer(const Json& parent, const char* key, const std::string& path) {
    const Json* value = find(parent, key);
    return value == nullptr ? missing<Integer>(path + key)
                            : integer_of<Integer>(*value, path + key);
  }
  double real(const Json& parent, const char* key, const std::string& path) {
    const Json* value = find(parent, key);
    if (value == nullptr || !value->is_number()) {
      refuse(path + key, value, "a number");
      return 0;
    }
    return value->get<double>();
  }
  bool flag(const Json& parent, const char* key, const std::string& path) {
    const Json* value = find(parent, key);
    if (value == nullptr || !value->is_boolean()) {
      refuse(path + key, value, "true or false");
      return false;
    }
    return value->get<bool>();
  }
  std::vector<std::string> optional_texts(const Json& parent, const char* key,
                                          const std::string& path) {
    return find(parent, key) == nullptr ? std::vector<std::string>() : texts(parent, key, path);
  }
  std::vector<std::string> texts(const Json& parent, const char* key, const std::string& path) {
    std::vector<std::string> out;
    const Json* values = array(parent, key, path);
    for (std::size_t i = 0; values != nullptr && i < values->size() && ok(); ++i) {
      if (!(*values)[i].is_string()) {
        refuse(path + key + "[" + std::to_string(i) + "]", &(*values)[i], "a string");
      } else {
        out.push_back((*values)[i].get<std::string>());
      }
    }
    return out;
  }
  std::vector<std::int64_t> integers(const Json& parent, const char* key, const std::string& path) {
    std::vector<std::int64_t> out;
    const Json* values = array(parent, key, path);
    for (std::size_t i = 0; values != nullptr && i < values->size() && ok(); ++i) {
      out.push_back(
          integer_of<std::int64_t>((*values)[i], path + key + "[" + std::to_string(i) + "]"));
    }
    return out;
  }
  template <class Integer>
  Integer integer_of(const Json& value, const std::string& path) {
    if (value.is_string()) {
      const auto& digits = value.get_ref<const std::string&>();
      Integer out = 0;
      const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), out);
      if (error == std::errc{} && end == digits.data() + digits.size()) {
        return out;
      }
    } else if (value.is_number_unsigned() && std::in_range<Integer>(value.get<std::uint64_t>())) {
      return static_cast<Integer>(value.get<std::uint64_t>());
    } else if (value.is_number_integer() && !value.is_number_unsigned() &&
               std::in_range<Integer>(value.get<std::int64_t>())) {
      return static_cast<Integer>(value.get<std::int64_t>());
    }
    refuse(path, &value, "an integer");
    return 0;
  }
  Code code(const Json& parent, const char* key, const std::string& path) {
    const std::string word = text(parent, key, path);
    if (const auto code = code_from_text(word)) {
      return *code;
    }
    refuse(path + key, find(parent, key), "a code of this version, such as BV2006");
    return Code::Assertion;
  }

  static const Json* find(const Json& parent, const char* key) {
    const auto at = parent.find(key);
    return at == parent.end() ? nullptr : &*at;
  }

 private:
  const Json* child(const Json& parent, const char* key, const std::string& path,
                    Json::value_t type, std::string_view wanted) {
    const Json* value = find(parent, key);
    if (value == nullptr || value->type() != type) {
      refuse(path + key, value, wanted);
      return nullptr;
    }
    return value;
  }
  template <class Integer>
  Integer missing(const std::string& path) {
    refuse(path, nullptr, "an integer");
    return 0;
  }

  std::string file_;
  std::optional<Error> fault_;
};

}  // namespace bv
