#pragma once
// The built command, run as a process of its own, on changed checkpoints.

#include "tests/support/checkpoint_edit.hpp"
#include "tests/support/golden_text.hpp"
#include "tests/support/process.hpp"

namespace bv::e2e {

using namespace support;

using Words = std::vector<std::string>;  // of a command line
inline Words operator+(Words a, const Words& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

}  // namespace bv::e2e
