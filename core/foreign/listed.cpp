#include "core/foreign/listed.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/family/symbols.hpp"
#include "core/foreign/parameter.hpp"

namespace bv::foreign {

WantedParameter from_name(const std::string& name, const std::string& text_prefix) {
  const Anatomy anatomy = anatomy_of(name, text_prefix);
  WantedParameter out;
  out.name = name;
  out.stage = anatomy.stage;
  out.index = anatomy.index;
  out.expert = anatomy.expert;
  out.name_template = anatomy.name_template;
  out.text = anatomy.stage != family::Stage::Vision;
  out.vocabulary =
      anatomy.usual == "embedding.word_embeddings.weight" || anatomy.usual == "output_layer.weight";
  out.is_expert = anatomy.expert >= 0;
  return out;
}

void follow_list(const std::vector<WantedParameter>& parameters, model::Model& model) {
  std::int64_t mtp = 0;
  std::int64_t layers = 0;
  std::int64_t experts = 0;
  bool output = false;
  for (const WantedParameter& parameter : parameters) {
    std::int64_t& most = parameter.stage == family::Stage::Mtp ? mtp : layers;
    const bool layer =
        parameter.stage == family::Stage::Mtp || parameter.stage == family::Stage::Decoder;
    most = layer ? std::max(most, parameter.index + 1) : most;
    experts = std::max(experts, parameter.expert + 1);
    output = output || parameter.name.ends_with("output_layer.weight");
  }
  model.mtp_layers = mtp;
  const auto follow = [&model](std::string_view number, std::int64_t value) {
    if (value > 0 && model.geometry.get(number) != value) {
      model.geometry.symbols[std::string(number)] = value;
      model.geometry.origin[std::string(number)] = "model.parameters of the rules file";
    }
  };
  follow(family::symbols::kLayers, layers);
  follow(family::symbols::kExperts, experts);
  if (output && model.tied) {
    model.detected.push_back(
        {"embeddings", "untied in Megatron", "model.parameters lists an output layer of its own"});
  }
  model.tied = model.tied && !output;
  model.detected.push_back({"parameters", fmt::format("{} listed", parameters.size()),
                            "model.parameters of the rules file"});
}

}  // namespace bv::foreign
