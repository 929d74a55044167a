#pragma once
// The part of JSON Schema draft-07 that reports/schema uses, for tests.

#include <nlohmann/json.hpp>
#include <regex>
#include <string>
#include <vector>

namespace bv::support {

using Json = nlohmann::ordered_json;

class SchemaCheck {
 public:
  explicit SchemaCheck(const Json& root) : root_(root) {}

  /// Faults as "path: what".
  std::vector<std::string> faults(const Json& value) const {
    std::vector<std::string> out;
    check(root_, value, "$", out);
    return out;
  }

 private:
  static bool is_type(const Json& value, const std::string& type) {
    return (type == "object" && value.is_object()) || (type == "array" && value.is_array()) ||
           (type == "string" && value.is_string()) || (type == "boolean" && value.is_boolean()) ||
           (type == "null" && value.is_null()) ||
           (type == "integer" && value.is_number_integer()) ||
           (type == "number" && value.is_number());
  }

  static bool type_fits(const Json& type, const Json& value) {
    if (type.is_string()) {
      return is_type(value, type);
    }
    return std::any_of(type.begin(), type.end(),
                       [&](const Json& one) { return is_type(value, one); });
  }

  void check_object(const Json& schema, const Json& value, const std::string& path,
                    std::vector<std::string>& out) const {
    if (schema.contains("required")) {
      for (const auto& key : schema["required"]) {
        if (!value.contains(key.get<std::string>())) {
          out.push_back(path + ": lacks " + key.get<std::string>());
        }
      }
    }
    for (const auto& [key, child] : value.items()) {
      if (schema.contains("properties") && schema["properties"].contains(key)) {
        check(schema["properties"][key], child, path + "." + key, out);
      } else if (schema.contains("additionalProperties") &&
                 schema["additionalProperties"].is_object()) {
        check(schema["additionalProperties"], child, path + "." + key, out);
      } else if (schema.contains("properties")) {
        out.push_back(path + ": " + key + " is not in the schema");
      }
    }
  }

  void check(const Json& schema, const Json& value, const std::string& path,
             std::vector<std::string>& out) const {
    if (schema.contains("$ref")) {
      const auto name =
          schema["$ref"].get<std::string>().substr(std::string("#/definitions/").size());
      return check(root_.at("definitions").at(name), value, path, out);
    }
    if (schema.contains("anyOf")) {
      for (const Json& choice : schema["anyOf"]) {
        std::vector<std::string> mine;
        check(choice, value, path, mine);
        if (mine.empty()) {
          return;
        }
      }
      out.push_back(path + ": fits no choice");
      return;
    }
    if (schema.contains("const") && schema["const"] != value) {
      out.push_back(path + ": is not " + schema["const"].dump());
    }
    if (schema.contains("enum") &&
        std::find(schema["enum"].begin(), schema["enum"].end(), value) == schema["enum"].end()) {
      out.push_back(path + ": " + value.dump() + " is not in the list");
    }
    if (schema.contains("type") && !type_fits(schema["type"], value)) {
      out.push_back(path + ": " + value.dump().substr(0, 40) + " is no " + schema["type"].dump());
      return;
    }
    if (schema.contains("minimum") && value < schema["minimum"]) {
      out.push_back(path + ": is too small");
    }
    if (schema.contains("pattern") && value.is_string() &&
        !std::regex_search(value.get<std::string>(),
                           std::regex(schema["pattern"].get<std::string>()))) {
      out.push_back(path + ": " + value.dump() + " does not match");
    }
    if (value.is_object()) {
      check_object(schema, value, path, out);
    }
    if (value.is_array() && schema.contains("items")) {
      for (std::size_t i = 0; i < value.size(); ++i) {
        check(schema["items"], value[i], path + "[" + std::to_string(i) + "]", out);
      }
    }
  }

  Json root_;
};

}  // namespace bv::support
