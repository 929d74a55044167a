// layout: ranks, stages and shard files of one parallel layout (docs/reference/layout.md).

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "ci/cli/command.hpp"
#include "ci/cli/session/placed_model.hpp"
#include "core/base/arith.hpp"
#include "core/base/text.hpp"
#include "core/trace/trace.hpp"
#include "reports/layout_report.hpp"
#include "reports/printable.hpp"

namespace bv::cli {
namespace {

/// Rows in rank order with Megatron's coordinates; cp and edp only where there is more than one.
std::vector<reports::RankRow> rank_rows(const parallel::Layout& layout, const RankIndex& ranks,
                                        std::optional<std::uint64_t> only) {
  const bool edp = std::any_of(ranks.table().begin(), ranks.table().end(),
                               [](const parallel::Coordinates& at) { return at.edp > 0; });
  std::vector<reports::RankRow> out;
  for (std::size_t rank = 0; rank < ranks.table().size(); ++rank) {
    if (only && *only != rank) {
      continue;
    }
    const parallel::Coordinates& at = ranks.table()[rank];
    reports::RankRow row = {{"rank", static_cast<std::int64_t>(rank)},
                            {"pp", at.pp},
                            {"tp", at.tp},
                            {"ep", at.ep},
                            {"etp", at.etp},
                            {"dp", at.dp}};
    if (layout.cp > 1) {
      row.emplace_back("cp", at.cp);
    }
    if (edp) {
      row.emplace_back("edp", at.edp);
    }
    out.push_back(std::move(row));
  }
  return out;
}

/// A model on a layout, as plain values.
class Placed {
 public:
  Placed(const PlacedModel& placed, const plan::Plan& plan, const RankIndex& ranks,
         std::optional<std::uint64_t> rank)
      : placed_(placed), plan_(plan), ranks_(ranks), rank_(rank) {}

  void fill(reports::LayoutReport& out) const {
    out.model = placed_.reference;
    out.family = family::name(*placed_.model.family);
    out.dtype = plan::name(placed_.dtype);
    out.padded_vocabulary = plan_.padded_vocabulary();
    out.stages = stages();
    for (const plan::ShardFile& file : plan_.files()) {
      if (holds(file)) {
        out.shards.push_back(shard(file));
      }
    }
    if (rank_) {
      out.rank = holdings();
    }
  }

  [[nodiscard]] reports::TensorPlaces places(const trace::Trace& trace) const {
    reports::TensorPlaces out{std::string(trace::name(trace.from)), trace.name, {}};
    for (const trace::Place& place : trace.places) {
      const plan::ShardFile& file = plan_.files()[place.file];
      out.places.push_back(tensor(file, file.targets[place.target]));
    }
    return out;
  }

 private:
  [[nodiscard]] bool holds(const plan::ShardFile& file) const {
    const std::vector<std::int64_t> ranks = ranks_.ranks_of(file.key);
    return !rank_ ||
           std::find(ranks.begin(), ranks.end(), static_cast<std::int64_t>(*rank_)) != ranks.end();
  }

  [[nodiscard]] std::vector<reports::StageRow> stages() const {
    const auto& mappings = placed_.model.mappings;
    const bool vision =
        std::any_of(mappings.begin(), mappings.end(),
                    [](const model::Mapping& one) { return one.stage == family::Stage::Vision; });
    std::vector<reports::StageRow> out;
    for (const parallel::StageContents& stage : plan_.stages()) {
      if (!rank_ || ranks_.table()[*rank_].pp == stage.pp) {
        out.push_back({stage.pp, stage.vp, stage.first_layer, stage.layers, stage.first_mtp,
                       stage.mtp_layers, stage.embedding, stage.embedding && vision,
                       stage.final_norm, stage.output});
      }
    }
    return out;
  }

  [[nodiscard]] reports::ShardTensor tensor(const plan::ShardFile& file,
                                            const plan::Target& target) const {
    const model::Mapping& mapping = placed_.model.mappings[target.mapping];
    std::vector<DType> dtypes;
    for (const std::string& hf : mapping.hf) {
      const auto header = placed_.headers.find(hf);
      dtypes.push_back(header == placed_.headers.end() ? DType::BF16 : header->second.dtype);
    }
    const DType dtype = plan::target_dtype(*mapping.rule, dtypes, placed_.dtype);
    const Shape& shape = plan_.bound(mapping).target_shapes()[0];
    constexpr std::uint64_t kMax = std::numeric_limits<std::int64_t>::max();
    return {file.name,
            target.name,
            target.global_name,
            std::string(name(dtype)),
            ranks_.ranks_of(file.key),
            shape,
            static_cast<std::int64_t>(std::min(kMax, tensor_bytes({target.name, dtype, shape}))),
            target.copy};
  }

