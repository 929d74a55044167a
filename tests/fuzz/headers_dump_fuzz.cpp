// libFuzzer entry for headers dumps (tests/fuzz/run.sh). Property: what is accepted is written and
// read again as the same.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/base/assert.hpp"
#include "core/io/headers_dump.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto dump = bv::io::parse_headers_dump({reinterpret_cast<const char*>(data), size}, "fuzz");
  if (!dump) {
    BV_ASSERT(!dump.error().message.empty() && !dump.error().help.empty());
    return 0;
  }
  const std::string text = bv::io::headers_dump_text(*dump);
  const auto again = bv::io::parse_headers_dump(text, "written");
  BV_ASSERT(again && bv::io::headers_dump_text(*again) == text);
  return 0;
}
