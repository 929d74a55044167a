#include "core/family/changed_family.hpp"

#include <fmt/format.h>

#include <map>
#include <utility>

#include "core/family/family.hpp"

namespace bv::family {

FamilyPtr with_rules(const Family& family, std::vector<Rule> rules) {
  BV_ASSERT(rules.size() == family.rules.size());
  auto out = std::make_shared<Family>(family);
  out->rules = std::move(rules);
  return out;
}

namespace {

Rule carried_rule(const Family& family, const CarriedTensors& tensors) {
  Rule out;
  out.id = fmt::format("r{}", family.rules.size());
  out.kind = "replicated";
  out.megatron = tensors.megatron;
  out.hf = {{"x", tensors.hf}};
  out.rest = tensors.extents;
  out.as_in_hf = true;
  out.source = fmt::format("{}: carried {}", family.file, tensors.hf);
  out.section = family.sections.size();
  return out;
}

}  // namespace

FamilyPtr with_carried(const Family& family, const std::vector<CarriedTensors>& tensors) {
  auto out = std::make_shared<Family>(family);
  out->carried.clear();
  std::map<std::string, std::vector<const CarriedTensors*>> by_count;
  for (const CarriedTensors& one : tensors) {
    by_count[one.over].push_back(&one);
  }
  for (const auto& [over, list] : by_count) {
    Section section;
    section.stage = Stage::Vision;
    section.title = over.empty() ? "carried" : fmt::format("carried x {}", over);
    section.variable = over.empty() ? "" : "k";
    section.over = over;
    section.first_rule = out->rules.size();
    for (const CarriedTensors* one : list) {
      out->rules.push_back(carried_rule(*out, *one));
    }
    section.end_rule = out->rules.size();
    out->sections.push_back(std::move(section));
  }
  return out;
}

}  // namespace bv::family
