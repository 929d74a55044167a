#pragma once
// Which rows of lora_B, or columns of lora_A, a rank of a server must hold: those of its part of
// the base layer, stated by the oracle of Megatron's modules.

#include <cstdint>
#include <map>
#include <optional>
#include <tuple>
#include <vector>

#include "oracles/lora_factors.hpp"
#include "properties/claims/adapter.hpp"
#include "properties/claims/adapter_layers.hpp"

namespace bv::claims {

/// [rank], ascending.
struct RankRows {
  std::vector<std::vector<std::int64_t>> rows;     // of lora_B; empty: every rank has all
  std::vector<std::vector<std::int64_t>> columns;  // of lora_A; likewise
};

class SliceRows {
 public:
  SliceRows(const AdapterSubject& subject, std::int64_t ranks);
  /// nullopt: the oracle has no statement about the layer on so many ranks (fewer key and value
  /// heads than ranks, a layer that Megatron keeps whole).
  [[nodiscard]] std::optional<RankRows> of(const lora::AdapterPair& pair);

 private:
  struct Place {
    std::uint32_t mapping = 0;
    std::int64_t expert = -1;
    std::size_t hf = 0;
  };
  [[nodiscard]] oracle::AdapterQuestion question(const Place& place, const lora::AdapterPair& pair,
                                                 std::int64_t rank) const;
  [[nodiscard]] std::optional<RankRows> ask(const Place& place,
                                            const lora::AdapterPair& pair) const;

  const AdapterSubject& subject_;
  std::int64_t ranks_;
  std::map<const lora::AdapterPair*, Place> places_;
  /// By rule, HF tensor, rows and columns: layers of one rule have the same answer.
  std::map<std::tuple<const void*, std::size_t, std::int64_t, std::int64_t>,
           std::optional<RankRows>>
      known_;
};

}  // namespace bv::claims
