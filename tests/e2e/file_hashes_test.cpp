// integrity.json of a torch_dist checkpoint: the hashes that Megatron-Core wrote of its files.

#include "core/io/sha256.hpp"
#include "tests/core/torch_dist/golden_copy.hpp"
#include "tests/e2e/process.hpp"

namespace bv::e2e {
namespace {

namespace fs = std::filesystem;
using torch_dist::GoldenCopy;

class FileHashes : public testing::Test {
 protected:
  FileHashes() : copy("qwen3", folder.path()) {}
  /// Over all files of the iteration, as save_integrity_manifest of Megatron-Core does it.
  void save() const {
    nlohmann::json files;
    for (const auto& entry : fs::directory_iterator(copy.iteration)) {
      files[entry.path().filename().string()] = io::sha256(file_text(entry.path()));
    }
    write_text(copy.iteration / "integrity.json",
               nlohmann::json({{"algorithm", "sha256"}, {"files", files}}).dump(2));
  }
  [[nodiscard]] Ended check() const {
    return run({"check", "--model", golden_hf("qwen3").string(), "--megatron", copy.root.string()});
  }
  [[nodiscard]] Ended back() const {
    return run({"convert", "--to", "hf", "--model", copy.root.string(), "--like",
                golden_hf("qwen3").string(), "--out", folder / "h"});
  }
  TempFolder folder;
  GoldenCopy copy;
};

TEST_F(FileHashes, ThatAreRightAreAClaimThatHolds) {
  const Ended without = check();
  ASSERT_EQ(without.code, 0) << without.all();
  EXPECT_EQ(without.all().find("integrity.json"), std::string::npos) << without.all();
  save();
  const Ended ended = check();
  EXPECT_EQ(ended.code, 0) << ended.all();
  EXPECT_NE(ended.flat().find("every file has the hash that integrity.json states"),
            std::string::npos)
      << ended.all();
  EXPECT_EQ(back().code, 0);
}

/// A file that no tensor is read from: the weights are right, the checkpoint is not as it was.
TEST_F(FileHashes, ThatAreWrongAreRefutedByTheNameOfTheFile) {
  save();
  write_text(copy.iteration / "metadata.json", file_text(copy.iteration / "metadata.json") + " ");
  for (const Ended& ended : {check(), back()}) {
    EXPECT_EQ(ended.code, 1) << ended.all();
    EXPECT_NE(ended.flat().find("\"metadata.json\" changed since the checkpoint was saved"),
              std::string::npos)
        << ended.all();
    EXPECT_NE(ended.all().find("BV3008"), std::string::npos) << ended.all();
  }
  EXPECT_FALSE(fs::exists(folder / "h"));
}

TEST_F(FileHashes, OfAFlippedBitNameTheFile) {
  save();
  const std::string key = "decoder.final_layernorm.weight";
  copy.edit(key, 0, [](std::string& data) { data[0] = static_cast<char>(data[0] ^ 1); });
  const std::string file = copy.chunk(key, 0).at("file").get<std::string>();
  for (const Ended& ended : {check(), back()}) {
    EXPECT_EQ(ended.code, 1) << ended.all();
    EXPECT_NE(ended.flat().find(file + "\" changed since"), std::string::npos) << ended.all();
  }
}

TEST_F(FileHashes, OfAnUnknownAlgorithmAreANote) {
  write_text(copy.iteration / "integrity.json", R"({"algorithm": "blake3", "files": {"x": "y"}})");
  const Ended ended = check();
  EXPECT_EQ(ended.code, 0) << ended.all();
  EXPECT_NE(ended.flat().find("integrity.json is not compared: its algorithm \"blake3\""),
            std::string::npos)
      << ended.all();
}

}  // namespace
}  // namespace bv::e2e
