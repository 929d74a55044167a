#include "core/family/expression.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/arith.hpp"
#include "core/base/text.hpp"

namespace bv::family {
namespace {

constexpr std::size_t kExpressionLengthMax = 1000;
constexpr int kNestingMax = 64;

bool starts_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}
bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

/// A value with the text it came from, so that a failing division can name both operands.
struct Value {
  std::int64_t number = 0;
  std::string_view text;
};

/// Recursive descent: sum := product (("+"|"-") product)*; product := atom (("*"|"/") atom)*.
class Evaluator {
 public:
  Evaluator(std::string_view text, const Lookup& lookup) : text_(text), lookup_(lookup) {}

  Result<std::int64_t> run() {
    if (text_.size() > kExpressionLengthMax) {
      return fail(Code::RulesInvalid, fmt::format("an expression has {} characters", text_.size()))
          .pair(counted(text_.size(), "character"), fmt::format("at most {}", kExpressionLengthMax))
          .advise("split it into symbols of the family file");
    }
    BV_TRY(value, sum(0));
    skip_blanks();
    if (at_ != text_.size()) {
      return syntax("an operator or the end");
    }
    return value.number;
  }

 private:
  void skip_blanks() {
    while (at_ < text_.size() && text_[at_] == ' ') {
      ++at_;
    }
  }
  /// The text from `begin` to here without the blanks around it.
  std::string_view since(std::size_t begin) const {
    std::string_view part = text_.substr(begin, at_ - begin);
    while (!part.empty() && part.front() == ' ') {
      part.remove_prefix(1);
    }
    while (!part.empty() && part.back() == ' ') {
      part.remove_suffix(1);
    }
    return part;
  }
  Error syntax(std::string_view wanted) const {
    const std::string found =
        at_ < text_.size() ? fmt::format("'{}'", escaped(text_.substr(at_, 1))) : "the end";
    return fail(Code::RulesInvalid, fmt::format("expression \"{}\" is not readable at character {}",
                                                escaped(text_), at_ + 1))
        .pair(found, std::string(wanted))
        .advise("write names, whole numbers, + - * / and parentheses only");
  }
  /// Without a name in it, the number is the file's own.
  Error overflow(std::size_t begin) const {
    const bool own = identifiers(since(begin)).empty();
    return fail(own ? Code::RulesInvalid : Code::SizeOutOfBounds,
                fmt::format("\"{}\" leaves 63 bits", escaped(since(begin))))
        .pair("a product or sum above 9223372036854775807", "a tensor size")
        .advise(own ? "correct this number of the rules file" : "check the sizes in config.json");
  }
  char peek() {
    skip_blanks();
    return at_ < text_.size() ? text_[at_] : '\0';
  }

  Result<Value> sum(int depth) {
    skip_blanks();
    const std::size_t begin = at_;
    BV_TRY(left, product(depth));
    while (peek() == '+' || peek() == '-') {
      const char sign = text_[at_++];
      BV_TRY(right, product(depth));
      std::int64_t total = 0;
      if (sign == '+' ? __builtin_add_overflow(left.number, right.number, &total)
                      : __builtin_sub_overflow(left.number, right.number, &total)) {
        return overflow(begin);
      }
      left = {total, since(begin)};
    }
    return left;
  }

  Result<Value> product(int depth) {
    skip_blanks();
    const std::size_t begin = at_;
    BV_TRY(left, atom(depth));
    while (peek() == '*' || peek() == '/') {
      const char sign = text_[at_++];
      const bool rounds_down = sign == '/' && at_ < text_.size() && text_[at_] == '/';
      at_ += rounds_down ? 1U : 0U;
      BV_TRY(right, atom(depth));
      if (sign == '*') {
        const auto total = checked_mul(left.number, right.number);
        if (!total) {
          return overflow(begin);
        }
        left = {*total, since(begin)};
        continue;
      }
      const auto quotient = right.number <= 0 ? std::nullopt
                            : rounds_down     ? std::optional(floor_of(left.number, right.number))
                                              : div_exact(left.number, right.number);
      if (!quotient) {
        return indivisible(left, right);
      }
      left = {*quotient, since(begin)};
    }
    return left;
  }

  static std::int64_t floor_of(std::int64_t left, std::int64_t right) {
    return left / right - (left % right < 0 ? 1 : 0);
  }

  static Error indivisible(const Value& left, const Value& right) {
    const auto named = [](const Value& value) {
      const std::string digits = std::to_string(value.number);
      return value.text == digits ? digits : fmt::format("{} = {}", escaped(value.text), digits);
    };
    const bool positive = right.number > 0;
    if (!positive && identifiers(right.text).empty()) {
      return fail(Code::RulesInvalid,
                  fmt::format("{} is divided by {}", escaped(left.text), escaped(right.text)))
          .pair(named(right), "a divisor of at least 1")
          .advise("correct this number of the rules file");
    }
    return fail(Code::IndivisibleDim,
                fmt::format("{} is not divisible by {}", named(left), named(right)))
        .pair(positive ? fmt::format("a remainder of {}", left.number % right.number)
                       : "a divisor below 1",
              positive ? fmt::format("a multiple of {}", named(right)) : "a divisor of at least 1")
        .advise("check these two sizes, in config.json or in the layout");
  }

