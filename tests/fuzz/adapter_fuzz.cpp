// libFuzzer entry for the JSON of adapters (tests/fuzz/run.sh): adapter_config.json of PEFT and our
// adapter.json. Properties: every text is answered; what is accepted is written again as itself;
// every pattern of it is matched against any path in bounded time.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/base/assert.hpp"
#include "core/base/path_pattern.hpp"
#include "core/lora/adapter_config.hpp"
#include "core/lora/adapter_keys.hpp"
#include "core/lora/adapter_record.hpp"

namespace {

void check_refused(const bv::Error& error) {
  BV_ASSERT(!error.message.empty() && !error.help.empty());
  BV_ASSERT(static_cast<int>(error.code) >= 1000);  // never the command line's fault
}

void check_config(std::string_view text) {
  const auto config = bv::lora::parse_adapter_config(text, "fuzz");
  if (!config) {
    check_refused(config.error());
    return;
  }
  BV_ASSERT(config->r > 0);
  const std::string written = bv::lora::adapter_config_text(*config);
  const auto again = bv::lora::parse_adapter_config(written, "fuzz");
  BV_ASSERT(again && bv::lora::adapter_config_text(*again) == written);
  for (const auto& [pattern, rank] : config->rank_pattern) {
    const auto compiled = bv::PathPattern::compile(pattern, bv::PathPattern::Extent::Suffix);
    BV_ASSERT(compiled);
    static_cast<void>(compiled->matches("model.layers.0.self_attn.q_proj"));
    static_cast<void>(compiled->matches(pattern));
  }
}

void check_record(std::string_view text) {
  const auto record = bv::lora::parse_record(text, "fuzz");
  if (!record) {
    BV_ASSERT(!record.error().message.empty());
    return;
  }
  const std::string written = bv::lora::record_text(*record);
  const auto again = bv::lora::parse_record(written, "fuzz");
  BV_ASSERT(again && bv::lora::record_text(*again) == written);
}

void check_key(std::string_view text) {
  std::string why;
  const auto key = bv::lora::parse_adapter_key(text, why);
  BV_ASSERT(key ? !key->path.empty() && key->depth >= 0 : !why.empty());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  check_config(text);
  check_record(text);
  check_key(text);
  return 0;
}
