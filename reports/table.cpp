#include "reports/table.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "core/base/text.hpp"
#include "reports/printable.hpp"
#include "reports/wrap.hpp"

namespace bv::reports {
namespace {

constexpr std::array<std::pair<char, std::string_view>, 7> kLegend = {{
    {'P', "proved from headers for every value"},
    {'B', "bytes moved and compared"},
    {'O', "independent oracle agreed"},
    {'U', "upstream's own code, traced, agreed"},
    {'G', "GPU result identical to CPU"},
    {'S', "sampled only"},
    {'W', "waived"},
}};
constexpr std::size_t kCountWidth = 8;    // "subjects"
constexpr std::size_t kResultWidth = 11;  // "unsupported"
constexpr std::size_t kLetters = 7;
constexpr std::size_t kRoomyMin = 48;  // with less, one blank between columns
constexpr std::size_t kTextMin = 24;   // with less room the text stands below its row

struct Word {
  std::string_view text;
  Paint paint;
};

Word word_of(const ClaimResult& result, const ClaimSummary& claim) {
  if (claim.skipped) {
    return {"skipped", Paint::Dim};
  }
  if (!result.checked) {
    return !claim.reached     ? Word{"not reached", Paint::Dim}
           : !claim.requested ? Word{"not asked", Paint::Dim}
           : claim.vacuous    ? Word{"no subjects", Paint::Dim}
                              : Word{"undecided", Paint::Yellow};
  }
  switch (result.outcome) {
    case Outcome::Proved:
    case Outcome::Held:
      return {"ok", Paint::Green};
    case Outcome::Refuted:
      return {"FAIL", Paint::Red};
    case Outcome::Inconclusive:
      return {"undecided", Paint::Yellow};
    case Outcome::Unsupported:
      return {"unsupported", Paint::Yellow};
    case Outcome::Waived:
      return {"waived", Paint::Magenta};
    case Outcome::Broken:
      return {"BROKEN", Paint::Red};
  }
  return {"BROKEN", Paint::Red};
}

/// Letters that every green verdict of the claim has, in capitals; lower case where only some have
/// it.
std::string row_letters(const ClaimResult& result) {
  const std::string all = letters(result.all);
  std::string out = letters(result.some);
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (out[i] != '-' && all[i] == '-') {
      out[i] = static_cast<char>(out[i] - 'A' + 'a');
    }
  }
  return out;
}

std::string evidence_legend(const std::string& used, std::size_t width) {
  std::vector<std::string> entries;
  bool partial = false;
  for (const auto& [letter, text] : kLegend) {
    const char lower = static_cast<char>(letter - 'A' + 'a');
    partial = partial || used.find(lower) != std::string::npos;
    if (used.find(letter) != std::string::npos || used.find(lower) != std::string::npos) {
      entries.push_back(fmt::format("{} {};", letter, text));
    }
  }
  if (partial) {
    entries.emplace_back("small letter: some of the subjects only;");
  }
  if (entries.empty()) {
    return "";
  }
  entries.back().pop_back();
  return "  evidence: " + flowed(entries, " ", 12, width) + "\n";
}

/// "57 HF tensors", or "405 = 45 parameters and layers x 9 layouts" where a noun ends so.
std::string count_text(const ClaimSummary& claim, std::size_t layouts) {
  constexpr std::string_view kTimes = " x layouts";
  const auto many = static_cast<std::int64_t>(layouts);
  if (!claim.noun.ends_with(kTimes)) {
    return counted_plural(claim.subjects, claim.noun);
  }
  const std::string each = claim.noun.substr(0, claim.noun.size() - kTimes.size());
  if (many == 0 || claim.subjects % many != 0) {
    return fmt::format("{} {}", thousands(claim.subjects), claim.noun);
  }
  return many == 1 ? counted_plural(claim.subjects, each)
                   : fmt::format("{} = {} x {} layouts", thousands(claim.subjects),
                                 counted_plural(claim.subjects / many, each), many);
}

/// What the numbers count, claims with equal counts together.
std::string subjects_legend(const Run& run, std::size_t width) {
  std::vector<std::pair<std::string, std::vector<std::string>>> groups;
  for (const ClaimSummary& claim : run.claims) {
    if (claim.noun.empty() || claim.subjects == 0) {
      continue;
    }
    const std::string text = count_text(claim, run.layouts.size());
    auto group = std::find_if(groups.begin(), groups.end(),
                              [&](const auto& one) { return one.first == text; });
    if (group == groups.end()) {
      group = groups.insert(groups.end(), {text, {}});
    }
    group->second.push_back(claim.claim);
  }
  std::vector<std::string> parts;
  for (const auto& [text, claims] : groups) {
    parts.push_back(fmt::format("{} {};", join(claims, ", "), text));
  }
  if (parts.empty()) {
    return "";
  }
  parts.push_back(counted(run.verdicts.size(), "verdict") +
                  ": one for each claim, rule and layout");
  return "  subjects: " + flowed(parts, " ", 12, width) + "\n";
}

class Table {
 public:
  Table(const Run& run, const TextStyle& style)
      : run_(run),
        style_(style),
        width_(std::max(static_cast<std::size_t>(style.width), kWidthMin)) {
    for (const ClaimSummary& claim : run.claims) {
      name_width_ = std::max(name_width_, columns(claim.claim));
    }
    gap_ = std::string(width_ < kRoomyMin ? 1 : 2, ' ');
  }

