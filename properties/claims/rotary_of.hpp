#pragma once
// The order in which the rules file says that Megatron wants the rows of queries and keys.

#include "core/foreign/rotary.hpp"
#include "oracles/rotary_rows.hpp"
#include "properties/claims/subject.hpp"

namespace bv::claims {

/// AsStored for a subject without rules under test.
[[nodiscard]] foreign::RotaryRows rotary_of(const Subject& subject);
/// The same as the oracle asks for it; an order that nobody knows is that of the checkpoint.
[[nodiscard]] oracle::Turned turned(const foreign::RotaryRows& rows);

}  // namespace bv::claims
