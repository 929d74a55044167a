#include "ci/cli/session/written_with.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/base/shell.hpp"
#include "core/base/text.hpp"
#include "core/checkpoint/manifest.hpp"
#include "core/foreign/usual.hpp"
#include "core/io/entry.hpp"
#include "core/io/fault_text.hpp"
#include "core/io/writer.hpp"

namespace bv::cli {
namespace fs = std::filesystem;

namespace {

std::string option_text(std::string_view name, std::string_view value) {
  return value.empty() ? fmt::format("--{}", name)
                       : fmt::format("--{} {}", name, shell_quoted(io::printable(value)));
}

/// The facts of a manifest, one after the other, over the options of a command line.
class Facts {
 public:
  Facts(const checkpoint::MegatronFolder& manifest, std::string who, Options& options)
      : manifest_(manifest), who_(std::move(who)), options_(options) {}

  std::vector<std::string> take_all(bool has_layout) {
    if (has_layout) {
      take_layout();
    }
    const model::ResolveOptions& resolve = manifest_.resolve;
    take("transformer-impl", options_.transformer_impl,
         std::string(resolve.spelling.transformer_engine ? "transformer_engine" : "local"),
         "transformer_engine");
    take_experts(resolve.spelling.grouped_experts);
    flag("drop-mtp", options_.drop_mtp, resolve.drop_mtp);
    take("expert-orientation", options_.expert_orientation,
         std::string(text(resolve.expert_orientation)), "");
    take("dtype", options_.dtype, plan::name(manifest_.dtype), "preserve");
    take_settings();
    for (const std::string& name : resolve.left_out) {
      taken_.push_back(option_text("exclude", name));
    }
    if (manifest_.adapter && !options_.adapter.empty()) {
      flag("untie", options_.untie, manifest_.adapter->untied);
    }
    std::vector<std::string> notes;
    if (!taken_.empty()) {
      notes.push_back(fmt::format("taken from {}, as it was written: {}", who_, shown(taken_)));
    }
    notes.insert(notes.end(), contradictions_.begin(), contradictions_.end());
    return notes;
  }

 private:
  static std::string shown(const std::vector<std::string>& all) {
    constexpr std::size_t kShown = 8;
    std::vector<std::string> first(
        all.begin(), all.begin() + static_cast<std::ptrdiff_t>(std::min(all.size(), kShown)));
    return join(first, ", ") +
           (all.size() > kShown ? fmt::format(" and {} more", all.size() - kShown) : "");
  }

  /// The command line decides what is compared. What a weaker layer says is meant for all commands,
  /// and gives way.
  bool given(std::string_view name) {
    const Setting* said = options_.said(name);
    if (said != nullptr && said->origin != Origin::CommandLine) {
      std::erase_if(options_.given, [&](const Setting& one) { return one.name == name; });
      said = nullptr;
    }
    return said != nullptr;
  }

  void contradicts(const std::string& manifest, const std::string& line) {
    contradictions_.push_back(fmt::format("{} says {}, and {} was given: that is what is compared",
                                          who_, manifest, line));
  }

  template <class Value>
  void take(std::string_view name, Value& to, Value says, const Value& usual) {
    const auto text = [&](const Value& value) {
      if constexpr (std::is_same_v<Value, std::string>) {
        return value.empty() ? fmt::format("no --{}", name) : option_text(name, value);
      } else {
        return value ? option_text(name, std::to_string(*value)) : fmt::format("no --{}", name);
      }
    };
    if (given(name)) {
      if (to != says) {
        contradicts(text(says), text(to));
      }
      return;
    }
    if (says != usual) {
      taken_.push_back(text(says));
    }
    to = std::move(says);
  }
  void take(std::string_view name, std::string& to, std::string says, const char* usual) {
    take<std::string>(name, to, std::move(says), std::string(usual));
  }

  void flag(std::string_view name, bool& to, bool says) {
    if (given(name)) {
      if (to != says) {
        contradicts(fmt::format("no --{}", name), option_text(name, ""));
      }
      return;
    }
    if (says) {
      taken_.push_back(option_text(name, ""));
    }
    to = says;
  }

  void take_layout() {
    const parallel::Layout& layout = manifest_.layout;
    using Number = std::optional<std::int64_t>;
    take<Number>("decoder-first-pipeline-num-layers", options_.first_stage_layers,
                 layout.first_stage_layers, Number());
    take<Number>("decoder-last-pipeline-num-layers", options_.last_stage_layers,
                 layout.last_stage_layers, Number());
    take<Number>("make-vocab-size-divisible-by", options_.vocab_divisor, layout.vocab_divisor,
                 Number());
    take("pipeline-model-parallel-layout", options_.pipeline_layout, layout.pipeline_layout, "");
    flag("account-for-embedding-in-pipeline-split", options_.account_for_embedding,
         layout.account_for_embedding);
    flag("account-for-loss-in-pipeline-split", options_.account_for_loss, layout.account_for_loss);
  }

