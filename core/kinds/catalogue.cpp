#include "core/kinds/catalogue.hpp"

#include "core/layout/notation.hpp"

namespace bv::kinds {

Result<Catalogue> Catalogue::parse(std::string_view text, std::string_view file) {
  BV_TRY(rules, layout::parse_rules(text, file));
  for (const layout::Rule& rule : rules) {
    BV_CHECK(layout::prove_bijection(rule));
  }
  Sides sides;
  for (const layout::Rule& rule : rules) {
    for (const layout::Side side : {layout::Side::Rows, layout::Side::Columns}) {
      if (auto line = layout::side_of(rule, side)) {
        sides.emplace(std::pair{rule.name, side}, std::move(*line));
      }
    }
  }
  Catalogue out;
  out.sides_ = std::make_shared<const Sides>(std::move(sides));
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

const layout::Rule* Catalogue::find(std::string_view name, layout::Side side) const {
  const auto found = sides_->find(std::pair{std::string(name), side});
  return found == sides_->end() ? nullptr : &found->second;
}

Result<Catalogue> load_catalogue() {
  return Catalogue::parse(builtin_text(), "kinds.layout");
}

}  // namespace bv::kinds
