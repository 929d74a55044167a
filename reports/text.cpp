#include "reports/text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "core/base/text.hpp"
#include "reports/causes.hpp"
#include "reports/mutation_table.hpp"
#include "reports/printable.hpp"
#include "reports/table.hpp"
#include "reports/wrap.hpp"

namespace bv::reports {
namespace {

constexpr std::size_t kBlocksMax = 20;
constexpr std::size_t kBlocksBytesMax = std::size_t{24} << 10;  // then no further block begins
constexpr std::size_t kNotesMax = 24;
constexpr std::size_t kLabelWidth = 9;  // "detected "

std::string labelled(std::string_view label, const std::vector<std::string>& parts,
                     const TextStyle& style) {
  return fmt::format("{:<{}}", label, kLabelWidth) +
         flowed(parts, "   ", kLabelWidth, static_cast<std::size_t>(std::max(style.width, 0))) +
         "\n";
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
    std::string rule = verdict.rule.empty() ? "model" : verdict.rule + " " + verdict.kind;
    if (!verdict.megatron.empty()) {
      rule += " " + verdict.megatron;
    }
    const auto [at, fresh] = place.try_emplace(rule, rules.size());
    if (fresh) {
      rules.emplace_back(rule, std::map<Outcome, std::int64_t>{});
    }
    ++rules[at->second].second[verdict.outcome];
  }
  for (const auto& [rule, outcomes] : rules) {
    std::string counts;
    for (const auto& [outcome, times] : outcomes) {
      counts += fmt::format("  {} {}", times, name(outcome));
    }
    out += fmt::format("  {}\n      {}\n", printable(rule, style.ascii), counts.substr(2));
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
    const std::size_t more = found.size() - shown;
    out += fmt::format("\n{} {} not shown; --format plain lists every verdict\n",
                       counted(more, "more cause"), more == 1 ? "is" : "are");
  }
  for (std::size_t i = 0; i + style.told < run.input_errors.size(); ++i) {
    out += "\n" + render_error(run.input_errors[i], style);
  }
  for (const Error& warning : run.warnings) {
    out += style.verbosity < 0 && run.fail_on != FailOn::Warning
               ? ""
               : "\n" + render_warning(warning, style);
  }
  return out;
}

Paint result_paint(std::string_view word) {
  return word == "PASS"                              ? Paint::Green
         : word == "INCOMPLETE" || word == "STOPPED" ? Paint::Yellow
                                                     : Paint::Red;
}

/// convert says of each file that it wrote how its bytes are.
bool has_written(const Run& run) {
  return std::any_of(run.verdicts.begin(), run.verdicts.end(), [](const Verdict& one) {
    return one.claim == "bytes" &&
           (one.outcome == Outcome::Held || one.outcome == Outcome::Inconclusive);
  });
}

std::string closing(const Run& run, const TextStyle& style) {
  std::string line = style.person ? short_last_line(run) : last_line(run);
  // For a person the time, then the layouts, are left out where the line would be broken.
  for (int i = 0; style.person && i < 2 && columns(line) > static_cast<std::size_t>(style.width);
       ++i) {
    line.erase(line.rfind("  "));
  }
  const std::string word = conclude(run).word;
  if (const std::size_t at = line.find(word); at != std::string::npos) {
    line.replace(at, word.size(), painted(word, result_paint(word), style));
  }
  return line + "\n";
}

/// What was waived, one line a waiver.
std::string waived(const Run& run, const TextStyle& style) {
  std::string out;
  for (const WaiverRow& row : run.waivers) {
    if (row.matched > 0 && !row.expired) {
      out += labelled(
          "waived",
          {fmt::format("{} {}: {}, until {}", printable(row.code, style.ascii),
                       printable(row.subject, style.ascii), counted(row.matched, "verdict"),
                       printable(row.expires, style.ascii)),
           printable(row.issue, style.ascii)},
          style);
    }
  }
  return out;
}

std::string next_text(const Run& run, const TextStyle& style) {
  const std::string command = command_text(run.next, style);
  const std::string note = printable(run.next_note, style.ascii);
  // The command is a line of its own, so that a whole line can be copied.
  const std::string below = "\n" + std::string(kLabelWidth, ' ');
  return "next     " + command + (note.empty() ? "" : below + note) + "\n";
}

std::string remarks(const Run& run, const TextStyle& style) {
  std::string out = waived(run, style);
  for (std::size_t i = 0; i < run.notes.size() && i < kNotesMax; ++i) {
    out += labelled("note", {printable(run.notes[i], style.ascii)}, style);
  }
  if (run.notes.size() > kNotesMax) {
    out += fmt::format("note     and {}: --json lists them\n",
                       counted(run.notes.size() - kNotesMax, "more note"));
  }
  if (conclude(run).word == "INCOMPLETE") {
    for (const std::string& reason : undecided_reasons(run)) {
      out += labelled("open", {printable(reason, style.ascii)}, style);
    }
  }
  if (!run.next.empty()) {
    out += next_text(run, style);
  }
  if (!run.claims.empty()) {
    const std::string folder = printable_whole(run.report, style.ascii);
    const bool converts = run.command == "convert";  // its --out is the checkpoint
    out += converts             ? (has_written(run) ? "output   " + folder + "\n" : "")
           : style.reports_lost ? ""
           : run.report.empty() ? "report   add --out DIR for reports\n"
                                : "report   " + folder + "\n";
  }
  return out.empty() ? out : "\n" + out;
}

}  // namespace

