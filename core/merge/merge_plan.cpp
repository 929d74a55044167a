#include "core/merge/merge_plan.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/lora/tied_head.hpp"

namespace bv::lora {
namespace {

/// The output layer becomes a tensor of its own, and the config has to say so.
bool unties_head(const checkpoint::HfModel& base, const std::vector<Untied>& untied) {
  const std::string head = head_name(base);
  return std::any_of(untied.begin(), untied.end(), [&](const Untied& one) {
    return one.is_new() || one.changed == head || one.other == head;
  });
}

Error tied(const Untied& one) {
  if (one.both) {
    return fail(Code::MergeTied,
                fmt::format(
                    "the adapter changes {} and {} in different ways, and they are one tensor",
                    one.changed, one.other))
        .pair("a change of its own for each of them", "two tensors, or the same change for both")
        .advise("repeat with --untie: each is then a tensor of its own");
  }
  return fail(Code::MergeTied, fmt::format("the adapter changes {}, and {} is the same tensor",
                                           one.changed, one.other))
      .pair("a delta for one of them", "two tensors, or the same delta for both")
      .advise("repeat with --untie: " + one.other + " then stays as the base has it");
}

/// A stored copy that is not the output layer: no config says that it is a tensor of its own.
Status check_copies(const checkpoint::HfModel& base, const std::vector<Untied>& untied) {
  const std::string head = head_name(base);
  for (const Untied& one : untied) {
    if (one.is_new() || one.changed == head || one.other == head) {
      continue;
    }
    return fail(Code::MergeTied,
                fmt::format(
                    "the adapter changes {} alone, and {} is a stored copy of it that cannot "
                    "be untied",
                    one.changed, one.other))
        .pair("a change of one of the two", "the same change for both")
        .advise("use the adapter beside its base, or merge into a base without " + one.other);
  }
  return Done{};
}

/// As PEFT refuses it: a layer without a bias cannot take one up.
Status check_biases(const Adapter& adapter) {
  for (const BiasDelta& bias : adapter.biases) {
    if (!bias.of_layer) {
      return fail(Code::AdapterNoForm,
                  fmt::format("the adapter adds a bias to {}, and the base has no such tensor",
                              bias.base.substr(0, bias.base.rfind('.'))))
          .pair(bias.delta.key(),
                "no lora_B.bias on a layer without a bias: PEFT refuses the merge too")
          .advise("use the adapter beside its base, or train it with lora_bias false");
    }
  }
  return Done{};
}

}  // namespace

bool MergePlan::adds_tensors() const {
  return std::any_of(untied.begin(), untied.end(), [](const Untied& one) { return one.is_new(); });
}

std::vector<std::string> MergePlan::notes() const {
  std::vector<std::string> out;
  for (const Untied& one : untied) {
    out.push_back(one.both ? fmt::format("{} and {} become two tensors", one.changed, one.other)
                           : fmt::format("{} stays as the base has it, apart from {}", one.other,
                                         one.changed));
  }
  return out;
}

Result<MergePlan> plan_merge(const checkpoint::HfModel& base, const Adapter& adapter, bool untie) {
  BV_CHECK(check_usable(adapter));
  BV_CHECK(check_biases(adapter));
  MergePlan out;
  out.edits = merged_edits(base, adapter);
  BV_CHECK(check_unknown_ties(base, out.edits));
  out.untied = ties_broken(base, edits_of(adapter));
  BV_CHECK(check_copies(base, out.untied));
  if (unties_head(base, out.untied)) {
    BV_CHECK(check_unties(base));
  }
  if (!out.untied.empty() && !untie) {
    return tied(out.untied.front());
  }
  return out;
}

std::vector<std::pair<std::string, std::string>> merged_members(const checkpoint::HfModel& base,
                                                                const MergePlan& plan) {
  return unties_head(base, plan.untied) ? untied_members(base)
                                        : std::vector<std::pair<std::string, std::string>>();
}

}  // namespace bv::lora
