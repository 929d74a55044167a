#include <fmt/format.h>

#include <mutex>

#include "core/base/workers.hpp"
#include "properties/claims/roundtrip.hpp"
#include "properties/claims/subject.hpp"

namespace bv::claims {
namespace {

constexpr std::int64_t kWindowsBytes = std::int64_t{8} << 20;

Verdict not_possible(const Input& input, const std::string& id) {
  Verdict verdict;
  verdict.claim = "bytes";
  verdict.layout = id;
  verdict.rule = "all";
  verdict.outcome = Outcome::Inconclusive;
  verdict.code = Code::ValueRuleUndecided;
  verdict.title = "there are no bytes to move: the model is headers only";
  verdict.help = "give the directory with the weights";
  verdict.replay = input.replay;
  verdict.cases = 1;
  return verdict;
}

/// Two owners in one layout hold the same content by construction of the plan only if their boxes
/// are equal.
std::vector<Verdict> check_one_layout(const Input& input, const plan::Plan& plan) {
  const model::Model& model = input.source->model;
  const std::string id = parallel::layout_id(plan.layout());
  std::vector<std::optional<claims::MoveFault>> faults(model.mappings.size());
  auto status = for_each_parallel(model.mappings.size(), input.jobs, [&](std::size_t i) -> Status {
    claims::MoveCount count;
    faults[i] = claims::check_round_trip(plan, i, *input.source->checkpoint,
                                         kWindowsBytes / std::max(1, input.jobs), count);
    if (input.progress != nullptr) {
      input.progress->advance(count.bytes, static_cast<std::uint64_t>(count.tensors),
                              model.mappings[i].hf.front());
      if (input.progress->stop_requested()) {
        return fail(Code::Conflict, "stopped by the user");
      }
    }
    return Done{};
  });
  std::vector<Verdict> out;
  for (const RuleUse& use : rule_uses(model)) {
    Verdict verdict = about(input, "bytes", use, id);
    verdict.outcome = status ? Outcome::Held : Outcome::Inconclusive;
    verdict.evidence.bytes = status.has_value();
    if (!status) {
      verdict.code = Code::ValueRuleUndecided;
      verdict.title = "stopped before every byte was compared";
      verdict.help = "run it again";
    }
    for (const std::uint32_t m : use.mappings) {
      if (!faults[m]) {
        continue;
      }
      if (verdict.refuted_cases++ > 0) {
        continue;
      }
      verdict.outcome = Outcome::Refuted;
      verdict.evidence = {};
      verdict.code = Code::BytesDiffer;
      verdict.title = fmt::format("{} {}", faults[m]->tensor, faults[m]->what);
      verdict.found = faults[m]->what;
      verdict.wanted = "every element back, bit for bit";
      verdict.help = "compare the kind's line with its inverse: bridge-verify rules show";
      Counterexample example;
      example.tensor = faults[m]->tensor;
      example.rank = faults[m]->rank;
      example.index = faults[m]->index;
      verdict.counterexamples.push_back(std::move(example));
    }
    out.push_back(std::move(verdict));
  }
  return out;
}

}  // namespace

std::vector<Verdict> check_bytes(const Input& input) {
  std::vector<Verdict> out;
  for (const parallel::Layout& layout : input.layouts) {
    if (!input.source->checkpoint) {
      out.push_back(not_possible(input, parallel::layout_id(layout)));
      continue;
    }
    auto plan = plan::Plan::make(input.source->model, *input.kinds, layout);
    if (!plan) {
      Verdict verdict = not_possible(input, parallel::layout_id(layout));
      verdict.outcome = Outcome::Refuted;
      verdict.code = plan.error().code;
      verdict.title = plan.error().message;
      verdict.help = plan.error().help;
      out.push_back(std::move(verdict));
      continue;
    }
    for (Verdict& verdict : check_one_layout(input, *plan)) {
      out.push_back(std::move(verdict));
    }
  }
  if (input.source->checkpoint) {
    if (auto status = input.source->checkpoint->unchanged(); !status) {
      for (Verdict& verdict : out) {
        verdict.outcome = Outcome::Inconclusive;
        verdict.evidence = {};
        verdict.code = status.error().code;
        verdict.title = status.error().message;
        verdict.help = status.error().help;
      }
    }
  }
  return out;
}

}  // namespace bv::claims
