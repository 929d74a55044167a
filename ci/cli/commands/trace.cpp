// trace NAME [INDEX]: where a tensor, or one element of it, lies on the other side.

#include "core/trace/trace.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "ci/cli/command.hpp"
#include "ci/cli/session/placed_model.hpp"
#include "core/base/text.hpp"
#include "reports/printable.hpp"

namespace bv::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kShownBlocks = 16;
constexpr std::size_t kListedBlocks = 65536;

Json slice_json(const trace::Slice& slice) {
  Json out = Json::array();
  for (const trace::Range& one : slice) {
    out.push_back({one.begin, one.count, one.step});
  }
  return out;
}

/// The answer in both forms.
class TraceReport {
 public:
  TraceReport(const PlacedModel& placed, const plan::Plan& plan, const trace::Trace& trace,
              const trace::TraceQuery& query, const RankIndex& ranks)
      : placed_(placed),
        plan_(plan),
        trace_(trace),
        query_(query),
        ranks_(ranks),
        mapping_(placed.model.mappings[trace.mapping]) {}

  [[nodiscard]] std::string json() const {
    Json places = Json::array();
    for (const trace::Place& place : trace_.places) {
      places.push_back(place_json(place));
    }
    const Json out = {
        {"schema", "bridge-trace/1"},
        {"model", placed_.reference},
        {"layout", parallel::layout_id(plan_.layout())},
        {"world", ranks_.world()},
        {"from", trace::name(trace_.from)},
        {"name", trace_.name},
        {"shape", trace_.shape},
        {"index", query_.index ? Json(*query_.index) : Json()},
        {"rule",
         {{"id", mapping_.rule->id},
          {"kind", mapping_.rule->kind},
          {"source", mapping_.rule->source}}},
        {"value", mapping_.rule->value},
        {"places", std::move(places)},
    };
    return out.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
  }

  [[nodiscard]] std::string text(bool ascii) const {
    std::string out = fmt::format("{}  {}{}   {}\n", trace::name(trace_.from),
                                  reports::printable(trace_.name, ascii), shape_text(trace_.shape),
                                  trace_.from == trace::Side::Megatron ? "each shard" : "");
    out.erase(out.find_last_not_of(" \n") + 1);
    out += fmt::format("\nrule {}  {}   {}\n", mapping_.rule->id, mapping_.rule->kind,
                       mapping_.rule->source);
    if (!mapping_.rule->value.empty()) {
      out += fmt::format("value {}: bytes differ on the two sides\n", mapping_.rule->value);
    }
    out +=
        fmt::format("layout {}, world {}\n\n", parallel::layout_id(plan_.layout()), ranks_.world());
    for (const trace::Place& place : trace_.places) {
      out += place_text(place, ascii);
    }
    return out;
  }

 private:
  [[nodiscard]] const plan::ShardFile& file_of(const trace::Place& place) const {
    return plan_.files()[place.file];
  }
  [[nodiscard]] const plan::Target& target_of(const trace::Place& place) const {
    return file_of(place).targets[place.target];
  }

  [[nodiscard]] Json place_json(const trace::Place& place) const {
    const plan::Target& target = target_of(place);
    Json out = {{"shard", file_of(place).name},
                {"ranks", ranks_.ranks_of(file_of(place).key)},
                {"tensor", target.name},
                {"global", target.global_name},
                {"copy", target.copy}};
    if (query_.index) {
      out["index"] = place.megatron_index;
      out["hf"] =
          place.hf.empty() ? Json() : Json({{"tensor", place.hf}, {"index", place.hf_index}});
      return out;
    }
    Json blocks = Json::array();
    for (const trace::Block& block : place.blocks.list) {
      Json row = {{"hf", nullptr}, {"megatron_slice", slice_json(block.megatron)}};
      if (block.source >= 0) {
        row["hf"] = mapping_.hf[static_cast<std::size_t>(block.source)];
        row["hf_slice"] = slice_json(block.hf);
        row["transposed"] = block.transposed;
      }
      blocks.push_back(std::move(row));
    }
    out["blocks"] = std::move(blocks);
    out["blocks_left_out"] = place.blocks.left_out;
    return out;
  }

  [[nodiscard]] std::string place_text(const trace::Place& place, bool ascii) const {
    const plan::Target& target = target_of(place);
    const std::string shard = parallel::shard_name(file_of(place).key, plan_.layout());
    const std::string head = fmt::format("{}:{}", shard, reports::printable(target.name, ascii));
    const std::string tail =
        fmt::format("   rank {}{}\n", ranks_text(ranks_.ranks_of(file_of(place).key)),
                    target.copy ? ", a copy" : "");
    if (query_.index) {
      const std::string hf = place.hf.empty()
                                 ? "zero padding"
                                 : reports::printable(place.hf, ascii) + shape_text(place.hf_index);
      const std::string megatron = head + shape_text(place.megatron_index);
      return trace_.from == trace::Side::Hf ? megatron + tail
                                            : fmt::format("{} = {}{}", megatron, hf, tail);
    }
    std::string out = head + tail;
    const Shape& shape = plan_.bound(mapping_).target_shapes()[0];
    std::size_t shown = 0;
    for (const trace::Block& block : place.blocks.list) {
      if (shown++ == kShownBlocks) {
        break;
      }
      out += "  " + block_text(block, shape, ascii) + "\n";
    }
    const std::int64_t more =
        place.blocks.left_out + static_cast<std::int64_t>(place.blocks.list.size()) -
        static_cast<std::int64_t>(std::min(place.blocks.list.size(), kShownBlocks));
    return more == 0 ? out : out + fmt::format("  and {} more: --json lists them\n", more);
  }

  [[nodiscard]] std::string block_text(const trace::Block& block, const Shape& shape,
                                       bool ascii) const {
    const std::string target = trace::slice_text(block.megatron, shape);
    if (block.source < 0) {
      return target + " = zero padding";
    }
    const auto slot = static_cast<std::size_t>(block.source);
    return fmt::format("{} = {}{}{}", target, reports::printable(mapping_.hf[slot], ascii),
                       trace::slice_text(block.hf, plan_.hf_shapes(mapping_)[slot]),
                       block.transposed ? " transposed" : "");
  }

  const PlacedModel& placed_;
  const plan::Plan& plan_;
  const trace::Trace& trace_;
  const trace::TraceQuery& query_;
  const RankIndex& ranks_;
  const model::Mapping& mapping_;
};

/// NAME, and INDEX as one word or several.
Result<trace::TraceQuery> query_of(const Options& options) {
  if (options.operands.empty()) {
    return fail(Code::BadValue, "trace wants the name of a tensor")
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
  const TraceReport report(placed, plan, trace, query, ranks);
  const bool ascii = style_for(context, options, context.out_is_terminal).ascii;
  context.streams.out(options.json ? report.json() : report.text(ascii));
  return Done{};
}

}  // namespace

int run_trace(Context& context, const Options& options) {
  const auto status = print_trace(context, options);
  return status ? 0 : report_error(context, options, status.error());
}

}  // namespace bv::cli
