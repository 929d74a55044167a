#pragma once
// Pairs of an adapter at the layers of Megatron that they are about, and the tensors that a factor
// of such a layer is made of.

#include <cstdint>
#include <map>
#include <vector>

#include "core/lora/adapter.hpp"
#include "core/lora/factor_boxes.hpp"
#include "core/lora/scaled_factors.hpp"

namespace bv::lora {

/// One pair at its layer.
struct PlacedPair {
  std::size_t hf = 0;
  const AdapterPair* pair = nullptr;
  int fold = 0;                              // the power of two that its B takes in
  const ScaledFactors::Scaled* b = nullptr;  // B times that

  [[nodiscard]] Factor factor_b() const;
};
using ByExpert = std::map<std::int64_t, std::vector<PlacedPair>>;  // -1 without experts

/// Bit for bit.
[[nodiscard]] bool equal_values(const Factor& a, const Factor& b);
[[nodiscard]] double scale_of(const AdapterPair& pair);

/// Sources of one output tensor: each adapter tensor once.
class Sources {
 public:
  Slot slot(const Factor& factor);
  [[nodiscard]] const std::vector<checkpoint::SourceTensor>& list() const { return list_; }
  [[nodiscard]] DType dtype() const { return dtype_; }

 private:
  std::int32_t number(const Factor& factor);

  std::map<const io::StoredTensor*, std::int32_t> numbers_;
  std::vector<checkpoint::SourceTensor> list_;
  DType dtype_ = DType::F32;
};

}  // namespace bv::lora
