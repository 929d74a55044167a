#include "reports/survey_page.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "core/base/json_text.hpp"
#include "core/base/text.hpp"
#include "reports/escape.hpp"
#include "reports/html_assets.hpp"
#include "reports/printable.hpp"
#include "reports/wrap.hpp"

namespace bv::reports {
namespace {

using Json = nlohmann::ordered_json;

/// What is known of the real bridge: it moved everything, or it did not.
enum class Real { Unknown, Right, Wrong };

Real real_of(const SurveyRow& row) {
  const bool unbuilt = row.real.starts_with("cannot be built") || row.real.starts_with("no ");
  return row.real.empty() || unbuilt ? Real::Unknown
         : row.real == "equal"       ? Real::Right
                                     : Real::Wrong;
}

std::string codes_text(const std::vector<CodeCount>& codes) {
  std::vector<std::string> out;
  for (const auto& [code, count] : codes) {
    out.push_back(count == 1 ? code : fmt::format("{} x{}", code, count));
  }
  return join(out, " ");
}

std::string findings_text(const SurveyRow& row) {
  std::vector<std::string> out;
  for (const auto& [name, shown] : row.findings) {
    out.push_back(shown ? name : name + " not shown");
  }
  return join(out, " ");
}

std::string html(std::string_view text) {
  return xml_escaped(readable(text));
}

/// Word first, colour second.
std::string_view word_of_cell(const SurveyCell& cell) {
  const std::string& outcome = cell.outcome;
  return outcome == "Proved" || outcome == "Held"                ? "ok"
         : outcome == "Refuted"                                  ? "FAIL"
         : outcome == "Inconclusive" || outcome == "Unsupported" ? "?"
         : outcome.empty()                                       ? "-"
                                                                 : outcome;
}

constexpr std::string_view kStyle = R"(
.survey { max-width: 1720px; padding: 24px 24px 48px; }
.survey h1 { font-size: 26px; letter-spacing: -0.02em; margin: 0 0 4px; }
.survey .facts { color: var(--soft); margin: 0 0 16px; overflow-wrap: anywhere; }
.survey input { font: inherit; color: var(--ink); background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: 6px 10px; width: min(100%, 420px); }
.sheet { overflow: auto; border: 1px solid var(--line); border-radius: 8px; background: var(--card); margin-top: 12px; max-height: 82vh; }
.sheet table { border-collapse: separate; border-spacing: 0; width: 100%; font-size: 13px; }
.sheet th, .sheet td { text-align: left; padding: 6px 10px; border-bottom: 1px solid var(--hair); vertical-align: top; }
.sheet thead th { position: sticky; top: 0; background: var(--shade); z-index: 1; white-space: nowrap; font-weight: 600; }
.sheet tbody th { font-weight: 600; white-space: nowrap; position: sticky; left: 0; background: var(--card); }
.sheet td.n { text-align: right; }
.sheet td.wide { min-width: 180px; overflow-wrap: anywhere; }
.sheet .w-PASS { color: var(--proved); font-weight: 650; } .sheet .w-FAIL, .sheet .w-INPUT, .sheet .w-BROKEN { color: var(--refuted); font-weight: 650; }
.sheet .w-INCOMPLETE { color: var(--open); font-weight: 650; }
.sheet .odd { color: var(--refuted); font-weight: 650; }
@media (max-width: 640px) { .sheet tbody th { position: static; } .sheet { max-height: none; } }
)";

constexpr std::string_view kScript = R"(
const box = document.getElementById('find'), rows = [...document.querySelectorAll('tbody tr')], count = document.getElementById('count');
function show() {
  const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
  let n = 0;
  for (const row of rows) { const hit = words.every(w => row.textContent.toLowerCase().includes(w)); row.hidden = !hit; n += hit; }
  count.textContent = words.length ? n + ' of ' + rows.length + ' rows' : '';
}
box.addEventListener('input', show);
)";

std::string cell_html(const SurveyCell& cell) {
  return fmt::format("<td class=\"o-{0}\" title=\"{1}\">{2}</td>", cell.outcome, cell.letters,
                     word_of_cell(cell));
}

/// Claims that no row was asked have no column.
std::vector<bool> asked_of(const Survey& survey) {
  std::vector<bool> out(survey.claims.size(), false);
  for (const SurveyRow& row : survey.rows) {
    for (std::size_t i = 0; i < row.claims.size(); ++i) {
      out[i] = out[i] || !row.claims[i].outcome.empty();
    }
  }
  return out;
}

