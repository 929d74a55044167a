#include <fmt/format.h>

#include "core/base/text.hpp"
#include "reports/escape.hpp"
#include "reports/findings.hpp"
#include "reports/machine_formats.hpp"

namespace bv::reports {
namespace {

constexpr std::size_t kSummaryMax = std::size_t{60} << 10;
constexpr std::size_t kTailMax = std::size_t{8} << 10;  // kept for what stands below the findings
constexpr std::size_t kDetailsMax = 10;
constexpr std::size_t kDetailBytesMax = 4000;

std::string cell(std::string_view text) {
  return markdown_escaped(readable(text));
}

std::string claim_word(const ClaimSummary& claim, const ClaimResult& result) {
  if (claim.skipped) {
    return "skipped";
  }
  if (!claim.requested) {
    return "not requested";
  }
  if (!claim.reached) {
    return "not reached";
  }
  if (!result.checked) {
    return claim.vacuous ? "nothing to check" : "no verdict";
  }
  return std::string(name(result.outcome));
}

std::string claims_section(const Run& run) {
  if (run.claims.empty()) {
    return "";
  }
  std::string out = "\n| Claim | Subjects | Result | Evidence | |\n|---|--:|---|---|---|\n";
  for (const ClaimSummary& claim : run.claims) {
    const ClaimResult result = result_of(run, claim.claim);
    out += fmt::format("| {} | {} | {} | `{}` | {} |\n", cell(claim.claim),
                       thousands(claim.subjects), claim_word(claim, result), letters(result.all),
                       cell(claim.note.empty() ? claim.title : claim.note));
  }
  return out +
         "\nEvidence: P proved from headers, B bytes compared, O independent oracle, U upstream's "
         "code traced, G GPU equals CPU, S sampled, W waived.\n";
}

std::string details(const Finding& finding) {
  return fmt::format(
      "\n<details><summary><b>{}</b> {}{}</summary>\n\n{}\n</details>\n", finding.code,
      xml_escaped(readable(finding.title)),
      finding.layouts.size() > 1 ? fmt::format(" ({} layouts)", finding.layouts.size()) : "",
      markdown_fenced(block_text(finding.block, kDetailBytesMax)));
}

std::string findings_section(const Run& run, std::size_t bytes_max) {
  const std::vector<Finding> all = findings(run);
  std::string out;
  std::size_t shown = 0;
  for (; shown < all.size() && shown < kDetailsMax; ++shown) {
    std::string one = details(all[shown]);
    if (out.size() + one.size() > bytes_max) {
      break;
    }
    out += one;
  }
  if (shown < all.size()) {
    out += fmt::format("\n{} more in the HTML report and in verdicts.json\n", all.size() - shown);
  }
  return out;
}

std::string facts_section(const Run& run) {
  std::string out;
  for (const Fact& fact : run.detected) {
    out += fmt::format("- detected {} {}{}\n", cell(fact.what), cell(fact.value),
                       fact.because.empty() ? "" : " (" + cell(fact.because) + ")");
  }
  for (const WaiverRow& row : run.waivers) {
    out += fmt::format("- waiver {} {}: {}, until {}, {} ({})\n", cell(row.code), cell(row.subject),
                       counted(static_cast<std::uint64_t>(row.matched), "verdict"),
                       cell(row.expires), cell(row.reason), cell(row.issue));
  }
  if (!run.next.empty()) {
    out += "- next: " + cell(run.next) + "\n";
  }
  if (out.size() > kTailMax) {
    out.resize(out.rfind('\n', kTailMax - 64) + 1);
    out += "- and more: verdicts.json lists them\n";
  }
  return out.empty() ? out : "\n" + out;
}

std::string model_line(const Run& run) {
  std::string out = "\n" + cell(run.model_ref.empty() ? "no model" : run.model_ref);
  out += run.revision.empty() ? "" : " @ " + cell(run.revision.substr(0, 12));
  if (run.tensors > 0) {
    out += fmt::format(", {}, {}", counted(static_cast<std::uint64_t>(run.tensors), "tensor"),
                       human_bytes(run.bytes));
  }
  out += run.family.empty() ? "" : ", rules " + cell(run.family);
  return out + ", " + counted(run.layouts.size(), "layout") + "\n";
}

}  // namespace

std::string render_markdown(const Run& run, const TextStyle&) {
  std::string out = fmt::format("**{} {}**\n", "bridge-verify", headline(run)) + model_line(run);
  std::string claims = claims_section(run);
  if (claims.size() > kSummaryMax / 4) {
    claims.clear();  // a run of ours has a dozen claims
  }
  out += claims;
  const std::string facts = facts_section(run);
  return out + findings_section(run, kSummaryMax - out.size() - facts.size() - 128) + facts;
}

std::string render_card(const Run& run, const TextStyle&) {
  const Counts counts = count(run);
  const auto quoted = [](std::string_view text) {
    std::string out = "\"";
    for (const char c : readable(text)) {
      out += c == '"' || c == '\\' ? "\\" : "";
      out += c;
    }
    return out + "\"";
  };
  std::string out = "bridge_verify:\n";
  const auto row = [&out](const char* key, const std::string& value) {
    out += fmt::format("  {}: {}\n", key, value);
  };
  row("result", conclude(run).word);
  row("model", quoted(run.model_ref));
  row("revision", quoted(run.revision));
  row("rules", quoted(run.family));
  row("rules_digest", quoted(run.rules_digest));
  row("rules_commit", quoted(run.rules_commit));
  row("tensors", std::to_string(run.tensors));
  row("elements", std::to_string(run.elements));
  row("bytes", std::to_string(run.bytes));
  row("layouts", std::to_string(run.layouts.size()));
  row("proved", std::to_string(counts.proved));
  row("held", std::to_string(counts.held));
  row("mismatches", std::to_string(counts.refuted));
  row("undecided", std::to_string(counts.inconclusive + counts.unsupported));
  row("waived", std::to_string(counts.waived));
  row("tool", quoted(run.tool.version + " " + run.tool.commit));
  std::string command = "bridge-verify " + run.command;
  for (const SettingRow& setting : run.settings) {
    command += " --" + setting.name + (setting.text.empty() ? "" : " " + setting.text);
  }
  row("command", quoted(command));
  return out;
}

}  // namespace bv::reports
