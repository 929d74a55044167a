// The keys of a torch_dist checkpoint are those that sharded_state_dict of the real Megatron-Core
// gives to the same model (fixtures/golden/torch_dist_keys, made by the released Megatron-Bridge).

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "core/checkpoint/global_keys.hpp"
#include "core/checkpoint/open_model.hpp"
#include "core/plan/plan.hpp"
#include "fixtures/maker/maker.hpp"
#include "tests/support/files.hpp"
#include "tests/support/library.hpp"

namespace bv::convert {
namespace {

namespace fs = std::filesystem;

fs::path real_keys() {
  return support::golden("torch_dist_keys");
}

std::vector<std::string> models() {
  std::vector<std::string> out;
  for (const auto& entry : fs::directory_iterator(real_keys())) {
    if (entry.path().extension() == ".json") {
      out.push_back(entry.path().stem().string());
    }
  }
  std::sort(out.begin(), out.end());
  return out;
}

/// "M._extra_state/shard_2.0_4.1" of "M": [4, 1].
void add_states(const std::string& module, const Shape& sizes, std::set<std::string>& out) {
  std::int64_t all = 1;
  for (const std::int64_t size : sizes) {
    all *= size;
  }
  for (std::int64_t i = 0; i < all; ++i) {
    std::vector<std::int64_t> at(sizes.size());
    std::int64_t left = i;
    for (std::size_t k = sizes.size(); k-- > 0; left /= sizes[k]) {
      at[k] = left % sizes[k];
    }
    out.insert(sizes.empty() ? module + "._extra_state/shard_0_1"
                             : fmt::format("{}._extra_state/shard_{}_{}", module,
                                           fmt::join(at, "."), fmt::join(sizes, ".")));
  }
}

class RealKeys : public testing::TestWithParam<std::string> {};

TEST_P(RealKeys, AreThoseThatAreWritten) {
  std::string name = GetParam();
  std::replace(name.begin(), name.end(), '.', '/');
  const auto real = support::read_json(real_keys() / (GetParam() + ".json"));
  const auto made = fixtures::plan_checkpoint(fixtures::builtin_fixture(name).value(),
                                              support::families(), support::catalogue());
  ASSERT_TRUE(made) << made.error().message;
  const support::TempFolder folder;
  ASSERT_TRUE(fixtures::write_checkpoint(*made, 0, folder.path()));
  const auto hf = checkpoint::open_hf(folder.path(), support::families(), {});
  ASSERT_TRUE(hf) << hf.error().message;
  parallel::Layout layout;
  layout.vocab_divisor = 1;
  const auto plan = plan::Plan::make(hf->model, support::catalogue(), layout);
  ASSERT_TRUE(plan) << plan.error().message;
  const auto keys = checkpoint::global_keys(*plan);
  ASSERT_TRUE(keys) << keys.error().message;
  const auto wanted = real.at("keys").get<std::map<std::string, Shape>>();
  EXPECT_EQ((std::map<std::string, Shape>(keys->shapes.begin(), keys->shapes.end())), wanted);
  // A strict load fails without one of them; one too many is not looked at.
  const std::set<std::string> written(keys->extra_states.begin(), keys->extra_states.end());
  std::set<std::string> states;
  for (const auto& [module, sizes] : real.at("extra_states").items()) {
    add_states(module, sizes.get<Shape>(), states);
  }
  EXPECT_GT(states.size(), 10U);
  for (const std::string& state : states) {
    EXPECT_TRUE(written.contains(state)) << state;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, RealKeys, testing::ValuesIn(models()), [](const auto& info) {
  std::string out = info.param;
  std::replace(out.begin(), out.end(), '.', '_');
  return out;
});

}  // namespace
}  // namespace bv::convert
