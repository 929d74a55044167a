#include "properties/attacks/fuzz/adapter_matrix.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/workers.hpp"

namespace bv::fuzz {
namespace {

std::size_t level_at(std::string_view level) {
  const auto found = std::find(mutants::kLevels.begin(), mutants::kLevels.end(), level);
  return static_cast<std::size_t>(found - mutants::kLevels.begin());
}

/// One mutant that `seen` see.
void count(const std::vector<std::string_view>& seen, const std::string& place, AdapterRow& row) {
  ++row.mutants;
  if (seen.empty()) {
    row.first_survivor = row.first_survivor.empty() ? place : row.first_survivor;
    return;
  }
  ++row.killed;
  std::size_t cheapest = mutants::kLevels.size() - 1;
  for (std::size_t i = 0; i < kAdapterRows.size(); ++i) {
    if (std::find(seen.begin(), seen.end(), kAdapterRows.at(i).claim) != seen.end()) {
      ++row.by_claim.at(i);
      cheapest = std::min(cheapest, level_at(kAdapterRows.at(i).level));
    }
  }
  ++row.by_level.at(cheapest);
}

std::size_t row_at(AdapterFault fault) {
  const auto found = std::find(kAdapterFaults.begin(), kAdapterFaults.end(), fault);
  return static_cast<std::size_t>(found - kAdapterFaults.begin());
}

Result<AdapterMatrix> run_place(const Tools& tools, const mutants::Place& place, std::size_t number,
                                const AdapterMatrixOptions& options) {
  AdapterMatrix out;
  const std::string where = place.sample.name + " " + place.layout;
  BV_TRY(layout, mutants::padded_layout(place.layout));
  BV_TRY(prepared, prepare(tools, World{place.sample.name, {}, layout}));
  for (int i = 0; i < options.adapters; ++i) {
    const auto folder =
        options.folder.empty() ? options.folder : options.folder / fmt::format("{}_{}", number, i);
    auto tried = try_adapter(tools, prepared, options.seed + static_cast<std::uint64_t>(i), folder);
    if (!tried) {
      Error error = tried.error();
      return error.where.empty() ? std::move(error).at(where) : error;
    }
    const AdapterTrial& trial = *tried;
    if (!trial.said.empty()) {
      return fail(Code::MutantSurvived, "a right adapter is refuted: " + trial.said)
          .at(where)
          .advise("correct the claim or the oracle before planting faults");
    }
    for (const auto& [fault, seen] : trial.seen) {
      count(seen, where, out.at(row_at(fault)));
    }
    for (const AdapterFault fault : trial.unchanged) {
      ++out.at(row_at(fault)).mutants;
      ++out.at(row_at(fault)).unchanged;
    }
  }
  return out;
}

void merge(const AdapterMatrix& more, AdapterMatrix& into) {
  for (std::size_t i = 0; i < into.size(); ++i) {
    const AdapterRow& from = more.at(i);
    AdapterRow& to = into.at(i);
    to.mutants += from.mutants;
    to.unchanged += from.unchanged;
    to.killed += from.killed;
    for (std::size_t c = 0; c < to.by_claim.size(); ++c) {
      to.by_claim.at(c) += from.by_claim.at(c);
    }
    for (std::size_t l = 0; l < to.by_level.size(); ++l) {
      to.by_level.at(l) += from.by_level.at(l);
    }
    to.first_survivor = to.first_survivor.empty() ? from.first_survivor : to.first_survivor;
  }
}

Verdict verdict_of(AdapterFault fault, const AdapterRow& row) {
  Verdict out;
  out.claim = "adapter-mutants";
  out.rule = name(fault);
  std::replace(out.rule.begin(), out.rule.end(), ' ', '_');
  out.kind = "mutation";
  out.megatron = name(fault);
  out.outcome = Outcome::Held;
  out.evidence.bytes = true;
  out.cases = row.mutants;
  out.replay = "bridge-verify mutate";
  if (row.survived() > 0) {
    out.refuted_cases = row.survived();
    out.outcome = Outcome::Refuted;
    out.evidence = {};
    out.code = Code::MutantSurvived;
    out.title = fmt::format("an adapter of {}: {}, and nothing is refuted", row.first_survivor,
                            name(fault));
    out.found = "no finding";
    out.wanted = "a refuted claim";
    out.help = "add the case to the tests of the claim that ought to see it";
  }
  return out;
}

MutationRow mutation_row(AdapterFault fault, const AdapterRow& row, std::size_t claims_before,
                         std::size_t claims_behind) {
  MutationRow out;
  out.op = fmt::format("adapter: {}", name(fault));
  out.mutants = row.mutants;
  out.killed = row.killed;
  out.equivalent = row.unchanged;
  out.survived = row.survived();
  out.by_claim.assign(claims_before, 0);
  out.by_claim.insert(out.by_claim.end(), row.by_claim.begin(), row.by_claim.end());
  out.by_claim.resize(out.by_claim.size() + claims_behind, 0);
  out.by_level.assign(row.by_level.begin(), row.by_level.end());
  return out;
}

}  // namespace

Result<AdapterMatrix> run_adapter_matrix(const Tools& tools,
                                         const std::vector<mutants::Place>& places,
                                         const AdapterMatrixOptions& options) {
  std::vector<AdapterMatrix> parts(places.size());
  BV_CHECK(for_each_parallel(places.size(), options.jobs, [&](std::size_t i) -> Status {
    if (options.stopped && options.stopped()) {
      return fail(Code::Stopped, "stopped before every fault of an adapter was judged")
          .advise("run it again");
    }
    BV_TRY(part, run_place(tools, places[i], i, options));
    parts[i] = std::move(part);
    return Done{};
  }));
  AdapterMatrix out;
  for (const AdapterMatrix& part : parts) {
    merge(part, out);
  }
  return out;
}

std::vector<Verdict> verdicts_of(const AdapterMatrix& matrix) {
  std::vector<Verdict> out;
  for (std::size_t i = 0; i < matrix.size(); ++i) {
    if (matrix.at(i).mutants > 0) {
      out.push_back(verdict_of(kAdapterFaults.at(i), matrix.at(i)));
    }
  }
  return out;
}

void add_rows(const AdapterMatrix& matrix, Mutation& mutation) {
  // The table expects the forward claim, where it was asked, in the last column.
  const bool forward = !mutation.claims.empty() && mutation.claims.back().first == "forward";
  const std::size_t behind = forward ? 1 : 0;
  const std::size_t before = mutation.claims.size() - behind;
  for (MutationRow& row : mutation.rows) {
    row.by_claim.insert(row.by_claim.begin() + static_cast<std::ptrdiff_t>(before),
                        kAdapterRows.size(), 0);
  }
  auto at = mutation.claims.begin() + static_cast<std::ptrdiff_t>(before);
  for (const mutants::ClaimRow& row : kAdapterRows) {
    at = std::next(mutation.claims.emplace(at, row.claim, row.level));
  }
  Mutation::Reason same{"no byte of the adapter differs", 0, 0};
  for (std::size_t i = 0; i < matrix.size(); ++i) {
    const AdapterRow& row = matrix.at(i);
    if (row.mutants == 0) {
      continue;
    }
    same.mutants += row.unchanged;
    mutation.rows.push_back(mutation_row(kAdapterFaults.at(i), row, before, behind));
    if (row.survived() > 0) {
      mutation.survivors.push_back(
          fmt::format("adapter: {} on {}", name(kAdapterFaults.at(i)), row.first_survivor));
    }
  }
  if (same.mutants > 0) {
    mutation.reasons.push_back(std::move(same));
  }
}

}  // namespace bv::fuzz
