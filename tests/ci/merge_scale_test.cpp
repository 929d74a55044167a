// Wrong scales of a merged checkpoint: each is named, measured on the tensors.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "tests/ci/run_command.hpp"
#include "tests/support/process.hpp"

namespace bv::cli {
namespace {

namespace fs = std::filesystem;
using testing::Ended;
using ::testing::HasSubstr;
using testing::kGolden;
using ::testing::Not;
using testing::run_line;
using testing::TempFolder;

/// A sample whose merge took other numbers than the config says.
class MergeScale : public ::testing::Test {
 protected:
  /// Merges with a changed config, and judges with the right one.
  Ended judged(const std::string& sample, const nlohmann::json& changes) {
    const fs::path of = kGolden / "peft" / sample;
    const fs::path changed = temp_.path() / "changed";
    const fs::path out = temp_.path() / "merged";
    fs::remove_all(changed);
    fs::remove_all(out);
    fs::copy(of / "adapter", changed, fs::copy_options::recursive);
    nlohmann::json config = support::read_json(changed / "adapter_config.json");
    config.update(changes);
    testing::write_text(changed / "adapter_config.json", config.dump());
    const Ended merged = run_line({"lora", "merge", "--model", (of / "base").string(), "--adapter",
                                   changed.string(), "--out", out.string()});
    EXPECT_EQ(merged.code, 0) << merged.err << merged.out;
    Ended ended = run_line({"lora", "check", "--model", (of / "base").string(), "--adapter",
                            (of / "adapter").string(), "--merged", out.string()});
    ended.out = support::unwrapped(ended.out);
    return ended;
  }
  TempFolder temp_;
};

/// alpha 12, r 6: the scale is 2.
TEST_F(MergeScale, EachUsualMistakeIsNamed) {
  const std::vector<std::tuple<nlohmann::json, std::string, std::string>> mistakes = {
      {{{"use_rslora", true}}, "the scale is that of rsLoRA, alpha / sqrt(r)", "2.45"},
      {{{"lora_alpha", 6}}, "the scale was left out: every element is base + B * A", "0.5"},
      {{{"lora_alpha", 3}}, "the scale was inverted", "0.25"},
      {{{"lora_alpha", 1}}, "alpha was left out", "0.083"},
      {{{"lora_alpha", 72}}, "alpha was not divided", "6"},
      {{{"lora_alpha", 24}}, "the adapter was merged twice", "2"},
  };
  for (const auto& [changes, why, times] : mistakes) {
    const Ended ended = judged("llama_all", changes);
    EXPECT_EQ(ended.code, 1) << why;
    EXPECT_THAT(ended.out, HasSubstr("BV4001"));
    EXPECT_THAT(ended.out, HasSubstr(why));
    // The rounding of the base to BF16 leaves noise in the last digit.
    EXPECT_THAT(ended.out, HasSubstr("the stored delta is " + times));
    EXPECT_THAT(ended.out,
                HasSubstr("times that of the adapter, whose scale is alpha / r = 12 / 6 = 2"));
  }
}

TEST_F(MergeScale, RsLoraThatWasNotFollowedIsNamed) {
  const Ended ended = judged("rslora", {{"use_rslora", false}});
  EXPECT_EQ(ended.code, 1);
  EXPECT_THAT(ended.out, HasSubstr("the scale is alpha / r, and that of rsLoRA is"));
  EXPECT_THAT(ended.out, HasSubstr("whose scale is alpha / sqrt(r) = 12 / sqrt(6) = 4.899"));
}

/// No usual mistake: the number is measured, in packed experts too.
TEST_F(MergeScale, AnyOtherScaleIsMeasured) {
  for (const char* sample : {"llama_all", "qwen35_moe"}) {
    const nlohmann::json config =
        support::read_json(kGolden / "peft" / sample / "adapter/adapter_config.json");
    const double alpha = config.at("lora_alpha");
    const double r = config.at("r");
    const Ended ended = judged(sample, {{"lora_alpha", alpha * 1.75}});
    EXPECT_EQ(ended.code, 1);
    EXPECT_THAT(ended.out, HasSubstr("the stored delta is 1.75 times that of the adapter"));
    EXPECT_THAT(ended.out, HasSubstr(fmt::format("a scale of {:.2g}", 1.75 * alpha / r)));
  }
}

/// A single wrong element is no wrong scale.
TEST_F(MergeScale, AnotherFaultIsNotCalledAScale) {
  const fs::path of = kGolden / "peft/llama_all";
  const fs::path out = temp_.path() / "merged";
  ASSERT_EQ(run_line({"lora", "merge", "--model", (of / "base").string(), "--adapter",
                      (of / "adapter").string(), "--out", out.string()})
                .code,
            0);
  std::string bytes = support::file_text(out / "model.safetensors");
  std::uint64_t header = 0;
  std::memcpy(&header, bytes.data(), sizeof header);
  const auto tensors = nlohmann::json::parse(bytes.substr(8, header));
  const std::uint64_t at = 8 + header +
                           tensors.at("model.layers.0.self_attn.q_proj.weight")
                               .at("data_offsets")[0]
                               .get<std::uint64_t>();
  bytes[at + 1] = static_cast<char>(bytes[at + 1] ^ 0x7F);
  testing::write_text(out / "model.safetensors", bytes);
  const Ended ended = run_line({"lora", "check", "--model", (of / "base").string(), "--adapter",
                                (of / "adapter").string(), "--merged", out.string()});
  EXPECT_EQ(ended.code, 1) << ended.out;
  EXPECT_THAT(ended.out, HasSubstr("1 of "));
  EXPECT_THAT(ended.out, Not(HasSubstr("stored delta")));
}

}  // namespace
}  // namespace bv::cli
