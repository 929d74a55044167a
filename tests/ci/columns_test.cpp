// What a person sees on a terminal of 80 columns: no line is broken by the terminal.

#include <gtest/gtest.h>

#include <regex>
#include <sstream>

#include "core/base/text.hpp"
#include "reports/printable.hpp"
#include "tests/ci/run_command.hpp"

namespace bv::cli {
namespace {

constexpr int kWidth = 80;

testing::Ended on_terminal(std::vector<std::string> arguments) {
  return support::in_memory(std::move(arguments), {{"LANG", "C.UTF-8"}, {"NO_COLOR", "1"}},
                            [](Context& context) {
                              context.out_is_terminal = true;
                              context.err_is_terminal = true;
                              context.terminal_width = [] { return kWidth; };
                              return run_command_line(context);
                            });
}

/// Commands to be copied stay on one line, and a path or a name is never broken.
bool is_copied(const std::string& line) {
  static const std::regex kCommand("^( *|   = \\w+ +|next +)bridge-verify [a-z]");
  static const std::regex kLongWord("[^ ]{40,}");
  return std::regex_search(line, kCommand) || std::regex_search(line, kLongWord);
}

void expect_narrow(const std::string& what, const std::string& text) {
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    line.erase(0, line.rfind('\r') + 1);  // a progress line that was drawn over
    EXPECT_TRUE(reports::columns(line) <= kWidth || is_copied(line))
        << what << ": " << reports::columns(line) << " columns\n"
        << line;
  }
}

TEST(Columns, HelpOfEveryCommandFits) {
  for (const Command& command : commands()) {
    const std::string name(command.name.name);
    const testing::Ended help = on_terminal({"help", name});
    EXPECT_GT(help.out.size(), 100U) << name;
    expect_narrow("help " + name, help.out);
  }
  for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{
           {}, {"help"}, {"help", "options"}, {"version"}, {"explain"}, {"explain", "results"}}) {
    const testing::Ended ended = on_terminal(words);
    expect_narrow(words.empty() ? "no arguments" : words.back(), ended.out + ended.err);
  }
}

TEST(Columns, UsualOutputsFit) {
  const testing::TempFolder temp;
  const std::string broken = support::fixture("broken");
  const std::string llama = (testing::kGolden / "peft/llama_all").string();
  for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{
           {"check", "--model", "fixture:llama"},
           {"check", "--model", "fixture:qwen3_5_vl_moe", "--tp", "2"},
           {"check", "--model", "fixture:qwen3_moe", "--tp", "2", "--ep", "2", "--layouts", "x"},
           {"check", "--model", "fixture:llama", "--tp", "3"},
           {"check", "--model", "fixture:llma"},
           {"check", "--modle", "x"},
           {"check", "--model", "fixture:qwen3", "--rules", broken + "/swapped_gate_up.rules.json",
            "--tp", "2"},
           {"check", "--model", "fixture:qwen3", "--rules", broken + "/unknown_kind.rules.json"},
           {"check", "--model", "fixture:qwen3_5_moe", "--rules",
            broken + "/per_expert_on_packed.rules.json", "--tp", "2"},
           {"roundtrip", "--model", "fixture:glm4_moe/mtp", "--tp", "2"},
           {"convert", "--to", "megatron", "--model", "fixture:llama", "--tp", "2", "--out",
            temp / "s"},
           {"convert", "--to", "hf", "--model", temp / "s", "--out", temp / "h"},
           {"diff", "fixture:llama", temp / "s"},
           {"diff", "fixture:llama", "fixture:qwen3"},
           {"rules", "lint", broken + "/unknown_kind.rules.json"},
           {"rules", "lint", broken + "/wildcard_count.rules.json"},
           {"rules", "list"},
           {"fixture", "list"},
           {"explain", "BV2006"},
           {"explain", "placement"},
           {"layout", "--tp", "2", "--pp", "2"},
           {"survey", broken},
           {"doctor"},
           {"lora", "check", "--model", llama + "/base", "--adapter", llama + "/adapter"},
           {"lora", "merge", "--model", llama + "/base", "--adapter", llama + "/adapter", "--out",
            temp / "m"},
       }) {
    const testing::Ended ended = on_terminal(words);
    EXPECT_FALSE(ended.out.empty() && ended.err.empty());
    expect_narrow(join(words, " "), ended.out + ended.err);
  }
}

