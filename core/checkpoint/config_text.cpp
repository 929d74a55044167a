#include "core/checkpoint/config_text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/base/json_mistake.hpp"
#include "core/base/text.hpp"
#include "core/io/utf8.hpp"

namespace bv::checkpoint {
namespace fs = std::filesystem;

namespace {

Error not_json(std::string_view text, std::size_t byte, const std::string& file,
               std::string_view reason) {
  JsonMistake mistake = json_mistake(text, byte == 0 ? 0 : byte - 1, reason);
  Error error = fail(Code::ConfigField, fmt::format("{} is not JSON: line {}, column {}: {}",
                                                    fs::path(file).filename().string(),
                                                    mistake.line, mistake.column, mistake.what))
                    .at(mistake.place(file))
                    .advise("fix that line");
  error.facts = std::move(mistake.facts);
  return error;
}

struct ConstantName {
  std::string_view text;
  std::string_view number;  // of the same length: errors keep their column
  double value;
};
constexpr std::array kConstants = {
    ConstantName{"-Infinity", "-1.000000", -std::numeric_limits<double>::infinity()},
    ConstantName{"Infinity", "1.000000", std::numeric_limits<double>::infinity()},
    ConstantName{"NaN", "1.0", std::numeric_limits<double>::quiet_NaN()},
};

/// One of the constants where a value may stand.
struct Constant {
  std::size_t begin = 0;
  const ConstantName* name = nullptr;
};

bool is_word(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
         c == '+' || c == '-' || c == '.';
}

std::vector<Constant> find_constants(std::string_view text) {
  std::vector<Constant> out;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (in_string) {
      i += text[i] == '\\' ? 1U : 0U;
      in_string = i >= text.size() || text[i] != '"';
      continue;
    }
    in_string = text[i] == '"';
    if (in_string || (i > 0 && is_word(text[i - 1]))) {
      continue;
    }
    for (const ConstantName& known : kConstants) {
      const std::size_t end = i + known.text.size();
      if (text.substr(i).starts_with(known.text) && (end == text.size() || !is_word(text[end]))) {
        out.push_back({i, &known});
        break;
      }
    }
  }
  return out;
}

/// The text with numbers in place of the constants: what is wrong in it is wrong without them.
std::string as_numbers(std::string_view text, const std::vector<Constant>& constants) {
  std::string out(text);
  for (const Constant& constant : constants) {
    out.replace(constant.begin, constant.name->text.size(), constant.name->number);
  }
  return out;
}

/// A word that stands nowhere in the text, to mark the constants by.
std::string unused_word(std::string_view text) {
  std::string word = "constant";
  while (text.find(word) != std::string_view::npos) {
    word += '_';
  }
  return word;
}

void put_values(nlohmann::json& node, const std::string& word,
                const std::vector<Constant>& constants) {
  if (node.is_structured()) {
    for (nlohmann::json& item : node) {
      put_values(item, word, constants);
    }
  } else if (node.is_string() && node.get_ref<const std::string&>().starts_with(word)) {
    const std::size_t number = std::stoul(node.get_ref<const std::string&>().substr(word.size()));
    node = constants[number].name->value;
  }
}

/// The text, known to be right but for its constants.
nlohmann::json with_constants(std::string_view text, const std::vector<Constant>& constants) {
  const std::string word = unused_word(text);
  std::string marked;
  std::size_t at = 0;
  for (std::size_t i = 0; i < constants.size(); ++i) {
    marked += text.substr(at, constants[i].begin - at);
    marked += fmt::format("\"{}{}\"", word, i);
    at = constants[i].begin + constants[i].name->text.size();
  }
  marked += text.substr(at);
  auto json = nlohmann::json::parse(marked);
  put_values(json, word, constants);
  return json;
}

/// Replaces numbers that are not finite by a string that starts with `word`.
void mark_values(nlohmann::json& node, const std::string& word) {
  if (node.is_structured()) {
    for (nlohmann::json& item : node) {
      mark_values(item, word);
    }
  } else if (node.is_number_float() && !std::isfinite(node.get<double>())) {
    const double value = node.get<double>();
    node = word + (std::isnan(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity");
  }
}

}  // namespace

std::size_t json_depth(std::string_view text) {
  std::size_t depth = 0;
  std::size_t deepest = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      i += c == '\\' ? 1 : 0;
      in_string = c != '"';
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      deepest = std::max(deepest, ++depth);
    } else if ((c == '}' || c == ']') && depth > 0) {
      --depth;
    }
  }
  return deepest;
}

