// Which parameters are certain to exist although no rule makes them of a tensor, and which only
// may.

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "core/base/text.hpp"
#include "core/foreign/layer_words.hpp"
#include "core/foreign/parameter.hpp"
#include "core/foreign/shown.hpp"
#include "core/foreign/survey.hpp"

namespace bv::foreign {
namespace {

/// Norms that take one another's place; the standalone one last.
const std::vector<std::vector<std::string>>& norm_groups() {
  static const std::vector<std::vector<std::string>> groups = {
      {"self_attention.linear_qkv.layer_norm_weight", "self_attention.in_proj.layer_norm_weight",
       "mixer.in_proj.layer_norm_weight", "input_layernorm.weight"},
      {"mlp.linear_fc1.layer_norm_weight", "pre_mlp_layernorm.weight"}};
  return groups;
}

class Expected {
 public:
  Expected(const SurveyInput& input, Survey& survey) : input_(input), survey_(survey) {
    for (const Made& made : survey_.made) {
      note(made);
    }
  }

  void run() {
    complete_modules();
    complete_layers(is_mixer, "attention or another mixer");
    complete_layers(is_feed, "an MLP or experts");
    complete_options();
    complete_norms();
    complete_ends();
    complete_mtp();
    ask_about_options();
    ask_about_unknown_modules();
  }

 private:
  using Place = std::pair<LayerPlace, std::string>;  // layer, usual name

  void note(const Made& made) {
    const LayerPlace layer = {made.parameter.stage, made.parameter.index};
    names_.insert(made.parameter.name);
    there_.emplace(layer, made.usual);
    if (made.stored && made.parameter.stage == family::Stage::Decoder) {
      layers_of_[made.usual].insert(layer.second);
    }
    if (made.parameter.stage == family::Stage::Mtp && !mtp_inner_.contains(layer.second)) {
      for (const char* inner : {"mtp_model_layer.", "transformer_layer."}) {
        if (made.parameter.name.find(inner) != std::string::npos) {
          mtp_inner_[layer.second] = inner;
        }
      }
    }
  }

  [[nodiscard]] bool decoder_has(std::int64_t layer, const std::string& usual) const {
    return there_.contains({{family::Stage::Decoder, layer}, usual});
  }

  /// The Megatron name of a usual parameter in one layer; "" when no layer of that stage has it.
  [[nodiscard]] std::string name_in(const LayerPlace& layer, std::string_view usual,
                                    std::int64_t expert) const {
    constexpr std::string_view kMtpLayer = "mtp.layers.*.";
    if (usual.starts_with(kMtpLayer)) {  // beside the transformer layer, not in it
      return layer.first == family::Stage::Mtp
                 ? fmt::format("{}mtp.layers.{}.{}", survey_.prefix, layer.second,
                               usual.substr(kMtpLayer.size()))
                 : "";
    }
    std::string inside(inside_layer(usual));
    if (inside.empty()) {
      return "";
    }
    if (expert >= 0) {
      inside.replace(inside.rfind('*'), 1, std::to_string(expert));
    }
    if (layer.first == family::Stage::Mtp) {
      const auto inner = mtp_inner_.find(layer.second);
      return inner == mtp_inner_.end() ? ""
                                       : fmt::format("{}mtp.layers.{}.{}{}", survey_.prefix,
                                                     layer.second, inner->second, inside);
    }
    return fmt::format("{}decoder.layers.{}.{}", survey_.prefix, layer.second, inside);
  }

  void add(const std::string& name) {
    if (name.empty() || !names_.insert(name).second) {
      return;
    }
    Made made;
    const Anatomy anatomy = anatomy_of(name, survey_.prefix);
    made.parameter = from_name(name, survey_.prefix);
    made.sequential = anatomy.sequential;
    made.usual = anatomy.usual;
    made.rows = input_.modules.find(anatomy.usual);
    survey_.made.push_back(std::move(made));
  }

  void add(const LayerPlace& layer, const std::string& usual) {
    const bool experts = inside_layer(usual).find('*') != std::string_view::npos;
    for (std::int64_t e = experts ? 0 : -1; e < (experts ? survey_.experts : 0); ++e) {
      add(name_in(layer, usual, e));
    }
  }

  [[nodiscard]] bool is_spelled(const UsualParameter& parameter) const {
    return input_.options.spelling.grouped_experts ? parameter.grouped : parameter.sequential;
  }

  void add_module(const LayerPlace& layer, const std::string& module) {
    for (const UsualParameter& parameter : input_.modules.all()) {
      if (parameter.module == module && !parameter.optional && is_spelled(parameter)) {
        add(layer, parameter.name);
      }
    }
  }

  /// What every module of a sort has.
  void complete_modules() {
    for (const auto& [layer, modules] : survey_.modules) {
      for (const std::string& module : modules) {
        add_module(layer, module);
      }
    }
  }

