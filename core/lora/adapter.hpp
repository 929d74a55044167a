#pragma once
// A LoRA adapter on its base model: which pair of factors is added to which HF tensor, by which
// scale. The same for an adapter that PEFT wrote and for one that Megatron holds.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/dtype.hpp"
#include "core/base/result.hpp"
#include "core/checkpoint/hf_model.hpp"
#include "core/checkpoint/source_tensor.hpp"
#include "core/io/checkpoint.hpp"
#include "core/io/memory_view.hpp"
#include "core/kinds/catalogue.hpp"
#include "core/lora/adapter_config.hpp"

namespace bv::lora {

/// The way out when keys or shapes are those of another base.
inline constexpr const char* kOtherBase =
    "give the base that the adapter was trained on with --model; an adapter of Megatron's ranks is "
    "written under the names of PEFT by bridge-verify lora convert --to hf";

/// A matrix inside a stored tensor, seen through strides (in elements). A view: the adapter that
/// it came from must live. Packed experts share one tensor: A of expert e is rows e*r.., B has the
/// expert as its fast index, so its column stride is the number of experts.
struct Factor {
  const io::StoredTensor* tensor = nullptr;  // spec.name is the adapter key
  const io::TensorStore* store = nullptr;    // that holds `tensor`
  const std::byte* first = nullptr;          // of element [0, 0]
  DType dtype = DType::F32;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t offset = 0;  // of element [0, 0] in the tensor, in elements
  std::int64_t row_stride = 0;
  std::int64_t column_stride = 0;

  [[nodiscard]] const std::string& key() const { return tensor->spec.name; }
  [[nodiscard]] const std::byte* at(std::int64_t row, std::int64_t column) const;
  /// The whole tensor that it lies in.
  [[nodiscard]] checkpoint::SourceTensor source() const;
};

/// One pair on one HF tensor, or on one expert of a packed stack.
/// delta [out, in] = s * B * A; a base that stores [in, out] takes the transpose. A tensor may have
/// several pairs, on different rows: gate and up of a packed projection that were adapted alone.
struct AdapterPair {
  std::string base;            // HF tensor: "model.layers.0.self_attn.q_proj.weight"
  std::int64_t expert = -1;    // slice of a base [E, ...]; -1: the whole tensor
  bool transposed = false;     // the base is [in, out]: W += s * (B*A)^T
  std::int64_t first_row = 0;  // of the base's out axis that row 0 of B belongs to
  std::int64_t row_step = 1;   // row i of B: first_row + i * row_step
  Factor a;                    // [r, in]
  Factor b;                    // [out, r]
  double alpha = 0;
  ScaleKind scale = ScaleKind::Lora;
  std::optional<Factor> magnitude;  // DoRA: [out, 1]

  [[nodiscard]] std::int64_t rank() const { return a.rows; }
};

/// A tensor as matrices one behind the other: a stack of experts, a vector of one column, or the
/// kernels of a convolution, each a row with all of its inputs.
struct MatrixSides {
  std::int64_t rows = 1, columns = 1;  // of one slice
};
/// `pairs` are those on the tensor: one on the whole of more than two dimensions makes it a
/// convolution.
[[nodiscard]] MatrixSides matrix_sides(const Shape& shape,
                                       std::span<const AdapterPair* const> pairs);

/// lora_B.bias: the base's bias becomes bias + s * this.
struct BiasDelta {
  std::string base;  // HF tensor of the bias
  Factor delta;      // [out, 1]
  double alpha = 0;
  ScaleKind scale = ScaleKind::Lora;
  std::int64_t rank = 0;
  bool of_layer = true;  // false: the layer has no bias: PEFT adds this one and merges it nowhere
};

/// A trained tensor that takes the place of the base's: a bias, or one of modules_to_save.
struct Replacement {
  std::string base;
  const io::StoredTensor* tensor = nullptr;
  std::span<const std::byte> bytes;
};

/// What is wrong with one key; a run shows each, a conversion or a merge refuses.
struct AdapterFault {
  Code code = Code::AdapterName;
  std::string key;      // adapter key, or the module that lacks one
  std::string message;  // names layer and expert
  std::string found;
  std::string wanted;
  std::string help;
};

/// One stored tensor of an adapter and its bytes.
struct AdapterTensor {
  io::StoredTensor stored;
  std::span<const std::byte> bytes;
  const io::TensorStore* store = nullptr;  // null: in memory; the adapter makes one
};

/// An adapter, read, classified and fitted to a base. Move-only: factors view `tensors`, which view
/// `keeps`.
struct Adapter {
  std::filesystem::path folder;
  AdapterConfig config;
  std::vector<AdapterPair> pairs;  // by base name in byte order, then expert, then first row
  std::vector<BiasDelta> biases;
  std::vector<Replacement> replacements;
  std::vector<std::string> copies;  // unchanged base tensors that came along (embeddings)
  std::vector<AdapterFault> faults;
  std::vector<std::string> notes;  // what is odd and no fault, a sentence each
  std::int64_t keys = 0;           // of the file: each stands in one of the lists or in a fault
  std::vector<std::unique_ptr<AdapterTensor>> tensors;  // each has its store
  std::unique_ptr<io::MemoryView> in_memory;            // of tensors that came without one
  std::shared_ptr<const void> keeps;                    // adapter_model.safetensors, or memory
};

inline constexpr std::string_view kAdapterConfigName = "adapter_config.json";
inline constexpr std::string_view kAdapterModelName = "adapter_model.safetensors";

/// Opens a PEFT folder against its base, whose headers must be known. Every key of the file ends in
/// exactly one list, or in `faults`: AdapterName for a key that is in no form or names nothing of
/// the base; AdapterPairBroken for a factor that is missing, empty or of another rank than its
/// partner; AdapterShape for one that does not fit the base; PackingUnknown. Errors: AdapterInvalid
/// for files and config, and when the ranks of the config are not those of the tensors.
[[nodiscard]] Result<Adapter> open_adapter(const std::filesystem::path& folder,
                                           const checkpoint::HfModel& base,
                                           const kinds::Catalogue& kinds);
/// The same for tensors that are at hand; `name` is for messages. Errors also: DuplicateKey.
[[nodiscard]] Result<Adapter> fit_adapter(AdapterConfig config, std::vector<AdapterTensor> tensors,
                                          const checkpoint::HfModel& base,
                                          const kinds::Catalogue& kinds, const std::string& name);
/// The first fault as an error that counts the others.
[[nodiscard]] Status check_usable(const Adapter& adapter);

}  // namespace bv::lora