std::string row_html(const SurveyRow& row, const std::vector<bool>& asked) {
  const std::string name = row.link.empty() ? html(row.name)
                                            : fmt::format("<a href=\"{}\">{}</a>",
                                                          uri_escaped(row.link), html(row.name));
  const std::string_view odd = contradicts(row) ? " odd" : "";
  std::string out = fmt::format(
      "<tr><th scope=\"row\">{}</th><td class=\"w-{}\">{}</td><td class=\"mono\">{}</td>"
      "<td>{}</td><td class=\"wide{}\">{}</td>",
      name, row.word, row.word, html(codes_text(row.refuted)),
      html(findings_text(row) + (row.change.empty() ? "" : " " + row.change)), odd,
      html(row.real.empty() ? "not run" : row.real));
  for (std::size_t i = 0; i < row.claims.size(); ++i) {
    out += asked[i] ? cell_html(row.claims[i]) : "";
  }
  out += fmt::format(
      "<td class=\"mono\">{}</td><td class=\"n\">{} of {}</td><td class=\"n\">{}</td>"
      "<td>{}</td><td class=\"wide\">{}</td></tr>\n",
      html(codes_text(row.open)), row.rules_not_judged, row.rules, row.questions,
      html(row.bridge_class), html(join(row.trouble, "; ")));
  return out;
}

Json codes_json(const std::vector<CodeCount>& codes) {
  Json out = Json::object();
  for (const auto& [code, count] : codes) {
    out[code] = count;
  }
  return out;
}

Json row_json(const Survey& survey, const SurveyRow& row) {
  Json claims = Json::object();
  for (std::size_t i = 0; i < row.claims.size(); ++i) {
    if (!row.claims[i].outcome.empty()) {
      claims[survey.claims[i]] = Json::array({row.claims[i].outcome, row.claims[i].letters});
    }
  }
  Json out = {{"name", row.name},
              {"bridge_class", row.bridge_class},
              {"variant", row.variant},
              {"names_of", row.names_of},
              {"result", row.word},
              {"exit_code", row.exit_code},
              {"claims", claims},
              {"refuted", codes_json(row.refuted)},
              {"open", codes_json(row.open)},
              {"rules", row.rules},
              {"rules_not_judged", row.rules_not_judged},
              {"questions", row.questions},
              {"real", row.real.empty() ? Json(nullptr) : Json(row.real)},
              {"contradicts", contradicts(row)},
              {"trouble", row.trouble}};
  for (const auto& [name, shown] : row.findings) {
    out["findings"][name] = shown;
  }
  return out;
}

}  // namespace

bool contradicts(const SurveyRow& row) {
  const Real real = real_of(row);
  return (real == Real::Right && row.exit_code == 1) || (real == Real::Wrong && row.exit_code == 0);
}

SurveyTotals totals(const Survey& survey) {
  SurveyTotals out;
  std::set<std::string> findings;
  std::set<std::string> shown;
  for (const SurveyRow& row : survey.rows) {
    ++out.rows;
    out.green += row.exit_code == 0 ? 1 : 0;
    out.refuted += row.exit_code == 1 ? 1 : 0;
    out.undecided += row.exit_code == 3 ? 1 : 0;
    out.stopped += row.exit_code != 0 && row.exit_code != 1 && row.exit_code != 3 ? 1 : 0;
    out.contradicting += contradicts(row) ? 1 : 0;
    out.newly_red += row.change == "newly red" ? 1 : 0;
    out.newly_undecided += row.change == "newly undecided" ? 1 : 0;
    for (const auto& [name, is_shown] : row.findings) {
      findings.insert(name);
      if (is_shown) {
        shown.insert(name);
      }
    }
  }
  out.findings = std::ssize(findings);
  out.findings_shown = std::ssize(shown);
  return out;
}

std::string survey_line(const Survey& survey) {
  const SurveyTotals sum = totals(survey);
  std::string out = fmt::format(
      "survey: {}: {} green, {} refuted, {} undecided, {} stopped; {} against the real "
      "bridge",
      counted(static_cast<std::uint64_t>(sum.rows), "row"), sum.green, sum.refuted, sum.undecided,
      sum.stopped, sum.contradicting);
  out += sum.findings == 0
             ? ""
             : fmt::format("; {} of {} known defects shown", sum.findings_shown, sum.findings);
  if (sum.newly_red + sum.newly_undecided > 0 || !survey.lost.empty()) {
    out += fmt::format("; worse than the baseline: {} newly red, {} newly undecided, {} lost",
                       sum.newly_red, sum.newly_undecided, survey.lost.size());
  }
  return out;
}

