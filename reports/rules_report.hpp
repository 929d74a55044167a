#pragma once
// Kinds in the layout notation, and the rules of a family as instances of them, as `rules` shows
// them.

#include <string>
#include <utility>
#include <vector>

namespace bv::reports {

struct KindLine {
  std::string name;
  std::string doc;   // one or more lines; the first says what it is for
  std::string line;  // in the notation
};

/// One rule of a family with the line that it is an instance of.
struct RuleLine {
  std::string id, stage, megatron;
  std::vector<std::pair<std::string, std::string>> hf;    // source of the kind, HF name
  std::string kind;                                       // the line, or a name without one
  std::vector<std::pair<std::string, std::string>> axes;  // axis, size
  std::string value;                                      // "" when values are moved as they are
};

/// A word that a rules file may use as kind or class, and what it stands for.
struct RuleWord {
  std::string word, stands_for;
};

/// Each kind with its comment, an empty line between two.
[[nodiscard]] std::string kinds_text(const std::vector<KindLine>& kinds, std::size_t width);
/// Name and first line of the comment, wrapped.
[[nodiscard]] std::string kind_names_text(const std::vector<KindLine>& kinds, std::size_t width);
/// Name, sources, notation and sizes of each rule, wrapped.
[[nodiscard]] std::string rule_lines_text(const std::vector<RuleLine>& rules, std::size_t width);
[[nodiscard]] std::string rule_words_text(const std::vector<RuleWord>& words);

}  // namespace bv::reports
