#pragma once
// One gzip stream in memory.

#include <cstdint>
#include <string>
#include <string_view>

#include "core/base/result.hpp"

namespace bv::io {

[[nodiscard]] inline bool is_gzip(std::string_view bytes) {
  return bytes.starts_with("\x1f\x8b");
}

/// At most `limit` bytes come out, and no more than that is ever allocated.
/// Errors: DumpInvalid (damaged, cut, longer than the limit, bytes after the stream).
[[nodiscard]] Result<std::string> gunzip(std::string_view bytes, std::uint64_t limit,
                                         const std::string& file);

/// Equal text gives equal bytes: no name and no time in the stream. Errors: OutOfMemory.
[[nodiscard]] Result<std::string> gzip(std::string_view text);

}  // namespace bv::io
