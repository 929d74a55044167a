#pragma once
// The claims over a world: what a bridge left behind in memory (shards and export), held against
// what the oracle says the Megatron modules compute with and against the checkpoint itself.

#include <functional>
#include <string>
#include <vector>

#include "core/verdict/verdict.hpp"
#include "oracles/oracle.hpp"
#include "properties/mutants/mutant.hpp"

namespace bv::mutants {

/// The claims in the order in which they are asked. A claim of level "text" needs the rules only,
/// "headers" names and shapes, "data" the elements.
struct ClaimRow {
  std::string_view claim;
  std::string_view level;
};
inline constexpr std::array kClaims = {
    ClaimRow{"proof", "text"},        ClaimRow{"names", "headers"},
    ClaimRow{"shapes", "headers"},    ClaimRow{"coverage", "headers"},
    ClaimRow{"placement", "headers"}, ClaimRow{"inverse", "headers"},
    ClaimRow{"replicas", "data"},     ClaimRow{"values", "data"},
    ClaimRow{"bytes", "data"},        ClaimRow{"forward", "data"}};

/// One claim refuted, with its first wrong element.
struct Finding {
  std::string claim;
  Code code = Code::Assertion;
  std::string title;
  Counterexample example;
};

/// Compares two sets of shards by what they compute; returns the largest difference, or a reason.
struct Forward {
  double difference = 0;
  std::string where;
  std::string refused;  // the module could not run on these shards
};
using RunForward = std::function<Forward(const std::vector<parallel::ShardKey>&, const Image&)>;

/// Everything about one case on one layout that does not depend on the mutant.
class Reference {
 public:
  /// `entry` answers what each shard must hold. Errors: those of the plan; NoTargetLayout when the
  /// oracle has no statement about a parameter.
  static Result<Reference> make(const Library& library, std::shared_ptr<const Case> one,
                                const parallel::Layout& layout, const oracle::Entry& entry);

  [[nodiscard]] const Case& model() const { return *case_; }
  [[nodiscard]] const Program& right() const { return right_; }
  [[nodiscard]] const Headers& tag_headers() const { return tag_headers_; }
  [[nodiscard]] const Tensors& tags() const { return tags_; }
  [[nodiscard]] const Tensors& values() const { return values_; }
  [[nodiscard]] const Image& wanted_values() const { return wanted_values_; }
  /// Set before judging when the forward claim is wanted.
  void set_forward(RunForward forward) { forward_ = std::move(forward); }

  /// All claims on what the attack leaves behind; empty when every one holds. At most one finding a
  /// claim.
  [[nodiscard]] std::vector<Finding> judge(const Attack& attack) const;
  /// True when the attack's boxes, names and values are the right ones: an equivalent mutant. `why`
  /// says which axes have extent 1.
  [[nodiscard]] bool is_equivalent(const Attack& attack, std::string& why) const;

 private:
  friend class Judge;
  Status ask_oracle(const oracle::Entry& entry);
  [[nodiscard]] ElementRef element_of(std::int64_t tag) const;

  std::shared_ptr<const Case> case_;
  Program right_;
  std::vector<std::string> numbers_;  // tensor number -> HF name
  Headers tag_headers_;
  Tensors tags_;
  Tensors values_;
  std::vector<std::map<std::string, oracle::TaggedTensor, std::less<>>> wanted_;  // by file
  Image wanted_values_;
  RunForward forward_;
};

/// Weights for `headers`: matrices ~ N(0, std^2), norms 1 + N(0, std^2), in the stored type.
[[nodiscard]] Tensors random_weights(const Headers& headers, double std, std::uint64_t seed);

/// What the upstream-style gate does on such weights: exports, casts to F32, and passes a tensor
/// when every element is within 0.1 + 1e-5 |b|. Tensors that are not exported are not looked at.
struct GateResult {
  bool red = false;
  std::string why;  // "raises: ...", or the tensor and how far off it is
  std::int64_t tensors_compared = 0;
};
[[nodiscard]] GateResult run_gate(const Reference& reference, const Attack& attack, double std,
                                  std::uint64_t seed);

}  // namespace bv::mutants
