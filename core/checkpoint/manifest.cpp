#include "core/checkpoint/manifest.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <nlohmann/json.hpp>

#include "core/base/json_text.hpp"
#include "core/io/digest.hpp"
#include "core/layout/notation.hpp"

namespace bv::checkpoint {
namespace {

using Json = nlohmann::ordered_json;

Json layout_json(const parallel::Layout& layout) {
  Json out = {{"tp", layout.tp},   {"pp", layout.pp},   {"ep", layout.ep},
              {"etp", layout.etp}, {"vpp", layout.vpp}, {"cp", layout.cp}};
  if (layout.first_stage_layers) {
    out["num_layers_in_first_pipeline_stage"] = *layout.first_stage_layers;
  }
  if (layout.last_stage_layers) {
    out["num_layers_in_last_pipeline_stage"] = *layout.last_stage_layers;
  }
  if (layout.account_for_embedding) {
    out["account_for_embedding_in_pipeline_split"] = true;
  }
  if (layout.account_for_loss) {
    out["account_for_loss_in_pipeline_split"] = true;
  }
  if (!layout.pipeline_layout.empty()) {
    out["pipeline_model_parallel_layout"] = layout.pipeline_layout;
  }
  if (layout.vocab_divisor) {
    out["make_vocab_size_divisible_by"] = *layout.vocab_divisor;
  }
  return out;
}

Json print_json(const io::FilePrint& print) {
  return Json::array({print.bytes, print.digest});
}

Json files_json(const std::map<std::string, std::map<std::string, std::string>>& metadata) {
  Json out = Json::object();
  for (const auto& [file, texts] : metadata) {
    out[file] = Json(texts);
  }
  return out;
}

Json carried_json(const std::map<std::string, io::FilePrint>& carried) {
  Json out = Json::object();
  for (const auto& [file, print] : carried) {
    out[file] = print_json(print);
  }
  return out;
}

Json quantised_json(const QuantisedSide& side) {
  Json tensors = Json::object();
  for (const auto& [tensor, spec] : side.headers) {
    tensors[tensor] = Json::array({std::string(name(spec.dtype)), spec.shape,
                                   side.file_of.at(tensor), side.digests.at(tensor)});
  }
  return {{"files", files_json(side.metadata)},
          {"carried", carried_json(side.carried)},
          {"headers_digest", placed_headers_digest(side)},
          {"tensors", std::move(tensors)}};
}

Json hf_json(const MegatronFolder& folder) {
  Json tensors = Json::object();
  for (const auto& [tensor, spec] : folder.hf_headers) {
    tensors[tensor] =
        Json::array({std::string(name(spec.dtype)), spec.shape, folder.hf_file_of.at(tensor)});
  }
  return {{"files", files_json(folder.hf_metadata)},
          {"carried", carried_json(folder.carried)},
          {"left_out", folder.left_out},
          {"headers_digest", placed_headers_digest(folder)},
          {"tensors", std::move(tensors)}};
}

Json origin_json(const MegatronFolder& folder, std::string_view schema) {
  Json out = {{"schema", schema}, {"family", folder.family}};
  if (folder.rules) {
    out["rules"] = print_json(*folder.rules);
  }
  return out;
}

/// What was decided, and tensors alone do not show.
void add_choices(const MegatronFolder& folder, Json& json) {
  const model::ResolveOptions& resolve = folder.resolve;
  Json settings = Json::array();
  for (const auto& [path, value] : folder.settings) {
    settings.push_back(Json::array({path, value}));
  }
  json["dtype"] = name(folder.dtype);
  json["spelling"] = {
      {"transformer_impl", resolve.spelling.transformer_engine ? "transformer_engine" : "local"},
      {"moe_grouped_gemm", resolve.spelling.grouped_experts}};
  json["drop_mtp"] = resolve.drop_mtp;
  json["expert_orientation"] = text(resolve.expert_orientation);
  json["excluded"] = resolve.left_out;
  json["settings"] = std::move(settings);
  if (folder.adapter) {
    json["adapter"] = {{"digest", folder.adapter->digest}, {"untied", folder.adapter->untied}};
  }
}

}  // namespace

std::string placed_headers_digest(const MegatronFolder& folder) {
  io::Digest digest;
  for (const auto& [tensor, spec] : folder.hf_headers) {
    digest.add(fmt::format("{}\n{} {}\n{}\n", tensor, name(spec.dtype), fmt::join(spec.shape, ","),
                           folder.hf_file_of.at(tensor)));
  }
  return digest.hex();
}

std::string placed_headers_digest(const QuantisedSide& side) {
  io::Digest digest;
  for (const auto& [tensor, spec] : side.headers) {
    digest.add(fmt::format("{}\n{} {}\n{}\n{}\n", tensor, name(spec.dtype),
                           fmt::join(spec.shape, ","), side.file_of.at(tensor),
                           side.digests.at(tensor)));
  }
  return digest.hex();
}

std::string manifest_text(const MegatronFolder& folder) {
  Json files = Json::object();
  for (const auto& [file, tensors] : folder.digests) {
    files[file] = Json(tensors);
  }
  Json json = origin_json(folder, kManifestSchema);
  json["layout"] = layout_json(folder.layout);
  add_choices(folder, json);
  json["plan_digest"] = folder.plan_digest;
  json["hf"] = hf_json(folder);
  if (folder.quantised) {
    json["quantised"] = quantised_json(*folder.quantised);
  }
  json["files"] = std::move(files);
  return json_text(json, 2) + "\n";
}

std::string record_text(const MegatronFolder& folder) {
  Json json = origin_json(folder, kRecordSchema);
  add_choices(folder, json);
  return json_text(json, 2) + "\n";
}

std::string plan_digest(const plan::Plan& plan) {
  io::Digest digest;
  const parallel::Layout& layout = plan.layout();
  digest.add(fmt::format(
      "{} {} {} {} {} {}\n{}\n", parallel::layout_id(layout), layout.first_stage_layers.value_or(0),
      layout.last_stage_layers.value_or(0), layout.account_for_embedding, layout.account_for_loss,
      layout.vocab_divisor.value_or(0), layout.pipeline_layout));
  for (const plan::ShardFile& file : plan.files()) {
    digest.add(fmt::format("{} {}\n", file.name, file.targets.size()));
  }
  std::map<const family::Rule*, std::size_t> known;
  for (const model::Mapping& mapping : plan.model().mappings) {
    const auto [rule, fresh] = known.try_emplace(mapping.rule, known.size());
    if (fresh) {
      const layout::BoundRule& bound = plan.bound(mapping);
      digest.add(fmt::format("{}\n{}\n", layout::print(bound.rule()), text(mapping.rule->value)));
      for (const Shape& shape : bound.source_shapes()) {
        digest.add(fmt::format("{}\n", fmt::join(shape, ",")));
      }
      digest.add(fmt::format("t={} p={} ", bound.size("t"), bound.size("p")));
      for (const auto& [axis, expression] : mapping.rule->axes) {
        digest.add(fmt::format("{}={} ", axis, bound.size(axis)));
      }
    }
    digest.add(fmt::format("\n{} {} {} {} {}\n{}\n", rule->second, static_cast<int>(mapping.stage),
                           mapping.index, mapping.expert, plan.model().megatron_name(mapping),
                           fmt::join(mapping.hf, "\n")));
  }
  return digest.hex();
}

}  // namespace bv::checkpoint
