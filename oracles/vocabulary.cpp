// docs/reference/semantics.md#what-lives-where, #vocabulary and #modules.
#include <algorithm>

#include "oracles/modules.hpp"

namespace bv::oracle {
namespace {

// Padding beyond this is a mistake of the caller, not a vocabulary.
constexpr std::int64_t kPadElementsMax = std::int64_t{1} << 24;

}  // namespace

Tensor vocabulary(const Question& question) {
  const Tensor rows = only_source(question);
  if (question.padded_vocab == 0 || (rows.dim() > 0 && question.padded_vocab == rows.size(0))) {
    return block(rows, 0, question);
  }
  const std::int64_t pad = question.padded_vocab - rows.size(0);
  const std::int64_t row = rows.numel() / std::max<std::int64_t>(rows.size(0), 1);
  if (pad < 0 || pad > kPadElementsMax / std::max<std::int64_t>(row, 1)) {
    throw Unanswered("the padded vocabulary has " + std::to_string(question.padded_vocab) +
                     " rows for " + std::to_string(rows.size(0)));
  }
  std::vector<std::int64_t> shape(rows.sizes().begin(), rows.sizes().end());
  shape.front() = pad;
  return block(ops::cat({rows, ops::full_like(rows, shape, -1)}, 0), 0, question);
}

Tensor output_layer(const Question& question) {
  return has_part(question, "score") || has_part(question, "classifier") ? only_source(question)
                                                                         : vocabulary(question);
}

Tensor eh_proj(const Question& question) {
  const Tensor whole = only_source(question);
  if (!has_part(question, "input_proj")) {
    return block(whole, 0, question);
  }
  exact(whole.size(1), 2, "columns of input_proj");
  const auto halves = whole.chunk(2, 1);
  return block(ops::cat({halves[1], halves[0]}, 1), 0, question);
}

}  // namespace bv::oracle
