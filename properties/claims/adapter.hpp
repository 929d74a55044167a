#pragma once
// The claims about an adapter on its base: the same words as for a model, one subject a key, a pair
// or a factor on a layout.

#include <optional>
#include <string>
#include <vector>

#include "core/lora/adapter.hpp"
#include "core/parallel/parallel.hpp"
#include "core/verdict/verdict.hpp"

namespace bv::claims {

struct AdapterSubject {
  const lora::Adapter* adapter = nullptr;
  const checkpoint::HfModel* base = nullptr;
  const kinds::Catalogue* kinds = nullptr;
  std::vector<parallel::Layout> layouts;
};

/// Every key of the file is read once, and belongs to a tensor of the base.
[[nodiscard]] std::vector<Verdict> check_adapter_names(const AdapterSubject& subject);
/// Every factor, bias and trained tensor has the sizes of the tensor that it changes.
[[nodiscard]] std::vector<Verdict> check_adapter_shapes(const AdapterSubject& subject);
/// The modules that the config makes PEFT wrap are those that have pairs.
[[nodiscard]] std::vector<Verdict> check_adapter_targets(const AdapterSubject& subject);
/// No factor holds a number that is not finite, and some product is not zero.
[[nodiscard]] std::vector<Verdict> check_adapter_values(const AdapterSubject& subject);
/// Every element of every local factor has one source, on each layout.
[[nodiscard]] std::vector<Verdict> check_adapter_coverage(const AdapterSubject& subject);
/// The factors moved to poisoned shards and back are the bytes that they were, on each layout.
[[nodiscard]] std::vector<Verdict> check_adapter_bytes(const AdapterSubject& subject);

/// The layouts on which the adapter of some layer does not divide: IndivisibleDim, for each layout
/// of the subject or nothing.
[[nodiscard]] std::vector<std::optional<Error>> indivisible_layouts(const AdapterSubject& subject);

/// All of them, with a row of the table for each, appended to `run`.
void judge_adapter(const AdapterSubject& subject, Run& run);

}  // namespace bv::claims
