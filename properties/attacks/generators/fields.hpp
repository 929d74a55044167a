#pragma once
// A case as a few small integers. Each field lists its choices, simplest first, so that one table
// draws a case, shrinks it, and prints it; every combination is valid, so every shrink is.

#include <algorithm>
#include <array>
#include <cstdint>
#include <ostream>
#include <span>
#include <string_view>
#include <vector>

#include "properties/attacks/generators/random.hpp"

namespace bv::generators {

constexpr std::size_t kChoicesMax = 12;

/// One field of the description `D`.
template <class D>
struct Field {
  std::string_view name;
  std::int64_t D::*member;
  std::size_t count = 0;
  std::array<std::int64_t, kChoicesMax> list{};

  [[nodiscard]] constexpr std::span<const std::int64_t> choices() const {
    return {list.data(), count};
  }
};

/// field("tp", &Draw::tp, {1, 2, 4}): a description starts with the first choice of each field.
template <class D>
constexpr Field<D> field(std::string_view name, std::int64_t D::*member,
                         std::initializer_list<std::int64_t> choices) {
  Field<D> out{name, member, choices.size(), {}};
  std::copy(choices.begin(), choices.end(), out.list.begin());
  return out;
}

/// The description with the simplest choice of each field.
template <class D>
[[nodiscard]] constexpr D simplest(std::span<const Field<D>> fields) {
  D out{};
  for (const Field<D>& one : fields) {
    out.*one.member = one.list.front();
  }
  return out;
}

/// Each choice of each field about equally often.
template <class D>
[[nodiscard]] D draw(std::span<const Field<D>> fields, Random& random) {
  D out{};
  for (const Field<D>& one : fields) {
    out.*one.member = one.list[random.below(one.count)];
  }
  return out;
}

/// The cases that differ from `from` in one field by a simpler choice, simplest first.
template <class D>
[[nodiscard]] std::vector<D> simpler(std::span<const Field<D>> fields, const D& from) {
  std::vector<D> out;
  for (const Field<D>& one : fields) {
    for (const std::int64_t choice : one.choices()) {
      if (choice == from.*one.member) {
        break;
      }
      out.push_back(from);
      out.back().*one.member = choice;
    }
  }
  return out;
}

/// The least case that `fails` still holds for: no single field can be simpler. `fails(from)` must
/// hold.
template <class D, class Fails>
[[nodiscard]] D shrink(std::span<const Field<D>> fields, D from, const Fails& fails) {
  for (bool smaller = true; smaller;) {
    smaller = false;
    for (const D& candidate : simpler(fields, from)) {
      if (fails(candidate)) {
        from = candidate;
        smaller = true;
        break;
      }
    }
  }
  return from;
}

/// "groups=1 tp=2"
template <class D>
void print(std::span<const Field<D>> fields, const D& value, std::ostream& out) {
  std::string_view separator;
  for (const Field<D>& one : fields) {
    out << separator << one.name << '=' << value.*one.member;
    separator = " ";
  }
}

}  // namespace bv::generators
