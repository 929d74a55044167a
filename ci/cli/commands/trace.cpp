// trace NAME [INDEX]: where a tensor, or one element of it, lies on the other side.

#include "core/trace/trace.hpp"

#include <fmt/format.h>

#include "ci/cli/command.hpp"
#include "ci/cli/session/placed_model.hpp"
#include "core/base/text.hpp"
#include "reports/printable.hpp"
#include "reports/trace_report.hpp"

namespace bv::cli {
namespace {

constexpr std::size_t kShownBlocks = 17;  // one more than the text shows
constexpr std::size_t kListedBlocks = 65536;

reports::TracedSlice traced(const trace::Slice& slice, const Shape& shape) {
  reports::TracedSlice out;
  for (const trace::Range& one : slice) {
    out.ranges.push_back({one.begin, one.count, one.step});
  }
  out.text = trace::slice_text(slice, shape);
  return out;
}

/// What was found, as plain values.
class Found {
 public:
  Found(const PlacedModel& placed, const plan::Plan& plan, const RankIndex& ranks)
      : placed_(placed), plan_(plan), ranks_(ranks) {}

  [[nodiscard]] reports::TraceReport report(const trace::Trace& trace,
                                            const trace::TraceQuery& query) const {
    const model::Mapping& mapping = placed_.model.mappings[trace.mapping];
    reports::TraceReport out;
    out.model = placed_.reference;
    out.layout = parallel::layout_id(plan_.layout());
    out.world = ranks_.world();
    out.from_hf = trace.from == trace::Side::Hf;
    out.from = trace::name(trace.from);
    out.name = trace.name;
    out.shape = trace.shape;
    out.index = query.index;
    out.element = trace.element;
    out.rule = mapping.rule->id;
    out.kind = mapping.rule->kind;
    out.source = mapping.rule->source;
    out.value = text(mapping.rule->value);
    for (const trace::Place& place : trace.places) {
      out.places.push_back(this->place(mapping, place));
    }
    return out;
  }

 private:
  [[nodiscard]] reports::TracedPlace place(const model::Mapping& mapping,
                                           const trace::Place& place) const {
    const plan::ShardFile& file = plan_.files()[place.file];
    const plan::Target& target = file.targets[place.target];
    reports::TracedPlace out;
    out.shard = parallel::shard_name(file.key, plan_.layout());
    out.file = file.name;
    out.ranks = ranks_.ranks_of(file.key);
    out.ranks_text = ranks_text(out.ranks);
    out.tensor = target.name;
    out.global = target.global_name;
    out.copy = target.copy;
    out.index = place.megatron_index;
    out.hf = place.hf;
    out.hf_index = place.hf_index;
    const Shape& shape = plan_.bound(mapping).target_shapes()[0];
    for (const trace::Block& block : place.blocks.list) {
      reports::TracedBlock row;
      row.megatron = traced(block.megatron, shape);
      if (block.source >= 0) {
        const auto slot = static_cast<std::size_t>(block.source);
        row.hf = mapping.hf[slot];
        row.hf_slice = traced(block.hf, plan_.hf_shapes(mapping)[slot]);
        row.transposed = block.transposed;
      }
      out.blocks.push_back(std::move(row));
    }
    out.blocks_left_out = place.blocks.left_out;
    return out;
  }

  const PlacedModel& placed_;
  const plan::Plan& plan_;
  const RankIndex& ranks_;
};

/// NAME, and INDEX as one word or several.
Result<trace::TraceQuery> query_of(const Options& options) {
  if (options.operands.empty()) {
    return fail(Code::BadValue, "trace needs the name of a tensor")
        .advise("bridge-verify trace NAME 3,5 --model DIR");
  }
  trace::TraceQuery out;
  out.name = options.operands.front();
  out.blocks_max = options.json ? kListedBlocks : kShownBlocks;
  if (!options.from.empty()) {
    out.from = options.from == "hf" ? trace::Side::Hf : trace::Side::Megatron;
  }
  if (options.operands.size() > 1) {
    const std::vector<std::string> words(options.operands.begin() + 1, options.operands.end());
    BV_TRY(index, trace::parse_index(join(words, ",")));
    out.index = std::move(index);
  }
  return out;
}

Status print_trace(Context& context, const Options& options) {
  BV_TRY(query, query_of(options));
  BV_TRY(library, load_library(options));
  BV_TRY(placed, open_placed(context, options, library));
  BV_TRY(plan, plan::Plan::make(placed.model, library.kinds, placed.layout));
  BV_TRY(ranks, RankIndex::make(placed.layout, options));
  BV_TRY(trace, trace::trace(plan, query));
  for (const std::string& note : placed.notes) {
    context.streams.err("note: " + reports::printable(note, true) + "\n");
  }
  const reports::TraceReport report = Found(placed, plan, ranks).report(trace, query);
  context.streams.out(
      options.json
          ? reports::trace_json(report)
          : reports::trace_text(report, style_for(context, options, context.out_is_terminal)));
  return Done{};
}

}  // namespace

int run_trace(Context& context, const Options& options) {
  const auto status = print_trace(context, options);
  return status ? 0 : report_error(context, options, status.error());
}

}  // namespace bv::cli
