#pragma once
// The claims over a world: what a bridge left behind in memory (shards and export), held against
// what the oracle says the Megatron modules compute with and against the checkpoint itself. The
// wanted place of every element is the oracle's. Shared with the engine: which HF tensors a
// parameter is made of, its names and files (the plan), the loop that moves the elements of right
// and wrong programs alike (move::make_whole), reading and rounding of numbers (kinds::load,
// store), and the sum that a value rule wants.

#include <functional>
#include <string>
#include <vector>

#include "core/verdict/verdict.hpp"
#include "oracles/oracle.hpp"
#include "properties/attacks/mutants/mutant.hpp"
#include "properties/claims/catalogue.hpp"

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
/// Beside two that are no claim of a run (the text of a rule alone, and ranks that hold the same
/// content) every row is one of the catalogue.
static_assert([] {
  for (const ClaimRow& row : kClaims) {
    bool known = row.claim == "proof" || row.claim == "replicas";
    for (const claims::Claim& claim : claims::catalogue()) {
      known = known || claim.id == row.claim;
    }
    if (!known) {
      return false;
    }
  }
  return true;
}());

/// One claim refuted, with its first wrong element.
struct Finding {
  std::string claim;
  Code code = Code::Assertion;
  std::string title;
  Counterexample example;
};

/// What a model with these shards computes, held against what its checkpoint computes.
struct Forward {
  std::string where;  // the first output that differs; empty when all are equal
  double difference = 0;
  std::optional<Error> refused;  // why the model cannot be computed from these shards
};
/// `image` holds the shards of `files`; a parameter that it lacks is as the right bridge has it.
using RunForward = std::function<Forward(const std::vector<parallel::ShardKey>&, const Image&)>;

/// Values that are exact under -1 and +1 in bf16 and differ between neighbours; no tensor is
/// constant. A tensor has the same values in every set of headers.
[[nodiscard]] Tensors exact_values(const Headers& headers);

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
  [[nodiscard]] bool has_forward() const { return static_cast<bool>(forward_); }

  /// All claims on what the attack leaves behind; empty when every one holds. At most one finding a
  /// claim.
  [[nodiscard]] std::vector<Finding> judge(const Attack& attack) const;

 private:
  friend class Judge;
  Status ask_oracle(const oracle::Entry& entry);
  void find_owners();
  [[nodiscard]] ElementRef element_of(std::int64_t tag) const;

  std::shared_ptr<const Case> case_;
  Program right_;
  std::vector<std::string> numbers_;  // tensor number -> HF name
  Headers tag_headers_;
  Tensors tags_;
  Tensors values_;
  std::vector<std::map<std::string, oracle::TaggedTensor, std::less<>>> wanted_;  // by file
  std::vector<std::size_t> first_owner_;  // move -> the first that must hold the same content
  Image wanted_values_;
  RunForward forward_;
};

}  // namespace bv::mutants
