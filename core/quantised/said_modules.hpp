#pragma once
// Which modules config.json calls quantised, held against which are: ignore and targets of
// compressed-tensors, modules_to_not_convert of transformers, exclude of other quantisers.

#include "core/quantised/module.hpp"

namespace bv::quantised {

/// One sentence for each way in which config.json and what is stored contradict each other: weights
/// with scales of modules that it leaves as they are or that no target takes, and plain weights of
/// modules like quantised ones that it calls quantised. They change no value: a number with a scale
/// and a plain number each say what they are.
///
/// A module that config.json leaves out is known by the rule of its quantiser alone: the whole name
/// or an expression from its start (compressed-tensors, utils/match.py: match_name), a glob as well
/// (modelopt, quark), or the start or the end of the name (transformers, should_convert_module).
/// One that is stored plain is left out already by a name of another version (language_model.model.
/// layers for model.language_model.layers), which transformers translates, or by an entry that is
/// not understood.
[[nodiscard]] std::vector<std::string> contradictions(std::span<const TensorSpec* const> tensors,
                                                      std::span<const Group> groups,
                                                      const Hints& hints);

}  // namespace bv::quantised
