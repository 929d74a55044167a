#include "oracles/rotary_rows.hpp"

#include <algorithm>
#include <array>
#include <string_view>

#include "oracles/model_style.hpp"
#include "oracles/modules.hpp"
#include "oracles/target_layout.hpp"

namespace bv::oracle {
namespace {

template <std::size_t N>
bool is_one_of(std::string_view part, const std::array<std::string_view, N>& words) {
  return std::ranges::find(words, part) != words.end();
}

/// Rows [from, from + head) of every `period` rows below `end` are one head.
struct HeadRows {
  std::int64_t head, period, end;
};

/// Row 2i of Megatron is row i of HF, row 2i + 1 is row i + half; or the other way round.
std::int64_t source_row(std::int64_t row, std::int64_t turning, Turned::Order order) {
  const std::int64_t half = turning / 2;
  if (row >= turning) {
    return row;
  }
  return order == Turned::Order::ToNeighbours ? row / 2 + row % 2 * half
                                              : row % half * 2 + row / half;
}

TaggedTensor exchanged(const TaggedTensor& tensor, const HeadRows& heads, const Turned& turned) {
  const auto turning = static_cast<std::int64_t>(static_cast<double>(heads.head) * turned.part);
  if (turning <= 0 || turning % 2 != 0 || turning > heads.head) {
    throw Unanswered(std::to_string(turning) + " rows of a head turn, wanted an even number");
  }
  if (tensor.shape.empty() || tensor.shape.front() % heads.period != 0 ||
      heads.end % heads.period != 0 || tensor.shape.front() < heads.end) {
    throw Unanswered("the rows of queries and keys are not whole heads of " +
                     std::to_string(heads.period));
  }
  const std::int64_t width = std::ssize(tensor.tags) / tensor.shape.front();
  TaggedTensor out = tensor;
  for (std::int64_t first = 0; first < heads.end; first += heads.period) {
    for (std::int64_t row = 0; row < heads.head; ++row) {
      const auto* const from =
          tensor.tags.data() + (first + source_row(row, turning, turned.order)) * width;
      std::copy(from, from + width, out.tags.begin() + (first + row) * width);
    }
  }
  return out;
}

/// What of one HF tensor is rotated; a tensor of which nothing is has end 0.
HeadRows heads_in(const Question& question, std::string_view part, const TaggedTensor& tensor) {
  constexpr std::array<std::string_view, 3> kFused = {"qkv", "query_key_value", "qkv_proj"};
  constexpr std::array<std::string_view, 6> kNorms = {
      "q_norm", "k_norm", "q_layernorm", "k_layernorm", "query_layernorm", "key_layernorm"};
  const std::int64_t head = number(question, "head_dim");
  const std::int64_t rows = tensor.shape.empty() ? 0 : tensor.shape.front();
  if (part == "q_proj") {
    const auto gate = question.numbers.find("attn_output_gate");
    const bool gated = gate != question.numbers.end() && gate->second != 0 &&
                       rows == 2 * head * number(question, "num_attention_heads");
    return {head, gated ? 2 * head : head, rows};
  }
  if (part == "k_proj" || is_one_of(part, kNorms)) {
    return {head, head, rows};
  }
  if (!is_one_of(part, kFused)) {
    return {head, head, 0};
  }
  const ModelStyle* style = style_of(question.model_type, question.stated.like);
  if (style != nullptr && style->heads_together) {
    throw Unanswered("queries, keys and values of a head stand together");
  }
  return {head, head,
          head * (number(question, "num_attention_heads") + number(question, "num_query_groups"))};
}

}  // namespace

bool is_rotated(const std::string& parameter) {
  return !is_vision(parameter) && parameter.find(".indexer.") == std::string::npos &&
         (formula_of(parameter) == Formula::LinearQkv ||
          parameter.ends_with("q_layernorm.weight") || parameter.ends_with("k_layernorm.weight"));
}

bool is_turned(const Question& question) {
  return question.turned.order != Turned::Order::AsStored && is_rotated(question.parameter);
}

Question in_rotary_order(const Question& question) {
  Question out = question;
  for (std::size_t i = 0; i < out.hf.size(); ++i) {
    const HeadRows heads = heads_in(question, part_of(question.hf_names.at(i)), out.hf[i]);
    if (heads.end > 0) {
      out.hf[i] = exchanged(out.hf[i], heads, question.turned);
    }
  }
  return out;
}

}  // namespace bv::oracle
