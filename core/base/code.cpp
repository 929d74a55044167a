#include "core/base/code.hpp"

#include <fmt/format.h>

#include <array>
#include <charconv>

#include "core/base/assert.hpp"

namespace bv {
namespace {

constexpr std::array kCodes = {
#define BV_CODE(number, name, severity, title, text) \
  CodeInfo{Code::name, #name, Severity::severity, title, text},
#include "core/base/codes.def"
#undef BV_CODE
};

}  // namespace

std::span<const CodeInfo> all_codes() {
  return kCodes;
}

const CodeInfo& info(Code code) {
  for (const CodeInfo& entry : kCodes) {
    if (entry.code == code) {
      return entry;
    }
  }
  assertion_failed("code is listed in codes.def", __FILE__, __LINE__);
}

std::string_view name(Severity severity) {
  switch (severity) {
    case Severity::Error:
      return "error";
    case Severity::Warning:
      return "warning";
    case Severity::Note:
      return "note";
  }
  return "error";
}

bool is_unsupported(Code code) {
  return code == Code::QuantisedSource || code == Code::DtypeUnsupported;
}

std::string label(Code code) {
  return fmt::format("BV{:04}", static_cast<unsigned>(code));
}

std::optional<Code> code_from_text(std::string_view text) {
  if (text.size() > 2 && (text[0] == 'B' || text[0] == 'b') && (text[1] == 'V' || text[1] == 'v')) {
    text.remove_prefix(2);
  }
  unsigned number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size()) {
    return std::nullopt;
  }
  for (const CodeInfo& entry : kCodes) {
    if (static_cast<unsigned>(entry.code) == number) {
      return entry.code;
    }
  }
  return std::nullopt;
}

}  // namespace bv
