#pragma once
// A family with other rules: how faults are planted into the rules of a right one, and how tensors
// that go as they are, and heads other than the language head, get rules of their own.

#include <string>
#include <vector>

#include "core/base/tensor_spec.hpp"
#include "core/family/families.hpp"

namespace bv::family {

/// The same family with `rules` in place of its own: as many, in the same order, each changed or
/// not. Sections find their rules by place.
[[nodiscard]] FamilyPtr with_rules(const Family& family, std::vector<Rule> rules);

/// Tensors of one name but for its first number, all of one shape.
struct CarriedTensors {
  std::string hf;                    // "model.visual.blocks.{k}.attn.qkv.weight"
  std::string megatron;              // "visual.blocks.{k}.attn.qkv.weight"
  std::vector<std::string> extents;  // expressions
  std::string over;                  // {k} runs from 0 to here; "" when the name has no {k}
};
/// The family with a rule for each of them, behind its own: the tensor as it is, on every rank.
/// It carries nothing else, so that it can be resolved again.
[[nodiscard]] FamilyPtr with_carried(const Family& family,
                                     const std::vector<CarriedTensors>& tensors);

/// A tensor of the head that a class has in place of the language head.
struct HeadTensor {
  std::string hf;                    // "score.weight"
  std::string leaf;                  // of the module output_layer: "weight"
  std::vector<std::string> extents;  // expressions over symbols, num_labels among them
};
/// The family with such a head, whole on every rank of the last stage; its embedding is not tied.
/// nullptr for a family without a language head.
[[nodiscard]] FamilyPtr with_head(const FamilyPtr& family, const std::vector<HeadTensor>& head);

}  // namespace bv::family
