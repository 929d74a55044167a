#pragma once
// Hands that damage shards: reordered rows, visits of every parameter.

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "oracles/forward/forward.hpp"

namespace bv::oracle::forward {

using Ranks = std::vector<RankTensors>;

/// The layout of a case whose bytes are stored.
[[nodiscard]] std::string stored_layout(const std::string& name);
[[nodiscard]] std::int64_t row_size(const Tensor& tensor);
/// The rows of `tensor` in another order: row i of the result is row order[i].
[[nodiscard]] Tensor reordered(const Tensor& tensor, const std::vector<std::int64_t>& order);
/// from, from + 1, ... (`count` numbers)
[[nodiscard]] std::vector<std::int64_t> counted(std::int64_t from, std::int64_t count);
void append(std::vector<std::int64_t>& order, const std::vector<std::int64_t>& more);
[[nodiscard]] bool has(const std::string& name, std::string_view part);
void for_each(Ranks& ranks, const std::function<void(const std::string&, Tensor&)>& change);

}  // namespace bv::oracle::forward
