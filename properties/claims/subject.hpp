#pragma once
// What claims are made about, and what claims share: the rules that a model uses, their names as
// patterns, and verdicts about them.

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/progress.hpp"
#include "core/checkpoint/hf_model.hpp"
#include "core/foreign/rules_apply.hpp"
#include "core/kinds/catalogue.hpp"
#include "core/parallel/parallel.hpp"
#include "core/plan/dtype_policy.hpp"
#include "core/plan/legality.hpp"
#include "core/plan/plan.hpp"
#include "core/verdict/verdict.hpp"
#include "oracles/oracle.hpp"

namespace bv::comm {
class Link;
}
namespace bv::move {
class Executor;
}

namespace bv::claims {

/// What a judge may use.
struct Budget {
  int jobs = 1;
  std::uint64_t seed = 0;            // of the random models of the claim forward
  ProgressSink* progress = nullptr;  // may be null
  oracle::Entry oracle = {};         // without `forward` that claim stays undecided
  bool computes_forward = false;     // the claim forward is judged in this run
  /// Other processes that judge the same subject: the bytes are divided among them, everything else
  /// is judged on rank 0. Null: this process judges all. A world that fails leaves the claim bytes
  /// undecided, and Link::failure says why.
  comm::Link* world = nullptr;
  /// What the claim gpu holds against the processor; null where there is none.
  move::Executor* device = nullptr;
};

/// One checkpoint with its mappings: the base model, or one factor of an adapter.
struct Part {
  const checkpoint::HfModel* source = nullptr;
  std::string name = {};  // "" for the base
};

/// A model and its rules on some layouts. Everything pointed to must outlive it.
struct Subject {
  std::vector<Part> parts;  // the base first
  const kinds::Catalogue* kinds = nullptr;
  std::vector<parallel::Layout> layouts = {};
  plan::DtypePolicy dtype = {};                         // of the Megatron side
  const foreign::RulesUnderTest* under_test = nullptr;  // --rules: what they are held against
  std::string replay = {};  // "bridge-verify check --model DIR": claims add --only and --layout
  Budget budget = {};

  [[nodiscard]] const checkpoint::HfModel& base() const { return *parts.front().source; }
};

/// Element tags: element k of tensor i of a mapping is i * kTensorTag + k.
inline constexpr std::int64_t kTensorTag = std::int64_t{1} << 40;

/// A rule of the family together with the mappings that it makes in one model.
struct RuleUse {
  const model::Model* of = nullptr;
  const Part* part = nullptr;  // null for a model that is no part of a subject
  const family::Rule* rule = nullptr;
  std::vector<std::uint32_t> mappings;  // indices into model().mappings
  std::int64_t tensors = 0;             // HF tensors that they read
  std::int64_t parameters = 0;  // Megatron parameters that they make, each expert for itself

  [[nodiscard]] const checkpoint::HfModel& source() const { return *part->source; }
  [[nodiscard]] const model::Model& model() const { return *of; }
};
/// In the order of the family file; rules without a mapping are left out.
[[nodiscard]] std::vector<RuleUse> rule_uses(const model::Model& model);
/// Part by part.
[[nodiscard]] std::vector<RuleUse> rule_uses(const Subject& subject);

/// `field` of all of them together.
[[nodiscard]] std::int64_t sum_of(const Subject& subject, std::int64_t RuleUse::*field);

/// What the family of a model states of its modules.
[[nodiscard]] oracle::Stated stated(const model::Model& model);
/// No oracle knows the model_type, and the family file says what the model computes like: the claim
/// forward judges that.
[[nodiscard]] bool rests_on_statement(const checkpoint::HfModel& source);

/// "decoder.layers.*.self_attention.linear_qkv.weight": numbers of the name that vary are stars.
[[nodiscard]] std::string megatron_pattern(const RuleUse& use);
[[nodiscard]] std::vector<std::string> hf_patterns(const RuleUse& use);

/// A verdict about one rule, filled with everything but outcome and cases.
[[nodiscard]] Verdict about(const Subject& subject, std::string_view claim, const RuleUse& use,
                            const std::string& layout);

/// Has one of the rule's mappings the header shapes that the rule and the config give? Then the
/// sizes are bounded by what the headers hold, and sweeping them costs no more than that. Without
/// headers of the tensors: false.
[[nodiscard]] bool sizes_are_right(const Subject& subject, const RuleUse& use);

/// Makes a verdict about a rule whose shapes are refuted: this claim would say nothing about it.
void mark_not_reached(Verdict& verdict);

/// "text_config.hidden_size=24, text_config.num_attention_heads=8": the config fields behind a
/// rule's sizes.
[[nodiscard]] std::vector<std::string> size_origins(const model::Model& model,
                                                    const family::Rule& rule);

}  // namespace bv::claims
