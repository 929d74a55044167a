// libFuzzer entry for shard indexes (tests/fuzz/run.sh). Property: every text is answered, and
// every shard name of an accepted index is one that may be opened.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/base/assert.hpp"
#include "core/io/shard_index.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto index = bv::io::parse_shard_index(text, "fuzz");
  if (!index) {
    BV_ASSERT(!index.error().message.empty() && !index.error().help.empty());
  }
  if (const auto name = bv::io::checked_shard_name(text, "fuzz")) {
    BV_ASSERT(!name->starts_with('/') && name->ends_with(".safetensors"));
  }
  return 0;
}
