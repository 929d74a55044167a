// inspect: what the headers of a checkpoint say. No rules are needed.

#include <fmt/format.h>

#include <deque>
#include <nlohmann/json.hpp>

#include "ci/cli/command.hpp"
#include "ci/cli/session/fixture_model.hpp"
#include "ci/cli/session/session.hpp"
#include "core/base/arith.hpp"
#include "core/base/text.hpp"
#include "core/checkpoint/folder_names.hpp"
#include "core/checkpoint/megatron_folder.hpp"
#include "core/checkpoint/open_model.hpp"
#include "core/io/headers_dump.hpp"
#include "core/io/weights_listing.hpp"
#include "core/io/writer.hpp"
#include "core/quantised/quantised.hpp"
#include "reports/printable.hpp"

namespace bv::cli {
namespace fs = std::filesystem;

namespace {

using Json = nlohmann::ordered_json;

/// One tensor, as a view of the headers that the inspection keeps.
struct Row {
  const TensorSpec* spec = nullptr;
  std::uint64_t bytes = 0;
  std::string_view shard;
};

struct Inspection {
  std::string reference;
  std::string form;       // "HF folder", "safetensors file", ...
  std::vector<Row> rows;  // by shard and name for a Megatron folder, by name otherwise
  std::vector<io::FormatFinding> findings;
  std::vector<io::MissingShard> missing;
  std::optional<io::HeadersDump> dump;  // what --dump-headers writes
  std::string no_dump;                  // why there is none
  std::size_t files = 0;
  std::optional<quantised::Source> quantised;
  // What the rows view.
  std::vector<io::Checkpoint> checkpoints;
  std::deque<std::string> file_names;
};

void add_rows(io::Checkpoint&& checkpoint, Inspection& out) {
  out.checkpoints.push_back(std::move(checkpoint));
  const io::Checkpoint& kept = out.checkpoints.back();
  const std::size_t first = out.file_names.size();
  for (const fs::path& file : kept.files()) {
    out.file_names.push_back(file.filename().string());
  }
  for (const auto& [name, stored] : kept.tensors()) {
    out.rows.push_back(
        {&stored.spec, stored.end - stored.begin, out.file_names[first + stored.file]});
  }
  const auto& findings = kept.findings();
  out.findings.insert(out.findings.end(), findings.begin(), findings.end());
  const auto& missing = kept.missing();
  out.missing.insert(out.missing.end(), missing.begin(), missing.end());
  out.files += kept.files().size();
}

/// Are the weights quantised? A config that cannot be read says nothing here.
void look_for_quantised(std::string_view config_text, Inspection& out) {
  std::vector<const TensorSpec*> tensors;
  tensors.reserve(out.rows.size());
  for (const Row& row : out.rows) {
    tensors.push_back(row.spec);
  }
  const auto config = checkpoint::parse_config(config_text, "config.json");
  out.quantised = quantised::find(tensors, config ? *config : nlohmann::json::object());
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
        out.missing.push_back({file, {}});
      }
    }
  }
  BV_TRY(listing, io::list_folder(folder));
  for (const std::string& file : listing.safetensors) {
    BV_TRY(checkpoint, io::Checkpoint::open(folder / file, options.strict));
    add_rows(std::move(checkpoint), out);
  }
  out.no_dump = "a dump is of an HF checkpoint, and this is a Megatron folder";
  return Done{};
}

