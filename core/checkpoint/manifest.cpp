#include "core/checkpoint/manifest.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "core/base/text.hpp"
#include "core/checkpoint/open_model.hpp"
#include "core/io/digest.hpp"
#include "core/layout/notation.hpp"

namespace bv::checkpoint {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kSchema = "bridge-megatron/1";

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

parallel::Layout layout_of(const Json& json) {
  parallel::Layout out;
  json.at("tp").get_to(out.tp);
  json.at("pp").get_to(out.pp);
  json.at("ep").get_to(out.ep);
  json.at("etp").get_to(out.etp);
  json.at("vpp").get_to(out.vpp);
  json.at("cp").get_to(out.cp);
  const auto optional = [&](const char* key, std::optional<std::int64_t>& to) {
    if (json.contains(key)) {
      to = json.at(key).get<std::int64_t>();
    }
  };
  optional("num_layers_in_first_pipeline_stage", out.first_stage_layers);
  optional("num_layers_in_last_pipeline_stage", out.last_stage_layers);
  optional("make_vocab_size_divisible_by", out.vocab_divisor);
  out.account_for_embedding = json.value("account_for_embedding_in_pipeline_split", false);
  out.account_for_loss = json.value("account_for_loss_in_pipeline_split", false);
  out.pipeline_layout = json.value("pipeline_model_parallel_layout", std::string());
  return out;
}

Json hf_json(const MegatronFolder& folder) {
  Json files = Json::object();
  for (const auto& [file, metadata] : folder.hf_metadata) {
    files[file] = Json(metadata);
  }
  Json tensors = Json::object();
  for (const auto& [tensor, spec] : folder.hf_headers) {
    tensors[tensor] =
        Json::array({std::string(name(spec.dtype)), spec.shape, folder.hf_file_of.at(tensor)});
  }
  return {
      {"files", std::move(files)}, {"carried", folder.carried}, {"tensors", std::move(tensors)}};
}

void read_hf(const Json& json, const std::string& file, MegatronFolder& out) {
  for (const auto& [name, metadata] : json.at("files").items()) {
    out.hf_metadata[name] = metadata.get<std::map<std::string, std::string>>();
  }
  json.at("carried").get_to(out.carried);
  for (const auto& [tensor, row] : json.at("tensors").items()) {
    const auto dtype = dtype_from_name(row.at(0).get<std::string>());
    if (!dtype || !out.hf_metadata.contains(row.at(2).get<std::string>())) {
      throw std::out_of_range(
          fmt::format("hf.tensors.{} names no known dtype or file in {}", tensor, file));
    }
    out.hf_headers[tensor] = TensorSpec{tensor, *dtype, row.at(1).get<Shape>()};
    out.hf_file_of[tensor] = row.at(2).get<std::string>();
  }
}

/// Files of the way back are made and carried by these names: each must stay in its folder.
Status check_file_names(const MegatronFolder& folder, const std::string& file) {
  std::vector<std::string> names = folder.carried;
  for (const auto& [name, metadata] : folder.hf_metadata) {
    names.push_back(name);
  }
  for (const std::string& name : names) {
    const bool plain = !name.empty() && name != "." && name != ".." &&
                       name.find('/') == std::string::npos && name.find('\0') == std::string::npos;
    if (!plain) {
      return fail(Code::UnsafePath,
                  fmt::format("{} names the file \"{}\", which leads out of its folder", file,
                              escaped(name)))
          .at(file)
          .pair(escaped(name), "the plain name of a file")
          .advise("convert the HF directory again; a manifest is not edited by hand");
    }
  }
  return Done{};
}

}  // namespace

std::string manifest_text(const MegatronFolder& folder, std::string_view rules,
                          std::string_view source) {
  Json files = Json::object();
  for (const auto& [file, tensors] : folder.digests) {
    files[file] = Json(tensors);
  }
  const Json json = {
      {"schema", kSchema},
      {"family", folder.family},
      {"layout", layout_json(folder.layout)},
      {"dtype", name(folder.dtype)},
      {"spelling",
       {{"transformer_impl",
         folder.resolve.spelling.transformer_engine ? "transformer_engine" : "local"},
        {"moe_grouped_gemm", folder.resolve.spelling.grouped_experts}}},
      {"drop_mtp", folder.resolve.drop_mtp},
      {"expert_orientation", folder.resolve.expert_orientation},
      {"excluded", folder.resolve.left_out},
      {"rules_digest", rules},
      {"source_header_digest", source},
      {"hf", hf_json(folder)},
      {"files", std::move(files)},
  };
  return json.dump(2) + "\n";
}

Result<MegatronFolder> parse_manifest(std::string_view text, const std::string& file) {
  if (json_depth(text) > kJsonDepthMax) {
    return fail(Code::RulesInvalid, fmt::format("{} nests {} brackets", file, json_depth(text)))
        .at(file)
        .pair(std::to_string(json_depth(text)), fmt::format("at most {}", kJsonDepthMax))
        .advise("convert the HF directory again; a manifest is not edited by hand");
  }
  try {
    const Json json = Json::parse(text);
    if (json.at("schema") != kSchema) {
      return fail(Code::RulesInvalid, fmt::format("{} has another schema", file))
          .at(file)
          .pair(json.at("schema").dump(), std::string(kSchema))
          .advise("convert the HF directory again with this version");
    }
    MegatronFolder out;
    json.at("family").get_to(out.family);
    out.layout = layout_of(json.at("layout"));
    BV_TRY(policy, plan::dtype_policy(json.at("dtype").get<std::string>()));
    out.dtype = policy;
    out.resolve.spelling.transformer_engine =
        json.at("spelling").at("transformer_impl") == "transformer_engine";
    json.at("spelling").at("moe_grouped_gemm").get_to(out.resolve.spelling.grouped_experts);
    json.at("drop_mtp").get_to(out.resolve.drop_mtp);
    json.at("expert_orientation").get_to(out.resolve.expert_orientation);
    json.at("excluded").get_to(out.resolve.left_out);
    read_hf(json.at("hf"), file, out);
    for (const auto& [name, tensors] : json.at("files").items()) {
      out.digests[name] = tensors.get<std::map<std::string, std::string>>();
    }
    BV_CHECK(check_file_names(out, file));
    return out;
  } catch (const std::exception& problem) {  // nlohmann names key and type
    return fail(Code::RulesInvalid, fmt::format("{} cannot be read: {}", file, problem.what()))
        .at(file)
        .advise("convert the HF directory again; a manifest is not edited by hand");
  }
}

std::string rules_digest(const model::Model& model, const kinds::Catalogue& kinds) {
  io::Digest digest;
  for (const family::Rule& rule : family::rules(*model.family)) {
    digest.add(rule.kind + "\n" + rule.megatron + "\n" + rule.value + "\n");
    for (const auto& [source, name] : rule.hf) {
      digest.add(source + "=" + name + "\n");
    }
    for (const auto& [axis, size] : rule.axes) {
      digest.add(axis + "=" + size + "\n");
    }
    for (const std::string& size : rule.rest) {
      digest.add("..." + size + "\n");
    }
    if (const layout::Rule* line = kinds.find(rule.kind)) {
      digest.add(layout::print(*line) + "\n");
    }
  }
  return digest.hex();
}

}  // namespace bv::checkpoint
