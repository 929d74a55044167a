#pragma once
// What config.json says of a weight, held against how it is stored. Every field that decides its
// values is compared: nothing is dequantised when the two contradict each other.

#include "core/quantised/module.hpp"

namespace bv::quantised {

/// A quant_method that is the name of one form: 8-bit numbers, of which 32 of a row share a power
/// of two.
[[nodiscard]] bool is_mxfp8(std::string_view method);
/// What is said for all weights (quant_method, fmt, scale_fmt, quant_algo, ...), against a weight
/// whose scale is known. Both sides in one sentence; "" when they agree or nothing is said.
[[nodiscard]] std::string against_config(const Weight& weight, const Hints& hints);
/// The same of one kind of config_groups: type, num_bits, format, symmetric, actorder.
[[nodiscard]] std::string against_kind(const Weight& weight, const Kind& kind);

}  // namespace bv::quantised
