#pragma once
// Where a rule is written, out of the text that names it.

#include <string>
#include <string_view>

#include "core/verdict/verdict.hpp"

namespace bv {

struct SourcePlace {
  std::string file;  // "" when the text is empty
  int line = 0;      // 0: not known
  bool operator==(const SourcePlace&) const = default;
};
/// "qwen35_bridge.py:257" -> that file, line 257; "qwen3.json: decoder rule 3" -> the file alone.
[[nodiscard]] SourcePlace source_place(std::string_view text);

/// The first place of a source or settings file in a sentence: "... is made of ... (a.py:33)". An
/// empty one when the sentence names none.
[[nodiscard]] SourcePlace named_place(std::string_view sentence);

/// Where what a verdict is about is written: the place of its rule, else the first that its texts
/// name. A finding of several rules belongs to none of them, and names the one to correct.
[[nodiscard]] SourcePlace source_place_of(const Verdict& verdict);

}  // namespace bv
