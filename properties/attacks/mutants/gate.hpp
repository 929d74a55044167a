#pragma once
// What the upstream-style gate does with the same faults: it exports, casts to F32, and passes a
// tensor when every element is within 0.1 + 1e-5 |b|. Tensors that are not exported are not looked
// at.

#include <string>
#include <vector>

#include "properties/attacks/mutants/judge.hpp"

namespace bv::mutants {

/// Weights for `headers`: matrices ~ N(0, std^2), norms 1 + N(0, std^2), in the stored type.
[[nodiscard]] Tensors random_weights(const Headers& headers, double std, std::uint64_t seed);

struct GateResult {
  bool red = false;
  std::string why;  // "raises: ...", or the tensor and how far off it is
  std::int64_t tensors_compared = 0;
};

/// The gate on weights of one size, drawn once for a world.
class Gate {
 public:
  Gate(const Reference& reference, double std, std::uint64_t seed);
  [[nodiscard]] GateResult run(const Attack& attack) const;

 private:
  const Reference& reference_;  // outlives the gate
  double std_;
  std::uint64_t seed_;
  Tensors weights_;
  std::vector<Tensors> initial_;  // parameters before anything is loaded, by file and local name
};
[[nodiscard]] GateResult run_gate(const Reference& reference, const Attack& attack, double std,
                                  std::uint64_t seed);

}  // namespace bv::mutants
