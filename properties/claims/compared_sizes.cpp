#include "properties/claims/compared_sizes.hpp"

#include <algorithm>
#include <set>

namespace bv::claims {
namespace {

constexpr std::int64_t kSmall = 64;  // carried sizes above this are compared on a smaller size
constexpr std::int64_t kCandidates = 4096;
constexpr std::int64_t kLeastAxis = 3;

/// The geometry symbols of an expression.
void add_symbols(const model::Model& model, const std::string& expression,
                 std::set<std::string>& out) {
  std::string word;
  for (const char c : expression + " ") {
    if (std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_') {
      word += c;
      continue;
    }
    if (model.geometry.get(word)) {
      out.insert(word);
    }
    word.clear();
  }
}

/// Symbols that a rule carries along: they size the trailing dimensions, or are a whole axis that
/// is never cut.
std::set<std::string> carried_symbols(const model::Model& model, const family::Rule& rule) {
  std::set<std::string> out;
  for (const std::string& expression : rule.rest) {
    add_symbols(model, expression, out);
  }
  for (const auto& [axis, expression] : rule.axes) {
    if (model.geometry.get(expression) && (axis == "o" || axis == "h" || axis == "E")) {
      out.insert(expression);
    }
  }
  return out;
}

/// Every axis that could show an exchange still can: none above 2 has become 1 or 2.
bool keeps_axes(const layout::Binding& full, const layout::Binding& small) {
  for (const auto& [axis, extent] : full.axes) {
    const auto found = small.axes.find(axis);
    if (found == small.axes.end() || found->second < std::min(extent, kLeastAxis)) {
      return false;
    }
  }
  return true;
}

/// Below `most`, unlike the sizes before it, and a multiple of `t` where the full size is one: a
/// module that is cut there must stay one that can be.
std::int64_t small_size(std::int64_t full, std::int64_t most, std::int64_t t,
                        const std::vector<std::int64_t>& before) {
  std::int64_t out = most;
  while (out > kLeastAxis && ((full % t == 0 && out % t != 0) ||
                              std::find(before.begin(), before.end(), out) != before.end())) {
    --out;
  }
  return full <= most || out <= kLeastAxis ? full : out;
}

/// Numbers of the headers size it, as a tower that goes as it is: no symbol makes all of it small.
bool is_of_numbers(const family::Rule& rule, const layout::Binding& whole) {
  std::size_t numbers = 0;
  bool large = false;
  for (std::size_t i = 0; i < rule.rest.size(); ++i) {
    if (rule.rest[i].find_first_not_of("0123456789") == std::string::npos) {
      ++numbers;
      large = large || whole.rest[i] > kSmall;
    }
  }
  return large || numbers == rule.rest.size();
}

}  // namespace

std::int64_t ranks_of(const family::Rule& rule, const parallel::Layout& layout) {
  return rule.expert ? layout.etp : layout.tp;
}

plan::Rebinding reduced(const model::Model& model, const family::Rule& rule,
                        const kinds::Catalogue& kinds, const parallel::Layout& layout) {
  plan::Rebinding out;
  const auto whole = plan::binding_of(model.geometry, rule, layout);
  if (!whole) {
    return out;
  }
  if (is_of_numbers(rule, *whole)) {
    std::vector<std::int64_t> sizes;
    for (const std::int64_t full : whole->rest) {
      sizes.push_back(small_size(full, kSmall - std::ssize(sizes), ranks_of(rule, layout), sizes));
    }
    out.rest = std::move(sizes);
  }
  for (const std::string& symbol : carried_symbols(model, rule)) {
    const auto own = rule.sizes.find(symbol);
    const std::int64_t full = own == rule.sizes.end() ? model.geometry.at(symbol) : own->second;
    bool binds = false;
    for (std::int64_t candidate = kLeastAxis;
         !binds && full > kSmall && candidate < std::min(full, kCandidates); ++candidate) {
      out.symbols[symbol] = candidate;
      const auto binding = plan::binding_of(model.geometry, rule, layout, out);
      binds = binding && keeps_axes(*whole, *binding) &&
              plan::bind_rule(kinds, model.geometry, rule, layout, out);
    }
    if (!binds) {
      out.symbols.erase(symbol);
    }
  }
  return out;
}

}  // namespace bv::claims
