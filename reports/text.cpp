#include "reports/text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>

#include "core/base/text.hpp"
#include "reports/causes.hpp"
#include "reports/mutation_table.hpp"
#include "reports/printable.hpp"

namespace bv::reports {
namespace {

constexpr std::size_t kBlocksMax = 20;
constexpr std::size_t kBlocksBytesMax = std::size_t{24} << 10;  // then no further block begins
constexpr std::size_t kNotesMax = 24;
constexpr std::size_t kLabelWidth = 9;  // "detected "

constexpr std::array<std::pair<char, std::string_view>, 7> kLegend = {{
    {'P', "proved from headers for every value"},
    {'B', "bytes moved and compared"},
    {'O', "independent oracle agreed"},
    {'U', "upstream's own code, traced, agreed"},
    {'G', "GPU result identical to CPU"},
    {'S', "sampled only"},
    {'W', "waived"},
}};

struct Word {
  std::string_view text;
  Paint paint;
};

Word word_of(const Run& run, const ClaimSummary& claim) {
  const ClaimResult result = result_of(run, claim.claim);
  if (claim.skipped) {
    return {"skip", Paint::Dim};
  }
  if (!result.checked) {
    return !claim.reached     ? Word{"not reached", Paint::Dim}
           : !claim.requested ? Word{"not requested", Paint::Dim}
           : claim.vacuous    ? Word{"none", Paint::Dim}
                              : Word{"?", Paint::Yellow};
  }
  switch (result.outcome) {
    case Outcome::Proved:
    case Outcome::Held:
      return {"ok", Paint::Green};
    case Outcome::Refuted:
      return {"FAIL", Paint::Red};
    case Outcome::Inconclusive:
    case Outcome::Unsupported:
      return {"?", Paint::Yellow};
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

/// Words joined to lines of at most `width` columns; later lines start with `indent` blanks. Words
/// are not broken.
std::string flowed(const std::vector<std::string>& words, std::string_view gap, std::size_t indent,
                   std::size_t width) {
  std::string out;
  std::size_t column = indent;
  for (const std::string& word : words) {
    const bool first = column == indent;
    if (!first && column + gap.size() + columns(word) > width) {
      out += "\n" + std::string(indent, ' ');
      column = indent;
    } else if (!first) {
      out += gap;
      column += gap.size();
    }
    out += word;
    column += columns(word);
  }
  return out;
}

std::string header(const Run& run, const TextStyle& style) {
  const auto safe = [&style](std::string_view text) { return printable(text, style.ascii); };
  const auto width = static_cast<std::size_t>(std::max(style.width, 40));
  std::string out;
  if (!run.model_ref.empty()) {
    std::string model = printable_whole(run.model_ref, style.ascii);
    if (!run.revision.empty()) {
      model += " @ " + safe(std::string_view(run.revision).substr(0, 7));
    }
    if (!run.model_source.empty()) {
      model += " (" + safe(run.model_source) + ")";
    }
    const std::string size =
        fmt::format("{} tensors, {}, {} shard{}", thousands(run.tensors), human_bytes(run.bytes),
                    thousands(run.shards), run.shards == 1 ? "" : "s");
    const bool counted = run.tensors > 0 || run.shards > 0;
    out += "model    " +
           flowed(counted ? std::vector<std::string>{model, size} : std::vector<std::string>{model},
                  "   ", kLabelWidth, width) +
           "\n";
  }
  if (!run.family.empty()) {
    std::vector<std::string> words = {
        fmt::format("{}, {} rules", safe(run.family), thousands(run.rules))};
    if (!run.family_reason.empty()) {
      words.push_back(safe(run.family_reason));
    }
    out += "rules    " + flowed(words, "   ", kLabelWidth, width) + "\n";
  }
  std::vector<std::string> detected;
  for (const Fact& fact : run.detected) {
    detected.push_back(safe(fact.what) + " " + safe(fact.value) +
                       (fact.because.empty() ? "" : " (" + safe(fact.because) + ")"));
  }
  if (!detected.empty()) {
    out += "detected " + flowed(detected, "   ", kLabelWidth, width) + "\n";
  }
  if (!run.layouts_note.empty() || !run.layouts.empty()) {
    const std::string note =
        run.layouts_note.empty() ? std::to_string(run.layouts.size()) : run.layouts_note;
    out += "layouts  " + flowed({safe(note)}, "   ", kLabelWidth, width) + "\n";
  }
  return out;
}

std::string legend(const std::string& used, std::size_t width) {
  std::vector<std::string> entries;
  bool partial = false;
  for (const auto& [letter, text] : kLegend) {
    const char lower = static_cast<char>(letter - 'A' + 'a');
    partial = partial || used.find(lower) != std::string::npos;
    if (used.find(letter) != std::string::npos || used.find(lower) != std::string::npos) {
      entries.push_back(fmt::format("{} {}", letter, text));
    }
  }
  if (partial) {
    entries.emplace_back("small letter: some of the subjects only");
  }
  return entries.empty() ? "" : "\n  evidence: " + flowed(entries, "; ", 12, width) + "\n";
}

std::string table(const Run& run, const TextStyle& style) {
  if (run.claims.empty()) {
    return "";
  }
  const auto width = static_cast<std::size_t>(std::max(style.width, 60));
  std::size_t name_width = 10;
  for (const ClaimSummary& claim : run.claims) {
    name_width = std::max(name_width, columns(claim.claim));
  }
  std::string out = fmt::format("\n  {:<{}}{:>10}  {:<10}  evidence\n", "claim", name_width,
                                "subjects", "result");
  std::string used;
  for (const ClaimSummary& claim : run.claims) {
    const ClaimResult result = result_of(run, claim.claim);
    const Word word = word_of(run, claim);
    const std::string evidence = result.checked ? row_letters(result) : "";
    used += evidence;
    const std::string subjects =
        result.checked || claim.subjects > 0 ? thousands(claim.subjects) : "-";
    std::string row = fmt::format("  {:<{}}{:>10}  {}", printable(claim.claim, style.ascii),
                                  name_width, subjects, painted(word.text, word.paint, style));
    const std::size_t after_word = 14 + name_width + word.text.size();
    const std::size_t title_column = name_width + 36;
    row += std::string(result.checked ? 26 + name_width - after_word : 0, ' ') + evidence;
    const std::size_t column = result.checked ? 26 + name_width + evidence.size() : after_word;
    std::string text = printable(claim.title, style.ascii);
    if (!claim.note.empty()) {
      text += (text.empty() ? "" : " ") + fmt::format("({})", printable(claim.note, style.ascii));
    }
    if (!text.empty()) {
      row += std::string(title_column > column ? title_column - column : 1, ' ');
      row += shortened(text, width > title_column ? width - title_column : 8, true);
    }
    out += row + "\n";
  }
  return out + legend(used, width);
}

std::string rule_lines(const Run& run, const TextStyle& style) {
  std::string out;
  if (style.verbosity >= 2) {
    for (const Verdict& verdict : run.verdicts) {
      out += fmt::format("  {:<12}  {}  {}\n", name(verdict.outcome), letters(verdict.evidence),
                         printable(verdict.id(), style.ascii));
    }
    return out.empty() ? out : "\n" + out;
  }
  std::vector<std::pair<std::string, std::map<Outcome, std::int64_t>>> rules;
  std::map<std::string, std::size_t, std::less<>> place;
  for (const Verdict& verdict : run.verdicts) {
    const std::string rule = verdict.rule.empty() ? "model" : verdict.rule + " " + verdict.kind;
    const auto [at, fresh] = place.try_emplace(rule, rules.size());
    if (fresh) {
      rules.emplace_back(rule, std::map<Outcome, std::int64_t>{});
    }
    ++rules[at->second].second[verdict.outcome];
  }
  for (const auto& [rule, outcomes] : rules) {
    std::string counts;
    for (const auto& [outcome, times] : outcomes) {
      counts += fmt::format("  {} {}", name(outcome), times);
    }
    out += fmt::format("  {:<30}{}\n", printable(rule, style.ascii), counts);
  }
  return out.empty() ? out : "\n" + out;
}

std::string blocks(const Run& run, const TextStyle& style) {
  const std::vector<Cause> found = causes(run);
  std::string out;
  std::size_t shown = 0;
  for (; shown < found.size() && shown < kBlocksMax && out.size() < kBlocksBytesMax; ++shown) {
    out += "\n" + render_block(block_of(found[shown]), style);
  }
  if (shown < found.size()) {
    out += fmt::format("\n{} more causes are not shown; --format plain lists every verdict\n",
                       found.size() - shown);
  }
  for (const Error& error : run.input_errors) {
    out += "\n" + render_error(error, style);
  }
  for (const Error& warning : run.warnings) {
    out +=
        style.verbosity < 0 && run.fail_on != "warning" ? "" : "\n" + render_error(warning, style);
  }
  return out;
}

Paint result_paint(std::string_view word) {
  return word == "PASS"                              ? Paint::Green
         : word == "INCOMPLETE" || word == "STOPPED" ? Paint::Yellow
                                                     : Paint::Red;
}

std::string closing(const Run& run, const TextStyle& style) {
  std::string line = last_line(run);
  const std::string word = conclude(run).word;
  if (const std::size_t at = line.find(word); at != std::string::npos) {
    line.replace(at, word.size(), painted(word, result_paint(word), style));
  }
  return line + "\n";
}

std::string remarks(const Run& run, const TextStyle& style) {
  std::string out;
  for (std::size_t i = 0; i < run.notes.size() && i < kNotesMax; ++i) {
    out += "note     " + printable(run.notes[i], style.ascii) + "\n";
  }
  if (run.notes.size() > kNotesMax) {
    out += fmt::format("note     and {} more notes: --json lists them\n",
                       run.notes.size() - kNotesMax);
  }
  if (conclude(run).word == "INCOMPLETE") {
    for (const std::string& reason : undecided_reasons(run)) {
      out += "undecided " + printable(reason, style.ascii) + "\n";
    }
  }
  if (!run.next.empty()) {
    out += "next     " + printable_whole(run.next, style.ascii) +
           (run.next_note.empty() ? "" : "    " + printable(run.next_note, style.ascii)) + "\n";
  }
  if (!run.claims.empty()) {
    const std::string folder = printable_whole(run.report, style.ascii);
    const bool converts = run.command == "convert";  // its --out is the checkpoint
    out += converts
               ? "output   " + folder + "\n"
               : "report   " + (run.report.empty() ? "none written; add --out DIR" : folder) + "\n";
  }
  return out.empty() ? out : "\n" + out;
}

}  // namespace

std::string render_text(const Run& run, const TextStyle& style) {
  if (style.verbosity <= -2) {
    return "";
  }
  std::string out;
  if (style.verbosity >= 0) {
    out += header(run, style) + table(run, style);
    out += run.mutation ? "\n" + mutation_table(*run.mutation) : "";
  }
  if (style.verbosity >= 1) {
    out += rule_lines(run, style);
  }
  out += blocks(run, style);
  if (style.verbosity >= 0) {
    out += remarks(run, style);
  }
  out += (out.empty() ? "" : "\n") + closing(run, style);
  return out.starts_with('\n') ? out.substr(1) : out;
}

std::string render_plain(const Run& run) {
  std::string out;
  for (const Verdict& verdict : run.verdicts) {
    const bool coded = verdict.outcome != Outcome::Proved && verdict.outcome != Outcome::Held;
    const std::vector<std::string> cells = {std::string(name(verdict.outcome)),
                                            coded ? label(verdict.code) : "-",
                                            verdict.claim,
                                            verdict.rule.empty() ? "-" : verdict.rule,
                                            verdict.layout.empty() ? "-" : verdict.layout,
                                            letters(verdict.evidence),
                                            std::to_string(verdict.cases),
                                            std::to_string(verdict.refuted_cases),
                                            verdict.megatron.empty() ? "-" : verdict.megatron,
                                            verdict.hf.empty() ? "-" : join(verdict.hf, ","),
                                            verdict.title};
    for (std::size_t i = 0; i < cells.size(); ++i) {
      out += (i == 0 ? "" : "\t") + printable(cells[i], false);
    }
    out += '\n';
  }
  return out;
}

}  // namespace bv::reports
