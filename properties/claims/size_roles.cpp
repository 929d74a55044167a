#include "properties/claims/size_roles.hpp"

#include <algorithm>
#include <array>

namespace bv::claims {
namespace {

using enum SizeRole;
struct NamedRole {
  std::string_view symbol;
  SizeRole role;
};
/// The numbers that the rules of every family stand on. Towers that go as they are take no part in
/// a small model.
constexpr std::array kRoles = {NamedRole{"hidden_size", Width},
                               NamedRole{"head_dim", Width},
                               NamedRole{"global_head_dim", Width},
                               NamedRole{"sliding_head_dim", Width},
                               NamedRole{"sliding_v_head_dim", Width},
                               NamedRole{"intermediate_size", Width},
                               NamedRole{"moe_intermediate_size", Width},
                               NamedRole{"shared_expert_intermediate_size", Width},
                               NamedRole{"vision_moe_intermediate_size", Width},
                               NamedRole{"expert_hidden_size", Width},
                               NamedRole{"moe_latent_size", Width},
                               NamedRole{"linear_key_head_dim", Width},
                               NamedRole{"linear_value_head_dim", Width},
                               NamedRole{"q_lora_rank", Width},
                               NamedRole{"kv_lora_rank", Width},
                               NamedRole{"qk_nope_head_dim", Width},
                               NamedRole{"qk_rope_head_dim", Width},
                               NamedRole{"v_head_dim", Width},
                               NamedRole{"index_head_dim", Width},
                               NamedRole{"mamba_head_dim", Width},
                               NamedRole{"mamba_inner_size", Width},
                               NamedRole{"mamba_state_dim", Width},
                               NamedRole{"per_layer_size", Width},
                               NamedRole{"vocab_size", Vocabulary},
                               NamedRole{"per_layer_vocab_size", Vocabulary},
                               NamedRole{"num_experts", Experts},
                               NamedRole{"router_rows", Experts},
                               NamedRole{"num_hidden_layers", Layers},
                               NamedRole{"mtp_num_layers", Layers},
                               NamedRole{"mtp_depth", Layers},
                               NamedRole{"first_k_dense_replace", Layers},
                               NamedRole{"moe_layer_start_index", Layers},
                               NamedRole{"moe_layer_end_index", Layers},
                               NamedRole{"num_kv_shared_layers", Layers},
                               NamedRole{"num_attention_heads", Kept},
                               NamedRole{"num_query_groups", Kept},
                               NamedRole{"global_num_query_groups", Kept},
                               NamedRole{"sliding_num_attention_heads", Kept},
                               NamedRole{"sliding_num_query_groups", Kept},
                               NamedRole{"linear_num_key_heads", Kept},
                               NamedRole{"linear_num_value_heads", Kept},
                               NamedRole{"linear_conv_kernel_dim", Kept},
                               NamedRole{"index_n_heads", Kept},
                               NamedRole{"mamba_num_heads", Kept},
                               NamedRole{"mamba_num_groups", Kept},
                               NamedRole{"mamba_conv_kernel", Kept},
                               NamedRole{"mamba_expand", Kept},
                               NamedRole{"n_shared_experts", Kept},
                               NamedRole{"num_shared_experts", Kept},
                               NamedRole{"moe_num_shared_experts", Kept},
                               NamedRole{"num_labels", Kept},
                               NamedRole{"interleave_moe_layer_step", Kept},
                               NamedRole{"mtp_inner_layers", Kept}};

}  // namespace

std::optional<SizeRole> role_of(std::string_view symbol) {
  const auto found = std::ranges::find(kRoles, symbol, &NamedRole::symbol);
  return found != kRoles.end() ? std::optional(found->role) : std::nullopt;
}

}  // namespace bv::claims