std::string survey_text(const Survey& survey, const TextStyle& style) {
  std::size_t width = 4;
  for (const SurveyRow& row : survey.rows) {
    width = std::max(width, columns(printable(row.name, style.ascii)));
  }
  std::string out;
  for (const SurveyRow& row : survey.rows) {
    if (style.verbosity < 0 && row.exit_code == 0) {
      continue;
    }
    const Paint paint = row.exit_code == 0   ? Paint::Green
                        : row.exit_code == 3 ? Paint::Yellow
                                             : Paint::Red;
    std::vector<std::string> said = {codes_text(row.refuted)};
    if (!row.open.empty()) {
      said.push_back("open " + codes_text(row.open));
    }
    if (row.rules_not_judged > 0) {
      said.push_back(fmt::format("{} of {} rules not judged", row.rules_not_judged, row.rules));
    }
    if (!row.real.empty()) {
      said.push_back((contradicts(row) ? "BUT really " : "really ") + row.real);
    }
    for (const std::string& text : {findings_text(row), row.change}) {
      said.push_back(text);
    }
    if (row.exit_code != 0 && row.exit_code != 1) {
      said.insert(said.end(), row.trouble.begin(), row.trouble.end());
    }
    std::erase(said, "");
    out += fmt::format("{}  {:<{}}  {}\n", painted(fmt::format("{:<10}", row.word), paint, style),
                       printable(row.name, style.ascii), width,
                       wrapped(printable_whole(join(said, "; "), style.ascii), 14 + width,
                               std::string(12, ' '), static_cast<std::size_t>(style.width)));
  }
  for (const std::string& name : survey.lost) {
    out += fmt::format("lost        {}\n", printable(name, style.ascii));
  }
  return out + wrapped(survey_line(survey), 0, "        ", static_cast<std::size_t>(style.width)) +
         "\n";
}

std::string survey_html(const Survey& survey) {
  std::string head;
  const std::vector<bool> asked = asked_of(survey);
  for (std::size_t i = 0; i < asked.size(); ++i) {
    head += asked[i] ? fmt::format("<th scope=\"col\">{}</th>", survey.claims[i]) : "";
  }
  std::string body;
  for (const SurveyRow& row : survey.rows) {
    body += row_html(row, asked);
  }
  return fmt::format(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
      "content=\"width=device-width, initial-scale=1\"><title>{0}</title>\n<style>{1}{2}</style>"
      "</head>\n<body><main class=\"wrap survey\">\n<h1>Survey of rule sets</h1>\n<p "
      "class=\"facts\">{0}{3}</p>\n<label for=\"find\">Find rows</label> <input id=\"find\" "
      "type=\"search\" placeholder=\"gemma FAIL D8\"> <span id=\"count\" "
      "role=\"status\"></span>\n<div class=\"sheet\" tabindex=\"0\" role=\"region\" "
      "aria-label=\"one row for each rule set\"><table><thead><tr><th scope=\"col\">rules</th><th "
      "scope=\"col\">result</th><th scope=\"col\">refuted</th><th scope=\"col\">finding</th><th "
      "scope=\"col\">the real bridge</th>{4}<th scope=\"col\">open</th><th scope=\"col\">not "
      "judged</th><th scope=\"col\">questions</th><th scope=\"col\">bridge class</th><th "
      "scope=\"col\">exporter</th></tr></thead>\n<tbody>\n{5}</tbody></table></div>\n</main>\n"
      "<script>{6}</script></body></html>\n",
      html(survey_line(survey)), html_style(), kStyle,
      survey.packages.empty() ? "" : "<br>" + html(survey.packages), head, body, kScript);
}

std::string survey_json(const Survey& survey) {
  Json rows = Json::array();
  for (const SurveyRow& row : survey.rows) {
    rows.push_back(row_json(survey, row));
  }
  const SurveyTotals sum = totals(survey);
  const Json out = {{"schema", "bridge-survey/1"},
                    {"packages", survey.packages},
                    {"totals",
                     {{"rows", sum.rows},
                      {"green", sum.green},
                      {"refuted", sum.refuted},
                      {"undecided", sum.undecided},
                      {"stopped", sum.stopped},
                      {"contradicting", sum.contradicting},
                      {"findings", sum.findings},
                      {"findings_shown", sum.findings_shown}}},
                    {"rows", rows}};
  return json_text(out, 1) + "\n";
}

}  // namespace bv::reports
