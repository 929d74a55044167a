#pragma once
// Queries and keys whose rows Megatron rotates in other pairs than HF does.
// Source: docs/reference/semantics.md#rotary-embeddings.

#include "oracles/oracle.hpp"

namespace bv::oracle {

/// Does attention rotate what this parameter makes, or is it a norm over that?
[[nodiscard]] bool is_rotated(const std::string& parameter);

/// Does the question ask for rows in another order than they are stored in?
[[nodiscard]] bool is_turned(const Question& question);
/// Such a question with the rows of each head of its query and key tensors, and of the norms over
/// them, in the order that question.turned asks for. Throws Unanswered where the heads are not
/// known.
Question in_rotary_order(const Question& question);

}  // namespace bv::oracle
