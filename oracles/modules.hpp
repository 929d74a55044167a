#pragma once
// One function a Megatron module: the shard of this rank, from the HF tensors of the question.
// Source: docs/reference/semantics.md.

#include "oracles/tagged.hpp"

namespace bv::oracle {

/// n query heads in g groups; per group its queries, its gates (when q_proj has 2nd rows), its key,
/// its value. Rows of the whole are cut evenly, also inside a head. Reads num_attention_heads and
/// num_query_groups (vision: vision_num_heads for both). HF: q_proj, k_proj, v_proj (and g_proj),
/// or one qkv.
Tensor linear_qkv(const Question& question);
/// Key and value of each group (cross attention). HF: k_proj, v_proj.
Tensor linear_kv(const Question& question);

/// Gate rows of this rank, then its up rows; without a gate a plain cut. HF: gate_proj and up_proj,
/// or one.
Tensor linear_fc1(const Question& question);
/// Does the one HF tensor hold the gate rows, then the up rows?
[[nodiscard]] bool holds_gate_and_up(const Question& question);

/// Query, key, value, z, beta, alpha of this rank's heads.
/// HF: in_proj_qkv, in_proj_z, in_proj_b, in_proj_a; or in_proj_qkvz and in_proj_ba, grouped by key
/// head.
Tensor gdn_in_proj(const Question& question);
/// Query, key and value channels.
Tensor gdn_conv1d(const Question& question);
/// z, x, B, C, dt, and the convolution over x, B, C.
Tensor mamba_in_proj(const Question& question);
Tensor mamba_conv1d(const Question& question);

/// Rows of the vocabulary, then zero rows up to padded_vocab, cut evenly.
Tensor vocabulary(const Question& question);
/// The head of a token classifier is whole on every rank; every other output layer is a vocabulary.
Tensor output_layer(const Question& question);
/// Columns [embedding, hidden]; MiMo's input_proj stores [hidden, embedding]. Rows cut evenly.
Tensor eh_proj(const Question& question);

/// Whether gate and up rows of a stack of experts alternate: no shape and no name shows it, so that
/// there is no answer for a model_type that no oracle knows; without one they do not.
[[nodiscard]] bool alternates(const Question& question);
/// One expert of the stack or on its own; fc1 as linear_fc1, fc2 cut by columns. Ranks are those of
/// the expert tensor-parallel group.
Tensor expert_fc1(const Question& question);
Tensor expert_fc2(const Question& question);

}  // namespace bv::oracle
