#pragma once
// Which rows of a head each side rotates together, and so in which order Megatron wants the rows of
// queries and keys.

#include <string>

#include "core/family/family.hpp"
#include "core/foreign/foreign_kinds.hpp"
#include "core/foreign/rules_file.hpp"

namespace bv::foreign {

struct RotaryRows {
  enum class Order {
    AsStored,      // both sides read them alike
    ToNeighbours,  // HF rotates row i with row i + r/2 of the r that turn, Megatron 2i with 2i + 1
    ToHalves,      // the other way round
    Unknown,       // Megatron's order is known and HF's is not
  };
  Order order = Order::AsStored;
  double part = 1;      // of the rows of a head: those that turn
  std::string because;  // the statements that say so
};

/// `family`: that of the architecture, or the one of the usual modules.
[[nodiscard]] RotaryRows rotary_rows(const ForeignRules& rules, const ForeignKinds& kinds,
                                     const family::Family& family);

}  // namespace bv::foreign
