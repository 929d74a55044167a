#pragma once
// The files and folders that the lines of option_effects.txt name in braces.

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "core/base/text.hpp"
#include "tests/ci/run_command.hpp"
#include "tests/support/checkpoint_edit.hpp"

namespace bv::cli {
namespace option_effects {

namespace fs = std::filesystem;
using support::write_text;
using testing::run_line;
using testing::TempFolder;
using Texts = std::vector<std::string>;

struct Row {
  std::string option, command, added, line, variable;
};

/// The files that the rows name in braces.
class Places {
 public:
  Places() {
    made("llama", "llama");
    made("other", "llama", {"--seed", "9"});
    made("qwen3", "qwen3");
    made("qwen3_5", "qwen3_5");
    made("moe", "qwen3_moe");
    made("mtp", "glm4_moe/mtp");
    made("square", "qwen3_vl_moe/packed", {"--set", "text_config.moe_intermediate_size=20"});
    converted("shards", "llama", {"--tp", "2"});
    converted("stages", "llama", {"--pp", "2"});
    converted("qwen3 shards", "qwen3");
    converted("qwen3_5 shards", "qwen3_5");
    converted("moe shards", "moe", {"--ep", "2"});
    fs::remove(copied("moe shards of others", "moe shards") / "manifest.json");
    converted("headless shards", "llama", {"--exclude", "lm_head.weight", "--allow-partial"});
    converted("mtp shards", "mtp");
    converted("square shards", "square", {"--expert-orientation", "out_in"});
    own_family();
    headers_and_reports();
    damaged_models();
    small_files();
  }

  [[nodiscard]] std::string filled(std::string text, const Row& row) const {
    const std::size_t colon = row.command.find(':');
    std::map<std::string, std::string> all = at_;
    all["fixtures"] = BV_FIXTURES;
    all["option"] = row.option;
    all["command"] = row.command.substr(0, colon);
    all["verb"] = colon == std::string::npos ? "" : row.command.substr(colon + 1);
    all["out"] = (work() / "out").string();
    all["earlier"] = (work() / "earlier").string();
    all["begun"] = (work() / "begun").string();
    for (const auto& [name, value] : all) {
      const std::string word = "{" + name + "}";
      for (std::size_t at = text.find(word); at != std::string::npos; at = text.find(word)) {
        text.replace(at, word.size(), value);
      }
    }
    return text;
  }

  /// The folder that a line writes to, as it is before each.
  void renew() const {
    fs::remove_all(work());
    fs::create_directories(work());
    fs::copy(at_.at("llama"), work() / "earlier", fs::copy_options::recursive);
    fs::create_directories(work() / "begun.bv-partial");
    write_text(work() / "begun.bv-partial/.bv-run",
               std::string("pp0_tp0_ep0_etp0.safetensors") + '\0');
    write_text(work() / "begun.bv-partial/pp0_tp0_ep0_etp0.safetensors", "half");
  }
  [[nodiscard]] fs::path work() const { return folder_.path() / "work"; }

 private:
  fs::path place(const std::string& name) {
    std::string file = name;
    std::replace(file.begin(), file.end(), ' ', '-');
    at_[name] = (folder_.path() / file).string();
    return at_[name];
  }
  static void ran(Texts line, int code = 0) {
    const auto ended = run_line(line);
    EXPECT_EQ(ended.code, code) << join(line, " ") << "\n" << ended.out << ended.err;
  }
  void made(const std::string& name, const std::string& fixture, const Texts& more = {}) {
    Texts line = {"fixture", "make", fixture, "--out", place(name)};
    line.insert(line.end(), more.begin(), more.end());
    ran(line);
  }
  void converted(const std::string& name, const std::string& model, const Texts& more = {}) {
    Texts line = {"convert", "--to",      "megatron",  "--model", at_[model],
                  "--out",   place(name), "--fail-on", "refuted"};
    line.insert(line.end(), more.begin(), more.end());
    ran(line);
  }
  fs::path copied(const std::string& name, const std::string& of) {
    fs::copy(at_[of], place(name), fs::copy_options::recursive);
    return at_[name];
  }
  static void replace_in(const fs::path& file, const std::string& from, const std::string& to) {
    std::string text = support::file_text(file);
    const std::size_t at = text.find(from);
    ASSERT_NE(at, std::string::npos) << file << " has no " << from;
    write_text(file, text.replace(at, from.size(), to));
  }

