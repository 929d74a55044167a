// Compiled with the formulas under the name bv_aten (tests/oracles/CMakeLists.txt).
#include "tests/oracles/aten_question.hpp"

#include <exception>

#include "oracles/oracle.hpp"

std::optional<AtenTensor> aten_answer(const AtenQuestion& asked) {
  bv::oracle::Question question;
  question.parameter = asked.parameter;
  question.numbers = asked.numbers;
  question.hf_names = asked.hf_names;
  for (const AtenTensor& tensor : asked.hf) {
    question.hf.push_back({tensor.shape, tensor.tags});
  }
  question.shard_size = asked.shard_size;
  question.shard_rank = asked.shard_rank;
  question.expert = asked.expert;
  question.padded_vocab = asked.padded_vocab;
  question.in_out_stack = asked.in_out_stack;
  question.model_type = asked.model_type;
  const auto shard = bv::oracle::wanted_shard(question);
  return shard ? std::optional(AtenTensor{shard->shape, shard->tags}) : std::nullopt;
}
