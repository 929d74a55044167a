#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "core/base/text.hpp"
#include "properties/claims/catalogue.hpp"
#include "properties/claims/dtypes.hpp"

namespace bv::claims {
namespace {

bool is_empty(const TensorSpec& spec) {
  return std::find(spec.shape.begin(), spec.shape.end(), 0) != spec.shape.end();
}

/// Tensors of the model without an element, told once for all rules that miss one.
class EmptyTensors {
 public:
  explicit EmptyTensors(const Subject& subject) {
    for (const Part& part : subject.parts) {
      for (const model::Mapping& mapping : part.source->model.mappings) {
        add(part.source->headers, mapping);
      }
    }
  }

  void refute(Verdict& verdict) const {
    constexpr std::size_t kShown = 6;
    verdict.outcome = Outcome::Refuted;
    verdict.code = Code::EmptyTensor;
    verdict.title = shapes_.size() == 1
                        ? fmt::format("{} holds no elements", readable(shapes_.front().first))
                        : fmt::format("{} tensors hold no elements, {} the first",
                                      thousands(static_cast<std::int64_t>(shapes_.size())),
                                      readable(shapes_.front().first));
    verdict.facts.clear();
    for (std::size_t i = 0; i < shapes_.size() && i < kShown; ++i) {
      verdict.facts.push_back(fmt::format("{} {}", readable(shapes_[i].first), shapes_[i].second));
    }
    if (shapes_.size() > kShown) {
      verdict.facts.push_back(fmt::format("and {} more", shapes_.size() - kShown));
    }
    verdict.found = fmt::format("shape {}", shapes_.front().second);
    verdict.wanted = "tensors with the elements that the config says";
    verdict.why = "weights saved under DeepSpeed ZeRO-3 without gathering them are empty";
    verdict.help =
        "save the model again with stage3_gather_16bit_weights_on_model_save, or make the weights "
        "of the DeepSpeed checkpoint with zero_to_fp32.py";
  }

 private:
  void add(const Headers& headers, const model::Mapping& mapping) {
    for (const std::string& hf : mapping.hf) {
      const auto header = headers.find(hf);
      if (header != headers.end() && is_empty(header->second)) {
        shapes_.emplace_back(hf, shape_text(header->second.shape));
      }
    }
  }

