#include "core/layout/tokens.hpp"

#include <fmt/format.h>

#include <cctype>

#include "core/base/text.hpp"

namespace bv::layout {
namespace {

bool is_name_start(char c) {
  return std::isalpha(static_cast<unsigned char>(c)) != 0 || c == '_';
}
bool is_name(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
}

/// Turns text into tokens; knows line and column.
class Lexer {
 public:
  Lexer(std::string_view text, std::string_view file, int first_line)
      : text_(text), file_(file), at_{first_line, 1} {}

  Result<std::vector<Token>> run() {
    std::vector<Token> tokens;
    while (skip_blanks()) {
      BV_TRY(token, next());
      tokens.push_back(std::move(token));
    }
    tokens.push_back(Token{Token::Kind::End, "end of rule", at_});
    return tokens;
  }

 private:
  bool skip_blanks() {
    while (here_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[here_])) != 0) {
      advance(1);
    }
    return here_ < text_.size();
  }

  void advance(std::size_t count) {
    for (; count > 0; --count, ++here_) {
      if (text_[here_] == '\n') {
        ++at_.line;
        at_.column = 1;
      } else {
        ++at_.column;
      }
    }
  }

  Token take(Token::Kind kind, std::size_t length) {
    Token token{kind, std::string(text_.substr(here_, length)), at_};
    advance(length);
    return token;
  }

  Result<Token> next() {
    const std::string_view left = text_.substr(here_);
    if (left.starts_with("->")) {
      return take(Token::Kind::Arrow, 2);
    }
    if (left.starts_with("...")) {
      return take(Token::Kind::Rest, 3);
    }
    if (is_name_start(left[0])) {
      std::size_t length = 1;
      while (length < left.size() && is_name(left[length])) {
        ++length;
      }
      return take(Token::Kind::Name, length);
    }
    if (std::isdigit(static_cast<unsigned char>(left[0])) != 0) {
      std::size_t length = 1;
      while (length < left.size() && is_name(left[length])) {
        ++length;
      }
      return take(Token::Kind::One, length);
    }
    if (std::string_view("[](){},:|*").find(left[0]) != std::string_view::npos) {
      return take(Token::Kind::Symbol, 1);
    }
    return fail(Code::RulesInvalid, fmt::format("'{}' has no meaning in the layout notation",
                                                escaped(left.substr(0, 1))))
        .at(fmt::format("{}:{}:{}", file_, at_.line, at_.column))
        .advise("bridge-verify rules show prints lines that are right");
  }

  std::string_view text_;
  std::string_view file_;
  std::size_t here_ = 0;
  Position at_;
};

}  // namespace

Result<std::vector<Token>> tokens_of(std::string_view text, std::string_view file, int first_line) {
  return Lexer(text, file, first_line).run();
}

}  // namespace bv::layout
