// The fingerprint is XXH3-128, whatever the processor and the portions: the header's plain build of
// it is the reference.

#include "core/io/digest.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#define XXH_INLINE_ALL
#define XXH_VECTOR 0
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wold-style-cast"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wconversion"
#include <xxhash.h>
#pragma GCC diagnostic pop

#include <random>
#include <vector>

namespace bv::io {
namespace {

TEST(Digest, IsXxh3OfAllPortionsTogether) {
  std::mt19937_64 random(1);
  std::vector<std::byte> bytes(300000);
  for (std::byte& one : bytes) {
    one = static_cast<std::byte>(random() & 0xFF);
  }
  for (const std::size_t size : {0U, 1U, 17U, 240U, 241U, 1024U, 65537U, 300000U}) {
    for (const std::size_t portion : {1000U, 4096U, 70001U}) {
      io::Digest digest;
      for (std::size_t at = 0; at < size; at += portion) {
        digest.add(std::span(bytes).subspan(at, std::min(portion, size - at)));
      }
      const XXH128_hash_t wanted = XXH3_128bits(bytes.data(), size);
      ASSERT_EQ(digest.hex(), fmt::format("{:016x}{:016x}", wanted.high64, wanted.low64))
          << size << " in portions of " << portion;
    }
  }
}

}  // namespace
}  // namespace bv::io