Result<nlohmann::json> parse_config(std::string_view text, const std::string& file) {
  if (text.size() > kConfigBytesMax) {
    return fail(Code::ConfigField, fmt::format("{} has {} bytes", file,
                                               thousands(static_cast<std::int64_t>(text.size()))))
        .at(file)
        .pair(human_bytes(text.size()), fmt::format("at most {}", human_bytes(kConfigBytesMax)))
        .advise("this is not the config of a model");
  }
  if (const std::size_t depth = json_depth(text); depth > kJsonDepthMax) {
    return fail(Code::ConfigField, fmt::format("{} nests {} brackets", file, depth))
        .at(file)
        .pair(std::to_string(depth), fmt::format("at most {}", kJsonDepthMax))
        .advise("this is not the config of a model");
  }
  if (text.starts_with("\xef\xbb\xbf")) {  // nlohmann would skip it, Python refuses it
    return fail(Code::ConfigField, fmt::format("{} begins with a byte order mark", file))
        .at(file)
        .pair("EF BB BF", "UTF-8 without a mark, as transformers reads it")
        .advise("save the file as UTF-8 without a byte order mark");
  }
  const std::vector<Constant> constants = find_constants(text);
  try {
    auto json =
        nlohmann::json::parse(constants.empty() ? std::string(text) : as_numbers(text, constants));
    if (!json.is_object()) {
      return fail(Code::ConfigField, fmt::format("{} is not a JSON object", file))
          .at(file)
          .pair(json.type_name(), "an object")
          .advise("give the config.json that transformers wrote");
    }
    return constants.empty() ? std::move(json) : with_constants(text, constants);
  } catch (const nlohmann::json::parse_error& problem) {
    return not_json(text, problem.byte, file, json_reason(problem.what()));
  } catch (const nlohmann::json::exception& problem) {
    return not_json(text, 0, file, problem.what());
  }
}

namespace {

/// A name of the path is empty (`node` is null), or what it leads to is not an object.
Error no_object(const nlohmann::json& config, const std::pair<std::string, std::string>& setting,
                const std::string& above, const nlohmann::json* node) {
  const auto& [path, value] = setting;
  const std::string last = path.substr(path.rfind('.') + 1);  // npos + 1 is 0
  const bool at_the_top = config.is_object() && config.contains(last) && !last.empty();
  return fail(Code::BadValue, node == nullptr || above.empty()
                                  ? fmt::format("--set {}={} has an empty name", path, value)
                              : node->is_null()
                                  ? fmt::format("config.json has no {}", above)
                                  : fmt::format("{} in config.json is not an object", above))
      .at("--set " + path)
      .pair(path, "names of config.json joined by dots")
      .advise(at_the_top ? fmt::format("write --set {}={}", last, value)
                         : "look into config.json for the level of the field");
}

}  // namespace

Status apply_setting(nlohmann::json& config, const std::string& path, const std::string& value) {
  nlohmann::json* node = &config;
  std::string_view left = path;
  while (!left.empty()) {
    const std::size_t dot = std::min(left.find('.'), left.size());
    const std::string key(left.substr(0, dot));
    left.remove_prefix(std::min(dot + 1, left.size()));
    if (key.empty() || !node->is_object()) {
      const std::string above =
          path.substr(0, path.size() - left.size() - key.size() - (left.empty() ? 1 : 2));
      return no_object(config, {path, value}, above, key.empty() ? nullptr : node);
    }
    node = &(*node)[key];
  }
  if (json_depth(value) > kJsonDepthMax) {
    return fail(Code::BadValue, fmt::format("--set {} nests {} brackets", path, json_depth(value)))
        .pair(std::to_string(json_depth(value)), fmt::format("at most {}", kJsonDepthMax))
        .advise("write --set text_config.num_key_value_heads=8");
  }
  if (io::first_invalid_utf8(path) != std::string::npos ||
      io::first_invalid_utf8(value) != std::string::npos) {
    return fail(Code::BadValue, fmt::format("--set {}: the text is not UTF-8", readable(path)))
        .pair(readable(value), "UTF-8, as config.json is")
        .advise("write --set text_config.num_key_value_heads=8");
  }
  for (const ConstantName& known : kConstants) {
    if (value == known.text) {
      *node = known.value;
      return Done{};
    }
  }
  auto parsed = nlohmann::json::parse(value, nullptr, false);
  *node = parsed.is_discarded() ? nlohmann::json(value) : std::move(parsed);
  return Done{};
}

std::string config_text(const nlohmann::json& config) {
  const std::string word = unused_word(config.dump(2));
  nlohmann::json marked = config;
  mark_values(marked, word);
  std::string out = marked.dump(2) + "\n";
  const std::string begin = '"' + word;
  for (std::size_t at = out.find(begin); at != std::string::npos; at = out.find(begin, at)) {
    out.erase(out.find('"', at + begin.size()), 1);
    out.erase(at, begin.size());
  }
  return out;
}

}  // namespace bv::checkpoint