  /// The layers in which something of this slot is made; norms belong to several modules.
  template <class IsSlot>
  std::set<std::int64_t> layers_with(IsSlot is_slot) const {
    std::set<std::int64_t> out;
    for (const auto& [usual, layers] : layers_of_) {
      const std::string_view inside = inside_layer(usual);
      if (is_slot(inside) && !is_norm(inside)) {
        out.insert(layers.begin(), layers.end());
      }
    }
    return out;
  }

  [[nodiscard]] std::vector<std::int64_t> others(const std::set<std::int64_t>& layers) const {
    std::vector<std::int64_t> out;
    for (std::int64_t i = 0; i < survey_.layers; ++i) {
      if (!layers.contains(i)) {
        out.push_back(i);
      }
    }
    return out;
  }

  /// Layers of another kind may lack what the others have. True when that is said.
  bool may_lack(const std::set<std::int64_t>& with, std::string_view what) {
    const std::string field = told_apart_by(input_.config, with);
    if (field.empty()) {
      return false;
    }
    survey_.unsaid.push_back(
        fmt::format("{} have no {} that the rules fill; {} of config.json sorts "
                    "the layers in the same way",
                    layer_numbers(others(with)), what, field));
    return true;
  }

  /// The module of this slot that most layers have; "" when the table does not know it.
  template <class IsSlot>
  std::string usual_module(IsSlot is_slot) const {
    std::map<std::string, std::int64_t> counts;
    for (const auto& [layer, modules] : survey_.modules) {
      for (const std::string& module : modules) {
        counts[module] += layer.first == family::Stage::Decoder ? 1 : 0;
      }
    }
    std::string best;
    for (const UsualParameter& parameter : input_.modules.all()) {
      if (is_slot(inside_layer(parameter.name)) && counts[parameter.module] > 0 &&
          (best.empty() || counts[parameter.module] > counts[best])) {
        best = parameter.module;
      }
    }
    return best;
  }

  /// In a model of equal layers a layer has what the others have.
  template <class IsSlot>
  void complete_layers(IsSlot is_slot, std::string_view what) {
    const std::set<std::int64_t> with = layers_with(is_slot);
    const std::vector<std::int64_t> without = others(with);
    if (without.empty()) {
      return;
    }
    const std::string module = usual_module(is_slot);
    if (with.empty() || module.empty() || input_.config.layers_differ) {
      survey_.unsaid.push_back(fmt::format("{} of {} have {} that the rules fill",
                                           with.empty() ? "none" : "not all",
                                           layer_numbers(without), what));
      return;
    }
    for (const std::int64_t layer : without) {
      add_module({family::Stage::Decoder, layer}, module);
    }
  }

  /// A parameter that some modules of a sort have is there in all of a model's, or in none.
  void complete_options() {
    for (const UsualParameter& parameter : input_.modules.all()) {
      const auto found = layers_of_.find(parameter.name);
      const bool part = parameter.optional || parameter.module == "shared experts";
      if (!part || parameter.module == "norms" || found == layers_of_.end() ||
          !is_spelled(parameter) || input_.config.layers_differ) {
        continue;
      }
      if (may_lack(found->second, inside_layer(parameter.name))) {
        continue;
      }
      const std::string owner = parameter.module == "shared experts" ? "experts" : parameter.module;
      for (const auto& [layer, modules] : survey_.modules) {
        if (layer.first == family::Stage::Decoder && modules.contains(owner) &&
            !found->second.contains(layer.second)) {
          add(layer, parameter.name);
        }
      }
    }
  }

  /// The norm of a group that belongs to this layer.
  [[nodiscard]] std::string norm_for(std::int64_t layer,
                                     const std::vector<std::string>& group) const {
    for (const std::string& norm : group) {
      const std::string linear = "decoder.layers.*." + norm.substr(0, norm.rfind("layer_norm_"));
      const bool fused = norm.ends_with("layer_norm_weight");
      if (!fused ||
          (input_.options.spelling.transformer_engine && decoder_has(layer, linear + "weight"))) {
        return "decoder.layers.*." + norm;
      }
    }
    return "";
  }

  void complete_norms() {
    std::vector<std::vector<std::string>> groups = norm_groups();
    std::vector<std::string> missing;
    for (const std::vector<std::string>& group : groups) {
      std::set<std::int64_t> with;
      for (const std::string& norm : group) {
        const auto found = layers_of_.find("decoder.layers.*." + norm);
        if (found != layers_of_.end()) {
          with.insert(found->second.begin(), found->second.end());
        }
      }
      if (with.empty()) {
        missing.push_back(group.back());
      }
      for (const std::int64_t layer : others(with)) {
        if (!with.empty() && !input_.config.layers_differ) {
          add(name_in({family::Stage::Decoder, layer}, norm_for(layer, group), -1));
        }
      }
    }
    if (!missing.empty()) {
      survey_.unsaid.push_back(
          fmt::format("no rule makes a norm in place of {}: layers that norm behind their modules "
                      "have none",
                      join(missing, " or ")));
    }
  }

