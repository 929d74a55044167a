// Inputs of absurd size, or of none, each under a limit of memory and of open files: a clear error,
// never a crash, never a hang.

#include <fmt/format.h>

#include <cstring>

#include "tests/e2e/process.hpp"

namespace bv::e2e {
namespace {

namespace fs = std::filesystem;

TEST(HostileSize, AMillionTensorsInOneHeader) {
  const TempFolder folder;
  std::string header = "{";
  for (int i = 0; i < 1'000'000; ++i) {
    header += fmt::format("{}\"t{}\":{{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}",
                          i == 0 ? "" : ",", i);
  }
  const fs::path model = folder.path() / "m";
  write_text(model / "model.safetensors", safetensors(header + "}", 0));
  fs::copy_file(golden_hf("llama") / "config.json", model / "config.json");
  const Ended ended = run_hostile({"check", "--model", model.string()});
  EXPECT_EQ(ended.code, 1) << ended.all().substr(0, 2000);
  EXPECT_NE(ended.flat().find("error[BV1002]: none of the 1,000,000 HF tensors has a name that "
                              "family llama knows"),
            std::string::npos)
      << ended.out.substr(0, 2000);
  EXPECT_LT(ended.out.size(), 10'000U);
}

TEST(HostileSize, NoTensorAtAll) {
  const TempFolder folder;
  const fs::path model = folder.path() / "m";
  write_text(model / "model.safetensors", safetensors("{}", 0));
  fs::copy_file(golden_hf("llama") / "config.json", model / "config.json");
  for (const char* command : {"check", "roundtrip"}) {
    const Ended ended = run_hostile({command, "--model", model.string()});
    EXPECT_EQ(ended.code, 1) << ended.all();
    EXPECT_NE(ended.out.find("error[BV1002]"), std::string::npos) << ended.out;
  }
}

/// Sizes of a config that would fill memory or overflow.
TEST(HostileSize, ConfigAsksForTheImpossible) {
  struct Case {
    const char* golden;
    const char* setting;
    const char* code;
  };
  for (const auto& [golden, setting, code] :
       std::initializer_list<Case>{{"llama", "num_hidden_layers=9223372036854775807", "BV7014"},
                                   {"llama", "num_hidden_layers=65536", "BV7038"},
                                   {"llama", "num_hidden_layers=0", "BV7014"},
                                   {"llama", "vocab_size=9223372036854775807", "BV7014"},
                                   {"llama", "hidden_size=4611686018427387904", "BV7014"},
                                   {"llama", "num_attention_heads=-8", "BV7014"},
                                   {"llama", "head_dim=1099511627776", "BV7038"},
                                   {"llama", "num_key_value_heads=0", "BV7014"},
                                   {"llama", "intermediate_size=1e300", "BV7014"},
                                   {"llama", "num_hidden_layers=18446744073709551615", "BV7014"},
                                   {"qwen3_moe", "num_local_experts=9223372036854775807", "BV7014"},
                                   {"qwen3_moe", "num_local_experts=1000000", "BV7038"},
                                   {"qwen3_moe", "num_local_experts=-1", "BV7014"}}) {
    const Ended ended = run_hostile(
        {"check", "--model", golden_hf(golden).string(), "--set", setting, "--skip", "placement"});
    EXPECT_EQ(ended.code, 5) << setting << ended.all();
    EXPECT_NE(ended.all().find(std::string("error[") + code + "]"), std::string::npos)
        << setting << ended.all();
  }
}

/// Ten thousand shards and 256 open files: there, moved, and back.
TEST(HostileSize, TenThousandShards) {
  const TempFolder folder;
  const fs::path model = folder.path() / "m";
  EditedCheckpoint made = large_llama(8, 1111);
  nlohmann::ordered_json index = {{"metadata", {{"total_size", 0}}}};
  fs::create_directories(model);
  std::size_t number = 0;
  std::int64_t total = 0;
  const std::size_t count = made.tensors.size();
  ASSERT_GT(count, 10'000U);
  for (const auto& [name, tensor] : made.tensors) {
    const std::string file = fmt::format("model-{:05}-of-{:05}.safetensors", ++number, count);
    std::string shape;
    for (const std::int64_t extent : tensor.shape) {
      shape += (shape.empty() ? "" : ",") + std::to_string(extent);
    }
    const std::string header =
        fmt::format(R"({{"__metadata__":{{"format":"pt"}},"{}":{{"dtype":"BF16","shape":[{}],)"
                    R"("data_offsets":[0,{}]}}}})",
                    name, shape, tensor.bytes.size());
    std::string text = safetensors(header, 0);
    text.append(reinterpret_cast<const char*>(tensor.bytes.data()), tensor.bytes.size());
    write_text(model / file, text);
    index["weight_map"][name] = file;
    total += static_cast<std::int64_t>(tensor.bytes.size());
  }
  index["metadata"]["total_size"] = total;
  write_text(model / "model.safetensors.index.json", index.dump());
  write_text(model / "config.json", made.config.dump());
  const auto limited = [&](std::vector<std::string> words) {
    return run_in({{}, {}, 280, hostile_limits(), {}}, words);
  };
  const Ended check = limited({"roundtrip", "--model", model.string(), "--skip", "placement",
                               "--layout", "tp2", "--allow-partial"});
  EXPECT_EQ(check.code, 3) << check.all();
  EXPECT_NE(check.last_line().find("refuted 0"), std::string::npos) << check.all();
  const Ended there = limited({"convert", "--to", "megatron", "--model", model.string(), "--out",
                               folder / "o", "--tp", "2"});
  EXPECT_EQ(there.code, 0) << there.all();
  EXPECT_EQ(there.word(), "PASS");
}

}  // namespace
}  // namespace bv::e2e
