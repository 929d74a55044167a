#pragma once
// Headers that several tests spoil.

#include <string>
#include <string_view>

#include "tests/core/io/scratch.hpp"

namespace bv::io::testing {

/// A header of two tensors of four bytes, q and k, whose "data_offsets" are these.
inline std::string two_with(std::string_view first_offsets, std::string_view second_offsets) {
  return R"({"q":{"dtype":"U8","shape":[4],"data_offsets":)" + std::string(first_offsets) +
         R"(},"k":{"dtype":"U8","shape":[4],"data_offsets":)" + std::string(second_offsets) + "}}";
}

}  // namespace bv::io::testing
