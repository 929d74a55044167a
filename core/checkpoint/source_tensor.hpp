#pragma once
// One tensor of an opened checkpoint, named by where it lies.

#include "core/io/checkpoint.hpp"

namespace bv::checkpoint {

struct SourceTensor {
  const io::Checkpoint* checkpoint = nullptr;
  const io::StoredTensor* tensor = nullptr;
};

}  // namespace bv::checkpoint
