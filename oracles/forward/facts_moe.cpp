// The experts that a config asks for, and how a token chooses among them.
#include <fmt/format.h>

#include <algorithm>

#include "oracles/forward/config_fields.hpp"

namespace bv::oracle::forward {
namespace {

/// Width of the experts of words in ERNIE 4.5 VL where the config has none.
constexpr std::int64_t kPoolOfWords = 1536;

/// "dense" or "sparse" for each layer, as the newer classes write it.
void read_mlp_types(Fields& fields, const Json& types, ModelFacts& facts) {
  if (!types.is_array() || types.size() != facts.is_moe.size())
    return fields.refuse("mlp_layer_types", fmt::format("{} entries", facts.is_moe.size()));
  for (std::size_t i = 0; i < facts.is_moe.size(); ++i) {
    if (types[i] != "dense" && types[i] != "sparse")
      return fields.refuse("mlp_layer_types", "dense or sparse");
    facts.is_moe[i] = types[i] == "sparse";
  }
}

bool is_of_experts(const Json& kind) {
  return kind == "moe" || kind == "E";
}

/// ERNIE 4.5 counts from a first layer to a last one; -1: to the end.
void read_moe_stretch(Fields& fields, ModelFacts& facts) {
  if (const Json* types = fields.find("mlp_layer_types"); types != nullptr && facts.moe.pools)
    return read_mlp_types(fields, *types, facts);
  const Json* start = fields.find("moe_layer_start_index");
  const bool listed = start != nullptr && start->is_array() && facts.moe.pools;
  const std::int64_t first = listed ? fields.integers("moe_layer_start_index").at(0)
                                    : fields.integer("moe_layer_start_index", 1);
  const Json* end = fields.find("moe_layer_end_index");
  // Lists hold one entry a pool.
  const bool open = end == nullptr || *end == -1 || facts.moe.pools;
  const std::int64_t last = open ? facts.layers - 1 : fields.integer("moe_layer_end_index", 0);
  const std::int64_t step = fields.size("moe_layer_interval", 1);
  for (std::int64_t i = 0; i < facts.layers; ++i) {
    facts.is_moe[static_cast<std::size_t>(i)] = i >= first && i <= last && (i + 1) % step == 0;
  }
}

void read_moe_layers(Fields& fields, const Form& form, ModelFacts& facts) {
  if (form.moe.stretch) return read_moe_stretch(fields, facts);
  if (form.moe.listed) {
    const auto numbers = fields.integers("moe_layers");
    const std::int64_t every = fields.size("interleave_moe_layer_step", 1);
    for (std::int64_t i = 0; i < facts.layers; ++i) {
      const bool named = std::ranges::count(numbers, i) > 0;
      facts.is_moe[static_cast<std::size_t>(i)] =
          fields.find("moe_layers") != nullptr ? named : (i + 1) % every == 0;
    }
    return;
  }
  if (form.mamba == MambaKind::LayerByLayer) {
    const Json kinds = hybrid_kinds(fields);
    for (std::size_t i = 0; i < facts.is_moe.size(); ++i) facts.is_moe[i] = is_of_experts(kinds[i]);
    return;
  }
  if (const Json* types = fields.find("mlp_layer_types")) {
    return read_mlp_types(fields, *types, facts);
  }
  if (const Json* each = fields.find("moe_layer_freq"); each != nullptr && each->is_array()) {
    const auto flags = fields.integers("moe_layer_freq");
    if (flags.size() != facts.is_moe.size())
      return fields.refuse("moe_layer_freq", fmt::format("{} entries", facts.is_moe.size()));
    for (std::size_t i = 0; i < flags.size(); ++i) facts.is_moe[i] = flags[i] != 0;
    return;
  }
  const std::int64_t first = fields.integer("first_k_dense_replace", form.moe.first_dense);
  const std::int64_t step = fields.size("decoder_sparse_step", 1);
  const auto dense = fields.integers("mlp_only_layers");
  for (std::int64_t i = 0; i < facts.layers; ++i) {
    const bool listed = std::ranges::count(dense, i) > 0;
    facts.is_moe[static_cast<std::size_t>(i)] = i >= first && !listed && (i + 1) % step == 0;
  }
}

void read_groups(Fields& fields, MoeFacts& moe) {
  moe.groups = fields.size("n_group", 1);
  moe.topk_group = fields.size("topk_group", 1);
  if (moe.experts % moe.groups != 0 || moe.experts / moe.groups < 2) {
    fields.refuse("n_group", "a divisor of the experts that leaves two or more a group");
  }
  if (moe.topk_group > moe.groups)
    fields.refuse("topk_group", fmt::format("at most {}", moe.groups));
  if (moe.topk > moe.topk_group * (moe.experts / moe.groups)) {
    fields.refuse("num_experts_per_tok", "at most the experts of the chosen groups");
  }
}

void read_router(Fields& fields, const MoeForm& form, MoeFacts& moe) {
  moe.router = form.router;
  moe.normalise = form.normalise == Normalise::Field
                      ? fields.flag("norm_topk_prob", form.normalise_otherwise)
                  : form.normalise == Normalise::AboveOne ? moe.topk > 1
                                                          : form.normalise == Normalise::Always;
  if (form.router == Router::SoftmaxGrouped) {
    const std::string method = fields.text("topk_method", "greedy");
    if (method != "greedy" && method != "group_limited_greedy")
      fields.lack("topk_method", "greedy or group_limited_greedy");
    if (method == "group_limited_greedy") read_groups(fields, moe);
  }
  if (form.router == Router::SigmoidGrouped && form.groups) read_groups(fields, moe);
  if (!form.scaling.empty()) moe.scaling = fields.real(form.scaling, form.scaling_otherwise);
  moe.added_sum = form.router == Router::SigmoidGrouped ? form.added_sum : 0.0;
  if (form.router == Router::SoftmaxBiased) moe.least_sum = fields.real("moe_norm_min", 1e-12);
  if (form.router == Router::SparseMixer) {
    moe.closeness = fields.real("router_jitter_noise", 0.01);
    if (moe.topk != 2) fields.lack("num_experts_per_tok", "2");
  }
}

/// Has a hybrid a layer of experts, in its decoder or in an MTP layer?
bool has_experts(Fields& fields) {
  const Json kinds = hybrid_kinds(fields);
  if (std::any_of(kinds.begin(), kinds.end(), is_of_experts)) return true;
  if (fields.integer("num_nextn_predict_layers", 0) == 0) return false;
  const Json* words = fields.find("mtp_layers_block_type");
  return (words != nullptr && words->is_array() &&
          std::any_of(words->begin(), words->end(), is_of_experts)) ||
         fields.text("mtp_hybrid_override_pattern", "").find('E') != std::string::npos;
}

}  // namespace

void read_moe(Fields& fields, const ModelStyle& style, ModelFacts& facts) {
  facts.is_moe.assign(static_cast<std::size_t>(facts.layers), false);
  const MoeForm& form = style.computes.moe;
  // Some hybrids have no layer of experts; sizes of experts then say nothing.
  if (form.ffn.empty() ||
      (form.may_lack && (fields.find(form.ffn) == nullptr || !has_experts(fields))))
    return;
  MoeFacts& moe = facts.moe;
  moe.names = form.names;
  const auto counted_by = [&](std::string_view key) {
    if (moe.experts > 0 || key.empty() || fields.find(key) == nullptr) return;
    moe.experts = form.pools ? fields.first_size(key) : fields.size(key);
  };
  counted_by(form.experts);
  for (const char* key :
       {"num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"}) {
    counted_by(key);
  }
  if (moe.experts == 0) fields.refuse("num_experts", "the number of experts");
  moe.topk_field = form.topk;
  moe.topk = fields.size(form.topk);
  if (moe.topk > moe.experts) fields.refuse(form.topk, fmt::format("at most {}", moe.experts));
  const bool assumed = form.pools && fields.find(form.ffn) == nullptr;
  moe.expert_ffn = assumed      ? kPoolOfWords
                   : form.pools ? fields.first_size(form.ffn)
                                : fields.size(form.ffn);
  moe.pools = form.pools;
  moe.shared_gate = form.shared_gate;
  if (!form.shared_ffn.empty()) moe.shared_ffn = fields.integer(form.shared_ffn, 0);
  if (!form.shared_count.empty())
    moe.shared_ffn = moe.expert_ffn * fields.integer(form.shared_count, 0);
  if (form.one_shared) moe.shared_ffn = moe.expert_ffn;
  moe.biases = style.experts == Experts::GptOss;
  read_router(fields, form, moe);
  read_moe_layers(fields, style.computes, facts);
}

}  // namespace bv::oracle::forward
