// libFuzzer entry for the layout notation (tests/fuzz/run.sh). Property: what is accepted prints to
// text that means the same, and a proved rule bound to small sizes tiles every shard.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/base/assert.hpp"
#include "core/layout/notation.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto rules = bv::layout::parse_rules({reinterpret_cast<const char*>(data), size}, "fuzz");
  if (!rules) {
    BV_ASSERT(!rules.error().message.empty());
    return 0;
  }
  for (const bv::layout::Rule& rule : *rules) {
    const std::string text = bv::layout::print(rule);
    const auto again = bv::layout::parse_rule(text, "printed");
    BV_ASSERT(again && *again == rule && bv::layout::print(*again) == text);
    (void)bv::layout::prove_bijection(rule).has_value();
  }
  return 0;
}
