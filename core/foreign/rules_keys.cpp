#include "core/foreign/rules_keys.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "core/base/text.hpp"
#include "core/foreign/rules_text.hpp"
#include "core/foreign/shown.hpp"

namespace bv::foreign {
namespace {

using nlohmann::json;
using Words = std::vector<std::string>;

const Words& top_keys() {
  static const Words keys = {"schema", "producer", "upstream", "selects", "rules", "facts", "model",
                             "config", "prefix",   "hooks",    "trouble", "doc",   "kinds"};
  return keys;
}
const Words& rule_keys() {
  static const Words keys = {"id",         "kind",     "class",  "megatron",  "hf",     "values",
                             "when",       "source",   "bases",  "overrides", "module", "doc",
                             "parameters", "alias_of", "layout", "axes",      "differs"};
  return keys;
}
const Words& parameter_keys() {
  static const Words keys = {"transpose",
                             "transpose_on_export",
                             "orientation",
                             "permute_dims",
                             "allow_hf_name_mismatch",
                             "is_grouped_export",
                             "group_key",
                             "optional",
                             "slice"};
  return keys;
}
const Words& model_keys() {
  static const Words keys = {"parameters", "doc", "megatron_core", "producer"};
  return keys;
}
/// Provider fields: any may stand there, so only a near miss is told.
const Words& read_facts() {
  static const Words keys = {"layernorm_zero_centered_gamma",
                             "norms",
                             "rotary_interleaved",
                             "rotary",
                             "rotary_percent",
                             "rotary_rows",
                             "moe_mlp_glu_interleave_size",
                             "num_attention_heads",
                             "num_query_groups",
                             "kv_channels",
                             "hidden_size",
                             "num_layers",
                             "num_moe_experts",
                             "vocab_size",
                             "mtp_num_layers",
                             "share_embeddings_and_output_weights",
                             "add_qkv_bias",
                             "add_bias_linear",
                             "qk_layernorm",
                             "gated_linear_unit",
                             "ffn_hidden_size",
                             "moe_ffn_hidden_size",
                             "moe_latent_size",
                             "moe_layer_freq",
                             "moe_shared_expert_intermediate_size",
                             "q_lora_rank",
                             "kv_lora_rank",
                             "qk_head_dim",
                             "qk_pos_emb_head_dim",
                             "v_head_dim",
                             "attention_output_gate",
                             "moe_router_enable_expert_bias",
                             "normalization",
                             "position_embedding_type",
                             "layer_spec"};
  return keys;
}

struct Unknown {
  std::size_t count = 0;
  std::string where;
};

class KeyCheck {
 public:
  KeyCheck(const json& top, std::string_view text, const std::string& file)
      : top_(top), file_(file), lines_(text, file), places_(places_in_list(text, "rules")) {}

  std::vector<Error> run() {
    look(top_, "", top_keys(), file_);
    if (const auto model = top_.find("model"); model != top_.end()) {
      look(*model, "model.", model_keys(), file_);
    }
    if (const auto facts = top_.find("facts"); facts != top_.end() && facts->is_object()) {
      for (const auto& [key, value] : facts->items()) {
        if (meant(key, read_facts()) && !known(read_facts(), key)) {
          note("facts.", key, file_);
        }
      }
    }
    const json& rows = top_.at("rules");
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const std::string where = i < places_.size() ? lines_.at(places_[i].begin) : file_;
      look(rows[i], "rules[].", rule_keys(), where);
      if (const auto inner = rows[i].find("parameters"); inner != rows[i].end()) {
        look(*inner, "rules[].parameters.", parameter_keys(), where);
      }
    }
    return told();
  }

 private:
  static bool known(const Words& words, const std::string& key) {
    return std::find(words.begin(), words.end(), key) != words.end();
  }
  static const Words& words_at(std::string_view level) {
    return level.empty()                    ? top_keys()
           : level == "model."              ? model_keys()
           : level == "facts."              ? read_facts()
           : level == "rules[].parameters." ? parameter_keys()
                                            : rule_keys();
  }

  void note(std::string_view level, const std::string& key, const std::string& where) {
    Unknown& one = unknown_[{std::string(level), key}];
    one.where = one.count++ == 0 ? where : one.where;
  }

  void look(const json& object, std::string_view level, const Words& words,
            const std::string& where) {
    if (!object.is_object()) {
      return;
    }
    for (const auto& [key, value] : object.items()) {
      if (!known(words, key)) {
        note(level, key, where);
      }
    }
  }

  std::vector<Error> told() const {
    constexpr std::size_t kWarningsMax = 100;
    std::vector<Error> out;
    for (const auto& [place, unknown] : unknown_) {
      const auto& [level, key] = place;
      if (out.size() == kWarningsMax) {
        break;
      }
      const auto near = meant(key, words_at(level));
      const std::string times = unknown.count > 1 ? fmt::format(", {} times", unknown.count) : "";
      out.push_back(
          fail(Code::RulesKeyUnknown,
               fmt::format("the key {}{} is not read{}", level, shown(key), times))
              .at(unknown.where)
              .pair(shown(key), "one of: " + join(words_at(level), " "))
              .advise(near ? fmt::format("did you mean {}?", *near)
                           : "what it says has no effect on the verdict; remove it, or check its "
                             "spelling"));
    }
    return out;
  }

  const json& top_;
  const std::string& file_;
  LineNumbers lines_;
  std::vector<ListedPlace> places_;
  std::map<std::pair<std::string, std::string>, Unknown> unknown_;  // (level, key)
};

}  // namespace

std::vector<Error> unknown_keys(const json& top, std::string_view text, const std::string& file) {
  return KeyCheck(top, text, file).run();
}

}  // namespace bv::foreign