  void own_family() {
    const fs::path families = place("families");
    fs::create_directories(families);
    fs::copy(fs::path(BV_ROOT) / "core/families/llama.json", families / "own.json");
    replace_in(families / "own.json", "\"llama\"", "\"own\"");
    replace_in(families / "own.json", "LlamaForCausalLM", "OwnForCausalLM");
    replace_in(families / "own.json", "\"model_types\": [\"llama\"", "\"model_types\": [\"own\"");
    const fs::path model = copied("own", "llama");
    replace_in(model / "config.json", "LlamaForCausalLM", "OwnForCausalLM");
    replace_in(model / "config.json", "\"model_type\": \"llama\"", "\"model_type\": \"own\"");
    converted("own shards", "own", {"--families", at_["families"]});
  }

  void headers_and_reports() {
    at_["headers"] = (folder_.path() / "h.headers.json").string();
    ran({"inspect", "--model", "fixture:llama", "--dump-headers", at_["headers"]});
    const auto report = [this](const std::string& name, Texts line, int code) {
      line.insert(line.end(), {"--out", place(name + " run")});
      ran(line, code);
      at_[name] = at_[name + " run"] + "/verdicts.json";
    };
    report("green", {"check", "--model", "fixture:qwen3", "--tp", "1"}, 0);
    report("red", {"check", "--model", "fixture:qwen3", "--tp", "1", "--rules", swapped()}, 1);
    report("more", {"check", "--model", "fixture:qwen3", "--tp", "2"}, 0);
    report("whole", {"roundtrip", "--model", "fixture:llama", "--layouts", "all"}, 0);
  }

  void damaged_models() {
    const fs::path two = copied("two", "llama");  // two checkpoints in one folder
    fs::copy(two / "model-00001-of-00002.safetensors", two / "model.safetensors");
    fs::create_symlink(fs::path(BV_ROOT) / "README.md", copied("linked", "llama") / "extra.txt");
    at_["base"] = std::string(BV_FIXTURES) + "/golden/peft/llama_all/base";
    fs::create_symlink(fs::path(BV_ROOT) / "README.md",
                       copied("linked base", "base") / "extra.txt");
    const fs::path trained = copied("trained", "shards") / "pp0_tp0_ep0_etp0.safetensors";
    std::string bytes = support::file_text(trained);
    bytes.back() = static_cast<char>(bytes.back() ^ 1);
    write_text(trained, bytes);
    quantised_model();
  }

  /// A projection of a llama in FP8 with one scale, in Megatron's form.
  void quantised_model() {
    auto model = support::EditedCheckpoint::read(at_["llama"]);
    auto& weight = model.tensors.at("model.layers.0.mlp.up_proj.weight");
    weight.dtype = DType::F8E4M3;
    weight.bytes.assign(static_cast<std::size_t>(weight.shape[0] * weight.shape[1]),
                        std::byte{0x31});
    model.tensors["model.layers.0.mlp.up_proj.weight_scale"] = {
        DType::F32, {}, {std::byte{0}, std::byte{0}, std::byte{0}, std::byte{0x3f}}};
    model.config["quantization_config"] = {{"quant_method", "fp8"}};
    model.write(place("quantised"));
    converted("quantised shards", "quantised", {"--dtype", "bfloat16"});
  }

  void small_files() {
    const auto file = [this](const std::string& name, const std::string& text) {
      write_text(place(name), text);
    };
    at_["line"] = std::string(BV_FIXTURES) + "/regress/worlds/line_copies_parted_by_the_cut.json";
    file("wrong line", R"({"line": "a x[(t o)] -> x[o]", "axes": {"t": 2, "o": 3}})");
    file("waivers",
         "[[waiver]]\ncode = \"BV2006\"\nsubject = \"decoder.layers.*.mlp.linear_fc1.weight\"\n"
         "reason = \"known\"\nissue = \"https://example.org/1\"\nexpires = 2026-06-01\n"
         "[[waiver]]\ncode = \"BV3001\"\nsubject = \"model.layers.*\"\n"
         "reason = \"known\"\nissue = \"https://example.org/1\"\nexpires = 2026-06-01\n");
    file("warned", R"({"schema": "bridge-rules/1", "upstream": {"bridge_class": "B"}, "valus": 1,
      "rules": [{"class": "AutoMapping", "megatron": "a.weight", "hf": "b.weight"}]})");
  }
  static std::string swapped() {
    return std::string(BV_FIXTURES) + "/broken/swapped_gate_up.rules.json";
  }

  TempFolder folder_;
  std::map<std::string, std::string> at_;
};

}  // namespace option_effects
}  // namespace bv::cli
