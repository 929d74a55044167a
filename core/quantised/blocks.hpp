#pragma once
// The size of the blocks that share a scale, where config.json does not say it: one for all
// weights, that explains the shape of every scale, or none.

#include "core/quantised/module.hpp"

namespace bv::quantised {

/// Fills squares, runs and words of the hints. A size of b explains p scales over n values when
/// ceil(n / b) = p: 200 rows with 2 scales are explained by every b from 100 to 199.
///
/// Of those that explain all weights, the powers of two and the one that divides all of them evenly
/// count. When they give different values nothing is taken, and `why` says so. Where config.json
/// says quant_method fp8 and no weight_block_size it is 128 x 128, the default of transformers.
void settle_blocks(const Modules& modules, Hints& hints);

}  // namespace bv::quantised
