// Rules that read a part of a tensor, or tensors that may be absent.

#include <fmt/format.h>

#include <algorithm>

#include "core/base/text.hpp"
#include "core/foreign/applier.hpp"
#include "core/foreign/shown.hpp"

namespace bv::foreign {

/// What stands for an absent part is not moved here: such a parameter is never refuted, and never
/// green.
bool Applier::may_be_absent(const WantedParameter& parameter, const ForeignRule& rule,
                            const ForeignKind& kind, const std::vector<std::string>& hf) {
  std::vector<std::string> stands_for;  // "v: copy:k"
  std::vector<std::string> absent, there;
  bool skipped = false;
  for (std::size_t i = 0; i < hf.size(); ++i) {
    if (headers_.contains(hf[i])) {
      there.push_back(hf[i]);
      continue;
    }
    absent.push_back(shown(hf[i]));
    const auto said =
        std::find_if(rule.optional.begin(), rule.optional.end(), [&](const auto& one) {
          return rule.hf.size() == 1 || std::find(kind.sources[i].begin(), kind.sources[i].end(),
                                                  one.first) != kind.sources[i].end();
        });
    if (said == rule.optional.end()) {
      return false;
    }
    skipped = skipped || said->second == "skip";
    stands_for.push_back(said->first + ": " + said->second);
  }
  if (skipped && !parameter.certain) {
    return true;  // nothing says that the model has the parameter
  }
  Error error =
      skipped
          ? fail(Code::ParametersUnknown,
                 fmt::format("{} says that the tensors of {} may be absent, and they are: it would "
                             "keep its initial values",
                             named(rule), shown(parameter.name)))
                .advise("leave the parameter out of the model, or complete the checkpoint")
          : fail(Code::RuleKindUnknown,
                 fmt::format("{} fills an absent part of {} by {}, which no line of notation does",
                             named(rule), shown(parameter.name), join(stands_for, ", ")))
                .advise("give the rule of these layers a layout of its own");
  error.where = rule.source;
  error.found = "not in the checkpoint: " + join(absent, ", ");
  error.wanted = "every tensor of the rule";
  leave_out(parameter, rule, error, there);
  return true;
}

/// One HF tensor for several parameters: which slice makes which is judged, the bytes are not.
void Applier::slice_of(const WantedParameter& parameter, const ForeignRule& rule,
                       const std::string& hf) {
  const Shape& shape = headers_.find(hf)->second.shape;
  const std::int64_t count = shape.empty() ? 0 : shape.front();
  if (*rule.slice >= count) {
    return leave_out(parameter, rule,
                     fail(Code::ShapeMismatch, fmt::format("{} reads a slice that {} does not have",
                                                           named(rule), shown(hf)))
                         .at(rule.source)
                         .pair(fmt::format("slice {} of {}", *rule.slice, shape_text(shape)),
                               fmt::format("a slice below {}", count))
                         .advise("correct the slice, or the HF name"),
                     {hf});
  }
  const auto [first, fresh] = slices_[hf].try_emplace(*rule.slice, parameter.name);
  if (!fresh && first->second != parameter.name) {
    return leave_out(
        parameter, rule,
        fail(Code::DuplicateClaim,
             fmt::format("slice {} of {} makes two Megatron parameters", *rule.slice, shown(hf)))
            .at(rule.source)
            .pair(shown(first->second) + " and " + shown(parameter.name), "one for each slice")
            .advise("correct the slice of " + named(rule)),
        {hf});
  }
  leave_out(parameter, rule,
            fail(Code::RuleKindUnknown,
                 fmt::format("{} makes {} of a slice: that one tensor fills several parameters is "
                             "not moved here",
                             named(rule), shown(parameter.name)))
                .at(rule.source)
                .pair(fmt::format("slice {} of {}", *rule.slice, shown(hf)),
                      "a whole tensor for each parameter")
                .advise("hold what the real bridge makes of this checkpoint against it: "
                        "bridge-verify check --model DIR --megatron CKPT_DIR"),
            {hf});
}

/// Slices that nothing reads are lost, like tensors that nothing reads.
void Applier::report_slices() {
  for (const auto& [hf, takers] : slices_) {
    const std::int64_t count = headers_.find(hf)->second.shape.front();
    const auto read = static_cast<std::int64_t>(takers.size());
    if (read == count) {
      continue;
    }
    std::int64_t free = 0;
    while (takers.contains(free)) {
      ++free;
    }
    out_.model.faults.push_back({Code::HfTensorUnused, shown(hf),
                                 fmt::format("{} of {} read by no rule: slice {} first",
                                             counted(count - read, "slice"), shown(hf), free),
                                 fmt::format("{} of {} slices are read", read, count),
                                 "a rule for each slice",
                                 fmt::format("add a rule with \"slice\": {}", free)});
  }
}

}  // namespace bv::foreign