  std::string text() {
    std::string out =
        fmt::format("\n{}{:<{}} {:>{}}{}{:<{}}{}evidence\n", gap_, "claim", name_width_, "subjects",
                    kCountWidth, gap_, "result", kResultWidth, gap_);
    for (const ClaimSummary& claim : run_.claims) {
      out += row(claim);
    }
    const std::string legend = evidence_legend(used_, width_) + subjects_legend(run_, width_);
    return legend.empty() ? out : out + "\n" + legend;
  }

 private:
  std::string row(const ClaimSummary& claim) {
    const ClaimResult result = result_of(run_, claim.claim);
    const Word word = word_of(result, claim);
    const std::string evidence = result.checked ? row_letters(result) : "";
    used_ += evidence;
    const std::string subjects =
        result.checked || claim.subjects > 0 ? thousands(claim.subjects) : "-";
    std::string out =
        fmt::format("{}{:<{}} {:>{}}{}{}", gap_, printable(claim.claim, style_.ascii), name_width_,
                    subjects, kCountWidth, gap_, painted(word.text, word.paint, style_));
    std::string text = printable(claim.title, style_.ascii);
    const std::string note = printable(claim.note, style_.ascii);
    if (!note.empty()) {  // without verdicts the reason says more than what would be claimed
      text = !result.checked || text.empty() ? note : text + "; " + note;
    }
    if (text.empty() && evidence.empty()) {
      return out + "\n";
    }
    out += std::string(kResultWidth + gap_.size() - std::min(word.text.size(), kResultWidth), ' ');
    out += fmt::format("{:<{}}", evidence, kLetters);
    const std::size_t column =
        name_width_ + kCountWidth + kResultWidth + kLetters + 3 + 3 * gap_.size();
    const bool below = column + kTextMin > width_;
    const std::string lead(below ? 6 : column, ' ');
    out.erase(out.find_last_not_of(' ') + 1);
    if (text.empty()) {
      return out + "\n";
    }
    const std::size_t used =
        1 + name_width_ + kCountWidth + 2 * gap_.size() +
        (evidence.empty() ? word.text.size() : kResultWidth + gap_.size() + kLetters);
    out += below ? "\n" + lead : std::string(column - std::min(used, column - 1), ' ');
    return out + wrapped(text, lead.size(), lead, width_) + "\n";
  }

  const Run& run_;
  const TextStyle& style_;
  std::size_t width_;
  std::size_t name_width_ = 9;
  std::string gap_;  // between columns
  std::string used_;
};

}  // namespace

std::string claim_table(const Run& run, const TextStyle& style) {
  return run.claims.empty() ? "" : Table(run, style).text();
}

}  // namespace bv::reports
