#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "core/layout/notation.hpp"
#include "core/layout/tokens.hpp"

namespace bv::layout {
namespace {

constexpr std::size_t kMaxDepth = 16;
constexpr std::size_t kMaxParts = 1024;  // of one side; fused tensors have less than ten

/// Choices multiply over the sums of a product; more than kMaxParts count as one more.
std::size_t part_count(const Product& product) {
  std::size_t out = 1;
  for (const Factor& factor : product) {
    if (factor.kind != Factor::Kind::Sum) {
      continue;
    }
    std::size_t choices = 0;
    for (const Choice& choice : factor.choices) {
      choices += part_count(choice.product);
    }
    out = std::min(out * choices, kMaxParts + 1);
  }
  return out;
}

class Parser {
 public:
  Parser(std::vector<Token> tokens, std::string_view file)
      : tokens_(std::move(tokens)), file_(file) {}

  Result<Rule> rule() {
    Rule out;
    BV_TRY(name, expect_name("the rule's name"));
    out.name = name.text;
    BV_TRY(sources, tensors());
    out.sources = std::move(sources);
    if (peek().kind != Token::Kind::Arrow) {
      return wrong("'->'");
    }
    ++here_;
    BV_TRY(targets, tensors());
    out.targets = std::move(targets);
    if (is_word("cut")) {
      BV_TRY(cut, cut_clause());
      out.cut = cut;
    }
    if (peek().kind != Token::Kind::End) {
      return wrong("',', 'cut 0 by AXIS' or the end of the rule");
    }
    BV_CHECK(few_parts(out.sources));
    BV_CHECK(few_parts(out.targets));
    BV_CHECK(distinct_tensor_names(out.sources));
    BV_CHECK(distinct_tensor_names(out.targets));
    return out;
  }

 private:
  const Token& peek() const { return tokens_[here_]; }
  bool is_symbol(char c) const { return peek().kind == Token::Kind::Symbol && peek().text[0] == c; }
  bool is_word(std::string_view word) const {
    return peek().kind == Token::Kind::Name && peek().text == word;
  }

  Error located(const Position& at, std::string message) const {
    return fail(Code::RulesInvalid, std::move(message))
        .at(fmt::format("{}:{}:{}", file_, at.line, at.column));
  }
  Error wrong(std::string_view wanted) const {
    return located(peek().at, fmt::format("expected {}, found '{}'", wanted, peek().text))
        .pair(peek().text, std::string(wanted))
        .advise("a rule reads: name x[(t o) i], ... -> y{t}[o i]");
  }

  Result<Token> expect_name(std::string_view what) {
    if (peek().kind != Token::Kind::Name) {
      return wrong(what);
    }
    return tokens_[here_++];
  }
  Status expect(char c) {
    if (!is_symbol(c)) {
      return wrong(fmt::format("'{}'", c));
    }
    ++here_;
    return Done{};
  }

  Result<std::vector<TensorExpr>> tensors() {
    std::vector<TensorExpr> out;
    for (;;) {
      BV_TRY(one, tensor());
      out.push_back(std::move(one));
      if (!is_symbol(',')) {
        return out;
      }
      ++here_;
    }
  }

  Result<TensorExpr> tensor() {
    TensorExpr out;
    BV_TRY(name, expect_name("a tensor's name"));
    out.name = name.text;
    out.at = name.at;
    if (is_symbol('{')) {
      ++here_;
      while (!is_symbol('}')) {
        GridAxis axis;
        if (is_symbol('*')) {
          axis.replica = true;
          ++here_;
        }
        BV_TRY(token, expect_name("a grid axis"));
        axis.axis = token.text;
        out.grid.push_back(std::move(axis));
      }
      ++here_;
    }
    BV_CHECK(expect('['));
    int rests = 0;
    while (!is_symbol(']')) {
      BV_TRY(one, dim());
      rests += one.rest ? 1 : 0;
      if (rests > 1) {
        return located(one.at, fmt::format("'...' appears twice in {}", out.name))
            .advise("keep one '...' a tensor");
      }
      out.dims.push_back(std::move(one));
    }
    ++here_;
    return out;
  }

  Result<Dim> dim() {
    Dim out;
    out.at = peek().at;
    if (peek().kind == Token::Kind::Rest) {
      ++here_;
      out.rest = true;
      return out;
    }
    if (is_symbol('(')) {
      ++here_;
      BV_TRY(inner, group(1));
      out.product = std::move(inner);
      return out;
    }
    BV_TRY(one, factor(0));
    out.product.push_back(std::move(one));
    return out;
  }

  /// After '(': a sum or a product, up to ')'. A product inside brackets dissolves into the one
  /// around it.
  Result<Product> group(std::size_t depth) {
    if (depth > kMaxDepth) {
      return located(peek().at, fmt::format("brackets are nested deeper than {}", kMaxDepth));
    }
    const Position at = peek().at;
    const bool is_sum = peek().kind == Token::Kind::Name &&
                        tokens_[here_ + 1].kind == Token::Kind::Symbol &&
                        tokens_[here_ + 1].text == ":";
    if (!is_sum) {
      BV_TRY(inner, product(depth));
      BV_CHECK(expect(')'));
      return inner;
    }
    Factor sum;
    sum.kind = Factor::Kind::Sum;
    sum.at = at;
    for (;;) {
      Choice choice;
      BV_TRY(name, expect_name("a part's name"));
      choice.name = name.text;
      choice.at = name.at;
      BV_CHECK(expect(':'));
      BV_TRY(inner, product(depth));
      choice.product = std::move(inner);
      sum.choices.push_back(std::move(choice));
      if (is_symbol('|')) {
        ++here_;
        continue;
      }
      BV_CHECK(expect(')'));
      break;
    }
    Product out;
    out.push_back(std::move(sum));
    return out;
  }