  void take_experts(bool grouped) {
    const bool said = given("moe-grouped-gemm");
    if (given("no-moe-grouped-gemm") || said) {
      if (options_.sequential_experts == grouped) {
        contradicts(grouped ? "--moe-grouped-gemm" : "--no-moe-grouped-gemm",
                    grouped ? "--no-moe-grouped-gemm" : "--moe-grouped-gemm");
      }
      return;
    }
    if (!grouped) {
      taken_.emplace_back("--no-moe-grouped-gemm");
    }
    options_.sequential_experts = !grouped;
    options_.grouped_experts = false;
  }

  /// A field that was given stays as it was given; the others come first, as they were set.
  void take_settings() {
    if (!given("set")) {
      options_.settings.clear();
    }
    std::vector<std::pair<std::string, std::string>> all;
    const auto both = [](const auto& one) {
      return option_text("set", one.first + "=" + one.second);
    };
    for (const auto& setting : manifest_.settings) {
      const auto same = std::find_if(options_.settings.begin(), options_.settings.end(),
                                     [&](const auto& one) { return one.first == setting.first; });
      if (same == options_.settings.end()) {
        all.push_back(setting);
        taken_.push_back(both(setting));
      } else if (same->second != setting.second) {
        contradicts(both(setting), both(*same));
      }
    }
    all.insert(all.end(), options_.settings.begin(), options_.settings.end());
    options_.settings = std::move(all);
  }

