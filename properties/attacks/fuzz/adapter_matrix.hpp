#pragma once
// The kill matrix of adapters: fault x claim, over random adapters of every place.

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "properties/attacks/fuzz/adapters.hpp"
#include "properties/attacks/mutants/matrix.hpp"

namespace bv::fuzz {

/// What can see a fault of an adapter, in the order in which it is asked.
inline constexpr std::array kAdapterRows = {
    mutants::ClaimRow{kRefusedAdapter, "headers"},  mutants::ClaimRow{"adapter-names", "headers"},
    mutants::ClaimRow{"adapter-shapes", "headers"}, mutants::ClaimRow{"adapter-targets", "headers"},
    mutants::ClaimRow{"adapter-values", "data"},    mutants::ClaimRow{"adapter-same", "data"}};

/// One fault, over all adapters that it could be planted into.
struct AdapterRow {
  std::int64_t mutants = 0;
  std::int64_t unchanged = 0;  // nothing is different there: a rank of one in another order
  std::int64_t killed = 0;
  std::array<std::int64_t, kAdapterRows.size()> by_claim{};
  std::array<std::int64_t, mutants::kLevels.size()> by_level{};  // the cheapest that sees it
  std::string first_survivor;                                    // "llama tp2pp1ep1etp1"
  [[nodiscard]] std::int64_t survived() const { return mutants - unchanged - killed; }
};
using AdapterMatrix = std::array<AdapterRow, kAdapterFaults.size()>;  // as kAdapterFaults

struct AdapterMatrixOptions {
  std::uint64_t seed = 1;
  int adapters = 6;  // of each place
  int jobs = 1;
  std::filesystem::path folder = {};   // for Megatron's ranks, empty; no path: these are not tried
  std::function<bool()> stopped = {};  // asked before each place, on several threads
};

/// Errors: those of try_adapter; a right adapter of which a claim does not hold; Stopped. The
/// result does not depend on `jobs`.
[[nodiscard]] Result<AdapterMatrix> run_adapter_matrix(const Tools& tools,
                                                       const std::vector<mutants::Place>& places,
                                                       const AdapterMatrixOptions& options);

/// One verdict a fault that was planted: Held when each is seen, else Refuted (MutantSurvived).
[[nodiscard]] std::vector<Verdict> verdicts_of(const AdapterMatrix& matrix);
/// Rows and columns behind those of `mutation`. A round trip of weights says nothing of adapters:
/// the new rows have no counts of the gate.
void add_rows(const AdapterMatrix& matrix, Mutation& mutation);

}  // namespace bv::fuzz
