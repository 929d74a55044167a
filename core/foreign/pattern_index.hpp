#pragma once
// Many patterns against many names, without looking at every pair.

#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/base/tensor_spec.hpp"
#include "core/foreign/pattern.hpp"

namespace bv::foreign {

/// Patterns in the order in which they are tried. The texts must outlive the index.
class PatternIndex {
 public:
  static constexpr std::size_t kNone = static_cast<std::size_t>(-1);

  explicit PatternIndex(const std::vector<std::string_view>& patterns);

  /// The first pattern at or behind `from` that takes the name; kNone without one.
  [[nodiscard]] std::size_t first(std::string_view name, std::size_t from = 0) const;

 private:
  using Places = std::vector<std::size_t>;  // ascending
  std::vector<std::string_view> patterns_;
  std::unordered_map<std::string_view, Places> exact_;  // without a wildcard
  std::unordered_map<std::string, Places> starred_;     // `*` only, by skeleton
  Places any_;                                          // with `**`
};

/// The names of a checkpoint. The headers must outlive the index.
class NameIndex {
 public:
  explicit NameIndex(const Headers& headers);

  struct Taken {
    const Headers::value_type* entry = nullptr;  // name, spec
    std::vector<std::string> captures;
  };
  /// Every name that the pattern takes, in name order. Of a pattern of computed numbers those whose
  /// captures follow from them.
  [[nodiscard]] std::vector<Taken> taken_by(std::string_view pattern) const;
  /// Every name that the pattern could make with some captures.
  [[nodiscard]] std::vector<Taken> readable_by(std::string_view pattern) const;

 private:
  const Headers& headers_;
  std::unordered_map<std::string, std::vector<const Headers::value_type*>> by_skeleton_;
};

}  // namespace bv::foreign
