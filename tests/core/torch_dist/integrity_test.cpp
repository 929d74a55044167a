#include "core/torch_dist/integrity.hpp"

#include <gtest/gtest.h>

#include "core/base/text.hpp"
#include "core/io/sha256.hpp"
#include "tests/core/io/scratch.hpp"
#include "tests/core/torch_dist/golden_copy.hpp"

namespace bv::torch_dist {
namespace {

namespace fs = std::filesystem;

class Hashes : public ::testing::Test {
 protected:
  Hashes() {
    spill(folder_.path() / "a.distcp", "abc");
    spill(folder_.path() / "b.distcp", "");
    spill(folder_.path() / "metadata.json", std::string(3'000'000, 'x'));  // more than one piece
  }
  /// As Megatron-Core writes it, with whatever `change` does to it.
  void write(const std::function<void(nlohmann::json&)>& change = [](nlohmann::json&) {}) const {
    nlohmann::json files;
    for (const char* name : {"a.distcp", "b.distcp", "metadata.json"}) {
      files[name] = io::sha256(slurp(folder_.path() / name));
    }
    nlohmann::json all = {{"algorithm", "sha256"}, {"files", files}};
    change(all);
    spill(folder_.path() / kIntegrityName, all.dump(2));
  }
  [[nodiscard]] Result<Integrity> check() const {
    return check_integrity(folder_.path(),
                           {folder_.path() / "a.distcp", folder_.path() / "b.distcp"}, 2);
  }
  void expect_error(Code code, const std::string& text) const {
    const auto found = check();
    ASSERT_FALSE(found.has_value()) << text;
    EXPECT_EQ(found.error().code, code) << found.error().message;
    EXPECT_NE(found.error().message.find(text), std::string::npos) << found.error().message;
    EXPECT_FALSE(found.error().help.empty());
  }
  io::testing::ScratchFolder folder_;
};

TEST_F(Hashes, OfFilesThatDidNotChangeAreEqual) {
  EXPECT_EQ(check()->compared, 0);
  write();
  const auto found = check();
  ASSERT_TRUE(found.has_value()) << found.error().message;
  EXPECT_EQ(found->compared, 3);
  EXPECT_TRUE(found->changed.empty());
  EXPECT_TRUE(found->notes.empty()) << join(found->notes, "\n");
  write([](nlohmann::json& all) { all.erase("algorithm"); });  // as Megatron reads it
  EXPECT_EQ(check()->compared, 3);
}

TEST_F(Hashes, OfAChangedFileNameIt) {
  write();
  spill(folder_.path() / "a.distcp", "abd");
  const auto found = check();
  ASSERT_TRUE(found.has_value()) << found.error().message;
  ASSERT_EQ(found->changed.size(), 1U);
  EXPECT_EQ(found->changed[0].name, "a.distcp");
  EXPECT_EQ(found->changed[0].wanted,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(found->changed[0].found, io::sha256("abd"));
}

TEST_F(Hashes, OfOtherFilesAreNotes) {
  write([](nlohmann::json& all) {
    all["files"].erase("b.distcp");
    all["files"]["optimizer.distcp"] = std::string(64, '0');
  });
  const auto found = check();
  ASSERT_TRUE(found.has_value()) << found.error().message;
  EXPECT_TRUE(found->changed.empty());
  EXPECT_EQ(found->compared, 2);
  const std::string notes = join(found->notes, "\n");
  EXPECT_NE(notes.find("the hash of \"optimizer.distcp\", which is not there"), std::string::npos)
      << notes;
  EXPECT_NE(notes.find("no hash of \"b.distcp\": it is not compared"), std::string::npos) << notes;
}

TEST_F(Hashes, OfAnUnknownAlgorithmAreANote) {
  write([](nlohmann::json& all) {
    all["algorithm"] = "blake3";
    all["files"]["a.distcp"] = "anything";
  });
  const auto found = check();
  ASSERT_TRUE(found.has_value()) << found.error().message;
  EXPECT_EQ(found->compared, 0);
  EXPECT_NE(join(found->notes, "\n").find("\"blake3\" is not sha256"), std::string::npos);
}

TEST_F(Hashes, ThatCannotBeReadAreNeverTakenAsAbsent) {
  const auto text_is = [&](const std::string& text) {
    spill(folder_.path() / kIntegrityName, text);
  };
  for (const char* text :
       {"", "{", "[]", "1", "{\"files\": []}", "{}", "{\"algorithm\": \"sha256\"}",
        "{\"algorithm\": 1, \"files\": {}}", "{\"files\": {\"a.distcp\": 1}}",
        "{\"files\": {\"a.distcp\": \"ABC\"}}"}) {
    text_is(text);
    expect_error(Code::DistMetadataInvalid, "integrity.json cannot be used");
  }
  text_is(std::string(200'000, '['));
  expect_error(Code::DistMetadataInvalid, "integrity.json cannot be used");
  for (const char* name : {"../a.distcp", "/etc/passwd", ""}) {
    write([&](nlohmann::json& all) { all["files"][name] = std::string(64, '0'); });
    expect_error(Code::UnsafePath, "outside the folder");
  }
  fs::remove(folder_.path() / kIntegrityName);
  fs::create_symlink("nothing", folder_.path() / kIntegrityName);
  expect_error(Code::ReadFailed, kIntegrityName);
  fs::remove(folder_.path() / kIntegrityName);
  fs::create_directory(folder_.path() / kIntegrityName);
  expect_error(Code::ReadFailed, kIntegrityName);
}

}  // namespace
}  // namespace bv::torch_dist