  [[nodiscard]] reports::ShardRow shard(const plan::ShardFile& file) const {
    reports::ShardRow out{file.name,
                          file.key.pp,
                          file.key.tp,
                          file.key.ep,
                          file.key.etp,
                          file.key.vp,
                          ranks_.ranks_of(file.key),
                          std::string(),
                          0,
                          0};
    out.ranks_text = ranks_text(out.ranks);
    for (const plan::Target& target : file.targets) {
      ++out.tensors;
      out.bytes = capped_add(out.bytes, tensor(file, target).bytes);
    }
    return out;
  }

  [[nodiscard]] reports::RankHoldings holdings() const {
    reports::RankHoldings out;
    out.rank = static_cast<std::int64_t>(*rank_);
    out.experts_all = placed_.model.geometry.experts();
    for (const plan::ShardFile& file : plan_.files()) {
      if (!holds(file)) {
        continue;
      }
      for (const plan::Target& target : file.targets) {
        out.tensors.push_back(tensor(file, target));
        if (placed_.model.mappings[target.mapping].rule->expert && out.experts_all > 0) {
          out.experts = out.experts_all / plan_.layout().ep;
          out.first_expert = file.key.ep * out.experts;
        }
      }
    }
    std::stable_sort(out.tensors.begin(), out.tensors.end(),
                     [](const auto& a, const auto& b) { return natural_less(a.name, b.name); });
    return out;
  }

  const PlacedModel& placed_;
  const plan::Plan& plan_;
  const RankIndex& ranks_;
  std::optional<std::uint64_t> rank_;
};

reports::LayoutReport report_of(const parallel::Layout& layout, const RankIndex& ranks,
                                std::optional<std::uint64_t> rank) {
  reports::LayoutReport out;
  out.layout = parallel::layout_id(layout);
  out.tp = layout.tp;
  out.pp = layout.pp;
  out.ep = layout.ep;
  out.etp = layout.etp;
  out.vpp = parallel::virtual_stages(layout);
  out.cp = layout.cp;
  out.world = ranks.world();
  out.world_least = parallel::minimum_world(layout);
  out.ranks = rank_rows(layout, ranks, rank);
  return out;
}

/// Without a model the files have names only.
void name_shards(const parallel::Layout& layout, const RankIndex& ranks,
                 reports::LayoutReport& out) {
  for (const parallel::ShardKey& key : parallel::shard_keys(layout)) {
    const std::vector<std::int64_t> holders = ranks.ranks_of(key);
    const auto named = [&](const reports::RankRow& row) {
      return std::find(holders.begin(), holders.end(), row.front().second) != holders.end();
    };
    if (std::any_of(out.ranks.begin(), out.ranks.end(), named)) {
      out.shards.push_back({parallel::shard_name(key, layout) + ".safetensors", key.pp, key.tp,
                            key.ep, key.etp, key.vp, holders, ranks_text(holders), 0, 0});
    }
  }
}

Status check_rank(const RankIndex& ranks, std::optional<std::uint64_t> rank) {
  if (rank && *rank >= static_cast<std::uint64_t>(ranks.world())) {
    return fail(Code::BadValue, fmt::format("--rank {} is outside the world", *rank))
        .pair(std::to_string(*rank), fmt::format("0 to {}", ranks.world() - 1))
        .advise("write a smaller rank, or a larger --world-size");
  }
  return Done{};
}

Result<reports::LayoutReport> with_model(Context& context, const Options& options) {
  BV_TRY(library, load_library(options));
  BV_TRY(placed, open_placed(context, options, library));
  BV_TRY(plan, plan::Plan::make(placed.model, library.kinds, placed.layout));  // bounds the ranks
  BV_TRY(ranks, RankIndex::make(placed.layout, options));
  BV_CHECK(check_rank(ranks, options.rank));
  reports::LayoutReport out = report_of(placed.layout, ranks, options.rank);
  const Placed values(placed, plan, ranks, options.rank);
  values.fill(out);
  if (!options.tensor.empty()) {
    BV_TRY(tensor, trace::trace(plan, {options.tensor, {}, {}, 0}));
    out.tensor = values.places(tensor);
  }
  for (const std::string& note : placed.notes) {
    context.streams.err("note: " + reports::printable(note, true) + "\n");
  }
  return out;
}

Result<reports::LayoutReport> without_model(const Options& options) {
  if (!options.tensor.empty()) {
    return fail(Code::BadValue, fmt::format("--tensor {} needs a model", escaped(options.tensor)))
        .advise("add --model DIR");
  }
  BV_TRY(layout, one_layout(options));
  BV_TRY(ranks, RankIndex::make(layout, options));
  BV_CHECK(check_rank(ranks, options.rank));
  reports::LayoutReport out = report_of(layout, ranks, options.rank);
  name_shards(layout, ranks, out);
  return out;
}

}  // namespace

int run_layout(Context& context, const Options& options) {
  const bool has_model = !options.model.empty() || !options.headers.empty();
  const auto report = has_model ? with_model(context, options) : without_model(options);
  if (!report) {
    return report_error(context, options, report.error());
  }
  context.streams.out(
      options.json
          ? reports::layout_json(*report)
          : reports::layout_text(*report, style_for(context, options, context.out_is_terminal)));
  return 0;
}

}  // namespace bv::cli
