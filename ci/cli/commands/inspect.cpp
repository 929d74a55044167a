// inspect: what the headers of a checkpoint say. No rules are needed.

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "ci/cli/command.hpp"
#include "ci/cli/session/fixture_model.hpp"
#include "ci/cli/session/session.hpp"
#include "core/base/shell.hpp"
#include "core/base/text.hpp"
#include "core/checkpoint/folder_names.hpp"
#include "core/checkpoint/megatron_folder.hpp"
#include "core/checkpoint/open_model.hpp"
#include "core/io/fault_text.hpp"
#include "core/io/headers_dump.hpp"
#include "core/io/weights_listing.hpp"
#include "core/io/writer.hpp"
#include "core/model/name_filter.hpp"
#include "core/quantised/quantised.hpp"
#include "core/torch_dist/store.hpp"
#include "reports/inspect_report.hpp"
#include "reports/printable.hpp"

namespace bv::cli {
namespace fs = std::filesystem;

namespace {

/// What is reported, and what keeps it alive.
struct Inspection {
  reports::InspectReport report;
  std::optional<io::HeadersDump> dump;  // what --dump-headers writes
  std::string no_dump;                  // why there is none
  std::optional<torch_dist::DistCheckpoint> global;
  std::vector<io::Checkpoint> checkpoints;
  std::deque<std::string> file_names;
};

/// Layer 2 before layer 10, behind the rows that are there already.
void sort_rows(std::size_t first_row, Inspection& out) {
  std::vector<reports::InspectedTensor>& rows = out.report.tensors;
  std::sort(rows.begin() + static_cast<std::ptrdiff_t>(first_row), rows.end(),
            [](const auto& a, const auto& b) { return natural_less(a.spec->name, b.spec->name); });
}

void add_rows(io::Checkpoint&& checkpoint, Inspection& out) {
  out.checkpoints.push_back(std::move(checkpoint));
  const io::Checkpoint& kept = out.checkpoints.back();
  const std::size_t first = out.file_names.size();
  const std::size_t first_row = out.report.tensors.size();
  for (const fs::path& file : kept.files()) {
    out.file_names.push_back(file.filename().string());
  }
  for (const auto& [name, stored] : kept.tensors()) {
    out.report.tensors.push_back(
        {&stored.spec, tensor_bytes(stored.spec), out.file_names[first + stored.file]});
  }
  sort_rows(first_row, out);
  for (const io::FormatFinding& one : kept.findings()) {
    out.report.findings.push_back({one.file, one.what, one.code});
  }
  for (const io::MissingShard& one : kept.missing()) {
    out.report.missing.push_back({one.file, one.tensors});
  }
  out.report.files += kept.files().size();
}

/// Are the weights quantised? A config that cannot be read says nothing here.
void look_for_quantised(std::string_view config_text, Inspection& out) {
  std::vector<const TensorSpec*> tensors;
  tensors.reserve(out.report.tensors.size());
  for (const reports::InspectedTensor& one : out.report.tensors) {
    tensors.push_back(one.spec);
  }
  const auto config = checkpoint::parse_config(config_text, "config.json");
  const auto found = quantised::find(tensors, config ? *config : nlohmann::json::object());
  if (!found) {
    return;
  }
  reports::QuantisedSource& source = out.report.quantised.emplace();
  source.tensors = found->tensors;
  source.config = found->config;
  source.summary = quantised::summary(*found);
  for (const quantised::Group& group : found->groups) {
    source.schemes.push_back(
        {group.scheme, group.weights.size(), group.weights.front().bits->name});
  }
}

Status inspect_checkpoint(const fs::path& path, const fs::path& folder, const Options& options,
                          Inspection& out) {
  BV_TRY(checkpoint, io::Checkpoint::open_partial(path, options.strict));
  add_rows(std::move(checkpoint), out);
  std::error_code ignored;
  if (!fs::exists(folder / "config.json", ignored)) {
    out.no_dump = fmt::format("{} has no config.json, which a dump holds", folder.string());
    look_for_quantised("{}", out);
    return Done{};
  }
  const auto config = io::read_file(folder / "config.json", checkpoint::kConfigBytesMax);
  look_for_quantised(config ? *config : "{}", out);
  if (options.dump_headers.empty()) {
    return Done{};
  }
  if (!config) {
    return config.error();
  }
  BV_TRY(dump, io::dump_of(out.checkpoints.back(), *config));
  out.dump = std::move(dump);
  return Done{};
}

/// Each shard file by itself: the same names stand in many of them.
Status inspect_megatron(const fs::path& folder, const Options& options, Inspection& out) {
  if (const auto listed = checkpoint::files_of(folder); listed) {
    for (const std::string& file : *listed) {
      std::error_code ignored;
      if (checkpoint::is_weights_name(file) && !fs::exists(folder / file, ignored)) {
        out.report.missing.push_back({file, {}});
      }
    }
  }
  BV_TRY(listing, io::list_folder(folder));
  if (listing.safetensors.empty()) {
    return fail(Code::NotSafetensors,
                fmt::format("the files of {} are pickles of whole runs, which are not listed",
                            io::printable_path(folder)))
        .at(io::printable_path(folder))
        .advise("bridge-verify check --model HF_DIR --megatron " + shell_quoted(folder.string()));
  }
  for (const std::string& file : listing.safetensors) {
    BV_TRY(checkpoint, io::Checkpoint::open(folder / file, options.strict));
    add_rows(std::move(checkpoint), out);
  }
  out.no_dump = "a dump is of an HF checkpoint, and this is a Megatron folder";
  return Done{};
}

/// Global tensors under their keys, each with the files that hold its chunks.
Status inspect_torch_dist(const fs::path& folder, Inspection& out) {
  BV_TRY(store, torch_dist::DistCheckpoint::open(folder));
  out.global.emplace(std::move(store));
  for (const auto& [name, spec] : out.global->headers()) {
    const TensorSpec* const kept = out.global->find(name);
    out.file_names.push_back(join(out.global->files_of(*kept), " "));
    out.report.tensors.push_back({kept, tensor_bytes(*kept), out.file_names.back()});
  }
  sort_rows(0, out);
  out.report.files = out.global->files().size();
  out.report.beside = torch_dist::beside_text(out.global->beside());
  out.no_dump = "a dump is of an HF checkpoint, and this is a Megatron checkpoint";
  return Done{};
}

Status inspect_dump(const fs::path& path, Inspection& out) {
  BV_TRY(dump, io::read_headers_dump(path));
  out.dump = std::move(dump);
  std::set<std::string_view> shards;
  for (const auto& [name, tensor] : out.dump->tensors) {
    out.report.tensors.push_back({&tensor.spec, tensor.end - tensor.begin, tensor.shard});
    shards.insert(tensor.shard);
  }
  sort_rows(0, out);
  out.report.files = shards.size();
  look_for_quantised(out.dump->config, out);
  return Done{};
}

Error no_weights(const std::string& place) {
  return fail(Code::ModelNotFound, fmt::format("{} has no weights to list", place))
      .pair("config.json without *.safetensors", "*.safetensors, an index or a headers dump")
      .advise("fetch the weights, or a headers dump");
}

/// A folder of weights without config.json is still worth a look.
Result<FoundModel> find_weights(const Context& context, const Options& options) {
  auto located = find_model(context, options);
  std::error_code ignored;
  const fs::path path = options.model;
  if (located || located.error().code != Code::NoConfig || !fs::is_directory(path, ignored)) {
    return located;
  }
  BV_TRY(listing, io::list_folder(path));
  BV_TRY(place, io::place_weights(listing, path));
  if (place.form == io::WeightsForm::None || place.form == io::WeightsForm::PickleOnly) {
    return located;
  }
  FoundModel out;
  out.located.path = path;
  out.located.folder = path;
  out.located.weights = place.form;
  return out;
}

Result<Inspection> inspect(const Context& context, const Options& options) {
  BV_TRY(found, find_weights(context, options));
  const io::LocatedModel& located = found.located;
  Inspection out;
  out.report.reference = options.headers.empty() ? options.model : options.headers;
  switch (located.kind) {
    case io::ModelKind::HfFolder:
      out.report.form = "HF folder";
      if (located.weights == io::WeightsForm::None) {
        return no_weights(out.report.reference);
      }
      break;
    case io::ModelKind::SafetensorsFile:
      out.report.form = "safetensors file";
      break;
    case io::ModelKind::IndexFile:
      out.report.form = "index";
      break;
    case io::ModelKind::ConfigFile:
      return no_weights(out.report.reference);
    case io::ModelKind::HeadersDump:
      out.report.form = "headers dump";
      BV_CHECK(inspect_dump(located.path, out));
      return out;
    case io::ModelKind::MegatronFolder:
      out.report.form = "Megatron folder";
      BV_CHECK(inspect_megatron(located.path, options, out));
      return out;
    case io::ModelKind::RankFiles:
      out.report.form = "Megatron checkpoint by ranks";
      BV_CHECK(inspect_megatron(located.path, options, out));
      return out;
    case io::ModelKind::TorchDist:
      out.report.form = "torch_dist checkpoint";
      BV_CHECK(inspect_torch_dist(located.path, out));
      return out;
  }
  BV_CHECK(inspect_checkpoint(located.path, located.folder, options, out));
  return out;
}

/// Rows that --match and --exclude leave. Errors: those of model::excluded_names.
Status keep_asked(const Options& options, std::vector<reports::InspectedTensor>& rows) {
  if (options.match.empty() && options.exclude.empty()) {
    return Done{};
  }
  Headers headers;
  for (const reports::InspectedTensor& one : rows) {
    headers.emplace(one.spec->name, *one.spec);
  }
  BV_TRY(excluded, model::excluded_names({options.match, options.exclude}, headers));
  std::erase_if(rows, [&](const reports::InspectedTensor& one) {
    const std::string& name = one.spec->name;
    return excluded.contains(name) ||
           (!options.match.empty() &&
            std::none_of(options.match.begin(), options.match.end(),
                         [&](const std::string& glob) { return glob_match(glob, name); }));
  });
  return Done{};
}

/// Rows go out as they are made: a header may hold millions of them.
class Rows {
 public:
  explicit Rows(Context& context) : context_(context) {}
  void out(std::string_view text) {
    constexpr std::size_t kHeldMax = std::size_t{1} << 20;
    context_.streams.out(text);
    held_ += text.size();
    if (held_ >= kHeldMax) {
      arrived_ = context_.streams.flush() && arrived_;
      held_ = 0;
    }
  }
  [[nodiscard]] bool arrived() const { return arrived_; }

