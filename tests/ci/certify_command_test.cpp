#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/io/gzip.hpp"
#include "core/io/sha256.hpp"
#include "core/io/tar.hpp"
#include "tests/ci/run_command.hpp"
#include "tests/support/files.hpp"
#include "tests/support/golden_text.hpp"

namespace bv::cli {
namespace {

using support::file_text;
using testing::Ended;
using testing::run_line;
using testing::TempFolder;
using testing::write_text;

std::string stored(const TempFolder& folder, std::vector<std::string> more) {
  std::vector<std::string> words = {"roundtrip", "--model", "fixture:llama", "--json"};
  words.insert(words.end(), more.begin(), more.end());
  const std::string path = (folder.path() / "verdicts.json").string();
  write_text(path, run_line(words).out);
  return path;
}

TEST(Certify, AWholeGreenRunBecomesABundleThatVerifies) {
  const TempFolder folder;
  const std::string source = stored(folder, {"--layouts", "all"});
  const std::string bundle = (folder.path() / "m.bvcert.tar.gz").string();
  const Ended made = run_line({"certify", source, "--out", bundle});
  ASSERT_EQ(made.code, 0) << made.err;
  const std::string first = file_text(bundle);
  EXPECT_EQ(run_line({"certify", source, "--out", bundle}).code, 0);
  EXPECT_EQ(file_text(bundle), first);
  const Ended checked = run_line({"certify", "verify", bundle});
  EXPECT_EQ(checked.code, 0) << checked.err;
  EXPECT_NE(checked.out.find("  result: PASS\n"), std::string::npos);
  EXPECT_NE(checked.out.find("  mismatches: 0\n"), std::string::npos);
}

TEST(Certify, RefusesEveryRunThatWasWeakened) {
  const TempFolder folder;
  for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{
           {},
           {"--layouts", "all", "--max-ranks", "4"},
           {"--layouts", "all", "--fail-on", "refuted"},
           {"--layouts", "all", "--skip", "bytes"},
           {"--tp", "2"},
           {"--layouts", "all", "--world-size", "2"},
           {"--layouts", "all", "--drop-mtp"},
           {"--layouts", "all", "--dtype", "float32"},
           {"--layouts", "all", "--match", "*q_proj*", "--allow-partial"}}) {
    const Ended done =
        run_line({"certify", stored(folder, words), "--out", (folder.path() / "b").string()});
    EXPECT_EQ(done.code, 2) << (words.empty() ? "" : words.back());
    EXPECT_NE(done.err.find("cannot be certified"), std::string::npos) << done.err;
    EXPECT_FALSE(std::filesystem::exists(folder.path() / "b"));
  }
  EXPECT_EQ(run_line({"certify"}).code, 2);
  EXPECT_EQ(run_line({"certify", "verify"}).code, 2);
}

TEST(Certify, AChangedBundleIsRefusedAlsoWithNewSums) {
  const TempFolder folder;
  const std::string bundle = (folder.path() / "m").string();
  ASSERT_EQ(run_line({"certify", stored(folder, {"--layouts", "all"}), "--out", bundle}).code, 0);
  const auto bytes = io::gunzip(file_text(bundle), 1U << 30, "m");
  ASSERT_TRUE(bytes.has_value());
  const auto files = io::untar(*bytes, "m");
  ASSERT_TRUE(files.has_value());
  const auto code = [&](const std::map<std::string, std::string>& changed) {
    write_text(bundle, *io::gzip(io::tar(changed)));
    return run_line({"certify", "verify", bundle}).code;
  };
  EXPECT_EQ(code(*files), 0);
  for (const auto& [name, contents] : *files) {
    auto changed = *files;
    changed[name] += " ";
    EXPECT_EQ(code(changed), 5) << name;
    changed.erase(name);
    EXPECT_EQ(code(changed), 5) << name;
  }
  auto lying = *files;  // a better card, with sums that fit
  lying["card.yaml"] += "  reviewed: true\n";
  lying.erase("SHA256SUMS");
  std::string sums;
  for (const auto& [name, contents] : lying) {
    sums += io::sha256(contents) + "  " + name + "\n";
  }
  lying["SHA256SUMS"] = sums;
  EXPECT_EQ(code(lying), 5);
  write_text(bundle, "no gzip");
  EXPECT_EQ(run_line({"certify", "verify", bundle}).code, 5);
}

}  // namespace
}  // namespace bv::cli
