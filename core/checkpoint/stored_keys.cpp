#include "core/checkpoint/stored_keys.hpp"

#include <array>
#include <charconv>

namespace bv::checkpoint {
namespace {

/// Source: megatron-core 0.19.2 ssm/gated_delta_net (in_proj_split_names, conv_layer_name_list),
/// ssm/mamba_mixer.py (sharded_state_dict), transformer/mlp.py (apply_swiglu_sharded_factory).
const std::vector<StoredApart>& all_apart() {
  static const std::vector<StoredApart> kApart = {
      {"in_proj",
       {{"q", ".query"},
        {"k", ".key"},
        {"v", ".value"},
        {"z", ".z"},
        {"b_", ".beta"},
        {"a_", ".alpha"}},
       true},
      {"in_proj", {{"z", ".z"}, {"x_", ".x"}, {"B", ".B"}, {"C", ".C"}, {"dt", ".dt"}}, true},
      {"conv1d", {{"q", ".query"}, {"k", ".key"}, {"v", ".value"}}, true},
      {"conv1d", {{"x_", ".x"}, {"B", ".B"}, {"C", ".C"}}, true},
      {"linear_fc1", {{"gate", "_w"}, {"up", "_v"}}, false},
  };
  return kApart;
}

/// Parameters that were modules once: their keys stay those of old checkpoints. Source:
/// ssm/mamba_mixer.py, conv_checkpoint_key_map.
constexpr std::array<std::pair<std::string_view, std::string_view>, 2> kOnceModules = {
    {{".conv1d_weight", ".conv1d.weight"}, {".conv1d_bias", ".conv1d.bias"}}};

/// "X.experts.linear_fc1.weight5" and "X.experts.local_experts.5.linear_fc1.weight" are slice 5 of
/// "X.experts.experts.linear_fc1.weight".
GlobalPlace without_expert(const std::string& name) {
  constexpr std::string_view kExperts = ".experts.";
  constexpr std::string_view kLocal = "local_experts.";
  const std::size_t at = name.find(kExperts);
  if (at == std::string::npos) {
    return {name, {}};
  }
  const std::string head = name.substr(0, at + kExperts.size()) + "experts.";
  const std::string rest = name.substr(at + kExperts.size());
  if (rest.starts_with(kLocal)) {
    const std::size_t end = rest.find('.', kLocal.size());
    const auto expert =
        end == std::string::npos
            ? std::nullopt
            : number_in(std::string_view(rest).substr(kLocal.size(), end - kLocal.size()));
    return expert ? GlobalPlace{head + rest.substr(end + 1), {*expert}} : GlobalPlace{name, {}};
  }
  if (!rest.starts_with("linear_")) {  // of a tower of transformers
    return {name, {}};
  }
  const std::size_t digits = rest.find_last_not_of("0123456789") + 1;
  const auto expert = number_in(std::string_view(rest).substr(digits));
  return expert ? GlobalPlace{head + rest.substr(0, digits), {*expert}} : GlobalPlace{name, {}};
}

/// A layer of multi-token prediction that is one transformer layer has its name from before there
/// were others; one that is a stack of hybrid layers has none to keep. Source:
/// transformer/multi_token_prediction.py, sharded_state_dict.
void rename_mtp_layer(std::string& key) {
  constexpr std::string_view kNow = ".mtp_model_layer.";
  constexpr std::string_view kStack = "layers.";
  const std::size_t at = key.find(kNow);
  if (at != std::string::npos &&
      !std::string_view(key).substr(at + kNow.size()).starts_with(kStack)) {
    key.replace(at, kNow.size(), ".transformer_layer.");
  }
}

}  // namespace

std::optional<std::int64_t> number_in(std::string_view text) {
  std::int64_t out = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() && end == text.data() + text.size() && !text.empty() && out >= 0
             ? std::optional(out)
             : std::nullopt;
}

GlobalPlace global_place(const StoredName& name) {
  if (name.as_in_memory) {
    return {name.name, {}};
  }
  GlobalPlace out = without_expert(name.name);
  rename_mtp_layer(out.key);
  for (const auto& [now, once] : kOnceModules) {
    if (out.key.ends_with(now)) {
      out.key.replace(out.key.size() - now.size(), now.size(), once);
    }
  }
  return out;
}

std::vector<const StoredApart*> ways_apart(std::string_view key) {
  const std::size_t dot = key.rfind('.');
  const std::string_view parameter = dot == std::string_view::npos ? key : key.substr(dot + 1);
  const std::string_view module = dot == std::string_view::npos ? "" : key.substr(0, dot);
  std::vector<const StoredApart*> out;
  for (const StoredApart& one : all_apart()) {
    if ((parameter == "weight" || parameter == "bias") &&
        (module == one.module || module.ends_with("." + std::string(one.module)))) {
      out.push_back(&one);
    }
  }
  return out;
}

std::span<const std::string_view> stacked_modules() {
  // transformer/transformer_block.py; the blocks of vision towers of Megatron-Bridge
  // (qwen_vl/modelling_qwen3_vl/transformer_block.py) have the second one, too.
  static constexpr std::array<std::string_view, 2> kStacked = {"layers.", "deepstack_merger_list."};
  return kStacked;
}

}  // namespace bv::checkpoint
