#pragma once
// The geometry of a config, read or refused.

#include <gtest/gtest.h>

#include "tests/core/model/sample.hpp"

namespace bv::model::test {

inline Result<Geometry> geometry_of(const json& config) {
  BV_TRY(family, choose_family(config, families()));
  return read_geometry(*family, config);
}

inline Error refusal(const json& config) {
  auto result = geometry_of(config);
  if (result) {
    ADD_FAILURE() << "accepted " << config.dump();
    return {};
  }
  return result.error();
}

}  // namespace bv::model::test
