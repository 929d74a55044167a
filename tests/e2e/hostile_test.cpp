// Inputs made to confuse or exhaust a reader, each under a limit of memory and of open files: a
// clear error, never a crash, never a hang.

#include <fmt/format.h>

#include <cstring>

#include "tests/e2e/process.hpp"

namespace bv::e2e {
namespace {

namespace fs = std::filesystem;

void expect_refused(const Ended& ended, const std::string& code,
                    const std::vector<std::string>& texts = {}) {
  EXPECT_EQ(ended.code, 5) << ended.all();
  EXPECT_NE(ended.all().find("error[" + code + "]"), std::string::npos) << code << "\n"
                                                                        << ended.all();
  EXPECT_NE(ended.all().find("= help"), std::string::npos) << ended.all();
  for (const std::string& text : texts) {
    EXPECT_NE(ended.flat().find(text), std::string::npos) << text << "\n" << ended.all();
  }
  EXPECT_LT(ended.all().size(), 20'000U) << "a message is read by people";
}

/// A copy that every command reads.
struct HostileCopy : ModelCopy {
  using ModelCopy::ModelCopy;
  /// Every command that reads a model, with words that make it do so.
  [[nodiscard]] std::vector<std::vector<std::string>> commands() const {
    return {{"check", "--model", folder.string(), "--skip", "placement"},
            {"roundtrip", "--model", folder.string(), "--skip", "placement"},
            {"convert", "--to", "megatron", "--model", folder.string(), "--out", temp / "out"},
            {"inspect", "--model", folder.string()},
            {"layout", "--model", folder.string()},
            {"trace", "lm_head.weight", "--model", folder.string()},
            {"diff", golden_hf("llama").string(), folder.string()},
            {"rules", "lint", fixture("rules/qwen3.rules.json"), "--model", folder.string()}};
  }
  /// Each of them refuses with this code, except those named.
  void expect_all_refuse(const std::string& code, const std::vector<std::string>& texts,
                         const std::vector<std::string>& but = {}) const {
    for (const auto& words : commands()) {
      if (std::find(but.begin(), but.end(), words.front()) == but.end()) {
        SCOPED_TRACE(words.front());
        expect_refused(run_hostile(words), code, texts);
      }
    }
    EXPECT_FALSE(fs::exists(temp.path() / "out"));
  }
};

const std::string kIndex = "model.safetensors.index.json";
const std::string kFirst = "model-00001-of-00002.safetensors";
const std::string kSecond = "model-00002-of-00002.safetensors";

std::string deep_json(std::size_t levels, bool closed = true) {
  return std::string(levels, '[') + (closed ? std::string(levels, ']') : "");
}

TEST(HostileFile, ShardIsCutInItsData) {
  const HostileCopy copy("llama");
  fs::resize_file(copy.folder / kSecond, fs::file_size(copy.folder / kSecond) - 1);
  copy.expect_all_refuse("BV7004", {kSecond, "ends inside its data, 1 byte is missing"});
}

TEST(HostileFile, ShardIsMissing) {
  const HostileCopy copy("llama");
  fs::remove(copy.folder / kSecond);
  copy.expect_all_refuse("BV7002", {kSecond});
}

TEST(HostileFile, ShardIsEmptyOrAFolder) {
  const HostileCopy copy("llama");
  fs::resize_file(copy.folder / kSecond, 0);
  copy.expect_all_refuse("BV7004", {kSecond});
  fs::remove(copy.folder / kSecond);
  fs::create_directory(copy.folder / kSecond);
  copy.expect_all_refuse("BV8007", {kSecond, "a regular file"});
}

TEST(HostileFile, IndexNamesATensorThatNoFileHas) {
  const HostileCopy copy("llama");
  auto index = nlohmann::json::parse(file_text(copy.folder / kIndex));
  index["weight_map"]["model.ghost.weight"] = kFirst;
  write_text(copy.folder / kIndex, index.dump());
  copy.expect_all_refuse("BV7007", {"model.ghost.weight", kFirst, "no file has it"});
}

TEST(HostileFile, IndexLeadsOutOfTheFolder) {
  for (const char* name : {"../../etc/passwd.safetensors", "/etc/passwd.safetensors",
                           "a/../../b.safetensors", "C:\\x.safetensors", "x\\u0000.safetensors"}) {
    const HostileCopy copy("llama");
    std::string text = file_text(copy.folder / kIndex);
    const std::size_t at = text.find(kFirst);
    text.replace(at, kFirst.size(),
                 name == std::string("C:\\x.safetensors") ? "C:\\\\x.safetensors" : name);
    write_text(copy.folder / kIndex, text);
    const Ended ended = run_hostile({"check", "--model", copy.folder.string()});
    expect_refused(ended, "BV7016");
  }
}

TEST(HostileFile, LinksGoRoundInACircle) {
  const HostileCopy copy("llama");
  fs::remove(copy.folder / kSecond);
  fs::create_symlink(copy.folder / kSecond, copy.folder / "other");
  fs::create_symlink(copy.folder / "other", copy.folder / kSecond);
  copy.expect_all_refuse("BV8007", {kSecond});
  const TempFolder folder;
  fs::create_symlink(folder.path() / "b", folder.path() / "a");
  fs::create_symlink(folder.path() / "a", folder.path() / "b");
  expect_refused(run_hostile({"check", "--model", folder / "a"}), "BV8007");
  expect_refused(run_hostile({"inspect", "--model", folder / "a/x"}), "BV7001");
}

TEST(HostileFile, ConfigIsALinkToItself) {
  const HostileCopy copy("llama");
  fs::remove(copy.folder / "config.json");
  fs::create_symlink("config.json", copy.folder / "config.json");
  const Ended ended = run_hostile({"check", "--model", copy.folder.string()});
  EXPECT_EQ(ended.code, 5) << ended.all();
}

TEST(HostileFile, LinkLeavesTheFolder) {
  const HostileCopy copy("llama");
  fs::rename(copy.folder / kSecond, copy.temp.path() / "elsewhere.safetensors");
  fs::create_symlink(copy.temp.path() / "elsewhere.safetensors", copy.folder / kSecond);
  copy.expect_all_refuse("BV7016", {kSecond, "leaves the model's folder"});
}

/// Modes hold for root as well: the process has given up what root may do beyond them.
TEST(HostileFile, FileCannotBeRead) {
  Limits limits = hostile_limits();
  limits.without_privileges = true;
  const auto refused = [&limits](const HostileCopy& copy, const std::string& file) {
    fs::permissions(copy.folder / file, fs::perms::none);
    for (const auto& words : copy.commands()) {
      SCOPED_TRACE(words.front() + " " + file);
      expect_refused(run_in({{}, {}, 60, limits, {}}, words), "BV8005", {file});
    }
    fs::permissions(copy.folder / file, fs::perms::owner_all);
  };
  refused(HostileCopy("llama"), kSecond);
  refused(HostileCopy("llama"), kIndex);
  const HostileCopy copy("llama");
  fs::permissions(copy.folder, fs::perms::none);
  expect_refused(
      run_in({{}, {}, 60, limits, {}}, {"check", "--model", (copy.folder / "").string()}),
      "BV8005");
  fs::permissions(copy.folder, fs::perms::owner_all);
}

TEST(HostileFile, NameHoldsANewlineOrMarkup) {
  EditedCheckpoint model = EditedCheckpoint::golden("llama");
  for (const char* name : {"evil\nname", "../../x", "</script><b>", "\x1b[31mred", "a\tb"}) {
    model.tensors[name] = model.tensors.at("model.norm.weight");
  }
  const TempFolder folder;
  model.write(folder.path() / "m");
  fs::rename(folder.path() / "m/model.safetensors", folder.path() / "m/model\nx.safetensors");
  for (const std::vector<std::string>& words : {std::vector<std::string>{"check"},
                                                {"inspect"},
                                                {"roundtrip"},
                                                {"check", "--json"},
                                                {"check", "--format", "plain"},
                                                {"inspect", "--plain"}}) {
    std::vector<std::string> line = words;
    line.insert(line.end(), {"--model", folder / "m"});
    const Ended ended = run_hostile(line);
    EXPECT_EQ(ended.code, words.front() == "inspect" ? 0 : 1) << ended.all();
    EXPECT_EQ(ended.all().find('\x1b'), std::string::npos) << ended.all();
    EXPECT_EQ(ended.all().find("evil\nname"), std::string::npos) << ended.all();
    EXPECT_EQ(ended.all().find("model\nx"), std::string::npos) << ended.all();
  }
}

TEST(HostileFile, ConfigHasAHundredMegabytes) {
  const HostileCopy copy("llama");
  std::string text = file_text(copy.folder / "config.json");
  text.insert(text.rfind('}'), ", \"padding\": \"" + std::string(100'000'000, 'x') + "\"");
  write_text(copy.folder / "config.json", text);
  copy.expect_all_refuse("BV7014", {"config.json", "at most 16,777,216 bytes"},
                         {"inspect", "diff"});
  const Ended dump = run_hostile(
      {"inspect", "--model", copy.folder.string(), "--dump-headers", copy.temp / "d.headers.json"});
  EXPECT_EQ(dump.code, 5) << dump.all();
}

TEST(DeepJson, OfTheConfig) {
  for (const bool closed : {true, false}) {
    const HostileCopy copy("llama");
    std::string text = file_text(copy.folder / "config.json");
    text.insert(text.rfind('}'), ", \"deep\": " + deep_json(100'000, closed));
    write_text(copy.folder / "config.json", text);
    copy.expect_all_refuse("BV7014", {"nests 100001 brackets", "at most 64"}, {"inspect", "diff"});
  }
  const HostileCopy copy("llama");
  const Ended set =
      run_hostile({"check", "--model", copy.folder.string(), "--set", "deep=" + deep_json(60'000)});
  EXPECT_EQ(set.code, 2) << set.all();
}

TEST(DeepJson, OfTheIndex) {
  const HostileCopy copy("llama");
  write_text(copy.folder / kIndex,
             "{\"metadata\": " + deep_json(100'000) + ", \"weight_map\": {}}");
  copy.expect_all_refuse("BV7017", {kIndex});
}

TEST(DeepJson, OfAHeader) {
  const HostileCopy copy("llama");
  write_text(copy.folder / kSecond, safetensors("{\"a\": " + deep_json(100'000) + "}", 0));
  copy.expect_all_refuse("BV7005", {kSecond});
}

TEST(DeepJson, OfARulesFile) {
  const TempFolder folder;
  write_text(folder.path() / "x.json",
             R"({"schema": "bridge-rules/1", "rules": )" + deep_json(100'000) + "}");
  const std::string model = golden_hf("llama").string();
  expect_refused(run_hostile({"rules", "lint", folder / "x.json"}), "BV7011",
                 {"nests too many brackets"});
  expect_refused(run_hostile({"check", "--model", model, "--rules", folder / "x.json"}), "BV7011");
}

TEST(DeepJson, OfAHeadersDump) {
  const TempFolder folder;
  const std::string dump = folder / "x.headers.json";
  for (const std::string& text :
       {R"({"schema": "bridge-headers/1", "config": )" + deep_json(100'000) + R"(, "tensors": {}})",
        R"({"schema": "bridge-headers/1", "config": {}, "tensors": )" + deep_json(100'000) + "}",
        deep_json(100'000, false)}) {
    write_text(dump, text);
    for (const char* command : {"check", "layout"}) {
      const Ended ended = run_hostile({command, "--headers", dump});
      EXPECT_EQ(ended.code, 5) << ended.all();
      EXPECT_TRUE(ended.all().find("BV7018") != std::string::npos ||
                  ended.all().find("BV7014") != std::string::npos)
          << ended.all();
    }
  }
}

/// A Megatron folder of ours whose own files are hostile.
TEST(DeepJson, OfAMegatronFolder) {
  const TempFolder folder;
  const std::string m = folder / "m";
  ASSERT_EQ(
      run({"convert", "--to", "megatron", "--model", golden_hf("llama").string(), "--out", m}).code,
      0);
  int runs = 0;
  const auto back = [&] {
    return run_hostile(
        {"convert", "--to", "hf", "--model", m, "--out", folder / ("h" + std::to_string(++runs))});
  };
  const auto with = [&](const std::string& file, const std::string& text) {
    const std::string before = file_text(m + "/" + file);
    write_text(m + "/" + file, text);
    const Ended ended = back();
    EXPECT_EQ(ended.code, file == "hf/" + kIndex ? 1 : 5) << file << " " << ended.all();
    EXPECT_FALSE(fs::exists(folder / ("h" + std::to_string(runs))));
    write_text(m + "/" + file, before);
  };
  with("manifest.json", deep_json(100'000));
  with("manifest.json", R"({"schema": )" + deep_json(100'000) + "}");
  with("hf/config.json", R"({"deep": )" + deep_json(100'000) + "}");
  with("hf/" + kIndex, R"({"metadata": )" + deep_json(100'000) + R"(, "weight_map": {}})");
  EXPECT_EQ(back().code, 0);
}

TEST(HostileFile, ManifestLeadsOutOfTheFolder) {
  const TempFolder folder;
  const std::string m = folder / "m";
  ASSERT_EQ(
      run({"convert", "--to", "megatron", "--model", golden_hf("llama").string(), "--out", m}).code,
      0);
  const std::string before = file_text(m + "/manifest.json");
  for (const char* name : {"../../escaped.json", "/tmp/bv-escaped.json", "..", ""}) {
    auto json = nlohmann::ordered_json::parse(before);
    json["hf"]["carried"][name] = {0, std::string(32, '0')};
    write_text(m + "/manifest.json", json.dump());
    expect_refused(run_hostile({"convert", "--to", "hf", "--model", m, "--out", folder / "h"}),
                   "BV7030", {"the carried file"});
  }
  std::string moved = before;
  for (std::size_t at = moved.find(kFirst); at != std::string::npos; at = moved.find(kFirst, at)) {
    moved.replace(at, kFirst.size(), "../" + kFirst);
    at += kFirst.size() + 3;
  }
  write_text(m + "/manifest.json", moved);
  expect_refused(run_hostile({"convert", "--to", "hf", "--model", m, "--out", folder / "h"}),
                 "BV7030");
  EXPECT_FALSE(fs::exists(folder.path() / kFirst));
  EXPECT_FALSE(fs::exists(folder.path() / "h"));
}

TEST(HostileText, NulBytes) {
  const HostileCopy copy("llama");
  const std::string config = file_text(copy.folder / "config.json");
  write_text(copy.folder / "config.json",
             config.substr(0, 20) + std::string(1, '\0') + config.substr(20));
  expect_refused(run_hostile({"check", "--model", copy.folder.string()}), "BV7014");
  write_text(copy.folder / "config.json", std::string(4096, '\0'));
  expect_refused(run_hostile({"check", "--model", copy.folder.string()}), "BV7014");
  std::string named = config;
  named.replace(named.find("LlamaForCausalLM"), 16, "Llama\\u0000\\u001b[31m");
  named.replace(named.find("\"llama\""), 7, "\"\\u0000\"");
  write_text(copy.folder / "config.json", named);
  expect_refused(run_hostile({"check", "--model", copy.folder.string()}), "BV7010");
  write_text(copy.folder / "config.json", config);
  write_text(copy.folder / kIndex, std::string(100, '\0'));
  expect_refused(run_hostile({"check", "--model", copy.folder.string()}), "BV7017");
  write_text(copy.temp.path() / "l.txt", std::string("tp1\0pp2", 7));
  fs::copy_file(golden_hf("llama") / kIndex, copy.folder / kIndex,
                fs::copy_options::overwrite_existing);
  const Ended layouts =
      run_hostile({"check", "--model", copy.folder.string(), "--layouts", copy.temp / "l.txt"});
  EXPECT_EQ(layouts.code, 2) << layouts.all();
}

TEST(HostileText, LayoutWords) {
  const std::string model = golden_hf("llama").string();
  for (const char* word : {"", "tp", "tp0", "tp-1", "tp1tp1", "tp2xx3", "TP2", "tp 2", "tp02",
                           "tp1pp1ep1etp1vpp1cp1dp1", "tp99999999999999999999", "tp1048577", "2",
                           "tp2pp", "tp2\n", "tp\xff", "🙂"}) {
    for (const char* command : {"check", "convert", "layout", "trace"}) {
      std::vector<std::string> words = {command, "--model", model, "--layout", word};
      if (words.front() == "convert") {
        words.insert(words.end(), {"--to", "megatron", "--out", "/nonexistent/x"});
      } else if (words.front() == "trace") {
        words.emplace_back("lm_head.weight");
      }
      const Ended ended = run_hostile(words);
      EXPECT_EQ(ended.code, 2) << command << " --layout " << word << "\n" << ended.all();
      EXPECT_NE(ended.err.find("error[BV0002]"), std::string::npos) << word << ended.err;
      EXPECT_NE(ended.err.find("= help"), std::string::npos) << word << ended.err;
    }
  }
}

TEST(HostileText, FileOfLayouts) {
  const TempFolder folder;
  const std::string model = golden_hf("llama").string();
  write_text(folder.path() / "none.txt", "# nothing\n\n");
  write_text(folder.path() / "large.txt", std::string(2 << 20, 'x'));
  for (const std::string& file :
       {folder / "none.txt", folder / "large.txt", std::string("/dev/zero"), folder.path().string(),
        std::string("/dev/full"), folder / "absent"}) {
    const Ended ended = run_hostile({"check", "--model", model, "--layouts", file});
    EXPECT_EQ(ended.code, 2) << file << ended.all();
    EXPECT_NE(ended.err.find("error[BV0002]"), std::string::npos) << ended.err;
  }
}

TEST(HostileText, DevicesAndPipesInPlaceOfFiles) {
  const std::string model = golden_hf("llama").string();
  for (const std::vector<std::string>& words :
       {std::vector<std::string>{"check", "--headers", "/dev/zero"},
        {"check", "--model", "/dev/zero"},
        {"check", "--model", model, "--rules", "/dev/zero"},
        {"rules", "lint", "/dev/zero"},
        {"fuzz", "--replay", "/dev/zero"},
        {"inspect", "--model", "/dev/urandom"}}) {
    const Ended ended = run_hostile(words);
    EXPECT_EQ(ended.code, 5) << words.front() << ended.all();
  }
}

}  // namespace
}  // namespace bv::e2e
