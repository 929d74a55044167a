#pragma once
// Where a rule is written, out of the text that names it.

#include <string>
#include <string_view>

namespace bv {

struct SourcePlace {
  std::string file;  // "" when the text is empty
  int line = 0;      // 0: not known
  bool operator==(const SourcePlace&) const = default;
};
/// "qwen35_bridge.py:257" -> that file, line 257; "qwen3.json: decoder rule 3" -> the file alone.
[[nodiscard]] SourcePlace source_place(std::string_view text);

}  // namespace bv