Status inspect_dump(const fs::path& path, Inspection& out) {
  BV_TRY(dump, io::read_headers_dump(path));
  out.dump = std::move(dump);
  std::set<std::string_view> shards;
  for (const auto& [name, tensor] : out.dump->tensors) {
    out.rows.push_back({&tensor.spec, tensor.end - tensor.begin, tensor.shard});
    shards.insert(tensor.shard);
  }
  out.files = shards.size();
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
  out.reference = options.headers.empty() ? options.model : options.headers;
  switch (located.kind) {
    case io::ModelKind::HfFolder:
      out.form = "HF folder";
      if (located.weights == io::WeightsForm::None) {
        return no_weights(out.reference);
      }
      break;
    case io::ModelKind::SafetensorsFile:
      out.form = "safetensors file";
      break;
    case io::ModelKind::IndexFile:
      out.form = "index";
      break;
    case io::ModelKind::ConfigFile:
      return no_weights(out.reference);
    case io::ModelKind::HeadersDump:
      out.form = "headers dump";
      BV_CHECK(inspect_dump(located.path, out));
      return out;
    case io::ModelKind::MegatronFolder:
      out.form = "Megatron folder";
      BV_CHECK(inspect_megatron(located.path, options, out));
      return out;
    case io::ModelKind::TorchDist:
      BV_CHECK(io::require_hf(located));
      break;
  }
  BV_CHECK(inspect_checkpoint(located.path, located.folder, options, out));
  return out;
}

bool admits(const Options& options, const std::string& name) {
  const auto matches = [&](const std::string& glob) { return glob_match(glob, name); };
  return (options.match.empty() ||
          std::any_of(options.match.begin(), options.match.end(), matches)) &&
         std::none_of(options.exclude.begin(), options.exclude.end(), matches);
}

struct Totals {
  std::int64_t elements = 0;
  std::uint64_t bytes = 0;
  std::map<std::string, std::int64_t> dtypes;
};

