#pragma once
// One tensor of an opened checkpoint, named by where it lies, and tensors that are made of several.

#include <span>
#include <vector>

#include "core/io/checkpoint.hpp"
#include "core/move/tensor_maker.hpp"

namespace bv::checkpoint {

/// What it points to outlives it.
struct SourceTensor {
  const io::Checkpoint* checkpoint = nullptr;  // null: the bytes are at `memory`
  const io::StoredTensor* tensor = nullptr;
  const std::byte* memory = nullptr;
};

/// The sources as a recipe wants them, mapped.
[[nodiscard]] std::vector<move::SourceBytes> bytes_of(std::span<const SourceTensor> sources);
/// Gives mapped pages of the sources back to the system.
void release(std::span<const SourceTensor> sources);

}  // namespace bv::checkpoint
