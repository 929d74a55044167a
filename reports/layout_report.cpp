#include "reports/layout_report.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "core/base/arith.hpp"
#include "core/base/json_text.hpp"
#include "core/base/text.hpp"
#include "reports/printable.hpp"
#include "reports/wrap.hpp"

namespace bv::reports {
namespace {

using Json = nlohmann::ordered_json;

Json ranks_json(const LayoutReport& report) {
  Json out = Json::array();
  for (const RankRow& row : report.ranks) {
    Json cells = Json::object();
    for (const auto& [key, value] : row) {
      cells[key] = value;
    }
    out.push_back(std::move(cells));
  }
  return out;
}

Json stages_json(const LayoutReport& report) {
  Json out = Json::array();
  for (const StageRow& stage : report.stages) {
    out.push_back({{"pp", stage.pp},
                   {"vp", stage.vp},
                   {"first_layer", stage.first_layer},
                   {"layers", stage.layers},
                   {"embedding", stage.embedding},
                   {"vision", stage.vision},
                   {"final_norm", stage.final_norm},
                   {"output", stage.output},
                   {"first_mtp", stage.first_mtp},
                   {"mtp_layers", stage.mtp_layers}});
  }
  return out;
}

Json shards_json(const LayoutReport& report) {
  Json out = Json::array();
  for (const ShardRow& shard : report.shards) {
    out.push_back({{"file", shard.file},
                   {"pp", shard.pp},
                   {"tp", shard.tp},
                   {"ep", shard.ep},
                   {"etp", shard.etp},
                   {"vp", shard.vp},
                   {"ranks", shard.ranks},
                   {"tensors", report.model ? Json(shard.tensors) : Json()},
                   {"bytes", report.model ? Json(shard.bytes) : Json()}});
  }
  return out;
}

Json tensor_json(const LayoutReport& report) {
  if (!report.tensor) {
    return {};
  }
  Json places = Json::array();
  for (const ShardTensor& place : report.tensor->places) {
    places.push_back({{"file", place.file},
                      {"ranks", place.ranks},
                      {"tensor", place.name},
                      {"shape", place.shape},
                      {"bytes", place.bytes},
                      {"copy", place.copy}});
  }
  return {
      {"from", report.tensor->from}, {"name", report.tensor->name}, {"places", std::move(places)}};
}

Json rank_json(const LayoutReport& report) {
  if (!report.rank) {
    return {};
  }
  Json tensors = Json::array();
  for (const ShardTensor& tensor : report.rank->tensors) {
    tensors.push_back({{"file", tensor.file},
                       {"tensor", tensor.name},
                       {"global", tensor.global},
                       {"dtype", tensor.dtype},
                       {"shape", tensor.shape},
                       {"bytes", tensor.bytes},
                       {"copy", tensor.copy}});
  }
  return {{"rank", report.rank->rank},
          {"first_expert", report.rank->first_expert},
          {"experts", report.rank->experts},
          {"experts_of_model", report.rank->experts_all},
          {"tensors", std::move(tensors)}};
}

std::string range_text(std::int64_t first, std::int64_t count) {
  return count == 1 ? std::to_string(first) : fmt::format("{}-{}", first, first + count - 1);
}

std::string stage_text(const StageRow& stage, bool chunks) {
  std::vector<std::string> parts;
  if (stage.embedding) {
    parts.emplace_back(stage.vision ? "vision tower, embedding" : "embedding");
  }
  if (stage.layers > 0) {
    parts.push_back((stage.layers == 1 ? "layer " : "layers ") +
                    range_text(stage.first_layer, stage.layers));
  }
  if (stage.final_norm) {
    parts.emplace_back("final norm");
  }
  if (stage.mtp_layers > 0) {
    parts.push_back(fmt::format("{} {}{}", stage.mtp_layers == 1 ? "MTP layer" : "MTP layers",
                                range_text(stage.first_mtp, stage.mtp_layers),
                                stage.embedding ? "" : " with a copy of the embedding"));
  }
  if (stage.output) {
    parts.emplace_back("output");
  }
  const std::string chunk = chunks ? fmt::format(" vp{}", stage.vp) : "";
  return fmt::format("  pp{}{}  {}\n", stage.pp, chunk,
                     parts.empty() ? "nothing" : join(parts, ", "));
}

std::string ranks_table(const LayoutReport& report) {
  std::string out;
  for (const RankRow& row : report.ranks) {
    std::string head;
    std::string line;
    for (const auto& [key, value] : row) {
      head += fmt::format("{:>6}", key);
      line += fmt::format("{:>6}", value);
    }
    out += (out.empty() ? head + "\n" : "") + line + "\n";
  }
  return out;
}

std::string bytes_text(std::int64_t bytes) {
  return bytes < 1000 ? counted(static_cast<std::uint64_t>(bytes), "byte")
                      : fmt::format("{} bytes ({})", thousands(bytes),
                                    human_bytes(static_cast<std::uint64_t>(bytes)));
}

std::string shards_text(const LayoutReport& report) {
  std::string out;
  std::int64_t total = 0;
  for (const ShardRow& shard : report.shards) {
    total = capped_add(total, shard.bytes);
    out += fmt::format("  {}  {}  {}  rank {}\n", shard.file,
                       counted(static_cast<std::uint64_t>(shard.tensors), "tensor"),
                       bytes_text(shard.bytes), shard.ranks_text);
  }
  return fmt::format("shards   {}, {} of tensors, dtype {}\n",
                     counted(report.shards.size(), "file"),
                     human_bytes(static_cast<std::uint64_t>(total)), report.dtype) +
         out;
}

/// What does not fit goes below the name.
std::string below_name(const std::string& line, const TextStyle& style) {
  return wrapped(line, 0, "      ", static_cast<std::size_t>(style.width));
}

std::string holdings_text(const LayoutReport& report, const TextStyle& style) {
  const bool ascii = style.ascii;
  const RankHoldings& rank = *report.rank;
  std::string out;
  if (rank.experts_all > 0) {
    out += rank.experts == 0
               ? fmt::format("experts  none of {}\n", rank.experts_all)
               : fmt::format("experts  {} of {}\n", range_text(rank.first_expert, rank.experts),
                             rank.experts_all);
  }
  out += "\n";
  for (const ShardTensor& tensor : rank.tensors) {
    const std::string line = fmt::format(
        "  {} {} {}  {}{}{}", printable(tensor.name, ascii), shape_text(tensor.shape), tensor.dtype,
        bytes_text(tensor.bytes), tensor.copy ? ", a copy" : "",
        tensor.global == tensor.name ? ""
                                     : "   " + printable(tensor.global, ascii) + " of the model");
    out += below_name(line, style) + "\n";
  }
  return out;
}

std::string places_text(const TensorPlaces& tensor, const TextStyle& style) {
  const bool ascii = style.ascii;
  std::string out = fmt::format("\ntensor   {}\n", printable(tensor.name, ascii));
  for (const ShardTensor& place : tensor.places) {
    const std::string line =
        fmt::format("  {}:{} {}  {}{}", place.file, printable(place.name, ascii),
                    shape_text(place.shape), bytes_text(place.bytes), place.copy ? ", a copy" : "");
    out += below_name(line, style) + "\n";
  }
  return out;
}

}  // namespace

std::string layout_json(const LayoutReport& report) {
  const Json out = {
      {"schema", "bridge-layout/1"},
      {"model", report.model ? Json(*report.model) : Json()},
      {"layout",
       {{"id", report.layout},
        {"tp", report.tp},
        {"pp", report.pp},
        {"ep", report.ep},
        {"etp", report.etp},
        {"vpp", report.vpp},
        {"cp", report.cp}}},
      {"world", report.world},
      {"dtype", report.model ? Json(report.dtype) : Json()},
      {"ranks", ranks_json(report)},
      {"stages", stages_json(report)},
      {"shards", shards_json(report)},
      {"tensor", tensor_json(report)},
      {"rank", rank_json(report)},
  };
  return json_text(out, 2) + "\n";
}

std::string layout_text(const LayoutReport& report, const TextStyle& style) {
  std::string out = fmt::format("layout   {}, world {} (at least {})\n", report.layout,
                                report.world, report.world_least);
  if (report.model) {
    out += fmt::format("model    {}, family {}\n", printable(*report.model, style.ascii),
                       report.family);
  }
  out += "\n" + ranks_table(report);
  if (!report.model) {
    return out;
  }
  out += "\nstages\n";
  for (const StageRow& stage : report.stages) {
    out += stage_text(stage, report.vpp > 1);
  }
  if (report.padded_vocabulary > 0) {
    out += fmt::format("\nvocabulary {} rows\n", thousands(report.padded_vocabulary));
  }
  out += "\n" + shards_text(report);
  out += report.rank ? holdings_text(report, style) : "";
  return out + (report.tensor ? places_text(*report.tensor, style) : "");
}

}  // namespace bv::reports