 private:
  Context& context_;
  std::size_t held_ = 0;
  bool arrived_ = true;
};

/// Only an earlier dump is replaced: another file of this name is somebody's own.
Status check_dump_place(const fs::path& file) {
  std::error_code ignored;
  if (!fs::is_regular_file(file, ignored) || io::read_headers_dump(file)) {
    return Done{};
  }
  return fail(Code::OutputExists,
              fmt::format("{} is there and is not a headers dump", escaped(file.string())))
      .advise("name another file with --dump-headers; nothing was written");
}

Status write_dump(Context& context, const Options& options, const Inspection& seen) {
  if (!seen.dump) {
    return fail(Code::NoConfig, "no headers dump can be made: " + escaped(seen.no_dump))
        .advise("give an HF folder with config.json");
  }
  BV_CHECK(check_dump_place(options.dump_headers));
  BV_CHECK(io::write_headers_dump(options.dump_headers, *seen.dump));
  if (options.verbosity() >= 0) {
    context.streams.err(fmt::format("headers of {} written to {}\n",
                                    counted(seen.dump->tensors.size(), "tensor"),
                                    reports::printable(options.dump_headers, true)));
  }
  return Done{};
}

Error missing_error(const Inspection& seen) {
  Error error =
      fail(Code::CacheIncomplete,
           fmt::format("{} {} missing from {}", counted(seen.report.missing.size(), "shard"),
                       seen.report.missing.size() == 1 ? "is" : "are",
                       escaped(seen.report.reference)))
          .advise("fetch them; the tensors above are those of the other shards");
  for (const reports::MissingShard& one : seen.report.missing) {
    error.facts.push_back(one.file);
  }
  return error;
}

}  // namespace

int run_inspect(Context& context, const Options& options) {
  if (options.json && options.plain) {
    return report_error(context, options,
                        fail(Code::Conflict, "--json and --plain contradict each other")
                            .advise("leave out --json or --plain"));
  }
  auto seen = inspect(context, options);
  if (!seen) {
    return report_error(context, options, seen.error());
  }
  if (const auto asked = keep_asked(options, seen->report.tensors); !asked) {
    return report_error(context, options, asked.error());
  }
  if (!options.dump_headers.empty()) {
    if (const auto status = write_dump(context, options, *seen); !status) {
      return report_error(context, options, status.error());
    }
  }
  Rows rows(context);
  const auto out = [&rows](std::string_view text) { rows.out(text); };
  if (options.json) {
    reports::inspect_json(seen->report, out);
  } else if (options.plain) {
    reports::inspect_plain(seen->report, out);
  } else {
    reports::inspect_text(seen->report, style_for(context, options, context.out_is_terminal),
                          options.verbosity() < 0, out);
  }
  if (!rows.arrived()) {
    return report_error(context, options,
                        fail(Code::DiskFull, "the result could not be written to stdout")
                            .advise("free space, or send it elsewhere"));
  }
  return seen->report.missing.empty() ? 0 : report_error(context, options, missing_error(*seen));
}

}  // namespace bv::cli
