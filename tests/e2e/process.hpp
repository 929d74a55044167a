#pragma once
// The built command, run as a process of its own, on changed checkpoints.

#include "tests/support/checkpoint_edit.hpp"
#include "tests/support/golden_text.hpp"
#include "tests/support/process.hpp"

namespace bv::e2e {

using namespace support;

}  // namespace bv::e2e
