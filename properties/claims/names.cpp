#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "core/base/text.hpp"
#include "properties/claims/catalogue.hpp"

namespace bv::claims {

namespace {

Outcome outcome_of(foreign::OpenQuestion::Answer answer) {
  switch (answer) {
    case foreign::OpenQuestion::Answer::Undecided:
      return Outcome::Inconclusive;
    case foreign::OpenQuestion::Answer::Unsupported:
      return Outcome::Unsupported;
    case foreign::OpenQuestion::Answer::Refuted:
      return Outcome::Refuted;
  }
  return Outcome::Broken;
}

/// What the rules under test leave open, and what is wrong with single rules of them.
std::vector<Verdict> open_questions(const Subject& subject) {
  std::vector<Verdict> out;
  if (subject.under_test == nullptr) {
    return out;
  }
  for (const foreign::OpenQuestion& question : subject.under_test->open) {
    Verdict verdict;
    verdict.claim = "names";
    verdict.rule = fmt::format("{}:{}", question.rule.empty() ? question.subject : question.rule,
                               label(question.code));
    verdict.rule_source = question.source;
    verdict.outcome = outcome_of(question.answer);
    verdict.code = question.code;
    verdict.megatron = question.subject;
    verdict.hf = question.hf;
    if (question.hf.size() > 1) {
      verdict.subjects = question.hf;
    }
    verdict.cases = std::max<std::int64_t>(1, std::ssize(question.hf));
    verdict.refuted_cases = verdict.outcome == Outcome::Refuted ? verdict.cases : 0;
    verdict.title = question.message;
    verdict.facts = question.facts;
    verdict.found = question.found;
    verdict.wanted = question.wanted;
    verdict.help = question.help;
    verdict.replay = subject.replay + " --only names";
    out.push_back(std::move(verdict));
  }
  return out;
}

/// Tensors of open questions are tensors of the checkpoint, which is counted as a whole unless its
/// names are wrong.
std::int64_t count_open(const Subject& subject) {
  if (subject.under_test == nullptr) {
    return 0;
  }
  const bool faulty = !subject.base().model.faults.empty();
  std::int64_t out = 0;
  for (const foreign::OpenQuestion& question : subject.under_test->open) {
    const auto tensors = std::ssize(question.hf);
    out += tensors == 0 ? 1 : faulty ? tensors : 0;
  }
  return out;
}

/// HF tensors that are left out on purpose are accounted for, each group with its reason.
void add_left_out(const Subject& subject, const std::vector<std::string>& tensors,
                  std::string_view group, std::string_view why, std::vector<Verdict>& out) {
  if (tensors.empty()) {
    return;
  }
  Verdict verdict;
  verdict.claim = "names";
  verdict.rule = group;
  verdict.kind = group;
  verdict.hf = tensors;
  verdict.cases = std::ssize(tensors);
  verdict.outcome = Outcome::Proved;
  verdict.evidence.proved = true;
  verdict.why = why;
  verdict.replay = subject.replay + " --only names";
  out.push_back(std::move(verdict));
}

/// True when the fault is about a tensor of the HF side.
bool about_hf(const Part& part, const model::NameFault& fault) {
  return fault.code == Code::HfTensorUnused || fault.code == Code::HfTensorMissing ||
         part.source->headers.contains(fault.subject);
}

/// Named by its tensor, so that it keeps its id when another fault goes away.
Verdict fault_verdict(const Subject& subject, const Part& part, const model::NameFault& fault,
                      std::set<std::string>& ids) {
  Verdict verdict;
  verdict.claim = "names";
  verdict.outcome =
      fault.code == Code::AmbiguousTranspose ? Outcome::Inconclusive : Outcome::Refuted;
  verdict.code = fault.code;
  if (about_hf(part, fault)) {
    verdict.hf = {fault.subject};
  } else {
    verdict.megatron = fault.subject;
  }
  for (int again = 1; !ids.insert(verdict.id()).second; ++again) {
    verdict.rule = fmt::format("{}:{}{}", fault.subject, label(fault.code),
                               again == 1 ? "" : fmt::format("-{}", again));
  }
  if (fault.subjects.size() > 1) {
    verdict.subjects = fault.subjects;
  }
  verdict.cases = 1;
  verdict.refuted_cases = verdict.outcome == Outcome::Refuted ? 1 : 0;
  verdict.title = fault.message;
  verdict.found = fault.found;
  verdict.wanted = fault.wanted;
  verdict.help = fault.help;
  verdict.replay = subject.replay + " --only names";
  return verdict;
}

/// Tensors that repeat another one; the model counts them among those that it ignores.
std::vector<std::string> copies_of(const model::Model& model) {
  std::vector<std::string> out;
  for (const auto& [copy, original] : model.must_equal) {
    out.push_back(copy);
  }
  return out;
}

/// Tensors that the model leaves unused, one verdict for each reason. Rules alone know no reason:
/// what they leave are buffers.
void add_ignored(const Subject& subject, const model::Model& model, std::vector<Verdict>& out) {
  std::set<std::string> told;
  for (const std::string& copy : copies_of(model)) {
    told.insert(copy);
  }
  std::size_t number = 0;
  for (const auto& [because, names] : model.ignored_because) {
    const std::string group = ++number == 1 ? "ignored" : fmt::format("ignored-{}", number);
    add_left_out(subject, names, "ignored", because, out);
    out.back().rule = group;
    told.insert(names.begin(), names.end());
  }
  std::vector<std::string> rest = model.ignored;
  std::erase_if(rest, [&](const std::string& name) { return told.contains(name); });
  add_left_out(subject, rest, "ignored", "buffers that the model computes itself", out);
}

}  // namespace

std::int64_t count_names(const Subject& subject) {
  std::int64_t out = 0;
  for (const Part& part : subject.parts) {
    const auto faults = std::ssize(part.source->model.faults);
    out +=
        faults > 0 ? faults : std::ssize(part.source->headers) + std::ssize(part.source->excluded);
  }
  return out + count_open(subject);
}

std::vector<Verdict> check_names(const Subject& subject) {
  std::vector<Verdict> out;
  std::set<const Part*> faulty;
  std::set<std::string> ids;
  for (const Part& part : subject.parts) {
    for (const model::NameFault& fault : part.source->model.faults) {
      out.push_back(fault_verdict(subject, part, fault, ids));
      faulty.insert(&part);
    }
  }
  for (const RuleUse& use : rule_uses(subject)) {
    if (!faulty.contains(use.part)) {
      Verdict verdict = about(subject, "names", use, "");
      verdict.cases = use.tensors;
      verdict.outcome = Outcome::Proved;
      verdict.evidence.proved = true;
      out.push_back(std::move(verdict));
    }
  }
  for (const Part& part : subject.parts) {
    if (!faulty.contains(&part)) {
      const model::Model& model = part.source->model;
      add_ignored(subject, model, out);
      add_left_out(subject, part.source->excluded, "excluded", "left out by --exclude", out);
      add_left_out(subject, model.dropped, "dropped", "left out by --drop-mtp", out);
      add_left_out(subject, copies_of(model), "copy", "copies of other tensors: see values", out);
    }
  }
  for (Verdict& verdict : open_questions(subject)) {
    out.push_back(std::move(verdict));
  }
  return out;
}

}  // namespace bv::claims
