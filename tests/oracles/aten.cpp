#include "tests/oracles/aten.hpp"

#include "tests/oracles/aten_question.hpp"

namespace bv::oracle {

#ifdef BV_HAS_ATEN
bool has_aten() {
  return true;
}

std::optional<TaggedTensor> aten_shard(const Question& question) {
  AtenQuestion asked{
      question.parameter,    question.numbers,    question.hf_names, {},
      question.shard_size,   question.shard_rank, question.expert,   question.padded_vocab,
      question.in_out_stack, question.model_type};
  for (const TaggedTensor& tensor : question.hf) {
    asked.hf.push_back({tensor.shape, tensor.tags});
  }
  const auto shard = aten_answer(asked);
  return shard ? std::optional(TaggedTensor{shard->shape, shard->tags}) : std::nullopt;
}
#else
bool has_aten() {
  return false;
}

std::optional<TaggedTensor> aten_shard(const Question& question) {
  return wanted_shard(question);
}
#endif

}  // namespace bv::oracle