  std::vector<std::pair<std::string, std::string>> shapes_;  // name, shape
};

/// Refutes the verdict with the first tensor whose header shape is not the rule's.
void compare_shapes(const RuleUse& use, const std::vector<Shape>& wanted, const EmptyTensors& empty,
                    Verdict& verdict) {
  const model::Model& model = use.model();
  const Headers& headers = use.source().headers;
  for (const std::uint32_t m : use.mappings) {
    const model::Mapping& mapping = model.mappings[m];
    for (std::size_t i = 0; i < mapping.hf.size(); ++i) {
      const auto header = headers.find(mapping.hf[i]);
      if (header == headers.end() || header->second.shape == wanted[i]) {
        continue;
      }
      const bool first = verdict.refuted_cases++ == 0;
      const bool only_empty = verdict.code == Code::EmptyTensor;  // a shape tells more
      if (is_empty(header->second) && first) {
        empty.refute(verdict);
        continue;
      }
      if (is_empty(header->second) || !(first || only_empty)) {
        continue;
      }
      verdict.outcome = Outcome::Refuted;
      verdict.why.clear();
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
void compare_dtypes(const RuleUse& use, Verdict& verdict) {
  const Headers& headers = use.source().headers;
  for (const std::uint32_t m : use.mappings) {
    const model::Mapping& mapping = use.model().mappings[m];
    for (const std::string& hf : mapping.hf) {
      const DType first = headers.find(mapping.hf.front())->second.dtype;
      const DType here = headers.find(hf)->second.dtype;
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
std::vector<parallel::Layout> distinct_layouts(const Subject& subject, const family::Rule& rule) {
  std::vector<parallel::Layout> out = {parallel::Layout{}};
  std::set<std::int64_t> sizes = {1};
  for (const parallel::Layout& layout : subject.layouts) {
    if (sizes.insert(rule.expert ? layout.etp : layout.tp).second) {
      out.push_back(layout);
    }
  }
  return out;
}

/// The HF extents that the rule has on this layout. Errors: RulesInvalid for an unknown kind;
/// those of the axes.
Result<std::vector<Shape>> source_shapes(const Subject& subject, const RuleUse& use,
                                         const parallel::Layout& layout) {
  BV_TRY(bound, plan::bind_rule(*subject.kinds, use.model().geometry, *use.rule, layout));
  return bound.source_shapes();
}

/// A tensor that is stored twice: the copy has the shape and the dtype of the original.
Verdict copy_shape(const Subject& subject, const Part& part, const std::string& copy,
                   const std::string& original) {
  const Headers& headers = part.source->headers;
  const auto found = headers.find(copy);
  const auto wanted = headers.find(original);
  Verdict verdict;
  verdict.claim = "shapes";
  verdict.rule = "copy:" + copy;
  verdict.kind = "copy";
  verdict.megatron = original;
  verdict.hf = {copy, original};
  verdict.cases = 1;
  verdict.replay = subject.replay + " --only shapes";
  const auto text = [](const TensorSpec& spec) {
    return fmt::format("{} {}", name(spec.dtype), shape_text(spec.shape));
  };
  if (found != headers.end() && wanted != headers.end() &&
      found->second.dtype == wanted->second.dtype && found->second.shape == wanted->second.shape) {
    verdict.outcome = Outcome::Proved;
    verdict.evidence.proved = true;
    return verdict;
  }
  verdict.outcome = Outcome::Refuted;
  verdict.code = Code::TiedEmbeddings;
  verdict.refuted_cases = 1;
  verdict.title = fmt::format("{} is stored beside {} and differs from it", copy, original);
  verdict.found = found == headers.end() ? "no such tensor" : text(found->second);
  verdict.wanted = wanted == headers.end() ? "no such tensor" : text(wanted->second);
  verdict.help =
      "set tie_word_embeddings to false if the two are meant to differ, else remove " + copy;
  return verdict;
}

}  // namespace

std::int64_t count_shapes(const Subject& subject) {
  std::int64_t out = sum_of(subject, &RuleUse::tensors);
  for (const Part& part : subject.parts) {
    out += std::ssize(part.source->model.must_equal);
  }
  return out;
}

std::vector<Verdict> check_shapes(const Subject& subject) {
  const Dtypes dtypes(subject);
  const EmptyTensors empty(subject);
  std::vector<Verdict> out;
  for (const RuleUse& use : rule_uses(subject)) {
    Verdict verdict = about(subject, "shapes", use, "");
    verdict.cases = use.tensors;
    verdict.outcome = Outcome::Proved;
    for (const parallel::Layout& layout : distinct_layouts(subject, *use.rule)) {
      const auto wanted = source_shapes(subject, use, layout);
      if (!wanted) {
        verdict.outcome = Outcome::Refuted;
        verdict.code = wanted.error().code;
        verdict.title = wanted.error().message;
        verdict.facts = size_origins(use.model(), *use.rule);
        verdict.refuted_cases = verdict.cases;
        verdict.help = wanted.error().help;
      } else {
        compare_shapes(use, *wanted, empty, verdict);
      }
      if (verdict.outcome == Outcome::Refuted) {
        break;
      }
    }
    if (verdict.outcome == Outcome::Proved) {
      compare_dtypes(use, verdict);
    }
    verdict.evidence.proved = verdict.outcome == Outcome::Proved;
    if (verdict.outcome == Outcome::Proved && dtypes.refuses(use)) {
      dtypes.mark(*use.part, verdict);
    }
    out.push_back(std::move(verdict));
  }
  for (const Part& part : subject.parts) {
    for (const auto& [copy, original] : part.source->model.must_equal) {
      out.push_back(copy_shape(subject, part, copy, original));
    }
  }
  return out;
}

}  // namespace bv::claims
