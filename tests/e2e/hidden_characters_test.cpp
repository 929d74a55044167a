// No output turns a line around or hides a part of it, whatever a checkpoint, a rules file, a
// family or a path is called: what cannot be seen is a visible escape, in JSON a \u of JSON.

#include <fmt/format.h>

#include "core/base/unicode.hpp"
#include "tests/e2e/lumen.hpp"
#include "tests/e2e/process.hpp"

namespace bv::e2e {
namespace {

/// ESC, a line break, C1, a soft hyphen, widths of zero, overrides and isolates of direction, line
/// and paragraph separators, a byte order mark, a tag.
const std::string kHidden =
    "a\x1b[31m\nb\u0085c\u00add\u200be\u202ef\u2066g\u2028h\u2029i\ufeffj\U000e0041k";
const std::vector<std::string> kFormats = {"text",   "plain", "json", "jsonl",    "html",
                                           "junit",  "sarif", "ctrf", "markdown", "github",
                                           "gitlab", "csv",   "card"};

/// The first characters that a reader does not see, as hexadecimal numbers; "" when there is none.
std::string hidden_in(std::string_view text) {
  while (!text.empty()) {
    const unicode::Decoded next = unicode::decode(text);
    const bool breaks = next.point == '\n' || next.point == '\t' || text.starts_with("\r\n");
    if (next.bytes > 0 && unicode::invisible(next.point) && !breaks) {
      return fmt::format("U+{:04X} before {}", next.point, text.substr(next.bytes, 60));
    }
    text.remove_prefix(next.bytes == 0 ? 1 : next.bytes);
  }
  return "";
}

void expect_visible(const std::string& what, const std::string& text) {
  EXPECT_FALSE(text.empty()) << what;
  EXPECT_EQ(hidden_in(text), "") << what;
}

/// What the command of these words says and writes, in every format.
void expect_every_format_visible(const TempFolder& folder, const Words& words) {
  Words line = words;
  for (const std::string& format : kFormats) {
    line.insert(line.end(), {"--report", format + "=" + (folder / ("report." + format))});
  }
  expect_visible(words[0], run(line).all());
  for (const std::string& format : kFormats) {
    const std::string text = file_text(folder / ("report." + format));
    expect_visible(format, text);
    if (format == "html") {  // its script would show what a \u of JSON stands for
      for (const std::string escape : {"\\u202e", "\\u2066", "\\u200b", "\\u0085", "\\ufeff"}) {
        EXPECT_EQ(text.find(escape), std::string::npos) << escape;
      }
    }
    expect_visible("--format " + format, run(words + Words{"--format", format}).all());
    expect_visible("report " + format, run({"report", format, folder / "report.json"}).all());
  }
}

class HiddenCharacters : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"model.layers.0.", "other."}) {
      model_.tensors[name + kHidden] = model_.tensors.at("model.norm.weight");
    }
    folder_text_ = folder_ / kHidden;
    model_.write(folder_text_);
  }

  EditedCheckpoint model_ = EditedCheckpoint::golden("llama");
  TempFolder folder_;
  std::string folder_text_;
};

TEST_F(HiddenCharacters, OfTensorsAndPaths) {
  expect_every_format_visible(folder_, {"check", "--tp", "1", "--model", folder_text_});
  const Words model = {"--model", folder_text_};
  for (const Words& words : std::vector<Words>{{"inspect"},
                                               {"inspect", "--json"},
                                               {"inspect", "--plain"},
                                               {"layout", "--tp", "1"},
                                               {"layout", "--tp", "1", "--json"},
                                               {"trace", "other." + kHidden, "0"},
                                               {"trace", "model.norm.weight", "0", "--json"},
                                               {"roundtrip", "--tp", "1", "--json"},
                                               {"config", "show", "--json"},
                                               {"check", "--progress", "json", "--tp", "1"}}) {
    expect_visible(words[0] + " " + words.back(), run(words + model).all());
  }
  expect_visible("diff", run({"diff", folder_text_, golden_hf("llama").string()}).all());
  expect_visible("diff --json",
                 run({"diff", folder_text_, golden_hf("llama").string(), "--json"}).all());
  expect_visible("no such folder", run({"check", "--model", folder_text_ + "/" + kHidden}).all());
  expect_visible("no such word", run({kHidden}).all());
}

