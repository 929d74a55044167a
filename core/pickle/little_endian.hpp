#pragma once
// Numbers as files hold them.

#include <cstddef>
#include <cstdint>
#include <string>

namespace bv::pickle {

/// The low bytes of `number`, as many as T has, the lowest first.
template <class T>
[[nodiscard]] std::string little_endian(std::int64_t number) {
  std::string out;
  for (std::size_t i = 0; i < sizeof(T); ++i) {
    out += static_cast<char>(static_cast<std::uint64_t>(number) >> (8 * i) & 0xffU);
  }
  return out;
}

}  // namespace bv::pickle
