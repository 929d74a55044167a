#pragma once
// The judges of the catalogue: each a function from a subject to verdicts. Nothing here prints.
// Granularity: one verdict for (claim, rule, layout); the counterexample is the first wrong
// element. `count_` functions say how many subjects a claim has before it is judged: the cases of
// its verdicts must add up to that number (catalogue.hpp).

#include <cstdint>
#include <vector>

#include "properties/claims/subject.hpp"

namespace bv::claims {

/// Every HF tensor is used exactly once, or left out for a stated reason, and every Megatron
/// parameter is filled (from the model's name faults).
[[nodiscard]] std::vector<Verdict> check_names(const Subject& subject);
[[nodiscard]] std::int64_t count_names(const Subject& subject);

/// Header shapes equal the rules' extents, uncut and on every layout; the message names the config
/// fields they come from. Also the dtypes of tensors that are fused into one.
[[nodiscard]] std::vector<Verdict> check_shapes(const Subject& subject);
[[nodiscard]] std::int64_t count_shapes(const Subject& subject);

/// Every element of every shard comes from exactly one element of the checkpoint (pads and replicas
/// declared): proved on the text for all sizes, swept on this layout's sizes, and every layer has
/// its stage.
[[nodiscard]] std::vector<Verdict> check_coverage(const Subject& subject);
[[nodiscard]] std::int64_t count_coverage(const Subject& subject);

/// The way back reaches every HF element exactly once: proved on the text, swept on this layout's
/// sizes.
[[nodiscard]] std::vector<Verdict> check_inverse(const Subject& subject);
[[nodiscard]] std::int64_t count_inverse(const Subject& subject);

/// The same rows on the same ranks as the oracle's independent statement; elements carry their own
/// coordinates.
[[nodiscard]] std::vector<Verdict> check_placement(const Subject& subject);
[[nodiscard]] std::int64_t count_placement(const Subject& subject);

/// Each rule adds what the module wants: Megatron keeps some norm weights as their offset from one.
[[nodiscard]] std::vector<Verdict> check_offsets(const Subject& subject);
[[nodiscard]] std::int64_t count_offsets(const Subject& subject);

/// Rules that compute (norm minus one, casts) lose no bit of these tensors, and tensors that are
/// stored twice hold the same bytes. Tensors that nobody can compute with are Unsupported; without
/// bytes: Inconclusive.
[[nodiscard]] std::vector<Verdict> check_values(const Subject& subject);
[[nodiscard]] std::int64_t count_values(const Subject& subject);

/// Every byte is moved to poisoned shards and back and compared.
[[nodiscard]] std::vector<Verdict> check_bytes(const Subject& subject);
[[nodiscard]] std::int64_t count_bytes(const Subject& subject);

/// The HF module and the sharded Megatron module compute the same outputs: on small random models
/// of the same structure, in float64, with the weights moved by the rules under test.
[[nodiscard]] std::vector<Verdict> check_forward(const Subject& subject);
[[nodiscard]] std::int64_t count_forward(const Subject& subject);

/// Tensors that the checkpoint holds twice (tied embeddings, shared copies) hold the same bytes.
[[nodiscard]] std::vector<Verdict> check_copies(const Subject& subject);

}  // namespace bv::claims
