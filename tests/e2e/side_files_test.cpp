// Every file that we read beside tensors, damaged in every way: it is told by name, and never
// treated as absent. A right checkpoint is not refuted because of it.

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <random>

#include "tests/e2e/process.hpp"

namespace bv::e2e {
namespace {

namespace fs = std::filesystem;

std::string random_bytes(std::size_t count) {
  std::mt19937 engine(7);
  std::string out(count, '\0');
  std::generate(out.begin(), out.end(), [&] { return static_cast<char>(engine() & 0xffU); });
  return out;
}

struct Damage {
  const char* name;
  void (*apply)(const fs::path& file, const fs::path& outside);
};

void replace(const fs::path& file, std::string_view text) {
  fs::remove_all(file);
  write_text(file, text);
}

void link(const fs::path& file, const fs::path& to) {
  fs::remove_all(file);
  fs::create_symlink(to, file);
}

const std::vector<Damage>& damages() {
  static const std::vector<Damage> kAll = {
      {"cut in its middle",
       [](const fs::path& file, const fs::path&) {
         const std::string text = file_text(file);
         replace(file, text.substr(0, text.size() / 2));
       }},
      {"cut at its start",
       [](const fs::path& file, const fs::path&) {
         const std::string text = file_text(file);
         replace(file, text.substr(0, std::min<std::size_t>(3, text.size() - 1)));
       }},
      {"empty", [](const fs::path& file, const fs::path&) { replace(file, ""); }},
      {"random", [](const fs::path& file, const fs::path&) { replace(file, random_bytes(40)); }},
      {"of another type", [](const fs::path& file, const fs::path&) { replace(file, "[1, 2]"); }},
      {"deep",
       [](const fs::path& file, const fs::path&) { replace(file, std::string(300'000, '[')); }},
      {"a link out of the folder",
       [](const fs::path& file, const fs::path& outside) { link(file, outside / "else"); }},
      {"a link to nothing",
       [](const fs::path& file, const fs::path& outside) { link(file, outside / "nothing"); }},
      {"a link to itself", [](const fs::path& file, const fs::path&) { link(file, file); }},
      {"a folder",
       [](const fs::path& file, const fs::path&) {
         fs::remove_all(file);
         fs::create_directory(file);
       }},
      {"a pipe", [](const fs::path& file, const fs::path&) {
         fs::remove_all(file);
         ASSERT_EQ(::mkfifo(file.c_str(), 0600), 0);
       }}};
  return kAll;
}

/// What a command reads, and how it ends with the right file.
struct Reader {
  Words words;
  int code = 0;
};

struct SideFile {
  std::string file;
  std::vector<Reader> readers;
  std::vector<std::string> harmless = {};  // what is no damage of this form of file
};

/// A folder with one of everything that is read beside tensors.
class SideFiles : public testing::Test {
 protected:
  std::string at(const std::string& name) const { return folder / name; }
  Words convert_back(const std::string& from, const Words& more = {}) const {
    return Words{"convert", "--to", "hf", "--model", at(from), "--out", at("back")} + more;
  }
  void make(const Words& words) const {
    const Ended ended = run(words);
    ASSERT_LE(ended.code, 1) << ended.all();
  }
  static bool holds(const std::vector<std::string>& all, const char* one) {
    return std::find(all.begin(), all.end(), one) != all.end();
  }

  /// Every damage, every reader: an input error that names the file and what to do.
  void expect_told(const std::vector<SideFile>& files) const {
    fs::create_directories(at("outside"));
    write_text(at("outside/else"), random_bytes(40));
    for (const SideFile& side : files) {
      const fs::path file = at(side.file);
      ASSERT_TRUE(fs::exists(file)) << file;
      const std::string right = file_text(file);
      for (const Reader& reader : side.readers) {
        fs::remove_all(at("back"));
        const Ended before = run(reader.words);
        ASSERT_EQ(before.code, reader.code) << side.file << "\n" << before.all();
      }
      for (const Damage& damage : damages()) {
        if (holds(side.harmless, damage.name)) {
          continue;
        }
        damage.apply(file, at("outside"));
        for (const Reader& reader : side.readers) {
          SCOPED_TRACE(side.file + ", " + damage.name + ": " + reader.words.front());
          expect_one(reader, file.filename().string());
        }
        replace(file, right);
      }
    }
  }
  void expect_one(const Reader& reader, const std::string& name) const {
    fs::remove_all(at("back"));
    const Ended ended = run_hostile(reader.words);
    EXPECT_TRUE(ended.code == 5 || ended.code == 2) << ended.code << "\n" << ended.all();
    EXPECT_NE(ended.flat().find(name), std::string::npos) << ended.all();
    EXPECT_NE(ended.all().find("= help"), std::string::npos) << ended.all();
    EXPECT_EQ(ended.all().find("FAIL"), std::string::npos) << ended.all();
    EXPECT_FALSE(fs::exists(at("back")));
  }

  TempFolder folder;
};

TEST_F(SideFiles, OfATorchDistCheckpointAreNeverTakenAsAbsent) {
  fs::copy(golden_hf("qwen3_5_dense_mtp"), at("m"), fs::copy_options::recursive);
  make({"convert", "--to", "torch_dist", "--model", at("m"), "--drop-mtp", "--out", at("d")});
  const Words check = {"check", "--model", at("m"), "--megatron", at("d")};
  const Words diff = {"diff", at("m"), at("d")};
  const Words back = convert_back("d", {"--like", at("m")});
  const Words inspect = {"inspect", "--model", at("d")};
  write_text(at("d/iter_0000000/integrity.json"), R"({"algorithm": "sha256", "files": {}})");
  expect_told({{"d/iter_0000000/bridge-verify.json", {{check}, {diff}, {back}}},
               {"d/iter_0000000/integrity.json", {{check}, {back}}},
               {"d/latest_checkpointed_iteration.txt", {{check}, {diff}, {back}, {inspect}}},
               {"d/iter_0000000/metadata.json", {{check}, {diff}, {back}, {inspect}}},
               {"d/iter_0000000/.metadata", {{check}, {inspect}}}});
}

TEST_F(SideFiles, OfAMegatronFolderAreNeverTakenAsAbsent) {
  fs::copy(golden_hf("qwen3_5_dense_mtp"), at("m"), fs::copy_options::recursive);
  make({"convert", "--to", "megatron", "--model", at("m"), "--drop-mtp", "--tp", "2", "--out",
        at("s")});
  const Words check = {"check", "--model", at("m"), "--megatron", at("s")};
  const Words diff = {"diff", at("m"), at("s")};
  expect_told({{"s/manifest.json", {{check}, {diff}, {convert_back("s")}}},
               {"s/hf/config.json", {{convert_back("s")}}}});
}

TEST_F(SideFiles, OfAnHfFolderAreNeverTakenAsAbsent) {
  fs::copy(golden_hf("llama"), at("m"), fs::copy_options::recursive);
  const std::vector<Reader> readers = {
      {{"check", "--model", at("m"), "--skip", "placement"}, 3},
      {{"inspect", "--model", at("m")}},
      {{"convert", "--to", "megatron", "--model", at("m"), "--out", at("back")}}};
  // inspect lists tensors, and needs no config for it
  expect_told(
      {{"m/config.json", {readers[0], readers[2]}}, {"m/model.safetensors.index.json", readers}});
}

TEST_F(SideFiles, OfAnAdapterAreNeverTakenAsAbsent) {
  fs::copy(golden("peft/llama_all"), at("p"), fs::copy_options::recursive);
  const Words one = {"--model", at("p/base"), "--adapter"};
  make(Words{"lora", "convert", "--to", "megatron"} + one +
       Words{at("p/adapter"), "--tp", "2", "--out", at("r")});
  make(Words{"lora", "slice"} + one + Words{at("p/adapter"), "--tp", "2", "--out", at("l")});
  expect_told(
      {{"l/slices.json",
        {{Words{"lora", "check"} + one + Words{at("p/adapter"), "--slices", at("l")}}}},
       {"r/adapter.json",
        {{Words{"lora", "check"} + one + Words{at("r")}},
         {Words{"lora", "check"} + one + Words{at("p/adapter"), "--against", at("r")}},
         {Words{"lora", "convert", "--to", "hf"} + one + Words{at("r"), "--out", at("back")}}}},
       {"p/adapter/adapter_config.json",
        {{Words{"lora", "check"} + one + Words{at("p/adapter")}},
         {Words{"lora", "merge"} + one + Words{at("p/adapter"), "--out", at("back")}},
         {Words{"lora", "slice"} + one +
          Words{at("p/adapter"), "--tp", "2", "--out", at("back")}}}}});
}

TEST_F(SideFiles, ThatOptionsNameAreNeverTakenAsAbsent) {
  fs::copy(golden_hf("llama"), at("m"), fs::copy_options::recursive);
  const std::chrono::year_month_day day(
      std::chrono::floor<std::chrono::days>(std::chrono::system_clock::now()) +
      std::chrono::days(30));
  write_text(at("w.toml"),
             fmt::format("[[waiver]]\ncode = \"BV2006\"\nsubject = \"lm_head.weight\"\nissue = "
                         "\"https://example.org/1\"\nreason = \"known\"\nexpires = "
                         "{:04}-{:02}-{:02}\n",
                         static_cast<int>(day.year()), static_cast<unsigned>(day.month()),
                         static_cast<unsigned>(day.day())));
  fs::copy(fixture("rules/qwen3.rules.json"), at("q.rules.json"));
  const Words check = {"check", "--model", at("m"), "--skip", "placement"};
  expect_told({{"w.toml", {{check + Words{"--waivers", at("w.toml")}, 3}}, {"empty"}},
               {"q.rules.json", {{{"rules", "lint", at("q.rules.json")}}}}});
}

}  // namespace
}  // namespace bv::e2e
