#include "core/foreign/rules_file.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/base/text.hpp"
#include "core/family/builtin_files.hpp"
#include "core/kinds/value_rule.hpp"

namespace bv::foreign {
namespace {

using nlohmann::json;

Error invalid(const std::string& where, std::string message) {
  return fail(Code::RulesInvalid, std::move(message))
      .at(where)
      .advise("correct the file, or export the rules again");
}

/// JSON of bounded depth; a fault names line and column.
Result<json> parse_json(std::string_view text, const std::string& file) {
  constexpr int kDepthMax = 32;
  if (text.size() > kRulesFileBytesMax) {
    return invalid(file, fmt::format("a rules file of {} bytes is above the limit of {}",
                                     text.size(), kRulesFileBytesMax));
  }
  bool deep = false;
  try {
    auto out = json::parse(text, [&deep](int depth, json::parse_event_t, json&) {
      deep = deep || depth > kDepthMax;
      return depth <= kDepthMax;
    });
    if (deep) {
      return invalid(file, fmt::format("it is nested deeper than {} levels", kDepthMax));
    }
    return out;
  } catch (const json::out_of_range& error) {
    return invalid(file, "it holds a number that is too large")
        .pair(error.what(), "numbers of at most 63 bits");
  } catch (const json::parse_error& error) {
    const auto before = text.substr(0, std::min(error.byte == 0 ? 0 : error.byte - 1, text.size()));
    const auto line = std::count(before.begin(), before.end(), '\n') + 1;
    const std::size_t start = before.rfind('\n');
    const std::size_t column =
        before.size() - (start == std::string_view::npos ? 0 : start + 1) + 1;
    return invalid(fmt::format("{}:{}:{}", file, line, column), "it is not JSON");
  }
}

std::string text_at(const json& object, const char* key) {
  const auto found = object.is_object() ? object.find(key) : object.end();
  return object.is_object() && found != object.end() && found->is_string()
             ? found->get<std::string>()
             : "";
}

std::vector<std::string> texts_at(const json& object, const char* key) {
  std::vector<std::string> out;
  if (const auto found = object.find(key); found != object.end() && found->is_array()) {
    for (const json& one : *found) {
      if (one.is_string()) {
        out.push_back(one.get<std::string>());
      }
    }
  }
  return out;
}

std::string source_of(const json& row, const std::string& file, std::size_t position) {
  if (const auto source = row.find("source"); source != row.end() && source->is_object()) {
    const std::string path = text_at(*source, "file");
    const auto line = source->find("line");
    if (!path.empty()) {
      return line != source->end() && line->is_number_integer()
                 ? fmt::format("{}:{}", path, line->get<std::int64_t>())
                 : path;
    }
  }
  return fmt::format("{}: rule {}", file, position + 1);
}

/// "values": one value rule, or a list of them to be done one after the other.
Result<std::string> value_in(const json& row, const std::string& where) {
  const auto values = row.find("values");
  if (values == row.end() || values->is_null()) {
    return std::string();
  }
  const std::string value =
      values->is_string() ? values->get<std::string>() : join(texts_at(row, "values"), " ");
  const bool texts =
      values->is_string() ||
      (values->is_array() && std::all_of(values->begin(), values->end(),
                                         [](const json& one) { return one.is_string(); }));
  if (!texts || !kinds::is_value_rule(value)) {
    return invalid(where, fmt::format("\"values\" {} is not a value rule", escaped(values->dump())))
        .pair(escaped(values->dump()), "minus_one, plus_one, or a list of them");
  }
  return value;
}

std::optional<bool> transposed_in(const json& row) {
  const auto parameters = row.find("parameters");
  if (parameters == row.end() || !parameters->is_object()) {
    return std::nullopt;
  }
  for (const char* key : {"transpose", "transpose_on_export"}) {
    if (const auto flag = parameters->find(key); flag != parameters->end() && flag->is_boolean()) {
      return flag->get<bool>();
    }
  }
  return std::nullopt;
}

/// permute_dims: every dimension once. A permutation that moves nothing counts as none.
Status read_permutation(const json& row, const std::string& where, ForeignRule& rule) {
  constexpr std::size_t kDimensionsMax = 8;
  const auto parameters = row.find("parameters");
  if (parameters == row.end() || !parameters->is_object()) {
    return Done{};
  }
  const auto dims = parameters->find("permute_dims");
  if (dims == parameters->end() || dims->is_null()) {
    return Done{};
  }
  std::vector<bool> seen(dims->is_array() ? dims->size() : 0, false);
  bool right = dims->is_array() && !dims->empty() && dims->size() <= kDimensionsMax;
  for (std::size_t i = 0; right && i < dims->size(); ++i) {
    const json& one = (*dims)[i];
    right = one.is_number_unsigned() && one.get<std::uint64_t>() < seen.size() &&
            !seen[one.get<std::size_t>()];
    if (right) {
      seen[one.get<std::size_t>()] = true;
      rule.permutation.push_back(one.get<std::int64_t>());
    }
  }
  if (!right) {
    return invalid(where, "\"permute_dims\" is not a permutation of the dimensions")
        .pair(
            escaped(shortened(dims->dump(-1, ' ', true, json::error_handler_t::replace), 60, true)),
            "each of 0, 1, .. once, such as [1, 0]");
  }
  if (std::is_sorted(rule.permutation.begin(), rule.permutation.end())) {
    rule.permutation.clear();
  }
  rule.transposed = rule.transposed.value_or(!rule.permutation.empty());
  return Done{};
}

Status read_hf(const json& hf, const std::string& where, ForeignRule& rule) {
  if (hf.is_string()) {
    rule.hf = {{"", hf.get<std::string>()}};
    return Done{};
  }
  if (!hf.is_object() || hf.empty()) {
    return invalid(where, "\"hf\" is neither a name nor an object of names by role");
  }
  for (const auto& [role, name] : hf.items()) {
    if (!name.is_string()) {
      return invalid(where, fmt::format("hf.{} is not a name", escaped(role)));
    }
    rule.hf.emplace_back(role, name.get<std::string>());
  }
  return Done{};
}

Result<ForeignRule> read_rule(const json& row, const std::string& file, std::size_t position) {
  const std::string where = fmt::format("{}: rule {}", file, position + 1);
  if (!row.is_object()) {
    return invalid(where, "a rule is not an object");
  }
  ForeignRule out;
  out.position = position;
  out.id = text_at(row, "id").empty() ? fmt::format("r{}", position) : text_at(row, "id");
  out.kind = text_at(row, "kind").empty() ? text_at(row, "class") : text_at(row, "kind");
  out.megatron = text_at(row, "megatron");
  out.transposed = transposed_in(row);
  BV_TRY(value, value_in(row, where));
  out.value = std::move(value);
  out.source = source_of(row, file, position);
  const auto hf = row.find("hf");
  if (out.megatron.empty() || out.kind.empty() || hf == row.end()) {
    return invalid(where, fmt::format("it has no \"{}\"", out.megatron.empty() ? "megatron"
                                                          : out.kind.empty()   ? "kind"
                                                                               : "hf"));
  }
  BV_CHECK(read_hf(*hf, where, out));
  BV_CHECK(read_permutation(row, where, out));
  std::size_t most = wildcards(out.megatron);
  for (const auto& [role, pattern] : out.hf) {
    most = std::max(most, wildcards(pattern));
  }
  if (most > kWildcardsMax) {
    return invalid(
        where, fmt::format("a name has {} wildcards, at most {} are taken", most, kWildcardsMax));
  }
  return out;
}

}  // namespace

Result<ForeignRules> parse_rules_file(std::string_view text, const std::string& file) {
  BV_TRY(top, parse_json(text, file));
  const std::string schema = text_at(top, "schema");
  if (schema != "bridge-rules/1") {
    return invalid(file, "it is not a rules file")
        .pair(schema.empty() ? "no schema" : escaped(schema), "schema bridge-rules/1");
  }
  const auto rows = top.find("rules");
  if (rows == top.end() || !rows->is_array() || rows->empty() || rows->size() > kForeignRulesMax) {
    return invalid(file, fmt::format("\"rules\" is not a list of 1 to {} rules", kForeignRulesMax));
  }
  ForeignRules out;
  out.file = file;
  if (const auto upstream = top.find("upstream"); upstream != top.end()) {
    out.commit = text_at(*upstream, "commit");
    out.bridge_class = text_at(*upstream, "bridge_class");
  }
  if (const auto selects = top.find("selects"); selects != top.end() && selects->is_object()) {
    out.architectures = texts_at(*selects, "architectures");
  }
  for (std::size_t i = 0; i < rows->size(); ++i) {
    BV_TRY(rule, read_rule((*rows)[i], file, i));
    out.rules.push_back(std::move(rule));
  }
  return out;
}

namespace {

std::map<std::string, std::string, std::less<>> words_at(const json& row, const char* key) {
  std::map<std::string, std::string, std::less<>> out;
  if (const auto found = row.find(key); found != row.end()) {
    for (const auto& [name, text] : found->items()) {
      out[name] = text.get<std::string>();
    }
  }
  return out;
}

ForeignKind read_kind(const json& row) {
  ForeignKind out;
  out.names = texts_at(row, "names");
  out.kind = text_at(row, "kind");
  out.is_auto = row.value("auto", false);
  out.packed = row.value("packed", false);
  for (const json& roles : row.at("sources")) {
    out.sources.push_back(roles.get<std::vector<std::string>>());
  }
  out.axes = words_at(row, "axes");
  out.when = words_at(row, "when");
  if (row.contains("rest")) {
    out.rest = row.at("rest").get<std::size_t>();
  }
  out.value = text_at(row, "value");
  out.line = text_at(row, "line");
  if (const auto transposed = row.find("transposed"); transposed != row.end()) {
    out.transposed_kind = text_at(*transposed, "kind");
    out.transposed_axes = words_at(*transposed, "axes");
  }
  return out;
}

bool any_glob(const std::vector<std::string>& globs, std::string_view text) {
  return std::any_of(globs.begin(), globs.end(),
                     [text](const std::string& glob) { return glob_match(glob, text); });
}

}  // namespace

Result<ForeignKinds> foreign_kinds() {
  constexpr std::string_view kName = "upstream_classes";
  for (const family::BuiltinFile& file : family::builtin_tables_files()) {
    if (file.name.find(kName) == std::string_view::npos) {
      continue;
    }
    try {
      const json top = json::parse(file.text);
      ForeignKinds out;
      for (const json& row : top.at("classes")) {
        out.kinds.push_back(read_kind(row));
      }
      out.auto_replicated = texts_at(top.at("auto"), "replicated");
      out.auto_row = texts_at(top.at("auto"), "row");
      out.auto_row_bias = texts_at(top.at("auto"), "row_bias");
      out.auto_column = texts_at(top.at("auto"), "column");
      for (const json& row : top.at("permuted")) {
        out.permuted.push_back(read_kind(row));
      }
      return out;
    } catch (const json::exception& error) {
      return invalid(std::string(file.name),
                     fmt::format("the table of classes cannot be read: {}", error.what()));
    }
  }
  return invalid(std::string(kName), "this build has no table of classes");
}

const ForeignKind* ForeignKinds::find(std::string_view name) const {
  for (const ForeignKind& one : kinds) {
    if (std::find(one.names.begin(), one.names.end(), name) != one.names.end()) {
      return &one;
    }
  }
  return nullptr;
}

std::string_view ForeignKinds::parallelism(std::string_view megatron) const {
  if (any_glob(auto_replicated, megatron) || any_glob(auto_row_bias, megatron)) {
    return "replicated";
  }
  return any_glob(auto_row, megatron) ? "row" : any_glob(auto_column, megatron) ? "column" : "";
}

std::string foreign_lines(const ForeignKinds& kinds) {
  std::string out;
  for (const auto* list : {&kinds.kinds, &kinds.permuted}) {
    for (const ForeignKind& one : *list) {
      out += one.line.empty() ? "" : one.line + "\n";
    }
  }
  return out;
}

Result<const ForeignKind*> kind_of(const ForeignKinds& kinds, const ForeignRules& rules,
                                   const ForeignRule& rule) {
  if (const ForeignKind* found = kinds.find(rule.kind)) {
    return found;
  }
  std::vector<std::string> known;
  for (const ForeignKind& one : kinds.kinds) {
    known.insert(known.end(), one.names.begin(), one.names.end());
  }
  const auto near = nearest(rule.kind, known);
  return fail(Code::RulesInvalid,
              fmt::format("rule {} has kind \"{}\"", rule.id, escaped(rule.kind)))
      .at(rule.source.empty() ? rules.file : rule.source)
      .fact("megatron " + escaped(rule.megatron))
      .pair(escaped(rule.kind), "a known kind or class")
      .advise(near ? fmt::format("did you mean {}?", *near) : "known: " + join(known, " "));
}

}  // namespace bv::foreign
