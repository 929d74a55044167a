#pragma once
// What a model_type fixes and config.json does not say: one row a model_type, for every oracle.
// Source: modeling_<model_type>.py of transformers 5.12.1.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "oracles/model_form.hpp"

namespace bv::oracle {

/// Which projections have biases. Field: q, k, v and output where the config's flag says so.
enum class Bias { None, Field, QkvAlways, QkvField, Always };
enum class Experts { None, Qwen, QwenShared, Mixtral, GptOss, DeepSeek, Llama4 };
/// What HF stores for a norm: the weight itself, or its offset from one (the norm multiplies by
/// 1 + weight). The gated norm of a delta net always stores the weight itself.
enum class Norms { Weights, Offsets };

struct ModelStyle {
  std::string_view model_type;
  /// transformers has no class of it, which its form could be held against.
  bool classless = false;
  Norms norms = Norms::Weights;
  Bias bias = Bias::None;
  bool qk_norm = false;
  /// The query norm is over all query heads together, the key norm over all key heads; every rank
  /// holds both whole.
  bool full_qk_norm = false;
  bool cut_qk_norm = false;  // the same, and every rank holds those of its heads
  bool heads_together =
      false;  // HF keeps query, key and value of a head together, as Megatron does
  bool output_gate = false;
  bool delta = false;
  bool slides = false;  // a sliding_window holds in every layer
  Experts experts = Experts::None;
  /// Whether oracles/forward computes this model. Without, norms and layouts are known and the
  /// claim forward is unsupported.
  bool form = true;
  /// Where the model computes otherwise than Llama; read by oracles/forward alone.
  Form computes = {};

  /// gpt-oss: rows of gate and up alternate.
  [[nodiscard]] bool alternates() const { return experts == Experts::GptOss; }
  /// Stacks are [E, in, out], also where their shapes do not show it.
  [[nodiscard]] bool stacks_in_out() const { return alternates() || experts == Experts::Llama4; }
};

/// The rows: models without experts, models with experts, wrappers, models that transformers lacks,
/// and those that no forward oracle computes.
[[nodiscard]] std::span<const ModelStyle> dense_styles();
[[nodiscard]] std::span<const ModelStyle> expert_styles();
[[nodiscard]] std::span<const ModelStyle> wrapper_styles();
[[nodiscard]] std::span<const ModelStyle> classless_styles();
[[nodiscard]] std::span<const ModelStyle> styles_without_form();

/// The row of a model_type, of its text part ("qwen3_5" and "qwen3_5_text"), or of a model that
/// computes the same under another name (kimi_k2). nullptr when no oracle knows it.
[[nodiscard]] const ModelStyle* style_of(std::string_view model_type);
/// The row of `model_type`, else that of `like`, which a family file states.
[[nodiscard]] const ModelStyle* style_of(std::string_view model_type, std::string_view like);
/// Every row that oracles/forward computes, in order.
[[nodiscard]] std::vector<std::string> known_model_types();

}  // namespace bv::oracle
