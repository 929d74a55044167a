#include "reports/html_report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "core/base/text.hpp"
#include "reports/escape.hpp"
#include "reports/findings.hpp"
#include "reports/html_assets.hpp"

namespace bv::reports {
namespace {

constexpr std::size_t kFindingsMax = 50;
constexpr std::size_t kFactLinesMax = 24;

std::string html(std::string_view text) {
  return xml_escaped(readable(text));
}

/// Word, shape and colour: none of them alone.
std::string_view sign_of(std::string_view word) {
  return word == "PASS" ? "<path d=\"M5 13l5 5 9-11\"/>"
         : word == "INCOMPLETE" || word == "STOPPED"
             ? "<path d=\"M8.5 9a3.5 3.5 0 1 1 5 3.1c-1 .5-1.5 1.1-1.5 2.4M12 18.2v.3\"/>"
             : "<path d=\"M6 6l12 12M18 6L6 18\"/>";
}

std::string tally(const Run& run) {
  const Counts counts = count(run);
  const std::array<std::pair<Outcome, std::int64_t>, 7> all = {
      {{Outcome::Refuted, counts.refuted},
       {Outcome::Broken, counts.broken},
       {Outcome::Inconclusive, counts.inconclusive},
       {Outcome::Unsupported, counts.unsupported},
       {Outcome::Waived, counts.waived},
       {Outcome::Held, counts.held},
       {Outcome::Proved, counts.proved}}};
  std::string bar;
  std::string legend;
  for (const auto& [outcome, n] : all) {
    if (n > 0) {
      bar += fmt::format("<span class=\"b-{}\" style=\"flex-grow:{}\"></span>", name(outcome), n);
      legend += fmt::format("<li class=\"o-{0}\"><b>{1}</b> {2}</li>", name(outcome), thousands(n),
                            std::string(name(outcome)));
    }
  }
  return legend.empty() ? "<div class=\"tally\">No verdicts.</div>\n"
                        : fmt::format(
                              "<div class=\"tally\"><div class=\"stack\" "
                              "aria-hidden=\"true\">{}</div><ul class=\"legend\" "
                              "aria-label=\"verdicts by outcome\">{}</ul></div>\n",
                              bar, legend);
}

std::string model_facts(const Run& run) {
  std::vector<std::string> parts;
  if (!run.revision.empty()) {
    parts.push_back("revision " + html(run.revision.substr(0, 12)));
  }
  if (run.tensors > 0) {
    parts.push_back(counted(static_cast<std::uint64_t>(run.tensors), "tensor") + ", " +
                    human_bytes(run.bytes));
  }
  if (!run.family.empty()) {
    parts.push_back("rules " + html(run.family));
  }
  parts.push_back(counted(run.layouts.size(), "layout"));
  return join(parts, " · ");
}

std::string top(const Run& run) {
  const std::string word = conclude(run).word;
  std::string reasons;
  if (word == "INCOMPLETE" || word == "STOPPED") {
    for (const std::string& reason : undecided_reasons(run)) {
      reasons += "<li>" + html(reason) + "</li>";
    }
  }
  return fmt::format(
      "<header class=\"top {0}\"><div class=\"wrap\">\n<div class=\"bar\"><span "
      "class=\"brand\">bridge-verify</span><span class=\"hide\">{1}</span><span "
      "class=\"grow\"></span><span class=\"hide\">{2}</span></div>\n<div class=\"verdict\">\n<h1 "
      "class=\"word\"><svg viewBox=\"0 0 24 24\" fill=\"none\" stroke=\"currentColor\" "
      "stroke-width=\"3\" stroke-linecap=\"round\" stroke-linejoin=\"round\" "
      "aria-hidden=\"true\">{3}</svg>{0}</h1>\n<div class=\"say\"><div "
      "class=\"model\">{4}</div><div "
      "class=\"facts\">{5}</div></div>\n{6}{7}</div></div></header>\n",
      word, html(run.command.empty() ? "report" : run.command), html(run.started), sign_of(word),
      html(run.model_ref.empty() ? "no model" : run.model_ref), model_facts(run), tally(run),
      reasons.empty() ? "" : "<ul class=\"reasons\">" + reasons + "</ul>\n");
}

std::string tails_of(const Finding& finding) {
  std::string out;
  std::string replay;
  for (const auto& [word, text] : finding.block.tails) {
    if (text.empty()) {
      continue;
    }
    if (word == "replay") {
      replay = "<div class=\"replay\"><pre tabindex=\"0\">" + xml_escaped(escaped(text)) +
               "</pre></div>\n";
    } else {
      out += fmt::format("<dt>{}</dt><dd class=\"{}\">{}</dd>", word, word, html(text));
    }
  }
  return (out.empty() ? "" : "<dl class=\"tails\">" + out + "</dl>\n") + replay;
}

std::string facts_of(const Finding& finding) {
  std::string out;
  for (std::size_t i = 0; i < finding.block.facts.size() && i < kFactLinesMax; ++i) {
    out += html(finding.block.facts[i]) + "\n";
  }
  return out.empty() ? "" : "<pre class=\"facts-block\" tabindex=\"0\">" + out + "</pre>\n";
}

std::string article(const Finding& finding, const Run& run) {
  std::vector<std::string> meta;
  const auto add = [&meta](std::string_view label, const std::string& text) {
    if (!text.empty()) {
      meta.push_back("<span>" + std::string(label) + html(text) + "</span>");
    }
  };
  add("", finding.claim);
  add("kind ", finding.kind);
  add("rule ", finding.rule);
  add("", finding.verdicts.empty() ? finding.block.where : finding.verdicts.front()->rule_source);
  add("",
      finding.layouts.empty() ? ""
      : finding.layouts.size() == 1
          ? "layout " + finding.layouts.front()
          : fmt::format("{} layouts, {} first", finding.layouts.size(), finding.layouts.front()));
  const std::string row =
      finding.verdicts.empty()
          ? ""
          : fmt::format(" data-row=\"{}\"", finding.verdicts.front() - run.verdicts.data());
  return fmt::format(
      "<article class=\"finding card {}\" id=\"f-{}\"{}>\n<h3><span "
      "class=\"code\">{}</span>{}</h3>\n<div class=\"meta\">{}</div>\n{}{}</article>\n",
      finding.level == Level::Error     ? "error"
      : finding.level == Level::Warning ? "warning"
                                        : "note",
      finding.fingerprint, row, html(finding.code), html(finding.block.title), join(meta, ""),
      facts_of(finding), tails_of(finding));
}

std::string findings_html(const Run& run, const std::vector<Finding>& all) {
  std::string out = "<section id=\"findings\"><h2>Findings</h2>\n";
  if (all.empty()) {
    return out + "<p class=\"lead\">Nothing is refuted, nothing is open.</p></section>\n";
  }
  const auto errors = static_cast<std::size_t>(std::count_if(
      all.begin(), all.end(), [](const Finding& one) { return one.level == Level::Error; }));
  const std::string which =
      errors < all.size()
          ? fmt::format("; {} of them", thousands(static_cast<std::int64_t>(errors)))
      : errors == 1 ? std::string(", which")
                    : std::string("; each of them");
  out += fmt::format(
      "<p class=\"lead\">{}{} {} the run. A fault is shown once, whichever layouts it was met "
      "on.</p>\n",
      counted(all.size(), "finding"), which, errors != 1 && errors < all.size() ? "fail" : "fails");
  for (std::size_t i = 0; i < all.size() && i < kFindingsMax; ++i) {
    out += article(all[i], run);
  }
  if (all.size() > kFindingsMax) {
    out += fmt::format("<p class=\"lead\">{} more are in the table of verdicts.</p>\n",
                       all.size() - kFindingsMax);
  }
  return out + "</section>\n";
}

std::string state_of(const ClaimSummary& claim, const ClaimResult& result) {
  return claim.skipped      ? "skipped"
         : !claim.requested ? "not requested"
         : !claim.reached   ? "not reached"
         : result.checked   ? std::string(name(result.outcome))
         : claim.vacuous    ? "nothing to check"
                            : "no verdict";
}

std::string claims_html(const Run& run) {
  std::string out =
      "<section id=\"claims\"><h2>Claims</h2><p class=\"lead\">What was claimed of this model, and "
      "how each claim is known.</p>\n";
  if (run.claims.empty()) {
    return out + "<p class=\"nothing card\">No claim was made.</p></section>\n";
  }
  out +=
      "<div class=\"card scroll\" tabindex=\"0\" role=\"region\" aria-label=\"claims\"><table>"
      "<thead><tr><th scope=\"col\">Claim</th><th scope=\"col\" class=\"num\">Subjects</th><th "
      "scope=\"col\">Result</th><th scope=\"col\">Evidence</th><th scope=\"col\" "
      "class=\"says\">What it says</th>"
      "</tr></thead><tbody>\n";
  for (const ClaimSummary& claim : run.claims) {
    const ClaimResult result = result_of(run, claim.claim);
    const std::string state = state_of(claim, result);
    out += fmt::format(
        "<tr><th scope=\"row\">{}</th><td class=\"num\">{}</td><td class=\"res "
        "o-{}\">{}</td><td><code>{}</code></td><td class=\"says\">{}{}</td></tr>\n",
        html(claim.claim), thousands(claim.subjects), state.substr(0, state.find(' ')), state,
        letters(result.all), html(claim.title),
        claim.note.empty() ? "" : "<br><span class=\"meta\">" + html(claim.note) + "</span>");
  }
  return out +
         "</tbody></table></div><p class=\"lead\" style=\"margin-top:10px\">Evidence: <b>P</b> "
         "proved from headers for every value, <b>B</b> bytes moved and compared, <b>O</b> an "
         "independent oracle agreed, <b>U</b> upstream’s own code, traced, agreed, <b>G</b> GPU "
         "identical to CPU, <b>S</b> sampled only, <b>W</b> waived.</p></section>\n";
}

std::string environment_html(const Run& run) {
  std::string rows;
  const auto row = [&rows](std::string_view label, const std::string& text) {
    if (!text.empty()) {
      rows += "<dt>" + html(label) + "</dt><dd>" + html(text) + "</dd>";
    }
  };
  std::string command = "bridge-verify " + run.command;
  for (const SettingRow& setting : run.settings) {
    command += " --" + setting.name + (setting.text.empty() ? "" : " " + setting.text);
  }
  row("Command", command);
  row("Architecture", run.architecture);
  row("Rules", run.family + (run.family_reason.empty() ? "" : ", " + run.family_reason));
  row("Rules digest", run.rules_digest);
  row("Rules commit", run.rules_commit);
  row("Header digest", run.header_digest);
  for (const Fact& fact : run.detected) {
    row("Detected " + fact.what,
        fact.value + (fact.because.empty() ? "" : " (" + fact.because + ")"));
  }
  row("Layouts", run.layouts_note);
  for (const WaiverRow& waiver : run.waivers) {
    row("Waiver " + waiver.code,
        fmt::format("{}: {} ({}), until {}, {}", waiver.subject, waiver.reason, waiver.issue,
                    waiver.expires,
                    counted(static_cast<std::uint64_t>(waiver.matched), "verdict")));
  }
  for (const std::string& note : run.notes) {
    row("Note", note);
  }
  row("Seed", std::to_string(run.seed));
  row("Time", fmt::format("{:.1f} s on {} with {}", std::max(run.seconds, 0.0), run.host,
                          counted(static_cast<std::uint64_t>(std::max<std::int64_t>(run.cpus, 0)),
                                  "core")));
  row("Peak memory", human_bytes(run.peak_rss));
  row("Tool", run.tool.version + " " + run.tool.commit + " " + run.tool.build);
  row("Next", run.next);
  return "<section id=\"environment\"><h2>Environment</h2><p class=\"lead\">What this report "
         "depends on.</p><dl class=\"env card\">" +
         rows + "</dl></section>\n";
}

/// The page with its parts in place. Parts are never searched for further marks.
std::string filled(std::string_view page,
                   const std::vector<std::pair<std::string_view, std::string_view>>& parts) {
  std::string out;
  for (const auto& [mark, text] : parts) {
    const std::size_t at = page.find(mark);
    out += page.substr(0, at);
    out += text;
    page.remove_prefix(at + mark.size());
  }
  return out + std::string(page);
}

}  // namespace

std::string render_html(const Run& run, const TextStyle&) {
  const std::vector<Finding> all = findings(run);
  const std::string title = html(conclude(run).word + " " + run.model_ref + " - bridge-verify");
  const std::string body =
      top(run) +
      "<nav class=\"tabs\" aria-label=\"sections\"><div class=\"wrap\"><ul><li><a "
      "href=\"#findings\">Findings <b>" +
      thousands(static_cast<std::int64_t>(all.size())) +
      "</b></a></li><li><a href=\"#claims\">Claims</a></li><li "
      "id=\"nav-more\"></li><li><a "
      "href=\"#environment\">Environment</a></li></ul></div></nav>\n<main id=\"main\" "
      "class=\"wrap\" tabindex=\"-1\">\n" +
      findings_html(run, all) + claims_html(run) +
      "<div id=\"app\"><noscript><p class=\"nothing card\">The table of all verdicts and the "
      "pictures need scripts; verdicts.json has the same facts.</p></noscript></div>\n" +
      environment_html(run) + "<footer>Made by bridge-verify " + html(run.tool.version) +
      " from verdicts.json. This file asks no server for anything.</footer>\n</main>\n";
  const std::string data = html_data(run);
  return filled(html_page(), {{"@TITLE@", title},
                              {"@STYLE@", html_style()},
                              {"@STATIC@", body},
                              {"@DATA@", data},
                              {"@SCRIPT@", html_script()}});
}

}  // namespace bv::reports
