// docs/reference/semantics.md#packed-experts (gpt-oss) and #expert-placement.
#include "oracles/model_style.hpp"
#include "oracles/modules.hpp"
#include "oracles/target_layout.hpp"

namespace bv::oracle {
namespace {

std::int64_t expert_of(const Question& question) {
  const std::optional<std::int64_t> in_name = expert_in(question.parameter);
  if (!in_name || (question.expert >= 0 && question.expert != *in_name)) {
    throw Unanswered(question.parameter + " is asked for as expert " +
                     std::to_string(question.expert));
  }
  return *in_name;
}

/// A HF tensor of one expert must be that expert's. ERNIE 4.5 VL counts the experts for pictures on
/// behind those for text.
void check_own_number(const Question& question, std::int64_t expert) {
  const bool second_pool = question.parameter.find(".vision_moe_layer.") != std::string::npos;
  const std::int64_t before = second_pool ? number(question, "num_experts") : 0;
  for (const std::string& name : question.hf_names) {
    const std::optional<std::int64_t> own = expert_in(name);
    if (own && *own != before + expert) {
      throw Unanswered(name + " is given for expert " + std::to_string(expert));
    }
  }
}

std::int64_t known(const Question& question, std::string_view symbol) {
  const auto found = question.numbers.find(symbol);
  return found == question.numbers.end() ? -1 : found->second;
}

/// Whether a matrix of the stack is stored [in, out]: by its shape, by the flag only where the
/// shape cannot say.
bool is_in_out(const Question& question, const Tensor& matrix, std::int64_t out, std::int64_t in) {
  const ModelStyle* style = style_of(question.model_type, question.stated.like);
  if (style != nullptr && style->stacks_in_out()) {
    return true;
  }
  const bool as_out_in = matrix.size(0) == out && matrix.size(1) == in;
  const bool as_in_out = matrix.size(0) == in && matrix.size(1) == out;
  return as_out_in == as_in_out ? question.in_out_stack : as_in_out;
}

std::int64_t ffn_size(const Question& question) {
  const std::int64_t own = known(question, "moe_intermediate_size");
  return own > 0 ? own : known(question, "intermediate_size");
}

Tensor picked(const Question& question, const Tensor& stack) {
  const std::int64_t expert = expert_of(question);
  if (stack.dim() < 2 || expert >= stack.size(0)) {
    throw Unanswered("expert " + std::to_string(expert) + " is not in a stack of " +
                     std::to_string(stack.dim() < 1 ? 0 : stack.size(0)));
  }
  return stack.select(0, expert);
}

Tensor picked(const Question& question) {
  return picked(question, only_source(question));
}

bool are_stacks(const Question& question) {
  return question.hf.size() == 2 && question.hf[0].shape.size() == 3 &&
         question.hf[1].shape.size() == 3;
}

/// Of a stack [E, I, H] (Nemotron-H), or [E, H, I].
Tensor ups_alone(const Question& question) {
  const Tensor rows = picked(question);
  const bool in_out = is_in_out(question, rows, ffn_size(question), known(question, "hidden_size"));
  const Tensor out = in_out ? rows.t() : rows;
  if (!has_part(question, "up_proj") && out.size(0) != ffn_size(question)) {
    throw Unanswered("it is not known whether " + question.hf_names.front() +
                     " holds a gate, and which of the two stands first");
  }
  return out;
}

}  // namespace

bool alternates(const Question& question) {
  const ModelStyle* style = style_of(question.model_type, question.stated.like);
  if (style == nullptr && !question.model_type.empty()) {
    throw Unanswered("whether gate and up rows of " + question.model_type +
                     " alternate is not known");
  }
  return style != nullptr && style->alternates();
}

Tensor expert_fc1(const Question& question) {
  check_own_number(question, expert_of(question));
  if (are_stacks(question)) {  // gate and up each as [E, I, H] (Step-3.5)
    return sections({picked(question, part(question, "gate_proj")),
                     picked(question, part(question, "up_proj"))},
                    question);
  }
  if (expert_in(question.hf_names.front())) {
    return linear_fc1(question);  // one HF tensor set an expert
  }
  if (!holds_gate_and_up(question)) {
    return question.hf.size() == 1 && question.hf[0].shape.size() == 3
               ? block(ups_alone(question), 0, question)
               : linear_fc1(question);
  }
  Tensor rows = picked(question);
  if (rows.dim() == 3) {  // [2, I, H]
    return sections({rows.select(0, 0), rows.select(0, 1)}, question);
  }
  const std::int64_t ffn = ffn_size(question);
  if (rows.dim() == 2 && is_in_out(question, rows, 2 * ffn, known(question, "hidden_size"))) {
    rows = rows.t();
  }
  exact(rows.size(0), 2, "gate and up rows of an expert");
  if (alternates(question)) {
    const Tensor pairs = split_rows(rows, {-1, 2});
    return sections({pairs.select(1, 0), pairs.select(1, 1)}, question);
  }
  return sections(rows.chunk(2, 0), question);
}

Tensor expert_fc2(const Question& question) {
  check_own_number(question, expert_of(question));
  const bool one_expert =
      expert_in(question.hf_names.empty() ? "" : question.hf_names.front()).has_value();
  Tensor matrix = one_expert ? only_source(question) : picked(question);
  if (matrix.dim() == 1) {
    return matrix;  // a bias is added once, after the sum over the ranks
  }
  if (!one_expert &&
      is_in_out(question, matrix, known(question, "hidden_size"), ffn_size(question))) {
    matrix = matrix.t();
  }
  return block(matrix, 1, question);
}

}  // namespace bv::oracle
