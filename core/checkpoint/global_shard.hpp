#pragma once
// Global tensors of a Megatron checkpoint (torch_dist) as what one rank would hold that has the
// whole model: the same parameters under their names, layer by layer and expert by expert.

#include <map>
#include <set>
#include <string>
#include <vector>

#include "core/checkpoint/stored_keys.hpp"
#include "core/io/tensor_store.hpp"
#include "core/model/model.hpp"
#include "core/parallel/parallel.hpp"
#include "core/plan/plan.hpp"

namespace bv::checkpoint {

/// What one parameter is made of: slices of global tensors, one after the other along the first
/// dimension that is left.
struct GlobalPiece {
  const TensorSpec* tensor = nullptr;
  Shape index;           // of the leading dimensions: layer, expert
  std::int64_t row = 0;  // where it begins in the parameter
};

/// The names under which Megatron stores the parameters of a model: what classes of layers make of
/// them in sharded_state_dict. Its own layers (--transformer-impl local) keep their norms where
/// those of TransformerEngine fuse them, but for latent attention: "L.input_layernorm.weight" is
/// "L.self_attention.linear_qkv.layer_norm_weight". What else a class changes, its family says
/// (core/model/stored_as.hpp).
/// Source: Megatron-LM gpt_layer_specs.py, get_gpt_layer_local_submodules,
/// sharded_state_dict_keys_map (megatron-core 0.19.2).
class StoredNames {
 public:
  explicit StoredNames(const plan::Plan& plan);
  [[nodiscard]] StoredName of(const std::string& name) const;
  /// The same without what becomes of norms: the modules that keep an extra state.
  [[nodiscard]] StoredName module_of(const std::string& name) const;
  /// The norms of these layers are modules of TransformerEngine, which keep extra states.
  [[nodiscard]] bool norms_have_states() const { return fuses_; }

 private:
  struct Module {
    std::string stored;        // "self_attention_sliding"
    std::int64_t number = -1;  // among the layers that call it so
  };
  bool fuses_;
  std::set<std::string, std::less<>> layers_;           // "decoder.layers.3.", with a linear_qkv
  std::map<std::string, Module, std::less<>> modules_;  // "decoder.layers.3.self_attention"
  std::map<std::string, bool, std::less<>> single_;     // never stacked; true: as in memory
};

/// The pieces of the parameter `name` (global numbers of layers and experts); none when the
/// checkpoint does not hold it. A number in the name may be an index of a tensor stacked over
/// layers, an expert one of a tensor stacked over experts, and fused rows may be stored apart.
/// Source: Megatron-LM dist_checkpointing keys (docs/reference/formats.md#torch_dist).
[[nodiscard]] std::vector<GlobalPiece> find_global(const io::TensorStore& store,
                                                   const StoredName& name);

/// One rank, with the vocabulary padded as the store has it.
[[nodiscard]] parallel::Layout global_layout(const io::TensorStore& store,
                                             const model::Model& model);

/// A view; the store must outlive it. Tensors that no parameter of the plan is made of stand in it
/// under their own keys, and slices of a stacked one as "key[3]".
class GlobalShard : public io::TensorStore {
 public:
  /// `plan` has one rank.
  GlobalShard(const io::TensorStore& store, const plan::Plan& plan);

  [[nodiscard]] const TensorSpec* find(std::string_view tensor) const override;
  [[nodiscard]] Headers headers() const override;
  [[nodiscard]] std::vector<io::Chunk> chunks(const TensorSpec& tensor) const override;
  [[nodiscard]] const std::vector<std::filesystem::path>& files() const override {
    return store_.files();
  }
  [[nodiscard]] std::uint64_t total_bytes() const override { return store_.total_bytes(); }
  [[nodiscard]] Status unchanged() const override { return store_.unchanged(); }
  void release(std::span<const std::byte> range) const override { store_.release(range); }

 private:
  /// Chunks of one global tensor, found by the leading index that each is of.
  struct Grid {
    std::vector<io::Chunk> chunks;
    std::map<Shape, std::vector<std::size_t>> of_index;
    std::vector<std::size_t> wide;  // of several indices
  };
  struct Parameter {
    TensorSpec spec;
    std::vector<GlobalPiece> pieces;
  };

  void add(std::string name, std::vector<GlobalPiece> pieces);
  void add_strays();
  Grid& grid_of(const GlobalPiece& piece);

  const io::TensorStore& store_;
  std::map<std::string, Parameter, std::less<>> parameters_;
  std::map<const TensorSpec*, Grid> grids_;
  std::map<const TensorSpec*, std::vector<Shape>> used_;
};

}  // namespace bv::checkpoint
