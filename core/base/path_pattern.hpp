#pragma once
// The regular expressions that configs name modules by, as Python's re takes them, matched in
// linear time: they come from files that are not trusted.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.hpp"

namespace bv {

/// Understood: characters, escapes, ".", classes, groups, "|", "*", "+", "?", "{m,n}" up to 100,
/// "^" and "$" at the ends.
class PathPattern {
 public:
  enum class Extent {
    Suffix,  // PEFT's (.*\.)?(pattern)$: rank_pattern, alpha_pattern
    Whole,   // a string in target_modules or exclude_modules
    Start,   // re.match: what follows the match may be anything; targets of compressed-tensors
  };
  /// Errors: AdapterInvalid for an expression that Python refuses, or that is not understood here
  /// (look-around, back references), or that is longer than kPatternMax.
  static Result<PathPattern> compile(std::string text, Extent extent);
  [[nodiscard]] bool matches(std::string_view path) const;
  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  friend class PatternCompiler;
  struct State {
    enum class Kind : std::uint8_t { Class, Split, Accept };
    Kind kind = Kind::Accept;
    std::vector<bool> bytes = {};  // Class: 256 of them
    std::int32_t next = -1;
    std::int32_t other = -1;  // Split
  };
  void reach(std::int32_t state, std::vector<std::int32_t>& list, std::vector<bool>& seen) const;

  std::string text_;
  Extent extent_ = Extent::Suffix;
  bool plain_ = false;  // no operator but ".": compared as it stands
  std::vector<State> states_;
  std::int32_t start_ = -1;
};

inline constexpr std::size_t kPatternMax = 2000;

}  // namespace bv
