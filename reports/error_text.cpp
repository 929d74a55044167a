#include "reports/error_text.hpp"

#include <fmt/format.h>

#include "reports/printable.hpp"

namespace bv::reports {
namespace {

constexpr std::size_t kFactsMax = 8;

Paint block_paint(std::string_view word) {
  return word == "error" ? Paint::Red : word == "note" ? Paint::Dim : Paint::Yellow;
}

}  // namespace

std::string painted(std::string_view text, Paint paint, const TextStyle& style) {
  if (!style.color || text.empty()) {
    return std::string(text);
  }
  const auto code = [paint] {
    switch (paint) {
      case Paint::Green:
        return "32";
      case Paint::Red:
        return "31";
      case Paint::Yellow:
        return "33";
      case Paint::Magenta:
        return "35";
      case Paint::Dim:
        return "2";
      case Paint::Bold:
        return "1";
    }
    return "0";
  }();
  return fmt::format("\x1b[{}m{}\x1b[0m", code, text);
}

std::string render_block(const Block& block, const TextStyle& style) {
  const auto safe = [&style](std::string_view text) { return printable(text, style.ascii); };
  std::string out =
      painted(fmt::format("{}[{}]", block.word, label(block.code)), block_paint(block.word), style);
  out += ": " + painted(safe(block.title), Paint::Bold, style) + "\n";
  if (!block.where.empty()) {
    out += "  --> " + printable_whole(block.where, style.ascii) + "\n";
  }
  for (std::size_t i = 0; i < block.facts.size() && i < kFactsMax; ++i) {
    if (i + 1 == kFactsMax && block.facts.size() > kFactsMax) {
      out += fmt::format("   |  and {} more lines\n", block.facts.size() - i);
    } else {
      out += "   |  " + safe(block.facts[i]) + "\n";
    }
  }
  for (const auto& [key, value] : block.tails) {
    if (!value.empty()) {
      out += fmt::format("   = {:<7} {}\n", key,
                         key == "replay" ? printable_whole(value, style.ascii) : safe(value));
    }
  }
  out += fmt::format("   = explain bridge-verify explain {}\n", label(block.code));
  return out;
}

std::string render_error(const Error& error, const TextStyle& style) {
  Block block;
  block.word = is_unsupported(error.code) ? "unsupported" : name(info(error.code).severity);
  block.code = error.code;
  block.title = error.message;
  block.where = error.where;
  block.facts = error.facts;
  block.tails = {{"found", error.found}, {"wanted", error.wanted}, {"help", error.help}};
  return render_block(block, style);
}

}  // namespace bv::reports
