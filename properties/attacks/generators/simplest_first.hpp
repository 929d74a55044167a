#pragma once
// RapidCheck generators out of field tables: every choice about equally often, and every field
// alone shrinks towards its simplest choice.

#include <rapidcheck.h>

#include <vector>

#include "properties/attacks/generators/fields.hpp"

namespace bv::generators {

/// Each choice about equally often; shrinks towards the first.
template <class T>
rc::Gen<T> simplest_first(std::vector<T> choices) {
  auto index = rc::gen::resize(rc::kNominalSize, rc::gen::inRange<std::size_t>(0, choices.size()));
  return rc::gen::map(std::move(index), [choices](std::size_t i) { return choices[i]; });
}

/// A description whose every field is drawn from its choices.
template <class D>
rc::Gen<D> described(std::span<const Field<D>> fields) {
  std::vector<rc::Gen<std::int64_t>> parts;
  parts.reserve(fields.size());
  for (const Field<D>& one : fields) {
    parts.push_back(
        simplest_first(std::vector<std::int64_t>(one.choices().begin(), one.choices().end())));
  }
  return rc::gen::exec([parts = std::move(parts), fields] {
    D out{};
    for (std::size_t i = 0; i < fields.size(); ++i) {
      out.*fields[i].member = *rc::Gen<std::int64_t>(parts[i]).as(std::string(fields[i].name));
    }
    return out;
  });
}

}  // namespace bv::generators