TEST_F(HiddenCharacters, OfWhatIsWritten) {
  const std::string llama = golden_hf("llama").string();
  const auto out = [&](const std::string& name) { return folder_ / (name + kHidden); };
  for (const Words& words : std::vector<Words>{
           {"fixture", "make", "llama", "--out", out("f")},
           {"fixture", "make", "llama", "--json", "--out", out("g")},
           {"inspect", "--model", llama, "--dump-headers", out("h") + ".headers.json"},
           {"convert", "--to", "megatron", "--tp", "1", "--model", llama, "--out", out("c")},
           {"convert", "--to", "megatron", "--tp", "1", "--json", "--model", llama, "--out",
            out("j")},
           {"convert", "--to", "hf", "--model", out("c"), "--out", out("b")},
           {"check", "--tp", "1", "--model", llama, "--out", out("o")},
           {"report", "junit", out("o") + "/verdicts.json", "--out", out("r")},
           {"report", "merge", out("o") + "/verdicts.json", "--out", out("m")},
           {"report", "diff", out("o") + "/verdicts.json", out("o") + "/verdicts.json"},
           {"certify", out("o") + "/verdicts.json", "--out", out("t")},
           {"certify", "verify", out("t")},
           {"trace", "model.norm.weight", "0", "--model", out("f")},
           {"layout", "--tp", "1", "--rank", "0", "--model", out("f")},
           {"lora", "check", out("none"), "--model", llama},
           {"explain", kHidden},
           {"models", "show", kHidden},
           {"check", "--tp", "1", "--model", llama, "--only", kHidden},
           {"check", "--tp", "1", "--model", llama, "--waivers", out("w")},
           {"check", "--tp", "1", "--model", llama, "--set", kHidden + "=1"}}) {
    const Ended ended = run(words);
    EXPECT_EQ(hidden_in(ended.all()), "") << words[0] << " " << words[1];
  }
  for (const std::string& file : files_below(folder_.path())) {
    if (file.ends_with(".json") && file.find("model.safetensors.index") == std::string::npos) {
      EXPECT_EQ(hidden_in(file_text(folder_.path() / file)), "") << file.substr(file.size() - 20);
    }
  }
}

TEST_F(HiddenCharacters, OfRulesFiles) {
  nlohmann::ordered_json rules =
      nlohmann::ordered_json::parse(file_text(fixture("rules/qwen3.rules.json")));
  int count = 0;
  for (auto& rule : rules["rules"]) {
    rule["id"] = fmt::format("r{}{}", count, kHidden);
    rule["source"] = {{"file", kHidden + ".py"}, {"line", ++count}};
    if (count % 3 == 0) {
      rule["megatron"] = rule["megatron"].get<std::string>() + kHidden;
    }
    if (count % 4 == 0) {
      rule["kind"] = kHidden;
    }
  }
  rules["doc"] = kHidden;
  rules["trouble"] = {kHidden};
  rules["upstream"] = {{"repo", kHidden}, {"commit", kHidden}, {"bridge_class", kHidden}};
  rules["hooks"]["maybe_modify_converted_hf_weight"] = kHidden;
  rules["hooks"]["load_weights_hf_to_megatron"] = kHidden;
  rules["hooks"]["base"] = {{{"name", kHidden}, {"file", kHidden}, {"line", 1}, {"what", kHidden}}};
  rules[kHidden] = 1;
  const std::string file = folder_ / (kHidden + ".rules.json");
  write_text(file, rules.dump());
  const Words words = {"--rules", file, "--tp", "1"};
  expect_every_format_visible(folder_,
                              Words{"check", "--model", golden_hf("qwen3").string()} + words);
  expect_visible("lint", run({"rules", "lint", file}).all());
  expect_visible("lint --json", run({"rules", "lint", file, "--json"}).all());
  std::filesystem::create_directory(folder_.path() / "survey");
  write_text(folder_ / "survey/qwen3.rules.json", rules.dump());
  ASSERT_EQ(run({"inspect", "--model", golden_hf("qwen3").string(), "--dump-headers",
                 folder_ / "survey/qwen3.headers.json"})
                .code,
            0);
  expect_visible("survey", run({"survey", folder_ / "survey"}).all());
  expect_visible("survey --json", run({"survey", folder_ / "survey", "--json"}).all());
  expect_visible("survey --out", run({"survey", folder_ / "survey", "--out", folder_ / "o"}).all());
  for (const std::string& written : files_below(folder_.path() / "o")) {
    expect_visible(written, file_text(folder_.path() / "o" / written));
  }
}

}  // namespace
}  // namespace bv::e2e
