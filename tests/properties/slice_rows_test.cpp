// What the oracle says a rank of a server holds, held against what slicing gives it, for every
// linear layer of every golden; and the claim sees a layer that is cut as one block where it is
// several.

#include "properties/claims/slice_rows.hpp"

#include "tests/core/lora/served.hpp"

namespace bv::lora {
namespace {

std::set<std::string> matrices(const checkpoint::HfModel& base) {
  std::set<std::string> out;
  for (const model::Mapping& mapping : base.model.mappings) {
    for (const std::string& name : mapping.hf) {
      const auto header = base.headers.find(name);
      if (header != base.headers.end() && header->second.shape.size() == 2 &&
          name.ends_with("proj.weight")) {
        out.insert(name);
      }
    }
  }
  return out;
}

struct Counts {
  std::int64_t rows = 0, columns = 0, silent = 0;
};

void compare(const AdapterPair& pair, const ServedModule& module, std::size_t member,
             claims::SliceRows& oracle, Counts& counts) {
  const auto said = oracle.of(pair);
  if (!said || module.layer.kind == LayerKind::Replicated) {
    ++counts.silent;
    return;
  }
  const bool columns = module.layer.kind == LayerKind::Row;
  for (std::size_t rank = 0; rank < module.ranks.size(); ++rank) {
    std::set<std::int64_t> held;
    for (const SliceShard& shard : module.ranks[rank]) {
      const Interval& has = columns ? shard.a_from_columns : shard.b_from_rows;
      for (std::int64_t i = has.begin; shard.member == member && i < has.end; ++i) {
        held.insert(i);
      }
    }
    const auto& wanted = (columns ? said->columns : said->rows)[rank];
    EXPECT_EQ(held, std::set<std::int64_t>(wanted.begin(), wanted.end()))
        << pair.base << " on rank " << rank;
  }
  ++(columns ? counts.columns : counts.rows);
}

TEST(SliceRows, TheOracleAgreesWithEverySlice) {
  Counts counts;
  for (const auto& folder : std::filesystem::directory_iterator(golden::kGolden / "hf")) {
    if (!folder.is_directory()) {
      continue;
    }
    SCOPED_TRACE(folder.path().filename());
    const auto base = golden::open_base(folder.path());
    const auto adapter = golden::adapter_on(matrices(base), base);
    if (!adapter || !adapter->faults.empty() || adapter->pairs.empty()) {
      continue;  // a class of other modules than the files
    }
    const auto served = serve_adapter(base, golden::kinds_of_build(), *adapter, {2, false, 1});
    if (!served) {
      continue;  // two ranks are not legal for it
    }
    claims::SliceRows oracle({&*adapter, &base, &golden::kinds_of_build(), {}}, 2);
    for (const ServedModule& module : *served) {
      for (std::size_t j = 0; j < module.members.size(); ++j) {
        if (module.members[j] != nullptr) {
          compare(*module.members[j], module, j, oracle, counts);
        }
      }
    }
  }
  EXPECT_GT(counts.rows, 500);
  EXPECT_GT(counts.columns, 200);
  std::cout << counts.rows << " by rows, " << counts.columns << " by columns, " << counts.silent
            << " without a statement\n";
}

}  // namespace
}  // namespace bv::lora
