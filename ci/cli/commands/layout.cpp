// layout: ranks, stages and shard files of one parallel layout (docs/reference/layout.md).

#include <fmt/format.h>

#include <limits>
#include <nlohmann/json.hpp>

#include "ci/cli/command.hpp"
#include "ci/cli/session/placed_model.hpp"
#include "core/base/arith.hpp"
#include "core/base/text.hpp"
#include "core/trace/trace.hpp"
#include "reports/printable.hpp"

namespace bv::cli {
namespace {

using Json = nlohmann::ordered_json;

/// What one shard file weighs.
struct ShardSize {
  std::int64_t tensors = 0;
  std::int64_t bytes = 0;
};

std::int64_t target_bytes(const PlacedModel& placed, const plan::Plan& plan,
                          const plan::Target& target) {
  const model::Mapping& mapping = placed.model.mappings[target.mapping];
  std::vector<DType> dtypes;
  for (const std::string& hf : mapping.hf) {
    const auto header = placed.headers.find(hf);
    dtypes.push_back(header == placed.headers.end() ? DType::BF16 : header->second.dtype);
  }
  const DType dtype = plan::target_dtype(*mapping.rule, dtypes, placed.dtype);
  constexpr std::uint64_t kMax = std::numeric_limits<std::int64_t>::max();
  return static_cast<std::int64_t>(
      std::min(kMax, tensor_bytes({target.name, dtype, plan.bound(mapping).target_shapes()[0]})));
}

struct LayoutReport {
  parallel::Layout layout;
  RankIndex ranks;
  std::optional<PlacedModel> placed;
  std::optional<plan::Plan> plan;
  std::optional<trace::Trace> tensor;
  std::vector<ShardSize> sizes;  // as plan->files()
  bool vision = false;
};

Json layout_json(const parallel::Layout& layout) {
  return {{"id", parallel::layout_id(layout)},
          {"tp", layout.tp},
          {"pp", layout.pp},
          {"ep", layout.ep},
          {"etp", layout.etp},
          {"vpp", parallel::virtual_stages(layout)},
          {"cp", layout.cp}};
}

/// Rows in rank order with Megatron's coordinates; cp and edp only where there is more than one.
Json ranks_json(const parallel::Layout& layout, const RankIndex& ranks) {
  const bool edp = std::any_of(ranks.table().begin(), ranks.table().end(),
                               [](const parallel::Coordinates& at) { return at.edp > 0; });
  Json out = Json::array();
  for (std::size_t rank = 0; rank < ranks.table().size(); ++rank) {
    const parallel::Coordinates& at = ranks.table()[rank];
    Json row = {{"rank", rank}, {"pp", at.pp},   {"tp", at.tp},
                {"ep", at.ep},  {"etp", at.etp}, {"dp", at.dp}};
    if (layout.cp > 1) {
      row["cp"] = at.cp;
    }
    if (edp) {
      row["edp"] = at.edp;
    }
    out.push_back(std::move(row));
  }
  return out;
}

Json stages_json(const LayoutReport& report) {
  Json out = Json::array();
  if (!report.plan) {
    return out;
  }
  for (const parallel::StageContents& stage : report.plan->stages()) {
    out.push_back({{"pp", stage.pp},
                   {"vp", stage.vp},
                   {"first_layer", stage.first_layer},
                   {"layers", stage.layers},
                   {"embedding", stage.embedding},
                   {"vision", stage.embedding && report.vision},
                   {"final_norm", stage.final_norm},
                   {"output", stage.output},
                   {"first_mtp", stage.first_mtp},
                   {"mtp_layers", stage.mtp_layers}});
  }
  return out;
}

Json shards_json(const LayoutReport& report) {
  Json out = Json::array();
  const auto keys = parallel::shard_keys(report.layout);
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const parallel::ShardKey& key = keys[i];
    Json row = {{"file", parallel::shard_name(key, report.layout) + ".safetensors"},
                {"pp", key.pp},
                {"tp", key.tp},
                {"ep", key.ep},
                {"etp", key.etp},
                {"vp", key.vp},
                {"ranks", report.ranks.ranks_of(key)}};
    row["tensors"] = report.plan ? Json(report.sizes[i].tensors) : Json();
    row["bytes"] = report.plan ? Json(report.sizes[i].bytes) : Json();
    out.push_back(std::move(row));
  }
  return out;
}

Json tensor_json(const LayoutReport& report) {
  if (!report.tensor) {
    return {};
  }
  Json places = Json::array();
  for (const trace::Place& place : report.tensor->places) {
    const plan::ShardFile& file = report.plan->files()[place.file];
    const plan::Target& target = file.targets[place.target];
    const model::Mapping& mapping = report.placed->model.mappings[target.mapping];
    places.push_back({{"file", file.name},
                      {"ranks", report.ranks.ranks_of(file.key)},
                      {"tensor", target.name},
                      {"shape", report.plan->bound(mapping).target_shapes()[0]},
                      {"bytes", target_bytes(*report.placed, *report.plan, target)},
                      {"copy", target.copy}});
  }
  return {{"from", trace::name(report.tensor->from)},
          {"name", report.tensor->name},
          {"places", std::move(places)}};
}

std::string json_of(const LayoutReport& report) {
  const Json out = {
      {"schema", "bridge-layout/1"},
      {"model", report.placed ? Json(report.placed->reference) : Json()},
      {"layout", layout_json(report.layout)},
      {"world", report.ranks.world()},
      {"dtype", report.placed ? Json(plan::name(report.placed->dtype)) : Json()},
      {"ranks", ranks_json(report.layout, report.ranks)},
      {"stages", stages_json(report)},
      {"shards", shards_json(report)},
      {"tensor", tensor_json(report)},
  };
  return out.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string range_text(std::int64_t first, std::int64_t count) {
  return count == 1 ? std::to_string(first) : fmt::format("{}-{}", first, first + count - 1);
}

std::string stage_text(const parallel::StageContents& stage, bool chunks, bool vision) {
  std::vector<std::string> parts;
  if (stage.embedding) {
    parts.emplace_back(vision ? "vision tower, embedding" : "embedding");
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

std::string ranks_table_text(const LayoutReport& report) {
  const Json rows = ranks_json(report.layout, report.ranks);
  std::string out;
  for (const Json& row : rows) {
    std::string line;
    for (const auto& [key, value] : row.items()) {
      line += out.empty() ? fmt::format("{:>6}", key) : "";
    }
    out += line.empty() ? "" : line + "\n";
    for (const auto& [key, value] : row.items()) {
      out += fmt::format("{:>6}", value.get<std::int64_t>());
    }
    out += "\n";
  }
  return out;
}

std::string shards_text(const LayoutReport& report) {
  std::string out;
  std::int64_t total = 0;
  const auto& files = report.plan->files();
  for (std::size_t i = 0; i < files.size(); ++i) {
    total = capped_add(total, report.sizes[i].bytes);
    out += fmt::format("  {}  {} tensors  {} bytes ({})  rank {}\n", files[i].name,
                       report.sizes[i].tensors, thousands(report.sizes[i].bytes),
                       human_bytes(static_cast<std::uint64_t>(report.sizes[i].bytes)),
                       ranks_text(report.ranks.ranks_of(files[i].key)));
  }
  return fmt::format("shards   {} files, {} of tensors, dtype {}\n", files.size(),
                     human_bytes(static_cast<std::uint64_t>(total)),
                     plan::name(report.placed->dtype)) +
         out;
}

std::string text_of(const LayoutReport& report, bool ascii) {
  std::string out =
      fmt::format("layout   {}, world {} (at least {})\n", parallel::layout_id(report.layout),
                  report.ranks.world(), parallel::minimum_world(report.layout));
  if (report.placed) {
    out +=
        fmt::format("model    {}, family {}\n", reports::printable(report.placed->reference, ascii),
                    family::name(*report.placed->model.family));
  }
  out += "\n" + ranks_table_text(report);
  if (!report.plan) {
    return out;
  }
  out += "\nstages\n";
  for (const parallel::StageContents& stage : report.plan->stages()) {
    out += stage_text(stage, parallel::virtual_stages(report.layout) > 1, report.vision);
  }
  if (report.plan->padded_vocabulary() > 0) {
    out += fmt::format("\nvocabulary {} rows\n", thousands(report.plan->padded_vocabulary()));
  }
  out += "\n" + shards_text(report);
  if (report.tensor) {
    const Json tensor = tensor_json(report);
    out += fmt::format("\ntensor   {}\n", reports::printable(report.tensor->name, ascii));
    for (const Json& place : tensor.at("places")) {
      out += fmt::format("  {}:{} {}  {} bytes{}\n", place.at("file").get<std::string>(),
                         reports::printable(place.at("tensor").get<std::string>(), ascii),
                         shape_text(place.at("shape").get<Shape>()),
                         thousands(place.at("bytes").get<std::int64_t>()),
                         place.at("copy").get<bool>() ? ", a copy" : "");
    }
  }
  return out;
}

/// Fills what needs a model.
Status place(LayoutReport& report, const Options& options, const Library& library) {
  BV_TRY(plan, plan::Plan::make(report.placed->model, library.kinds, report.layout));
  report.plan.emplace(std::move(plan));
  for (const plan::ShardFile& file : report.plan->files()) {
    ShardSize size;
    for (const plan::Target& target : file.targets) {
      ++size.tensors;
      size.bytes = capped_add(size.bytes, target_bytes(*report.placed, *report.plan, target));
    }
    report.sizes.push_back(size);
  }
  const auto& mappings = report.placed->model.mappings;
  report.vision = std::any_of(mappings.begin(), mappings.end(), [](const model::Mapping& one) {
    return one.stage == family::Stage::Vision;
  });
  if (!options.tensor.empty()) {
    BV_TRY(tensor, trace::trace(*report.plan, {options.tensor, {}, {}, 0}));
    report.tensor = std::move(tensor);
  }
  return Done{};
}

Status print_layout(Context& context, const Options& options) {
  BV_TRY(library, load_library(options));
  LayoutReport report;
  const bool has_model = !options.model.empty() || !options.headers.empty();
  if (has_model) {
    BV_TRY(placed, open_placed(context, options, library));
    report.layout = placed.layout;
    report.placed.emplace(std::move(placed));
  } else if (!options.tensor.empty()) {
    return fail(Code::BadValue, fmt::format("--tensor {} wants a model", escaped(options.tensor)))
        .advise("add --model DIR");
  } else {
    BV_TRY(layout, one_layout(options));
    report.layout = layout;
  }
  if (has_model) {  // before the ranks are listed: it bounds their number
    BV_CHECK(place(report, options, library));
  }
  BV_TRY(ranks, RankIndex::make(report.layout, options));
  report.ranks = std::move(ranks);
  if (has_model) {
    for (const std::string& note : report.placed->notes) {
      context.streams.err("note: " + reports::printable(note, true) + "\n");
    }
  }
  const bool ascii = style_for(context, options, context.out_is_terminal).ascii;
  context.streams.out(options.json ? json_of(report) : text_of(report, ascii));
  return Done{};
}

}  // namespace

int run_layout(Context& context, const Options& options) {
  const auto status = print_layout(context, options);
  return status ? 0 : report_error(context, options, status.error());
}

}  // namespace bv::cli
