#pragma once
// Pairs of an adapter by layer and expert, and their elements as tags.

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/lora/adapter.hpp"
#include "oracles/oracle.hpp"

namespace bv::claims {

/// Every element of an adapter by its place in the file: element k of tensor i is
/// i * kTensorTag + k.
class AdapterTags {
 public:
  explicit AdapterTags(const lora::Adapter& adapter);
  /// Of the first element; kUnwritten for a tensor that the adapter does not have.
  [[nodiscard]] std::int64_t first(std::string_view name) const;
  [[nodiscard]] oracle::TaggedTensor of(const lora::Factor& factor) const;

  std::vector<std::string> names;
  std::vector<Shape> shapes;

 private:
  std::map<std::string, std::int64_t, std::less<>> numbers_;
};

/// One pair of a layer, or of one of its experts.
struct LayerPair {
  std::size_t hf = 0;  // into Mapping::hf
  const lora::AdapterPair* pair = nullptr;
};
/// By HF tensor and first row.
using LayerPairs = std::vector<LayerPair>;
/// By mapping and expert; -1 without experts.
using PairsByExpert = std::map<std::pair<std::uint32_t, std::int64_t>, LayerPairs>;
[[nodiscard]] PairsByExpert pairs_by_expert(const lora::Adapter& adapter,
                                            const model::Model& model);

/// Bit for bit.
[[nodiscard]] bool same_elements(const lora::Factor& a, const lora::Factor& b);

/// What makes two slices of local factors the same question, apart from where their pairs are
/// stored: numbers, and boxes counted from the first element of each pair.
class SliceIdentity {
 public:
  void add(std::int64_t number);
  /// A factor whose tensor has this first tag.
  void add(const lora::Factor& factor, std::int64_t first_tag);
  /// A box from the tensor with this first tag; targets are counted from `origin`.
  void add(const layout::Box& box, std::int64_t first_tag, std::int64_t origin);
  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  std::string text_;
  std::map<std::int64_t, std::pair<std::int64_t, std::int64_t>> roles_;  // tag -> number, offset
};

}  // namespace bv::claims
