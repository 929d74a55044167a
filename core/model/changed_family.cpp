#include "core/model/changed_family.hpp"

#include <utility>

#include "core/model/family.hpp"

namespace bv::model {

FamilyPtr with_rules(const Family& family, std::vector<Rule> rules) {
  BV_ASSERT(rules.size() == family.rules.size());
  auto out = std::make_shared<Family>(family);
  out->rules = std::move(rules);
  return out;
}

}  // namespace bv::model
