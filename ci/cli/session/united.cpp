#include "ci/cli/session/united.hpp"

#include <algorithm>
#include <vector>

#include "core/comm/shares.hpp"
#include "core/verdict/unite.hpp"
#include "core/verdict/verdicts_json.hpp"
#include "properties/claims/catalogue.hpp"

namespace bv::cli {
namespace {

/// The oracles are loaded where the report is made.
template <class Row>
bool is_of_the_host(const Row& row) {
  const claims::Claim* const claim = claims::find_claim(row.claim);
  return claim != nullptr && claim->needs_forward;
}

}  // namespace

Status unite_in(comm::Link* world, Run& run) {
  if (world == nullptr) {
    return Done{};
  }
  Run mine = findings(run);
  std::erase_if(mine.verdicts, is_of_the_host<Verdict>);
  std::erase_if(mine.claims, is_of_the_host<ClaimSummary>);
  const std::string text = verdicts_json(mine);
  BV_TRY(all, comm::exchanged(*world, {&text, 1}, "what each process found"));
  std::vector<Run> found;
  std::vector<std::string> names;
  for (std::size_t rank = 0; rank < all.size(); ++rank) {
    const std::string name = world->name_of(static_cast<int>(rank));
    auto read = read_verdicts_json(all[rank].empty() ? "" : all[rank].front(), name);
    if (!read) {
      return fail(Code::RankDiverged, name + " does not say what it found")
          .fact(read.error().message)
          .advise("install one version on all hosts");
    }
    found.push_back(std::move(*read));
    names.push_back(name);
  }
  unite(run, found, names);
  return Done{};
}

}  // namespace bv::cli
