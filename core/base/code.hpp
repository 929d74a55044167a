#pragma once
// Public codes BVnnnn: one number, one meaning, one line in core/base/codes.def.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace bv {

enum class Code : std::uint16_t {
#define BV_CODE(number, name, severity, title, text) name = number,
#include "core/base/codes.def"
#undef BV_CODE
};

enum class Severity { Error, Warning, Note };
/// "error", "warning", "note".
[[nodiscard]] std::string_view name(Severity severity);

struct CodeInfo {
  Code code;
  std::string_view name;
  Severity severity;
  std::string_view title;
  std::string_view text;
};

/// All codes in numeric order.
[[nodiscard]] std::span<const CodeInfo> all_codes();
[[nodiscard]] const CodeInfo& info(Code code);
/// The input is what it should be, and this version cannot judge it: Unsupported, exit 3.
[[nodiscard]] bool is_unsupported(Code code);
/// "BV2006"
[[nodiscard]] std::string label(Code code);
/// Accepts "BV2006", "bv2006" and "2006".
[[nodiscard]] std::optional<Code> code_from_text(std::string_view text);

}  // namespace bv
