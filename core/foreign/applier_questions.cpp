// What is asked about rules before any parameter is made: faults of rules, and hooks.

#include <fmt/format.h>

#include <algorithm>

#include "core/base/text.hpp"
#include "core/foreign/applier.hpp"
#include "core/foreign/foreign_line.hpp"
#include "core/foreign/numbered.hpp"
#include "core/foreign/parameter.hpp"
#include "core/foreign/shown.hpp"
#include "core/foreign/usual.hpp"

namespace bv::foreign {

using Answer = OpenQuestion::Answer;

/// Rules that cannot be applied: one question a cause, and what they read or make is left alone.
void Applier::report_rule_faults(bool guessed) {
  if (guessed) {
    report_unsolved();
  }
  std::map<std::string, std::size_t> by_kind;  // unknown kind -> place in out_.open
  for (const ForeignRule& rule : rules_.rules) {
    for (const RuleFault& fault : rule_faults(kinds_, rule, rules_.parameters.has_value())) {
      if (never_fires(rule, fault)) {
        faulty_[rule.position] = true;
        continue;  // RuleDead tells of it
      }
      std::vector<std::string> unmoved =
          faulty_[rule.position] ? std::vector<std::string>() : excuse(rule);
      faulty_[rule.position] = true;
      if (fault.error.code == Code::RuleKindUnknown) {
        const auto [place, fresh] = by_kind.try_emplace(rule.kind, out_.open.size());
        if (!fresh) {
          OpenQuestion& question = out_.open[place->second];
          question.facts.push_back(fmt::format("also {} ({})", named(rule), rule.source));
          question.hf.insert(question.hf.end(), unmoved.begin(), unmoved.end());
          continue;
        }
      }
      out_.open.push_back(
          question_of(fault.error, fault.refutes ? Answer::Refuted : Answer::Unsupported));
      out_.open.back().subject = shown(rule.megatron);
      out_.open.back().rule = shown(rule.id);
      out_.open.back().hf = std::move(unmoved);
    }
  }
}

/// Which parameters a rule makes follows from the tensors, unless their numbers are computed of two
/// wildcards.
void Applier::report_unsolved() {
  for (const ForeignRule& rule : rules_.rules) {
    const auto unsolved = std::find_if(rule.hf.begin(), rule.hf.end(), [](const auto& one) {
      return is_numbered(one.second) && !can_be_solved(one.second);
    });
    if (unsolved == rule.hf.end() || names_.readable_by(unsolved->second).empty()) {
      continue;
    }
    const Error error =
        fail(Code::ParametersUnknown,
             fmt::format("which parameters {} makes does not follow from the tensors", named(rule)))
            .at(rule.source)
            .pair(shown(unsolved->second), "a list of the parameters of the built model")
            .advise("list them in the rules file (model.parameters)");
    out_.open.push_back(question_of(error, Answer::Undecided));
    out_.open.back().subject = shown(rule.megatron);
    out_.open.back().rule = shown(rule.id);
    out_.open.back().hf = excuse(rule);
    faulty_[rule.position] = true;
  }
}

/// What is not known of a rule does not matter when the model that was built has no parameter for
/// it.
bool Applier::never_fires(const ForeignRule& rule, const RuleFault& fault) const {
  return certain_ && !takes_[rule.position] && !fault.refutes;
}

/// What a rule says of a tensor that the bridge changes first is not what is done with the file's.
void Applier::report_hook(bool guessed) {
  if (!rules_.load_hook) {
    return;
  }
  const std::string hook =
      fmt::format("maybe_modify_loaded_hf_weight of {}", shown(rules_.load_hook->owner));
  const auto ask = [&](std::string message, std::string subject) -> OpenQuestion& {
    OpenQuestion question;
    question.code = Code::HookChanges;
    question.message = std::move(message);
    question.subject = std::move(subject);
    question.found = hook;
    question.wanted = "rules that read the tensors as they are stored";
    question.help =
        "hold what the real bridge makes of this checkpoint against it: bridge-verify check "
        "--model DIR --megatron CKPT_DIR";
    question.answer = Answer::Unsupported;
    return out_.open.emplace_back(std::move(question));
  };
  if (!rules_.load_hook->changes) {
    ask("the bridge may change tensors before its rules read them", hook);
    return;
  }
  const std::set<std::string, std::less<>> changed(rules_.load_hook->changes->begin(),
                                                   rules_.load_hook->changes->end());
  for (const ForeignRule& rule : rules_.rules) {
    // No tensor of the file may have the name that the hook makes up: then no parameter is guessed.
    const bool fires = takes_[rule.position] || guessed;
    if (changed.contains(rule.id) && fires && !faulty_[rule.position]) {
      std::vector<std::string> unmoved = excuse(rule);
      for (const std::string& pattern : rules_.load_hook->reads) {
        for (const NameIndex::Taken& taken : names_.taken_by(pattern)) {
          faults_.allow(taken.entry->first);
          unmoved.push_back(taken.entry->first);
        }
      }
      faulty_[rule.position] = true;
      OpenQuestion& question =
          ask(fmt::format("the bridge changes what {} reads", named(rule)), shown(rule.megatron));
      question.rule = shown(rule.id);
      question.source = rule.source;
      question.hf = std::move(unmoved);
    }
  }
}

/// The tensors that a rule would read; they are told of with the rule.
std::vector<std::string> Applier::excuse(const ForeignRule& rule) {
  std::vector<std::string> out;
  for (const auto& [role, pattern] : rule.hf) {
    // A number in the place of a wildcard, or too many of them: what it was meant to read is as
    // unread by this one fault as what it names.
    const bool miscounted = !is_numbered(pattern) && wildcards(pattern) != wildcards(rule.megatron);
    const std::string meant = miscounted ? starred(pattern) : pattern;
    for (const NameIndex::Taken& taken : names_.readable_by(meant)) {
      faults_.allow(taken.entry->first);
      out.push_back(taken.entry->first);
    }
  }
  return out;
}

}  // namespace bv::foreign
