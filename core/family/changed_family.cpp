#include "core/family/changed_family.hpp"

#include <fmt/format.h>

#include <map>
#include <utility>

#include "core/family/family.hpp"
#include "core/family/symbols.hpp"

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

namespace {

/// The rule of the language head; nullptr without.
const Rule* language_head(const Family& family) {
  for (const Section& section : family.sections) {
    for (std::size_t i = section.first_rule; i < section.end_rule; ++i) {
      if (section.stage == Stage::Output && family.rules[i].vocabulary) {
        return &family.rules[i];
      }
    }
  }
  return nullptr;
}

/// transformers counts labels in num_labels, or as the entries of id2label, of which two are the
/// default.
SymbolRule labels_symbol(const std::string& file) {
  SymbolRule out;
  out.name = "num_labels";
  out.fields = {{"/num_labels", false}, {"/id2label", true}};
  out.default_value = "2";
  out.null_value = "";
  out.file = file;
  return out;
}

void untie(Family& family) {
  for (SymbolRule& symbol : family.symbols) {
    if (symbol.name == symbols::kTied) {
      SymbolRule never;
      never.name = symbol.name;
      never.value = "0";
      never.min = 0;
      never.file = symbol.file;
      symbol = std::move(never);
    }
  }
}

}  // namespace

FamilyPtr with_head(const FamilyPtr& family, const std::vector<HeadTensor>& head) {
  const Rule* language = language_head(*family);
  if (language == nullptr) {
    return nullptr;
  }
  const std::string module = language->megatron.substr(0, language->megatron.rfind('.') + 1);
  auto out = std::make_shared<Family>(*family);
  out->headless = family;
  if (out->symbol("num_labels") == nullptr) {
    out->symbols.push_back(labels_symbol(out->file));
  }
  untie(*out);
  Section section;
  section.stage = Stage::Output;
  section.title = "head";
  section.of_class = true;
  section.first_rule = out->rules.size();
  for (const HeadTensor& tensor : head) {
    Rule& rule = out->rules.emplace_back();
    rule.id = fmt::format("r{}", out->rules.size() - 1);
    rule.kind = "replicated";
    rule.megatron = module + tensor.leaf;
    rule.hf = {{"x", tensor.hf}};
    rule.rest = tensor.extents;
    rule.source = fmt::format("{}: head {}", out->file, tensor.hf);
    rule.section = out->sections.size();
  }
  section.end_rule = out->rules.size();
  out->sections.push_back(std::move(section));
  return out;
}

}  // namespace bv::family
