#pragma once
// A golden HF model, opened as the command opens it.

#include <gtest/gtest.h>

#include <string>

#include "core/checkpoint/open_model.hpp"
#include "tests/support/files.hpp"
#include "tests/support/library.hpp"

namespace bv::support {

inline checkpoint::HfModel open_golden(const std::string& name,
                                       const checkpoint::OpenOptions& options = {}) {
  auto model = checkpoint::open_hf(golden_hf(name), families(), options);
  EXPECT_TRUE(model.has_value()) << (model ? "" : model.error().message);
  return std::move(model.value());
}

}  // namespace bv::support
