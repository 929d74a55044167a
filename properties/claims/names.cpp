#include <fmt/format.h>

#include "core/base/text.hpp"
#include "properties/claims/subject.hpp"

namespace bv::claims {

namespace {

/// Without a family some questions about names have no answer.
std::vector<Verdict> open_questions(const Input& input) {
  std::vector<Verdict> out;
  if (input.under_test == nullptr) {
    return out;
  }
  for (const foreign::OpenQuestion& question : input.under_test->open) {
    Verdict verdict;
    verdict.claim = "names";
    verdict.rule = fmt::format("open{}", out.size());
    verdict.outcome = Outcome::Inconclusive;
    verdict.code = question.code;
    verdict.megatron = question.subject;
    verdict.cases = 1;
    verdict.title = question.message;
    verdict.found = question.found;
    verdict.wanted = question.wanted;
    verdict.help = question.help;
    verdict.replay = input.replay + " --only names";
    out.push_back(std::move(verdict));
  }
  return out;
}

}  // namespace

std::vector<Verdict> check_names(const Input& input) {
  const model::Model& model = input.source->model;
  std::vector<Verdict> out;
  for (const model::NameFault& fault : model.faults) {
    Verdict verdict;
    verdict.claim = "names";
    verdict.rule = fmt::format("fault{}", out.size());
    verdict.outcome =
        fault.code == Code::AmbiguousTranspose ? Outcome::Inconclusive : Outcome::Refuted;
    verdict.code = fault.code;
    verdict.megatron = fault.subject;
    verdict.cases = 1;
    verdict.refuted_cases = verdict.outcome == Outcome::Refuted ? 1 : 0;
    verdict.title = fault.message;
    verdict.found = fault.found;
    verdict.wanted = fault.wanted;
    verdict.help = fault.help;
    verdict.replay = input.replay + " --only names";
    out.push_back(std::move(verdict));
  }
  if (!out.empty()) {
    return out;
  }
  for (const RuleUse& use : rule_uses(model)) {
    Verdict verdict = about(input, "names", use, "");
    verdict.outcome = Outcome::Proved;
    verdict.evidence.proved = true;
    out.push_back(std::move(verdict));
  }
  for (Verdict& verdict : open_questions(input)) {
    out.push_back(std::move(verdict));
  }
  return out;
}

std::vector<Verdict> check_copies(const Input& input) {
  std::vector<Verdict> out;
  for (const auto& [copy, original] : input.source->model.must_equal) {
    Verdict verdict;
    verdict.claim = "values";
    verdict.rule = fmt::format("copy{}", out.size());
    verdict.kind = "copy";
    verdict.megatron = original;
    verdict.hf = {copy, original};
    verdict.cases = 1;
    verdict.replay = input.replay + " --only values";
    const Headers& headers = input.source->headers;
    const auto a = headers.find(copy);
    const auto b = headers.find(original);
    const bool same_spec = a != headers.end() && b != headers.end() &&
                           a->second.dtype == b->second.dtype && a->second.shape == b->second.shape;
    if (!same_spec) {
      verdict.outcome = Outcome::Refuted;
    } else if (!input.source->checkpoint) {
      verdict.outcome = Outcome::Inconclusive;
    } else {
      const io::Checkpoint& checkpoint = *input.source->checkpoint;
      const auto left = checkpoint.bytes(checkpoint.tensors().find(copy)->second);
      const auto right = checkpoint.bytes(checkpoint.tensors().find(original)->second);
      verdict.outcome = std::equal(left.begin(), left.end(), right.begin(), right.end())
                            ? Outcome::Held
                            : Outcome::Refuted;
      checkpoint.release(left);
      checkpoint.release(right);
    }
    verdict.evidence.bytes = verdict.outcome == Outcome::Held;
    verdict.code =
        verdict.outcome == Outcome::Inconclusive ? Code::ValueRuleUndecided : Code::TiedEmbeddings;
    verdict.refuted_cases = verdict.outcome == Outcome::Refuted ? 1 : 0;
    if (verdict.outcome == Outcome::Refuted) {
      verdict.title = fmt::format("{} is stored beside {} and differs from it", copy, original);
      verdict.found = same_spec ? "different bytes" : "different shape or dtype";
      verdict.wanted = "equal bytes: Megatron keeps one tensor for both";
      verdict.help =
          "set tie_word_embeddings to false if the two are meant to differ, else remove " + copy;
    } else if (verdict.outcome == Outcome::Inconclusive) {
      verdict.title = fmt::format("{} and {} must hold equal bytes; there are no bytes to compare",
                                  copy, original);
      verdict.help = "give the directory with the weights instead of headers";
    }
    out.push_back(std::move(verdict));
  }
  return out;
}

}  // namespace bv::claims
