#pragma once
// How the elements of a recognised weight are computed.

#include "core/quantised/module.hpp"

namespace bv::quantised {

/// Fills `scale` and `form` of a weight, or `undefined` when this version defines no values for it:
/// another scheme, a zero point, a scale whose shape does not fit. `named` are the kinds that the
/// targets of config.json give its module (kinds_named).
void define(Weight& weight, const Hints& hints, std::span<const std::size_t> named);

}  // namespace bv::quantised
