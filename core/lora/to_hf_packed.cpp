// Pairs of single experts -> the two matrices of their stack, as PEFT packs them.

#include <fmt/format.h>

#include "core/base/text.hpp"
#include "core/lora/hf_planner.hpp"
#include "core/lora/packing.hpp"
#include "core/lora/wrapped.hpp"

namespace bv::lora {

void HfPlanner::add_packed(const AdapterModule& module, const Site& site, const RecordBlock& record,
                           const std::string& parameter, std::int64_t expert) {
  const std::int64_t experts =
      class_.plan().model().geometry.get("num_experts").value_or(site.experts);
  const std::int64_t e = site.expert_number >= 0 ? site.expert_number : expert;
  Block block = block_of(site, record);
  const std::int64_t r = block.rank;
  const bool marked = site.columns_first && marks_stacks(base_);
  const bool exchanged =
      exchanges_roles(peft_version_, {experts, block.rows, site.in, site.columns_first, marked});
  const std::int64_t over_a = exchanged ? block.rows : site.in;
  const std::int64_t over_b = exchanged ? site.in : block.rows;
  const auto [at, added] = packed_.try_emplace(parameter, tensors_.size());
  if (added) {
    const std::string wrapper = wrapper_of(parameter);
    tensors_.push_back({adapter_key(wrapper, KeyKind::A), {experts * r, over_a}, {}, {}});
    tensors_.push_back({adapter_key(wrapper, KeyKind::B), {over_b, r * experts}, {}, {}});
    targets_.push_back({parameter, true, r, alpha_of_pair(module, r)});
  }
  // Rows of the factor [r, in] and columns of [out, r] lie along the rank, wherever they stand.
  const Slot in_a{0, e * r * over_a, over_a, 1};
  const Slot in_b{0, e, r * experts, experts};
  const auto transposed = [](const Slot& slot) {
    return Slot{slot.source, slot.offset, slot.column_stride, slot.row_stride};
  };
  block.a = exchanged ? transposed(in_b) : in_a;
  block.b = exchanged ? transposed(in_a) : in_b;
  experts_[parameter].insert(e);
  Gathered& a = tensors_[at->second];
  Gathered& b = tensors_[at->second + 1];
  exchanged ? gather(module, site, block, expert, b, a) : gather(module, site, block, expert, a, b);
}

Status HfPlanner::check_experts() const {
  const std::int64_t wanted = class_.plan().model().geometry.get("num_experts").value_or(0);
  for (const auto& [parameter, there] : experts_) {
    for (std::int64_t e = 0; e < wanted; ++e) {
      if (!there.contains(e)) {
        return fail(Code::ExpertPairCount,
                    fmt::format("expert {} of {} has no adapter", e, parameter))
            .pair(counted(there.size(), "expert"), fmt::format("all {}", wanted))
            .advise("export the adapter again, with the experts of all ranks");
      }
    }
  }
  return Done{};
}

}  // namespace bv::lora
