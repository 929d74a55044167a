#include <fmt/format.h>

#include <set>

#include "core/base/text.hpp"
#include "properties/claims/subject.hpp"

namespace bv::claims {
namespace {

/// Refutes the verdict with the first tensor whose header shape is not the rule's.
void compare_shapes(const Input& input, const RuleUse& use, const std::vector<Shape>& wanted,
                    Verdict& verdict) {
  const model::Model& model = input.source->model;
  for (const std::uint32_t m : use.mappings) {
    const model::Mapping& mapping = model.mappings[m];
    for (std::size_t i = 0; i < mapping.hf.size(); ++i) {
      const auto header = input.source->headers.find(mapping.hf[i]);
      if (header == input.source->headers.end() || header->second.shape == wanted[i]) {
        continue;
      }
      if (verdict.refuted_cases++ > 0) {
        continue;
      }
      verdict.outcome = Outcome::Refuted;
      verdict.code = Code::ShapeMismatch;
      verdict.title = fmt::format("{} has shape {}, the config says {}", mapping.hf[i],
                                  shape_text(header->second.shape), shape_text(wanted[i]));
      verdict.found = shape_text(header->second.shape);
      verdict.wanted = shape_text(wanted[i]);
      verdict.facts = size_origins(model, *use.rule);
      verdict.help =
          "correct the config field or the tensor; shapes are checked before any byte moves";
      Counterexample example;
      example.tensor = mapping.hf[i];
      verdict.counterexamples.push_back(std::move(example));
    }
  }
}

/// HF tensors that are fused into one Megatron tensor should be of one dtype; else the image holds
/// the widest.
void compare_dtypes(const Input& input, const RuleUse& use, Verdict& verdict) {
  for (const std::uint32_t m : use.mappings) {
    const model::Mapping& mapping = input.source->model.mappings[m];
    for (const std::string& hf : mapping.hf) {
      const DType first = input.source->headers.find(mapping.hf.front())->second.dtype;
      const DType here = input.source->headers.find(hf)->second.dtype;
      if (here != first) {
        verdict.facts.push_back(
            fmt::format("{} is {}, {} is {}: the fused tensor is stored in the wider type", hf,
                        name(here), mapping.hf.front(), name(first)));
        return;
      }
    }
  }
}

/// The layouts that a rule can tell apart: uncut first, then one for each size of the group that
/// cuts it.
std::vector<parallel::Layout> distinct_layouts(const Input& input, const family::Rule& rule) {
  std::vector<parallel::Layout> out = {parallel::Layout{}};
  std::set<std::int64_t> sizes = {1};
  for (const parallel::Layout& layout : input.layouts) {
    if (sizes.insert(rule.expert ? layout.etp : layout.tp).second) {
      out.push_back(layout);
    }
  }
  return out;
}

/// The HF extents that the rule has on this layout. Errors: RulesInvalid for a kind that is none;
/// those of the axes.
Result<std::vector<Shape>> source_shapes(const Input& input, const family::Rule& rule,
                                         const parallel::Layout& layout) {
  const layout::Rule* line = input.kinds->find(rule.kind);
  if (line == nullptr) {
    return fail(Code::RulesInvalid, "kind " + rule.kind + " is not in the catalogue");
  }
  BV_TRY(binding, plan::binding_of(input.source->model.geometry, rule, layout));
  BV_TRY(bound, layout::BoundRule::bind(*line, std::move(binding)));
  return bound.source_shapes();
}

}  // namespace

std::vector<Verdict> check_shapes(const Input& input) {
  const model::Model& model = input.source->model;
  std::vector<Verdict> out;
  for (const RuleUse& use : rule_uses(model)) {
    Verdict verdict = about(input, "shapes", use, "");
    verdict.outcome = Outcome::Proved;
    for (const parallel::Layout& layout : distinct_layouts(input, *use.rule)) {
      const auto wanted = source_shapes(input, *use.rule, layout);
      if (!wanted) {
        verdict.outcome = Outcome::Refuted;
        verdict.code = wanted.error().code;
        verdict.title = wanted.error().message;
        verdict.facts = size_origins(model, *use.rule);
        verdict.refuted_cases = verdict.cases;
        verdict.help = wanted.error().help;
      } else {
        compare_shapes(input, use, *wanted, verdict);
      }
      if (verdict.outcome == Outcome::Refuted) {
        break;
      }
    }
    if (verdict.outcome == Outcome::Proved) {
      compare_dtypes(input, use, verdict);
    }
    verdict.evidence.proved = verdict.outcome == Outcome::Proved;
    out.push_back(std::move(verdict));
  }
  return out;
}

}  // namespace bv::claims
