#pragma once
// What every formula is written with: the sources of a question by their part, and even cuts.
// A question without an answer is thrown as Unanswered and caught in oracle.cpp only.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "oracles/oracle.hpp"
#include "oracles/tag_tensor.hpp"

namespace bv::oracle {

/// The part that a HF name stands for: its last component without ".weight", ".bias" and "_bias".
/// "model.layers.0.self_attn.q_proj.weight" -> "q_proj"
std::string_view part_of(std::string_view hf_name);

/// Errors: Unanswered for a shape that its tags do not fill.
Tensor tensor_of(const TaggedTensor& tagged);
TaggedTensor tagged(const Tensor& tensor);

bool has_part(const Question& question, std::string_view part);
/// The HF tensor that is `part`. Throws Unanswered naming the parts that are there.
Tensor part(const Question& question, std::string_view part);
/// The HF tensor of a parameter that is made of one alone.
Tensor only_source(const Question& question);
/// The geometry symbol, positive. Throws Unanswered naming it.
std::int64_t number(const Question& question, std::string_view symbol);

/// a / b; throws Unanswered with `what` when it leaves a remainder.
std::int64_t exact(std::int64_t a, std::int64_t b, const std::string& what);
/// Block shard_rank of shard_size equal blocks along `dim`.
Tensor block(const Tensor& whole, std::int64_t dim, const Question& question);
/// Each section cut into blocks; this rank's blocks one after the other
/// (docs/reference/semantics.md#sections).
Tensor sections(const std::vector<Tensor>& parts, const Question& question);
/// [rows, ...] seen as [a, b, ...] with a * b = rows; one of them may be -1.
Tensor split_rows(const Tensor& tensor, std::vector<std::int64_t> rows);

}  // namespace bv::oracle
