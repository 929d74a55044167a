#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "core/base/json_text.hpp"
#include "core/base/text.hpp"
#include "core/verdict/ids.hpp"
#include "core/verdict/mutation_json.hpp"
#include "reports/html_report.hpp"

namespace bv::reports {
namespace {

using HtmlJson = nlohmann::ordered_json;

constexpr std::int64_t kDetailsPerCodeMax = 1000;

/// Each text once; columns hold its place.
class Strings {
 public:
  std::size_t place(const std::string& text) {
    const auto [at, fresh] = place_.try_emplace(text, place_.size());
    if (fresh) {
      all_.push_back(readable(text));
    }
    return at->second;
  }
  [[nodiscard]] HtmlJson take() { return std::move(all_); }

 private:
  std::map<std::string, std::size_t> place_;
  HtmlJson all_ = HtmlJson::array();
};

HtmlJson readable_list(const std::vector<std::string>& texts) {
  HtmlJson out = HtmlJson::array();
  for (const std::string& text : texts) {
    out.push_back(readable(text));
  }
  return out;
}

HtmlJson element_data(const ElementRef& element) {
  return {{"tensor", readable(element.tensor)}, {"index", element.index}};
}

HtmlJson detail_data(const Verdict& verdict) {
  HtmlJson out = {
      {"facts", readable_list(verdict.facts)}, {"found", readable(verdict.found)},
      {"wanted", readable(verdict.wanted)},    {"extent", readable(verdict.extent)},
      {"why", readable(verdict.why)},          {"help", readable(verdict.help)},
      {"replay", escaped(verdict.replay)},     {"source", readable(verdict.rule_source)},
      {"waiver", readable(verdict.waiver)}};
  if (!verdict.counterexamples.empty()) {
    const Counterexample& one = verdict.counterexamples.front();
    out["first"] = {{"tensor", readable(one.tensor)},
                    {"rank", readable(one.rank)},
                    {"index", one.index},
                    {"wanted", element_data(one.wanted)},
                    {"found", element_data(one.found)},
                    {"wanted_bits", readable(one.wanted_bits)},
                    {"found_bits", readable(one.found_bits)}};
  }
  return out;
}

/// Columns of all verdicts; ids that differ from claim.subject.layout, and details, by row.
HtmlJson rows_data(const Run& run, Strings& strings) {
  HtmlJson out = HtmlJson::object();
  HtmlJson details = HtmlJson::object();
  HtmlJson ids = HtmlJson::object();
  std::map<Code, std::int64_t> seen;
  const std::vector<std::string> unique = unique_ids(run.verdicts);
  for (const char* column : {"outcome", "code", "claim", "rule", "kind", "layout", "evidence",
                             "cases", "refuted", "megatron", "hf", "title"}) {
    out[column] = HtmlJson::array();
  }
  for (std::size_t i = 0; i < run.verdicts.size(); ++i) {
    const Verdict& one = run.verdicts[i];
    const bool green = one.outcome == Outcome::Proved || one.outcome == Outcome::Held;
    out["outcome"].push_back(strings.place(std::string(name(one.outcome))));
    out["code"].push_back(strings.place(green ? "" : label(one.code)));
    out["claim"].push_back(strings.place(one.claim));
    out["rule"].push_back(strings.place(one.rule));
    out["kind"].push_back(strings.place(one.kind));
    out["layout"].push_back(strings.place(one.layout));
    out["evidence"].push_back(strings.place(letters(one.evidence)));
    out["cases"].push_back(one.cases);
    out["refuted"].push_back(one.refuted_cases);
    out["megatron"].push_back(strings.place(one.megatron));
    out["hf"].push_back(strings.place(join(one.hf, "\n")));
    out["title"].push_back(strings.place(one.title));
    if (unique[i] != one.id()) {
      ids[std::to_string(i)] = readable(unique[i]);
    }
    if (!green && ++seen[one.code] <= kDetailsPerCodeMax) {
      details[std::to_string(i)] = detail_data(one);
    }
  }
  out["ids"] = std::move(ids);
  out["details"] = std::move(details);
  return out;
}

HtmlJson layouts_data(const Run& run) {
  HtmlJson out = HtmlJson::array();
  for (const LayoutRow& row : run.layouts) {
    out.push_back({{"id", readable(row.id)},
                   {"tp", row.tp},
                   {"pp", row.pp},
                   {"ep", row.ep},
                   {"etp", row.etp},
                   {"world", row.world}});
  }
  return out;
}

HtmlJson claim_names(const Run& run) {
  HtmlJson out = HtmlJson::array();
  for (const ClaimSummary& claim : run.claims) {
    out.push_back(readable(claim.claim));
  }
  return out;
}

HtmlJson baseline_data(const Baseline& baseline) {
  HtmlJson rows = HtmlJson::array();
  for (const BaselineRow& row : baseline.rows) {
    rows.push_back({readable(row.change), readable(row.id), readable(row.before),
                    readable(row.after), readable(row.title)});
  }
  return {{"ref", readable(baseline.ref)}, {"unchanged", baseline.unchanged}, {"rows", rows}};
}

}  // namespace

std::string html_data(const Run& run) {
  Strings strings;
  HtmlJson rows = rows_data(run, strings);
  const HtmlJson out = {
      {"word", conclude(run).word},
      {"model", readable(run.model_ref)},
      {"strings", strings.take()},
      {"rows", std::move(rows)},
      {"layouts", layouts_data(run)},
      {"claims", claim_names(run)},
      {"mutation", run.mutation ? mutation_json(*run.mutation) : HtmlJson(nullptr)},
      {"baseline", run.baseline ? baseline_data(*run.baseline) : HtmlJson(nullptr)}};
  std::string safe;
  for (const char c : json_text(out, -1)) {
    safe += c == '<' ? "\\u003c" : std::string(1, c);  // no end of the script, no comment
  }
  return safe;
}

}  // namespace bv::reports
