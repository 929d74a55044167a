#pragma once
// Copies between mapped files and the memory of transfers.

#include <cstddef>
#include <span>

namespace bv::cuda {

/// One core copies a fifth of what a device takes: large copies are shared by several.
void copy_by_all(std::byte* to, std::span<const std::byte> from);

}  // namespace bv::cuda
