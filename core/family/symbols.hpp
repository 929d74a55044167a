#pragma once
// The symbols that mean something to the engine itself. Every other name of a family file is only
// a size of some axis. A family that has no such part does not define the symbol.

#include <string_view>

namespace bv::family::symbols {

inline constexpr std::string_view kLayers = "num_hidden_layers";  // decoder layers
inline constexpr std::string_view kExperts = "num_experts";       // routed experts of a layer
inline constexpr std::string_view kHidden = "hidden_size";        // columns of a hidden state
inline constexpr std::string_view kVocabulary = "vocab_size";     // rows before padding
inline constexpr std::string_view kTied = "tie_word_embeddings";  // 1 or 0

}  // namespace bv::family::symbols
