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

/// One certificate, one model: other weights or another config under the same headers are not it.
TEST(Certify, SpeaksOfTheWeightsAndTheConfigThatWereRead) {
  const TempFolder folder;
  const std::string model = (folder.path() / "m").string();
  const std::string bundle = (folder.path() / "b").string();
  ASSERT_EQ(run_line({"fixture", "make", "llama", "--out", model}).code, 0);
  write_text((folder.path() / "v.json").string(),
             run_line({"roundtrip", "--model", model, "--layouts", "all", "--json"}).out);
  const std::string source = (folder.path() / "v.json").string();
  ASSERT_EQ(run_line({"certify", source, "--out", bundle}).code, 0);
  const auto verify = [&] { return run_line({"certify", "verify", bundle, "--model", model}); };
  EXPECT_EQ(verify().code, 0) << verify().err;
  EXPECT_NE(verify().out.find("holds those weights"), std::string::npos) << verify().out;
  const Ended alone = run_line({"certify", "verify", bundle});
  EXPECT_EQ(alone.code, 0) << alone.err;
  EXPECT_NE(alone.out.find("no model was compared"), std::string::npos) << alone.out;

  const std::string weights = model + "/model-00002-of-00002.safetensors";
  const std::string right = file_text(weights);
  std::string other = right;
  other.back() = static_cast<char>(other.back() ^ 1);
  write_text(weights, other);
  EXPECT_EQ(verify().code, 5) << verify().out;
  EXPECT_NE(verify().err.find("other weights"), std::string::npos) << verify().err;
  write_text(weights, right);
  EXPECT_EQ(verify().code, 0);
  const std::string config = file_text(model + "/config.json");
  write_text(model + "/config.json", config + " ");
  EXPECT_EQ(verify().code, 5) << verify().out;
  EXPECT_NE(verify().err.find("other config.json"), std::string::npos) << verify().err;
  EXPECT_EQ(run_line({"certify", "verify", bundle, "--model", "fixture:qwen3"}).code, 5);
  EXPECT_EQ(run_line({"certify", source, "--out", bundle, "--model", model}).code, 2);

  for (const char* fact : {"contents", "config"}) {  // a run that does not say it
    auto json = nlohmann::ordered_json::parse(file_text(source));
    auto& facts = json.at("detected");
    for (auto at = facts.begin(); at != facts.end(); ++at) {
      if (at->at("what") == fact) {
        facts.erase(at);
        break;
      }
    }
    write_text((folder.path() / "w.json").string(), json.dump(2));
    const Ended refused =
        run_line({"certify", (folder.path() / "w.json").string(), "--out", bundle + fact});
    EXPECT_EQ(refused.code, 2) << refused.out;
    EXPECT_NE(refused.err.find("of which weights"), std::string::npos) << refused.err;
  }
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
