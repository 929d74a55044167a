// What the way back says: the line that repeats it, and the files that it leaves behind.

#include "tests/e2e/process.hpp"

namespace bv::e2e {
namespace {

namespace fs = std::filesystem;

class WayBack : public testing::Test {
 protected:
  void SetUp() override {
    const Ended there = run({"convert", "--to", "megatron", "--model", golden_hf("llama").string(),
                             "--tp", "2", "--make-vocab-size-divisible-by", "4", "--out", shards});
    ASSERT_EQ(there.code, 0) << there.all();
  }
  Ended back(const std::string& out) const {
    return run({"convert", "--to", "hf", "--model", shards, "--out", out});
  }

  TempFolder folder;
  std::string shards = folder / "s";
};

TEST_F(WayBack, ThatIsRefutedPrintsALineThatRepeatsItWithItsPlace) {
  fs::copy_file(shards + "/pp0_tp0_ep0_etp0.safetensors", shards + "/pp0_tp1_ep0_etp0.safetensors",
                fs::copy_options::overwrite_existing);
  const Ended refuted = back(folder / "b");
  EXPECT_EQ(refuted.code, 1) << refuted.all();
  EXPECT_NE(refuted.out.find("bridge-verify convert --to hf --model " + shards + " --out " +
                             (folder / "b") + "\n"),
            std::string::npos)
      << refuted.out;
}

TEST_F(WayBack, NamesAFileThatTheManifestDoesNotName) {
  EXPECT_EQ(back(folder / "b").out.find("left behind"), std::string::npos);
  write_text(shards + "/hf/added.json", "{}");
  const Ended ended = back(folder / "c");
  EXPECT_EQ(ended.code, 0) << ended.all();
  EXPECT_NE(ended.out.find("not in manifest.json and left behind in hf: \"added.json\""),
            std::string::npos)
      << ended.out;
  EXPECT_FALSE(fs::exists(folder / "c/added.json"));
}

/// Gemma 4: keys that are values. The cut of TP 4 parts the one head that is both.
TEST(WayBackOfTwoCopies, GivesEveryElementOnceWhereverACutFalls) {
  const TempFolder folder;
  const std::string model = folder / "m";
  ASSERT_EQ(run({"fixture", "make", "gemma4_text/experts", "--out", model, "--set",
                 "num_attention_heads=4", "--set", "num_key_value_heads=2", "--set",
                 "num_global_key_value_heads=1", "--set", "global_head_dim=16"})
                .code,
            0);
  for (const char* tp : {"1", "2", "4"}) {
    const std::string shards = folder / (std::string("s") + tp);
    const std::string back = folder / (std::string("b") + tp);
    const Ended there =
        run({"convert", "--to", "megatron", "--model", model, "--out", shards, "--tp", tp});
    EXPECT_EQ(there.code, 0) << there.all();
    const Ended ended = run({"convert", "--to", "hf", "--model", shards, "--out", back});
    EXPECT_EQ(ended.code, 0) << ended.all();
    EXPECT_EQ(read_tensors(back), read_tensors(model));
  }
}

}  // namespace
}  // namespace bv::e2e
