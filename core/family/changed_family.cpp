#include "core/family/changed_family.hpp"

#include <utility>

#include "core/family/family.hpp"

namespace bv::family {

FamilyPtr with_rules(const Family& family, std::vector<Rule> rules) {
  BV_ASSERT(rules.size() == family.rules.size());
  auto out = std::make_shared<Family>(family);
  out->rules = std::move(rules);
  return out;
}

}  // namespace bv::family
