#include "core/kinds/catalogue.hpp"

#include "core/layout/notation.hpp"

namespace bv::kinds {

Result<Catalogue> Catalogue::parse(std::string_view text, std::string_view file) {
  BV_TRY(rules, layout::parse_rules(text, file));
  for (const layout::Rule& rule : rules) {
    BV_CHECK(layout::prove_bijection(rule));
  }
  Catalogue out;
  out.rules_ = std::make_shared<const std::vector<layout::Rule>>(std::move(rules));
  return out;
}

const layout::Rule* Catalogue::find(std::string_view name) const {
  for (const layout::Rule& rule : *rules_) {
    if (rule.name == name) {
      return &rule;
    }
  }
  return nullptr;
}

Result<Catalogue> load_catalogue() {
  return Catalogue::parse(builtin_text(), "kinds.layout");
}

}  // namespace bv::kinds
