// What a rules file states beside its rules and is not in them: hooks of the way back, settings of
// the provider that say how rows are read, and what the exporter could not do.

#include <fmt/format.h>

#include <algorithm>

#include "core/base/text.hpp"
#include "core/foreign/applier.hpp"
#include "core/foreign/rotary.hpp"
#include "core/foreign/shown.hpp"

namespace bv::foreign {
namespace {

using Answer = OpenQuestion::Answer;

OpenQuestion hook_question(std::string message, std::string hook) {
  OpenQuestion out;
  out.code = Code::HookChanges;
  out.message = std::move(message);
  out.subject = hook;
  out.found = std::move(hook);
  out.help =
      "hold what the real bridge makes of this checkpoint, and writes of it again, against it: "
      "bridge-verify diff";
  out.answer = Answer::Unsupported;
  return out;
}

OpenQuestion row_question(std::string message, std::string found, std::string wanted) {
  OpenQuestion out;
  out.code = Code::NoTargetLayout;
  out.subject = "facts";
  out.message = std::move(message);
  out.found = std::move(found);
  out.wanted = std::move(wanted);
  out.help =
      "correct the provider, or compute both models on the real weights: no claim here judges it";
  out.answer = Answer::Undecided;
  return out;
}

bool has_rule_for(const ForeignRules& rules, std::string_view part) {
  return std::any_of(rules.rules.begin(), rules.rules.end(), [part](const ForeignRule& rule) {
    return rule.megatron.find(part) != std::string::npos;
  });
}

}  // namespace

/// A bridge that stands on other code than was read may do anything with its rules.
void Applier::report_base() {
  if (rules_.base_changes.empty()) {
    return;
  }
  const auto told = [](const BaseChange& change) {
    return readable(fmt::format("{} {}{}{}", change.name, change.what,
                                change.source.empty() ? "" : ", in ", change.source));
  };
  const BaseChange& first = rules_.base_changes.front();
  OpenQuestion question = hook_question(
      "the library below the bridge is not the one that was read: what it does with these rules is "
      "not known",
      told(first));
  question.subject = shown(first.name);
  question.source = shown(first.source);
  question.wanted = "the classes of a release that is known to the exporter, as they are";
  constexpr std::size_t kTold = 6;  // a text shows as many lines
  for (std::size_t i = 1; i < rules_.base_changes.size() && i < kTold; ++i) {
    question.facts.push_back(told(rules_.base_changes[i]));
  }
  if (rules_.base_changes.size() > kTold) {
    question.facts.push_back(fmt::format("and {} more in hooks.base of the rules file",
                                         rules_.base_changes.size() - kTold));
  }
  out_.open.push_back(std::move(question));
}

/// The inverse of a rule is not what is written where the bridge changes it afterwards.
void Applier::report_export_hook() {
  for (const std::string& method : rules_.own_methods) {
    OpenQuestion question = hook_question(
        "the bridge replaces how all tensors are loaded or written, which is not exercised",
        method);
    question.wanted = "the method of the base class";
    out_.open.push_back(std::move(question));
  }
  if (!rules_.export_hook) {
    return;
  }
  const std::string hook =
      fmt::format("maybe_modify_converted_hf_weight of {}", shown(rules_.export_hook->owner));
  if (!rules_.export_hook->changes) {
    OpenQuestion question =
        hook_question("the bridge may change tensors that its rules have written", hook);
    question.wanted = "tensors that are written as the rules say, seen by running the hook";
    out_.open.push_back(std::move(question));
    return;
  }
  for (const ForeignRule& rule : rules_.rules) {
    const auto& changed = *rules_.export_hook->changes;
    if (std::find(changed.begin(), changed.end(), rule.id) == changed.end() ||
        !takes_[rule.position] || faulty_[rule.position]) {
      continue;
    }
    OpenQuestion question =
        hook_question(fmt::format("the bridge changes what {} writes", named(rule)), hook);
    question.subject = shown(rule.megatron);
    question.wanted = "tensors that are written as the rule says";
    question.rule = shown(rule.id);
    question.source = rule.source;
    question.hf = excuse(rule);
    faulty_[rule.position] = true;
    out_.open.push_back(std::move(question));
  }
}

/// Rows that both sides store alike are read otherwise: no place of an element shows it.
void Applier::report_row_facts() {
  const RowFacts& facts = rules_.row_facts;
  const RotaryRows rotary = rotary_rows(rules_, kinds_, *family_);
  if (rotary.order == RotaryRows::Order::Unknown && has_rule_for(rules_, "linear_q")) {
    out_.open.push_back(row_question(
        "the provider rotates neighbouring rows of a head, which HF's class is not known to do",
        rotary.because, "facts.rotary, or a family that knows what HF's class rotates"));
  }
  if (!facts.glu_interleave_size.empty() && facts.glu_interleave_size != "0" &&
      has_rule_for(rules_, "experts.")) {
    out_.open.push_back(row_question(
        "the provider interleaves the rows of gate and up in the experts, and HF keeps them apart",
        "facts.moe_mlp_glu_interleave_size is " + facts.glu_interleave_size,
        "null, or a bridge that is known to interleave them"));
  }
}

/// Without the model that was to be built nobody knows whether it has further parameters.
void Applier::report_trouble() {
  if (rules_.trouble.empty() || rules_.parameters) {
    return;
  }
  OpenQuestion question;
  question.code = Code::ParametersUnknown;
  question.subject = "the list of parameters";
  question.message =
      "the export had trouble and lists no parameters: whether the Megatron model has further ones "
      "is not known";
  question.found = shown(rules_.trouble.front());
  question.wanted = "model.parameters, or an export without trouble";
  question.help = "remove what stopped the export, and export the rules again";
  for (std::size_t i = 1; i < rules_.trouble.size() && i < 8; ++i) {
    question.facts.push_back(shown(rules_.trouble[i]));
  }
  question.answer = Answer::Undecided;
  out_.open.push_back(std::move(question));
}

}  // namespace bv::foreign
