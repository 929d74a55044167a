#include "core/parallel/stage_text.hpp"

#include <fmt/format.h>

#include "core/base/text.hpp"
#include "core/parallel/parallel.hpp"

namespace bv::parallel {
namespace {

constexpr std::string_view kSymbols = "EtmL|";

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Result<std::string> unrolled() {
    std::string out;
    while (peek() != '\0') {
      if (peek() == '(') {
        BV_TRY(group, group_unit());
        out += group;
      } else {
        BV_TRY(unit, symbol_unit());
        out += unit;
      }
      BV_CHECK(within_bounds(out.size()));
    }
    return out;
  }

 private:
  /// The next character that is not a comma, '\0' at the end. A NUL in the text ends it as a wrong
  /// character.
  char peek() {
    while (at_ < text_.size() && text_[at_] == ',') {
      ++at_;
    }
    return at_ < text_.size() ? text_[at_] : '\0';
  }

  Error wrong(std::string what) {
    return fail(Code::BadValue,
                fmt::format("pipeline layout is not readable at column {}: {}", at_ + 1, what))
        .at(fmt::format("--pipeline-model-parallel-layout:1:{}", at_ + 1))
        .pair(escaped(shortened(text_, 80, true)),
              "letters E t m L, | between stages, (..)*n and x*n to repeat")
        .advise("write it like E|(t|)*3,t*2,mL; groups do not nest");
  }

  Status within_bounds(std::size_t length) {
    if (length > static_cast<std::size_t>(kMaxSize)) {
      return wrong(fmt::format("it unrolls to more than {} letters", kMaxSize));
    }
    return Done{};
  }

  Result<std::string> repeated(std::string unit, bool must_repeat) {
    if (peek() != '*') {
      return must_repeat ? Result<std::string>(wrong("a group (..) needs *n behind it"))
                         : Result<std::string>(unit);
    }
    ++at_;
    std::int64_t times = -1;
    while (peek() >= '0' && peek() <= '9') {
      times = (times < 0 ? 0 : times) * 10 + (peek() - '0');
      BV_CHECK(within_bounds(static_cast<std::size_t>(times)));
      ++at_;
    }
    if (times < 0) {
      return wrong("* needs a number behind it");
    }
    BV_CHECK(within_bounds(unit.size() * static_cast<std::size_t>(times)));
    std::string out;
    out.reserve(unit.size() * static_cast<std::size_t>(times));
    for (std::int64_t i = 0; i < times; ++i) {
      out += unit;
    }
    return out;
  }

  Result<std::string> symbol_unit() {
    const char symbol = peek();
    if (kSymbols.find(symbol) == std::string_view::npos) {
      return wrong(
          fmt::format("\"{}\" is not a layer letter", escaped(std::string_view(&symbol, 1))));
    }
    ++at_;
    return repeated(std::string(1, symbol), false);
  }

  Result<std::string> group_unit() {
    ++at_;
    std::string inside;
    while (peek() != ')') {
      if (at_ >= text_.size()) {
        return wrong("a group ( is not closed");
      }
      if (peek() == '(') {
        return wrong("groups do not nest");
      }
      BV_TRY(unit, symbol_unit());
      inside += unit;
      BV_CHECK(within_bounds(inside.size()));
    }
    ++at_;
    return repeated(std::move(inside), true);
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

}  // namespace

Result<std::vector<StageText>> parse_stage_text(std::string_view text) {
  if (text.find('\0') != std::string_view::npos) {
    text = text.substr(0, text.find('\0') + 1);
    return fail(Code::BadValue,
                fmt::format("pipeline layout holds a NUL at column {}", text.size()))
        .pair("a NUL character", "letters E t m L, | between stages")
        .advise("write it like E|(t|)*3,t*2,mL");
  }
  BV_TRY(letters, Parser(text).unrolled());
  std::vector<StageText> stages(1);
  for (const char letter : letters) {
    if (letter == '|') {
      stages.emplace_back();
    } else {
      stages.back() += letter;
    }
  }
  return stages;
}

}  // namespace bv::parallel
