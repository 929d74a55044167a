#include "reports/causes.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "core/base/text.hpp"

namespace bv::reports {
namespace {

constexpr std::size_t kNamedLayoutsMax = 6;
constexpr std::size_t kNamedSubjectsMax = 3;

int order(Outcome outcome) {
  switch (outcome) {
    case Outcome::Broken:
      return 0;
    case Outcome::Refuted:
      return 1;
    case Outcome::Inconclusive:
      return 2;
    case Outcome::Unsupported:
      return 3;
    case Outcome::Waived:
      return 4;
    case Outcome::Proved:
    case Outcome::Held:
      return 5;
  }
  return 0;
}

/// The names that a verdict is about, the longest first.
std::vector<std::string> names_of(const Verdict& verdict) {
  std::vector<std::string> out = verdict.hf;
  out.push_back(verdict.megatron);
  for (const Counterexample& example : verdict.counterexamples) {
    out.push_back(example.tensor);
  }
  std::erase_if(out, [](const std::string& name) { return name.size() < 2; });
  std::sort(out.begin(), out.end(), [](const std::string& a, const std::string& b) {
    return a.size() != b.size() ? a.size() > b.size() : a < b;
  });
  return out;
}

/// Tensor names have dots inside and no blanks.
bool looks_like_a_name(std::string_view word) {
  const std::size_t dot = word.find('.');
  return dot != std::string_view::npos && dot > 0 && dot + 1 < word.size() &&
         word.find('/') == std::string_view::npos;
}

/// A text without its subject: names as '@', lists in brackets and runs of digits as '#'. Equal
/// shapes tell one cause.
std::string shape_of(const Verdict& verdict, std::string text) {
  for (const std::string& name : names_of(verdict)) {
    for (std::size_t at = text.find(name); at != std::string::npos; at = text.find(name, at + 1)) {
      text.replace(at, name.size(), "@");
    }
  }
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find_first_of(" ,;:\"'()[]", at), text.size());
    const std::string_view word = std::string_view(text).substr(at, end - at);
    if (looks_like_a_name(word)) {
      out += '@';
    } else {
      for (const char c : word) {
        const bool digit = c >= '0' && c <= '9';
        out += !digit ? std::string(1, c) : out.ends_with('#') ? "" : "#";
      }
    }
    at = end;
    if (at < text.size() && text[at] == '[') {
      out += "[#]";
      at = std::min(text.find(']', at), text.size() - 1) + 1;
    } else if (at < text.size()) {
      out += text[at++];
    }
  }
  return out;
}

std::string_view word_of(const Verdict& verdict) {
  switch (verdict.outcome) {
    case Outcome::Inconclusive:
      return "undecided";
    case Outcome::Unsupported:
      return "unsupported";
    case Outcome::Waived:
      return "waived";
    case Outcome::Proved:
    case Outcome::Held:
    case Outcome::Refuted:
    case Outcome::Broken:
      break;
  }
  return info(verdict.code).severity == Severity::Warning ? "warning" : "error";
}

/// An element without an index is a number or a word.
std::string index_text(const ElementRef& element) {
  return element.tensor + (element.index.empty() ? "" : shape_text(element.index));
}

/// Where the first wrong element is, and what the two sides are as far as they are known and
/// differ. "" when no element is meant.
std::string first_wrong(const Counterexample& example) {
  const bool differ = example.wanted != example.found;
  const bool bits = example.wanted_bits != example.found_bits;
  if (example.index.empty() && !differ && !bits) {
    return "";
  }
  std::string out = example.rank.empty() ? "" : "rank " + example.rank + " ";
  out += example.tensor + (example.index.empty() ? "" : shape_text(example.index));
  std::vector<std::string> sides;
  if (!example.wanted.tensor.empty() && (differ || bits)) {
    sides.push_back("wanted " + index_text(example.wanted) +
                    (bits ? " = " + example.wanted_bits : ""));
  } else if (bits) {
    sides.push_back("wanted " + example.wanted_bits);
  }
  if (!example.found.tensor.empty() && differ) {
    sides.push_back("found " + index_text(example.found) +
                    (bits ? " = " + example.found_bits : ""));
  } else if (bits) {
    sides.push_back("found " + example.found_bits);
  }
  return sides.empty() ? out : out + ": " + join(sides, ", ");
}

std::string subject_of(const Verdict& verdict) {
  return !verdict.megatron.empty() ? verdict.megatron
         : verdict.hf.empty()      ? std::string()
                                   : verdict.hf.front();
}

/// "also in tp4pp1ep1etp1 and 22 more layouts": where the first subject is wrong in the same way.
std::string other_layouts(const Cause& cause) {
  const Verdict& first = *cause.verdicts.front();
  std::vector<std::string> layouts;
  for (const Verdict* verdict : cause.verdicts) {
    if (verdict->layout != first.layout && !verdict->layout.empty() &&
        std::find(layouts.begin(), layouts.end(), verdict->layout) == layouts.end()) {
      layouts.push_back(verdict->layout);
    }
  }
  if (layouts.empty()) {
    return "";
  }
  const std::size_t more = layouts.size() - std::min(layouts.size(), kNamedLayoutsMax);
  layouts.resize(layouts.size() - more);
  return "also in " + join(layouts, " ") +
         (more == 0   ? ""
          : more == 1 ? " and 1 more layout"
                      : fmt::format(" and {} more layouts", more));
}

/// The other subjects of the cause, the first few by name.
std::vector<std::string> other_subjects(const Cause& cause) {
  const std::string first = subject_of(*cause.verdicts.front());
  std::vector<std::string> out;
  std::set<std::string> seen = {first};
  for (const Verdict* verdict : cause.verdicts) {
    const std::string subject = subject_of(*verdict);
    if (!subject.empty() && seen.insert(subject).second) {
      out.push_back(subject);
    }
  }
  return out;
}

