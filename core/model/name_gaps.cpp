#include "core/model/name_gaps.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "core/base/text.hpp"

namespace bv::model {
namespace {

using Kind = NameGap::Kind;

/// Wanted HF names below each prefix of the family, and how many of them are missing.
struct RootTally {
  std::int64_t wanted = 0, missing = 0;
};

std::string_view root_of_gap(const Model& model, const NameGap& gap) {
  return family::root_of(*model.family, gap.spot.rule->hf[gap.slot].second);
}

NameFault absent_root(const Model& model, const std::string& root,
                      const std::vector<std::string>& names) {
  NameFault fault;
  fault.code = Code::HfTensorMissing;
  fault.subject = names.front();
  fault.subjects = names;
  fault.message = fmt::format(
      "the checkpoint holds no {}*: {} are missing, and their Megatron "
      "parameters would keep their initial values",
      escaped(root), tensors_text(names));
  fault.found = fmt::format("no tensor {}*", escaped(root));
  fault.wanted = fmt::format("{} to {}", names.front(), names.back());
  fault.help = fmt::format(
      "if the model was saved without this part, use the config.json of that model (architectures "
      "and model_type name family {} here); else look for the shards that hold it",
      model.family->name);
  return fault;
}

}  // namespace

std::vector<NameFault> explain_absent_roots(const Model& wanted, std::vector<NameGap>& gaps) {
  std::map<std::string, RootTally> roots;
  for (const Mapping& mapping : wanted.mappings) {
    for (const auto& [source, text] : mapping.rule->hf) {
      ++roots[std::string(family::root_of(*wanted.family, text))].wanted;
    }
  }
  const auto is_missing = [](const NameGap& gap) { return gap.kind == Kind::Missing; };
  for (const NameGap& gap : gaps) {
    if (is_missing(gap)) {
      ++roots[std::string(root_of_gap(wanted, gap))].missing;
    }
  }
  std::vector<NameFault> faults;
  for (const auto& [root, tally] : roots) {
    if (root.empty() || tally.missing < tally.wanted) {
      continue;
    }
    const auto names = take_names(gaps, [&, &key = root](const NameGap& gap) {
      return is_missing(gap) && root_of_gap(wanted, gap) == key;
    });
    faults.push_back(absent_root(wanted, wanted.prefixes.find(root)->second, names));
  }
  return faults;
}

std::vector<NameFault> explain_whole_parts(const Model& wanted, std::vector<NameGap>& gaps) {
  std::vector<NameFault> faults = explain_absent_roots(wanted, gaps);
  for (auto* explain : {explain_repetitions, explain_conditions}) {
    auto more = explain(wanted, gaps);
    std::move(more.begin(), more.end(), std::back_inserter(faults));
  }
  return faults;
}

std::string common_start(const std::vector<std::string>& names) {
  if (names.size() == 1) {
    return names.front();
  }
  std::string_view start = names.empty() ? std::string_view() : std::string_view(names.front());
  for (const std::string& name : names) {
    const auto differs = std::mismatch(start.begin(), start.end(), name.begin(), name.end());
    start = start.substr(0, static_cast<std::size_t>(differs.first - start.begin()));
  }
  const std::size_t dot = start.rfind('.');
  return std::string(start.substr(0, dot == std::string_view::npos ? 0 : dot + 1)) + "*";
}

std::string tensors_text(const std::vector<std::string>& names) {
  if (names.size() == 1) {
    return "HF tensor " + escaped(names.front());
  }
  return fmt::format("{} HF tensors {}", thousands(static_cast<std::int64_t>(names.size())),
                     escaped(common_start(names)));
}

std::vector<std::string> take_names(std::vector<NameGap>& gaps,
                                    const std::function<bool(const NameGap&)>& pick) {
  std::vector<std::string> names;
  const auto kept = std::stable_partition(gaps.begin(), gaps.end(),
                                          [&](const NameGap& gap) { return !pick(gap); });
  for (auto at = kept; at != gaps.end(); ++at) {
    names.push_back(std::move(at->name));
  }
  gaps.erase(kept, gaps.end());
  return names;
}

}  // namespace bv::model