  /// An unread tensor of the embedding's shape: a head that no rule takes.
  [[nodiscard]] bool has_unread_head() const {
    const auto embedding = input_.headers.find(survey_.embedding);
    if (embedding == input_.headers.end()) {
      return false;
    }
    std::set<std::string> read;
    for (const Made& made : survey_.made) {
      read.insert(made.hf.begin(), made.hf.end());
    }
    return std::any_of(input_.headers.begin(), input_.headers.end(), [&](const auto& header) {
      return header.second.shape == embedding->second.shape && !read.contains(header.first);
    });
  }

  [[nodiscard]] bool makes(std::string_view usual) const {
    return std::any_of(survey_.made.begin(), survey_.made.end(),
                       [usual](const Made& made) { return made.usual == usual; });
  }

  void complete_ends() {
    for (const char* end : {"embedding.word_embeddings.weight", "decoder.final_layernorm.weight"}) {
      if (!makes(end)) {
        survey_.unsaid.push_back(fmt::format("no rule makes {}{}", survey_.prefix, end));
      }
    }
    if (makes("output_layer.weight") || survey_.tied) {
      if (!input_.config.tie_is_said && !makes("output_layer.weight")) {
        survey_.unsaid.push_back(
            "config.json does not say whether the embedding is the output layer too");
      }
    } else if (!survey_.output.empty() || has_unread_head() || has_output_rule()) {
      add(survey_.prefix + "output_layer.weight");
    } else {
      survey_.unsaid.push_back(fmt::format(
          "the embeddings are not tied, and no rule makes {}output_layer.weight", survey_.prefix));
    }
    const std::int64_t said = input_.config.mtp_layers;
    if (said > survey_.mtp_layers && !input_.options.drop_mtp) {
      survey_.unsaid.push_back(fmt::format("config.json says {}, the rules make {}",
                                           counted(said, "MTP layer"), survey_.mtp_layers));
    }
  }

  /// MTP layers are numbered from 0, and each projects the embedding beside the hidden state.
  void complete_mtp() {
    const std::string usual = "mtp.layers.*.eh_proj.weight";
    if (survey_.mtp_layers == 0 || !makes_in_mtp(usual)) {
      return;
    }
    for (std::int64_t k = 0; k < survey_.mtp_layers; ++k) {
      add(name_in({family::Stage::Mtp, k}, usual, -1));
    }
  }

  [[nodiscard]] bool makes_in_mtp(const std::string& usual) const {
    return std::any_of(there_.begin(), there_.end(), [&](const Place& one) {
      return one.first.first == family::Stage::Mtp && one.second == usual;
    });
  }

  [[nodiscard]] bool has_output_rule() const {
    return std::any_of(input_.rules.rules.begin(), input_.rules.rules.end(),
                       [this](const ForeignRule& rule) {
                         return rule.megatron == survey_.prefix + "output_layer.weight";
                       });
  }

  void ask_about_options() {
    std::set<std::string> present;
    for (const auto& [layer, modules] : survey_.modules) {
      present.insert(modules.begin(), modules.end());
    }
    std::vector<std::string> left;
    for (const UsualParameter& parameter : input_.modules.all()) {
      if (parameter.optional && present.contains(parameter.module) && is_spelled(parameter) &&
          !layers_of_.contains(parameter.name)) {
        left.emplace_back(inside_layer(parameter.name));
      }
    }
    if (!left.empty()) {
      survey_.unsaid.push_back("no rule fills " + join(left, ", "));
    }
  }

  /// One line for each rule that fills a parameter which the table does not know.
  void ask_about_unknown_modules() {
    std::map<std::size_t, const Made*> rules;
    for (const Made& made : survey_.made) {
      if (made.stored && made.rows.empty() && made.parameter.stage != family::Stage::Vision) {
        rules.try_emplace(made.rule, &made);
      }
    }
    for (const auto& [rule, made] : rules) {
      survey_.unsaid.push_back(
          fmt::format("the table of Megatron modules does not know {}, which rule {} fills",
                      shown(made->parameter.name), shown(input_.rules.rules[rule].id)));
    }
  }

  const SurveyInput& input_;
  Survey& survey_;
  std::set<std::string> names_;
  std::set<Place> there_;
  std::map<std::string, std::set<std::int64_t>> layers_of_;  // usual name -> decoder layers
  std::map<std::int64_t, std::string> mtp_inner_;
};

}  // namespace

void add_expected(const SurveyInput& input, Survey& survey) {
  Expected(input, survey).run();
}

}  // namespace bv::foreign
