#include "core/base/text.hpp"
#include "core/verdict/ids.hpp"
#include "core/verdict/source_place.hpp"
#include "reports/escape.hpp"
#include "reports/machine_formats.hpp"

namespace bv::reports {
namespace {

std::string csv_line(const std::vector<std::string>& cells) {
  std::string out;
  for (const std::string& cell : cells) {
    out += (out.empty() ? "" : ",") + csv_escaped(readable(cell));
  }
  return out + "\r\n";
}

/// "PO": letters without the gaps, which a spreadsheet takes for a formula.
std::string evidence_cell(const Evidence& evidence) {
  std::string out = letters(evidence);
  std::erase(out, '-');
  return out.empty() ? "none" : out;
}

}  // namespace

std::string render_csv(const Run& run, const TextStyle&) {
  std::string out =
      "id,outcome,code,claim,rule,kind,layout,evidence,cases,refuted_cases,megatron,hf,title,found,"
      "wanted,source,line,waiver,replay\r\n";
  const std::vector<std::string> ids = unique_ids(run.verdicts);
  for (std::size_t i = 0; i < run.verdicts.size(); ++i) {
    const Verdict& one = run.verdicts[i];
    const bool coded = one.outcome != Outcome::Proved && one.outcome != Outcome::Held;
    const SourcePlace place = source_place_of(one);
    out += csv_line({ids[i], std::string(name(one.outcome)), coded ? label(one.code) : "",
                     one.claim, one.rule, one.kind, one.layout, evidence_cell(one.evidence),
                     std::to_string(one.cases), std::to_string(one.refuted_cases), one.megatron,
                     join(one.hf, " "), one.title, one.found, one.wanted, place.file,
                     place.line > 0 ? std::to_string(place.line) : "", one.waiver, one.replay});
  }
  return out;
}

}  // namespace bv::reports
