#include "reports/error_text.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/text.hpp"
#include "reports/printable.hpp"
#include "reports/wrap.hpp"

namespace bv::reports {
namespace {

constexpr std::size_t kFactsMax = 8;
constexpr std::size_t kTailColumn = 13;  // behind "   = replay  "
constexpr std::string_view kTailHanging = "             ";

Paint block_paint(std::string_view word) {
  return word == "error" ? Paint::Red : word == "note" ? Paint::Dim : Paint::Yellow;
}

/// A line to be copied is never broken.
bool is_command(std::string_view text) {
  return text.starts_with("bridge-verify ");
}

}  // namespace

std::string command_text(std::string_view command, const TextStyle& style) {
  if (!style.ascii) {
    return printable_whole(command, false);
  }
  std::string out;
  while (!command.empty()) {  // words with such bytes are in single quotes (core/base/shell)
    std::size_t length = 0;
    while (length < command.size() && static_cast<unsigned char>(command[length]) >= 0x80) {
      ++length;
    }
    if (length == 0) {
      out += printable(command.substr(0, 1), true);
      command.remove_prefix(1);
      continue;
    }
    out += "'$'";
    for (const char c : command.substr(0, length)) {
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    }
    out += "''";
    command.remove_prefix(length);
  }
  return out;
}

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
  const auto width = static_cast<std::size_t>(std::max(style.width, 0));
  const std::string head = fmt::format("{}[{}]", block.word, label(block.code));
  std::string out = painted(head, block_paint(block.word), style) + ": ";
  out += painted(wrapped(safe(block.title), head.size() + 2, "  ", width), Paint::Bold, style);
  out += "\n";
  if (!block.where.empty()) {
    out += "  --> " + wrapped(printable_whole(block.where, style.ascii), 6, "      ", width) + "\n";
  }
  for (std::size_t i = 0; i < block.facts.size() && i < kFactsMax; ++i) {
    if (i + 1 == kFactsMax && block.facts.size() > kFactsMax) {
      out += fmt::format("   |  and {}\n", counted(block.facts.size() - i, "more line"));
    } else {
      out += "   |  " + wrapped(safe(block.facts[i]), 6, "   |      ", width) + "\n";
    }
  }
  for (const auto& [key, value] : block.tails) {
    if (!value.empty()) {
      out += fmt::format("   = {:<7} ", key);
      out += is_command(value) ? command_text(value, style)
                               : wrapped(safe(value), kTailColumn, kTailHanging, width);
      out += "\n";
    }
  }
  return out + fmt::format("   = explain bridge-verify explain {}\n", label(block.code));
}

namespace {

std::string rendered(std::string_view word, const Error& error, const TextStyle& style) {
  Block block;
  block.word = word;
  block.code = error.code;
  block.title = error.message;
  block.where = error.where;
  block.facts = error.facts;
  block.tails = {{"found", error.found}, {"wanted", error.wanted}, {"help", error.help}};
  return render_block(block, style);
}

}  // namespace

std::string render_error(const Error& error, const TextStyle& style) {
  return rendered(is_unsupported(error.code) ? "unsupported" : name(info(error.code).severity),
                  error, style);
}

std::string render_warning(const Error& warning, const TextStyle& style) {
  return rendered("warning", warning, style);
}

}  // namespace bv::reports
