#include "reports/rules_report.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/text.hpp"
#include "reports/printable.hpp"
#include "reports/wrap.hpp"

namespace bv::reports {
namespace {

/// "q=model.q_proj.weight k=..."
std::string pairs_text(const std::vector<std::pair<std::string, std::string>>& pairs) {
  std::vector<std::string> out;
  for (const auto& [name, value] : pairs) {
    out.push_back(printable(name, false) + "=" + printable(value, false));
  }
  return join(out, " ");
}

}  // namespace

std::string kinds_text(const std::vector<KindLine>& kinds, std::size_t width) {
  std::string out;
  for (const KindLine& kind : kinds) {
    out += out.empty() ? "" : "\n";
    for (std::size_t at = 0; at < kind.doc.size();) {
      const std::size_t end = std::min(kind.doc.find('\n', at), kind.doc.size());
      out += "# " + wrapped(kind.doc.substr(at, end - at), 2, "# ", width) + "\n";
      at = end + 1;
    }
    out += kind.line + "\n";
  }
  return out;
}

std::string kind_names_text(const std::vector<KindLine>& kinds, std::size_t width) {
  std::size_t names = 17;
  for (const KindLine& kind : kinds) {
    names = std::max(names, kind.name.size());
  }
  const std::string margin(names + 1, ' ');
  std::string out;
  for (const KindLine& kind : kinds) {
    out +=
        fmt::format("{:<{}} {}\n", kind.name, names,
                    wrapped(kind.doc.substr(0, kind.doc.find('\n')), margin.size(), margin, width));
  }
  return out;
}

std::string rule_lines_text(const std::vector<RuleLine>& rules, std::size_t width) {
  std::string out;
  const auto add = [&](std::string_view label, const std::string& text) {
    const std::string margin(11, ' ');
    out += text.empty()
               ? ""
               : fmt::format("    {:<6} {}\n", label, wrapped(text, margin.size(), margin, width));
  };
  for (const RuleLine& rule : rules) {
    const std::string head = fmt::format("{} {}  {}", rule.id, printable(rule.stage, false),
                                         printable(rule.megatron, false));
    out += wrapped(head, 0, "    ", width) + "\n";
    add("hf", pairs_text(rule.hf));
    add("kind", printable(rule.kind, false));
    add("axes", pairs_text(rule.axes));
    add("value", rule.value);
  }
  return out;
}

std::string rule_words_text(const std::vector<RuleWord>& words) {
  std::string out = "in a rules file: kind or class, and the kind that it stands for\n";
  for (const RuleWord& word : words) {
    out += fmt::format("{:<36} {}\n", word.word, word.stands_for);
  }
  return out;
}

}  // namespace bv::reports
