// libFuzzer entry for foreign rule sets (tests/fuzz/run.sh). Property: every text is answered, and
// what is accepted can be linted, alone and against names.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/base/assert.hpp"
#include "core/model/lint.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const auto kinds = bv::model::foreign_kinds().value();
  static const bv::Headers headers = {
      {"model.layers.0.mlp.gate_proj.weight",
       {"model.layers.0.mlp.gate_proj.weight", bv::DType::BF16, {4, 2}}},
      {"model.layers.12.mlp.experts.3.up_proj.weight",
       {"model.layers.12.mlp.experts.3.up_proj.weight", bv::DType::BF16, {4, 2}}}};
  const auto rules =
      bv::model::parse_rules_file({reinterpret_cast<const char*>(data), size}, "fuzz");
  if (!rules) {
    BV_ASSERT(!rules.error().message.empty() && !rules.error().help.empty());
    return 0;
  }
  for (const bv::Headers* names : {static_cast<const bv::Headers*>(nullptr), &headers}) {
    for (const bv::model::LintFinding& finding : bv::model::lint_rules(*rules, kinds, names)) {
      BV_ASSERT(!finding.message.empty());
    }
  }
  return 0;
}
