#pragma once
// The independent statement of what each Megatron module computes with. Written from the closed
// formulas with view, permute and cat; shares with core/ nothing but names and numbers
// (model::Geometry symbols).

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace bv::oracle {

/// A tensor of element tags: each element names its own place in the HF checkpoint.
/// Tag = tensor_number * 2^40 + flat index; -1 marks an element that must be zero (padding).
struct TaggedTensor {
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> tags;
  bool operator==(const TaggedTensor&) const = default;
};

/// What a family file states of its model, for model types that no oracle knows. Statements are
/// judged by the forward oracle, never taken on trust.
struct Stated {
  std::string like = {};                         // the model_type whose modules it computes with
  std::optional<bool> zero_centered_gamma = {};  // of Megatron's norms; absent: as HF stores them
};

/// How the module of the model that was built cuts this parameter, seen on the model itself.
struct Built {
  std::string cut = {};   // column, row, replicated; "" when nobody looked
  bool outsider = false;  // a module of no Megatron class: the table is not about it
  /// How the HF tensor stands to the parameter: a matrix with its two sizes the other way round, or
  /// one that could be, for it is square and no linear layer's weight; or with dimensions of one
  /// element that the parameter does not have.
  enum class Sides { Same, Swapped, Unclear, Squeezed };
  Sides sides = Sides::Same;
  std::int64_t rows = 0;           // of the whole parameter, 0 when nobody looked
  std::optional<bool> gated = {};  // of a linear_fc1: it has twice the rows that linear_fc2 reads
};

/// Rows of queries and keys that Megatron rotates in other pairs than HF: they must change places.
struct Turned {
  enum class Order { AsStored, ToNeighbours, ToHalves };
  Order order = Order::AsStored;
  double part = 1;  // of the rows of a head: those that turn
};

/// One question: what must Megatron parameter `parameter` hold on this rank?
/// `numbers` may hold more than is read; read are, by the family files' names (modules.hpp says
/// which formula reads which): num_attention_heads, num_query_groups, head_dim, hidden_size,
/// moe_intermediate_size (or intermediate_size), linear_num_key_heads, linear_num_value_heads,
/// linear_key_head_dim, linear_value_head_dim, vision_num_heads, vision_num_query_groups,
/// mamba_num_heads, mamba_head_dim, mamba_state_dim, mamba_num_groups, attn_output_gate. A HF
/// tensor's part (query, gate, ...) is taken from its name, never from its place in the list.
struct Question {
  std::string
      parameter;  // global Megatron name: "decoder.layers.3.self_attention.linear_qkv.weight"
  std::map<std::string, std::int64_t, std::less<>> numbers;  // geometry symbols of the family
  std::vector<std::string> hf_names;                         // full HF names in the rule's order
  std::vector<TaggedTensor> hf;                              // their tagged contents, same order
  std::int64_t shard_size = 1;                               // TP, or ETP for expert parameters
  std::int64_t shard_rank = 0;
  std::int64_t expert = -1;       // global expert number for expert parameters
  std::int64_t padded_vocab = 0;  // rows of the padded vocabulary, 0 without
  bool in_out_stack =
      false;  // expert stacks stored [E, in, out]; used only where the shape cannot say
  std::string model_type = {};  // of config.json: "gpt_oss" has its gate and up rows alternate
  Stated stated = {};
  Built built = {};
  Turned turned = {};
};

/// The wanted shard, or nullopt when the target-layout table does not know the parameter (BV2011).
std::optional<TaggedTensor> wanted_shard(const Question& question);
/// The answer is that of the built module and not of the table: the table has no row, or is not
/// about this module.
bool answered_by_build(const Question& question);
/// Why wanted_shard gives none, with the numbers found and wanted; "" when it gives one.
std::string why_unanswered(const Question& question);

/// What Megatron holds of an HF value: the value plus `added`, which is -1 where Megatron keeps a
/// norm weight as its offset from one and HF keeps the weight itself. Without `added` nobody said
/// so; `because` gives the reason either way.
struct WantedValue {
  std::optional<double> added;
  std::string because;
};
/// Read are `parameter`, `model_type` and `stated`.
WantedValue wanted_value(const Question& question);

namespace forward {
struct Functions;  // forward.hpp
}

/// The oracles that a run asks.
struct Entry {
  std::optional<TaggedTensor> (*wanted_shard)(const Question&) = &oracle::wanted_shard;
  std::string (*why_unanswered)(const Question&) = &oracle::why_unanswered;
  WantedValue (*wanted_value)(const Question&) = &oracle::wanted_value;
  const forward::Functions* forward = nullptr;  // whole models computed twice; a module, loaded
};

}  // namespace bv::oracle
