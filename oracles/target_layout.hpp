#pragma once
// Which formula makes a Megatron parameter: decided from its path
// (docs/reference/semantics.md#which-parallelism), never from a family file.

#include <optional>
#include <string>
#include <string_view>

namespace bv::oracle {

enum class Formula {
  Replicated,
  Column,
  Row,
  LinearQkv,
  LinearKv,
  LinearFc1,
  GdnInProj,
  GdnConv1d,
  MambaInProj,
  MambaConv1d,
  Vocabulary,
  OutputLayer,
  EhProj,
  ExpertFc1,
  ExpertFc2,
};

/// nullopt for a path that the table does not hold.
std::optional<Formula> formula_of(std::string_view parameter);
/// The expert number in a Megatron path ("experts.linear_fc1.weight7",
/// "local_experts.7.linear_fc1.weight") or in a HF name ("experts.7.up_proj.weight"); nullopt
/// without one.
std::optional<std::int64_t> expert_in(std::string_view name);
/// The weight of a norm, fused into a linear layer or standing alone.
bool is_norm_weight(std::string_view parameter);
/// Of a module of HF that Megatron's model holds as it is: PyTorch's own layers.
bool is_of_hf(std::string_view parameter);
/// Under the vision tower.
bool is_vision(std::string_view parameter);

}  // namespace bv::oracle
