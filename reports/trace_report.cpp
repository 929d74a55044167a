#include "reports/trace_report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/base/json_text.hpp"
#include "core/base/text.hpp"
#include "reports/printable.hpp"

namespace bv::reports {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kShownBlocks = 16;

Json place_json(const TraceReport& report, const TracedPlace& place) {
  Json out = {{"shard", place.file},
              {"ranks", place.ranks},
              {"tensor", place.tensor},
              {"global", place.global},
              {"copy", place.copy}};
  if (report.element) {
    out["index"] = place.index;
    out["hf"] = place.hf.empty() ? Json() : Json({{"tensor", place.hf}, {"index", place.hf_index}});
    return out;
  }
  Json blocks = Json::array();
  for (const TracedBlock& block : place.blocks) {
    Json row = {{"hf", nullptr}, {"megatron_slice", block.megatron.ranges}};
    if (!block.hf.empty()) {
      row["hf"] = block.hf;
      row["hf_slice"] = block.hf_slice.ranges;
      row["transposed"] = block.transposed;
    }
    blocks.push_back(std::move(row));
  }
  out["blocks"] = std::move(blocks);
  out["blocks_left_out"] = place.blocks_left_out;
  return out;
}

std::string block_text(const TracedBlock& block, bool ascii) {
  return block.hf.empty()
             ? fmt::format("{} = {}", block.megatron.text, "zero padding")
             : fmt::format("{} = {}{}{}", block.megatron.text, printable(block.hf, ascii),
                           block.hf_slice.text, block.transposed ? " transposed" : "");
}

std::string place_text(const TraceReport& report, const TracedPlace& place, bool ascii) {
  const std::string head = fmt::format("{}:{}", place.shard, printable(place.tensor, ascii));
  const std::string tail =
      fmt::format("   rank {}{}\n", place.ranks_text, place.copy ? ", a copy" : "");
  if (report.element) {
    const std::string megatron = head + shape_text(place.index);
    const std::string hf =
        place.hf.empty() ? "zero padding" : printable(place.hf, ascii) + shape_text(place.hf_index);
    return report.from_hf ? megatron + tail : fmt::format("{} = {}{}", megatron, hf, tail);
  }
  std::string out = head + tail;
  const std::size_t shown = std::min(place.blocks.size(), kShownBlocks);
  for (std::size_t i = 0; i < shown; ++i) {
    out += "  " + block_text(place.blocks[i], ascii) + "\n";
  }
  const std::int64_t more =
      place.blocks_left_out + static_cast<std::int64_t>(place.blocks.size() - shown);
  return more == 0 ? out : out + fmt::format("  and {} more: --json lists them\n", more);
}

}  // namespace

std::string trace_text(const TraceReport& report, const TextStyle& style) {
  std::string out = fmt::format("{}  {}{}{}\n", report.from, printable(report.name, style.ascii),
                                shape_text(report.shape), report.from_hf ? "" : "   each shard");
  out += report.index && !report.element ? "row " + shape_text(*report.index) + "\n" : "";
  out += fmt::format("rule {}  {}   {}\n", report.rule, report.kind,
                     printable(report.source, style.ascii));
  if (!report.value.empty()) {
    out += fmt::format("value {}: bytes differ on the two sides\n", report.value);
  }
  out += fmt::format("layout {}, world {}\n\n", report.layout, report.world);
  for (const TracedPlace& place : report.places) {
    out += place_text(report, place, style.ascii);
  }
  return out;
}

std::string trace_json(const TraceReport& report) {
  Json places = Json::array();
  for (const TracedPlace& place : report.places) {
    places.push_back(place_json(report, place));
  }
  const Json out = {
      {"schema", "bridge-trace/1"},
      {"model", report.model},
      {"layout", report.layout},
      {"world", report.world},
      {"from", report.from},
      {"name", report.name},
      {"shape", report.shape},
      {"index", report.index ? Json(*report.index) : Json()},
      {"rule", {{"id", report.rule}, {"kind", report.kind}, {"source", report.source}}},
      {"value", report.value},
      {"places", std::move(places)},
  };
  return json_text(out, 2) + "\n";
}

}  // namespace bv::reports
