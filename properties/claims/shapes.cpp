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
  explicit EmptyTensors(const Subject& subject) : subject_(subject) {}

  /// `verdict` is about a rule that misses one.
  void refute(Verdict& verdict) {
    constexpr std::size_t kShown = 6;
    if (shapes_.empty()) {
      find();
    }
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
  void find() {
    for (const Part& part : subject_.parts) {
      for (const model::Mapping& mapping : part.source->model.mappings) {
        add(part.source->headers, mapping);
      }
    }
  }

  void add(const Headers& headers, const model::Mapping& mapping) {
    for (const std::string& hf : mapping.hf) {
      const auto header = headers.find(hf);
      if (header != headers.end() && is_empty(header->second)) {
        shapes_.emplace_back(hf, shape_text(header->second.shape));
      }
    }
  }

  const Subject& subject_;
  std::vector<std::pair<std::string, std::string>> shapes_;  // name, shape
};

/// A tensor that a rule reads. A rule may read a hundred thousand: each is looked up once.
struct Read {
  const std::string* name = nullptr;
  const TensorSpec* spec = nullptr;  // null for one that is not there
  std::size_t source = 0;            // its number within the mapping
};

/// In the order of the mappings.
std::vector<Read> tensors_of(const RuleUse& use) {
  const Headers& headers = use.source().headers;
  std::vector<Read> out;
  out.reserve(static_cast<std::size_t>(use.tensors));
  for (const std::uint32_t m : use.mappings) {
    const std::vector<std::string>& hf = use.model().mappings[m].hf;
    for (std::size_t i = 0; i < hf.size(); ++i) {
      const auto header = headers.find(hf[i]);
      out.push_back({&hf[i], header == headers.end() ? nullptr : &header->second, i});
    }
  }
  return out;
}

/// Refutes the verdict with the first tensor whose header shape is not the rule's.
void compare_shapes(const RuleUse& use, const std::vector<Read>& tensors,
                    const std::vector<Shape>& wanted, EmptyTensors& empty, Verdict& verdict) {
  for (const auto& [name, spec, i] : tensors) {
    if (spec == nullptr || spec->shape == wanted[i]) {
      continue;
    }
    const bool first = verdict.refuted_cases++ == 0;
    const bool only_empty = verdict.code == Code::EmptyTensor;  // a shape tells more
    if (is_empty(*spec) && first) {
      empty.refute(verdict);
      continue;
    }
    if (is_empty(*spec) || !(first || only_empty)) {
      continue;
    }
    verdict.outcome = Outcome::Refuted;
    verdict.why.clear();
    verdict.code = Code::ShapeMismatch;
    verdict.title = fmt::format("{} has shape {}, the config says {}", *name,
                                shape_text(spec->shape), shape_text(wanted[i]));
    verdict.found = shape_text(spec->shape);
    verdict.wanted = shape_text(wanted[i]);
    verdict.facts = size_origins(use.model(), *use.rule);
    verdict.help =
        "correct the config field or the tensor; shapes are checked before any byte moves";
    Counterexample example;
    example.tensor = *name;
    verdict.counterexamples.push_back(std::move(example));
  }
}

/// HF tensors that are fused into one Megatron tensor should be of one dtype; else the image holds
/// the widest.
void compare_dtypes(const std::vector<Read>& tensors, Verdict& verdict) {
  const Read* first = nullptr;
  for (const Read& read : tensors) {
    first = read.source == 0 ? &read : first;
    if (read.spec == nullptr || first->spec == nullptr) {
      continue;
    }
    if (read.spec->dtype != first->spec->dtype) {
      verdict.facts.push_back(
          fmt::format("{} is {}, {} is {}: the fused tensor is stored in the wider type",
                      *read.name, name(read.spec->dtype), *first->name, name(first->spec->dtype)));
      return;
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
  EmptyTensors empty(subject);
  std::vector<Verdict> out;
  for (const RuleUse& use : rule_uses(subject)) {
    Verdict verdict = about(subject, "shapes", use, "");
    verdict.cases = use.tensors;
    verdict.outcome = Outcome::Proved;
    const std::vector<Read> tensors = tensors_of(use);
    std::vector<Shape> compared;
    for (const parallel::Layout& layout : distinct_layouts(subject, *use.rule)) {
      const auto wanted = source_shapes(subject, use, layout);
      if (!wanted) {
        verdict.outcome = Outcome::Refuted;
        verdict.code = wanted.error().code;
        verdict.title = wanted.error().message;
        verdict.facts = size_origins(use.model(), *use.rule);
        verdict.refuted_cases = verdict.cases;
        verdict.help = wanted.error().help;
      } else if (*wanted != compared) {  // most rules ask for the same on every layout
        compare_shapes(use, tensors, *wanted, empty, verdict);
        compared = *wanted;
      }
      if (verdict.outcome == Outcome::Refuted) {
        break;
      }
    }
    if (verdict.outcome == Outcome::Proved) {
      compare_dtypes(tensors, verdict);
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
