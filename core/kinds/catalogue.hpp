#pragma once
// The kinds that ship with the program: kinds.layout, compiled in, parsed and proved.

#include <memory>
#include <string_view>
#include <vector>

#include "core/base/result.hpp"
#include "core/layout/ast.hpp"

namespace bv::kinds {

/// Rules by name, each proved a bijection.
class Catalogue {
 public:
  /// Errors: RulesInvalid with file:line:column, or the part and axis of a failed proof.
  static Result<Catalogue> parse(std::string_view text, std::string_view file);

  [[nodiscard]] const std::vector<layout::Rule>& rules() const { return *rules_; }
  /// nullptr when unknown.
  [[nodiscard]] const layout::Rule* find(std::string_view name) const;

 private:
  std::shared_ptr<const std::vector<layout::Rule>> rules_;
};

/// The text of kinds.layout as built.
[[nodiscard]] std::string_view builtin_text();
[[nodiscard]] Result<Catalogue> load_catalogue();

}  // namespace bv::kinds
