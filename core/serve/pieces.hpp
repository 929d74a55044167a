#pragma once
// The tensors of the file of each rank of a server: parts of the factors of an adapter.

#include <cstddef>
#include <string>
#include <vector>

#include "core/base/tensor_spec.hpp"
#include "core/serve/serve.hpp"

namespace bv::lora {

inline constexpr const char* kSlicesName = "slices.json";
inline constexpr const char* kSlicesSchema = "bridge-lora-slices/1";

/// A part of a factor, as it is written.
struct SlicePiece {
  TensorSpec spec;
  const Factor* factor = nullptr;
  Interval rows, columns;
  std::size_t module = 0;  // of the modules that it was made of
};

/// What a rank holds, without the zeros that fill its buffers.
[[nodiscard]] std::vector<SlicePiece> slice_pieces(const std::vector<ServedModule>& modules,
                                                   std::size_t rank);
[[nodiscard]] std::vector<std::byte> slice_bytes(const SlicePiece& piece);
/// "tp0.safetensors"
[[nodiscard]] std::string rank_file(std::size_t rank);
/// The text of slices.json.
[[nodiscard]] std::string slices_text(const std::vector<ServedModule>& modules,
                                      const Serving& serving);

}  // namespace bv::lora
