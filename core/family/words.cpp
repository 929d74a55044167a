#include "core/family/words.hpp"

#include <algorithm>
#include <array>
#include <utility>

namespace bv::family {
namespace {

template <class Value>
using Word = std::pair<std::string_view, Value>;

constexpr std::array<Word<Orientation>, 3> kOrientations = {
    {{"", Orientation::ByShape}, {"out_in", Orientation::OutIn}, {"in_out", Orientation::InOut}}};
constexpr std::array<Word<ValueStep>, 2> kValueSteps = {
    {{"minus_one", ValueStep::MinusOne}, {"plus_one", ValueStep::PlusOne}}};
constexpr std::array<Word<RankGroup>, 4> kRankGroups = {
    {{"tp", RankGroup::Tp}, {"etp", RankGroup::Etp}, {"ep", RankGroup::Ep}, {"cp", RankGroup::Cp}}};

template <class Table>
auto value_of(const Table& table, std::string_view word) {
  const auto found =
      std::find_if(table.begin(), table.end(), [&](const auto& row) { return row.first == word; });
  return found == table.end() ? std::nullopt : std::optional(found->second);
}

template <class Table, class Value>
std::string_view word_of(const Table& table, Value value) {
  return std::find_if(table.begin(), table.end(),
                      [&](const auto& row) { return row.second == value; })
      ->first;
}

/// The values of words that `between` joins; nullopt when one of them is not in the table.
template <class Value, class Table>
std::optional<std::vector<Value>> values_of(const Table& table, std::string_view words,
                                            char between) {
  std::vector<Value> out;
  for (std::size_t begin = 0; !words.empty() && begin <= words.size();) {
    const std::size_t end = std::min(words.find(between, begin), words.size());
    const auto value = value_of(table, words.substr(begin, end - begin));
    if (!value) {
      return std::nullopt;
    }
    out.push_back(*value);
    begin = end + 1;
  }
  return out;
}

template <class Table, class Value>
std::string words_of(const Table& table, const std::vector<Value>& values, char between) {
  std::string out;
  for (const Value value : values) {
    out += (out.empty() ? "" : std::string(1, between)) + std::string(word_of(table, value));
  }
  return out;
}

}  // namespace

std::string_view text(Orientation orientation) {
  return word_of(kOrientations, orientation);
}

std::optional<Orientation> orientation_from(std::string_view word) {
  return value_of(kOrientations, word);
}

double ValueRule::added_on_import() const {
  double sum = 0.0;
  for (const ValueStep step : steps) {
    sum += step == ValueStep::MinusOne ? -1.0 : 1.0;
  }
  return sum;
}

std::string text(const ValueRule& rule) {
  return words_of(kValueSteps, rule.steps, ' ');
}

std::optional<ValueRule> value_rule_from(std::string_view words) {
  auto steps = values_of<ValueStep>(kValueSteps, words, ' ');
  return steps ? std::optional(ValueRule{*std::move(steps)}) : std::nullopt;
}

std::string text(const Divisor& divisor) {
  return words_of(kRankGroups, divisor.groups, '*');
}

std::optional<Divisor> divisor_from(std::string_view product) {
  auto groups = values_of<RankGroup>(kRankGroups, product, '*');
  return groups && !groups->empty() ? std::optional(Divisor{*std::move(groups)}) : std::nullopt;
}

}  // namespace bv::family
