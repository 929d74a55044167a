#include "ci/cli/session/placed_model.hpp"

#include <fmt/format.h>

#include "ci/cli/session/idle_options.hpp"
#include "ci/cli/session/megatron_model.hpp"
#include "core/base/text.hpp"
#include "core/io/writer.hpp"

namespace bv::cli {
namespace fs = std::filesystem;

namespace {

/// The model of a config without headers: first choices of storage, no names checked.
Result<PlacedModel> open_config(const Options& options, const Library& library,
                                const fs::path& config_file) {
  BV_TRY(text, io::read_file(config_file, checkpoint::kConfigBytesMax, Code::ConfigField));
  checkpoint::OpenOptions open = open_options(options);
  open.resolve.config_only = true;
  BV_TRY(hf, checkpoint::open_headers(std::move(text), config_file.string(), {}, library.families,
                                      open));
  PlacedModel out;
  out.model = std::move(hf.model);
  out.source = "config";
  out.notes.emplace_back(
      "no weights and no headers: expert storage is assumed, and sizes are those of bfloat16");
  return out;
}

Result<PlacedModel> open_shards(const Options& options, const Library& library,
                                const io::LocatedModel& located) {
  BV_TRY(folder, open_megatron_folder(located.path, options, library));
  PlacedModel out;
  const std::string changed = join(folder.changed, " and ");
  if (!folder.same_plan) {
    return fail(Code::ContentsChanged,
                fmt::format("{} of {} changed since it was written: with it rows of the shards "
                            "belong elsewhere than where they were put",
                            changed, located.path.string()))
        .at((located.path / folder.changed.front()).string())
        .pair("another fingerprint", "the fingerprint of manifest.json")
        .advise("put back the file that convert wrote");
  }
  if (!folder.changed.empty()) {
    out.notes.push_back(changed + " changed since it was written; rows stay where they were put");
  }
  out.model = std::move(folder.model);
  out.headers = std::move(folder.hf_headers);
  out.dtype = folder.dtype;
  out.layout = folder.layout;
  out.source = "megatron";
  return out;
}

Result<PlacedModel> open_weights(const Context& context, const Options& options,
                                 const Library& library) {
  BV_TRY(opened, open_model(context, options, library));
  PlacedModel out;
  out.model = std::move(opened.hf.model);
  out.headers = std::move(opened.hf.headers);
  out.source = opened.source;
  out.notes = std::move(opened.notes);
  for (const Error& warning : opened.warnings) {
    out.notes.push_back(warning.message);
  }
  return out;
}

Result<PlacedModel> open_any(const Context& context, const Options& options,
                             const Library& library) {
  if (options.model.starts_with("fixture:")) {
    return open_weights(context, options, library);
  }
  BV_TRY(located, locate(context, options));
  if (located.kind == io::ModelKind::MegatronFolder) {
    return open_shards(options, library, located);
  }
  const bool bare =
      located.kind == io::ModelKind::HfFolder && located.weights == io::WeightsForm::None;
  if (located.kind == io::ModelKind::ConfigFile || bare) {
    return open_config(options, library, located.folder / "config.json");
  }
  return open_weights(context, options, library);
}

bool asks_for_layout(const Options& options) {
  constexpr std::array kOwn = {"tp",
                               "pp",
                               "ep",
                               "etp",
                               "vpp",
                               "layout",
                               "decoder-first-pipeline-num-layers",
                               "decoder-last-pipeline-num-layers",
                               "pipeline-model-parallel-layout",
                               "make-vocab-size-divisible-by"};
  return std::any_of(kOwn.begin(), kOwn.end(), [&](const char* name) { return options.has(name); });
}

}  // namespace

Result<PlacedModel> open_placed(const Context& context, const Options& options,
                                const Library& library) {
  BV_TRY(out, open_any(context, options, library));
  out.reference = options.headers.empty() ? options.model : options.headers;
  if (options.has("dtype")) {
    BV_TRY(policy, plan::dtype_policy(options.dtype));
    out.dtype = policy;
  }
  if (const auto status = plan::check_dtypes(out.model, out.headers); !status) {
    out.notes.push_back(status.error().message);
  }
  if (!out.model.faults.empty()) {
    out.notes.push_back(counted(out.model.faults.size(), "fault") +
                        " in the names of this model: bridge-verify check");
  }
  if (out.source == "megatron") {
    if (asks_for_layout(options)) {
      return fail(Code::Conflict, fmt::format("{} is a Megatron folder: it has a layout of its own",
                                              escaped(out.reference)))
          .pair("layout options", parallel::layout_id(out.layout))
          .advise("leave the layout options out, or give the HF folder");
    }
    return std::move(out);
  }
  for (const IdleOption& idle : idle_options(options, out.model)) {
    out.notes.push_back(idle.note);
  }
  BV_TRY(asked, one_layout(options));
  out.layout = settle(asked, options, out.model);
  BV_CHECK(plan::check_layout(out.model, out.layout));
  if (std::string note = etp_note(options, out.model); !note.empty()) {
    out.notes.push_back(std::move(note) + ": write --etp 1 for uncut experts");
  }
  return std::move(out);
}

Result<RankIndex> RankIndex::make(const parallel::Layout& layout, const Options& options) {
  BV_CHECK(parallel::check_sizes(layout));
  const std::int64_t world = options.world_size.value_or(parallel::minimum_world(layout));
  BV_TRY(table, parallel::rank_table(layout, world));
  RankIndex out;
  out.table_ = std::move(table);
  for (std::size_t rank = 0; rank < out.table_.size(); ++rank) {
    const parallel::Coordinates& at = out.table_[rank];
    out.ranks_[{at.pp, at.tp, at.ep, at.etp, 0}].push_back(static_cast<std::int64_t>(rank));
  }
  return out;
}

std::vector<std::int64_t> RankIndex::ranks_of(const parallel::ShardKey& key) const {
  const auto found = ranks_.find({key.pp, key.tp, key.ep, key.etp, 0});
  return found == ranks_.end() ? std::vector<std::int64_t>{} : found->second;
}

std::string ranks_text(const std::vector<std::int64_t>& ranks) {
  constexpr std::size_t kRangesMax = 8;
  std::vector<std::string> parts;
  for (std::size_t i = 0; i < ranks.size();) {
    std::size_t end = i + 1;
    while (end < ranks.size() && ranks[end] == ranks[end - 1] + 1) {
      ++end;
    }
    if (parts.size() == kRangesMax) {
      parts.push_back(fmt::format("... {}", ranks.back()));
      break;
    }
    parts.push_back(end - i == 1 ? std::to_string(ranks[i])
                                 : fmt::format("{}-{}", ranks[i], ranks[end - 1]));
    i = end;
  }
  return join(parts, " ");
}

}  // namespace bv::cli
