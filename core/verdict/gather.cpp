#include "core/verdict/gather.hpp"

#include <fmt/format.h>

#include <map>
#include <tuple>
#include <utility>

#include "core/base/text.hpp"

namespace bv {
namespace {

bool groups(const Verdict& verdict) {
  return (verdict.outcome == Outcome::Proved || verdict.outcome == Outcome::Held) &&
         !verdict.layout.empty() && verdict.layout.find(' ') == std::string::npos &&
         verdict.counterexamples.empty();
}

/// Everything that a green verdict says but its layout.
std::string key_of(const Verdict& verdict) {
  std::string out = fmt::format("{}{}{} {} ", static_cast<int>(verdict.outcome),
                                letters(verdict.evidence), verdict.cases, verdict.refuted_cases);
  const auto add = [&out](const std::string& text) {
    out += fmt::format("{}:{}", text.size(), text);
  };
  for (const std::string* text :
       {&verdict.claim, &verdict.rule, &verdict.kind, &verdict.rule_source, &verdict.rule_class,
        &verdict.megatron, &verdict.title, &verdict.found, &verdict.wanted, &verdict.extent,
        &verdict.why, &verdict.help, &verdict.replay, &verdict.waiver}) {
    add(*text);
  }
  for (const auto* list : {&verdict.hf, &verdict.subjects, &verdict.facts}) {
    out += fmt::format("{};", list->size());
    for (const std::string& text : *list) {
      add(text);
    }
  }
  return out;
}

}  // namespace

std::vector<Verdict> gathered(std::vector<Verdict> verdicts) {
  std::vector<std::vector<std::size_t>> places;
  std::map<std::string, std::size_t> group_of;
  for (std::size_t i = 0; i < verdicts.size(); ++i) {
    if (!groups(verdicts[i])) {
      places.push_back({i});
      continue;
    }
    const auto [at, fresh] = group_of.try_emplace(key_of(verdicts[i]), places.size());
    if (fresh) {
      places.emplace_back();
    }
    places[at->second].push_back(i);
  }
  std::vector<Verdict> out;
  out.reserve(verdicts.size());
  for (const std::vector<std::size_t>& group : places) {
    for (const std::size_t i : group) {
      out.push_back(std::move(verdicts[i]));
    }
  }
  return out;
}

std::size_t end_of_group(const std::vector<Verdict>& verdicts, std::size_t begin) {
  std::size_t end = begin + 1;
  if (!groups(verdicts[begin])) {
    return end;
  }
  const std::string key = key_of(verdicts[begin]);
  while (end < verdicts.size() && groups(verdicts[end]) && key_of(verdicts[end]) == key) {
    ++end;
  }
  return end;
}

}  // namespace bv