std::string subjects_text(std::vector<std::string> subjects) {
  if (subjects.empty()) {
    return "";
  }
  const std::size_t more = subjects.size() - std::min(subjects.size(), kNamedSubjectsMax);
  subjects.resize(subjects.size() - more);
  return join(subjects, ", ") +
         (more == 0 ? "" : fmt::format(" and {} more: --format plain lists each", more));
}

bool said_in(const std::vector<std::string>& lines, const std::string& text) {
  return std::any_of(lines.begin(), lines.end(),
                     [&](const std::string& line) { return line.ends_with(text); });
}

/// `text` without the subject at its beginning, which the title has said; "" when the title says
/// all of it.
std::string without_subject(const std::string& text, const Verdict& verdict) {
  const std::vector<std::string> names = names_of(verdict);
  const bool begins = std::any_of(names.begin(), names.end(),
                                  [&](const std::string& name) { return text.starts_with(name); });
  if (begins && verdict.title.find(text) != std::string::npos) {
    return "";
  }
  for (const std::string& name : names) {
    if (text.size() > name.size() + 1 && text.starts_with(name) && text[name.size()] == ' ' &&
        verdict.title.find(name) != std::string::npos) {
      return text.substr(name.size() + 1);
    }
  }
  return text;
}

/// The subject with its layout; names that the title has said are left out.
std::string subject_line(const Verdict& verdict) {
  std::string subject = !verdict.megatron.empty() ? verdict.megatron : join(verdict.hf, ", ");
  if (verdict.title.find(subject) != std::string::npos) {
    subject.clear();
  }
  if (verdict.layout.empty()) {
    return subject;
  }
  return subject + (subject.empty() ? "layout " : "      layout ") + verdict.layout;
}

}  // namespace

std::vector<Cause> causes(const Run& run) {
  using Key = std::tuple<int, Code, std::string, std::string, std::string, std::string>;
  std::map<Key, std::size_t> place;
  std::vector<Cause> out;
  const bool refuted = count(run).refuted > 0;
  for (const Verdict& verdict : run.verdicts) {
    if (order(verdict.outcome) > 3) {
      continue;
    }
    if (verdict.code == Code::NotReached && refuted) {
      continue;  // a consequence, told by the cause
    }
    // What this version cannot judge, and tensors that hold nothing, are one cause, whichever
    // claims and rules met it.
    const bool alone = verdict.outcome != Outcome::Unsupported && verdict.code != Code::EmptyTensor;
    // Rules of different kinds are wrong for different reasons; what is merely undecided is not.
    const Key key = {order(verdict.outcome),
                     verdict.code,
                     alone ? verdict.claim : "",
                     alone && verdict.outcome == Outcome::Refuted ? verdict.kind : "",
                     shape_of(verdict, verdict.title),
                     shape_of(verdict, verdict.why + "\n" + verdict.help)};
    const auto [at, fresh] = place.try_emplace(key, out.size());
    if (fresh) {
      out.emplace_back();
    }
    out[at->second].verdicts.push_back(&verdict);
  }
  std::stable_sort(out.begin(), out.end(), [](const Cause& a, const Cause& b) {
    return order(a.verdicts.front()->outcome) < order(b.verdicts.front()->outcome);
  });
  return out;
}

namespace {

/// "megatron  NAME": the fact says the subject already, and marks may stand below it.
bool is_labelled(const std::vector<std::string>& facts, const std::string& subject) {
  return !facts.empty() && facts.front() == "megatron  " + subject;
}

}  // namespace

Block block_of(const Cause& cause) {
  const Verdict& verdict = *cause.verdicts.front();
  const std::vector<std::string> others = other_subjects(cause);
  Block block;
  block.word = word_of(verdict);
  block.code = verdict.code;
  block.title = verdict.title.empty() ? std::string(info(verdict.code).title) : verdict.title;
  if (!others.empty()) {
    // Behind a second clause the words would be read as part of it.
    const bool clauses = block.title.find("; ") != std::string::npos ||
                         block.title.find(", and ") != std::string::npos;
    block.title += fmt::format(
        fmt::runtime(clauses ? " ({} more like it)" : ", and {} more like it"), others.size());
  }
  block.where = verdict.rule_source;
  if (!verdict.kind.empty()) {
    block.where += (block.where.empty() ? "kind " : "   kind ") + verdict.kind;
  }
  if (const std::string subject = subject_line(verdict);
      !subject.empty() && !is_labelled(verdict.facts, subject)) {
    block.facts.push_back(subject);
  }
  block.facts.insert(block.facts.end(), verdict.facts.begin(), verdict.facts.end());
  std::string extent = verdict.extent;
  if (const std::string more = other_layouts(cause); !more.empty()) {
    extent += (extent.empty() ? "" : "; ") + more;
  }
  const bool pair_said =
      said_in(block.facts, verdict.found) && said_in(block.facts, verdict.wanted);
  if (!pair_said && verdict.found != verdict.wanted) {
    block.tails = {{"found", without_subject(verdict.found, verdict)},
                   {"wanted", without_subject(verdict.wanted, verdict)}};
  }
  if (!verdict.counterexamples.empty()) {
    block.tails.emplace_back("first", first_wrong(verdict.counterexamples.front()));
  }
  block.tails.insert(block.tails.end(), {{"extent", extent},
                                         {"also", subjects_text(others)},
                                         {"why", verdict.why},
                                         {"help", verdict.help},
                                         {"replay", verdict.replay}});
  return block;
}

}  // namespace bv::reports
