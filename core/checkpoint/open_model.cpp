#include "core/checkpoint/open_model.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "core/base/text.hpp"
#include "core/checkpoint/config_edit.hpp"
#include "core/checkpoint/dequantise.hpp"
#include "core/checkpoint/dtype_notes.hpp"
#include "core/family/family.hpp"
#include "core/io/digest.hpp"
#include "core/io/entry.hpp"
#include "core/io/fault_text.hpp"
#include "core/io/utf8.hpp"
#include "core/io/writer.hpp"
#include "core/plan/size_bounds.hpp"
#include "core/quantised/quantised.hpp"

namespace bv::checkpoint {
namespace fs = std::filesystem;

namespace {

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

Result<model::FamilyChoice> choose(const nlohmann::json& config,
                                   const std::vector<family::FamilyPtr>& families,
                                   const OpenOptions& options) {
  if (!options.family.empty()) {
    BV_TRY(family, family_by_name(options.family, families));
    return model::FamilyChoice{family, {"family", family::name(*family), "--family"}};
  }
  auto choice = model::choose(config, families);
  if (choice || choice.error().code != Code::ArchitectureUnknown || !options.fallback) {
    return choice;
  }
  return model::FamilyChoice{
      options.fallback, {"family", family::name(*options.fallback), "no family knows it; --rules"}};
}

Result<model::Model> resolve_with(const family::FamilyPtr& family, const nlohmann::json& config,
                                  const Headers& headers, const OpenOptions& options,
                                  const model::ResolveOptions& resolve) {
  const bool by_view = options.fallback_view && family == options.fallback;
  return model::resolve(family, by_view ? options.fallback_view(config) : config, headers, resolve);
}

/// The family that the architecture names says of itself that it is not about this config.
bool is_unfit(const Error& error, const model::FamilyChoice& choice, const OpenOptions& options) {
  return error.code == Code::ConfigField && options.fallback && options.family.empty() &&
         choice.family != options.fallback;
}

/// Rules of one's own are judged all the same: what the family does not build, others may.
Result<model::Model> resolve_or_fall_back(model::FamilyChoice& choice, const nlohmann::json& config,
                                          const Headers& headers, const OpenOptions& options,
                                          const model::ResolveOptions& resolve) {
  auto resolved = resolve_with(choice.family, config, headers, options, resolve);
  if (resolved || !is_unfit(resolved.error(), choice, options)) {
    return resolved;
  }
  auto other = resolve_with(options.fallback, config, headers, options, resolve);
  if (!other) {
    return resolved;
  }
  choice.reason.because = fmt::format("{} is not about this config: {}; --rules",
                                      family::name(*choice.family), resolved.error().message);
  choice.family = options.fallback;
  choice.reason.value = family::name(*options.fallback);
  return other;
}

/// The text of a config with settings in it; `config` is what they make of it.
std::string with_settings(std::string text, const nlohmann::json& config,
                          const std::vector<std::pair<std::string, std::string>>& settings) {
  if (settings.empty()) {
    return text;
  }
  for (const auto& [path, value] : settings) {
    const bool is_json = nlohmann::json::accept(value);
    text = with_member(text, path, is_json ? value : nlohmann::json(value).dump());
  }
  const auto edited = parse_config(text, "config.json");
  const std::string whole = config_text(config);
  return edited && config_text(*edited) == whole ? text : whole;
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

/// With --match the other tensors are no subjects, but for those that an asked parameter is made
/// of.
void keep_asked(const model::NameFilter& filter, const model::Model& model, Headers& headers) {
  if (filter.match.empty()) {
    return;
  }
  std::set<std::string_view> used;
  for (const model::Mapping& mapping : model.mappings) {
    used.insert(mapping.hf.begin(), mapping.hf.end());
  }
  std::erase_if(headers, [&](const auto& header) {
    return !used.contains(header.first) &&
           std::none_of(filter.match.begin(), filter.match.end(),
                        [&](const std::string& glob) { return glob_match(glob, header.first); });
  });
}

/// model_type and architecture, as the config says them. A config without a model_type has the
/// one of its family, when there is but one.
void name_classes(const nlohmann::json& config, const family::Family* family, HfModel& out) {
  out.model_type = text_at(config, "model_type");
  if (out.model_type.empty() && family != nullptr && family->model_types.size() == 1) {
    out.model_type = family->model_types.front();
  }
  if (const auto names = config.find("architectures");
      names != config.end() && names->is_array() && !names->empty()) {
    out.architecture = names->front().is_string() ? names->front().get<std::string>() : "";
  }
}

struct PlainWeights {
  std::vector<Dequantised> weights;
  std::vector<std::string> notes;
  std::string config_text;  // with what it says of a quantisation, and with the settings
};

/// Quantised weights as those that they stand for: headers and config say nothing else from now on.
/// Errors: QuantisedSource when nobody asked for it or a weight has no form.
Result<PlainWeights> as_plain(quantised::Source source, const OpenOptions& options,
                              nlohmann::json& config, std::string& config_text, Headers& headers) {
  if (!options.dequantise || !quantised::can_dequantise(source)) {
    return quantised::refusal(source);
  }
  PlainWeights out;
  out.notes = std::move(source.taken);
  std::ranges::move(source.contradictions, std::back_inserter(out.notes));
  const std::string summary = quantised::summary(source);
  out.config_text = with_settings(config_text, config, options.settings);
  BV_TRY(weights, take_dequantised(std::move(source), *options.dequantise, headers));
  out.weights = std::move(weights);
  out.notes.push_back(dequantised_note(out.weights, summary));
  drop_quantisation(config, config_text);
  return out;
}

/// The text of config.json. Errors: NoConfig.
Result<std::string> read_config(const fs::path& folder) {
  if (!io::has_entry(folder / "config.json")) {
    return fail(Code::NoConfig, fmt::format("{} has no config.json", folder.string()))
        .at(folder.string())
        .advise("give the directory that transformers save_pretrained wrote");
  }
  return io::read_file(folder / "config.json", kConfigBytesMax, Code::ConfigField);
}

}  // namespace

std::string header_digest(const Headers& headers) {
  io::Digest digest;
  for (const auto& [tensor, spec] : headers) {
    digest.add(tensor);
    digest.add(fmt::format("\n{} {}\n", name(spec.dtype), fmt::join(spec.shape, ",")));
  }
  return digest.hex();
}

namespace {

bool has_field(const nlohmann::json& config, std::string_view path) {
  const nlohmann::json* node = &config;
  while (!path.empty()) {
    const std::size_t dot = std::min(path.find('.'), path.size());
    if (!node->is_object()) {
      return false;
    }
    const auto found = node->find(std::string(path.substr(0, dot)));
    if (found == node->end()) {
      return false;
    }
    node = &*found;
    path.remove_prefix(std::min(dot + 1, path.size()));
  }
  return true;
}

/// The fields that were not there before.
Result<std::vector<std::string>> apply_settings(
    const std::vector<std::pair<std::string, std::string>>& settings, nlohmann::json& config) {
  std::vector<std::string> out;
  for (const auto& [path, value] : settings) {
    if (!has_field(config, path)) {
      out.push_back(path);
    }
    BV_CHECK(apply_setting(config, path, value));
  }
  return out;
}

/// A field that is new in the config and that no size came from: misspelt, or at another level than
/// the one that the family reads.
void add_unread_settings(const std::vector<std::string>& new_fields,
                         const model::Geometry& geometry, std::vector<std::string>& notes) {
  for (const std::string& path : new_fields) {
    const bool read =
        std::any_of(geometry.origin.begin(), geometry.origin.end(), [&](const auto& origin) {
          return origin.second == path || origin.second.starts_with(path + " ");
        });
    if (!read) {
      notes.push_back(fmt::format(
          "--set {}: config.json has no such field, and no size of the model comes from it",
          io::printable(path)));
    }
  }
}

/// What --exclude takes, and what it took once.
Result<std::set<std::string, std::less<>>> take_left_out(const OpenOptions& options,
                                                         Headers& headers) {
  BV_TRY(out, model::excluded_names(options.filter, headers));
  // Also where it is not there any more: in what came back of a folder that was written without it.
  out.insert(options.resolve.left_out.begin(), options.resolve.left_out.end());
  for (const std::string& name : out) {
    headers.erase(name);
  }
  return std::move(out);
}

}  // namespace

Result<HfModel> open_headers(std::string config_text, const std::string& config_file,
                             Headers headers, const std::vector<family::FamilyPtr>& families,
                             const OpenOptions& options) {
  BV_TRY(config, parse_config(config_text, config_file));
  BV_TRY(new_fields, apply_settings(options.settings, config));
  model::ResolveOptions resolve = options.resolve;
  std::vector<std::string> excluded;
  if (!resolve.config_only) {
    BV_TRY(left_out, take_left_out(options, headers));
    excluded.assign(left_out.begin(), left_out.end());
    resolve.left_out = std::move(left_out);
    resolve.match = options.filter.match;
  }
  auto quantised = quantised::find(headers, config);
  auto choice = choose(config, families, options);
  if (!choice) {
    Error error = std::move(choice).error();
    if (error.code == Code::ArchitectureUnknown && quantised) {
      error.facts.push_back("its weights are quantised: " + quantised::summary(*quantised));
    }
    return error;
  }
  PlainWeights plain;
  if (quantised) {
    auto made = as_plain(*std::move(quantised), options, config, config_text, headers);
    if (!made) {
      return std::move(made).error().at(config_file);
    }
    plain = std::move(*made);
  }
  auto resolved = resolve_or_fall_back(*choice, config, headers, options, resolve);
  if (!resolved) {
    Error error = std::move(resolved).error();
    if (error.where.empty()) {
      error.where = config_file;
    }
    return error;
  }
  if (auto status = plan::check_size_bounds(*resolved, headers); !status) {
    return std::move(status).error().at(config_file);
  }
  keep_asked(options.filter, *resolved, headers);
  HfModel out;
  out.chosen = choice->reason;
  out.excluded = std::move(excluded);
  name_classes(config, choice->family.get(), out);
  // Settings become part of the config that is carried along, so that the way back reads the same
  // numbers.
  out.config_text = with_settings(std::move(config_text), config, options.settings);
  out.settings = options.settings;
  out.base = choice->family;
  out.header_digest = header_digest(headers);
  out.headers = std::move(headers);
  out.resolve = std::move(resolve);
  out.model = std::move(*resolved);
  out.dequantised = std::move(plain.weights);
  out.quantised_config = std::move(plain.config_text);
  if (!options.resolve.config_only) {
    out.notes = dtype_notes(config, out.headers, out.dequantised);
    out.notes.insert(out.notes.end(), plain.notes.begin(), plain.notes.end());
  }
  add_unread_settings(new_fields, out.model.geometry, out.notes);
  return out;
}

Result<HfModel> open_hf(const fs::path& folder, const std::vector<family::FamilyPtr>& families,
                        const OpenOptions& options) {
  const std::string config_file = (folder / "config.json").string();
  BV_TRY(text, read_config(folder));
  BV_TRY(checkpoint, io::Checkpoint::open_partial(folder, options.strict));
  const bool whole = checkpoint.missing().empty();
  if (!whole && !(options.absent_shards && names_are_known(checkpoint))) {
    return checkpoint.missing_error();
  }
  for (const auto& [path, value] : options.additions.members) {
    text = with_member(text, path, value);
  }
  Headers headers = names_of(checkpoint);
  for (const TensorSpec& spec : options.additions.tensors) {
    headers.insert_or_assign(spec.name, spec);
  }
  BV_TRY(out, open_headers(std::move(text), config_file, std::move(headers), families, options));
  out.folder = folder;
  out.files = checkpoint.files().size();
  if (whole) {
    out.checkpoint.emplace(std::move(checkpoint));
    if (auto status = add_dequantised(out.dequantised, *out.checkpoint); !status) {
      return std::move(status).error().at(config_file);
    }
  } else {
    out.incomplete = checkpoint.missing_error();
    out.notes.clear();  // the dtypes of absent shards are not known
  }
  return std::move(out);
}

Result<HfModel> open_without_family(const fs::path& folder, const OpenOptions& options) {
  const std::string config_file = (folder / "config.json").string();
  HfModel out;
  BV_TRY(text, read_config(folder));
  BV_TRY(config, parse_config(text, config_file));
  BV_TRY(checkpoint, io::Checkpoint::open(folder, options.strict));
  out.headers = checkpoint.headers();
  if (const auto quantised = quantised::find(out.headers, config)) {
    return quantised::refusal(*quantised).at(config_file);
  }
  out.folder = folder;
  name_classes(config, nullptr, out);
  out.config_text = std::move(text);
  out.header_digest = header_digest(out.headers);
  out.files = checkpoint.files().size();
  out.notes = dtype_notes(config, out.headers);
  out.checkpoint.emplace(std::move(checkpoint));
  return out;
}

}  // namespace bv::checkpoint
