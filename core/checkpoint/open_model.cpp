#include "core/checkpoint/open_model.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/base/text.hpp"
#include "core/io/digest.hpp"
#include "core/io/writer.hpp"

namespace bv::checkpoint {
namespace fs = std::filesystem;

namespace {

constexpr std::size_t kShownColumns = 100;

Error not_json(std::string_view text, std::size_t byte, const std::string& file,
               std::string_view reason) {
  const std::size_t at = std::min(byte == 0 ? 0 : byte - 1, text.size());
  const auto line =
      1 + std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(at), '\n');
  const std::size_t start = at == 0 ? 0 : text.rfind('\n', at - 1) + 1;
  const std::size_t column = at - start + 1;
  const std::string_view whole =
      text.substr(start, std::min(text.find('\n', start), text.size()) - start);
  const std::size_t from = column > kShownColumns ? column - kShownColumns : 0;
  return fail(Code::ConfigField,
              fmt::format("{} is not JSON: line {}, column {}: {}",
                          fs::path(file).filename().string(), line, column, reason))
      .at(fmt::format("{}:{}:{}", file, line, column))
      .fact(escaped(whole.substr(from, kShownColumns)))
      .fact(std::string(std::min(column - 1 - from, kShownColumns), ' ') + "^")
      .advise("mend that line of the file");
}

/// The part of nlohmann's message that says what is wrong.
std::string reason_of(std::string_view what) {
  const std::size_t colon = what.rfind("; expected ");
  if (colon != std::string_view::npos) {
    return "expected " + std::string(what.substr(colon + 11));
  }
  if (what.find("unexpected end of input") != std::string_view::npos) {
    return "the file ends too early";
  }
  const std::size_t dash = what.find(" - ");
  return std::string(dash == std::string_view::npos ? what : what.substr(dash + 3));
}

std::string text_at(const nlohmann::json& config, const char* key) {
  const auto found = config.find(key);
  return found != config.end() && found->is_string() ? found->get<std::string>() : "";
}

Result<family::FamilyPtr> family_by_name(const std::string& wanted,
                                         const std::vector<family::FamilyPtr>& families) {
  std::vector<std::string> names;
  for (const family::FamilyPtr& one : families) {
    if (family::name(*one) == wanted) {
      return one;
    }
    names.push_back(family::name(*one));
  }
  const auto near = nearest(wanted, names);
  return fail(Code::ArchitectureUnknown, fmt::format("no family is named {}", escaped(wanted)))
      .pair(escaped(wanted), "one of: " + join(names, " "))
      .advise(near ? fmt::format("did you mean {}?", *near)
                   : "bridge-verify models list shows the families");
}

/// Every name of a partial checkpoint: those of absent shards are known from the index alone.
Headers names_of(const io::Checkpoint& checkpoint) {
  Headers out = checkpoint.headers();
  for (const io::MissingShard& shard : checkpoint.missing()) {
    for (const std::string& name : shard.tensors) {
      out.try_emplace(name, TensorSpec{name, DType::BF16, {}});
    }
  }
  return out;
}

/// Without an index nobody knows which names the absent shards hold.
bool names_are_known(const io::Checkpoint& checkpoint) {
  return std::none_of(checkpoint.missing().begin(), checkpoint.missing().end(),
                      [](const io::MissingShard& shard) { return shard.tensors.empty(); });
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
  try {
    auto json = nlohmann::json::parse(text);
    if (!json.is_object()) {
      return fail(Code::ConfigField, fmt::format("{} holds no JSON object", file))
          .at(file)
          .pair(json.type_name(), "an object")
          .advise("give the config.json that transformers wrote");
    }
    return json;
  } catch (const nlohmann::json::parse_error& problem) {
    return not_json(text, problem.byte, file, reason_of(problem.what()));
  } catch (const nlohmann::json::exception& problem) {
    return not_json(text, 0, file, problem.what());
  }
}

Status apply_setting(nlohmann::json& config, const std::string& path, const std::string& value) {
  nlohmann::json* node = &config;
  std::string_view left = path;
  while (!left.empty()) {
    const std::size_t dot = std::min(left.find('.'), left.size());
    const std::string key(left.substr(0, dot));
    left.remove_prefix(std::min(dot + 1, left.size()));
    if (key.empty() || !node->is_object()) {
      return fail(Code::BadValue,
                  fmt::format("--set {}={}: there is no object at {}", path, value, key))
          .pair(path, "names of config.json joined by dots")
          .advise("write --set text_config.num_key_value_heads=8");
    }
    node = &(*node)[key];
  }
  if (json_depth(value) > kJsonDepthMax) {
    return fail(Code::BadValue, fmt::format("--set {} nests {} brackets", path, json_depth(value)))
        .pair(std::to_string(json_depth(value)), fmt::format("at most {}", kJsonDepthMax))
        .advise("write --set text_config.num_key_value_heads=8");
  }
  auto parsed = nlohmann::json::parse(value, nullptr, false);
  *node = parsed.is_discarded() ? nlohmann::json(value) : std::move(parsed);
  return Done{};
}

std::string header_digest(const Headers& headers) {
  io::Digest digest;
  for (const auto& [tensor, spec] : headers) {
    digest.add(tensor);
    digest.add(fmt::format("\n{} {}\n", name(spec.dtype), fmt::join(spec.shape, ",")));
  }
  return digest.hex();
}

Result<HfModel> open_headers(std::string config_text, const std::string& config_file,
                             Headers headers, const std::vector<family::FamilyPtr>& families,
                             const OpenOptions& options) {
  BV_TRY(config, parse_config(config_text, config_file));
  for (const auto& [path, value] : options.settings) {
    BV_CHECK(apply_setting(config, path, value));
  }
  auto family = options.family.empty() ? model::choose_family(config, families)
                                       : family_by_name(options.family, families);
  if (!family) {
    const bool unknown = family.error().code == Code::ArchitectureUnknown;
    if (!unknown || !options.fallback || !options.family.empty()) {
      return std::move(family).error();
    }
    family = options.fallback;
  }
  const bool by_view = options.fallback_view && *family == options.fallback;
  auto resolved = model::resolve(*family, by_view ? options.fallback_view(config) : config, headers,
                                 options.resolve);
  if (!resolved) {
    Error error = std::move(resolved).error();
    if (error.where.empty()) {
      error.where = config_file;
    }
    return error;
  }
  HfModel out;
  out.model_type = text_at(config, "model_type");
  if (const auto names = config.find("architectures");
      names != config.end() && names->is_array() && !names->empty()) {
    out.architecture = names->front().is_string() ? names->front().get<std::string>() : "";
  }
  // Settings become part of the config that is carried along, so that the way back reads the same
  // numbers.
  out.config_text = options.settings.empty() ? std::move(config_text) : config.dump(2) + "\n";
  out.header_digest = header_digest(headers);
  out.headers = std::move(headers);
  out.resolve = options.resolve;
  out.model = std::move(*resolved);
  return out;
}

Result<HfModel> open_hf(const fs::path& folder, const std::vector<family::FamilyPtr>& families,
                        const OpenOptions& options) {
  const std::string config_file = (folder / "config.json").string();
  std::error_code error;
  if (!fs::exists(folder / "config.json", error)) {
    return fail(Code::NoConfig, fmt::format("{} has no config.json", folder.string()))
        .at(folder.string())
        .advise("give the directory that transformers save_pretrained wrote");
  }
  BV_TRY(text, io::read_file(folder / "config.json", kConfigBytesMax, Code::ConfigField));
  BV_TRY(checkpoint, io::Checkpoint::open_partial(folder, options.strict));
  const bool whole = checkpoint.missing().empty();
  if (!whole && !(options.absent_shards && names_are_known(checkpoint))) {
    return checkpoint.missing_error();
  }
  BV_TRY(out, open_headers(std::move(text), config_file, names_of(checkpoint), families, options));
  out.folder = folder;
  if (whole) {
    out.checkpoint.emplace(std::move(checkpoint));
  } else {
    out.incomplete = checkpoint.missing_error();
  }
  return std::move(out);
}

}  // namespace bv::checkpoint
