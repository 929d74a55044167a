#pragma once
// Generators that are even and shrink: a choice is an index into a list, simplest first.

#include <rapidcheck.h>

#include <vector>

#include "properties/fuzz/fuzz.hpp"

namespace bv::generators {

/// Each choice about equally often; shrinks towards the first.
template <class T>
rc::Gen<T> simplest_first(std::vector<T> choices) {
  auto index = rc::gen::resize(rc::kNominalSize, rc::gen::inRange<std::size_t>(0, choices.size()));
  return rc::gen::map(std::move(index), [choices](std::size_t i) { return choices[i]; });
}

/// A valid world by its draw: every field alone shrinks to its simplest value and stays valid.
inline rc::Gen<fuzz::Draw> draws() {
  using rc::gen::set;
  return rc::gen::build<fuzz::Draw>(
      set(&fuzz::Draw::sample,
          rc::gen::resize(rc::kNominalSize, rc::gen::inRange<std::uint64_t>(0, 1024))),
      set(&fuzz::Draw::groups, simplest_first<std::int64_t>({1, 2, 3, 4})),
      set(&fuzz::Draw::heads_each, simplest_first<std::int64_t>({1, 2, 3, 4})),
      set(&fuzz::Draw::head_pairs, simplest_first<std::int64_t>({1, 2, 3})),
      set(&fuzz::Draw::ffn_each, simplest_first<std::int64_t>({1, 2, 3, 4})),
      set(&fuzz::Draw::vocabulary, simplest_first<std::int64_t>({1, 2, 7, 13, 40})),
      set(&fuzz::Draw::layout,
          rc::gen::resize(rc::kNominalSize, rc::gen::inRange<std::uint64_t>(0, 1024))));
}

}  // namespace bv::generators

namespace bv::fuzz {
inline void showValue(const Draw& draw, std::ostream& out) {
  out << "sample=" << draw.sample << " groups=" << draw.groups << " heads_each=" << draw.heads_each
      << " head_pairs=" << draw.head_pairs << " ffn_each=" << draw.ffn_each
      << " vocabulary=" << draw.vocabulary << " layout=" << draw.layout;
}
}  // namespace bv::fuzz
