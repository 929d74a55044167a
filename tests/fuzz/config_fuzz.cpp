// libFuzzer entry for config.json (tests/fuzz/run.sh). Properties: a config is refused with a
// message, or becomes a model whose every mapping has a name; the headers that its rules want make
// the same model without a name fault, and it can be planned on one process or the layout is
// refused with the numbers.
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string_view>

#include "core/base/assert.hpp"
#include "core/checkpoint/open_model.hpp"
#include "core/plan/legality.hpp"
#include "core/plan/plan.hpp"

namespace {

constexpr std::int64_t kMappingsMax = 2000;  // the work of one input stays small
constexpr std::int64_t kLayersMax = 12;

void check_refusal(const bv::Error& error) {
  BV_ASSERT(!error.message.empty() && error.code != bv::Code::Assertion);
}

bool is_large(const bv::model::Geometry& geometry) {
  const std::int64_t layers = geometry.get("num_hidden_layers").value_or(0);
  const std::int64_t experts = geometry.get("num_experts").value_or(1);
  const std::int64_t depth = geometry.get("vision_depth").value_or(0);
  return layers > kLayersMax || experts > kMappingsMax / kLayersMax || depth > kLayersMax;
}

/// The checkpoint that the rules want, opened as the command opens one.
void check_opened(std::string_view text, const bv::model::Model& planned,
                  const std::vector<bv::family::FamilyPtr>& families) {
  static const auto kinds = bv::kinds::load_catalogue().value();
  auto headers = bv::plan::expected_headers(planned, kinds);
  if (!headers) {
    check_refusal(headers.error());
    return;
  }
  const auto opened =
      bv::checkpoint::open_headers(std::string(text), "fuzz", std::move(*headers), families, {});
  if (!opened) {
    check_refusal(opened.error());
    return;
  }
  if (const auto legal = bv::plan::check_layout(opened->model, {}); !legal) {
    check_refusal(legal.error());
    return;
  }
  const auto plan = bv::plan::Plan::make(opened->model, kinds, {});
  if (!plan) {
    check_refusal(plan.error());
    return;
  }
  BV_ASSERT(!plan->files().empty());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const auto families = bv::family::builtin_families().value();
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto config = bv::checkpoint::parse_config(text, "fuzz");
  if (!config) {
    BV_ASSERT(!config.error().message.empty() && !config.error().help.empty());
    return 0;
  }
  const auto family = bv::model::choose_family(*config, families);
  if (!family) {
    BV_ASSERT(!family.error().message.empty() && !family.error().help.empty());
    return 0;
  }
  const auto geometry = bv::model::read_geometry(**family, *config);
  if (!geometry) {
    BV_ASSERT(!geometry.error().message.empty() && !geometry.error().help.empty());
    return 0;
  }
  if (is_large(*geometry)) {
    return 0;
  }
  bv::model::ResolveOptions options;
  options.config_only = true;
  const auto model = bv::model::resolve(*family, *config, {}, options);
  if (!model) {
    check_refusal(model.error());
    return 0;
  }
  for (const bv::model::Mapping& mapping : model->mappings) {
    BV_ASSERT(!model->megatron_name(mapping, 0).empty());
  }
  check_opened(text, *model, families);
  return 0;
}
