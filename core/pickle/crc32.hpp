#pragma once
// CRC-32 as zip files have it (polynomial 0x04C11DB7, reflected, inverted before and after).

#include <cstddef>
#include <cstdint>
#include <span>

namespace bv::pickle {

/// How the sum is made. All ways give the same number: zlib's tables, multiplication without
/// carries of 16 bytes (PCLMULQDQ), and of 32 (VPCLMULQDQ).
enum class CrcWay { Tables, Multiply16, Multiply32 };

/// Can this processor go that way?
[[nodiscard]] bool has_crc_way(CrcWay way);

/// The sum of bytes that follow those of `before`; has_crc_way(way).
[[nodiscard]] std::uint32_t crc32_by(CrcWay way, std::span<const std::byte> bytes,
                                     std::uint32_t before = 0);
/// The same, by the fastest way of this processor.
[[nodiscard]] std::uint32_t crc32(std::span<const std::byte> bytes, std::uint32_t before = 0);

}  // namespace bv::pickle
