#include "properties/claims/catalogue.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "core/base/text.hpp"
#include "properties/claims/resolved_part.hpp"

namespace bv::claims {
namespace {

constexpr std::array kLevels = {std::string_view("headers"), std::string_view("data"),
                                std::string_view("full")};

bool holds(const std::vector<std::string>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

std::vector<std::string> ids() {
  std::vector<std::string> out;
  for (const Claim& claim : catalogue()) {
    out.emplace_back(claim.id);
  }
  return out;
}

bool has_bytes(const Subject& subject) {
  return std::all_of(subject.parts.begin(), subject.parts.end(),
                     [](const Part& part) { return part.source->checkpoint.has_value(); });
}

Verdict miscounted(const Claim& claim, std::int64_t looked_at, std::int64_t subjects) {
  Verdict out;
  out.claim = claim.id;
  out.rule = "count";
  out.outcome = Outcome::Broken;
  out.code = Code::Assertion;
  out.title =
      fmt::format("claim {} looked at {} of {} {}", claim.id, looked_at, subjects, claim.noun);
  out.found = std::to_string(looked_at);
  out.wanted = std::to_string(subjects);
  out.help = "report it with the command line and the output of bridge-verify doctor";
  return out;
}

/// The names are counted by what is wrong with them, else by tensor.
bool has_faults(const Subject& subject) {
  return std::any_of(subject.parts.begin(), subject.parts.end(),
                     [](const Part& part) { return !part.source->model.faults.empty(); });
}

std::string not_reached_note(const std::vector<Verdict>& verdicts) {
  std::set<std::string> rules;
  for (const Verdict& verdict : verdicts) {
    if (verdict.code == Code::NotReached) {
      rules.insert(verdict.rule);
    }
  }
  return rules.empty() ? "" : counted(rules.size(), "rule") + " not reached";
}

/// How many layouts a claim stands on that a device was asked for.
std::string layouts_note(const std::vector<Verdict>& verdicts) {
  std::set<std::string> layouts;
  for (const Verdict& verdict : verdicts) {
    if (verdict.outcome == Outcome::Held) {
      layouts.insert(verdict.layout);
    }
  }
  return layouts.empty() ? "" : counted(layouts.size(), "layout");
}

}  // namespace

std::string_view name(Level level) {
  return kLevels[static_cast<std::size_t>(level)];
}

Result<Level> level_named(std::string_view word) {
  const auto found = std::find(kLevels.begin(), kLevels.end(), word);
  if (found == kLevels.end()) {
    return fail(Code::BadValue, fmt::format("--level {} is not a level", escaped(word)))
        .pair(escaped(word), "headers, data or full")
        .advise("write --level headers, data or full");
  }
  return static_cast<Level>(found - kLevels.begin());
}

const Claim* find_claim(std::string_view id) {
  const auto found = std::find_if(kCatalogue.begin(), kCatalogue.end(),
                                  [&](const Claim& claim) { return claim.id == id; });
  return found == kCatalogue.end() ? nullptr : found;
}

Status known_claims(const std::vector<std::string>& names, std::string_view option) {
  for (const std::string& name : names) {
    if (find_claim(name) == nullptr) {
      const auto near = nearest(name, ids());
      return fail(Code::BadValue, fmt::format("{} {} is not a claim", option, escaped(name)))
          .pair(escaped(name), join(ids(), " "))
          .advise(near ? fmt::format("did you mean {}?", *near)
                       : "write one of them, joined by commas");
    }
  }
  return Done{};
}

bool Wanted::asked(const Claim& claim) const {
  return holds(only, claim.id);
}

bool Wanted::skipped(const Claim& claim) const {
  return holds(skip, claim.id);
}

bool Wanted::includes(const Claim& claim, const Subject& subject) const {
  if (skipped(claim) || (!only.empty() && !asked(claim))) {
    return false;
  }
  const bool has_device = !claim.needs_device || subject.budget.device != nullptr;
  const bool in_level = has_device && claim.level <= level &&
                        (!claim.needs_bytes || level > Level::Headers || has_bytes(subject));
  return asked(claim) || holds(also, claim.id) || in_level;
}

std::vector<Verdict> judged(const Claim& claim, const Subject& subject) {
  const std::int64_t subjects = claim.count(subject);
  std::vector<Verdict> out = claim.judge(subject);
  std::int64_t looked_at = 0;
  for (Verdict& verdict : out) {
    looked_at += verdict.cases;
    // One that ends at the first fault has counted none.
    const bool red = verdict.outcome == Outcome::Refuted;
    verdict.refuted_cases = std::max<std::int64_t>(verdict.refuted_cases, red ? 1 : 0);
  }
  if (looked_at != subjects) {
    out.push_back(miscounted(claim, looked_at, subjects));
  }
  return out;
}

bool Panel::judge_names(const Subject& subject) {
  const Claim& claim = kCatalogue.front();
  const bool wrong = has_faults(subject);
  add(claim, subject,
      wanted_.includes(claim, subject) || wrong ? judged(claim, subject) : std::vector<Verdict>{});
  return std::all_of(subject.parts.begin(), subject.parts.end(),
                     [](const Part& part) { return part.source->model.names_are_whole(); });
}

void Panel::judge_rest(const Subject& subject, const std::string& unreached) {
  for (const Claim& claim : catalogue().subspan(1)) {
    const bool is_listed =
        !claim.needs_device || subject.budget.device != nullptr || wanted_.asked(claim);
    if (!is_listed) {
      continue;
    }
    if (!wanted_.includes(claim, subject)) {
      add(claim, subject, {});
    } else if (!unreached.empty()) {
      judge_beside(subject, claim, unreached);
    } else if (claim.needs_shapes && shapes_are_wrong(subject)) {
      add_unreached(claim, "header shapes are wrong");
    } else {
      add(claim, subject, judged(claim, subject));
    }
  }
}

void Panel::add(const Claim& claim, const Subject& subject, std::vector<Verdict> verdicts) {
  ClaimSummary summary;
  summary.claim = claim.id;
  summary.title = claim.title;
  summary.noun = claim.noun;
  summary.skipped = wanted_.skipped(claim);
  summary.requested = wanted_.includes(claim, subject);
  if (claim.id == "names" && has_faults(subject)) {
    summary.noun = "faults and questions";
  }
  for (const Verdict& verdict : verdicts) {
    summary.subjects += verdict.cases;
  }
  summary.vacuous = summary.requested && verdicts.empty();
  if (summary.vacuous) {
    summary.note = claim.vacuous;
  } else if (!summary.requested && !summary.skipped && claim.needs_bytes && !has_bytes(subject)) {
    summary.note = "needs the weights";
  } else {
    summary.note = not_reached_note(verdicts);
  }
  if (claim.needs_device && summary.note.empty()) {
    summary.note = layouts_note(verdicts);
  }
  if (claim.id == "shapes") {
    shapes_known_ = summary.requested;
    shapes_wrong_ = std::any_of(verdicts.begin(), verdicts.end(),
                                [](const Verdict& one) { return one.outcome == Outcome::Refuted; });
  }
  run_.claims.push_back(std::move(summary));
  std::move(verdicts.begin(), verdicts.end(), std::back_inserter(run_.verdicts));
}

void Panel::add_unreached(const Claim& claim, const std::string& why) {
  ClaimSummary summary;
  summary.claim = claim.id;
  summary.title = claim.title;
  summary.noun = claim.noun;
  summary.note = why;
  summary.reached = false;
  run_.claims.push_back(std::move(summary));
}

void Panel::judge_beside(const Subject& subject, const Claim& claim, const std::string& why) {
  std::vector<Verdict> refuted;
  const auto resolved = claim.by_rule && has_faults(subject) && !subject.layouts.empty()
                            ? resolved_part(subject.base())
                            : std::nullopt;
  if (resolved) {
    Subject rest = subject;
    rest.parts = {{&*resolved}};
    refuted = judged(claim, rest);
    std::erase_if(refuted, [](const Verdict& one) {
      return one.outcome != Outcome::Refuted && one.outcome != Outcome::Broken;
    });
  }
  add_unreached(claim, why);
  if (refuted.empty()) {
    return;
  }
  ClaimSummary& summary = run_.claims.back();
  summary.reached = true;
  summary.note = "of the rules whose names are right";
  for (const Verdict& verdict : refuted) {
    summary.subjects += verdict.cases;
  }
  std::move(refuted.begin(), refuted.end(), std::back_inserter(run_.verdicts));
}

bool Panel::shapes_are_wrong(const Subject& subject) {
  if (!shapes_known_) {
    const auto verdicts = check_shapes(subject);
    shapes_known_ = true;
    shapes_wrong_ = std::any_of(verdicts.begin(), verdicts.end(),
                                [](const Verdict& one) { return one.outcome == Outcome::Refuted; });
  }
  return shapes_wrong_;
}

}  // namespace bv::claims
