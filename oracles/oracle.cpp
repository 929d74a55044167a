// The target-layout table applied to one question.
#include "oracles/oracle.hpp"

#include <new>
#include <string_view>

#include "oracles/model_style.hpp"
#include "oracles/modules.hpp"
#include "oracles/rotary_rows.hpp"
#include "oracles/target_layout.hpp"

namespace bv::oracle {
namespace {

/// How many heads a query or key norm is over: one, or all of them (OLMo 2).
std::int64_t heads_of_norm(const Question& question, bool query) {
  const ModelStyle* style = style_of(question.model_type, question.stated.like);
  if (style == nullptr || !style->full_qk_norm) {
    return 1;
  }
  return number(question, query ? "num_attention_heads" : "num_query_groups");
}

/// Does a rank hold only the part of a norm over all heads that is its heads' own?
bool has_cut_norm(const Question& question) {
  if (!question.built.cut.empty()) {
    return question.built.cut == "column";
  }
  const ModelStyle* style = style_of(question.model_type, question.stated.like);
  return style != nullptr && style->cut_qk_norm;
}

/// The part of a norm over all heads that belongs to the heads of this rank. With more ranks than
/// key heads several ranks have one head (MiniMax-M2, Megatron-Bridge 0.6.2: _get_k_norm_layout).
Tensor own_heads(const Tensor& whole, const Question& question, bool query) {
  const auto heads = question.numbers.find(query ? "num_attention_heads" : "num_query_groups");
  if (heads == question.numbers.end() || question.shard_size <= heads->second) {
    return block(whole, 0, question);
  }
  if (question.shard_size % heads->second != 0 || whole.size(0) % heads->second != 0) {
    throw Unanswered(std::to_string(heads->second) + " heads do not lie evenly on " +
                     std::to_string(question.shard_size) + " ranks");
  }
  const std::int64_t ranks_of_head = question.shard_size / heads->second;
  const std::int64_t rows = whole.size(0) / heads->second;
  return whole.narrow(0, question.shard_rank / ranks_of_head * rows, rows);
}

/// [out, in]. Gemma 3 stores its projection the other way round; a list of the built model shows
/// that by its sizes.
Tensor column_source(const Question& question) {
  const Tensor whole = only_source(question);
  const bool swapped =
      question.built.cut.empty() && has_part(question, "mm_input_projection_weight");
  return swapped ? whole.t() : whole;
}

/// ERNIE 4.5 VL has one pool of experts for text and one for pictures: HF stores their routers as
/// [in, out], and their biases as the rows of one tensor. nullopt for other parameters.
std::optional<Tensor> of_pool(const Question& question, const Tensor& whole) {
  const std::string& name = question.parameter;
  const bool vision = name.find(".vision_moe_layer.") != std::string::npos;
  if (!vision && name.find(".text_moe_layer.") == std::string::npos) {
    return std::nullopt;
  }
  if (name.ends_with("router.weight")) {
    return whole.t();
  }
  return name.ends_with("router.expert_bias") ? std::optional(whole.select(0, vision ? 1 : 0))
                                              : std::nullopt;
}

Tensor replicated(const Question& question) {
  const Tensor whole = only_source(question);
  if (const auto pool = of_pool(question, whole); pool && question.built.cut.empty()) {
    return *pool;
  }
  if (question.parameter.ends_with("router.expert_bias") && whole.dim() == 2 &&
      whole.size(0) == 1) {
    return whole.select(0, 0);  // ERNIE 4.5 stores [1, E]
  }
  const bool query = has_part(question, "q_norm");
  if ((!query && !has_part(question, "k_norm")) || is_vision(question.parameter)) {
    return whole;
  }
  if (has_cut_norm(question)) {
    return own_heads(whole, question, query);
  }
  const auto head_size = question.numbers.find("head_dim");
  if (head_size != question.numbers.end() &&
      question.parameter.find(".indexer.") == std::string::npos) {
    const std::int64_t heads = heads_of_norm(question, query);
    if (question.built.cut != "replicated" && whole.numel() != heads * head_size->second) {
      throw Unanswered("a norm of " + std::to_string(whole.numel()) + " elements is not over " +
                       (heads == 1 ? "one head" : std::to_string(heads) + " heads") + " of " +
                       std::to_string(head_size->second));
    }
  }
  return whole;
}

Tensor computed(Formula formula, const Question& question) {
  switch (formula) {
    case Formula::Replicated:
      return replicated(question);
    case Formula::Column:
      return block(column_source(question), 0, question);
    case Formula::Row:
      return block(only_source(question), 1, question);
    case Formula::LinearQkv:
      return linear_qkv(question);
    case Formula::LinearKv:
      return linear_kv(question);
    case Formula::LinearFc1:
      return linear_fc1(question);
    case Formula::GdnInProj:
      return gdn_in_proj(question);
    case Formula::GdnConv1d:
      return gdn_conv1d(question);
    case Formula::MambaInProj:
      return mamba_in_proj(question);
    case Formula::MambaConv1d:
      return mamba_conv1d(question);
    case Formula::Vocabulary:
      return vocabulary(question);
    case Formula::OutputLayer:
      return output_layer(question);
    case Formula::EhProj:
      return eh_proj(question);
    case Formula::ExpertFc1:
      return expert_fc1(question);
    case Formula::ExpertFc2:
      return expert_fc2(question);
  }
  throw Unanswered("no formula");
}

/// Even blocks of the one tensor. The bias of a row-parallel module is whole on every rank.
Tensor as_built(const Question& question) {
  const Tensor whole = only_source(question);
  const bool row_bias = question.built.cut == "row" && whole.dim() == 1;
  if (question.built.cut == "replicated" || row_bias) {
    return whole;
  }
  return block(whole, question.built.cut == "row" ? 1 : 0, question);
}

Tensor answered(const Question& question) {
  if (question.hf.size() != question.hf_names.size() || question.hf.empty()) {
    throw Unanswered(std::to_string(question.hf.size()) + " HF tensors under " +
                     std::to_string(question.hf_names.size()) + " names");
  }
  if (question.shard_size < 1 || question.shard_rank < 0 ||
      question.shard_rank >= question.shard_size) {
    throw Unanswered("rank " + std::to_string(question.shard_rank) + " is not in a group of " +
                     std::to_string(question.shard_size));
  }
  if (answered_by_build(question)) {
    return as_built(question);
  }
  const std::optional<Formula> formula = formula_of(question.parameter);
  if (!formula) {
    throw Unanswered("the target-layout table has no row for " + question.parameter);
  }
  return computed(*formula, question);
}

/// The question about a tensor that stands as the parameter does.
Question upright(const Question& question) {
  Question out = question;
  out.built.sides = Built::Sides::Same;
  if (question.built.sides == Built::Sides::Swapped) {
    out.hf.front() = tagged(tensor_of(question.hf.front()).transpose(0, 1));
  } else {
    std::erase(out.hf.front().shape, 1);
  }
  return out;
}

Tensor answered_upright(const Question& question) {
  const Built::Sides sides = question.built.sides;
  if (sides == Built::Sides::Same || question.hf.size() != 1) {
    return answered(question);
  }
  if (sides == Built::Sides::Unclear) {
    throw Unanswered("it is not known whether " + question.hf_names.front() +
                     " stands [out, in] or [in, out]: it is square");
  }
  return answered(upright(question));
}

/// Elements are many: a question is copied only where its rows change places.
Tensor answered_in_order(const Question& question) {
  return is_turned(question) ? answered_upright(in_rotary_order(question))
                             : answered_upright(question);
}

struct Answer {
  std::optional<TaggedTensor> shard;
  std::string why_not;
};

Answer answer_of(const Question& question) {
  try {
    return {tagged(answered_in_order(question)), ""};
  } catch (const std::bad_alloc&) {
    throw;  // says nothing of the oracle
  } catch (const std::exception& thrown) {
    if (std::string_view(thrown.what()).find("can't allocate memory") != std::string_view::npos) {
      throw std::bad_alloc();  // as LibTorch tells it
    }
    return {std::nullopt, thrown.what()};
  }
}

}  // namespace

bool answered_by_build(const Question& question) {
  return question.hf.size() == 1 && !question.built.cut.empty() &&
         (question.built.outsider || !formula_of(question.parameter));
}

std::optional<TaggedTensor> wanted_shard(const Question& question) {
  return answer_of(question).shard;
}

std::string why_unanswered(const Question& question) {
  return answer_of(question).why_not;
}

}  // namespace bv::oracle
