// libFuzzer entry for config.json (tests/fuzz/run.sh). Property: a config is refused with a
// message, or becomes a model whose every mapping has a name.
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string_view>

#include "core/base/assert.hpp"
#include "core/exec/open_model.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const auto families = bv::model::builtin_families().value();
  const auto config = bv::exec::parse_config({reinterpret_cast<const char*>(data), size}, "fuzz");
  if (!config) {
    BV_ASSERT(!config.error().message.empty() && !config.error().help.empty());
    return 0;
  }
  const auto family = bv::model::choose_family(*config, families);
  if (!family) {
    return 0;
  }
  const auto geometry = bv::model::read_geometry(**family, *config);
  constexpr std::int64_t kMappingsMax = 20000;  // the work of one input stays small
  if (!geometry || geometry->get("num_hidden_layers").value_or(0) > 100 ||
      geometry->get("num_hidden_layers").value_or(1) * geometry->get("num_experts").value_or(1) >
          kMappingsMax) {
    return 0;
  }
  bv::model::ResolveOptions options;
  options.config_only = true;
  const auto model = bv::model::resolve(*family, *config, {}, options);
  if (model) {
    for (const bv::model::Mapping& mapping : model->mappings) {
      BV_ASSERT(!model->megatron_name(mapping, 0).empty());
    }
  }
  return 0;
}
