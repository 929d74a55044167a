// Legacy Megatron checkpoints (mp_rank_XX/model_optim_rng.pt), made of shards that convert wrote.

#include <fmt/format.h>

#include "core/base/arith.hpp"
#include "tests/core/pickle/small_archive.hpp"
#include "tests/e2e/process.hpp"
#include "tests/support/checkpoint_edit.hpp"

namespace bv::e2e {
namespace {

namespace fs = std::filesystem;
using pickle::pickled;

/// The file that torch.save would have written for one rank.
std::string megatron_file(const std::map<std::string, EditedTensor>& tensors) {
  std::string weights = "ccollections\nOrderedDict\n)R(";
  pickle::SmallArchive archive;
  archive.records.emplace_back();
  int storage = 0;
  for (const auto& [name, tensor] : tensors) {
    const std::string key = std::to_string(storage++);
    const std::string type = tensor.dtype == DType::BF16 ? "BFloat16Storage" : "FloatStorage";
    Shape strides(tensor.shape.size(), 1);
    for (std::size_t i = strides.size(); i-- > 1;) {
      strides[i - 1] = strides[i] * tensor.shape[i];
    }
    weights += pickled(name) + "ctorch._utils\n_rebuild_tensor_v2\n((" + pickled("storage") +
               "ctorch\n" + type + "\n" + pickled(key) + pickled("cpu") +
               pickled(element_count(tensor.shape).value()) + "tQ" + pickled(0) +
               pickle::pickled_tuple(tensor.shape) + pickle::pickled_tuple(strides) + "\x89" +
               "ccollections\nOrderedDict\n)RtR";
    archive.records.push_back(
        {"model_optim_rng/data/" + key,
         {reinterpret_cast<const char*>(tensor.bytes.data()), tensor.bytes.size()}});
  }
  const std::string arguments =
      "cargparse\nNamespace\n)\x81}" + pickled("pipeline_model_parallel_size") + pickled(2) + "sb";
  archive.records[0] = {"model_optim_rng/data.pkl", "\x80\x02}(" + pickled("args") + arguments +
                                                        pickled("model") + weights + "uu."};
  archive.records.push_back({"model_optim_rng/version", "3\n"});
  return archive.bytes();
}

/// qwen3 on TP 2 and PP 2.
class Legacy : public ::testing::Test {
 protected:
  void SetUp() override {
    const Ended ended =
        run({"convert", "--to", "megatron", "--model", golden_hf("qwen3").string(), "--tp", "2",
             "--pp", "2", "--make-vocab-size-divisible-by", "4", "--out", folder / "shards"});
    ASSERT_EQ(ended.code, 0) << ended.all();
    for (int pp = 0; pp < 2; ++pp) {
      for (int tp = 0; tp < 2; ++tp) {
        const std::string shard = fmt::format("shards/pp{}_tp{}_ep0_etp0.safetensors", pp, tp);
        const fs::path file = file_of(tp, pp);
        fs::create_directories(file.parent_path());
        write_text(file, megatron_file(read_tensors(folder / shard)));
      }
    }
    write_text(folder.path() / "legacy/latest_checkpointed_iteration.txt", "5");
  }
  [[nodiscard]] fs::path file_of(int tp, int pp) const {
    return folder.path() /
           fmt::format("legacy/iter_0000005/mp_rank_{:02}_{:03}/model_optim_rng.pt", tp, pp);
  }
  [[nodiscard]] Ended check() const {
    return run({"check", "--model", golden_hf("qwen3").string(), "--megatron", folder / "legacy"});
  }
  TempFolder folder;
};

TEST_F(Legacy, EqualsItsModel) {
  const Ended ended = check();
  EXPECT_EQ(ended.code, 0) << ended.all();
  EXPECT_EQ(ended.word(), "PASS") << ended.all();
}

TEST_F(Legacy, ExchangedRanksAreRefuted) {
  fs::rename(file_of(0, 1), folder.path() / "x");
  fs::rename(file_of(1, 1), file_of(0, 1));
  fs::rename(folder.path() / "x", file_of(1, 1));
  const Ended ended = check();
  EXPECT_EQ(ended.code, 1) << ended.all();
  EXPECT_EQ(ended.word(), "FAIL") << ended.all();
}

TEST_F(Legacy, AMissingRankIsRefused) {
  fs::remove(file_of(1, 1));
  const Ended ended = check();
  EXPECT_NE(ended.code, 0);
  EXPECT_NE(ended.flat().find("are not those of one layout"), std::string::npos) << ended.all();
}

}  // namespace
}  // namespace bv::e2e
