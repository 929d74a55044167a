#include "core/plan/size_bounds.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "core/base/arith.hpp"
#include "core/base/text.hpp"
#include "core/family/expression.hpp"

namespace bv::plan {
namespace {

struct Bound {
  std::int64_t most = kSizeMax;
  bool of_headers = false;
};

Bound bound_of(const Headers& headers) {
  std::int64_t elements = 0;
  for (const auto& [name, spec] : headers) {
    const std::int64_t count = element_count(spec.shape).value_or(0);
    if (count == 0 || spec.shape.empty()) {
      return {std::max(elements, kSizeMax), false};
    }
    elements = capped_add(elements, count);
  }
  return headers.empty() ? Bound{} : Bound{elements, true};
}

/// The symbols that the sizes of a rule are made of.
std::vector<std::string> symbols_of(const family::Rule& rule) {
  std::string text = rule.experts;
  for (const auto& [axis, expression] : rule.axes) {
    text += " " + expression;
  }
  for (const std::string& expression : rule.rest) {
    text += " " + expression;
  }
  return family::identifiers(text);
}

}  // namespace

Status check_size_bounds(const model::Model& model, const Headers& headers) {
  const Bound bound = bound_of(headers);
  std::set<const family::Rule*> seen;
  for (const model::Mapping& mapping : model.mappings) {
    if (!seen.insert(mapping.rule).second) {
      continue;
    }
    for (const std::string& symbol : symbols_of(*mapping.rule)) {
      const auto value = model.geometry.get(symbol);
      if (!value || *value <= bound.most) {
        continue;
      }
      const auto origin = model.geometry.origin.find(symbol);
      const std::string field = origin == model.geometry.origin.end() ? symbol : origin->second;
      return fail(Code::SizeOutOfBounds,
                  fmt::format("config.json {} is {}, {}", field, thousands(*value),
                              bound.of_headers ? "and the whole checkpoint has fewer elements"
                                               : "more than a model can have"))
          .at("config.json")
          .pair(thousands(*value),
                fmt::format("at most {}{}", thousands(bound.most),
                            bound.of_headers ? ", the elements of the checkpoint" : ""))
          .advise("use the config.json that belongs to the checkpoint, or correct the field");
    }
  }
  return Done{};
}

}  // namespace bv::plan
