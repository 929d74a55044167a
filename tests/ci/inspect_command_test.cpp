#include <fmt/format.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "core/io/checkpoint.hpp"
#include "core/io/headers_dump.hpp"
#include "tests/ci/run_command.hpp"

namespace bv::cli {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using testing::Ended;
using testing::hf_case;
using testing::run_line;
using testing::TempFolder;
using testing::write_text;

using support::safetensors;

TEST(InspectCommand, ListsWhatTheHeadersSay) {
  const auto ended = run_line({"inspect", "--model", hf_case("llama"), "--json"});
  ASSERT_EQ(ended.code, 0) << ended.err;
  const Json json = Json::parse(ended.out);
  const auto checkpoint = io::Checkpoint::open(hf_case("llama"));
  ASSERT_TRUE(checkpoint.has_value());
  ASSERT_EQ(json.at("rows").size(), checkpoint->tensors().size());
  std::size_t at = 0;
  for (const auto& [name, stored] : checkpoint->tensors()) {
    const Json wanted = {{"name", name},
                         {"dtype", bv::name(stored.spec.dtype)},
                         {"shape", stored.spec.shape},
                         {"bytes", stored.end - stored.begin},
                         {"shard", checkpoint->files()[stored.file].filename().string()}};
    EXPECT_EQ(json.at("rows")[at++], wanted);
  }
  EXPECT_EQ(json.at("files"), 2);
}

TEST(InspectCommand, TakesAGlob) {
  const auto ended = run_line({"inspect", "--model", hf_case("llama"), "--plain", "--match",
                               "*.2.*norm*", "--exclude", "*post*"});
  EXPECT_EQ(ended.code, 0);
  EXPECT_TRUE(ended.out.starts_with("model.layers.2.input_layernorm.weight\t")) << ended.out;
  EXPECT_EQ(std::count(ended.out.begin(), ended.out.end(), '\n'), 1);
}

/// Everywhere: a pattern that takes nothing was misspelt.
TEST(InspectCommand, APatternThatMatchesNothingIsAnErrorHereAndElsewhere) {
  const TempFolder folder;
  const std::string out = (folder.path() / "o").string();
  for (const std::string option : {"--match", "--exclude"}) {
    std::vector<std::vector<std::string>> lines = {
        {"inspect", "--model", "fixture:llama"},
        {"inspect", "--model", "fixture:llama", "--json"},
        {"inspect", "--model", (testing::kGolden / "torch_dist/qwen3").string()},
        {"check", "--model", "fixture:llama"},
        {"roundtrip", "--model", "fixture:llama"}};
    if (option == "--exclude") {
      lines.push_back({"convert", "--to", "megatron", "--model", "fixture:llama", "--out", out});
      lines.push_back({"diff", "fixture:llama", "fixture:llama"});
      lines.push_back({"rules", "lint", support::fixture("rules/qwen3.rules.json"), "--model",
                       "fixture:qwen3"});
    }
    for (std::vector<std::string> line : lines) {
      line.insert(line.end(), {option, "nothing.of.this.name"});
      const auto ended = run_line(line);
      EXPECT_EQ(ended.code, 2) << option << " " << line[0] << ended.out << ended.err;
      EXPECT_NE((ended.out + ended.err).find("matches no tensor"), std::string::npos)
          << line[0] << ended.out << ended.err;
    }
  }
}

TEST(InspectCommand, NeedsNoRulesAndNoConfig) {
  const TempFolder folder;
  write_text(folder.path() / "model.safetensors",
             safetensors(R"({"a":{"dtype":"U8","shape":[2,2],"data_offsets":[0,4]}})", 4));
  const auto bare = run_line({"inspect", "--model", folder.path().string(), "--plain"});
  EXPECT_EQ(bare.code, 0) << bare.err;
  EXPECT_EQ(bare.out, "a\tU8\t2x2\t4\tmodel.safetensors\n");
  const auto no_dump = run_line({"inspect", "--model", folder.path().string(), "--dump-headers",
                                 (folder.path() / "x.headers.json").string()});
  EXPECT_EQ(no_dump.code, 5);
  EXPECT_FALSE(fs::exists(folder.path() / "x.headers.json"));
  write_text(folder.path() / "config.json",
             R"({"architectures":["FooForCausalLM"],"model_type":"foo"})");
  EXPECT_EQ(run_line({"inspect", "--model", folder.path().string(), "--plain"}).out, bare.out);
  EXPECT_EQ(
      run_line({"inspect", "--model", (folder.path() / "model.safetensors").string(), "--plain"})
          .out,
      bare.out);
}

TEST(InspectCommand, KeepsOneLineATensorWhateverItsName) {
  const TempFolder folder;
  write_text(
      folder.path() / "model.safetensors",
      safetensors(
          R"({"a\nb\u0000c\tescape\u001b[2J":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
          1));
  const std::string model = folder.path().string();
  EXPECT_EQ(run_line({"inspect", "--model", model, "--plain"}).out,
            "a\\nb\\x00c\\tescape\\x1b[2J\tU8\t1\t1\tmodel.safetensors\n");
  const std::string text = run_line({"inspect", "--model", model}).out;
  EXPECT_EQ(text.find('\0'), std::string::npos);
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
  const Json json = Json::parse(run_line({"inspect", "--model", model, "--json"}).out);
  EXPECT_EQ(json.at("rows")[0].at("name"), std::string("a\nb\0c\tescape\x1b[2J", 16));
}

TEST(InspectCommand, WritesADumpThatSaysTheSame) {
  const TempFolder folder;
  for (const char* file : {"m.headers.json", "m.headers.json.gz"}) {
    const std::string dump = (folder.path() / file).string();
    const auto written =
        run_line({"inspect", "--model", hf_case("qwen3_5_moe"), "--dump-headers", dump, "--plain"});
    ASSERT_EQ(written.code, 0) << written.err;
    EXPECT_EQ(run_line({"inspect", "--headers", dump, "--plain"}).out, written.out);
    EXPECT_TRUE(io::read_headers_dump(dump).has_value());
  }
}

TEST(InspectCommand, ReadsMegatronShards) {
  const TempFolder folder;
  const std::string shards = (folder.path() / "m").string();
  ASSERT_EQ(run_line({"convert", "--to", "megatron", "--model", hf_case("llama"),
                      "--make-vocab-size-divisible-by", "4", "--tp", "2", "--out", shards})
                .code,
            0);
  EXPECT_EQ(run_line({"inspect", "--model", shards + "/pp0_tp0_ep0_etp0.safetensors"}).code, 0);
  const Json json = Json::parse(run_line({"inspect", "--model", shards, "--json"}).out);
  EXPECT_EQ(json.at("form"), "Megatron folder");
  EXPECT_EQ(json.at("files"), 2);
  const auto layout = run_line({"layout", "--model", shards, "--json"});
  EXPECT_EQ(layout.code, 0) << layout.err;
  EXPECT_EQ(Json::parse(layout.out).at("layout").at("tp"), 2);
  EXPECT_EQ(run_line({"layout", "--model", shards, "--tp", "4"}).code, 2);
}

TEST(InspectCommand, ShowsWhatAStrictReaderRefuses) {
  const TempFolder folder;
  write_text(
      folder.path() / "model.safetensors",
      safetensors(
          R"({"b":{"dtype":"U8","shape":[1],"data_offsets":[1,2]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"more":1}})",
          2));
  const std::string model = folder.path().string();
  const auto lenient = run_line({"inspect", "--model", model, "--json"});
  const auto strict = run_line({"inspect", "--model", model, "--strict"});
  ASSERT_EQ(lenient.code, 0) << lenient.err;
  const Json findings = Json::parse(lenient.out).at("findings");
  ASSERT_EQ(findings.size(), 1U);
  EXPECT_EQ(findings[0].at("code"), "BV7005");
  EXPECT_EQ(findings[0].at("what"), "tensor \"a\" has the unknown field \"more\"");
  EXPECT_EQ(strict.code, 5);
  EXPECT_NE(strict.err.find("leave --strict out"), std::string::npos) << strict.err;
}

TEST(InspectCommand, NamesMissingShardsAndListsTheRest) {
  const TempFolder folder;
  fs::copy(hf_case("llama"), folder.path() / "m", fs::copy_options::recursive);
  fs::remove(folder.path() / "m/model-00002-of-00002.safetensors");
  const auto ended = run_line({"inspect", "--model", (folder.path() / "m").string(), "--plain"});
  EXPECT_EQ(ended.code, 5);
  EXPECT_NE(ended.out.find("model-00001-of-00002.safetensors"), std::string::npos);
  EXPECT_NE(ended.err.find("error[BV7002]"), std::string::npos);
  EXPECT_NE(ended.err.find("model-00002-of-00002.safetensors"), std::string::npos);
}

TEST(InspectCommand, RefusesWhatHoldsNoTensors) {
  const TempFolder folder;
  write_text(folder.path() / "config.json", "{}");
  EXPECT_EQ(run_line({"inspect", "--model", folder.path().string()}).code, 5);
  EXPECT_EQ(run_line({"inspect", "--model", (folder.path() / "config.json").string()}).code, 5);
  EXPECT_EQ(run_line({"inspect", "--model", "/nowhere/at/all"}).code, 5);
  EXPECT_EQ(run_line({"inspect"}).code, 2);
  EXPECT_EQ(run_line({"inspect", "--model", hf_case("llama"), "--json", "--plain"}).code, 2);
}

/// A file that no run of bridge-verify wrote is not replaced by what it writes.
TEST(OutputFiles, OfSomebodyElseAreNotReplaced) {
  const TempFolder folder;
  const fs::path model = folder.path() / "m";
  fs::copy(hf_case("llama"), model, fs::copy_options::recursive);
  const auto text = [](const fs::path& file) {
    std::ifstream stream(file);
    return std::string(std::istreambuf_iterator<char>(stream), {});
  };
  const std::string config = text(model / "config.json");
  const Ended over =
      run_line({"inspect", "--model", model.string(), "--dump-headers", model / "config.json"});
  EXPECT_EQ(over.code, 5) << over.out << over.err;
  EXPECT_NE(over.err.find("BV8006"), std::string::npos) << over.err;
  EXPECT_EQ(text(model / "config.json"), config);
  const fs::path dump = folder.path() / "d.json";
  for (int again = 0; again < 2; ++again) {
    EXPECT_EQ(
        run_line({"inspect", "--model", model.string(), "--dump-headers", dump.string()}).code, 0);
  }
  const fs::path report = folder.path() / "r";
  fs::create_directories(report);
  std::ofstream(report / "report.txt") << "mine";
  const std::vector<std::string> check = {"check", "--model", model.string(), "--out",
                                          report.string()};
  const Ended refused = run_line(check);
  EXPECT_EQ(refused.code, 5) << refused.out << refused.err;
  EXPECT_EQ(text(report / "report.txt"), "mine");
  fs::remove(report / "report.txt");
  for (int again = 0; again < 2; ++again) {
    EXPECT_EQ(run_line(check).code, 0);
  }
}

}  // namespace
}  // namespace bv::cli
