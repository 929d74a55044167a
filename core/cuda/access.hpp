#pragma once
// How a thread of a device reads and writes memory: one access for each element or unit, as wide as
// it is, and accesses of 16 bytes where both ends allow them.

#include <cstddef>
#include <cstdint>

#include "core/base/assert.hpp"
#include "core/base/host_device.hpp"

namespace bv::cuda {

/// Elements that one thread computes at once, where both ends allow accesses of 16 bytes.
inline constexpr int kValues = 8;

namespace element {

/// Tests on the host find what a device would end with.
BV_HOST_DEVICE inline void expect_aligned([[maybe_unused]] const std::byte* at,
                                          [[maybe_unused]] std::size_t bytes) {
#if !defined(__CUDA_ARCH__)
  BV_ASSERT(reinterpret_cast<std::uintptr_t>(at) % bytes == 0);
#endif
}

/// One access: elements lie at multiples of their width, as the compiler of a device has to be
/// told.
template <class Bits>
[[nodiscard]] BV_HOST_DEVICE inline Bits load(const std::byte* at) {
  expect_aligned(at, sizeof(Bits));
  Bits out{};
  __builtin_memcpy(&out, __builtin_assume_aligned(at, sizeof out), sizeof out);
  return out;
}
template <class Bits>
BV_HOST_DEVICE inline void store(std::byte* at, Bits bits) {
  expect_aligned(at, sizeof(Bits));
  __builtin_memcpy(__builtin_assume_aligned(at, sizeof bits), &bits, sizeof bits);
}

[[nodiscard]] BV_HOST_DEVICE inline std::uint64_t read(const std::byte* at, int bytes) {
  return bytes == 2   ? load<std::uint16_t>(at)
         : bytes == 4 ? load<std::uint32_t>(at)
                      : load<std::uint64_t>(at);
}

BV_HOST_DEVICE inline void write(std::byte* at, std::uint64_t bits, int bytes) {
  if (bytes == 2) {
    store(at, static_cast<std::uint16_t>(bits));
  } else if (bytes == 4) {
    store(at, static_cast<std::uint32_t>(bits));
  } else {
    store(at, bits);
  }
}

struct alignas(16) Sixteen {
  std::uint64_t low = 0;
  std::uint64_t high = 0;
};

/// One access of `unit` bytes, both ends aligned to it; a null source is zeros.
template <class Unit>
BV_HOST_DEVICE inline void copy_as(const std::byte* source, std::byte* target) {
  store(target, source == nullptr ? Unit{} : load<Unit>(source));
}

/// kValues elements of type Bits that lie side by side, by accesses of 16 bytes.
template <class Bits>
BV_HOST_DEVICE inline void read_values_as(const std::byte* at, std::uint64_t* out) {
  constexpr int kEach = sizeof(std::uint64_t) / sizeof(Bits);
  BV_UNROLL
  for (int i = 0; i < kValues; i += 2 * kEach) {
    const auto both = load<Sixteen>(at + static_cast<std::size_t>(i) * sizeof(Bits));
    BV_UNROLL
    for (int j = 0; j < 2 * kEach; ++j) {
      const std::uint64_t word = j < kEach ? both.low : both.high;
      out[i + j] = static_cast<Bits>(word >> 8U * sizeof(Bits) * static_cast<unsigned>(j % kEach));
    }
  }
}
template <class Bits>
BV_HOST_DEVICE inline void write_values_as(std::byte* at, const std::uint64_t* values) {
  constexpr int kEach = sizeof(std::uint64_t) / sizeof(Bits);
  BV_UNROLL
  for (int i = 0; i < kValues; i += 2 * kEach) {
    Sixteen both;
    BV_UNROLL
    for (int j = 0; j < 2 * kEach; ++j) {
      (j < kEach ? both.low : both.high) |= values[i + j]
                                            << 8U * sizeof(Bits) * static_cast<unsigned>(j % kEach);
    }
    store(at + static_cast<std::size_t>(i) * sizeof(Bits), both);
  }
}
BV_HOST_DEVICE inline void read_values(const std::byte* at, int bytes, std::uint64_t* out) {
  if (bytes == 2) {
    read_values_as<std::uint16_t>(at, out);
  } else if (bytes == 4) {
    read_values_as<std::uint32_t>(at, out);
  } else {
    read_values_as<std::uint64_t>(at, out);
  }
}
BV_HOST_DEVICE inline void write_values(std::byte* at, const std::uint64_t* values, int bytes) {
  if (bytes == 2) {
    write_values_as<std::uint16_t>(at, values);
  } else if (bytes == 4) {
    write_values_as<std::uint32_t>(at, values);
  } else {
    write_values_as<std::uint64_t>(at, values);
  }
}

BV_HOST_DEVICE inline void copy_unit(const std::byte* source, std::byte* target, int unit) {
  switch (unit) {
    case 16:
      copy_as<Sixteen>(source, target);
      break;
    case 8:
      copy_as<std::uint64_t>(source, target);
      break;
    case 4:
      copy_as<std::uint32_t>(source, target);
      break;
    case 2:
      copy_as<std::uint16_t>(source, target);
      break;
    default:
      copy_as<std::uint8_t>(source, target);
      break;
  }
}

}  // namespace element

}  // namespace bv::cuda
