#pragma once
// The claims of a run, each a function from a model and its layouts to verdicts. Nothing here
// prints. Granularity: one verdict for (claim, rule, layout); the counterexample is the first wrong
// element.

#include <vector>

#include "core/base/progress.hpp"
#include "core/checkpoint/hf_model.hpp"
#include "core/foreign/rules_file.hpp"
#include "core/kinds/catalogue.hpp"
#include "core/plan/dtype_policy.hpp"
#include "core/plan/legality.hpp"
#include "core/plan/plan.hpp"
#include "core/verdict/verdict.hpp"
#include "oracles/oracle.hpp"

namespace bv::claims {

struct Input {
  const checkpoint::HfModel* source = nullptr;
  const kinds::Catalogue* kinds = nullptr;
  std::vector<parallel::Layout> layouts;
  oracle::Entry oracle = {};  // without `forward` that claim stays undecided
  const foreign::RulesUnderTest* under_test = nullptr;  // --rules: what they are held against
  int jobs = 1;
  std::uint64_t seed = 0;  // of the random models of the forward claim
  std::string replay;      // "bridge-verify check --model DIR": claims add --only and --layout
  ProgressSink* progress = nullptr;
};

/// Every HF tensor is used exactly once and every Megatron parameter is filled (from the model's
/// name faults).
[[nodiscard]] std::vector<Verdict> check_names(const Input& input);

/// Header shapes equal the rules' extents, uncut and on every layout; the message names the config
/// fields they come from. Also the dtypes of tensors that are fused into one.
[[nodiscard]] std::vector<Verdict> check_shapes(const Input& input);

/// Every element of every shard comes from exactly one element of the checkpoint (pads and replicas
/// declared): proved on the text for all sizes, swept on this layout's sizes, and every parameter
/// has its owners.
[[nodiscard]] std::vector<Verdict> check_coverage(const Input& input);

/// The way back reaches every HF element exactly once: proved on the text, swept on this layout's
/// sizes.
[[nodiscard]] std::vector<Verdict> check_inverse(const Input& input);

/// The same rows on the same ranks as the oracle's independent statement; elements carry their own
/// coordinates.
[[nodiscard]] std::vector<Verdict> check_placement(const Input& input);

/// The HF module and the sharded Megatron module compute the same outputs: on small random models
/// of the same structure, in float64, with the weights moved by the rules under test.
[[nodiscard]] std::vector<Verdict> check_forward(const Input& input);

/// Value-changing rules lose no bit of these tensors. Without bytes: Inconclusive.
[[nodiscard]] std::vector<Verdict> check_values(const Input& input,
                                                const plan::DtypePolicy& policy);

/// Every byte is moved to poisoned shards and back and compared; replicas are compared.
[[nodiscard]] std::vector<Verdict> check_bytes(const Input& input);

/// Tensors that the checkpoint holds twice (tied embeddings, shared copies) hold the same bytes.
[[nodiscard]] std::vector<Verdict> check_copies(const Input& input);

}  // namespace bv::claims
