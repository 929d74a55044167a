#include <fmt/format.h>

#include <mutex>

#include "core/base/workers.hpp"
#include "properties/claims/catalogue.hpp"
#include "properties/claims/dtypes.hpp"
#include "properties/claims/roundtrip.hpp"

namespace bv::claims {
namespace {

constexpr std::int64_t kWindowsBytes = std::int64_t{8} << 20;

/// One verdict for all tensors of a part on one layout.
Verdict about_all(const Subject& subject, const Part& part, const std::string& id) {
  Verdict verdict;
  verdict.claim = "bytes";
  verdict.layout = id;
  verdict.rule = part.name.empty() ? "all" : part.name;
  verdict.replay = fmt::format("{} --only bytes --layout {}", subject.replay, id);
  for (const RuleUse& use : rule_uses(subject)) {
    verdict.cases += use.part == &part ? use.tensors : 0;
  }
  return verdict;
}

Verdict no_bytes(const Subject& subject, const Part& part, const std::string& id) {
  Verdict verdict = about_all(subject, part, id);
  verdict.outcome = Outcome::Inconclusive;
  verdict.code = Code::NoBytes;
  verdict.title = "there are no bytes to move: the model is headers only";
  verdict.help = "give the directory with the weights";
  return verdict;
}

Verdict no_plan(const Subject& subject, const Part& part, const std::string& id,
                const Error& error) {
  Verdict verdict = about_all(subject, part, id);
  verdict.outcome = Outcome::Refuted;
  verdict.code = error.code;
  verdict.refuted_cases = verdict.cases;
  verdict.title = error.message;
  verdict.help = error.help;
  return verdict;
}

/// The files changed while they were read: what was seen of them says nothing.
void distrust(std::vector<Verdict>& verdicts, const Error& error) {
  for (Verdict& verdict : verdicts) {
    verdict.outcome = Outcome::Inconclusive;
    verdict.evidence = {};
    verdict.code = error.code;
    verdict.title = error.message;
    verdict.help = error.help;
  }
}

std::vector<Verdict> check_one_layout(const Subject& subject, const Part& part,
                                      const plan::Plan& plan) {
  const model::Model& model = part.source->model;
  const std::string id = parallel::layout_id(plan.layout());
  const Dtypes dtypes(subject);
  std::vector<std::optional<claims::MoveFault>> faults(model.mappings.size());
  auto status =
      for_each_parallel(model.mappings.size(), subject.budget.jobs, [&](std::size_t i) -> Status {
        if (dtypes.refuses(part, model.mappings[i])) {
          return Done{};  // Unsupported below
        }
        claims::MoveCount count;
        faults[i] =
            claims::check_round_trip(plan, i, *part.source->checkpoint,
                                     kWindowsBytes / std::max(1, subject.budget.jobs), count);
        if (subject.budget.progress != nullptr) {
          subject.budget.progress->advance(count.bytes, static_cast<std::uint64_t>(count.tensors),
                                           model.mappings[i].hf.front());
          if (subject.budget.progress->stop_requested()) {
            return fail(Code::Stopped, "stopped before the end");
          }
        }
        return Done{};
      });
  std::vector<Verdict> out;
  for (const RuleUse& use : rule_uses(subject)) {
    if (use.part != &part) {
      continue;
    }
    Verdict verdict = about(subject, "bytes", use, id);
    verdict.cases = use.tensors;
    verdict.outcome = status ? Outcome::Held : Outcome::Inconclusive;
    verdict.evidence.bytes = status.has_value();
    if (!status) {
      verdict.code = status.error().code;
      verdict.title = verdict.code == Code::Stopped ? "stopped before every byte was compared"
                                                    : status.error().message;
      verdict.help = verdict.code == Code::Stopped ? "run it again" : status.error().help;
    }
    if (status && dtypes.refuses(use)) {
      dtypes.mark(part, verdict);
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
      verdict.facts.clear();
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

std::int64_t count_bytes(const Subject& subject) {
  return std::ssize(subject.layouts) * sum_of(subject, &RuleUse::tensors);
}

std::vector<Verdict> check_bytes(const Subject& subject) {
  std::vector<Verdict> out;
  for (const Part& part : subject.parts) {
    std::vector<Verdict> of_part;
    for (const parallel::Layout& layout : subject.layouts) {
      const std::string id = parallel::layout_id(layout);
      auto plan = plan::Plan::make(part.source->model, *subject.kinds, layout);
      if (!part.source->checkpoint) {
        of_part.push_back(no_bytes(subject, part, id));
      } else if (!plan) {
        of_part.push_back(no_plan(subject, part, id, plan.error()));
      } else {
        auto moved = check_one_layout(subject, part, *plan);
        std::move(moved.begin(), moved.end(), std::back_inserter(of_part));
      }
    }
    if (part.source->checkpoint) {
      if (auto status = part.source->checkpoint->unchanged(); !status) {
        distrust(of_part, status.error());
      }
    }
    std::move(of_part.begin(), of_part.end(), std::back_inserter(out));
  }
  return out;
}

}  // namespace bv::claims
