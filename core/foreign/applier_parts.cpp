// Rules that read tensors that may be absent.

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

}  // namespace bv::foreign