Totals totals_of(const std::vector<Row>& rows) {
  Totals out;
  for (const Row& row : rows) {
    out.elements = capped_add(out.elements, element_count(row.spec->shape).value_or(0));
    out.bytes += row.bytes;
    ++out.dtypes[std::string(name(row.spec->dtype))];
  }
  return out;
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

std::string dumped(const Json& json) {
  return json.dump(2, ' ', false, Json::error_handler_t::replace);
}

Json quantised_json(const Inspection& seen) {
  if (!seen.quantised) {
    return nullptr;
  }
  Json schemes = Json::array();
  for (const quantised::Group& group : seen.quantised->groups) {
    schemes.push_back({{"scheme", group.scheme},
                       {"weights", group.weights.size()},
                       {"example", bounded(group.weights.front().bits->name, kNameKeptMax)}});
  }
  return {{"schemes", std::move(schemes)},
          {"tensors", seen.quantised->tensors},
          {"config", seen.quantised->config}};
}

Json row_json(const Row& row) {
  return {{"name", bounded(row.spec->name, kNameKeptMax)},
          {"dtype", name(row.spec->dtype)},
          {"shape", row.spec->shape},
          {"bytes", row.bytes},
          {"shard", row.shard}};
}

/// `text` with each line but the first moved in by `columns`.
std::string indented(const std::string& text, std::size_t columns) {
  std::string out;
  for (const char c : text) {
    out += c;
    out += c == '\n' ? std::string(columns, ' ') : "";
  }
  return out;
}

/// One object, as if it had been made whole.
void print_json(const Inspection& seen, Rows& rows) {
  const Totals totals = totals_of(seen.rows);
  Json findings = Json::array();
  for (const io::FormatFinding& one : seen.findings) {
    findings.push_back({{"file", one.file}, {"what", one.what}, {"code", label(one.code)}});
  }
  Json missing = Json::array();
  for (const io::MissingShard& one : seen.missing) {
    missing.push_back({{"file", one.file}, {"tensors", one.tensors}});
  }
  const std::string head = dumped({{"schema", "bridge-inspect/1"},
                                   {"model", seen.reference},
                                   {"form", seen.form},
                                   {"files", seen.files},
                                   {"tensors", seen.rows.size()},
                                   {"elements", totals.elements},
                                   {"bytes", totals.bytes},
                                   {"dtypes", totals.dtypes},
                                   {"quantised", quantised_json(seen)}});
  const std::string tail =
      dumped({{"findings", std::move(findings)}, {"missing", std::move(missing)}});
  rows.out(head.substr(0, head.size() - 2) + ",\n  \"rows\": [");
  for (std::size_t i = 0; i < seen.rows.size(); ++i) {
    rows.out((i == 0 ? "\n    " : ",\n    ") + indented(dumped(row_json(seen.rows[i])), 4));
  }
  rows.out((seen.rows.empty() ? "]," : "\n  ],") + tail.substr(1) + "\n");
}

/// name, dtype, shape, bytes, shard; names are escaped, so one line is one tensor.
void print_plain(const Inspection& seen, Rows& rows) {
  for (const Row& row : seen.rows) {
    rows.out(fmt::format("{}\t{}\t{}\t{}\t{}\n", escaped(bounded(row.spec->name, kNameKeptMax)),
                         name(row.spec->dtype), fmt::join(row.spec->shape, "x"), row.bytes,
                         escaped(row.shard)));
  }
}

/// One line a tensor, then the totals and the findings; the totals alone when `brief`.
void print_text(const Inspection& seen, bool ascii, bool brief, Rows& rows) {
  std::size_t width = 0;
  for (const Row& row : seen.rows) {
    width = std::max(width, reports::columns(reports::printable(row.spec->name, ascii)));
  }
  width = std::min<std::size_t>(width, 80);
  for (std::size_t i = 0; i < seen.rows.size() && !brief; ++i) {
    const Row& row = seen.rows[i];
    const std::string printed = reports::printable(row.spec->name, ascii);
    const std::size_t columns = reports::columns(printed);
    rows.out(printed + std::string(width > columns ? width - columns : 0, ' ') +
             fmt::format("  {:<5} {:<20} {:>14}  {}\n", name(row.spec->dtype),
                         shape_text(row.spec->shape),
                         thousands(static_cast<std::int64_t>(row.bytes)),
                         reports::printable(row.shard, ascii)));
  }
  const Totals totals = totals_of(seen.rows);
  std::vector<std::string> dtypes;
  for (const auto& [dtype, count] : totals.dtypes) {
    dtypes.push_back(fmt::format("{} {}", dtype, thousands(count)));
  }
  rows.out(fmt::format("{}{}: {}, {}, {} in {}; {}\n", brief ? "" : "\n", seen.form,
                       counted(seen.rows.size(), "tensor"), counted(totals.elements, "element"),
                       human_bytes(totals.bytes), counted(seen.files, "file"),
                       dtypes.empty() ? "nothing" : join(dtypes, ", ")));
  if (seen.quantised) {
    rows.out(fmt::format(
        "quantised: {}{}\n", reports::printable(quantised::summary(*seen.quantised), ascii),
        seen.quantised->config.empty() ? ""
                                       : "; " + reports::printable(seen.quantised->config, ascii)));
  }
  for (const io::FormatFinding& one : seen.findings) {
    rows.out(fmt::format("finding  {}: {}\n", reports::printable(one.file, ascii),
                         reports::printable(one.what, ascii)));
  }
}

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
  Error error = fail(Code::CacheIncomplete,
                     fmt::format("{} {} missing from {}", counted(seen.missing.size(), "shard"),
                                 seen.missing.size() == 1 ? "is" : "are", escaped(seen.reference)))
                    .advise("fetch them; the tensors above are those of the other shards");
  for (const io::MissingShard& one : seen.missing) {
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
  if (!options.dump_headers.empty()) {
    if (const auto status = write_dump(context, options, *seen); !status) {
      return report_error(context, options, status.error());
    }
  }
  std::erase_if(seen->rows, [&](const Row& row) { return !admits(options, row.spec->name); });
  Rows rows(context);
  if (options.json) {
    print_json(*seen, rows);
  } else if (options.plain) {
    print_plain(*seen, rows);
  } else {
    print_text(*seen, style_for(context, options, context.out_is_terminal).ascii,
               options.verbosity() < 0, rows);
  }
  if (!rows.arrived()) {
    return report_error(context, options,
                        fail(Code::DiskFull, "the result could not be written to stdout")
                            .advise("free space, or send it elsewhere"));
  }
  return seen->missing.empty() ? 0 : report_error(context, options, missing_error(*seen));
}

}  // namespace bv::cli
