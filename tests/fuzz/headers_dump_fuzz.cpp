// libFuzzer entry for headers dumps (tests/fuzz/run.sh), plain and gzipped. Properties: what is
// accepted is written and read again as the same, and a damaged stream is refused with a message.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/base/assert.hpp"
#include "core/io/gzip.hpp"
#include "core/io/headers_dump.hpp"

namespace {

constexpr std::uint64_t kTextMax = std::uint64_t{1} << 20;

void check(std::string_view text) {
  const auto dump = bv::io::parse_headers_dump(text, "fuzz");
  if (!dump) {
    BV_ASSERT(!dump.error().message.empty() && !dump.error().help.empty());
    return;
  }
  BV_ASSERT(dump->headers().size() == dump->tensors.size());
  const std::string written = bv::io::headers_dump_text(*dump);
  const auto again = bv::io::parse_headers_dump(written, "written");
  BV_ASSERT(again && *again == *dump && bv::io::headers_dump_text(*again) == written);
  const auto packed = bv::io::gzip(written);
  BV_ASSERT(packed);
  const auto unpacked = bv::io::gunzip(*packed, written.size(), "packed");
  BV_ASSERT(unpacked && *unpacked == written);
  BV_ASSERT(!bv::io::gunzip(*packed, written.size() - 1, "packed"));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  if (!bv::io::is_gzip(bytes)) {
    check(bytes);
    return 0;
  }
  const auto text = bv::io::gunzip(bytes, kTextMax, "fuzz");
  if (!text) {
    BV_ASSERT(!text.error().message.empty() && !text.error().help.empty());
    return 0;
  }
  BV_ASSERT(text->size() <= kTextMax);
  check(*text);
  return 0;
}