  Result<Value> atom(int depth) {
    const char c = peek();
    const std::size_t begin = at_;
    if (c == '(') {
      if (depth >= kNestingMax) {
        return syntax(fmt::format("at most {} nested parentheses", kNestingMax));
      }
      ++at_;
      BV_TRY(inner, sum(depth + 1));
      if (peek() != ')') {
        return syntax("')'");
      }
      ++at_;
      return Value{inner.number, since(begin)};
    }
    if (is_digit(c)) {
      return number(begin);
    }
    if (starts_name(c)) {
      return symbol(begin);
    }
    return syntax("a name, a number or '('");
  }

  Result<Value> number(std::size_t begin) {
    std::int64_t value = 0;
    for (; at_ < text_.size() && is_digit(text_[at_]); ++at_) {
      const auto shifted = checked_mul(value, 10);
      const auto next = shifted ? checked_add(*shifted, text_[at_] - '0') : std::nullopt;
      if (!next) {
        return overflow(begin);
      }
      value = *next;
    }
    return Value{value, since(begin)};
  }

  Result<Value> symbol(std::size_t begin) {
    while (at_ < text_.size() && (starts_name(text_[at_]) || is_digit(text_[at_]))) {
      ++at_;
    }
    const std::string_view word = since(begin);
    const auto value = lookup_(word);
    if (!value) {
      return fail(Code::RulesInvalid,
                  fmt::format("expression \"{}\" uses the unknown symbol {}", escaped(text_), word))
          .pair(std::string(word), "a symbol of the family file")
          .advise("define it under \"symbols\" or correct its spelling");
    }
    return Value{*value, word};
  }

  std::string_view text_;
  const Lookup& lookup_;
  std::size_t at_ = 0;
};

}  // namespace

Result<std::int64_t> evaluate_with(std::string_view expression, const Lookup& lookup) {
  return Evaluator(expression, lookup).run();
}

Result<std::int64_t> evaluate(std::string_view expression,
                              const std::map<std::string, std::int64_t, std::less<>>& symbols) {
  return evaluate_with(
      expression, [&symbols](std::string_view word) -> std::optional<std::int64_t> {
        const auto found = symbols.find(word);
        return found == symbols.end() ? std::nullopt : std::optional(found->second);
      });
}

Result<std::int64_t> evaluate_at(std::string_view place, std::string_view expression,
                                 const std::map<std::string, std::int64_t, std::less<>>& symbols) {
  auto value = evaluate(expression, symbols);
  return value ? value
               : Result<std::int64_t>(at_place(std::move(value).error(), place, expression));
}

Error at_place(Error error, std::string_view place, std::string_view expression) {
  if (error.code == Code::RulesInvalid) {
    error.where = std::string(place);
  }
  error.facts.push_back(fmt::format("{}: {}", place, escaped(expression)));
  return error;
}

std::vector<std::string> identifiers(std::string_view expression) {
  std::vector<std::string> names;
  for (std::size_t at = 0; at < expression.size();) {
    if (!starts_name(expression[at])) {
      ++at;
      continue;
    }
    std::size_t end = at;
    while (end < expression.size() && (starts_name(expression[end]) || is_digit(expression[end]))) {
      ++end;
    }
    std::string word(expression.substr(at, end - at));
    if (std::find(names.begin(), names.end(), word) == names.end()) {
      names.push_back(std::move(word));
    }
    at = end;
  }
  return names;
}

std::optional<std::vector<TemplatePiece>> split_template(std::string_view text) {
  std::vector<TemplatePiece> pieces;
  while (!text.empty()) {
    const std::size_t open = text.find('{');
    const std::string_view literal = text.substr(0, open);
    if (literal.find('}') != std::string_view::npos) {
      return std::nullopt;
    }
    if (!literal.empty()) {
      pieces.push_back({std::string(literal), false});
    }
    if (open == std::string_view::npos) {
      break;
    }
    const std::size_t close = text.find('}', open);
    if (close == std::string_view::npos || close == open + 1) {
      return std::nullopt;
    }
    const std::string_view inner = text.substr(open + 1, close - open - 1);
    if (inner.find('{') != std::string_view::npos) {
      return std::nullopt;
    }
    pieces.push_back({std::string(inner), true});
    text.remove_prefix(close + 1);
  }
  return pieces;
}

}  // namespace bv::family