/// Names of towers and of experts are longer than a column of 80 leaves room for.
TEST(Columns, LongNamesFitInEveryCommand) {
  const testing::TempFolder temp;
  const std::string model = (testing::kGolden / "hf/qwen3_5_vl_moe_mtp_per_expert").string();
  const std::string peft = (testing::kGolden / "peft/qwen35_moe").string();
  const std::string name = "model.language_model.layers.0.linear_attn.in_proj_qkv.weight";
  for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{
           {"check", "--model", model, "--tp", "2", "-vv", "--out", temp / "v"},
           {"roundtrip", "--model", "fixture:nemotron_h_omni", "--tp", "2", "-v"},
           {"convert", "--to", "megatron", "--model", model, "--tp", "2", "--out", temp / "s"},
           {"convert", "--to", "torch_dist", "--model", model, "--out", temp / "d"},
           {"convert", "--to", "hf", "--model", temp / "s", "--out", temp / "h"},
           {"check", "--model", model, "--megatron", temp / "d"},
           {"check", "--model", (testing::kGolden / "hf/qwen3_5_vl_moe").string(), "--megatron",
            temp / "s"},
           {"diff", model, (testing::kGolden / "hf/qwen3_5_vl_moe").string()},
           {"inspect", "--model", model},
           {"inspect", "--model", temp / "s"},
           {"inspect", "--model", temp / "d"},
           {"layout", "--model", model, "--tp", "2", "--pp", "2", "--ep", "2"},
           {"layout", "--model", model, "--tp", "2", "--rank", "0"},
           {"layout", "--model", model, "--tp", "2", "--tensor", name},
           {"trace", name, "1,0", "--model", model, "--tp", "2"},
           {"trace", name, "1", "--model", model},
           {"rules", "show", "qwen3_5_vl_moe"},
           {"rules", "show", "nemotron_h_omni"},
           {"rules", "lint", support::fixture("broken/per_expert_on_packed.rules.json"), "--model",
            "fixture:qwen3_5_moe"},
           {"models", "list"},
           {"models", "show", "nemotron_h_omni"},
           {"models", "show", "kimi_k25"},
           {"survey", support::fixture("registries")},
           {"mutate", "qwen3_5_vl_moe_mtp_per_expert", "--layout", "tp2pp1ep1etp2", "--operators",
            "SWAP"},
           {"config", "show"},
           {"lora", "check", "--model", peft + "/base", "--adapter", peft + "/adapter", "-v"},
           {"lora", "convert", "--to", "megatron", "--model", peft + "/base", "--adapter",
            peft + "/adapter", "--tp", "2", "--out", temp / "a"},
           {"lora", "slice", "--model", peft + "/base", "--adapter", peft + "/adapter", "--tp", "2",
            "--out", temp / "c"},
           {"report", "text", temp / "v/verdicts.json"},
           {"report", "diff", temp / "v/verdicts.json", temp / "v/verdicts.json"}}) {
    const testing::Ended ended = on_terminal(words);
    EXPECT_GT((ended.out + ended.err).size(), 40U) << join(words, " ");
    expect_narrow(join(words, " "), ended.out + ended.err);
  }
}

/// Every outcome at once: the closing line of a person has no room for all of them.
TEST(Columns, AClosingLineWithManyCountsFits) {
  const testing::Ended ended = on_terminal({"check", "--model", "fixture:qwen3", "--rules",
                                            support::fixture("broken/unknown_kind.rules.json"),
                                            "--level", "full", "--tp", "2"});
  const std::size_t at = ended.out.rfind("bridge-verify: ");
  ASSERT_NE(at, std::string::npos) << ended.out;
  EXPECT_LE(ended.out.size() - at - 1, static_cast<std::size_t>(kWidth)) << ended.out.substr(at);
}

}  // namespace
}  // namespace bv::cli