  Result<Product> product(std::size_t depth) {
    Product out;
    while (!is_symbol(')') && !is_symbol('|')) {
      if (is_symbol('(')) {
        ++here_;
        BV_TRY(inner, group(depth + 1));
        out.insert(out.end(), inner.begin(), inner.end());
        continue;
      }
      BV_TRY(one, factor(depth));
      out.push_back(std::move(one));
    }
    if (out.empty()) {
      return wrong("an axis, 1 or a bracket");
    }
    return out;
  }

  Result<Factor> factor(std::size_t) {
    Factor out;
    out.at = peek().at;
    if (is_symbol('*')) {
      out.replica = true;
      ++here_;
      BV_TRY(token, expect_name("the replicated axis after '*'"));
      out.kind = Factor::Kind::Axis;
      out.axis = token.text;
      return out;
    }
    if (peek().kind == Token::Kind::One && peek().text == "1") {
      ++here_;
      out.kind = Factor::Kind::One;
      return out;
    }
    if (peek().kind == Token::Kind::One) {
      return located(peek().at,
                     fmt::format("the number {} is where an axis should be", peek().text))
          .advise(
              "name the axis and bind its size in the family file; only 1 is written as a number");
    }
    BV_TRY(token, expect_name("an axis, 1, '...' or '('"));
    out.kind = Factor::Kind::Axis;
    out.axis = token.text;
    return out;
  }

  Result<Cut> cut_clause() {
    ++here_;
    if (peek().kind != Token::Kind::One || peek().text != "0") {
      return wrong("0: an even cut works on the rows (dimension 0)");
    }
    ++here_;
    if (!is_word("by")) {
      return wrong("'by'");
    }
    ++here_;
    BV_TRY(axis, expect_name("the axis that cuts"));
    return Cut{axis.text};
  }

  /// Two sums in one product have the parts of the one times those of the other.
  Status few_parts(const std::vector<TensorExpr>& side) const {
    std::size_t parts = 0;
    for (const TensorExpr& tensor : side) {
      Product whole;
      for (const Dim& dim : tensor.dims) {
        whole.insert(whole.end(), dim.product.begin(), dim.product.end());
      }
      parts += part_count(whole);
      if (parts > kMaxParts) {
        return located(tensor.at,
                       fmt::format("{} has more parts than a line can be proved for", tensor.name))
            .pair(fmt::format("more than {}", kMaxParts), fmt::format("at most {}", kMaxParts))
            .advise("each (a: ... | b: ...) multiplies the parts of the line: write fewer of them");
      }
    }
    return Done{};
  }

  Status distinct_tensor_names(const std::vector<TensorExpr>& side) const {
    std::set<std::string> seen;
    for (const TensorExpr& tensor : side) {
      if (!seen.insert(tensor.name).second) {
        return located(tensor.at,
                       fmt::format("tensor {} appears twice on the same side", tensor.name))
            .advise("give each tensor a name of its own");
      }
    }
    return Done{};
  }

  std::vector<Token> tokens_;
  std::string_view file_;
  std::size_t here_ = 0;
};

Result<Rule> parse_at(std::string_view text, std::string_view file, int first_line) {
  BV_TRY(tokens, tokens_of(text, file, first_line));
  return Parser(std::move(tokens), file).rule();
}

}  // namespace

Result<Rule> parse_rule(std::string_view text, std::string_view file) {
  return parse_at(text, file, 1);
}

Result<std::vector<Rule>> parse_rules(std::string_view text, std::string_view file) {
  std::vector<Rule> rules;
  std::set<std::string> names;
  std::string doc;
  std::string pending;
  int pending_line = 0;
  int line_number = 0;
  const auto flush = [&]() -> Status {
    if (pending.empty()) {
      return Done{};
    }
    BV_TRY(rule, parse_at(pending, file, pending_line));
    rule.doc = doc;
    if (!names.insert(rule.name).second) {
      return fail(Code::RulesInvalid, fmt::format("kind {} is defined twice", rule.name))
          .at(fmt::format("{}:{}:1", file, pending_line))
          .advise("rename one of the two lines");
    }
    rules.push_back(std::move(rule));
    pending.clear();
    doc.clear();
    return Done{};
  };
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    ++line_number;
    const std::size_t first = line.find_first_not_of(" \t\r");
    if (first == std::string_view::npos) {
      BV_CHECK(flush());
      doc.clear();
    } else if (line[first] == '#') {
      BV_CHECK(flush());
      std::string_view words = line.substr(first + 1);
      words.remove_prefix(std::min(words.find_first_not_of(' '), words.size()));
      doc += (doc.empty() ? "" : " ") + std::string(words);
    } else if (first > 0 && !pending.empty()) {
      pending += "\n" + std::string(line);
    } else {
      BV_CHECK(flush());
      pending = std::string(line);
      pending_line = line_number;
    }
  }
  BV_CHECK(flush());
  return rules;
}

}  // namespace bv::layout
