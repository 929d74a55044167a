#pragma once
// The schemes that are known by name, and what anything else is called.

#include "core/quantised/module.hpp"

namespace bv::quantised {

/// F16, BF16, F32, F64: the tensor holds the weights themselves.
[[nodiscard]] bool holds_numbers(DType dtype);
/// A tensor of an absent shard: an index states names alone.
[[nodiscard]] bool is_known_by_name(const TensorSpec& spec);

/// A weight with its companions, before the scheme is known.
struct Stored {
  const Module& module;
  std::string_view values;  // parameter with the bits
  std::string_view stem;    // "weight" of "weight_packed"
  const TensorSpec& bits;
  const std::vector<std::string_view>& companions;
  const Hints& hints;
};

struct Scheme {
  std::string name;
  std::string upstream;
};
/// nullopt when the parameter is a buffer that only stands beside something like a scale.
[[nodiscard]] std::optional<Scheme> scheme_of(const Stored& stored);

}  // namespace bv::quantised