std::string render_header(const Run& run, const TextStyle& style) {
  const auto safe = [&style](std::string_view text) { return printable(text, style.ascii); };
  std::string out;
  if (!run.model_ref.empty()) {
    std::string model = printable_whole(run.model_ref, style.ascii);
    if (!run.revision.empty()) {
      model += " @ " + safe(std::string_view(run.revision).substr(0, 7));
    }
    if (!run.model_source.empty()) {
      model += " (" + safe(run.model_source) + ")";
    }
    const auto shards = static_cast<std::uint64_t>(run.shards);
    const std::string size =
        fmt::format("{}, {}{}", counted(static_cast<std::uint64_t>(run.tensors), "tensor"),
                    human_bytes(run.bytes), shards > 0 ? ", " + counted(shards, "shard") : "");
    out += labelled("model",
                    run.tensors > 0 || run.shards > 0 ? std::vector<std::string>{model, size}
                                                      : std::vector<std::string>{model},
                    style);
  }
  if (!run.family.empty()) {
    std::vector<std::string> words = {fmt::format(
        "{}, {}", safe(run.family), counted(static_cast<std::uint64_t>(run.rules), "rule"))};
    if (!run.family_reason.empty()) {
      words.push_back(safe(run.family_reason));
    }
    out += labelled("rules", words, style);
  }
  std::vector<std::string> detected;
  for (const Fact& fact : run.detected) {
    detected.push_back(safe(fact.what) + " " + safe(fact.value) +
                       (fact.because.empty() ? "" : " (" + safe(fact.because) + ")"));
  }
  if (!detected.empty()) {
    out += labelled("detected", detected, style);
  }
  if (!run.layouts_note.empty() || !run.layouts.empty()) {
    out += labelled(
        "layouts",
        {safe(run.layouts_note.empty() ? std::to_string(run.layouts.size()) : run.layouts_note)},
        style);
  }
  return out;
}

std::string render_text(const Run& run, const TextStyle& style) {
  if (style.verbosity <= -2) {
    return "";
  }
  std::string out;
  if (style.verbosity >= 0) {
    out += (style.header ? render_header(run, style) : "") + claim_table(run, style);
    out += run.mutation
               ? "\n" + mutation_table(*run.mutation, static_cast<std::size_t>(style.width))
               : "";
  }
  if (style.verbosity >= 1) {
    out += rule_lines(run, style);
  }
  out += blocks(run, style);
  if (style.verbosity >= 0) {
    out += remarks(run, style);
  }
  if (const auto why = undecided_reasons(run);
      style.verbosity == -1 && out.empty() && !why.empty() && conclude(run).word == "INCOMPLETE") {
    out += "\n" + labelled("open", {printable(why.front(), style.ascii)}, style);
  }
  out += (out.empty() ? "" : "\n") + closing(run, style);
  return out.starts_with('\n') && style.header ? out.substr(1) : out;
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
