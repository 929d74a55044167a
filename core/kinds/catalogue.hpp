#pragma once
// The kinds that ship with the program: kinds.layout, compiled in, parsed and proved.

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/result.hpp"
#include "core/layout/ast.hpp"
#include "core/layout/side.hpp"

namespace bv::kinds {

/// Rules by name, each proved a bijection.
class Catalogue {
 public:
  /// Errors: RulesInvalid with file:line:column, or the part and axis of a failed proof.
  static Result<Catalogue> parse(std::string_view text, std::string_view file);

  [[nodiscard]] const std::vector<layout::Rule>& rules() const { return *rules_; }
  /// nullptr when unknown.
  [[nodiscard]] const layout::Rule* find(std::string_view name) const;
  /// One side of that rule; nullptr when it is unknown or has no two sides (a bias).
  [[nodiscard]] const layout::Rule* find(std::string_view name, layout::Side side) const;

 private:
  using Sides = std::map<std::pair<std::string, layout::Side>, layout::Rule, std::less<>>;
  std::shared_ptr<const std::vector<layout::Rule>> rules_;
  std::shared_ptr<const Sides> sides_;
};

/// The text of kinds.layout as built.
[[nodiscard]] std::string_view builtin_text();
[[nodiscard]] Result<Catalogue> load_catalogue();

}  // namespace bv::kinds