  const checkpoint::MegatronFolder& manifest_;
  std::string who_;
  Options& options_;
  std::vector<std::string> taken_, contradictions_;
};

/// A whole JSON object that does not name our schema: no damage makes one of a manifest of ours.
bool is_of_another_program(const std::string& text) {
  const std::string_view schema = checkpoint::kManifestSchema;
  const std::string start = fmt::format("\"{}", schema.substr(0, schema.find('/') + 1));
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  return first != std::string::npos && text[first] == '{' &&
         text.find(start) == std::string::npos && nlohmann::json::accept(text);
}

constexpr std::string_view kHelp =
    "copy it again from where convert wrote it; or move it away, and give the options again that "
    "convert was given";

/// With what to do about a file beside the tensors that cannot be used.
Error unusable(Error error) {
  if (error.code != Code::PermissionDenied) {
    error.help = kHelp;
  }
  error.facts.emplace_back("what it says is not known, so that nothing was judged");
  return error;
}

WrittenWith taken(const Options& given, checkpoint::MegatronFolder manifest, const fs::path& file,
                  std::string who, bool has_layout) {
  WrittenWith out{given, std::move(manifest), io::printable_path(file), std::move(who), {}};
  out.manifest.folder = file.parent_path();
  out.notes = Facts(out.manifest, out.who, out.options).take_all(has_layout);
  return out;
}

bool is_well_formed(const OpenedModel& opened) {
  return opened.hf.model.family && opened.hf.model.faults.empty();
}

}  // namespace

Result<std::optional<WrittenWith>> written_with(const Options& given, const fs::path& folder) {
  const fs::path file = folder / checkpoint::kManifestName;
  if (!io::has_entry(file)) {
    return std::optional<WrittenWith>();
  }
  auto text = io::read_file(file, checkpoint::kManifestBytesMax, Code::ManifestInvalid);
  if (!text) {
    return unusable(std::move(text).error());
  }
  if (is_of_another_program(*text)) {
    return std::optional<WrittenWith>();
  }
  auto manifest = checkpoint::parse_manifest(*text, io::printable_path(file));
  if (!manifest) {
    return unusable(std::move(manifest).error());
  }
  return std::optional(taken(given, std::move(*manifest), file,
                             fmt::format("{} of B", checkpoint::kManifestName), true));
}

Result<std::optional<WrittenWith>> dist_written_with(const Options& given,
                                                     const fs::path& iteration,
                                                     std::string_view side) {
  const fs::path file = iteration / checkpoint::kRecordName;
  if (!io::has_entry(file)) {
    return std::optional<WrittenWith>();
  }
  auto text = io::read_file(file, checkpoint::kRecordBytesMax, Code::ManifestInvalid);
  auto record = text ? checkpoint::parse_record(*text, io::printable_path(file))
                     : Result<checkpoint::MegatronFolder>(std::move(text).error());
  if (!record) {
    return unusable(std::move(record).error());
  }
  return std::optional(taken(given, std::move(*record), file,
                             fmt::format("{} of {}", checkpoint::kRecordName, side), false));
}

Error WrittenWith::another_model(const OpenedModel& opened, const std::string& model) const {
  const std::string own = family::name(*opened.hf.model.family);
  return fail(Code::ManifestDisagrees,
              fmt::format("{} and {} are not the same model", io::printable_path(manifest.folder),
                          io::printable(model)))
      .at(file)
      .pair("written of family " + io::printable(manifest.family),
            fmt::format("family {}, which {} is of", own, io::printable(model)))
      .advise(fmt::format("give the two folders of one model; --family {} judges it as that family",
                          shell_quoted(io::printable(manifest.family))));
}

Result<OpenedModel> WrittenWith::open(const Context& context, const std::string& model,
                                      const Library& library) {
  Options& one = options;
  one.model = model;
  const bool named = !one.family.empty() || !one.rules.empty();
  if (named) {
    const std::string other = one.family.empty() || one.family == manifest.family ? "" : one.family;
    if (!other.empty()) {
      notes.push_back(fmt::format("{} says {}, and {} was given: that is what is compared", who,
                                  option_text("family", manifest.family),
                                  option_text("family", other)));
    }
    return open_model(context, one, library, AbsentShards::Refuse, {}, manifest.resolve.left_out);
  }
  BV_TRY(usual, foreign::usual_family());
  auto opened =
      open_model(context, one, library, AbsentShards::Refuse, {}, manifest.resolve.left_out);
  if (opened && opened->hf.model.family &&
      family::name(*opened->hf.model.family) == manifest.family) {
    return opened;
  }
  if (manifest.rules && manifest.family == family::name(*usual)) {
    one.rules = (manifest.folder / checkpoint::kRulesName).string();
    notes.push_back(fmt::format("judged by the rules of {}, {}: no family knows this architecture",
                                who.substr(who.rfind(' ') + 1), checkpoint::kRulesName));
  } else if (opened || opened.error().code == Code::ArchitectureUnknown) {
    one.family = manifest.family;
    notes.push_back(fmt::format("taken from {}, as it was written: {}", who,
                                option_text("family", manifest.family)));
  } else {
    return manifest.settings.empty() ? std::move(opened).error()
                                     : as_input(std::move(opened).error());
  }
  auto again =
      open_model(context, one, library, AbsentShards::Refuse, {}, manifest.resolve.left_out);
  if (opened && is_well_formed(*opened) && !(again && is_well_formed(*again))) {
    return another_model(*opened, model);
  }
  return again ? std::move(again) : Result<OpenedModel>(as_input(std::move(again).error()));
}

Options WrittenWith::all_options(const std::string& model) const {
  Options out = options;
  out.model = model;
  for (const std::string& name : manifest.resolve.left_out) {
    out.exclude.push_back(name);
  }
  return out;
}

Status WrittenWith::check_layout(const parallel::Layout& of_names) const {
  const std::string says = parallel::layout_id(manifest.layout);
  parallel::Layout found = of_names;
  found.cp = manifest.layout.cp;
  if (parallel::layout_id(found) == says) {
    return Done{};
  }
  return fail(Code::ManifestDisagrees,
              "manifest.json of B and the names of its shard files say different layouts")
      .at(file)
      .pair(fmt::format("{} in the names", parallel::layout_id(found)),
            fmt::format("{} in manifest.json", says))
      .advise("bring manifest and shards of one conversion together, or convert again");
}

std::string adapter_hint(const WrittenWith& written, const Options& options) {
  if (!written.manifest.adapter || !options.adapter.empty()) {
    return "";
  }
  const bool diff = options.megatron.empty() && options.operands.size() > 1;
  return fmt::format(
      "{} says that an adapter was merged into the model: if A is its base, give the adapter with "
      "bridge-verify check --model {} --megatron {} --adapter DIR",
      written.who, shell_quoted(diff ? options.operands[0] : options.model),
      shell_quoted(diff ? options.operands[1] : options.megatron));
}

Error WrittenWith::as_input(Error error) const {
  if (static_cast<unsigned>(error.code) < 1000) {
    error.code = Code::ManifestDisagrees;
    error.message = fmt::format("{}: {}", file, error.message);
    error.where = error.where.empty() ? file : error.where;
    error.help = "bring manifest and shards of one conversion together, or convert again";
  }
  error.facts.insert(error.facts.end(), notes.begin(), notes.end());
  return error;
}

}  // namespace bv::cli
